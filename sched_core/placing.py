"""Starting a gang: find its nodes, take its amounts there, write it down."""

from __future__ import annotations

from sched_core.fit import choose, gather
from sched_core.jit import inlined, kernel
from sched_core.preference import arrange
from sched_core.taking import remember, take_gang
from sched_core.views import (
    CHOICE,
    FAIL_FROM,
    FAR,
    FREE,
    HIGH,
    PER_NODE,
    ROW_NODE,
    ROW_RELEASE,
    ROW_TASKS,
    ROWS,
    START_END,
    START_PART,
    START_RECORD,
    STARTS,
    STATE,
    TASKS_EACH,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)


@inlined
def commit(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    shape: int,
    part: int,
    row: int,
    size: int,
    now: int,
    end: int,
) -> None:
    """Place the chosen gang: take its amounts, write its rows. As `take_gang`."""
    starts = queue.starts
    counters = scratch.counters
    start = counters[STARTS]
    take_gang(cluster, req, timeline, scratch, shape, size, now, end)
    starts[START_RECORD, start] = row
    starts[START_PART, start] = part
    starts[START_END, start + 1] = counters[ROWS]
    counters[STARTS] = start + 1


@inlined
def commit_simple(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    shape: int,
    row: int,
    node: int,
    end: int,
) -> None:
    """What `commit` comes to for a SIMPLE and PLAIN shape on a node without a promise. O(R)."""
    amounts = cluster.amounts
    shapes = req.shapes
    rows = timeline.rows
    counters = scratch.counters
    start, at = counters[STARTS], counters[ROWS]
    for r in range(amounts.shape[2]):
        need = req.needs[PER_NODE, shape, r]
        amounts[FREE, node, r] -= need
        timeline.row_amount[at, r] = need
    rows[ROW_NODE, at] = node
    rows[ROW_RELEASE, at] = end
    rows[ROW_TASKS, at] = shapes[TASKS_EACH, shape]
    queue.starts[START_RECORD, start] = row
    queue.starts[START_PART, start] = req.parts[shape, 0]
    queue.starts[START_END, start + 1] = at + 1
    counters[STARTS] = start + 1
    counters[ROWS] = at + 1


@kernel
def start_gang(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    shape: int,
    row: int,
    now: int,
    end: int,
    fifo: bool,
    lack: int,
) -> bool:
    """Start one gang in the first of its places where it fits, if there is one.

    `lack`: when its licences are short, FAR: never; then it does not start. If it does not, FAIL_FROM
    says what fails with it. O(places x nodes x R + heads).
    """
    places = req.places
    options = scratch.options
    span = options.shape[1]
    most = req.shapes[HIGH, shape]
    first = int(lack < FAR)
    for alone in range(first, 2):  # then as if no promise and no blocked head stood in its way
        until = end if alone == 0 else 0
        for option in range(places.shape[1]):
            part = places[shape, option]
            if part < 0 or (alone == 0 and fifo and options[STATE, part % span] > 0):
                continue
            heed = alone == 0 or not fifo  # nothing is blocked but under FIFO: cursors still tell
            found = gather(cluster, req, scratch, shape, part, until, heed)
            if alone == 0 and options[CHOICE, part % span] > 0:
                arrange(cluster, req, scratch, shape, found, options[CHOICE, part % span])
            size = choose(cluster, req, scratch, shape, found, most)
            if size > 0 and alone == 0:
                commit(cluster, req, timeline, queue, scratch, shape, part, row, size, now, end)
                return True
            if size > 0 and lack < FAR:
                req.shapes[FAIL_FROM, shape] = min(req.shapes[FAIL_FROM, shape], lack - now + 1)
                return False
            if size > 0:
                remember(req, scratch, shape, now, end)
                return False
    req.shapes[FAIL_FROM, shape] = 0
    return False
