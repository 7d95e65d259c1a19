"""Taking what a chosen gang needs of its nodes, now; and what is learned where none is found."""

from __future__ import annotations

from sched_core.fit import fill_amount, fill_room
from sched_core.jit import inlined
from sched_core.views import (
    AMOUNT,
    FAIL_FROM,
    FREE,
    HEAD_TIME,
    HEADS,
    HOLD_START,
    NTASKS,
    PICK_NODE,
    PICK_TASKS,
    ROOM,
    ROW_NODE,
    ROW_RELEASE,
    ROW_TASKS,
    ROWS,
    SPARE,
    TASKS_EACH,
    Cluster,
    Requests,
    Scratch,
    Timeline,
)


@inlined
def take_gang(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    shape: int,
    size: int,
    now: int,
    end: int,
) -> None:
    """Take the amounts of the chosen gang, write its rows. O(nodes of the gang x R²).

    Invariant: FREE and, beyond a promise, SPARE stay at least 0 in every dimension taken.
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    dims = cluster.dims
    shapes = req.shapes
    rows = timeline.rows
    row_amount = timeline.row_amount
    at = scratch.counters[ROWS]
    for i in range(size):
        node = nodes[PICK_NODE, i]
        beyond = end > nodes[HOLD_START, node]
        fill_room(amounts, dims, node, beyond)
        fill_amount(cluster, req, shape, node, nodes[PICK_TASKS, i], ROOM)
        for r in range(amounts.shape[2]):
            amounts[FREE, node, r] -= dims[AMOUNT, r]
            row_amount[at, r] = dims[AMOUNT, r]
            if beyond:
                amounts[SPARE, node, r] -= dims[AMOUNT, r]
        rows[ROW_NODE, at] = node
        rows[ROW_RELEASE, at] = max(end, now + 1)
        rows[ROW_TASKS, at] = (
            nodes[PICK_TASKS, i] if shapes[NTASKS, shape] > 0 else shapes[TASKS_EACH, shape]
        )
        at += 1
    scratch.counters[ROWS] = at


@inlined
def remember(req: Requests, scratch: Scratch, shape: int, now: int, end: int) -> None:
    """Note that a shape failed for jobs that end at `end`, for the promises that begin before then.

    So does every job of it that runs beyond the last of these. O(heads).
    """
    shapes = req.shapes
    counters = scratch.counters
    heads = scratch.heads
    last = now
    for head in range(counters[HEADS]):
        if heads[HEAD_TIME, head] < end:
            last = max(last, heads[HEAD_TIME, head])
    shapes[FAIL_FROM, shape] = min(shapes[FAIL_FROM, shape], last - now + 1)
