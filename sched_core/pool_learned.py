"""EASY with learnt runtimes: users' limits for promises, predictions for order.

Waiting jobs are ordered by expected slowdown, (wait + predicted runtime) / predicted runtime, and
those that may go ahead of a promised one by predicted runtime, shortest first. Only one job at a
time is promised a start, the head: its shadow time if every running job runs to its users' limit
(Lifka 1995). Nothing that starts later may delay it, so as long as no job overruns its limit the
promise is kept. A job becomes head only once its expected slowdown has reached a threshold
(selective reservation: Srinivasan, Kettimuthu, Subramani and Sadayappan, JSSPP 2002).

A runtime is predicted from jobs that have ended: the decaying average of those by the same user
with the same limit and size; else what share of their limits the user's jobs have used; else the
limit. A running job that exceeds what would be predicted for its like corrects that at once.
"""

from __future__ import annotations

from typing import NamedTuple

from sched_core.columns import Matrix, Vector
from sched_core.jit import entry, inlined, kernel
from sched_core.pool_easy import reserve
from sched_core.pool_running import begin_job, enqueue, finish_job, next_event, pop_ended
from sched_core.pool_views import (
    ARRIVED,
    BY_ORDER,
    ESTIMATE,
    EXTRA,
    FIRST,
    FREE,
    HOLDER,
    LAST,
    MERGED,
    NEVER,
    PROCS,
    RUN,
    RUNNING,
    SHADOW,
    START,
    STOP,
    SUBMIT,
    Pool,
)

THOUSAND = 1000
GRACE = 60
"""Seconds added to every prediction in a slowdown, lest a wait of seconds make a job urgent."""


class Learning(NamedTuple):
    """What has been learnt, and of whom."""

    traits: Matrix
    """[2, n]: USER and KIND of each job, numbers from 0."""
    users: Matrix
    """[2, users]: ENDED, LEARNT: thousandths of the limit that jobs run."""
    kinds: Matrix
    """[2, kinds]: ENDED, LEARNT: seconds that jobs run."""
    promise: Vector
    """[PROMISE_CELLS], see below."""


# Rows of `traits`.
USER = 0
KIND = 1
"""User, limit and size."""

# Rows of `users` and `kinds`.
ENDED = 0
"""Jobs that have ended."""
LEARNT = 1
"""Average of these, each weighing twice as much as all before."""

# Cells of `promise`.
HEAD = 0
"""The promised job; -1: none."""
PROMISED = 1
"""The latest instant at which it starts."""
MADE = 2
BROKEN = 3
"""Jobs that started later than promised (only if a job overran its limit)."""
LATEST = 4
"""Most seconds by which one did."""
PROMISE_CELLS = 5


@kernel
def predicted(pool: Pool, learning: Learning, job: int) -> int:
    """Runtime (s) expected of a job, 1 to its limit. O(1)."""
    limit = pool.jobs[ESTIMATE, job]
    user, kind = learning.traits[USER, job], learning.traits[KIND, job]
    expected = limit
    if learning.kinds[ENDED, kind] > 0:
        expected = learning.kinds[LEARNT, kind]
    elif learning.users[ENDED, user] > 0:
        expected = limit * learning.users[LEARNT, user] // THOUSAND
    return int(max(1, min(limit, expected)))


@kernel
def averaged(table: Matrix, row: int, value: int) -> None:
    """Add the value of one more job that ended to an average that halves the weight of all before.

    O(1).
    """
    if table[ENDED, row] > 0:
        value = (table[LEARNT, row] + value) // 2
    table[LEARNT, row] = value
    table[ENDED, row] += 1


@inlined
def end_jobs(pool: Pool, now: int) -> int:
    """End the jobs that have run; writes them to MERGED by turn, gives their number.

    By turn, as averages depend on the order in which jobs are learnt from. O(ended² + running).
    """
    ended = pool.queue[MERGED]
    count = 0
    job = pop_ended(pool, now)
    while job >= 0:
        finish_job(pool, job)
        at = count
        while at > 0 and ended[at - 1] > job:
            ended[at] = ended[at - 1]
            at -= 1
        ended[at] = job
        count += 1
        job = pop_ended(pool, now)
    return count


@inlined
def learn(pool: Pool, learning: Learning, job: int) -> None:
    """A job has ended: its runtime may be known from now on. O(1)."""
    run = pool.jobs[RUN, job]
    averaged(learning.kinds, learning.traits[KIND, job], run)
    share = run * THOUSAND // pool.jobs[ESTIMATE, job]
    averaged(learning.users, learning.traits[USER, job], share)


@inlined
def correct(pool: Pool, learning: Learning, now: int) -> None:
    """Raise what running jobs have exceeded. O(running).

    Invariant: no running job has run longer than is predicted for a waiting one of its kind, if
    any of that kind has ended.
    """
    for at in range(pool.counters[RUNNING]):
        job = pool.running[HOLDER, at]
        elapsed = now - pool.jobs[START, job]
        kind = learning.traits[KIND, job]
        if learning.kinds[ENDED, kind] > 0:
            learning.kinds[LEARNT, kind] = max(learning.kinds[LEARNT, kind], elapsed)


