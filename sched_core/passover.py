"""Runs of records that need no decision: gated, over a limit, or like others that failed already.

In a deep queue that is nearly all of them, so their loop stands by itself, with few arrays: what a
compiler can keep in registers.
"""

from __future__ import annotations

from sched_core.columns import Matrix, Vector
from sched_core.jit import inlined, kernel
from sched_core.limitcheck import over_limit
from sched_core.timegates import is_too_late, least_limit
from sched_core.verdict import ARRAY_LIMIT, BEGIN_TIME, DEADLINE, LIMIT, NOT_REACHED
from sched_core.views import (
    AHEAD,
    DEPTH,
    EXAMINED,
    FAIL_FROM,
    J_BEGIN,
    J_COUNT,
    J_DURATION,
    J_GATE,
    J_LIMIT,
    J_PLAIN,
    J_SHAPE,
    SETTLED,
    V_AHEAD,
    V_CODE,
    V_PLACED,
    V_SHORT,
    Queue,
)


@inlined
def gate_of(queue: Queue, row: int, now: int) -> int:
    """What keeps a record from being looked at, as its own columns say; 0: nothing. O(1)."""
    jobs = queue.jobs
    if jobs[J_GATE, row] != 0:
        return int(jobs[J_GATE, row])
    if is_too_late(queue, row, now):
        return DEADLINE
    if jobs[J_BEGIN, row] > now:
        return BEGIN_TIME
    return ARRAY_LIMIT if jobs[J_COUNT, row] == 0 else 0


@kernel
def pass_over(
    queue: Queue,
    shapes: Matrix,
    parts: Matrix,
    ahead: Matrix,
    counters: Vector,
    first: int,
    now: int,
) -> int:
    """Write code, place and count of the records from `first` on that need no decision.

    Gives the place of the first that does; `ahead` is `options`. Of the others that wait the number
    of those ahead goes up in all their partitions, unless they are gated. O(records passed over).
    """
    order = queue.order
    jobs = queue.jobs
    records = queue.records
    examined, depth = counters[EXAMINED], counters[DEPTH]
    i, count = first, records.shape[1]
    while i < count:
        row = order[i]
        shape = jobs[J_SHAPE, row]
        code = 0 if jobs[J_PLAIN, row] else gate_of(queue, row, now)
        gated = code != 0
        if gated:
            queue.planned[i] = jobs[J_BEGIN, row] if code == BEGIN_TIME else -1
            records[V_SHORT, i] = -1
        if not gated:
            if examined >= depth:
                code = NOT_REACHED
            else:
                code = -1
                if jobs[J_LIMIT, row] >= 0:
                    over = over_limit(queue, shape, jobs[J_LIMIT, row])
                    if over >= 0:
                        code = LIMIT
                        records[V_SHORT, i] = over - 1
                if (
                    code < 0
                    and shapes[FAIL_FROM, shape] <= jobs[J_DURATION, row]
                    and (jobs[J_PLAIN, row] or shapes[FAIL_FROM, shape] <= least_limit(queue, row))
                ):
                    code = shapes[SETTLED, shape]
                if code < 0:
                    break
                examined += 1
        records[V_CODE, i] = code
        records[V_AHEAD, i] = ahead[AHEAD, parts[shape, 0]]
        records[V_PLACED, i] = 0
        if not gated:
            for option in range(parts.shape[1]):
                if parts[shape, option] >= 0:
                    ahead[AHEAD, parts[shape, option]] += 1
        i += 1
    counters[EXAMINED] = examined
    return i
