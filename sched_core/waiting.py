"""A record that does not start: whether it may become a head, and what is said of it."""

from __future__ import annotations

from sched_core.jit import kernel
from sched_core.verdict import PRIORITY, RESOURCES
from sched_core.views import (
    FAIL_FROM,
    J_SHAPE,
    NO_HEAD,
    SETTLED,
    STATE,
    V_CODE,
    WAITERS,
    WAITING,
    Queue,
    Requests,
    Scratch,
)


@kernel
def open_options(req: Requests, scratch: Scratch, shape: int) -> int:
    """Partitions of a shape in which nobody waits yet. O(partitions)."""
    parts = req.parts
    count = 0
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part >= 0 and scratch.options[STATE, part] == 0:
            count += 1
    return count


@kernel
def may_lead(req: Requests, scratch: Scratch, shape: int) -> bool:
    """Whether a job of a shape that does not fit could be a partition's head. O(partitions)."""
    return bool(req.shapes[NO_HEAD, shape] == 0) and open_options(req, scratch, shape) > 0


@kernel
def wait(req: Requests, queue: Queue, scratch: Scratch, i: int, closed: int) -> None:
    """Write why record `i` waits, whose shape does not fit. O(partitions).

    It is for resources if it is the first of a partition that could run there; behind such a one it
    waits for its turn, whether or not it would fit. `closed`: partitions of which it has just become
    the first; its promise is in `planned`, if it got any.
    """
    shapes = req.shapes
    parts = req.parts
    counters = scratch.counters
    shape = queue.jobs[J_SHAPE, queue.order[i]]
    promised = queue.planned[i] >= 0
    behind = -closed
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part >= 0 and scratch.options[STATE, part] != 0:
            behind += 1
    if not promised and shapes[WAITING, shape] == 0:
        shapes[WAITING, shape] = 1
        req.waiting[counters[WAITERS]] = shape
        counters[WAITERS] += 1
    first = closed > 0 or behind == 0
    leads = promised or (first and shapes[FAIL_FROM, shape] == 0)
    queue.records[V_CODE, i] = RESOURCES if leads else PRIORITY
    if not first:  # all its partitions have someone waiting, and will until the pass ends
        shapes[SETTLED, shape] = PRIORITY
