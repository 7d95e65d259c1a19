"""The controller's state as bytes and back, exactly, orders of insertion included.

One head (`Snapshot`) with everything but the jobs, then the jobs in parts of bounded size, each by
column. A field of the state that this module does not know fails when it is imported, not later.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from google.protobuf.message import DecodeError

from crane.errors import CraneError, ErrorCode
from crane.jobspec import JobSpec, Submission
from crane.log.v1 import log_pb2
from crane.states import JobState, Reason
from cranectld.core.state import ArrayRecord, Job, Run, State
from cranectld.store.codec.columns import SPECS, Column, Kind, ReadTables, Rows, Tables
from cranectld.store.codec.mapper import Mapper, Read, Write, mapper_of
from cranectld.store.codec.submissions import read_submissions, write_submissions

SNAPSHOT_FORMAT = 1
"""Of what this version writes; newer snapshots are refused."""
_SCHEMA = int.from_bytes(
    hashlib.blake2b(log_pb2.DESCRIPTOR.serialized_pb, digest_size=8).digest(), "little"
)
"""A state of other fields is not what folding the log with this version comes to."""
JOBS_PER_PART = 4096

_RUN = mapper_of(Run, log_pb2.Run.DESCRIPTOR)

_COLUMNS = (
    Column("job_id", "job_id", Kind.DELTA),
    Column("uid", "uid"),
    Column("gid", "gid"),
    Column("user", "user", Kind.TEXT),
    Column("submit_time", "submit_time", Kind.TIME),
    Column("priority", "priority"),
    Column("state", "state", member=JobState),
    Column("reason", "reason", member=Reason),
    Column("hold", "hold"),
    Column("eligible_time", "eligible_time", Kind.TIME),
    Column("array_id", "array_id", Kind.DELTA),
    Column("position", "position", Kind.DELTA),
    Column("attempt", "attempt"),
    Column("restarts", "restarts"),
    Column("start_time", "start_time", Kind.TIME),
    Column("end_time", "end_time", Kind.TIME),
    Column("exit_code", "exit_code"),
    Column("signal", "signal"),
    Column("cpu_us", "cpu_us"),
    Column("memory_peak", "memory_peak"),
    Column("cancelled_by", "cancelled_by"),
)
_ROWS = Rows(Job, _COLUMNS)
_JOB_FIELDS = [f.name for f in dataclasses.fields(Job) if f.init]
_RARE = ("unmet", "array", "run", "last_run")
assert {*(c.attribute for c in _COLUMNS), *_RARE, "submission"} == set(_JOB_FIELDS), "Job changed"


def _array_column(typecode: str, name: str) -> tuple[Write, Read]:
    """An `array` as little-endian bytes."""
    return (
        lambda message, value: setattr(message, name, _little_endian(value)),
        lambda message: _from_little_endian(typecode, getattr(message, name)),
    )


_RECORD = Mapper(
    ArrayRecord,
    log_pb2.ArrayRecord.DESCRIPTOR,
    custom={
        "state": (
            lambda message, value: setattr(message, "state", bytes(value)),
            lambda message: bytearray(message.state),
        ),
        "exit": _array_column("h", "exit"),
        "end_time": _array_column("q", "end_time"),
    },
)
_HEAD = Mapper(
    State,
    log_pb2.Snapshot.DESCRIPTOR,
    skip=("jobs", "specs"),
    extra=("format", "schema", "job_parts", "specs"),
)


def encode_state(state: State) -> Iterator[bytes]:
    """The head, then the parts of jobs. The state must not change meanwhile."""
    specs = list(state.specs)
    yield _encode_head(state, specs)
    jobs = iter(state.jobs.values())
    while part := list(islice(jobs, JOBS_PER_PART)):
        yield _encode_part(part, specs)


def decode_state(parts: Iterable[bytes], *, any_schema: bool = False) -> State:
    """The state again. Raises CraneError STORE_CORRUPT or STORE_NEWER.

    A snapshot of a version with other fields is refused (STORE_CORRUPT: the log tells more), unless
    `any_schema` says that there is nothing better.
    """
    source = iter(parts)
    try:
        head = log_pb2.Snapshot.FromString(next(source))
        if head.format > SNAPSHOT_FORMAT:
            raise _refuse(ErrorCode.STORE_NEWER, f"it has format {head.format}")
        if head.format < 1 or (head.schema != _SCHEMA and not any_schema):
            raise _refuse(ErrorCode.STORE_CORRUPT, "another version made it")
        state = _decode_head(head)
        specs = list(state.specs)
        found = 0
        for body in source:
            found += 1
            for job in _decode_part(log_pb2.JobPart.FromString(body), specs):
                state.jobs[job.job_id] = job
    except (DecodeError, StopIteration, LookupError, ValueError) as error:
        raise _refuse(ErrorCode.STORE_CORRUPT, str(error) or "it is empty") from error
    if found != head.job_parts:
        raise _refuse(ErrorCode.STORE_CORRUPT, f"{found} of {head.job_parts} parts are there")
    return state


def _encode_head(state: State, specs: Sequence[JobSpec]) -> bytes:
    head = log_pb2.Snapshot(format=SNAPSHOT_FORMAT, schema=_SCHEMA)
    head.job_parts = -(-len(state.jobs) // JOBS_PER_PART)
    _HEAD.fill(head, state)
    for spec in specs:
        SPECS.fill(head.specs.add(), spec)
    return head.SerializeToString()


def _decode_head(head: Any) -> State:
    state: State = _HEAD.parse(head)
    for message in head.specs:
        spec = SPECS.parse(message)
        state.specs[spec] = spec
    return state


def _encode_part(jobs: Sequence[Job], specs: Sequence[JobSpec]) -> bytes:
    part = log_pb2.JobPart(count=len(jobs))
    tables = Tables(shared=specs)
    _ROWS.write(part, jobs, tables)
    write_submissions(part.submission, [j.submission for j in jobs], tables)
    for row, job in enumerate(jobs):
        if job.unmet is None and job.array is None and job.run is None and job.last_run is None:
            continue
        rare = part.rare.add(row=row, waits=job.unmet is not None)
        for term, never in (job.unmet or {}).items():
            rare.unmet.add(term=term, never=never)
        if job.array is not None:
            rare.array.SetInParent()
            _RECORD.fill(rare.array, job.array)
        for name in ("run", "last_run"):
            run: Run | None = getattr(job, name)
            if run is not None:
                getattr(rare, name).SetInParent()
                _RUN.fill(getattr(rare, name), run)
    tables.write(part)
    return part.SerializeToString()


def _decode_part(part: Any, specs: Sequence[JobSpec]) -> Iterator[Job]:
    count = part.count
    tables = ReadTables(part, shared=specs)
    columns: dict[str, Iterable[Any]] = {
        column.attribute: values
        for column, values in zip(_COLUMNS, _ROWS.read_columns(part, count, tables), strict=True)
    }
    submissions: list[Submission] = read_submissions(part.submission, count, tables)
    columns["submission"] = submissions
    rare: dict[str, list[Any]] = {name: [None] * count for name in _RARE}
    for item in part.rare:
        if item.waits:
            rare["unmet"][item.row] = {term.term: term.never for term in item.unmet}
        if item.HasField("array"):
            rare["array"][item.row] = _RECORD.parse(item.array)
        for name in ("run", "last_run"):
            if item.HasField(name):
                rare[name][item.row] = _RUN.parse(getattr(item, name))
    columns.update(rare)
    return map(Job, *[columns[name] for name in _JOB_FIELDS])


def _little_endian(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        return values.tobytes()
    swapped = values[:]
    swapped.byteswap()
    return swapped.tobytes()


def _from_little_endian(typecode: str, body: bytes) -> array[int]:
    values: array[int] = array(typecode)
    values.frombytes(body)
    if sys.byteorder != "little":
        values.byteswap()
    return values


def _refuse(code: ErrorCode, why: str) -> CraneError:
    return CraneError(
        code,
        f"a snapshot cannot be read: {why}",
        "an older snapshot or the whole log is read instead, where there is one",
    )
