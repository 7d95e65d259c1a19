"""Which placement a pass follows in each partition, told to its kernels before it begins."""

from __future__ import annotations

import numpy as np

from sched_core import views
from sched_core.codes import Placement
from sched_core.columns import Ints
from sched_core.names import CPU
from sched_core.nodes import NodeTable
from sched_core.views import Cluster, Requests, Scratch

POPULAR_MAX = 16
"""Shapes by which fragmentation is measured: those with devices of which most records wait."""


def set_placement(
    nodes: NodeTable,
    requests: Requests,
    scratch: Scratch,
    waiting: Ints,
    everywhere: Placement,
    partitions: tuple[tuple[str, Placement], ...],
) -> None:
    """Let starts take nodes as `everywhere` says, in some `partitions` as theirs.

    `waiting[s]` counts the records of each shape. Shapes that have a choice are no longer SIMPLE:
    all their candidates are looked at for every start. O(shapes x R + partitions).
    """
    choice = scratch.options[views.CHOICE]
    choice[:] = everywhere
    for name, own in partitions:
        if (part := nodes.partition_names.find(name)) >= 0:
            choice[part] = own
    s = requests.needs.shape[1]
    first = requests.parts[:s, 0]
    simple = requests.shapes[views.SIMPLE, :s]
    simple[(first >= 0) & (choice[first] > 0)] = 0
    asks = requests.needs[views.PER_FIRST, :, 2:].any(axis=1) & (waiting[:s] > 0)
    popular = np.flatnonzero(asks)
    popular = popular[np.argsort(-waiting[popular], kind="stable")][:POPULAR_MAX]
    requests.shapes[views.POPULAR, : len(popular)] = popular
    requests.shapes[views.POPULAR_WEIGHT, : len(popular)] = waiting[popular]
    scratch.counters[views.POPULARS] = len(popular)


def emptiest_first(cluster: Cluster, present: int) -> None:
    """Order the `present` nodes by weight, then the most of their CPUs free. O(n log n)."""
    order = cluster.nodes[views.ORDER, :present]
    capacity = np.maximum(cluster.amounts[views.CAPACITY, order, CPU], 1)
    share = cluster.amounts[views.FREE, order, CPU] * 4096 // capacity
    order[:] = order[np.lexsort((order, -share, cluster.nodes[views.WEIGHT, order]))]
