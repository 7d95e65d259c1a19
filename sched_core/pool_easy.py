"""FCFS, EASY and EASY-SJBF on one pool of processors: a whole replay is one kernel call.

Batch semantics: at one instant first all ends, then all submissions, then one pass. EASY (Lifka
1995; Mu'alem and Feitelson 2001): jobs start in queue order while they fit; the first that does not
is the head, and gets the only reservation at its shadow time; others may start now if they end by
then, equality allowed, or take no more than the extra processors. EASY-SJBF (Tsafrir, Etsion and
Feitelson 2007) tries these others shortest estimate first.
"""

from __future__ import annotations

from sched_core.jit import entry, inlined, kernel
from sched_core.pool_running import (
    begin_job,
    enqueue,
    enqueue_by_estimate,
    finish_job,
    next_event,
    pop_ended,
)
from sched_core.pool_views import (
    ARRIVED,
    BY_ESTIMATE,
    BY_ORDER,
    ESTIMATE,
    EXTRA,
    FIRST,
    FREE,
    LAST,
    MERGED,
    NEVER,
    PROCS,
    RANK,
    RELEASE,
    RELEASED,
    RUNNING,
    SHADOW,
    SORTED,
    START,
    STOP,
    SUBMIT,
    WEIGHT,
    Pool,
)

PLAIN_FCFS = 0
BACKFILL = 1
SHORTEST_BACKFILL = 2
"""What comes after the head: nothing, others in queue order, others by estimate."""
BY_TURN = 0
BY_RANK = 1
BY_WFP3 = 2
BY_UNICEP = 3
"""What the queue is ordered by: submission (RANK rises with it), another RANK, or a score that
changes with the wait."""


@kernel
def ahead(pool: Pool, a: int, b: int, order: int, now: int) -> bool:
    """Whether `a` is before `b` under a time-dependent order; ties by RANK. O(1).

    WFP3: (wait/estimate)^3 x processors. UNICEP: wait/(log2(processors) x estimate), of which
    WEIGHT is the divisor; 0 for one processor, whose score is infinite once it waits. Highest
    score first.
    """
    jobs = pool.jobs
    first, second = 0.0, 0.0
    wait_a, wait_b = now - jobs[SUBMIT, a], now - jobs[SUBMIT, b]
    if order == BY_WFP3:
        ratio = wait_a / jobs[ESTIMATE, a]
        first = ratio * ratio * ratio * jobs[PROCS, a]
        ratio = wait_b / jobs[ESTIMATE, b]
        second = ratio * ratio * ratio * jobs[PROCS, b]
    else:
        if wait_a > 0:
            first = wait_a / jobs[WEIGHT, a] if jobs[WEIGHT, a] > 0 else 1e300
        if wait_b > 0:
            second = wait_b / jobs[WEIGHT, b] if jobs[WEIGHT, b] > 0 else 1e300
    return bool(first > second or (first == second and jobs[RANK, a] < jobs[RANK, b]))


@kernel
def sort_queue(pool: Pool, order: int, now: int) -> None:
    """Sort the queue by a time-dependent order (bottom-up merge). O(q log q)."""
    queue = pool.queue
    first, last = pool.counters[FIRST], pool.counters[LAST]
    width = 1
    while width < last - first:
        for low in range(first, last, 2 * width):
            middle, high = min(low + width, last), min(low + 2 * width, last)
            left, right = low, middle
            for k in range(low, high):
                take_left = right >= high
                if not take_left and left < middle:
                    a, b = queue[BY_ORDER, left], queue[BY_ORDER, right]
                    take_left = not ahead(pool, b, a, order, now)
                if take_left:
                    queue[MERGED, k] = queue[BY_ORDER, left]
                    left += 1
                else:
                    queue[MERGED, k] = queue[BY_ORDER, right]
                    right += 1
        for k in range(first, last):
            queue[BY_ORDER, k] = queue[MERGED, k]
        width *= 2


@inlined
def reserve(pool: Pool, head: int, now: int) -> None:
    """Find SHADOW and EXTRA of the head. A job past its estimate releases at now + 1. O(running).

    Invariant: by SHADOW, the releases at that very instant included, PROCS of the head and EXTRA
    are free if every running job runs to its estimate.
    """
    running = pool.running
    counters = pool.counters
    available = counters[FREE]
    need = pool.jobs[PROCS, head]
    shadow = now
    at = 0
    while at < counters[RUNNING]:
        release = max(running[RELEASE, at], now + 1)
        if available >= need and release > shadow:
            break
        shadow = release
        available += running[RELEASED, at]
        at += 1
    counters[SHADOW] = shadow
    counters[EXTRA] = available - need


