"""The end of a pass: the numbers of every verdict, and planned starts where none was promised."""

from __future__ import annotations

from sched_core.columns import Matrix, Narrow, Vector
from sched_core.estimate import estimate
from sched_core.jit import entry, inlined
from sched_core.licence_heads import postpone
from sched_core.survey import every_shape, recount
from sched_core.verdict import (
    BEGIN_TIME,
    LICENSES,
    LIMIT,
    NEVER,
    NOT_REACHED,
    PRIORITY,
    RESOURCES,
    STARTED,
)
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
    TURN_PLANNED,
    TURN_SHORT,
    USABLE,
    V_CODE,
    V_FITTING,
    V_MATCHING,
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
def count_left(req: Requests) -> None:
    """Fill FITTING_NOW, and SHORT of shapes that fit empty nodes, from `fitting`. O(shapes x R)."""
    shapes = req.shapes
    fitting = req.fitting
    for shape in range(req.needs.shape[1]):
        shapes[FITTING_NOW, shape] = fitting[shape, FITTING_NODES]
        if shapes[CODE, shape] == NEVER:
            continue
        shapes[SHORT, shape] = -1
        most = 0
        for r in range(1, fitting.shape[1]):
            if fitting[shape, r] > most:
                most = fitting[shape, r]
                shapes[SHORT, shape] = r - 1


@entry
def summarise(req: Requests, scratch: Scratch) -> None:
    """Fill what is said of every record of a shape. O(shapes x (partitions + R)).

    Also the verdict of those that wait for their turn.

    One that fits and is behind a head goes no earlier than the head: the later of its own earliest
    start and the first promise made in its partitions. One that does not fit may be backfilled
    sooner, when something is released.
    """
    shapes = req.shapes
    parts = req.parts
    options = scratch.options
    count_left(req)
    for shape in range(req.needs.shape[1]):
        if shapes[EARLIEST, shape] >= LATEST:
            shapes[EARLIEST, shape] = -1
        fits = shapes[FAIL_FROM, shape] > 0
        ahead = -1
        for option in range(parts.shape[1]):
            part = parts[shape, option]
            if fits and part >= 0 and options[PROMISE, part] < FAR:
                when = options[PROMISE, part]
                ahead = when if ahead < 0 else min(ahead, when)
        when = max(shapes[EARLIEST, shape], ahead)
        shapes[TURN_SHORT, shape] = -1 if fits else shapes[SHORT, shape]
        shapes[TURN_PLANNED, shape] = -1 if when >= LATEST else when


@entry
def write_numbers(
    order: Vector,
    jobs: Matrix,
    records: Narrow,
    planned: Vector,
    shapes: Matrix,
    now: int,
    kept: int,
) -> None:
    """Complete every record's verdict from what is known of its shape. O(records).

    Of a head, `planned` is its promise already; of a record that may not begin yet, its begin; with
    `kept`, of any record what is planned for it, or -1; and V_SHORT is what the limit is on where
    there is one, or the licence that is short. Few arrays: see `passover`.
    """
    for i in range(records.shape[1]):
        shape = jobs[J_SHAPE, order[i]]
        code = records[V_CODE, i]
        records[V_MATCHING, i] = shapes[MATCHING, shape]
        records[V_USABLE, i] = shapes[USABLE, shape]
        records[V_FITTING, i] = shapes[FITTING_NOW, shape]
        short, when = -1, -1
        if code == PRIORITY:
            short, when = shapes[TURN_SHORT, shape], shapes[TURN_PLANNED, shape]
            if kept != 0 and planned[i] >= 0:
                when = planned[i]
        elif code == STARTED:
            when = now
        elif code == RESOURCES:
            short, when = shapes[SHORT, shape], planned[i]
            if when < 0:
                when = shapes[EARLIEST, shape]
        elif code == BEGIN_TIME or (kept != 0 and code == NOT_REACHED):
            when = planned[i]
        elif code == LIMIT:
            short = records[V_SHORT, i]
            if kept:
                when = planned[i]
        elif code == LICENSES:
            short, when = records[V_SHORT, i], planned[i]
            if when < 0:
                when = shapes[EARLIEST, shape]
        elif code == shapes[CODE, shape]:
            short = shapes[SHORT, shape]
        records[V_SHORT, i] = short
        planned[i] = -1 if when >= LATEST else when


def finish(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    now: int,
    budget: int,
    *,
    kept: bool,
) -> None:
    """Write every record's numbers and planned start. O(records + estimates in budget).

    Kernels of their own, called one by one: within another, each would be compiled again.
    """
    placed = timeline.rows[ROW_NODE, : scratch.counters[ROWS]]
    recount(cluster, req, placed, 1, every_shape(req))
    estimate(cluster, req, timeline, queue, scratch, now, budget)
    if queue.licence_blocks.shape[1] > 0:
        postpone(req, queue, scratch, now)
    summarise(req, scratch)
    records = (queue.order, queue.jobs, queue.records, queue.planned)
    write_numbers(*records, req.shapes, now, int(kept))
