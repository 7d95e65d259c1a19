"""The end of a pass: the numbers of every verdict, and planned starts where none was promised."""

from __future__ import annotations

from sched_core.jit import inlined
from sched_core.timeline import earliest, sort_starts
from sched_core.verdict import LIMIT, PRIORITY, RESOURCES, STARTED, survey
from sched_core.views import (
    EARLIEST,
    FAIL_FROM,
    FAR,
    FITTING_NOW,
    J_SHAPE,
    MATCHING,
    PROMISE,
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
def finish(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    now: int,
    budget: int,
) -> None:
    """Write every record's numbers and planned start. O(records + surveys + estimates in budget).

    A record that fits and is behind a head is planned no earlier than the head: the later of its
    own earliest start and the first promise made in its partitions. One that does not fit may be
    backfilled sooner, when something is released.
    """
    shapes = req.shapes
    parts = req.parts
    order = queue.order
    jobs = queue.jobs
    records = queue.records
    counters = scratch.counters
    options = scratch.options
    sort_starts(timeline, counters[ROWS])
    counters[STEPS] = 0
    for i in range(records.shape[1]):
        row = order[i]
        shape = jobs[J_SHAPE, row]
        code = survey(cluster, req, scratch, shape)
        records[V_MATCHING, i] = shapes[MATCHING, shape]
        records[V_USABLE, i] = shapes[USABLE, shape]
        records[V_FITTING, i] = shapes[FITTING_NOW, shape]
        if records[V_CODE, i] == STARTED:
            records[V_PLANNED, i] = now
            continue
        if records[V_CODE, i] == LIMIT:
            continue
        if code > 0 and (records[V_CODE, i] == RESOURCES or records[V_CODE, i] == PRIORITY):
            records[V_CODE, i] = code
        fits = records[V_CODE, i] == PRIORITY and shapes[FAIL_FROM, shape] > 0
        lacks = records[V_CODE, i] == RESOURCES or (records[V_CODE, i] == PRIORITY and not fits)
        if code > 0 or lacks:
            records[V_SHORT, i] = shapes[SHORT, shape]
        if records[V_PLANNED, i] >= 0 or code > 0:
            continue
        if records[V_CODE, i] == RESOURCES or records[V_CODE, i] == PRIORITY:
            if shapes[EARLIEST, shape] < 0 and counters[STEPS] < budget:
                estimate(cluster, req, timeline, scratch, shape, now)
            when = max(shapes[EARLIEST, shape], -1)
            ahead = FAR
            for option in range(parts.shape[1]):
                part = parts[shape, option]
                if part >= 0:
                    ahead = min(ahead, options[PROMISE, part])
            if ahead < FAR and fits:
                when = max(when, ahead)
            records[V_PLANNED, i] = when
    for i in range(records.shape[1]):
        if records[V_PLANNED, i] >= LATEST:
            records[V_PLANNED, i] = -1
