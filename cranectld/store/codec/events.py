"""How each event is stored: hot plural ones by column, the others by the mapper.

`EVENTS` is the registry: the field of the `Event` message, and the two directions. Every member of
`cranectld.core.events.Event` is in it (checked when this module is imported).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice, starmap
from typing import Any, get_args

from crane.log.v1 import log_pb2
from crane.session import EndCause, StepKey
from crane.states import JobState, Reason
from cranectld.core import events as ev
from cranectld.core.commands import PastJob
from cranectld.store.codec.columns import (
    Column,
    Kind,
    ReadTables,
    Rows,
    Tables,
    deltas,
    expand,
    undelta,
    write_column,
)
from cranectld.store.codec.mapper import mapper_of
from cranectld.store.codec.submissions import (
    read_shares,
    read_submissions,
    write_shares,
    write_submissions,
)

Writer = Callable[[Any, Any, Tables], None]
Reader = Callable[[Any, ReadTables], Any]

_PAST = mapper_of(PastJob, log_pb2.PastJob.DESCRIPTOR)

_JOB_ID = Column("job_id", "job_id", Kind.DELTA)
_ATTEMPT = Column("attempt", "attempt")
_NODE = Column("node", "node", Kind.TEXT)
_STATE = Column("state", "state", member=JobState)
_REASON = Column("reason", "reason", member=Reason)
_EXIT = (Column("exit_code", "exit_code"), Column("signal", "signal"))
_OUTCOME = (Column("by_uid", "by_uid"), Column("requeue", "requeue"), Column("hold", "hold"))
_KEY = (
    Column("job_id", "key.job_id", Kind.DELTA),
    Column("step", "key.step"),
    Column("attempt", "key.attempt"),
)


def _flags(*values: Any) -> tuple[Any, ...]:
    """A column of flags that are all false reads as zeros; these are flags again."""
    return tuple(map(bool, values))


def _step_running(job: int, step: int, attempt: int, *rest: Any) -> ev.StepRunning:
    return ev.StepRunning(StepKey(job, step, attempt), *rest)


def _step_end(
    job: int,
    step: int,
    attempt: int,
    node: str,
    cause: EndCause,
    exit_code: int,
    signal: int,
    message: str,
    start: int,
    end: int,
    cpu_us: int,
    memory_peak: int,
    released: int,
) -> ev.StepEnd:
    key, flag = StepKey(job, step, attempt), bool(released)
    return ev.StepEnd(
        key, node, cause, exit_code, signal, message, start, end, cpu_us, memory_peak, flag
    )


def _job_ending(*parts: Any) -> ev.JobEnding:
    return ev.JobEnding(*parts[:-2], *_flags(*parts[-2:]))


def _job_end(*parts: Any) -> ev.JobEnd:
    return ev.JobEnd(*parts[:-2], *_flags(*parts[-2:]))


_STEPS_RUNNING = Rows(
    _step_running, (*_KEY, _NODE, Column("time", "time", Kind.TIME), Column("pid", "pid"))
)
_STEPS_ENDED = Rows(
    _step_end,
    (
        *_KEY,
        _NODE,
        Column("cause", "cause", member=EndCause),
        *_EXIT,
        Column("message", "message", Kind.TEXT),
        Column("start_time", "start_time", Kind.TIME),
        Column("end_time", "end_time", Kind.TIME),
        Column("cpu_us", "cpu_us"),
        Column("memory_peak", "memory_peak"),
        Column("released", "released"),
    ),
)
_RELEASED = Rows(ev.ShareReleased, (_JOB_ID, _ATTEMPT, _NODE))
_ENDING = Rows(_job_ending, (_JOB_ID, _ATTEMPT, _STATE, _REASON, *_OUTCOME))
_ENDED = Rows(_job_end, (_JOB_ID, _ATTEMPT, _STATE, _REASON, *_EXIT, *_OUTCOME))
_STARTS = Rows(
    tuple,
    (
        _JOB_ID,
        _ATTEMPT,
        Column("end_limit", "end_limit", Kind.TIME),
        Column("partition", "partition", Kind.TEXT),
        Column("array_id", "array_id", Kind.DELTA),
        Column("position", "position", Kind.DELTA),
    ),
)


def _plural(cls: type, attribute: str, rows: Rows) -> tuple[Writer, Reader]:
    """An event that is nothing but a tuple of rows."""

    def write(message: Any, event: Any, tables: Tables) -> None:
        items = getattr(event, attribute)
        message.count = len(items)
        rows.write(message, items, tables)

    return write, lambda message, tables: cls(tuple(rows.read(message, message.count, tables)))


def _plain(cls: type, message_class: Any) -> tuple[Writer, Reader]:
    mapper = mapper_of(cls, message_class.DESCRIPTOR)
    return (
        lambda message, event, _: mapper.fill(message, event),
        lambda message, _: mapper.parse(message),
    )


def _write_submitted(message: Any, event: ev.JobsSubmitted, tables: Tables) -> None:
    message.first_id, message.uid, message.gid = event.first_id, event.uid, event.gid
    message.user, message.count = event.user, len(event.jobs)
    assert len(event.priorities) == len(event.jobs), "one priority per job"
    write_submissions(message.jobs, event.jobs, tables)
    write_column(message, "priorities", list(event.priorities))
    for past in event.past:
        _PAST.fill(message.past.add(), past)


def _read_submitted(message: Any, tables: ReadTables) -> ev.JobsSubmitted:
    return ev.JobsSubmitted(
        message.first_id,
        message.uid,
        message.gid,
        message.user,
        tuple(read_submissions(message.jobs, message.count, tables)),
        tuple(expand(message.priorities, message.count)),
        tuple(map(_PAST.parse, message.past)),
    )


def _write_started(message: Any, event: ev.TasksStarted, tables: Tables) -> None:
    message.count = len(event.starts)
    _STARTS.write(message, event.starts, tables)
    write_column(message, "share_count", [len(s.shares) for s in event.starts])
    write_shares(message.shares, [x for s in event.starts for x in s.shares], tables)


def _read_started(message: Any, tables: ReadTables) -> ev.TasksStarted:
    count = message.count
    shares = iter(read_shares(message.shares, tables))
    held = (tuple(islice(shares, n)) for n in expand(message.share_count, count))
    job, attempt, limit, partition, array, position = _STARTS.read_columns(message, count, tables)
    rows = zip(job, attempt, held, limit, partition, array, position, strict=True)
    return ev.TasksStarted(tuple(starmap(ev.TaskStart, rows)))


def _write_forgotten(message: Any, event: ev.JobsForgotten, _: Tables) -> None:
    message.count = len(event.job_ids)
    write_column(message, "job_id", deltas(list(event.job_ids), 0))


def _read_forgotten(message: Any, _: ReadTables) -> ev.JobsForgotten:
    return ev.JobsForgotten(tuple(undelta(expand(message.job_id, message.count), 0)))


EVENTS: dict[type, tuple[str, Writer, Reader]] = {
    ev.EpochStarted: ("epoch_started", *_plain(ev.EpochStarted, log_pb2.EpochStarted)),
    ev.ConfigApplied: ("config_applied", *_plain(ev.ConfigApplied, log_pb2.ConfigApplied)),
    ev.JobsSubmitted: ("jobs_submitted", _write_submitted, _read_submitted),
    ev.JobsHeld: ("jobs_held", *_plain(ev.JobsHeld, log_pb2.JobsHeld)),
    ev.JobsReleased: ("jobs_released", *_plain(ev.JobsReleased, log_pb2.JobsReleased)),
    ev.JobUpdated: ("job_updated", *_plain(ev.JobUpdated, log_pb2.JobUpdated)),
    ev.TasksStarted: ("tasks_started", _write_started, _read_started),
    ev.StepsRunning: ("steps_running", *_plural(ev.StepsRunning, "steps", _STEPS_RUNNING)),
    ev.StepCreated: ("step_created", *_plain(ev.StepCreated, log_pb2.StepCreated)),
    ev.StepsEnded: ("steps_ended", *_plural(ev.StepsEnded, "ends", _STEPS_ENDED)),
    ev.SharesReleased: ("shares_released", *_plural(ev.SharesReleased, "shares", _RELEASED)),
    ev.JobsEnding: ("jobs_ending", *_plural(ev.JobsEnding, "jobs", _ENDING)),
    ev.JobsEnded: ("jobs_ended", *_plural(ev.JobsEnded, "ends", _ENDED)),
    ev.ArrayTasksCancelled: (
        "array_tasks_cancelled",
        *_plain(ev.ArrayTasksCancelled, log_pb2.ArrayTasksCancelled),
    ),
    ev.JobsRequeued: ("jobs_requeued", *_plain(ev.JobsRequeued, log_pb2.JobsRequeued)),
    ev.JobsForgotten: ("jobs_forgotten", _write_forgotten, _read_forgotten),
    ev.NodeRegistered: ("node_registered", *_plain(ev.NodeRegistered, log_pb2.NodeRegistered)),
    ev.NodeLost: ("node_lost", *_plain(ev.NodeLost, log_pb2.NodeLost)),
    ev.NodeChanged: ("node_changed", *_plain(ev.NodeChanged, log_pb2.NodeChanged)),
}

READERS: dict[str, Reader] = {name: read for name, _, read in EVENTS.values()}

assert set(EVENTS) == set(get_args(ev.Event)), "an event has no codec"
assert set(READERS) == set(log_pb2.Event.DESCRIPTOR.fields_by_name), "a message has no event"
