"""Conservative backfilling on one pool of processors: a planned start for every job.

Compressing (Feitelson and Weil 1998; Mu'alem and Feitelson 2001): a job is planned into the
earliest hole when it is submitted; after ends, the waiting jobs are one by one, in order of
submission, planned anew, which only ever moves them earlier. Re-planning: after ends all plans are
dropped and made anew in order of submission, and so may move later. Jobs start when planned.
Batch semantics: at one instant first all ends, then all submissions, then the starts.
"""

from __future__ import annotations

from sched_core.jit import entry, inlined, kernel
from sched_core.pool_profile import add_level, clear_profile, earliest_hole, forget_past
from sched_core.pool_running import begin_job, enqueue, finish_job, next_event, pop_ended
from sched_core.pool_views import (
    ARRIVED,
    BY_ORDER,
    ESTIMATE,
    FIRST,
    LAST,
    NEVER,
    NEXT_PLANNED,
    PLANNED,
    PROCS,
    RELEASE,
    RELEASED,
    RUNNING,
    START,
    STOP,
    SUBMIT,
    UNSETTLED,
    Pool,
)


@kernel
def plan_job(pool: Pool, job: int, now: int) -> None:
    """Plan a job into its earliest hole. O(segments)."""
    jobs = pool.jobs
    size, duration = jobs[PROCS, job], jobs[ESTIMATE, job]
    when = earliest_hole(pool, now, NEVER, size, duration)
    add_level(pool, when, when + duration, -size)
    jobs[PLANNED, job] = when


@inlined
def compress(pool: Pool, now: int) -> None:
    """Move every waiting job, first submitted first, to its earliest hole; counts those moved.

    Invariant: no planned start becomes later. O(waiting x segments before their starts).
    """
    jobs = pool.jobs
    counters = pool.counters
    moved = 0
    for at in range(counters[FIRST], counters[LAST]):
        job = pool.queue[BY_ORDER, at]
        planned = jobs[PLANNED, job]
        size, duration = jobs[PROCS, job], jobs[ESTIMATE, job]
        when = earliest_hole(pool, now, planned, size, duration)
        if when < planned:
            add_level(pool, planned, planned + duration, size)
            add_level(pool, when, when + duration, -size)
            jobs[PLANNED, job] = when
            moved += 1
    counters[UNSETTLED] = moved


@inlined
def replan(pool: Pool, now: int, processors: int) -> None:
    """Plan all waiting jobs anew, around the running ones. O(waiting x segments)."""
    running = pool.running
    counters = pool.counters
    clear_profile(pool, now, processors)
    for at in range(counters[RUNNING]):
        add_level(pool, now, running[RELEASE, at], -running[RELEASED, at])
    for at in range(counters[FIRST], counters[LAST]):
        plan_job(pool, pool.queue[BY_ORDER, at], now)


@inlined
def start_planned(pool: Pool, now: int) -> None:
    """Start the jobs planned for `now`, close the gaps, find NEXT_PLANNED. O(waiting)."""
    jobs = pool.jobs
    queue = pool.queue
    counters = pool.counters
    kept = counters[FIRST]
    upcoming = NEVER
    for at in range(counters[FIRST], counters[LAST]):
        job = queue[BY_ORDER, at]
        if jobs[PLANNED, job] == now:
            begin_job(pool, job, now)
        else:
            upcoming = min(upcoming, jobs[PLANNED, job])
            queue[BY_ORDER, kept] = job
            kept += 1
    counters[LAST] = kept
    counters[NEXT_PLANNED] = upcoming


@entry
def replay_planned(pool: Pool, replanning: int, processors: int) -> int:
    """Replay a workload to its end, or until STOP is set; gives the last instant.

    Every RUN is at most its ESTIMATE. Plans are left alone while they cannot change: where nothing
    ended before its estimate, every job is still in its earliest hole, unless the last compression
    moved jobs, whose old holes others ahead of them may use now. O(ends x waiting x segments).
    """
    jobs = pool.jobs
    counters = pool.counters
    clear_profile(pool, 0, processors)
    counters[NEXT_PLANNED] = NEVER
    now = 0
    while pool.control[STOP] == 0:
        when = min(next_event(pool), counters[NEXT_PLANNED])
        if when == NEVER:
            break
        now = when
        forget_past(pool, now)
        ended, early = 0, 0
        job = pop_ended(pool, now)
        while job >= 0:
            finish_job(pool, job)
            ended += 1
            release = jobs[START, job] + jobs[ESTIMATE, job]
            if release > now:
                early += 1
                add_level(pool, now, release, jobs[PROCS, job])
            job = pop_ended(pool, now)
        if replanning == 1 and early > 0:
            replan(pool, now, processors)
        elif replanning == 0 and (early > 0 or (ended > 0 and counters[UNSETTLED] > 0)):
            compress(pool, now)
        while counters[ARRIVED] < jobs.shape[1] and jobs[SUBMIT, counters[ARRIVED]] <= now:
            job = counters[ARRIVED]
            enqueue(pool, job)
            plan_job(pool, job, now)
            counters[ARRIVED] += 1
        start_planned(pool, now)
    return now
