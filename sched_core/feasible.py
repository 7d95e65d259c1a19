"""Whether an empty cluster could host a request: what is asked before it is queued."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from sched_core.columns import BITS, Ints
from sched_core.tables import CPU, MEMORY, Bundle, NodeTable, NodeUse, Request


def feasible(nodes: NodeTable, request: Request | Bundle) -> tuple[int, int]:
    """Whether configured nodes could ever host a request, whatever their state and load.

    Gives the number of nodes that could host a part of it (0: no gang is possible, also where
    single nodes would do but are too few) and the dimension that is short on most nodes of its
    partitions and features (-1: none is). Of a heterogeneous job the component with the fewest
    counts, each by itself. Plain numpy, no kernel: for the check at submission.
    O(places x nodes x R).
    """
    if isinstance(request, Bundle):
        return min(feasible(nodes, component) for component in request.components)
    best, short = 0, -1
    for name, all_of in product(request.partitions, request.alternatives or ((),)):
        part = nodes.partition_names.find(name)
        if part < 0:
            continue
        rows = _matching(nodes, request, part, all_of)
        tasks, lacking = _empty_fit(nodes, request, rows)
        if short < 0 and lacking.any():
            short = int(np.argmax(lacking))
        required = np.isin(rows, [nodes.names.find(r) for r in request.required])
        if _gang_possible(request, tasks, required):
            best = max(best, int(np.count_nonzero(tasks)))
    return best, short if best == 0 else -1


def _matching(nodes: NodeTable, request: Request, part: int, alternative: tuple[str, ...]) -> Ints:
    """Rows of the nodes of a place that have the features and are not excluded."""
    n = nodes.rows
    ok = nodes.use[:n] != NodeUse.ABSENT
    ok &= (nodes.partitions[:n, part // BITS] >> (part % BITS)) & 1 == 1
    ok &= _having(nodes, alternative)
    if request.features:
        ok &= np.logical_or.reduce([_having(nodes, clause) for clause in request.features])
    excluded = [nodes.names.find(name) for name in request.excluded]
    ok[[row for row in excluded if row >= 0]] = False
    return np.flatnonzero(ok).astype(np.int64, copy=False)


def _having(nodes: NodeTable, names: tuple[str, ...]) -> NDArray[np.bool_]:
    """[n] whether a node has all of some features."""
    n = nodes.rows
    having = np.ones(n, bool)
    for name in names:
        bit = nodes.feature_names.find(name)
        if bit < 0:
            having[:] = False
        else:
            having &= (nodes.features[:n, bit // BITS] >> (bit % BITS)) & 1 == 1
    return having


def _empty_fit(nodes: NodeTable, request: Request, rows: Ints) -> tuple[Ints, Ints]:
    """Tasks that fit on each of the empty nodes, and on how many each dimension is too small."""
    counted = request.ntasks > 0
    cap = (request.ntasks_per_node or request.ntasks) if counted else 1
    tasks = np.full(len(rows), cap, np.int64)
    lacking = np.zeros(len(nodes.dims), np.int64)
    for r, fixed, per in _needs(nodes, request):
        if not counted:
            fixed, per = fixed + per * request.tasks_each, 0  # noqa: PLW2901
        have = nodes.capacity[rows, r] if r >= 0 else np.zeros(len(rows), np.int64)
        left = have - fixed
        fits = np.maximum(left // per if per else np.where(left >= 0, cap, 0), 0)
        tasks = np.minimum(tasks, fits)
        if r >= 0:
            lacking[r] = np.count_nonzero(fits == 0)
    return tasks, lacking


def _needs(nodes: NodeTable, request: Request) -> list[tuple[int, int, int]]:
    """Dimension (-1: no table knows it), amount per node and per task of what is asked for."""
    needs = {
        CPU: [request.cpu_per_node, request.cpu_per_task],
        MEMORY: [request.memory_per_node, request.memory_per_task],
    }
    for column, gres in enumerate((request.gres_per_node, request.gres_per_task)):
        for name, kind, count in gres:
            total, typed = nodes.dims.find_gres(name, kind)
            for r in (total, typed) if kind else (total,):
                needs.setdefault(r, [0, 0])[column] += count
    return [(r, fixed, per) for r, (fixed, per) in needs.items() if fixed or per]


def _gang_possible(request: Request, tasks: Ints, required: NDArray[np.bool_]) -> bool:
    """Whether a gang fits on nodes that host `tasks` each, the required ones among them."""
    low, high = request.nodes_low, request.nodes_high
    wanted = len(set(request.required))
    if low > high or wanted > high or np.count_nonzero(tasks[required]) < wanted:
        return False
    if np.count_nonzero(tasks) < low:
        return False
    others = np.sort(tasks[~required])[::-1][: high - wanted]
    return int(tasks[required].sum() + others.sum()) >= request.ntasks
