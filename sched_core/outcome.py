"""What becomes of a record in a conservative pass: it starts, or it waits and is told why."""

from __future__ import annotations

from sched_core.jit import kernel
from sched_core.licencecheck import licensed, short_of, take_licences
from sched_core.limitcheck import charge, over_limit
from sched_core.passover import gate_of
from sched_core.promises import occupy
from sched_core.verdict import LICENSES, LIMIT, PRIORITY, RESOURCES
from sched_core.views import (
    CODE,
    FAIL_FROM,
    FITTING_NODES,
    FREE,
    J_LIMIT,
    J_SHAPE,
    LOW,
    ROW_NODE,
    ROW_RELEASE,
    ROWS,
    START_END,
    START_PART,
    START_RECORD,
    STARTS,
    STATE,
    V_CODE,
    V_PLACED,
    V_SHORT,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.views_conservative import (
    NOW,
    Profile,
)


@kernel
def is_open(queue: Queue, i: int, now: int) -> bool:
    """Whether record `i` may start now, but for resources. O(1)."""
    return bool(gate_of(queue, queue.order[i], now) == 0)


@kernel
def is_over(queue: Queue, i: int) -> bool:
    """Whether a limit keeps a task of record `i` from starting; its verdict then says which. O(R).

    Limits count what runs: whether a later start would be within them nobody knows, so a record
    over a limit is promised nothing new, and blocks nobody.
    """
    row = queue.order[i]
    limit = queue.jobs[J_LIMIT, row]
    if limit < 0:
        return False
    over = over_limit(queue, queue.jobs[J_SHAPE, row], limit)
    if over >= 0:
        queue.records[V_CODE, i] = LIMIT
        queue.records[V_SHORT, i] = over - 1
    return bool(over >= 0)


@kernel
def start_gang(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    i: int,
    part: int,
    size: int,
    length: int,
) -> None:
    """Start the chosen gang of record `i` now, for `length` (s). O(nodes of the gang x segments x R²).

    Invariant: FREE and the profile stay at least 0 in every dimension taken.
    """
    rows = timeline.rows
    counters = scratch.counters
    row = queue.order[i]
    shape, now = queue.jobs[J_SHAPE, row], profile.state[NOW]
    end = now + length
    at, start = counters[ROWS], counters[STARTS]
    occupy(cluster, req, profile, rows, timeline.row_amount, at, shape, size, now, end)
    for k in range(at, at + size):
        rows[ROW_RELEASE, k] = end
        for r in range(cluster.amounts.shape[2]):
            cluster.amounts[FREE, rows[ROW_NODE, k], r] -= timeline.row_amount[k, r]
    queue.starts[START_RECORD, start] = row
    queue.starts[START_PART, start] = part
    queue.starts[START_END, start + 1] = at + size
    counters[STARTS] = start + 1
    counters[ROWS] = at + size
    queue.records[V_PLACED, i] += 1
    if queue.jobs[J_LIMIT, row] >= 0:
        charge(queue, shape, queue.jobs[J_LIMIT, row])
    if licensed(queue, shape):
        take_licences(queue, shape, now, end, 1)


@kernel
def explain(req: Requests, queue: Queue, scratch: Scratch, i: int) -> None:
    """Write the code of a record that waits: for licences, if it lacks some now; else the first one
    of a partition waits for resources.
    """
    shapes = req.shapes
    parts = req.parts
    options = scratch.options
    shape = queue.jobs[J_SHAPE, queue.order[i]]
    code = shapes[CODE, shape]
    if code > 0:
        shapes[FAIL_FROM, shape] = 0
        queue.records[V_CODE, i] = code
        return
    if req.fitting[shape, FITTING_NODES] < shapes[LOW, shape]:
        shapes[FAIL_FROM, shape] = 0
    first = False
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part >= 0:
            first |= options[STATE, part] == 0
            options[STATE, part] = 1
    queue.records[V_CODE, i] = RESOURCES if first else PRIORITY
    lacking = short_of(queue, shape) if licensed(queue, shape) else -1
    if lacking >= 0:
        queue.records[V_CODE, i] = LICENSES
        queue.records[V_SHORT, i] = lacking
