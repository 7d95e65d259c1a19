"""The end of a pass: the numbers of every verdict, and planned starts where none was promised."""

from __future__ import annotations

from sched_core.jit import inlined
from sched_core.survey import recount
from sched_core.timeline import earliest, sort_starts
from sched_core.verdict import NEVER, PRIORITY, RESOURCES, STARTED
from sched_core.views import (
    CODE,
    EARLIEST,
    FAIL_FROM,
    FAR,
    FITTING_NODES,
    FITTING_NOW,
    J_SHAPE,
    MATCHING,
    PROMISE,
    ROW_NODE,
    ROWS,
    SHORT,
    STEPS,
    USABLE,
    V_CODE,
    V_FITTING,
    V_MATCHING,
    V_PLANNED,
    V_SHORT,
    V_USABLE,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)

LATEST = 1 << 40
"""Planned starts from here on hang on a job without a limit: they are reported as unknown."""


@inlined
def count_left(cluster: Cluster, req: Requests, timeline: Timeline, scratch: Scratch) -> None:
    """Fill FITTING_NOW, and SHORT of shapes that fit empty nodes, as the starts leave things.

    O(nodes placed on x suited shapes x R + shapes x R).
    """
    shapes = req.shapes
    fitting = req.fitting
    for i in range(scratch.counters[ROWS]):
        recount(cluster, req, timeline.rows[ROW_NODE, i])
    for shape in range(shapes.shape[1]):
        shapes[FITTING_NOW, shape] = fitting[shape, FITTING_NODES]
        if shapes[CODE, shape] == NEVER:
            continue
        shapes[SHORT, shape] = -1
        most = 0
        for r in range(1, fitting.shape[1]):
            if fitting[shape, r] > most:
                most = fitting[shape, r]
                shapes[SHORT, shape] = r - 1


@inlined
def estimate(
    cluster: Cluster, req: Requests, timeline: Timeline, scratch: Scratch, shape: int, now: int
) -> None:
    """Fill EARLIEST: first possible start of a shape after this pass, other pending jobs aside."""
    shapes = req.shapes
    parts = req.parts
    best = FAR
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part >= 0:
            when = earliest(cluster, req, timeline, scratch, shape, part, False, now)
            best = min(best, when)
    shapes[EARLIEST, shape] = best


@inlined
def planned_start(req: Requests, scratch: Scratch, shape: int, fits: bool) -> int:
    """When a record is expected to start that was promised nothing. O(partitions).

    One that fits and is behind a head goes no earlier than the head: the later of its own earliest
    start and the first promise made in its partitions. One that does not fit may be backfilled
    sooner, when something is released.
    """
    parts = req.parts
    options = scratch.options
    when, ahead = max(req.shapes[EARLIEST, shape], -1), FAR
    if not fits:
        return int(when)
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part >= 0:
            ahead = min(ahead, options[PROMISE, part])
    return int(max(when, ahead) if ahead < FAR else when)


@inlined
def finish(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    now: int,
    budget: int,
) -> None:
    """Write every record's numbers and planned start. O(records + estimates in budget)."""
    shapes = req.shapes
    order = queue.order
    jobs = queue.jobs
    records = queue.records
    counters = scratch.counters
    sort_starts(timeline, counters[ROWS])
    count_left(cluster, req, timeline, scratch)
    counters[STEPS] = 0
    for i in range(records.shape[1]):
        shape = jobs[J_SHAPE, order[i]]
        code = records[V_CODE, i]
        records[V_MATCHING, i] = shapes[MATCHING, shape]
        records[V_USABLE, i] = shapes[USABLE, shape]
        records[V_FITTING, i] = shapes[FITTING_NOW, shape]
        if code == STARTED:
            records[V_PLANNED, i] = now
        elif code in (RESOURCES, PRIORITY):
            fits = code == PRIORITY and shapes[FAIL_FROM, shape] > 0
            if not fits:
                records[V_SHORT, i] = shapes[SHORT, shape]
            if records[V_PLANNED, i] < 0:
                if shapes[EARLIEST, shape] < 0 and counters[STEPS] < budget:
                    estimate(cluster, req, timeline, scratch, shape, now)
                records[V_PLANNED, i] = planned_start(req, scratch, shape, fits)
            if records[V_PLANNED, i] >= LATEST:
                records[V_PLANNED, i] = -1
        elif code == shapes[CODE, shape]:
            records[V_SHORT, i] = shapes[SHORT, shape]
