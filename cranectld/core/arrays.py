"""Columns of array records: ranges of tasks change at the speed of `bytes.translate`.

A task that has not started is 0 (free to start) or `UNSTARTED | bits`, where the bits say what keeps
it; all other values are `JobState`. So the next task to start is the next zero byte.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator

from crane.arrayspec import Range
from crane.jobspec import ArraySpec
from crane.states import JobState
from cranectld.core.state import (
    HOLD_OPERATOR,
    TASK_HELD,
    TASK_HELD_OPERATOR,
    TASK_HELD_USER,
    UNSTARTED,
    ArrayRecord,
    Job,
)

Span = tuple[int, int]
"""First and last position, both included."""


def _table(change: Callable[[int], int]) -> bytes:
    """Translation that changes the bits of unstarted tasks and leaves the others alone."""
    out = bytearray(range(256))
    for value in (0, *range(UNSTARTED, 256)):
        bits = change(value & (UNSTARTED - 1))
        out[value] = UNSTARTED | bits if bits else 0
    return bytes(out)


_STARTED = bytes(range(1, UNSTARTED))
_HELD_VALUES = bytes(v for v in range(UNSTARTED, 256) if v & TASK_HELD)
_NOT_HELD = bytes(v for v in range(256) if v not in _HELD_VALUES)
_NOT_OPERATOR = bytes(v for v in range(256) if v < UNSTARTED or not v & TASK_HELD_OPERATOR)
_HOLD_USER = _table(lambda bits: bits | TASK_HELD_USER)
_HOLD_OPERATOR = _table(lambda bits: bits | TASK_HELD_OPERATOR)
_RELEASE = _table(lambda bits: bits & ~TASK_HELD)

_SEVERITY = (
    JobState.FAILED,
    JobState.OUT_OF_MEMORY,
    JobState.TIMEOUT,
    JobState.NODE_FAIL,
    JobState.BOOT_FAIL,
    JobState.PREEMPTED,
    JobState.DEADLINE,
    JobState.CANCELLED,
)


def new_record(spec: ArraySpec, count: int) -> ArrayRecord:
    """An array of `count` unstarted tasks."""
    return ArrayRecord(
        spec=spec,
        count=count,
        state=bytearray(count),
        exit=array("h", [0]) * count,
        end_time=array("q", [0]) * count,
        pending=count,
        free=count,
    )


def is_unstarted(value: int) -> bool:
    """Whether a value of the column is of a task that has not started."""
    return value == 0 or value >= UNSTARTED


def unstarted_in(record: ArrayRecord, span: Span) -> int:
    """How many tasks of a span have not started. O(span) in C."""
    return len(record.state[span[0] : span[1] + 1].translate(None, _STARTED))


def held_by_operator(record: ArrayRecord, spans: Iterable[Span]) -> bool:
    """Whether an operator holds any unstarted task of the spans."""
    if not record.held:
        return False
    return any(record.state[a : b + 1].translate(None, _NOT_OPERATOR) for a, b in spans)


def any_held(record: ArrayRecord, spans: Iterable[Span]) -> bool:
    """Whether any unstarted task of the spans is held on its own."""
    if not record.held:
        return False
    return any(record.state[a : b + 1].translate(None, _NOT_HELD) for a, b in spans)


def hold(record: ArrayRecord, span: Span, level: int) -> None:
    """Hold the unstarted tasks of a span."""
    _translate(record, span, _HOLD_OPERATOR if level == HOLD_OPERATOR else _HOLD_USER)


def release(record: ArrayRecord, span: Span) -> None:
    """Lift the holds of a span's tasks."""
    _translate(record, span, _RELEASE)
    record.cursor = min(record.cursor, span[0])


def _translate(record: ArrayRecord, span: Span, table: bytes) -> None:
    first, last = span
    before = record.state[first : last + 1]
    after = before.translate(table)
    record.free += after.count(0) - before.count(0)
    record.held += len(after.translate(None, _NOT_HELD)) - len(before.translate(None, _NOT_HELD))
    record.state[first : last + 1] = after


def set_bits(record: ArrayRecord, position: int, bits: int) -> None:
    """Set what keeps one unstarted task from starting."""
    old = record.state[position]
    new = UNSTARTED | bits if bits else 0
    assert is_unstarted(old)
    record.state[position] = new
    record.free += (new == 0) - (old == 0)
    record.held += (bits & TASK_HELD != 0) - (old & TASK_HELD != 0)
    if new == 0:
        record.cursor = min(record.cursor, position)