@kernel
def start_at(pool: Pool, at: int, now: int) -> None:
    """Start the job at a place of the queue and close the gap. O(q + running)."""
    queue = pool.queue
    begin_job(pool, queue[BY_ORDER, at], now)
    pool.counters[LAST] -= 1
    for k in range(at, pool.counters[LAST]):
        queue[BY_ORDER, k] = queue[BY_ORDER, k + 1]


@kernel
def urgency(pool: Pool, learning: Learning, job: int, now: int) -> int:
    """Expected slowdown less 1, in thousandths, of a job that would start now. O(1)."""
    wait = now - pool.jobs[SUBMIT, job]
    return int(wait * THOUSAND // (predicted(pool, learning, job) + GRACE))


@inlined
def most_urgent(pool: Pool, learning: Learning, now: int) -> int:
    """Place of the job of the greatest expected slowdown; equals by turn. O(q)."""
    best, highest = -1, -1
    for at in range(pool.counters[FIRST], pool.counters[LAST]):
        score = urgency(pool, learning, pool.queue[BY_ORDER, at], now)
        if score > highest:
            best, highest = at, score
    return best


@inlined
def place_of(pool: Pool, job: int) -> int:
    """Place of a waiting job in the queue. O(q)."""
    at = pool.counters[FIRST]
    while pool.queue[BY_ORDER, at] != job:
        at += 1
    return int(at)


@inlined
def serve_front(pool: Pool, learning: Learning, threshold: int, now: int) -> None:
    """Start the head, then the most urgent jobs while they fit; see who is head. O(q) per start.

    Afterwards HEAD is a job that does not fit and is promised a start, or -1.
    """
    promise = learning.promise
    counters = pool.counters
    while counters[LAST] > counters[FIRST]:
        head = promise[HEAD]
        at = place_of(pool, head) if head >= 0 else most_urgent(pool, learning, now)
        job = pool.queue[BY_ORDER, at]
        if pool.jobs[PROCS, job] > counters[FREE]:
            if head < 0 and urgency(pool, learning, job, now) >= threshold:
                promise[HEAD] = job
                promise[PROMISED] = NEVER
            return
        start_at(pool, at, now)
        if head >= 0:
            promise[HEAD] = -1
            late = now - promise[PROMISED]
            if late > 0:
                promise[BROKEN] += 1
                promise[LATEST] = max(promise[LATEST], late)


@kernel
def fits_beside(pool: Pool, job: int, now: int) -> bool:
    """Whether a job may start now without delaying the head. O(1)."""
    size = pool.jobs[PROCS, job]
    if size > pool.counters[FREE]:
        return False
    by_then = now + pool.jobs[ESTIMATE, job] <= pool.counters[SHADOW]
    return bool(by_then or size <= pool.counters[EXTRA])


@inlined
def backfill_predicted(pool: Pool, learning: Learning, now: int) -> None:
    """Start others, shortest prediction first (equals by turn), none that delays the head.

    O(q) per start. What may not start at first may not after another start either.
    """
    counters = pool.counters
    while counters[FREE] > 0:
        best, least = -1, NEVER
        for at in range(counters[FIRST], counters[LAST]):
            job = pool.queue[BY_ORDER, at]
            if job != learning.promise[HEAD] and fits_beside(pool, job, now):
                expected = predicted(pool, learning, job)
                if expected < least:
                    best, least = at, expected
        if best < 0:
            return
        job = pool.queue[BY_ORDER, best]
        if now + pool.jobs[ESTIMATE, job] > counters[SHADOW]:
            counters[EXTRA] -= pool.jobs[PROCS, job]
        start_at(pool, best, now)


@entry
def replay_learned(pool: Pool, learning: Learning, threshold: int) -> int:
    """Replay a workload to its end, or until STOP is set; gives the last instant.

    `threshold` (thousandths): `urgency` from which a job may become head; 0: there always is one
    while a job waits that does not fit. Batch semantics: at one instant all ends, then all
    submissions, then one pass. Invariants: FREE is at least 0; a prediction knows no runtime of a
    job that has not ended; no start delays the head beyond its shadow time.
    O(events x (waiting + running)) and O(waiting + running) for each start.
    """
    jobs = pool.jobs
    counters = pool.counters
    promise = learning.promise
    now = 0
    while pool.control[STOP] == 0:
        when = next_event(pool)
        if when == NEVER:
            break
        now = when
        for k in range(end_jobs(pool, now)):
            learn(pool, learning, pool.queue[MERGED, k])
        while counters[ARRIVED] < jobs.shape[1] and jobs[SUBMIT, counters[ARRIVED]] <= now:
            enqueue(pool, counters[ARRIVED])
            counters[ARRIVED] += 1
        correct(pool, learning, now)
        serve_front(pool, learning, threshold, now)
        counters[SHADOW] = NEVER
        if promise[HEAD] >= 0:
            reserve(pool, promise[HEAD], now)
            if promise[PROMISED] == NEVER:
                promise[PROMISED] = counters[SHADOW]
                promise[MADE] += 1
        backfill_predicted(pool, learning, now)
    return now
