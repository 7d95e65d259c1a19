"""Every event survives the log's format exactly; what cannot be read is refused."""

from __future__ import annotations

import dataclasses
import types
from enum import IntEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crane.errors import CraneError, ErrorCode
from crane.jobspec import BlobRef, JobSpec, Submission
from crane.log.v1 import log_pb2
from cranectld.core import events as ev
from cranectld.store.codec import FORMAT, decode_batch, encode_batch
from cranectld.store.codec.columns import ReadTables, compress, deltas, expand, undelta
from cranectld.store.codec.mapper import Mapper

INTS = st.integers(0, 2**62) | st.integers(0, 3)
SIGNED = st.integers(-(2**40), 2**62) | st.integers(-2, 2)
TEXTS = st.text(max_size=6)
BOUNDS = {"state": 2**31, "sequence": 2**31}
SIGNED_FIELDS = {
    "task", "exit_code", "nice", "priority", "priorities", "step", "by_uid", "position", "time_limit",
    "max_time", "default_time", "numa", "time", "start_time", "end_time", "end_limit", "job_id",
}  # fmt: skip


def values(hint: Any, name: str = "") -> st.SearchStrategy[Any]:
    """Any value of a type hint."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return st.one_of([st.none() if a is type(None) else values(a, name) for a in args])
    if origin is tuple:
        if args[1:] == (Ellipsis,):
            return st.lists(values(args[0], name), max_size=3).map(tuple)
        return st.tuples(*[values(a, name) for a in args])
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return st.sampled_from(list(hint))
    if hint is bool:
        return st.booleans()
    if hint is int:
        return SIGNED if name in SIGNED_FIELDS else INTS
    if hint is float:
        return st.floats(0, 1e6)
    if hint is bytes:
        return st.binary(max_size=8)
    if hint is str:
        return TEXTS
    return records(hint)


def records(cls: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    names = (
        [f.name for f in dataclasses.fields(cls)]
        if dataclasses.is_dataclass(cls)
        else list(cls._fields)
    )
    return st.builds(cls, **{n: values(hints[n], n) for n in names})


def submitted() -> st.SearchStrategy[ev.JobsSubmitted]:
    """One priority per job; few specs for many jobs, as it is in life."""

    def fit(event: ev.JobsSubmitted, specs: list[JobSpec], shared: list[int]) -> ev.JobsSubmitted:
        jobs = tuple(
            dataclasses.replace(job, spec=specs[shared[i] % len(specs)])
            for i, job in enumerate(event.jobs)
        )
        priorities = (*event.priorities, *range(len(jobs)))[: len(jobs)]
        return dataclasses.replace(event, jobs=jobs, priorities=priorities)

    return st.builds(
        fit,
        records(ev.JobsSubmitted),
        st.lists(records(JobSpec), min_size=1, max_size=2),
        st.lists(st.integers(0, 5), min_size=3, max_size=3),
    )


def events(cls: type) -> st.SearchStrategy[Any]:
    return submitted() if cls is ev.JobsSubmitted else records(cls)


@pytest.mark.parametrize("cls", get_args(ev.Event), ids=lambda cls: cls.__name__)
def test_every_event_survives_the_log_format(cls: type) -> None:
    @given(st.lists(events(cls), min_size=1, max_size=3), st.integers(0, 2**62))
    @settings(
        deadline=None,
        max_examples=10,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    def check(found: list[Any], start: int) -> None:
        batch = [ev.Logged(7 + i, start + i * i, event) for i, event in enumerate(found)]
        assert decode_batch(encode_batch(batch, epoch=3)) == batch

    check()


@given(st.lists(st.integers(-(2**60), 2**60) | st.just(0), max_size=8))
@settings(deadline=None, max_examples=200)
def test_a_column_reads_as_it_was_written(column: list[int]) -> None:
    assert list(expand(list(compress(column)), len(column))) == column
    assert list(undelta(deltas(column, 5), 5)) == column


def test_flags_come_back_as_flags() -> None:
    ends = tuple(
        ev.JobEnd(i, 1, ev.JobState.FAILED, ev.Reason.NONE, 1, 0, requeue=i == 2) for i in range(4)
    )
    (logged,) = decode_batch(encode_batch([ev.Logged(1, 0, ev.JobsEnded(ends))], 1))
    assert [type(end.requeue) for end in logged.event.ends] == [bool] * 4
    assert [type(end.hold) for end in logged.event.ends] == [bool] * 4


def test_jobs_of_one_kind_share_one_spec_after_reading() -> None:
    spec = JobSpec(work_dir="/home/u")
    jobs = tuple(Submission(spec, f"j{i}", BlobRef(1, i)) for i in range(100))
    event = ev.JobsSubmitted(1, 1, 1, "u", jobs, (0,) * 100)
    (read,) = decode_batch(encode_batch([ev.Logged(1, 0, event)], 1))
    assert len({id(job.spec) for job in read.event.jobs}) == 1


def one_batch() -> log_pb2.Batch:
    return log_pb2.Batch.FromString(encode_batch([ev.Logged(1, 5, ev.EpochStarted(1))], 1))


def refusal(batch: log_pb2.Batch) -> CraneError:
    with pytest.raises(CraneError) as caught:
        decode_batch(batch.SerializeToString())
    return caught.value


def test_a_newer_format_is_refused() -> None:
    batch = one_batch()
    batch.format = FORMAT + 1
    error = refusal(batch)
    assert error.code is ErrorCode.STORE_NEWER
    assert "newer version" in error.message


def test_an_unknown_event_is_refused_not_skipped() -> None:
    batch = one_batch()
    batch.events[0].ParseFromString(b"\xfa\x3f\x00")  # field 1023: no event of this version
    error = refusal(batch)
    assert error.code is ErrorCode.STORE_NEWER
    assert "event 1" in error.message


def test_a_state_no_enumeration_knows_is_refused() -> None:
    batch = one_batch()
    batch.events[0].jobs_ended.count = 1
    batch.events[0].jobs_ended.state.append(99)
    assert refusal(batch).code is ErrorCode.STORE_NEWER


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff", b"rubbish that is no message"])
def test_rubbish_is_refused(body: bytes) -> None:
    with pytest.raises(CraneError) as caught:
        decode_batch(body)
    assert caught.value.code in {ErrorCode.STORE_CORRUPT, ErrorCode.STORE_NEWER}


def test_a_column_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(CraneError) as caught:
        expand([1, 2], 3)
    assert caught.value.code is ErrorCode.STORE_CORRUPT


def test_a_field_without_its_twin_is_found_when_a_mapper_is_made() -> None:
    @dataclasses.dataclass
    class Twin:
        epoch: int
        forgotten: int

    with pytest.raises(TypeError, match="forgotten"):
        Mapper(Twin, log_pb2.EpochStarted.DESCRIPTOR)


def test_reading_tables_start_with_the_empty_text() -> None:
    assert ReadTables(log_pb2.Batch(strings=["a"])).texts == ["", "a"]