@kernel
def may_backfill(pool: Pool, job: int, now: int) -> bool:
    """Whether a job behind the head may start now; if so, EXTRA is what it leaves. O(1)."""
    counters = pool.counters
    size = pool.jobs[PROCS, job]
    if size > counters[FREE]:
        return False
    if now + pool.jobs[ESTIMATE, job] > counters[SHADOW]:
        if size > counters[EXTRA]:
            return False
        counters[EXTRA] -= size
    return True


@inlined
def backfill_in_order(pool: Pool, begin: int, end: int, now: int) -> None:
    """Try the places `begin` to `end` of the queue in order, and close the gaps. O(q)."""
    queue = pool.queue
    counters = pool.counters
    kept = begin
    for at in range(begin, counters[LAST]):
        job = queue[BY_ORDER, at]
        if at < end and may_backfill(pool, job, now):
            begin_job(pool, job, now)
        else:
            queue[BY_ORDER, kept] = job
            kept += 1
    counters[LAST] = kept


@inlined
def backfill_shortest(pool: Pool, head: int, farthest: int, now: int) -> None:
    """Try all but the head, those of a RANK up to `farthest`, by estimate; close the gaps. O(q)."""
    jobs = pool.jobs
    queue = pool.queue
    counters = pool.counters
    kept = 0
    for at in range(counters[SORTED]):
        job = queue[BY_ESTIMATE, at]
        if jobs[START, job] >= 0:
            continue
        if job != head and jobs[RANK, job] <= farthest and may_backfill(pool, job, now):
            begin_job(pool, job, now)
        else:
            queue[BY_ESTIMATE, kept] = job
            kept += 1
    counters[SORTED] = kept
    kept = counters[FIRST]
    for at in range(counters[FIRST], counters[LAST]):
        job = queue[BY_ORDER, at]
        if jobs[START, job] < 0:
            queue[BY_ORDER, kept] = job
            kept += 1
    counters[LAST] = kept


@inlined
def make_pass(pool: Pool, policy: int, depth: int, now: int) -> None:
    """One pass over the first `depth` jobs of the queue, those that start included. O(q + running).

    Invariants: FREE and EXTRA stay at least 0; no start delays the head beyond SHADOW.
    """
    queue = pool.queue
    counters = pool.counters
    end = counters[LAST]
    if end - counters[FIRST] > depth:
        end = counters[FIRST] + depth
    counters[SHADOW] = NEVER
    while counters[FIRST] < end:
        head = queue[BY_ORDER, counters[FIRST]]
        if pool.jobs[PROCS, head] > counters[FREE]:
            break
        begin_job(pool, head, now)
        counters[FIRST] += 1
    if policy == PLAIN_FCFS or counters[FIRST] == end:
        return
    head = queue[BY_ORDER, counters[FIRST]]
    reserve(pool, head, now)
    if counters[FREE] == 0:
        return
    if policy == BACKFILL:
        backfill_in_order(pool, counters[FIRST] + 1, end, now)
    else:
        farthest = pool.jobs[RANK, queue[BY_ORDER, end - 1]]
        backfill_shortest(pool, head, farthest, now)


@entry
def replay_queue(pool: Pool, policy: int, order: int, depth: int) -> int:
    """Replay a workload to its end, or until STOP is set; gives the last instant.

    Where only submissions came, no job that failed before can start: FREE, SHADOW and EXTRA are as
    they were and the time left has become shorter. So EASY in order of submission then tries the
    new jobs only, unless a job overruns its estimate (the shadow moves) or `depth` cuts the queue.
    O(events x (waiting + running)).
    """
    jobs = pool.jobs
    counters = pool.counters
    plain = policy == BACKFILL and order == BY_TURN and depth >= jobs.shape[1]
    now = 0
    counters[SHADOW] = NEVER
    while pool.control[STOP] == 0:
        when = next_event(pool)
        if when == NEVER:
            break
        now = when
        ended = 0
        job = pop_ended(pool, now)
        while job >= 0:
            finish_job(pool, job)
            ended += 1
            job = pop_ended(pool, now)
        known = counters[LAST]
        while counters[ARRIVED] < jobs.shape[1] and jobs[SUBMIT, counters[ARRIVED]] <= now:
            job = counters[ARRIVED]
            enqueue(pool, job)
            if policy == SHORTEST_BACKFILL:
                enqueue_by_estimate(pool, job)
            counters[ARRIVED] += 1
        if order > BY_RANK:
            sort_queue(pool, order, now)
        overrun = counters[RUNNING] > 0 and pool.running[RELEASE, 0] <= now
        if plain and ended == 0 and counters[SHADOW] < NEVER and not overrun:
            backfill_in_order(pool, known, counters[LAST], now)
        else:
            make_pass(pool, policy, depth, now)
    return now