def next_free(record: ArrayRecord, start: int) -> int:
    """First position from `start` on that is free to start; -1: none."""
    return record.state.find(0, max(start, record.cursor))


def start(record: ArrayRecord, position: int, job_id: int, now: int) -> None:
    """A task starts under a job id of its own."""
    assert record.state[position] == 0
    record.state[position] = JobState.RUNNING
    record.pending -= 1
    record.free -= 1
    record.last_start = now
    record.running[position] = job_id
    record.raw_ids.pop(position, None)
    record.attempts.pop(position, None)
    if record.state.find(0, record.cursor, position) < 0:
        record.cursor = position + 1


def end(record: ArrayRecord, position: int, state: JobState, exit_code: int, now: int) -> None:
    """A live task ended. `exit_code`: or -signal."""
    del record.running[position]
    record.state[position] = state
    record.exit[position] = exit_code
    record.end_time[position] = now
    record.ended[state] = record.ended.get(state, 0) + 1


def end_unstarted(record: ArrayRecord, span: Span, state: JobState, now: int) -> None:
    """The unstarted tasks of a span end as `state` without running."""
    first, last = span
    before = record.state[first : last + 1]
    count = unstarted_in(record, span)
    whole = count == last - first + 1
    if whole:
        record.end_time[first : last + 1] = array("q", [now]) * count
    else:
        for place, value in enumerate(before, first):
            if is_unstarted(value):
                record.end_time[place] = now
    table = bytes(state if is_unstarted(v) else v for v in range(256))
    record.state[first : last + 1] = before.translate(table)
    record.pending -= count
    record.free -= before.count(0)
    record.held -= len(before.translate(None, _NOT_HELD))
    if count:
        record.ended[state] = record.ended.get(state, 0) + count
    if record.raw_ids:
        for place in [p for p in record.raw_ids if first <= p <= last]:
            del record.raw_ids[place], record.attempts[place]


def again(record: ArrayRecord, position: int, job_id: int, attempts: int, level: int) -> None:
    """A live task goes back to waiting; it keeps its job id, and is held if `level` is not 0."""
    del record.running[position]
    record.raw_ids[position] = job_id
    record.attempts[position] = attempts
    _wait_again(record, position, level)


def revive(record: ArrayRecord, position: int, level: int) -> None:
    """An ended task goes back to waiting; when it starts it gets a new job id."""
    old = record.state[position]
    left = record.ended[old] - 1
    if left:
        record.ended[old] = left
    else:
        del record.ended[old]
    record.exit[position] = 0
    record.end_time[position] = 0
    _wait_again(record, position, level)


def _wait_again(record: ArrayRecord, position: int, level: int) -> None:
    record.pending += 1
    record.free += 1
    record.state[position] = 0
    record.cursor = min(record.cursor, position)
    if level:
        hold(record, (position, position), level)


def outcome(record: ArrayRecord) -> JobState:
    """State of an array whose tasks have all ended: the gravest, COMPLETED if all went well."""
    for state in _SEVERITY:
        if state in record.ended:
            return state
    return JobState.COMPLETED


def task_index(job: Job, position: int) -> int:
    """Index of the task at a position of an array's own record."""
    assert job.array is not None
    return job.array.places.index_at(position)


def spans_of(record: ArrayRecord, ranges: Iterable[Range]) -> list[Span]:
    """Positions of the array's indices that are in `ranges`, ascending and disjoint.

    O(log ranges of the array) for each given range and O(1) for each overlap of two ranges, but
    O(indices) where their steps do not match.
    """
    return merged(span for given in ranges for span in _spans(record, *given))


def _spans(record: ArrayRecord, first: int, last: int, step: int) -> Iterator[Span]:
    """Positions of the indices of one range."""
    for before, (low, high, stride) in record.places.overlapping(first, last):
        a, b = max(first, low), min(last, high)
        if step == 1 or first == last:
            start_at = -(-(a - low) // stride)
            end_at = (b - low) // stride
            if start_at <= end_at:
                yield before + start_at, before + end_at
        elif step == stride and (first - low) % stride == 0:
            yield before + (a - low) // stride, before + (b - low) // stride
        else:
            begin = first + -(-(a - first) // step) * step
            for index in range(begin, b + 1, step):
                steps, rest = divmod(index - low, stride)
                if not rest:
                    yield before + steps, before + steps


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same positions as disjoint spans in rising order."""
    out: list[Span] = []
    for first, last in sorted(spans):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out
