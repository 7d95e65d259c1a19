"""Heterogeneous jobs in conservative passes: one planned start for all components.

Without the cache of windows: instants are tried one after the other, from now on, each against what
every node leaves over the whole span. `Policy.visits` bounds that.
"""

from __future__ import annotations

from sched_core.bundle_fit import first_member, fit_together
from sched_core.fit import has_features, in_partition, set_marks
from sched_core.jit import kernel
from sched_core.licencecheck import first_lack, licence_start, licensed, take_licences
from sched_core.limitcheck import charge
from sched_core.outcome import explain, is_over
from sched_core.profile import mark, room_over, shift
from sched_core.promises import (
    BY_NODE,
    EXCLUDED,
    KEPT,
    admit,
    forget,
    have_room,
    is_free,
    mark_rows,
    own,
)
from sched_core.timegates import least_limit, longest_limit
from sched_core.verdict import NOT_REACHED, STARTED
from sched_core.views import (
    AMOUNT,
    AVAIL,
    FAR,
    FREE,
    J_COUNT,
    J_DEADLINE,
    J_DURATION,
    J_LIMIT,
    J_SHAPE,
    J_TIME_MIN,
    MARK,
    MEMBERS,
    ROOM,
    ROW_COMPONENT,
    ROW_NODE,
    ROW_RELEASE,
    ROW_SCRATCH,
    ROW_TASKS,
    ROWS,
    START_END,
    START_PART,
    START_RECORD,
    STARTS,
    TRIED,
    USE,
    V_CODE,
    V_PLACED,
    WIDE,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.views_conservative import (
    BLOCK,
    BUDGET,
    HELD_COMPONENT,
    HELD_ROWS,
    LENGTH,
    NOW,
    R_CAUSE,
    R_END,
    R_FIRST,
    R_PART,
    R_START,
    STEP,
    VISITS,
    Profile,
    Reservations,
)
from sched_core.windows import aligned


@kernel
def next_gain(profile: Profile, after: int) -> int:
    """The first instant for a start after the one given at which some node has more. O(segments)."""
    times = profile.times
    free = profile.free
    best = FAR
    for node in range(profile.nodes.shape[0]):
        base = profile.nodes[node, BLOCK]
        for at in range(base + 1, base + profile.nodes[node, LENGTH]):
            when = aligned(times[at], profile.state[NOW], profile.state[STEP])
            if when > after and when < best:
                for r in range(free.shape[0]):
                    if free[r, at] > free[r, at - 1]:
                        best = when
    return int(best)


@kernel
def fits_over(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    profile: Profile,
    shape: int,
    start: int,
    duration: int,
    closed: int,
    at_once: bool,
) -> bool:
    """Whether all components fit for all of a span, beside all that is placed. As `fit_together`."""
    amounts = cluster.amounts
    profile.state[VISITS] += amounts.shape[1]
    for node in range(amounts.shape[1]):
        room_over(cluster, profile, node, start, start + duration)
        for r in range(amounts.shape[2]):
            amounts[AVAIL, node, r] = amounts[ROOM, node, r]
    return fit_together(cluster, req, timeline, scratch, shape, False, closed, at_once)


@kernel
def longest_together(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    i: int,
) -> int:
    """The longest limit (s) for which record `i`, which may get less, fits now; 0: there is none.

    Found by halving, and then placed. O(log(limit) x `fits_over`).
    """
    row, now = queue.order[i], profile.state[NOW]
    shape = queue.jobs[J_SHAPE, row]
    least, most = least_limit(queue, row), longest_limit(queue, row, now)
    if licensed(queue, shape):
        most = min(most, first_lack(queue, shape, now, now + most) - now)
    low, high = 0, most + 1
    length = most
    while length >= least and high - low > 1:
        if fits_over(cluster, req, timeline, scratch, profile, shape, now, length, -1, True):
            low = length
        else:
            high = length
        length = least if low == 0 and high > least else (low + high) // 2
        if low == 0 and high <= least:
            break
    if low > 0:
        fits_over(cluster, req, timeline, scratch, profile, shape, now, low, -1, True)
    return int(low)


@kernel
def hole_together(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    shape: int,
    duration: int,
    closed: int,
    wide: bool,
    limit: int,
) -> int:
    """Earliest start of all components at once, beside all that is placed; FAR: none to `limit`.

    -1: there was no room or budget to find it. `closed` as `fit_together`; with `wide` a start now
    may be on more nodes than a later one, on none that is blocked. Leaves the placement as `fit_together` does.
    O(instants x (segments x R² + components x nodes x R)).
    """
    state = profile.state
    now = state[NOW]
    when = now
    if timeline.rows.shape[1] - scratch.counters[ROWS] < req.shapes[WIDE, shape]:
        return -1
    while True:
        if licensed(queue, shape):
            when = licence_start(queue, shape, when, duration, now, state[STEP])
        if when > limit:
            return FAR
        if state[VISITS] > state[BUDGET]:
            return -1
        at_once = wide and when == now
        if fits_over(
            cluster, req, timeline, scratch, profile, shape, when, duration, closed, at_once
        ):
            return int(when)
        when = next_gain(profile, when)


@kernel
def start_now(
    cluster: Cluster,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    i: int,
    end: int,
) -> None:
    """Turn the placement that was found into a start of record `i`. O(rows x R)."""
    rows = timeline.rows
    counters = scratch.counters
    row, start = queue.order[i], counters[STARTS]
    queue.starts[START_RECORD, start] = row
    queue.starts[START_PART, start] = rows[ROW_RELEASE, counters[ROWS]]
    for k in range(counters[ROWS], counters[TRIED]):
        rows[ROW_RELEASE, k] = end
        rows[ROW_COMPONENT, k] = rows[ROW_SCRATCH, k]
        for r in range(cluster.amounts.shape[2]):
            cluster.amounts[FREE, rows[ROW_NODE, k], r] -= timeline.row_amount[k, r]
    counters[ROWS] = counters[TRIED]
    queue.starts[START_END, start + 1] = counters[ROWS]
    counters[STARTS] = start + 1
    queue.records[V_PLACED, i] += 1
    if queue.jobs[J_LIMIT, row] >= 0:
        charge(queue, queue.jobs[J_SHAPE, row], queue.jobs[J_LIMIT, row])


@kernel
def hold_later(
    timeline: Timeline, scratch: Scratch, profile: Profile, held: Reservations, i: int, when: int
) -> None:
    """Turn the placement that was found into a promise to record `i`. O(rows x R)."""
    rows = timeline.rows
    at = profile.state[HELD_ROWS]
    held.records[R_START, i] = when
    held.records[R_PART, i] = rows[ROW_RELEASE, scratch.counters[ROWS]]
    held.records[R_FIRST, i] = at
    for k in range(scratch.counters[ROWS], scratch.counters[TRIED]):
        held.rows[ROW_NODE, at] = rows[ROW_NODE, k]
        held.rows[ROW_TASKS, at] = rows[ROW_TASKS, k]
        held.rows[HELD_COMPONENT, at] = rows[ROW_SCRATCH, k]
        for r in range(held.amount.shape[1]):
            held.amount[at, r] = timeline.row_amount[k, r]
        at += 1
    held.records[R_END, i] = at
    profile.state[HELD_ROWS] = at


@kernel
def book_rows(
    cluster: Cluster,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    shape: int,
    start: int,
    end: int,
) -> None:
    """Take what the placement that was found needs out of the profiles. O(rows x segments x R)."""
    for k in range(scratch.counters[ROWS], scratch.counters[TRIED]):
        for r in range(cluster.dims.shape[1]):
            cluster.dims[AMOUNT, r] = timeline.row_amount[k, r]
        node = timeline.rows[ROW_NODE, k]
        shift(cluster, profile, node, start, end, -1)
        mark(profile, node, False)
    if licensed(queue, shape):
        take_licences(queue, shape, start, end, 1)


@kernel
def step_bundle(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    held: Reservations,
    i: int,
    mine: bool,
    limit: int,
) -> int:
    """Plan one task of record `i`, all its components at one start: as `conservative.step`."""
    counters = scratch.counters
    state = profile.state
    row = queue.order[i]
    shape, duration = queue.jobs[J_SHAPE, row], queue.jobs[J_DURATION, row]
    when = hole_together(
        cluster, req, timeline, queue, scratch, profile, shape, duration, -1, True, limit
    )
    if when != state[NOW] and queue.jobs[J_TIME_MIN, row] > 0:
        shorter = longest_together(cluster, req, timeline, queue, scratch, profile, i)
        if shorter > 0:
            when, duration = int(state[NOW]), shorter
        elif 0 <= when < FAR:  # the search for a shorter one has left its placement
            fits_over(cluster, req, timeline, scratch, profile, shape, when, duration, -1, False)
    if when < 0 or when == FAR:
        return when
    first, last = counters[ROWS], counters[TRIED]
    if (
        counters[STARTS] >= queue.starts.shape[1] - 1
        or (when > state[NOW] and state[HELD_ROWS] + last - first > held.rows.shape[1])
        or not have_room(profile, timeline.rows, ROW_NODE, first, last)
    ):
        return -1
    if mine:
        own(profile, held, i, 0)
        forget(profile, held, i)
    book_rows(cluster, timeline, queue, scratch, profile, shape, when, when + duration)
    if when == state[NOW]:
        start_now(cluster, timeline, queue, scratch, i, when + duration)
    else:
        hold_later(timeline, scratch, profile, held, i, when)
    return when


@kernel
def try_bundle(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    held: Reservations,
    i: int,
) -> None:
    """Start what fits now of a record beyond the depth, beside all that is promised."""
    row, now = queue.order[i], profile.state[NOW]
    limit = min(now, queue.jobs[J_DEADLINE, row] - queue.jobs[J_DURATION, row])
    while queue.records[V_PLACED, i] < queue.jobs[J_COUNT, row]:
        if is_over(queue, i):
            return
        when = step_bundle(cluster, req, timeline, queue, scratch, profile, held, i, False, limit)
        if when == -1:
            queue.records[V_CODE, i] = NOT_REACHED
            return
        if when == FAR:
            explain(req, queue, scratch, i)
            return
    queue.records[V_CODE, i] = STARTED


@kernel
def stands(
    cluster: Cluster, req: Requests, held: Reservations, i: int, member: int, k: int
) -> bool:
    """Whether the nodes promised to component `k`, a `member`, are usable and in one of its places."""
    nodes = cluster.nodes
    places = req.places
    fits = False
    set_marks(cluster, req, member, 1)
    for option in range(places.shape[1]):
        place, inside = places[member, option], True
        for at in range(held.records[R_FIRST, i], held.records[R_END, i]):
            node = held.rows[ROW_NODE, at]
            if held.rows[HELD_COMPONENT, at] == k and (
                place < 0
                or nodes[USE, node] != 1
                or nodes[MARK, node] == EXCLUDED
                or not in_partition(cluster.partitions, node, place)
                or not has_features(cluster.features, node, req.shapes, req.clauses, member)
            ):
                inside = False
        fits |= inside
    set_marks(cluster, req, member, 0)
    return fits


@kernel
def admit_bundle(
    cluster: Cluster,
    req: Requests,
    queue: Queue,
    profile: Profile,
    held: Reservations,
    i: int,
    cause: int,
) -> bool:
    """Put the promise of record `i`, of several components, into the profile if it can be kept.

    As `admit`; but its rows may share nodes, so each is judged beside those before it.
    """
    records = held.records
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
    first, last, start = records[R_FIRST, i], records[R_END, i], records[R_START, i]
    end = start + queue.jobs[J_DURATION, row]
    why, done = KEPT, first
    for k in range(req.shapes[MEMBERS, shape]):
        if not stands(cluster, req, held, i, req.listed[first_member(req, shape) + k], k):
            why = BY_NODE
    if why == KEPT and licensed(queue, shape) and first_lack(queue, shape, start, end) < FAR:
        why = cause
    if why == KEPT and not have_room(profile, held.rows, ROW_NODE, first, last):
        why = cause
    while why == KEPT and done < last:
        if is_free(cluster, profile, held, done, start, end):
            for r in range(held.amount.shape[1]):
                cluster.dims[AMOUNT, r] = held.amount[done, r]
            shift(cluster, profile, held.rows[ROW_NODE, done], start, end, -1)
            done += 1
        else:
            why = cause
    if why == KEPT:
        if licensed(queue, shape):
            take_licences(queue, shape, start, end, 1)
        mark_rows(profile, held, i, False)
        return True
    for k in range(first, done):
        for r in range(held.amount.shape[1]):
            cluster.dims[AMOUNT, r] = held.amount[k, r]
        shift(cluster, profile, held.rows[ROW_NODE, k], start, end, 1)
    records[R_START, i] = FAR
    records[R_CAUSE, i] = why
    return False


@kernel
def admit_record(
    cluster: Cluster,
    req: Requests,
    queue: Queue,
    profile: Profile,
    held: Reservations,
    i: int,
    cause: int,
) -> bool:
    """`admit`, for a record of one component or of several."""
    if req.shapes[MEMBERS, queue.jobs[J_SHAPE, queue.order[i]]] > 0:
        return admit_bundle(cluster, req, queue, profile, held, i, cause)
    return admit(cluster, req, queue, profile, held, i, cause)
