"""Conservative backfilling on concrete nodes: a planned start for every job, in queue order.

Every record gets the earliest start at which its gang fits for all its duration, beside all that
runs (until its limit) and all that was promised before it; what is planned for now starts. Two ways
(Feitelson and Weil 1998; Mu'alem and Feitelson 2001):

Re-planning drops all promises first, so that a record may be planned later than by the last pass.

Compressing takes the promises of the last pass as they are and, when something was given back since
then, re-inserts the records one by one, each at its earliest hole, which is never later. A promise is broken only where a running job holds
more, or longer, than was said, where a node is lost, or by a record that the last pass did not know
and that is ahead in the queue: it is planned beside promises made to records ahead of it alone, and
what is behind it and still fits is kept.
"""

from __future__ import annotations

from sched_core.bundles_conservative import admit_record, step_bundle, try_bundle
from sched_core.codes import MoveCause
from sched_core.filling import try_now
from sched_core.fit import choose
from sched_core.holes import candidates, earliest_hole
from sched_core.jit import entry, inlined
from sched_core.leading import lead
from sched_core.licence_holes import licensed_hole
from sched_core.licencecheck import licensed, take_licences
from sched_core.outcome import explain, is_open, is_over, start_gang
from sched_core.passover import gate_of
from sched_core.profile import build
from sched_core.promises import forget, have_room, lift, mark_rows, occupy, own, place_of
from sched_core.report import LATEST
from sched_core.shortened import start_shortened, try_shortened
from sched_core.verdict import (
    BEGIN_TIME,
    LICENSES,
    NOT_REACHED,
    PRIORITY,
    RESOURCES,
    STARTED,
)
from sched_core.views import (
    AHEAD,
    EXAMINED,
    FAR,
    HIGH,
    J_BEGIN,
    J_COUNT,
    J_DEADLINE,
    J_DURATION,
    J_SHAPE,
    J_TIME_MIN,
    LOW,
    MEMBERS,
    NTASKS,
    PICK_NODE,
    ROWS,
    STARTS,
    V_AHEAD,
    V_CODE,
    V_PLACED,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.views_conservative import (
    BUDGET,
    CLOCK,
    COMPRESS,
    EPOCH,
    HELD_ROWS,
    HORIZON,
    LAST_HELD,
    LEADS,
    NOW,
    OPTION,
    R_END,
    R_FIRST,
    R_LATEST,
    R_PART,
    R_PROMISED,
    R_SLOT,
    R_START,
    VISITS,
    Profile,
    Reservations,
    Windows,
)

BY_AHEAD = int(MoveCause.AHEAD)
BY_RUNNING = int(MoveCause.RUNNING)


@inlined
def in_time(queue: Queue, i: int, start: int, now: int) -> bool:
    """Whether record `i` may start now, but for resources, and ends by its deadline from `start`."""
    row = queue.order[i]
    end = start + queue.jobs[J_DURATION, row]
    return is_open(queue, i, now) and bool(end <= queue.jobs[J_DEADLINE, row])


@inlined
def keep_promises(
    cluster: Cluster, req: Requests, queue: Queue, profile: Profile, held: Reservations, span: int
) -> None:
    """Put all promises of the last pass into the profile, in queue order, as far as they hold."""
    records = held.records
    state = profile.state
    for i in range(records.shape[1]):
        start = max(records[R_PROMISED, i], state[NOW])
        if 0 <= records[R_PROMISED, i] < FAR and in_time(queue, i, start, state[NOW]):
            records[R_START, i] = start
            records[R_PART, i] = place_of(cluster, req, queue, held, i, span)
            if admit_record(cluster, req, queue, profile, held, i, BY_RUNNING):
                state[LAST_HELD] = i + 1


@inlined
def best_hole(
    cluster: Cluster,
    req: Requests,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    slot: int,
    shape: int,
    duration: int,
    limit: int,
) -> int:
    """Earliest start of a gang over its places, the first of equals; FAR: none up to `limit`.

    Writes OPTION; the place chosen is the last one searched, so that `candidates` is about it.
    """
    places = req.places
    count, best = 0, FAR
    while count < places.shape[1] and places[shape, count] >= 0:
        count += 1
    for turn in range(count + 1 if count > 1 else 1):
        option = turn if turn < count else profile.state[OPTION]
        bound = limit if best == FAR else best - (turn < count)
        if turn == count and best == FAR:
            break
        part, mine = places[shape, option], slot + option
        if licensed(queue, shape):
            when = licensed_hole(
                cluster, req, queue, scratch, profile, windows, mine, shape, part, duration, bound
            )
        else:
            when = earliest_hole(
                cluster, req, scratch, profile, windows, mine, shape, part, duration, bound
            )
        if when < best:
            best = when
            profile.state[OPTION] = option
    return best


@inlined
def step(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    held: Reservations,
    i: int,
    mine: bool,
) -> int:
    """Plan one task of record `i`, whose promise (`mine`) is lifted: its start, FAR if there is none.

    -1: no room for it in the bounds of the pass. FAR may also mean that nothing is better than its
    promise. What is promised is all its time limit, to end by its deadline; only what starts now may
    be given less. O(search + nodes of the gang x segments).
    """
    records = held.records
    state = profile.state
    counters = scratch.counters
    shapes = req.shapes
    row, now = queue.order[i], state[NOW]
    shape, duration = queue.jobs[J_SHAPE, row], queue.jobs[J_DURATION, row]
    limit = min(state[HORIZON], records[R_LATEST, i])
    if mine:
        limit = max(records[R_START, i] - 1, now)
    limit = min(limit, queue.jobs[J_DEADLINE, row] - duration)
    if shapes[MEMBERS, shape] > 0:
        return step_bundle(cluster, req, timeline, queue, scratch, profile, held, i, mine, limit)
    slot = records[R_SLOT, i]
    when = best_hole(cluster, req, queue, scratch, profile, windows, slot, shape, duration, limit)
    if when != now and queue.jobs[J_TIME_MIN, row] > 0:
        short = start_shortened(cluster, req, timeline, queue, scratch, profile, i)
        if short > 0 and mine:
            own(profile, held, i, 0)
            forget(profile, held, i)
        if short != 0:
            return int(now) if short > 0 else -1
    if when == FAR:
        return FAR
    most = shapes[HIGH, shape]
    if when > now and shapes[NTASKS, shape] == 0:
        most = shapes[LOW, shape]
    found = candidates(cluster, req, windows, slot + state[OPTION], shape)
    size = choose(cluster, req, scratch, shape, found, most)
    at = state[HELD_ROWS]
    if (
        counters[STARTS] >= queue.starts.shape[1] - 1
        or counters[ROWS] + size > timeline.rows.shape[1]
        or at + size > held.rows.shape[1]
        or not have_room(profile, cluster.nodes, PICK_NODE, 0, size)
    ):
        return -1
    if mine:
        own(profile, held, i, 0)
        forget(profile, held, i)
    part = req.places[shape, state[OPTION]]
    if when == now:
        start_gang(cluster, req, timeline, queue, scratch, profile, i, part, size, duration)
        return int(now)
    end = when + duration
    occupy(cluster, req, profile, held.rows, held.amount, at, shape, size, when, end)
    if licensed(queue, shape):
        take_licences(queue, shape, when, end, 1)
    records[R_START, i] = when
    records[R_PART, i] = part
    records[R_FIRST, i] = at
    records[R_END, i] = at + size
    state[HELD_ROWS] = at + size
    return when


@inlined
def consider(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    held: Reservations,
    i: int,
) -> None:
    """Plan record `i`: start what can start now, promise its next task a start, write its code.

    Of an array only the next task is promised one. A promise that is due is looked at whatever the
    budget is.
    """
    records = held.records
    state = profile.state
    row = queue.order[i]
    now = state[NOW]
    while queue.records[V_PLACED, i] < queue.jobs[J_COUNT, row]:
        kept = records[R_START, i]
        mine = kept < FAR
        if is_over(queue, i):
            if mine and kept <= now:
                lift(cluster, queue, profile, held, i, 1)
                forget(profile, held, i)
            elif mine:
                queue.planned[i] = kept
            return
        if mine and kept > now and not state[COMPRESS]:
            when = FAR
        elif state[VISITS] > state[BUDGET] and kept > now:
            when = -1
        else:
            if mine:
                lift(cluster, queue, profile, held, i, 1)
                own(profile, held, i, 1)
            when = step(cluster, req, timeline, queue, scratch, profile, windows, held, i, mine)
            if mine and not 0 <= when < FAR:
                own(profile, held, i, 0)
                lift(cluster, queue, profile, held, i, -1)
        if when == now:
            continue
        if when == -1:
            queue.records[V_CODE, i] = NOT_REACHED
        else:
            explain(req, queue, scratch, i)
        if records[R_START, i] < FAR:
            queue.planned[i] = records[R_START, i]
        elif when == FAR and (
            queue.records[V_CODE, i] == RESOURCES
            or queue.records[V_CODE, i] == PRIORITY
            or queue.records[V_CODE, i] == LICENSES
        ):
            queue.planned[i] = LATEST
        return
    queue.records[V_CODE, i] = STARTED


@inlined
def go_before(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    held: Reservations,
    i: int,
) -> None:
    """Plan record `i` beside promises to records ahead of it alone; those behind then stay if they
    still can. O(rows behind it x segments x R²) beside the search.
    """
    records = held.records
    state = profile.state
    ahead = records[R_PROMISED, i] == -1 and i < state[LAST_HELD]
    if ahead:
        for k in range(i + 1, state[LAST_HELD]):
            if records[R_START, k] < FAR:
                lift(cluster, queue, profile, held, k, 1)
                mark_rows(profile, held, k, True)
                state[VISITS] += records[R_END, k] - records[R_FIRST, k]
        state[EPOCH] = state[CLOCK]
    consider(cluster, req, timeline, queue, scratch, profile, windows, held, i)
    if ahead:
        for k in range(i + 1, state[LAST_HELD]):
            if records[R_START, k] < FAR:
                admit_record(cluster, req, queue, profile, held, k, BY_AHEAD)


@entry
def run_conservative(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    held: Reservations,
) -> int:
    """A whole pass; gives the number of starts. All it says is in the views.

    `state[BUDGET]` bounds the visits for planning. Invariants: nothing
    is oversubscribed at any instant if all keep their limits; a gang starts as a whole; no start or
    promise delays one made before it. O(records + planned x (nodes + events x log nodes)).
    """
    parts = req.parts
    records = queue.records
    counters = scratch.counters
    now = profile.state[NOW]
    build(cluster, timeline, profile)
    keep_promises(cluster, req, queue, profile, held, scratch.options.shape[1])
    for i in range(records.shape[1]):
        row = queue.order[i]
        shape = queue.jobs[J_SHAPE, row]
        records[V_AHEAD, i] = scratch.options[AHEAD, parts[shape, 0]]
        gate = gate_of(queue, row, now)
        if gate != 0:
            records[V_CODE, i] = gate
            queue.planned[i] = queue.jobs[J_BEGIN, row] if gate == BEGIN_TIME else -1
            continue
        leads, planned = profile.state[LEADS], held.records[R_SLOT, i] >= 0
        counters[EXAMINED] += leads == 0 or planned
        if leads == 0 and planned:
            go_before(cluster, req, timeline, queue, scratch, profile, windows, held, i)
        elif leads == 0 or planned:
            if req.shapes[MEMBERS, shape] > 0:
                try_bundle(cluster, req, timeline, queue, scratch, profile, held, i)
            elif queue.jobs[J_TIME_MIN, row] > 0:
                try_shortened(cluster, req, timeline, queue, scratch, profile, i)
            else:
                try_now(cluster, req, timeline, queue, scratch, profile, i)
            if leads > 0:
                lead(cluster, req, timeline, queue, scratch, profile, windows, held, i)
        else:
            records[V_CODE, i] = NOT_REACHED
        if records[V_CODE, i] != STARTED:
            for option in range(parts.shape[1]):
                part = parts[shape, option]
                if part >= 0:
                    scratch.options[AHEAD, part] += 1
    return int(counters[STARTS])
