"""Availability of concrete nodes over time, as lists of segments: build, search, take, give back.

One list per node instead of one for the cluster, because gangs get concrete nodes: what is free
in sum says nothing of where (compare the "profile" of Mu'alem and Feitelson 2001, on one pool).
"""

from __future__ import annotations

from sched_core.columns import Vector
from sched_core.jit import inlined, kernel
from sched_core.views import AMOUNT, FREE, PARENT, ROOM, RUN_END, RUN_NODE, Cluster, Timeline
from sched_core.views_conservative import (
    BLOCK,
    CLOCK,
    FREED,
    L_FROM,
    L_NEXT,
    L_ROW,
    L_TO,
    LENGTH,
    LIMIT,
    LINK,
    NOW,
    OWN,
    TAIL,
    TOUCHED,
    Profile,
)

SLACK = 6
"""Segments that every block holds beyond those of running jobs."""


@inlined
def build(cluster: Cluster, timeline: Timeline, profile: Profile) -> None:
    """Write the profile of all that runs; jobs past their end release at NOW + 1.

    Invariant: segments of a node rise strictly, the first is NOW. O((nodes + releases) x R).
    """
    columns = profile.nodes
    times = profile.times
    free = profile.free
    state = profile.state
    running = timeline.running
    order = timeline.release_order
    soon = state[NOW] + 1
    columns[:, LIMIT] = SLACK
    for i in range(order.shape[0]):
        columns[running[RUN_NODE, order[i]], LIMIT] += 1
    tail = 0
    for node in range(columns.shape[0]):
        columns[node, BLOCK] = tail
        columns[node, LENGTH] = 1
        columns[node, TOUCHED : OWN + 1] = 0
        times[tail] = state[NOW]
        for r in range(free.shape[0]):
            free[r, tail] = cluster.amounts[FREE, node, r]
        tail += columns[node, LIMIT]
    state[TAIL] = tail
    for i in range(order.shape[0]):
        row = order[i]
        node = running[RUN_NODE, row]
        when = max(running[RUN_END, row], soon)
        at = columns[node, BLOCK] + columns[node, LENGTH] - 1
        if times[at] < when:
            at += 1
            columns[node, LENGTH] += 1
            times[at] = when
            for r in range(free.shape[0]):
                free[r, at] = free[r, at - 1]
        for r in range(free.shape[0]):
            free[r, at] += timeline.run_amount[row, r]


@kernel
def locate(times: Vector, low: int, high: int, when: int) -> int:
    """Segment in [low, high) that holds an instant; `low` if it lies before all. O(log length).

    The last few are gone through in order, which a processor foresees better.
    """
    while high - low > 16:
        middle = (low + high) // 2
        if times[middle] <= when:
            low = middle
        else:
            high = middle
    while low + 1 < high and times[low + 1] <= when:
        low += 1
    return low


@kernel
def reserve_room(profile: Profile, node: int, more: int) -> bool:
    """See to it that a node's block holds so many more segments; False: the pool is used up.

    A block that is full moves to the end of the pool and doubles. O(1) amortised per segment.
    """
    columns = profile.nodes
    times = profile.times
    free = profile.free
    state = profile.state
    length = columns[node, LENGTH]
    if length + more <= columns[node, LIMIT]:
        return True
    limit, tail = 2 * (length + more), state[TAIL]
    if tail + limit > times.shape[0]:
        return False
    old = columns[node, BLOCK]
    for i in range(length):
        times[tail + i] = times[old + i]
        for r in range(free.shape[0]):
            free[r, tail + i] = free[r, old + i]
    columns[node, BLOCK] = tail
    columns[node, LIMIT] = limit
    state[TAIL] = tail + limit
    return True


