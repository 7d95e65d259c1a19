"""Conservative: starts with less than the whole time limit, beside all that is promised.

Who fits for some time from now on fits for every shorter time too, so the longest is found by halving.
"""

from __future__ import annotations

from sched_core.filling import gather_now
from sched_core.fit import choose
from sched_core.jit import kernel
from sched_core.licencecheck import first_lack, licensed
from sched_core.outcome import explain, is_over, start_gang
from sched_core.promises import have_room
from sched_core.timegates import least_limit, longest_limit
from sched_core.verdict import NOT_REACHED, STARTED
from sched_core.views import (
    HIGH,
    J_COUNT,
    J_SHAPE,
    PICK_NODE,
    ROWS,
    STARTS,
    V_CODE,
    V_PLACED,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.views_conservative import NOW, Profile


@kernel
def size_for(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    profile: Profile,
    shape: int,
    part: int,
    length: int,
) -> int:
    """Choose the gang that fits from now on for some time; gives its size, 0: none. O(`gather_now`)."""
    found = gather_now(cluster, req, scratch, profile, shape, part, length)
    return choose(cluster, req, scratch, shape, found, req.shapes[HIGH, shape])


@kernel
def longest_fit(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    profile: Profile,
    shape: int,
    part: int,
    least: int,
    most: int,
) -> int:
    """The longest time from `least` to `most` for which a gang fits from now on; 0: there is none.

    O(log(most) x `gather_now`).
    """
    if size_for(cluster, req, scratch, profile, shape, part, most) > 0:
        return most
    if size_for(cluster, req, scratch, profile, shape, part, least) == 0:
        return 0
    low, high = least, most
    while high - low > 1:
        middle = (low + high) // 2
        if size_for(cluster, req, scratch, profile, shape, part, middle) > 0:
            low = middle
        else:
            high = middle
    return low


@kernel
def start_shortened(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    i: int,
) -> int:
    """Start a task of record `i` now with the longest time limit that fits, in the first place.

    1: it started; 0: it fits in none, not even with its least limit; -1: no room in the bounds of
    the pass. O(places x log(limit) x `gather_now`).
    """
    places = req.places
    counters = scratch.counters
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
    now = profile.state[NOW]
    least, most = least_limit(queue, row), longest_limit(queue, row, now)
    if licensed(queue, shape):
        most = min(most, first_lack(queue, shape, now, now + most) - now)
    best, best_part = 0, -1
    for option in range(places.shape[1]):
        part = places[shape, option]
        if part >= 0 and most > best and most >= least:
            length = longest_fit(cluster, req, scratch, profile, shape, part, least, most)
            if length > best:
                best, best_part = length, part
    if best == 0:
        return 0
    size = size_for(cluster, req, scratch, profile, shape, best_part, best)
    if (
        counters[STARTS] >= queue.starts.shape[1] - 1
        or counters[ROWS] + size > timeline.rows.shape[1]
        or not have_room(profile, cluster.nodes, PICK_NODE, 0, size)
    ):
        return -1
    start_gang(cluster, req, timeline, queue, scratch, profile, i, best_part, size, best)
    return 1


@kernel
def try_shortened(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    i: int,
) -> None:
    """Start what fits now of a record beyond the depth that may be given less than it asks for."""
    records = queue.records
    records[V_CODE, i] = STARTED
    while records[V_PLACED, i] < queue.jobs[J_COUNT, queue.order[i]] and not is_over(queue, i):
        started = start_shortened(cluster, req, timeline, queue, scratch, profile, i)
        if started < 0:
            records[V_CODE, i] = NOT_REACHED
        elif started == 0:
            explain(req, queue, scratch, i)
        if started <= 0:
            break
