"""Heterogeneous jobs: components that start at one instant, all of them or none.

Their kernels are apart, so that passes without such jobs are none the slower. A component is a
shape like any other; what is tried for one after the other is undone if one of them fails.
"""

from __future__ import annotations

from sched_core.bundle_fit import first_member, set_apart
from sched_core.fit import choose, gather
from sched_core.jit import entry
from sched_core.licencecheck import first_lack, take_licences
from sched_core.limitcheck import count, exceeded
from sched_core.preference import arrange
from sched_core.taking import take_gang
from sched_core.verdict import LIMIT, NOT_REACHED, STARTED
from sched_core.views import (
    APART,
    CHOICE,
    CURSOR,
    CURSOR_BEYOND,
    DEPTH,
    FAIL_FROM,
    FAR,
    FREE,
    HEAD_TIME,
    HEADS,
    HIGH,
    HOLD_START,
    J_COUNT,
    J_DEADLINE,
    J_DURATION,
    J_LIMIT,
    J_SHAPE,
    J_TIME_MIN,
    MEMBERS,
    NODES,
    ROW_COMPONENT,
    ROW_NODE,
    ROWS,
    SPARE,
    START_END,
    START_PART,
    START_RECORD,
    STARTS,
    STATE,
    V_CODE,
    V_PLACED,
    V_SHORT,
    WIDE,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)


@entry
def undo(cluster: Cluster, timeline: Timeline, scratch: Scratch, first: int, end: int) -> None:
    """Give back what rows from `first` on took for jobs that end at `end`. O(rows x R)."""
    amounts = cluster.amounts
    nodes = cluster.nodes
    rows = timeline.rows
    for k in range(first, scratch.counters[ROWS]):
        node = rows[ROW_NODE, k]
        rows[ROW_COMPONENT, k] = 0
        for r in range(amounts.shape[2]):
            amounts[FREE, node, r] += timeline.row_amount[k, r]
            if end > nodes[HOLD_START, node]:
                amounts[SPARE, node, r] += timeline.row_amount[k, r]
    scratch.counters[ROWS] = first


@entry
def place_together(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    shape: int,
    now: int,
    end: int,
    fifo: int,
    heed: int,
) -> int:
    """Place all components now; gives the place of the first one, or -1, and then nothing is taken.

    With `heed`, promises and blocked partitions and nodes are respected. Needs room for WIDE rows.
    What is free falls and rises again, so cursors begin anew. O(places x nodes x R) for each.
    """
    shapes = req.shapes
    places = req.places
    options = scratch.options
    counters = scratch.counters
    before, where = counters[ROWS], -1
    start = first_member(req, shape)
    for k in range(shapes[MEMBERS, shape]):
        member, size = req.listed[start + k], 0
        for option in range(places.shape[1]):
            place = places[member, option]
            if place < 0 or size > 0:
                break
            if fifo != 0 and options[STATE, place % options.shape[1]] > 0:
                continue
            set_apart(cluster, req, timeline, shape, before, counters[ROWS], 1)
            found = gather(cluster, req, scratch, member, place, end, heed != 0)
            choice = options[CHOICE, place % options.shape[1]]
            if heed != 0 and choice > 0:
                arrange(cluster, req, scratch, member, found, choice)
            size = choose(cluster, req, scratch, member, found, shapes[HIGH, member])
            if size > 0 and k == 0:
                where = place
        set_apart(cluster, req, timeline, shape, before, counters[ROWS], 0)
        if size == 0 or shapes[APART, shape]:
            for i in range(start, start + k + 1):
                shapes[CURSOR, req.listed[i]] = 0
                shapes[CURSOR_BEYOND, req.listed[i]] = 0
        if size == 0:
            undo(cluster, timeline, scratch, before, end)
            return -1
        take_gang(cluster, req, timeline, scratch, member, size, now, end)
        for i in range(counters[ROWS] - size, counters[ROWS]):
            timeline.rows[ROW_COMPONENT, i] = k
    return int(where)


def start_bundle(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    row: int,
    now: int,
    end: int,
    fifo: int,
    lack: int,
) -> bool:
    """Start all components of a record now, as one start, if they fit. As `placing.start_gang`."""
    shapes = req.shapes
    counters = scratch.counters
    shape, before = int(queue.jobs[J_SHAPE, row]), int(counters[ROWS])
    views_of = (cluster, req, timeline, scratch, shape, now)
    where = place_together(*views_of, end, fifo, 1) if lack == FAR else -1
    if where >= 0:
        start = counters[STARTS]
        queue.starts[START_RECORD, start] = row
        queue.starts[START_PART, start] = where
        queue.starts[START_END, start + 1] = counters[ROWS]
        counters[STARTS] = start + 1
        return True
    if place_together(*views_of, 0, 0, 0) < 0:
        shapes[FAIL_FROM, shape] = 0
        return False
    undo(cluster, timeline, scratch, before, 0)
    last = lack
    if lack == FAR:  # what was in its way are promises that begin before its end
        promised = scratch.heads[HEAD_TIME, : counters[HEADS]]
        last = int(promised[promised < end].max(initial=now))
    shapes[FAIL_FROM, shape] = min(int(shapes[FAIL_FROM, shape]), last - now + 1)
    return False


def start_bundles(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    i: int,
    now: int,
    fifo: int,
) -> bool:
    """As `backfill.start_tasks`, for a record of several components."""
    shapes = req.shapes
    records = queue.records
    counters = scratch.counters
    row = int(queue.order[i])
    jobs, shape, limit = queue.jobs[:, row], int(queue.jobs[J_SHAPE, row]), queue.jobs[J_LIMIT, row]
    views_of = (cluster, req, timeline, queue, scratch)
    wide = max(int(counters[NODES]), int(shapes[WIDE, shape]))
    while records[V_PLACED, i] < jobs[J_COUNT]:
        full = counters[STARTS] >= queue.starts.shape[1] - 1
        if full or timeline.rows.shape[1] - counters[ROWS] < wide:
            records[V_CODE, i] = NOT_REACHED
            counters[DEPTH] = 0
            return True
        over = exceeded(queue, shape, limit) if limit >= 0 else -1
        if over >= 0:
            records[V_CODE, i] = LIMIT
            records[V_SHORT, i] = over - 1
            return True
        known, started = shapes[FAIL_FROM, shape], False
        length = int(min(jobs[J_DURATION], jobs[J_DEADLINE] - now))
        while length > 0 and not started:
            if shapes[FAIL_FROM, shape] > length:
                lack = first_lack(queue, shape, now, now + length)
                started = start_bundle(*views_of, row, now, now + length, fifo, lack)
            if not started:
                shorter = int(shapes[FAIL_FROM, shape]) - 1
                length = shorter if 0 < jobs[J_TIME_MIN] <= shorter else 0
        if not started:
            return False
        shapes[FAIL_FROM, shape] = known  # what longer limits failed for was before this start
        records[V_PLACED, i] += 1
        if limit >= 0:
            count(queue, shape, limit)
        take_licences(queue, shape, now, now + length, 1)
    records[V_CODE, i] = STARTED
    return True
