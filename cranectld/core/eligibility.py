"""What the controller itself knows of why a job waits: gates before any question of resources."""

from __future__ import annotations

from dataclasses import dataclass

from crane.states import JobState, Reason
from cranectld.core import dependency
from cranectld.core.state import (
    HOLD_NONE,
    HOLD_OPERATOR,
    TASK_HELD,
    TASK_HELD_OPERATOR,
    TASK_WAITS,
    UNSTARTED,
    ArrayRecord,
    Job,
    State,
)
from sched_core.codes import VerdictCode


@dataclass(frozen=True, slots=True)
class Startable:
    """How a waiting record stands, apart from resources and from its begin time."""

    gate: int
    """A `VerdictCode` that keeps all of it from starting; 0: open."""
    count: int
    """Tasks that may start now; 0 behind a gate."""


_OPEN = Startable(0, 1)
_HELD_USER = Startable(int(VerdictCode.HELD_USER), 0)
_HELD_ADMIN = Startable(int(VerdictCode.HELD_ADMIN), 0)
_REQUEUE_HOLD = Startable(int(VerdictCode.REQUEUE_HOLD), 0)
_NEVER = Startable(int(VerdictCode.DEPENDENCY_NEVER_SATISFIED), 0)
_DEPENDS = Startable(int(VerdictCode.DEPENDENCY), 0)
_PARTITION_DOWN = Startable(int(VerdictCode.PARTITION_DOWN), 0)
_ARRAY_LIMIT = Startable(int(VerdictCode.ARRAY_LIMIT), 0)


def startable(state: State, job: Job) -> Startable | None:
    """Gate and startable tasks of a job that waits, or of an array with tasks that do; else None.

    Depends on nothing but the job, its partitions and, for an array, its columns: it changes only
    when the job is in `state.touched`, or with the configuration. O(1), but O(tasks) at C speed for
    an array none of whose tasks is free.
    """
    record = job.array
    if record is None:
        if job.state is not JobState.PENDING:
            return None
    elif not record.pending:
        return None
    if job.hold != HOLD_NONE:
        if job.reason is Reason.JOB_HOLD_MAX_REQUEUE:
            return _REQUEUE_HOLD
        return _HELD_ADMIN if job.hold == HOLD_OPERATOR else _HELD_USER
    if job.unmet and dependency.blocked(job):
        return _NEVER if job.reason is Reason.DEPENDENCY_NEVER_SATISFIED else _DEPENDS
    if not any_partition_up(state, job):
        return _PARTITION_DOWN
    if record is None:
        return _OPEN
    count = record.free
    if not count:
        return _gate_of_tasks(record)
    limit = record.spec.limit
    if limit:
        count = min(count, limit - len(record.running))
        if count <= 0:
            return _ARRAY_LIMIT
    return Startable(0, count)


def any_partition_up(state: State, job: Job) -> bool:
    """Whether one of the job's partitions exists and is up."""
    partitions = state.partitions
    for name in job.submission.spec.partitions:
        partition = partitions.get(name)
        if partition is not None and partition.up:
            return True
    return False


def _gate_of_tasks(record: ArrayRecord) -> Startable:
    """Why none of an array's unstarted tasks is free: the mildest of their gates."""
    values = [value for value in range(UNSTARTED, 256) if value in record.state]
    bits = [value & (UNSTARTED - 1) for value in values]
    unheld = [b for b in bits if not b & TASK_HELD]
    if any(b & TASK_WAITS for b in unheld):
        return _DEPENDS
    if unheld:
        return _NEVER
    return _HELD_ADMIN if all(b & TASK_HELD_OPERATOR for b in bits) else _HELD_USER
