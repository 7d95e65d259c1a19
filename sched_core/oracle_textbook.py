"""Textbook conservative backfilling on one pool of processors, for tests.

Imports nothing of this package but the job of `oracle_pool`.
"""

from __future__ import annotations

from sched_core.oracle_pool import PoolJob

Booking = tuple[int, int, int]
"""Start, end, processors."""


def earliest_hole(bookings: list[Booking], processors: int, job: PoolJob, now: int) -> int:
    """First instant from `now` on at which a job fits beside all bookings for all its estimate."""
    for start in sorted({now, *(end for _, end, _ in bookings if end > now)}):
        end = start + job.estimate
        starts = {start, *(begin for begin, _, _ in bookings if start < begin < end)}
        if all(
            sum(size for begin, stop, size in bookings if begin <= instant < stop)
            <= processors - job.processors
            for instant in starts
        ):
            return start
    raise AssertionError("a job wider than the pool")


def conservative_schedule(jobs: list[PoolJob], processors: int, compress: bool) -> list[int]:
    """Conservative backfilling (Feitelson and Weil 1998); start of each job, in the given order.

    Batch semantics: at each instant all ends, then all submissions, then one pass. A job that
    arrives gets its earliest hole. With `compress`, whenever jobs have ended, those that wait are
    one by one taken out and re-inserted at their earliest hole, in queue order; without, all are
    dropped and inserted anew. A job past its estimate is taken to end at now + 1.
    """
    starts = [-1] * len(jobs)
    promised: dict[int, int] = {}
    running: list[int] = []
    waiting = sorted(range(len(jobs)), key=lambda i: (jobs[i].submit, i))
    while waiting or running or promised:
        ends = [starts[i] + jobs[i].runtime for i in running]
        now = min([*ends, *promised.values(), *(jobs[i].submit for i in waiting[:1])])
        ended = any(end <= now for end in ends)
        running = [i for i, end in zip(running, ends, strict=True) if end > now]
        queue = list(promised)
        while waiting and jobs[waiting[0]].submit <= now:
            queue.append(waiting.pop(0))
        if not compress:
            promised.clear()
        busy = [
            (now, max(starts[i] + jobs[i].estimate, now + 1), jobs[i].processors) for i in running
        ]
        for i in queue:
            if i in promised and not ended:
                continue
            others = [
                (start, start + jobs[k].estimate, jobs[k].processors)
                for k, start in promised.items()
                if k != i
            ]
            promised[i] = earliest_hole([*busy, *others], processors, jobs[i], now)
        for i in [i for i in queue if promised[i] == now]:
            del promised[i]
            starts[i] = now
            running.append(i)
    return starts
