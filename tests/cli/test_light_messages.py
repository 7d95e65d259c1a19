"""The small codec against google.protobuf: the same bytes mean the same, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.client import decode, encode
from crane.jobspec import (
    ArraySpec,
    Component,
    Dependency,
    DependencyKind,
    DependencyTerm,
    Gres,
    JobSpec,
    OpenMode,
)
from crane.v1 import agent_pb2, control_pb2, door_pb2, types_pb2
from crane.v1.fields_pb2 import MESSAGES
from crane.wire import jobspec as generated
from crane.wire import light

_TEXT = st.text(max_size=20)
_SCALARS = {
    "u": st.integers(0, (1 << 31) - 1),  # enums are no wider
    "s": st.integers(-(1 << 31), (1 << 31) - 1),
    "b": st.booleans(),
    "d": st.floats(allow_nan=False),
    "t": _TEXT,
    "y": st.binary(max_size=20),
}


def generated_class(name: str) -> type:
    outer, *inner = name.split(".")
    for module in (control_pb2, types_pb2, agent_pb2, door_pb2):
        found = getattr(module, outer, None)
        if found is not None:
            for part in inner:
                found = getattr(found, part)
            return found
    raise AssertionError(name)


def contents(name: str, depth: int = 3) -> st.SearchStrategy[dict]:
    """Values of a message by field, as both kinds of classes take them."""
    fields: dict[str, st.SearchStrategy] = {}
    seen_oneof = {"ChangeJobsRequest", "ClusterEvent", "Report", "Order"}
    for _, field, kind, label in MESSAGES[name]:
        if kind in MESSAGES and (depth == 0 or name in seen_oneof):
            continue
        one = _SCALARS.get(kind)
        if one is None and label != "%":
            one = contents(kind, depth - 1)
        if label == "%":
            (_, _, key, _), (_, _, value, _) = MESSAGES[kind]
            fields[field] = st.dictionaries(_SCALARS[key], _SCALARS[value], max_size=3)
        elif label == "*":
            fields[field] = st.lists(one, max_size=3)
        else:
            fields[field] = one
    return st.fixed_dictionaries({}, optional=fields)


def made_light(name: str, values: dict) -> light.Message:
    kinds = {field: (kind, label) for _, field, kind, label in MESSAGES[name]}
    out = {}
    for field, value in values.items():
        kind, label = kinds[field]
        if kind in MESSAGES and label == "*":
            out[field] = [made_light(kind, item) for item in value]
        elif kind in MESSAGES and label != "%":
            out[field] = made_light(kind, value)
        else:
            out[field] = value
    return light.message(name)(**out)


def made_generated(name: str, values: dict) -> object:
    kinds = {field: (kind, label) for _, field, kind, label in MESSAGES[name]}
    message = generated_class(name)()
    for field, value in values.items():
        kind, label = kinds[field]
        if label == "%":
            getattr(message, field).update(value)
        elif kind in MESSAGES and label == "*":
            getattr(message, field).extend(made_generated(kind, item) for item in value)
        elif kind in MESSAGES:
            getattr(message, field).CopyFrom(made_generated(kind, value))
        elif label == "*":
            getattr(message, field).extend(value)
        else:
            setattr(message, field, value)
    return message


NAMES = st.sampled_from(sorted(name for name in MESSAGES if not name.endswith("Entry")))


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_each_reads_what_the_other_writes(data):
    name = data.draw(NAMES)
    values = data.draw(contents(name))
    ours, theirs = made_light(name, values), made_generated(name, values)

    assert generated_class(name).FromString(ours.SerializeToString()) == theirs
    read = light.message(name).FromString(theirs.SerializeToString())
    assert generated_class(name).FromString(read.SerializeToString()) == theirs
    for _, field, kind, label in MESSAGES[name]:
        if label == "?":
            assert read.HasField(field) == theirs.HasField(field)
        elif kind not in MESSAGES and label == "1":
            assert getattr(read, field) == getattr(theirs, field)


@settings(deadline=None, max_examples=80)
@given(name=NAMES, body=st.binary(max_size=60))
def test_rubbish_is_refused_or_read_but_never_crashes(name, body):
    try:
        light.message(name).FromString(body)
    except light.DecodeError:
        return


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_unknown_fields_are_skipped(data):
    values = data.draw(contents("JobInfo"))
    body = made_generated("JobInfo", values).SerializeToString()
    newer = b"\xf8\x3f\x01" + body + b"\xfa\x3f\x03abc" + b"\xfd\x3f\x01\x02\x03\x04"

    assert light.message("JobInfo").FromString(newer) == light.message("JobInfo").FromString(body)


@pytest.mark.parametrize("body", [b"\x08", b"\x12\x05ab", b"\x0b\x00", b"\x12\x02\xff\xff"])
def test_broken_messages_are_told(body):
    with pytest.raises(light.DecodeError):
        light.message("Error").FromString(body)


def test_deep_nesting_is_refused():
    body = b""
    for _ in range(64):
        inner = b"\x0a" + light._varint(len(body)) + body
        body = inner
    with pytest.raises(light.DecodeError):
        _nested_rows(body)


def _nested_rows(body: bytes) -> None:
    """A message that contains itself, as a newer contract might have one."""
    MESSAGES["Loop"] = ((1, "loop", "Loop", "?"),)
    try:
        light.message("Loop").FromString(body)
    finally:
        del MESSAGES["Loop"]
        light._classes.pop("Loop", None)


_PARTS = st.builds(
    Component,
    min_nodes=st.integers(0, 9),
    ntasks=st.integers(0, 9),
    cpus_per_task=st.integers(1, 9000),
    mem_per_node=st.integers(0, 1 << 20),
    gres=st.lists(st.builds(Gres, _TEXT, _TEXT, st.integers(1, 8)), max_size=2).map(tuple),
    exclusive=st.booleans(),
    features=_TEXT,
    nodelist=st.lists(_TEXT, max_size=3).map(tuple),
)
_SPECS = st.builds(
    JobSpec,
    components=st.lists(_PARTS, min_size=1, max_size=2).map(tuple),
    partitions=st.lists(_TEXT, max_size=2).map(tuple),
    licences=st.lists(st.tuples(_TEXT, st.integers(1, 9)), max_size=2).map(tuple),
    time_limit=st.integers(-1, 10**9),
    begin=st.integers(0, 1 << 62),
    priority=st.integers(-1, (1 << 32) - 2),
    nice=st.integers(-(1 << 31), (1 << 31) - 1),
    hold=st.booleans(),
    requeue=st.sampled_from([None, True, False]),
    open_mode=st.sampled_from(OpenMode),
    stdout=_TEXT,
    comment=_TEXT,
)


@settings(deadline=None, max_examples=60)
@given(spec=_SPECS)
def test_a_description_arrives_as_it_was_sent(spec):
    body = encode.spec(light, spec).SerializeToString()

    assert decode.spec(light.message("JobSpec").FromString(body)) == spec
    assert generated.spec_from_wire(types_pb2.JobSpec.FromString(body)) == spec
    assert encode.spec(types_pb2, spec) == generated.spec_to_wire(spec)
    assert decode.spec(generated.spec_to_wire(spec)) == spec


@settings(deadline=None, max_examples=60)
@given(values=st.lists(contents("JobInfo"), min_size=1, max_size=4), data=st.data())
def test_the_rows_of_a_long_answer_are_what_each_is_alone(values, data):
    """Rows share what they have in common; the generated messages know nothing of that."""
    rows = [made_generated("JobInfo", value) for value in values]
    rows += data.draw(st.lists(st.sampled_from(rows), max_size=4))
    for row in rows:
        row.submit_time = 1_800_000_000_000_000_000
    body = control_pb2.ListJobsReply(jobs=rows).SerializeToString()

    assert decode.jobs(light.message("ListJobsReply").FromString(body).jobs) == [
        decode.job(row) for row in rows
    ]


@settings(deadline=None, max_examples=100)
@given(numbers=st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=8))
def test_numbers_of_every_length_are_read(numbers):
    rows = [control_pb2.JobInfo(submit_time=number, end_time=number) for number in numbers]
    body = control_pb2.ListJobsReply(jobs=rows, now=numbers[0]).SerializeToString()

    read = light.message("ListJobsReply").FromString(body)
    assert read.now == numbers[0]
    assert [(row.submit_time, row.end_time) for row in read.jobs] == [(n, n) for n in numbers]


def test_arrays_and_dependencies_arrive_as_they_were_sent():
    array = ArraySpec(((0, 9, 3), (20, 20, 1)), 4)
    wanted = Dependency((DependencyTerm(DependencyKind.AFTER, 7, 3, 60),), any_of=True)

    for pb in (light, types_pb2):
        assert decode.array(encode.array(pb, array)) == array
        assert decode.dependency(encode.dependency(pb, wanted)) == wanted
    assert encode.array(light, None) is None
