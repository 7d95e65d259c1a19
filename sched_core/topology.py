"""Gangs by topology: as few leaf switches as can be, below the lowest switch, the least left over.

Candidates come in order of preference; the gang is `low` to `high` nodes, or as many of them as
`ntasks` need. In this order: the fewest leaf switches; the lowest common switch that reaches so
few; below it the leaves with the most candidates, all of which are taken, and last the leaf that
has the least left over beside the rest. Equals go by preference. The switches a user asks for
(`--switches=n@wait`) are a bound that holds while he is ready to wait.

Where a bound on nodes binds tasks (`-N 2 -n 6`), the gang is so chosen from nodes that hold an
equal part; unless the widest nodes below the lowest switch that has enough span fewer leaves. Only
there may a gang on fewer leaf switches, or below a lower one, be missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sched_core import jit
from sched_core.columns import Ints
from sched_core.gangs import (
    C_LEAF,
    C_NODE,
    C_TASKS,
    G_NODE,
    G_TASKS,
    LAST,
    NEED,
    NODE_ROWS,
    REST,
    WORK_ROWS,
    Site,
    below,
    count_leaves,
    emit,
    emit_run,
    emit_widest,
    lowest,
    run_start,
    spread_tasks,
    tally,
    widest_below,
)
from sched_core.jit import entry, kernel
from sched_core.switches import TopologyTable

TOO_FEW = 0
"""The candidates do not suffice, wherever they are."""
SWITCHES = -1
"""They would, on more leaf switches than asked for; not now, as the wait is not over."""


@kernel
def place_equal(
    site: Site, count: int, size: int, ntasks: int, each: int, most: int, adjacent: int
) -> int:
    """A gang on the fewest leaf switches; gives its size, TOO_FEW or SWITCHES.

    `size` > 0: exactly so many nodes, of those that host at least `each` tasks; 0: nodes for
    `ntasks`. Writes G_NODE and G_TASKS, what each node could host. O(leaves x depth + n log n).
    """
    work = site.work
    want = size if size > 0 else ntasks
    by_task = 0 if size > 0 else ntasks
    leaves = tally(site, count, each, by_task)
    fewest = count_leaves(site, leaves, want)
    if fewest == 0:
        return TOO_FEW
    if 0 < most < fewest:
        return SWITCHES
    switch = lowest(site, leaves, want, fewest)
    last, rest, found, taken, i = work[LAST, switch], work[REST, switch], 0, 1, 0
    while taken < fewest:
        if below(site.tree, site.order[i], switch):
            found = emit(site, site.order[i], found, want, by_task)
            taken += 1
        i += 1
    start = run_start(site, last, rest) if adjacent and size > 0 else -1
    if start >= 0:
        return emit_run(site, start, rest, found)
    return emit(site, last, found, rest, by_task)


@kernel
def place_widest(site: Site, count: int, size: int, ntasks: int) -> int:
    """The `size` widest nodes below the lowest switch where they hold `ntasks`; gives their leaves.

    0: there is none. O(n x (depth + log n)).
    """
    tally(site, count, 1, 0)
    switch = widest_below(site, count, size, ntasks)
    return emit_widest(site, count, size, switch) if switch >= 0 else 0


@kernel
def place_bound(site: Site, count: int, size: int, ntasks: int, most: int, adjacent: int) -> int:
    """A gang of exactly `size` nodes for `ntasks`: the widest if they span fewer leaves, else equal.

    May be refused with SWITCHES though a gang of unequal nodes on fewer leaves exists: rather later
    than wrong. O(n x (depth + log n)).
    """
    leaves = place_widest(site, count, size, ntasks)
    if leaves == 0:
        return TOO_FEW
    each = (ntasks + size - 1) // size
    found = place_equal(site, count, size, 0, each, most, adjacent)
    if found > 0 and site.work[NEED, site.work.shape[1] - 1] <= leaves:
        return found
    if 0 < most < leaves:
        return SWITCHES
    place_widest(site, count, size, ntasks)
    return size


@entry
def place_by_topology(
    site: Site, count: int, low: int, high: int, ntasks: int, most: int, adjacent: int
) -> int:
    """Choose a gang from `count` candidates; gives its size, TOO_FEW or SWITCHES. All or nothing.

    `low` <= nodes <= `high`; without `ntasks` as many as can be had, with it as few as the order
    of candidates allows, and then `high` <= `ntasks`. `most` > 0: no more leaf switches than this.
    `adjacent`: within the leaf that is not taken whole, nodes of consecutive rows come before
    preference. Writes G_NODE, leaf after leaf, and G_TASKS: with `ntasks` they add up to it, the
    first nodes filled first; else what each could host. O(n x (depth + log n)).
    """
    nodes = site.nodes
    size = 0
    if ntasks == 0:
        for i in range(count):
            if nodes[C_TASKS, i] > 0 and size < high:
                size += 1
        if size < low:
            return TOO_FEW
    found = place_equal(site, count, size, ntasks, 1, most, adjacent)
    bound = 0
    if 0 < found < low or (found == SWITCHES and low < size):
        bound = low
    elif found > high:
        bound = high
    if bound > 0:
        found = place_bound(site, count, bound, ntasks, most, adjacent)
    if found > 0 and ntasks > 0:
        spread_tasks(nodes, found, ntasks)
    return found


@dataclass(frozen=True, slots=True)
class Gang:
    """What a placement by topology gives."""

    outcome: int
    """Nodes of the gang; or TOO_FEW, or SWITCHES: not now."""
    node: Ints
    """[nodes] rows, leaf after leaf: neighbours in rank are neighbours in the fabric."""
    tasks: Ints
    """[nodes]"""


def site_of(table: TopologyTable, candidates: Ints, tasks: Ints) -> Site:
    """Candidates (node rows in order of preference, tasks each can host) and scratch for them."""
    tree = table.tree()
    count, switches = len(candidates), tree.shape[1]
    nodes = np.zeros((NODE_ROWS, max(count, 1)), np.int64)
    leaf = table.nodes.switch[candidates]
    nodes[C_NODE, :count] = candidates
    nodes[C_TASKS, :count] = tasks
    nodes[C_LEAF, :count] = np.where(leaf < 0, switches - 2, leaf)
    work = np.zeros((WORK_ROWS, switches), np.int64)
    keys, order, spare = np.zeros((3, max(count, switches)), np.int64)
    return Site(tree, work, nodes, keys, order, spare)


def place(
    table: TopologyTable,
    candidates: Ints,
    tasks: Ints,
    *,
    low: int = 1,
    high: int = 0,
    ntasks: int = 0,
    switches: int = 0,
    wait_until: int = 0,
    now: int = 0,
    adjacent: bool = False,
) -> Gang:
    """Choose a gang from candidate node rows in order of preference, with the tasks each can host.

    `low` to `high` nodes (0: as many as `ntasks`, or `low`), `ntasks` over them. `switches` leaf
    switches at most until `wait_until` (s); from then on as few as can be. One kernel call,
    changes no table.
    """
    jit.compile_kernels()
    site = site_of(table, candidates, tasks)
    most = switches if now < wait_until else 0
    high = high or max(low, ntasks)
    found = place_by_topology(site, len(candidates), low, high, ntasks, most, int(adjacent))
    size = max(found, 0)
    return Gang(found, site.nodes[G_NODE, :size], site.nodes[G_TASKS, :size])
