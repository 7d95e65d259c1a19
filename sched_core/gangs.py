"""Kernels of placement by topology: which leaves a gang takes, and which nodes of them."""

from __future__ import annotations

from typing import NamedTuple

from sched_core.columns import Matrix, Vector
from sched_core.jit import kernel
from sched_core.sorting import sort_rows


class Site(NamedTuple):
    """Switches, candidates and scratch of one placement."""

    tree: Matrix
    """[TREE_ROWS, switches + 2] as the TopologyTable gives it."""
    work: Matrix
    """[8, switches + 2] scratch per switch: CAP to MARK."""
    nodes: Matrix
    """[6, candidates]: C_NODE, C_TASKS and C_LEAF go in, G_NODE and G_TASKS come out."""
    keys: Vector
    """[max(switches + 2, node rows)] scratch of sorts."""
    order: Vector
    """[max(switches + 2, candidates)] leaves with candidates; later nodes of one leaf."""
    spare: Vector
    """As long as `order`."""


# Rows of `tree`.
PARENT = 0
"""Switch above; of a switch without one the top; -1: the top itself."""
HEIGHT = 1
"""Longest way down to a switch without switches below it."""
TREE_ROWS = 2

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
def emit_run(site: Site, start: int, count: int, found: int) -> int:
    """Write `count` candidates of `order` from `start` on into the gang; gives its new size."""
    nodes = site.nodes
    for k in range(start, start + count):
        nodes[G_NODE, found] = nodes[C_NODE, site.order[k]]
        nodes[G_TASKS, found] = nodes[C_TASKS, site.order[k]]
        found += 1
    return found


@kernel
def widest_below(site: Site, count: int, size: int, ntasks: int) -> int:
    """The lowest switch whose `size` widest nodes hold `ntasks`; -1: none. O(n x (depth + log n)).

    Equals go by the fewest tasks left over, then by preference. Leaves the candidates, the widest
    first, in `order`; needs the chains of `tally`.
    """
    work = site.work
    nodes = site.nodes
    for s in range(work.shape[1]):
        work[TAKEN, s] = 0
        work[REST, s] = ntasks
    for i in range(count):
        site.order[i] = i
        site.keys[i] = -nodes[C_TASKS, i]
    sort_rows(site.keys, site.order, site.spare, count)
    for k in range(count):
        i = site.order[k]
        switch = nodes[C_LEAF, i]
        while switch >= 0 and nodes[C_TASKS, i] > 0:
            if work[TAKEN, switch] == 0:
                work[LAST, switch] = i
            if work[TAKEN, switch] < size:
                work[TAKEN, switch] += 1
                work[REST, switch] -= nodes[C_TASKS, i]
            switch = site.tree[PARENT, switch]
    best = -1
    for s in range(work.shape[1]):
        if work[TAKEN, s] < size or work[REST, s] > 0:
            continue
        low = high = 0
        if best >= 0:
            low, high = site.tree[HEIGHT, s], site.tree[HEIGHT, best]
        if low == high and best >= 0:
            low, high = -work[REST, s], -work[REST, best]
            if low == high:
                low, high = work[LAST, s], work[LAST, best]
        if best < 0 or low < high:
            best = s
    return best


@kernel
def emit_widest(site: Site, count: int, size: int, switch: int) -> int:
    """Write the `size` widest candidates below a switch, leaf after leaf; gives their leaves.

    After `widest_below`. O(n x depth).
    """
    work = site.work
    nodes = site.nodes
    picked = 0
    for k in range(count):
        i = site.order[k]
        if picked < size and below(site.tree, nodes[C_LEAF, i], switch):
            site.order[picked] = i
            site.keys[i] = work[FIRST, nodes[C_LEAF, i]] * count + i
            picked += 1
    sort_rows(site.keys, site.order, site.spare, picked)
    emit_run(site, 0, picked, 0)
    leaves = 1
    for k in range(1, picked):
        if nodes[C_LEAF, site.order[k]] != nodes[C_LEAF, site.order[k - 1]]:
            leaves += 1
    return leaves


@kernel
def spread_tasks(nodes: Matrix, size: int, ntasks: int) -> None:
    """Divide `ntasks` over the gang: one each, then the first nodes are filled first. O(size)."""
    left = ntasks - size
    for i in range(size):
        extra = max(min(nodes[G_TASKS, i] - 1, left), 0)
        nodes[G_TASKS, i] = 1 + extra
        left -= extra
