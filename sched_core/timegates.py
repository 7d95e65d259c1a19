"""Deadlines and least time limits: how long a record may be given, and whether it ends in time.

A record may have a deadline, by which it has to have ended, and a least time limit (`--time-min`):
it may then be started with any limit from that up to its own, if that lets it start now. Both are
looked at only for records that are not plain.
"""

from __future__ import annotations

from sched_core.jit import inlined
from sched_core.views import (
    FAIL_FROM,
    FAR,
    J_BEGIN,
    J_DEADLINE,
    J_DURATION,
    J_PLAIN,
    J_TIME_MIN,
    Queue,
    Requests,
)


@inlined
def least_limit(queue: Queue, row: int) -> int:
    """The shortest time limit a record may be started with (s). O(1)."""
    least, most = queue.jobs[J_TIME_MIN, row], queue.jobs[J_DURATION, row]
    return int(least if 0 < least < most else most)


@inlined
def is_too_late(queue: Queue, row: int, now: int) -> bool:
    """Whether a record cannot end by its deadline any more, were it to start at once. O(1)."""
    start = max(queue.jobs[J_BEGIN, row], now)
    return bool(start + least_limit(queue, row) > queue.jobs[J_DEADLINE, row])


@inlined
def longest_limit(queue: Queue, row: int, now: int) -> int:
    """The longest time limit a record may be started with now: its own, or until its deadline. O(1).

    At least `least_limit`, where the record is not too late.
    """
    if queue.jobs[J_PLAIN, row]:
        return int(queue.jobs[J_DURATION, row])
    return int(min(queue.jobs[J_DURATION, row], queue.jobs[J_DEADLINE, row] - now))


@inlined
def latest_start(queue: Queue, row: int) -> int:
    """The last instant from which the least limit still ends by the deadline. O(1)."""
    if queue.jobs[J_PLAIN, row] or queue.jobs[J_DEADLINE, row] >= FAR:
        return FAR
    return int(queue.jobs[J_DEADLINE, row] - least_limit(queue, row))


@inlined
def shorter_limit(req: Requests, queue: Queue, shape: int, row: int) -> int:
    """The longest limit that may still do after one failed; 0: none. O(1).

    Invariant: all limits between the two fail as well, for FAIL_FROM says so.
    """
    if queue.jobs[J_PLAIN, row] or queue.jobs[J_TIME_MIN, row] == 0:
        return 0
    shorter = req.shapes[FAIL_FROM, shape] - 1
    return int(shorter) if shorter >= least_limit(queue, row) else 0
