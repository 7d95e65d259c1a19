"""Running and waiting jobs of one pool: the kernels that keep them in order."""

from __future__ import annotations

from sched_core.jit import kernel
from sched_core.pool_views import (
    ARRIVED,
    BY_ESTIMATE,
    BY_ORDER,
    ESTIMATE,
    FIRST,
    FREE,
    HEAP,
    HEAP_END,
    HEAP_JOB,
    HOLDER,
    LAST,
    NEVER,
    PROCS,
    RANK,
    RELEASE,
    RELEASED,
    RUN,
    RUNNING,
    SORTED,
    START,
    STARTED,
    SUBMIT,
    Pool,
)


@kernel
def next_event(pool: Pool) -> int:
    """Instant of the next real end or submission; NEVER if there is none. O(1)."""
    when = NEVER
    if pool.counters[HEAP] > 0:
        when = pool.running[HEAP_END, 0]
    if pool.counters[ARRIVED] < pool.jobs.shape[1]:
        when = min(when, pool.jobs[SUBMIT, pool.counters[ARRIVED]])
    return when


@kernel
def push_end(pool: Pool, job: int, end: int) -> None:
    """Note when a job really ends. Invariant: no parent in the heap ends after its child. O(log)"""
    heap = pool.running
    at = pool.counters[HEAP]
    pool.counters[HEAP] = at + 1
    while at > 0 and heap[HEAP_END, (at - 1) // 2] > end:
        heap[HEAP_END, at] = heap[HEAP_END, (at - 1) // 2]
        heap[HEAP_JOB, at] = heap[HEAP_JOB, (at - 1) // 2]
        at = (at - 1) // 2
    heap[HEAP_END, at] = end
    heap[HEAP_JOB, at] = job


@kernel
def pop_ended(pool: Pool, now: int) -> int:
    """Take a job that has ended by `now` from the heap; -1 if there is none. O(log running)."""
    heap = pool.running
    if pool.counters[HEAP] == 0 or heap[HEAP_END, 0] > now:
        return -1
    job = heap[HEAP_JOB, 0]
    last = pool.counters[HEAP] - 1
    pool.counters[HEAP] = last
    end = heap[HEAP_END, last]
    at, child = 0, 1
    while child < last:
        if child + 1 < last and heap[HEAP_END, child + 1] < heap[HEAP_END, child]:
            child += 1
        if heap[HEAP_END, child] >= end:
            break
        heap[HEAP_END, at] = heap[HEAP_END, child]
        heap[HEAP_JOB, at] = heap[HEAP_JOB, child]
        at, child = child, 2 * child + 1
    heap[HEAP_END, at] = end
    heap[HEAP_JOB, at] = heap[HEAP_JOB, last]
    return int(job)


@kernel
def begin_job(pool: Pool, job: int, now: int) -> None:
    """A job starts: it holds its processors, in order of estimated release. O(running)."""
    jobs = pool.jobs
    running = pool.running
    counters = pool.counters
    jobs[START, job] = now
    counters[FREE] -= jobs[PROCS, job]
    push_end(pool, job, now + jobs[RUN, job])
    release = now + jobs[ESTIMATE, job]
    at = counters[RUNNING]
    while at > 0 and running[RELEASE, at - 1] > release:
        running[RELEASE, at] = running[RELEASE, at - 1]
        running[RELEASED, at] = running[RELEASED, at - 1]
        running[HOLDER, at] = running[HOLDER, at - 1]
        at -= 1
    running[RELEASE, at] = release
    running[RELEASED, at] = jobs[PROCS, job]
    running[HOLDER, at] = job
    counters[RUNNING] += 1
    pool.control[STARTED] += 1


@kernel
def finish_job(pool: Pool, job: int) -> None:
    """A job ended: its processors are free, once. O(running)."""
    jobs = pool.jobs
    running = pool.running
    counters = pool.counters
    counters[FREE] += jobs[PROCS, job]
    release = jobs[START, job] + jobs[ESTIMATE, job]
    low, high = 0, counters[RUNNING]
    while low < high:
        middle = (low + high) // 2
        if running[RELEASE, middle] < release:
            low = middle + 1
        else:
            high = middle
    while running[HOLDER, low] != job:
        low += 1
    counters[RUNNING] -= 1
    for at in range(low, counters[RUNNING]):
        running[RELEASE, at] = running[RELEASE, at + 1]
        running[RELEASED, at] = running[RELEASED, at + 1]
        running[HOLDER, at] = running[HOLDER, at + 1]


@kernel
def enqueue(pool: Pool, job: int) -> None:
    """A job joins the queue at the place of its RANK. O(jobs of a higher rank)."""
    rank = pool.jobs[RANK, job]
    at = pool.counters[LAST]
    while at > pool.counters[FIRST] and pool.jobs[RANK, pool.queue[BY_ORDER, at - 1]] > rank:
        pool.queue[BY_ORDER, at] = pool.queue[BY_ORDER, at - 1]
        at -= 1
    pool.queue[BY_ORDER, at] = job
    pool.counters[LAST] += 1


@kernel
def enqueue_by_estimate(pool: Pool, job: int) -> None:
    """A job joins the candidates of EASY-SJBF: by estimate, ties in queue order. O(candidates)."""
    jobs = pool.jobs
    at = pool.counters[SORTED]
    while at > 0:
        other = pool.queue[BY_ESTIMATE, at - 1]
        if jobs[ESTIMATE, other] < jobs[ESTIMATE, job] or (
            jobs[ESTIMATE, other] == jobs[ESTIMATE, job] and jobs[RANK, other] < jobs[RANK, job]
        ):
            break
        pool.queue[BY_ESTIMATE, at] = other
        at -= 1
    pool.queue[BY_ESTIMATE, at] = job
    pool.counters[SORTED] += 1
