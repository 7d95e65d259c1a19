"""Which candidates a gang takes first, where a policy asks: scores of nodes, and sorting by them.

All scores are whole numbers, lower first. A node's weight always counts before them; equals keep
the order in which they come.
"""

from __future__ import annotations

from sched_core.columns import Cube
from sched_core.fit import fill_amount, suits
from sched_core.jit import kernel
from sched_core.sorting import sort_rows
from sched_core.views import (
    AMOUNT,
    CAND_NODE,
    CAND_TASKS,
    CAPACITY,
    FREE,
    HIGH,
    KIND,
    NREQUIRED,
    PARENT,
    PER_FIRST,
    PER_NODE,
    PER_TASK,
    POPULAR,
    POPULAR_WEIGHT,
    POPULARS,
    SCORE,
    SPARE_ORDER,
    TASKS_THERE,
    WEIGHT,
    Cluster,
    Requests,
    Scratch,
)

WHOLE_SHARE = (1 << 16) - 1
"""The fine part of a share of 1."""
PACK = 1
SPREAD = 2
BEST_FIT = 3
FGD = 4
"""As `codes.Placement`."""


@kernel
def fine_score(
    amounts: Cube, layer: int, needs: Cube, shape: int, node: int, placement: int
) -> int:
    """Fine part of a node's score for one task of a shape; -1: it does not fit. O(R).

    Invariant: -1 <= result <= WHOLE_SHARE, where no more is free than there is.
    """
    total, tightest, asked = 0, WHOLE_SHARE, 0
    for r in range(amounts.shape[2]):
        need = needs[PER_NODE, shape, r] + needs[PER_TASK, shape, r]
        if need > 0:
            free = amounts[layer, node, r]
            have = amounts[CAPACITY, node, r]
            if free < need or have <= 0:
                return -1
            asked += 1
            total += free * WHOLE_SHARE // have
            tightest = min(tightest, (free - need) * WHOLE_SHARE // have)
    if placement == 0 or asked == 0:
        return 0
    if placement == BEST_FIT:
        return int(tightest)
    return int(total // asked if placement == PACK else WHOLE_SHARE - total // asked)


@kernel
def unusable(cluster: Cluster, req: Requests, scratch: Scratch, node: int, taken: int) -> int:
    """Free devices of a node that popular shapes cannot use, summed over them, each by its jobs.

    With `taken` 1 what AMOUNT says is taken before. A shape uses all or none: none where a task of
    it does not fit (Weng et al., ATC'23, for whole devices). O(popular shapes x R).
    """
    amounts = cluster.amounts
    dims = cluster.dims
    shapes = req.shapes
    idle, lost = 0, 0
    for r in range(2, amounts.shape[2]):
        if dims[PARENT, r] < 0:
            idle += max(amounts[FREE, node, r] - taken * dims[AMOUNT, r], 0)
    if idle == 0:
        return 0
    for i in range(scratch.counters[POPULARS]):
        shape = shapes[POPULAR, i]
        fits = suits(req.suits, shape, cluster.nodes[KIND, node])
        for r in range(amounts.shape[2]):
            left = amounts[FREE, node, r] - taken * dims[AMOUNT, r]
            if left < req.needs[PER_FIRST, shape, r] > 0:
                fits = False
        if not fits:
            lost += idle * shapes[POPULAR_WEIGHT, i]
    return lost


@kernel
def score(
    cluster: Cluster, req: Requests, scratch: Scratch, shape: int, node: int, choice: int
) -> int:
    """Score of a node that hosts a task of a shape now. O(R), FGD O(popular shapes x R).

    FGD: by how many popular jobs times devices fragmentation grows, then the tightest.
    """
    if choice != FGD:
        return fine_score(cluster.amounts, FREE, req.needs, shape, node, choice)
    fill_amount(cluster, req, shape, node, 1, FREE)
    grown = unusable(cluster, req, scratch, node, 1) - unusable(cluster, req, scratch, node, 0)
    fine = fine_score(cluster.amounts, FREE, req.needs, shape, node, BEST_FIT)
    return grown * (WHOLE_SHARE + 1) + fine


@kernel
def arrange(
    cluster: Cluster, req: Requests, scratch: Scratch, shape: int, found: int, choice: int
) -> None:
    """Put the candidates that are not required in the order of a policy, by weight, then score.

    Of a gang of one node only the first place counts. Stable. O(found x (score + log found)).
    """
    nodes = cluster.nodes
    keep = req.shapes[NREQUIRED, shape]
    best, best_score = keep, 0
    for i in range(keep, found):
        node = nodes[CAND_NODE, i]
        here = score(cluster, req, scratch, shape, node, choice)
        nodes[SCORE, node] = here
        nodes[TASKS_THERE, node] = nodes[CAND_TASKS, i]
        lighter = nodes[WEIGHT, node] - nodes[WEIGHT, nodes[CAND_NODE, best]]
        if i == keep or lighter < 0 or (lighter == 0 and here < best_score):
            best, best_score = i, here
    if keep == found:
        return
    if req.shapes[HIGH, shape] == 1:
        node = nodes[CAND_NODE, best]
        nodes[CAND_NODE, best] = nodes[CAND_NODE, keep]
        nodes[CAND_NODE, keep] = node
    else:
        order = nodes[CAND_NODE][keep:]
        spare = nodes[SPARE_ORDER]
        sort_rows(nodes[SCORE], order, spare, found - keep)
        sort_rows(nodes[WEIGHT], order, spare, found - keep)
    for i in range(keep, found):
        nodes[CAND_TASKS, i] = nodes[TASKS_THERE, nodes[CAND_NODE, i]]
