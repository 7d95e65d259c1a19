"""Conservative backfilling on one pool of processors by trying every instant, for tests.

Imports no kernel and no table. Every running job stands from its start to its estimated end, every
waiting one from its planned start for as long as its estimate; a hole is found by counting.
"""

from __future__ import annotations

from sched_core.oracle_pool import PoolJob

Interval = tuple[int, int, int]
"""Begin, end (exclusive), processors."""


def conservative_schedule(jobs: list[PoolJob], processors: int, *, replan: bool) -> list[int]:
    """Compressing or re-planning conservative backfilling; start of each job, in the given order.

    At each instant all ends, then plans move, then submissions in order, then what is planned for
    now starts. No job runs longer than its estimate.
    """
    starts = [-1] * len(jobs)
    planned: dict[int, int] = {}
    running: list[int] = []
    waiting = sorted(range(len(jobs)), key=lambda i: (jobs[i].submit, i))

    def interval(i: int, begin: int) -> Interval:
        return begin, begin + jobs[i].estimate, jobs[i].processors

    def hole(i: int, now: int) -> int:
        others = [interval(k, starts[k]) for k in running]
        others += [interval(k, begin) for k, begin in planned.items() if k != i]
        return earliest(others, processors, jobs[i], now)

    while waiting or running or planned:
        ends = [starts[i] + jobs[i].runtime for i in running]
        now = min([*ends, *planned.values(), *(jobs[i].submit for i in waiting[:1])])
        if replan:
            running = [i for i, end in zip(running, ends, strict=True) if end > now]
            queue, planned = list(planned), {}
            for i in queue:
                planned[i] = hole(i, now)
        elif min(ends, default=now + 1) <= now:
            running = [i for i, end in zip(running, ends, strict=True) if end > now]
            for i in planned:
                planned[i] = hole(i, now)
        while waiting and jobs[waiting[0]].submit <= now:
            i = waiting.pop(0)
            planned[i] = hole(i, now)
        for i in [i for i, begin in planned.items() if begin == now]:
            starts[i] = planned.pop(i)
            running.append(i)
    return starts


def earliest(others: list[Interval], processors: int, job: PoolJob, now: int) -> int:
    """First instant from `now` on at which a job fits beside the others until its estimated end."""
    for begin in sorted({now, *(end for _, end, _ in others if end > now)}):
        end = begin + job.estimate
        instants = [begin, *(first for first, _, _ in others if begin < first < end)]
        if all(
            sum(size for first, last, size in others if first <= t < last) + job.processors
            <= processors
            for t in instants
        ):
            return begin
    raise AssertionError("a job larger than the pool")
