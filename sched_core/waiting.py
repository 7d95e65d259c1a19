"""A record that does not start: whether it may become a head, and what is said of it."""

from __future__ import annotations

from sched_core.jit import entry, inlined, kernel
from sched_core.licencecheck import licence_start, licensed, short_of
from sched_core.verdict import LICENSES, PRIORITY, RESOURCES
from sched_core.views import (
    CODE,
    FAIL_FROM,
    FAR,
    J_DEADLINE,
    J_SHAPE,
    NO_HEAD,
    SETTLED,
    STATE,
    V_CODE,
    V_SHORT,
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


@entry
def may_lead(req: Requests, queue: Queue, scratch: Scratch, shape: int, now: int) -> bool:
    """Whether a job of a shape that does not fit could be a partition's head. O(partitions).

    Not one that wants more licences than there are.
    """
    if req.shapes[NO_HEAD, shape] != 0 or open_options(req, scratch, shape) == 0:
        return False
    return not licensed(queue, shape) or licence_start(queue, shape, now, 1, now, 1) < FAR


@inlined
def say_licences(req: Requests, queue: Queue, shape: int, i: int) -> None:
    """If it is licences that record `i` lacks now, its verdict says so and which. O(licences)."""
    lacking = short_of(queue, shape)
    if lacking >= 0 and req.shapes[CODE, shape] == 0:
        queue.records[V_CODE, i] = LICENSES
        queue.records[V_SHORT, i] = lacking


@entry
def wait(req: Requests, queue: Queue, scratch: Scratch, i: int, closed: int) -> None:
    """Write why record `i` waits, whose shape does not fit. O(partitions).

    It is for resources if it is the first of a partition that could run there; behind such a one it
    waits for its turn, whether or not it would fit. `closed`: partitions of which it has just become
    the first; its promise is in `planned`, if it got any.
    """
    shapes = req.shapes
    parts = req.parts
    counters = scratch.counters
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
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
    if licensed(queue, shape):
        say_licences(req, queue, shape, i)
    elif (
        not first and queue.jobs[J_DEADLINE, row] >= FAR
    ):  # all its partitions have someone waiting, and will until the pass ends
        shapes[SETTLED, shape] = PRIORITY
