"""Gangs by topology: as few leaf switches as can be, below the lowest switch, the least left over.

Candidates come in order of preference; the gang is `size` nodes, or as many as `ntasks` need. In
this order: the fewest leaf switches; the lowest common switch that reaches so few; below it the
leaves with the most candidates, all of which are taken, and last the leaf that has the least left
over beside the rest. Equals go by preference. The switches a user asks for (`--switches=n@wait`)
are a bound that holds while he is ready to wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sched_core import jit
from sched_core.columns import Ints, Matrix, Vector
from sched_core.jit import entry, kernel
from sched_core.sorting import sort_rows
from sched_core.switches import HEIGHT, PARENT, TopologyTable

TOO_FEW = 0
"""The candidates do not suffice, wherever they are."""
SWITCHES = -1
"""They would, on more leaf switches than asked for; not now, as the wait is not over."""


class Site(NamedTuple):
    """Switches, candidates and scratch of one placement."""

    tree: Matrix
    """[TREE_ROWS, switches + 2] as the TopologyTable gives it."""
    work: Matrix
    """[8, switches + 2] scratch per switch: CAP to MARK."""
    nodes: Matrix
    """[8, candidates]: C_NODE, C_TASKS and C_LEAF go in, G_NODE and G_TASKS come out."""
    keys: Vector
    """[max(switches + 2, node rows)] scratch of sorts."""
    order: Vector
    """[max(switches + 2, candidates)] leaves with candidates; later nodes of one leaf."""
    spare: Vector
    """As long as `order`."""


CAP = 0
"""Units (nodes or tasks) that the candidates of a leaf have."""
FIRST = 1
"""First candidate of a leaf; the others follow by C_NEXT."""
TAIL = 2
NEED = 3
"""Leaf switches needed below a switch."""
REST = 4
"""Units still wanted; not above 0: the switch suffices."""
TAKEN = 5
"""Leaves taken whole."""
LAST = 6
"""Leaf that gives the rest; -1 none."""
ASIDE = 7
"""1: not in question."""
WORK_ROWS = 8

C_NODE = 0
C_TASKS = 1
C_LEAF = 2
"""Leaf switch; of a node without one the last but one."""
C_NEXT = 3
G_NODE = 4
"""The gang, leaf after leaf."""
G_TASKS = 5
NODE_ROWS = 6


@kernel
def tally(site: Site, count: int, each: int, ntasks: int) -> int:
    """Chain the candidates with at least `each` tasks by leaf; gives the number of leaves.

    A unit is a node, or with `ntasks` a task. Writes the leaves into `order` as they occur.
    O(switches + candidates).
    """
    work = site.work
    nodes = site.nodes
    for s in range(work.shape[1]):
        work[CAP, s] = 0
        work[FIRST, s] = -1
    leaves = 0
    for i in range(count):
        if nodes[C_TASKS, i] < max(each, 1):
            continue
        leaf = nodes[C_LEAF, i]
        nodes[C_NEXT, i] = -1
        if work[FIRST, leaf] < 0:
            work[FIRST, leaf] = i
            site.order[leaves] = leaf
            leaves += 1
        else:
            nodes[C_NEXT, work[TAIL, leaf]] = i
        work[TAIL, leaf] = i
        work[CAP, leaf] += min(nodes[C_TASKS, i], ntasks) if ntasks > 0 else 1
    for i in range(leaves):
        site.keys[site.order[i]] = -work[CAP, site.order[i]]
    sort_rows(site.keys, site.order, site.spare, leaves)
    return leaves


@kernel
def count_leaves(site: Site, leaves: int, want: int) -> int:
    """Write how many leaves each switch needs, the widest first; gives the fewest. 0: too few.

    O(leaves x depth). The top has all leaves, so no switch needs fewer than it does.
    """
    work = site.work
    tree = site.tree
    for s in range(work.shape[1]):
        work[NEED, s] = 0
        work[REST, s] = want
    for i in range(leaves):
        switch = site.order[i]
        while switch >= 0:
            if work[REST, switch] > 0:
                work[REST, switch] -= work[CAP, site.order[i]]
                work[NEED, switch] += 1
            switch = tree[PARENT, switch]
    top = work.shape[1] - 1
    return int(work[NEED, top]) if work[REST, top] <= 0 else 0


@kernel
def lowest(site: Site, leaves: int, want: int, fewest: int) -> int:
    """The switch to place below: lowest, then least left over, then preference. O(leaves x depth).

    Afterwards LAST holds the leaf that gives the rest, and REST the rest, of each switch in
    question. Invariant: all leaves but the last are taken whole, as fewer leaves do not suffice.
    """
    work = site.work
    tree = site.tree
    height = tree[HEIGHT, work.shape[1] - 1]
    for s in range(work.shape[1]):
        if work[REST, s] <= 0 and work[NEED, s] == fewest:
            height = min(height, tree[HEIGHT, s])
    for s in range(work.shape[1]):
        fit = work[REST, s] <= 0 and work[NEED, s] == fewest and tree[HEIGHT, s] == height
        work[ASIDE, s] = 0 if fit else 1
        work[REST, s] = want
        work[TAKEN, s] = 0
        work[LAST, s] = -1
    for i in range(leaves):
        leaf = switch = site.order[i]
        while switch >= 0:
            if work[ASIDE, switch] == 0:
                last = work[LAST, switch]
                if work[TAKEN, switch] < fewest - 1:
                    work[TAKEN, switch] += 1
                    work[REST, switch] -= work[CAP, leaf]
                elif work[CAP, leaf] >= work[REST, switch] and (
                    last < 0 or work[CAP, leaf] < work[CAP, last]
                ):
                    work[LAST, switch] = leaf
            switch = tree[PARENT, switch]
    best = -1
    for s in range(work.shape[1]):
        if work[ASIDE, s] == 0:
            if best < 0:
                best = s
                continue
            left = work[CAP, work[LAST, s]] - work[REST, s]
            least = work[CAP, work[LAST, best]] - work[REST, best]
            first, before = work[FIRST, work[LAST, s]], work[FIRST, work[LAST, best]]
            if left < least or (left == least and first < before):
                best = s
    return best


@kernel
def below(tree: Matrix, leaf: int, switch: int) -> bool:
    """Whether a leaf hangs on a switch, or is it. O(depth)."""
    while leaf >= 0 and leaf != switch:
        leaf = tree[PARENT, leaf]
    return leaf >= 0


@kernel
def run_start(site: Site, leaf: int, want: int) -> int:
    """Sort a leaf's candidates by node row into `order`; where the shortest run of `want` begins.

    A run are nodes of consecutive rows; equals go by row; -1: there is none. O(n log n).
    """
    nodes = site.nodes
    order = site.order
    count, i = 0, site.work[FIRST, leaf]
    while i >= 0:
        site.keys[i] = nodes[C_NODE, i]
        order[count] = i
        count += 1
        i = nodes[C_NEXT, i]
    sort_rows(site.keys, order, site.spare, count)
    best, length, start = -1, count + 1, 0
    for k in range(1, count + 1):
        if k == count or nodes[C_NODE, order[k]] != nodes[C_NODE, order[k - 1]] + 1:
            if want <= k - start < length:
                best, length = start, k - start
            start = k
    return best


@kernel
def emit(site: Site, leaf: int, found: int, rest: int, ntasks: int) -> int:
    """Write a leaf's candidates into the gang until `rest` units are covered; gives its new size.

    O(nodes written).
    """
    nodes = site.nodes
    i = site.work[FIRST, leaf]
    while i >= 0 and rest > 0:
        nodes[G_NODE, found] = nodes[C_NODE, i]
        nodes[G_TASKS, found] = nodes[C_TASKS, i]
        found += 1
        rest -= min(nodes[C_TASKS, i], ntasks) if ntasks > 0 else 1
        i = nodes[C_NEXT, i]
    return found


@kernel
def spread_tasks(nodes: Matrix, size: int, ntasks: int) -> None:
    """Divide `ntasks` over the gang: one each, then the first nodes are filled first. O(size)."""
    left = ntasks - size
    for i in range(size):
        extra = max(min(nodes[G_TASKS, i] - 1, left), 0)
        nodes[G_TASKS, i] = 1 + extra
        left -= extra


@entry
def place_by_topology(
    site: Site, count: int, size: int, ntasks: int, each: int, most: int, adjacent: int
) -> int:
    """Choose a gang from `count` candidates; gives its size, TOO_FEW or SWITCHES. All or nothing.

    `size` > 0: exactly so many nodes that host at least `each` tasks; else nodes for `ntasks`.
    `most` > 0: no more leaf switches than this. `adjacent`: within the leaf that is not taken
    whole, nodes of consecutive rows are preferred to preference. With `size` and `ntasks` both
    given, `each` must be at least ntasks / size, for any such gang must hold them.
    Writes G_NODE and G_TASKS, leaf after leaf; without `ntasks`, G_TASKS is what a node could host.
    O(leaves x depth + n log n).
    """
    work = site.work
    nodes = site.nodes
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
        for k in range(start, start + rest):
            nodes[G_NODE, found] = nodes[C_NODE, site.order[k]]
            nodes[G_TASKS, found] = nodes[C_TASKS, site.order[k]]
            found += 1
    else:
        found = emit(site, last, found, rest, by_task)
    if ntasks > 0:
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


def place(
    table: TopologyTable,
    candidates: Ints,
    tasks: Ints,
    *,
    size: int = 0,
    ntasks: int = 0,
    each: int = 1,
    switches: int = 0,
    wait_until: int = 0,
    now: int = 0,
    adjacent: bool = False,
) -> Gang:
    """Choose a gang from candidate node rows in order of preference, with the tasks each can host.

    `size` nodes, or as many as `ntasks` need. `switches` leaf switches at most until `wait_until`
    (s); from then on as few as can be. One kernel call, changes no table.
    """
    jit.compile_kernels()
    tree = table.tree()
    count, switch_count = len(candidates), tree.shape[1]
    nodes = np.zeros((NODE_ROWS, max(count, 1)), np.int64)
    nodes[C_NODE, :count] = candidates
    nodes[C_TASKS, :count] = tasks
    leaf = table.nodes.switch[candidates]
    nodes[C_LEAF, :count] = np.where(leaf < 0, switch_count - 2, leaf)
    work = np.zeros((WORK_ROWS, switch_count), np.int64)
    keys, order, spare = np.zeros((3, max(count, switch_count)), np.int64)
    site = Site(tree, work, nodes, keys, order, spare)
    most = switches if now < wait_until else 0
    if size and ntasks:
        each = max(each, -(-ntasks // size))
    found = place_by_topology(site, count, size, ntasks, each, most, int(adjacent))
    return Gang(found, nodes[G_NODE, : max(found, 0)], nodes[G_TASKS, : max(found, 0)])
