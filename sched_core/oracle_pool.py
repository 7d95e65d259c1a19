"""The textbook on one pool of processors, for tests. Imports nothing of this package.

Batch semantics: at each instant all ends, then all submissions, then one pass. The conservative
policies are in `oracle_pool_conservative`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class PoolJob:
    """A job of a pool workload: seconds and processors."""

    submit: int
    processors: int
    estimate: int
    runtime: int


def pool_schedule(
    jobs: list[PoolJob], processors: int, policy: str, order: str = "fcfs", depth: int = 0
) -> list[int]:
    """`fcfs`, `easy` or `easy-sjbf` on one pool; start of each job, in the given order.

    A job past its estimate is taken to end at now + 1 (Mu'alem and Feitelson 2001; Lifka 1995).
    `depth`: jobs of the queue that a pass looks at, 0: all.
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
        seen = sorted(queue, key=lambda i: (score(jobs[i], order, now), jobs[i].submit, i))
        seen = seen[:depth] if depth else seen
        for i in pool_pass(jobs, seen, running, starts, processors, now, policy):
            starts[i] = now
            queue.remove(i)
            running.append(i)
    return starts


def score(job: PoolJob, order: str, now: int) -> float:
    """Place in the queue, lowest first; ties fall to submission. The formulas are in `orders`."""
    n, r, wait = job.processors, job.estimate, now - job.submit
    if order == "sjf":
        return r
    if order == "ljf":
        return -r
    if order == "saf":
        return r * n
    if order == "f1":
        return math.log10(r) * n + 870.0 * math.log10(max(job.submit, 1))
    if order == "wfp3":
        return -(wait / r) * (wait / r) * (wait / r) * n
    if order == "unicep" and n == 1:
        return -math.inf if wait else 0
    if order == "unicep":
        return -wait / (round(math.log2(n) * (1 << 20)) * r)
    return job.submit


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
    if not rest or policy == "fcfs":
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
    if policy == "easy-sjbf":
        rest.sort(key=lambda i: jobs[i].estimate)
    for i in rest:
        size, late = jobs[i].processors, now + jobs[i].estimate > shadow
        if size <= free and (not late or size <= extra):
            begun.append(i)
            free -= size
            extra -= size * late
    return begun