@kernel
def cut(profile: Profile, node: int, when: int) -> int:
    """The segment of a node that begins at an instant not before NOW; made if there is none.

    Needs room in the block (`reserve_room`). O(length x R).
    """
    columns = profile.nodes
    times = profile.times
    free = profile.free
    base = columns[node, BLOCK]
    end = base + columns[node, LENGTH]
    at = locate(times, base, end, when)
    if times[at] == when:
        return at
    for i in range(end, at + 1, -1):
        times[i] = times[i - 1]
        for r in range(free.shape[0]):
            free[r, i] = free[r, i - 1]
    times[at + 1] = when
    for r in range(free.shape[0]):
        free[r, at + 1] = free[r, at]
    columns[node, LENGTH] += 1
    return at + 1


@kernel
def shift_row(
    cluster: Cluster, profile: Profile, node: int, start: int, end: int, sign: int
) -> None:
    """Add `sign` times AMOUNT to what is free on a row from `start` to `end`. O(length x R)."""
    free = profile.free
    dims = cluster.dims
    first = cut(profile, node, start)
    last = cut(profile, node, end)
    for i in range(first, last):
        for r in range(free.shape[0]):
            free[r, i] += sign * dims[AMOUNT, r]


@kernel
def shift(cluster: Cluster, profile: Profile, node: int, start: int, end: int, sign: int) -> None:
    """Add `sign` times AMOUNT to what is free on a node, and on rows linked to it, for a time.

    From `start` to `end`. Needs room in the blocks, unless both instants begin segments already:
    those, once made, stay for the pass. The caller says by `mark` whether others have to look at the
    node again. O((1 + links) x length x R).
    """
    links = profile.links
    shift_row(cluster, profile, node, start, end, sign)
    link = profile.nodes[node, LINK]
    while link > 0:
        since, until = max(start, links[link, L_FROM]), min(end, links[link, L_TO])
        if since < until:
            shift_row(cluster, profile, links[link, L_ROW], since, until, sign)
        link = links[link, L_NEXT]


@kernel
def mark(profile: Profile, node: int, freed: bool) -> None:
    """Note that a node changed: what is cached of it is a bound, or if `freed` nothing. O(links)."""
    profile.state[CLOCK] += 1
    row, link = node, profile.nodes[node, LINK]
    while True:
        profile.nodes[row, TOUCHED] = profile.state[CLOCK]
        if freed:
            profile.nodes[row, FREED] = profile.state[CLOCK]
        if link == 0:
            return
        row, link = profile.links[link, L_ROW], profile.links[link, L_NEXT]


@kernel
def narrow(
    cluster: Cluster, profile: Profile, node: int, segment: int, first: bool, mixed: bool
) -> None:
    """Narrow ROOM of a node to what a segment leaves as well (`first`: begin with it). O(R).

    With `mixed` (then O(R²)) a total is bounded too by what its types and its devices without type
    leave over the whole window: one A100 free at first and one V100 later are no "any GPU".
    """
    amounts = cluster.amounts
    dims = cluster.dims
    free = profile.free
    plain = profile.plain
    for r in range(free.shape[0]):
        if first or free[r, segment] < amounts[ROOM, node, r]:
            amounts[ROOM, node, r] = free[r, segment]
    if not mixed:
        return
    for total in range(2, free.shape[0]):
        if dims[PARENT, total] < 0:
            left, typed = free[total, segment], 0
            for r in range(total + 1, free.shape[0]):
                if dims[PARENT, r] == total:
                    left -= free[r, segment]
                    typed += amounts[ROOM, node, r]
            if first or left < plain[total]:
                plain[total] = left
            amounts[ROOM, node, total] = min(amounts[ROOM, node, total], typed + plain[total])


@kernel
def room_over(cluster: Cluster, profile: Profile, node: int, start: int, end: int) -> None:
    """Write into ROOM what a node leaves from `start` to `end`. O(length x R²)."""
    columns = profile.nodes
    times = profile.times
    base = columns[node, BLOCK]
    stop = base + columns[node, LENGTH]
    at = locate(times, base, stop, start)
    narrow(cluster, profile, node, at, True, True)
    at += 1
    while at < stop and times[at] < end:
        narrow(cluster, profile, node, at, False, True)
        at += 1
