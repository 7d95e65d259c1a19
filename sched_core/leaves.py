"""Gangs on the fewest leaf switches: the kernels behind `sched_core.topology`, for passes too."""

from __future__ import annotations

from sched_core.gangs import (
    C_TASKS,
    LAST,
    NEED,
    REST,
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
