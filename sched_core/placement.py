"""Orders of preference: which nodes a shape fills first.

A score is an integer per node, lower first: the node's weight, then a *fine* part of 16 bits that
says how full the node is or would be in what the shape asks for. Shares are of the node's capacity,
so nodes of unlike size compare. Equal scores keep the order they come in.
"""

from __future__ import annotations

import numpy as np

from sched_core import jit
from sched_core.codes import Placement
from sched_core.columns import Cube, Ints, Vector
from sched_core.jit import entry
from sched_core.nodes import NodeTable
from sched_core.preference import WHOLE_SHARE, fine_score
from sched_core.sorting import sort_rows

UNABLE = 1 << 62
"""Score of a node that cannot host the shape now."""
WEIGHT_LIMIT = 1 << 40
"""Node weights are within plus and minus this; no score of an able node reaches UNABLE."""
PER_NODE = 0


@entry
def fill_order(
    amounts: Cube,
    layer: int,
    needs: Cube,
    shape: int,
    weight: Vector,
    base: Vector,
    placement: int,
    scores: Vector,
    order: Vector,
    spare: Vector,
) -> int:
    """Write the rows of `base` that can host one task of a shape by rising score; gives how many.

    `amounts[layers, n, R]`: CAPACITY and the layer that says what is free; `needs[2, s, R]` and
    `shape` as in a pass; `weight[n]` all zero where weights shall not count; `placement` a
    Placement. `scores[n]` is written for the rows of `base`; `order` and `spare` are as long as it.
    Stable. O(nodes x R + n log n).
    """
    able = 0
    for i in range(len(base)):
        node = base[i]
        fine = fine_score(amounts, layer, needs, shape, node, placement)
        scores[node] = UNABLE
        if fine >= 0:
            scores[node] = weight[node] * (WHOLE_SHARE + 1) + fine
            order[able] = node
            able += 1
    sort_rows(scores, order, spare, able)
    return able


def order_nodes(
    nodes: NodeTable, need: Ints, placement: Placement, *, by_weight: bool = True
) -> Ints:
    """Rows of the usable nodes that could host `need` now, in order of preference.

    `need[R]` is what one task with its share per node takes: CPU in thousandths, memory in MiB,
    devices. Equals go by row. FGD hangs on what waits and is for passes. One kernel call, changes
    nothing.
    """
    assert placement != Placement.FGD
    jit.compile_kernels()
    nodes.fit_columns()
    n, dims = nodes.rows, len(need)
    amounts = np.stack([nodes.capacity[:n, :dims], nodes.free[:n, :dims]])
    needs = np.zeros((2, 1, dims), np.int64)
    needs[PER_NODE, 0] = need
    weight = nodes.weight[:n].copy() if by_weight else np.zeros(n, np.int64)
    base = np.flatnonzero(nodes.use[:n] == 1).astype(np.int64, copy=False)
    scores, order, spare = np.zeros((3, n), np.int64)
    able = fill_order(amounts, 1, needs, 0, weight, base, int(placement), scores, order, spare)
    return order[:able]
