"""The textbook on one pool of processors, for tests. Imports nothing of this package."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolJob:
    """A job of a pool workload: seconds and processors."""

    submit: int
    processors: int
    estimate: int
    runtime: int


def pool_schedule(jobs: list[PoolJob], processors: int, policy: str) -> list[int]:
    """Textbook FCFS (`fifo`) or EASY (`easy`) on one pool; start of each job, in the given order.

    Batch semantics: at each instant all ends, then all submissions, then one pass. A job past its
    estimate is taken to end at now + 1 (Mu'alem and Feitelson 2001; Lifka 1995).
    """
    starts = [-1] * len(jobs)
    queue: list[int] = []
    running: list[int] = []
    waiting = sorted(range(len(jobs)), key=lambda i: (jobs[i].submit, i))
    while waiting or running or queue:
        ends = [starts[i] + jobs[i].runtime for i in running]
        now = min([*ends, *(jobs[i].submit for i in waiting[:1])])
        running = [i for i, end in zip(running, ends, strict=True) if end > now]
        while waiting and jobs[waiting[0]].submit <= now:
            queue.append(waiting.pop(0))
        for i in pool_pass(jobs, queue, running, starts, processors, now, policy):
            starts[i] = now
            queue.remove(i)
            running.append(i)
    return starts


def pool_pass(
    jobs: list[PoolJob],
    queue: list[int],
    running: list[int],
    starts: list[int],
    processors: int,
    now: int,
    policy: str,
) -> list[int]:
    """Jobs of the queue that start now."""
    begun: list[int] = []
    free = processors - sum(jobs[i].processors for i in running)
    rest = list(queue)
    while rest and jobs[rest[0]].processors <= free:
        begun.append(rest.pop(0))
        free -= jobs[begun[-1]].processors
    if not rest or policy == "fifo":
        return begun
    head = rest.pop(0)
    ends = [(max(starts[i] + jobs[i].estimate, now + 1), jobs[i].processors) for i in running]
    ends += [(max(now + jobs[i].estimate, now + 1), jobs[i].processors) for i in begun]
    shadow, available = now, free
    for end in sorted({end for end, _ in ends}):
        shadow = end
        available = free + sum(size for when, size in ends if when <= end)
        if available >= jobs[head].processors:
            break
    extra = available - jobs[head].processors
    for i in rest:
        size, late = jobs[i].processors, now + jobs[i].estimate > shadow
        if size <= free and (not late or size <= extra):
            begun.append(i)
            free -= size
            extra -= size * late
    return begun
