"""What goes over the session and into batches comes out as it went in."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.config.model import DeviceGroup, DeviceSlot
from crane.errors import CraneError, ErrorCode
from crane.jobspec import (
    NO_BLOB,
    ArraySpec,
    BlobRef,
    Component,
    Dependency,
    DependencyKind,
    DependencyTerm,
    Gres,
    JobSpec,
    OpenMode,
    Submission,
)
from crane.session import (
    ArrayPlace,
    DeviceCount,
    EndCause,
    EndJob,
    Inventory,
    JobReleased,
    LaunchStep,
    NodeShare,
    Order,
    Registration,
    Report,
    SetTimeLimit,
    SignalJob,
    SlotShare,
    StepEnded,
    StepKey,
    StepLayout,
    StepRequest,
    StepStarted,
)
from crane.v1 import agent_pb2 as pb
from crane.v1 import control_pb2, types_pb2
from crane.wire import jobspec as wire
from crane.wire.orders import blob_refs, orders_from_wire, orders_to_wire
from crane.wire.session import (
    device_from_wire,
    device_to_wire,
    hello_to_wire,
    registration_from_wire,
    report_from_wire,
    report_to_wire,
)
from crane.wire.steps import (
    argv_from_blob,
    argv_to_blob,
    step_refusal_to_wire,
    step_reply_from_wire,
    step_reply_to_wire,
    step_request_from_wire,
)

texts = st.text("abc/%é \n", max_size=6)
names = st.lists(texts, max_size=3).map(tuple)
u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, 1 << 62)
gres = st.builds(Gres, texts, texts, u32)
arrays = st.builds(ArraySpec, st.lists(st.tuples(u32, u32, u32), max_size=3).map(tuple), u32)
terms = st.builds(
    DependencyTerm, st.sampled_from(DependencyKind), u32, st.integers(-1, 1 << 40), u32
)
dependencies = st.builds(Dependency, st.lists(terms, max_size=3).map(tuple), st.booleans())
components = st.builds(
    Component, min_nodes=u32, max_nodes=u32, ntasks=u32, ntasks_per_node=u32, cpus_per_task=u64,
    mem_per_node=u64, mem_per_cpu=u64, gres=st.lists(gres, max_size=2).map(tuple),
    exclusive=st.booleans(), features=texts, nodelist=names, exclude=names,
    cpus_given=st.booleans(),
)  # fmt: skip
specs = st.builds(
    JobSpec, components=st.lists(components, min_size=1, max_size=2).map(tuple), partitions=names,
    account=texts, qos=texts, reservation=texts, comment=texts, wckey=texts, begin=u64,
    licences=st.lists(st.tuples(texts, u32), max_size=2).map(tuple), time_min=u64, deadline=u64,
    time_limit=st.integers(-1, 1 << 40), priority=st.integers(-1, (1 << 32) - 1),
    nice=st.integers(-1000, 1000), hold=st.booleans(), requeue=st.sampled_from((None, True, False)),
    work_dir=texts, stdin=texts, stdout=texts, stderr=texts, open_mode=st.sampled_from(OpenMode),
    signal=texts, mail_type=texts, mail_user=texts, submit_host=texts, export=texts,
    switches=texts, extra=texts, submit_dir=texts, umask=st.none() | st.integers(0, 0o777),
)  # fmt: skip
slots = st.builds(SlotShare, texts, texts, st.lists(u32, max_size=3).map(tuple))
shares = st.builds(NodeShare, texts, u64, u64, st.lists(slots, max_size=2).map(tuple), u32)
keys = st.builds(StepKey, u32, st.integers(-1, 1 << 30), u32)
causes = st.sampled_from(EndCause)
requests = st.builds(
    StepRequest, ntasks=u32, min_nodes=u32, ntasks_per_node=u32, cpus_per_task=u32, nodelist=names,
    exclude=names, name=texts, work_dir=texts,
    endpoint=texts, ticket=st.binary(max_size=8), rendezvous=texts, overlap=st.booleans(),
    stdin_mode=texts,
)  # fmt: skip
layouts = st.lists(st.tuples(texts, u32), max_size=3).map(
    lambda rows: StepLayout(tuple(n for n, _ in rows), tuple(t for _, t in rows))
)
reports: st.SearchStrategy[Report] = st.one_of(
    st.builds(StepStarted, keys, u64, u32),
    st.builds(StepEnded, keys, causes, st.integers(-255, 255), st.integers(0, 64), texts, u64, u64,
              st.integers(0, 1 << 48), st.integers(0, 1 << 48), st.booleans()),
    st.builds(JobReleased, u32, u32),
)  # fmt: skip
others: st.SearchStrategy[Order] = st.one_of(
    st.builds(EndJob, u32, u32, causes),
    st.builds(SignalJob, u32, u32, u32, st.none() | st.integers(-1, 1 << 30), st.booleans()),
    st.builds(SetTimeLimit, u32, u32, u64),
)


@st.composite
def launches(draw: Any) -> tuple[LaunchStep, dict[BlobRef, bytes]]:
    """A launch order with nothing in it that an agent does not need, and its blobs."""
    blobs = {BlobRef(9, n): draw(st.binary(min_size=1, max_size=5)) for n in range(2)}
    first, environment = (draw(st.sampled_from((NO_BLOB, *blobs))) for _ in range(2))
    script = first
    request, layout = None, None
    if draw(st.booleans()):
        layout = draw(layouts)
        asked = draw(requests)
        request = StepRequest(
            ntasks=layout.ntasks % (1 << 32), ntasks_per_node=asked.ntasks_per_node,
            cpus_per_task=asked.cpus_per_task, name=asked.name, argv=first,
            environment=environment, work_dir=asked.work_dir, endpoint=asked.endpoint,
            ticket=asked.ticket, rendezvous=asked.rendezvous, overlap=asked.overlap,
            stdin_mode=asked.stdin_mode,
        )  # fmt: skip
        script = environment = NO_BLOB
        if layout.ntasks >= 1 << 32:
            layout = StepLayout(("n1",), (1,))
            request = None
    full = draw(specs)
    spec = JobSpec(
        components=full.components[:1], account=full.account, qos=full.qos,
        reservation=full.reservation, work_dir=full.work_dir, stdin=full.stdin, stdout=full.stdout,
        stderr=full.stderr, open_mode=full.open_mode, signal=full.signal,
        submit_host=full.submit_host, submit_dir=full.submit_dir or full.work_dir, umask=full.umask,
    )  # fmt: skip
    array = draw(st.none() | st.builds(ArrayPlace, st.integers(1, 1 << 31), u32, arrays))
    held = tuple(draw(st.lists(shares, min_size=1, max_size=3)))
    order = LaunchStep(
        key=draw(keys), uid=draw(u32), gid=draw(u32), user=draw(texts),
        submission=Submission(spec, draw(texts), script, environment, draw(names)),
        shares=held, addresses=tuple([draw(texts) for _ in held]),
        partition=draw(texts), start_time=draw(u64), end_time=draw(u64), kill_grace=draw(u32),
        array=array, restarts=draw(u32), request=request, layout=layout if request else None,
    )  # fmt: skip
    return order, blobs


def _resolved(order: Order, table: dict[BlobRef, bytes] | tuple[bytes, ...]) -> Any:
    """An order with the bytes its BlobRefs stand for, and the order without them."""
    if not isinstance(order, LaunchStep):
        return order
    s = order.submission

    def of(ref: BlobRef) -> bytes | None:
        if ref == NO_BLOB:
            return None
        return table[ref] if isinstance(table, dict) else table[ref.index]

    fields = {name: getattr(order, name) for name in order.__match_args__ if name != "submission"}
    step = order.request
    if step is not None:
        fields["request"] = replace(step, argv=NO_BLOB, environment=NO_BLOB)
        fields["argv"], fields["environment"] = of(step.argv), of(step.environment)
    return fields, (s.spec, s.name, s.args, of(s.script), of(s.environment))


@settings(deadline=None, max_examples=80)
@given(st.lists(launches(), max_size=3), st.lists(others, max_size=3))
def test_orders(made: list[tuple[LaunchStep, dict[BlobRef, bytes]]], rest: list[Order]) -> None:
    blobs: dict[BlobRef, bytes] = {}
    for _, theirs in made:
        blobs |= theirs
    orders: list[Order] = [order for order, _ in made] + rest
    assert set(blob_refs(orders)) <= set(blobs)
    message = pb.ControllerMessage()
    orders_to_wire(message, orders, {ref: blobs[ref] for ref in blob_refs(orders)})
    again = pb.ControllerMessage.FromString(message.SerializeToString())
    got = [_resolved(order, tuple(again.blobs)) for order in orders_from_wire(again)]
    assert got == [_resolved(order, blobs) for order in orders]


def test_a_blob_that_jobs_share_travels_once() -> None:
    script = BlobRef(1, 0)
    orders = [
        LaunchStep(StepKey(n, step, 1), 1, 1, "u", Submission(JobSpec(), "j", script, script),
                   (NodeShare("n1", 1),), ("a",), "p", 0, **made)
        for n in range(5)
        for step, made in ((-1, {}), (0, {"request": StepRequest(argv=script, environment=script),
                                          "layout": StepLayout(("n1",), (1,))}))
    ]  # fmt: skip
    assert blob_refs(orders) == [script]
    message = pb.ControllerMessage()
    orders_to_wire(message, orders, {script: b"#!/bin/sh\n"})
    assert list(message.blobs) == [b"#!/bin/sh\n"]


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 1 << 60), reports)
def test_reports(seq: int, report: Report) -> None:
    message = pb.Report.FromString(report_to_wire(seq, report).SerializeToString())
    assert report_from_wire(message) == (seq, report)


def test_figures_that_no_host_can_mean_are_cut() -> None:
    ended = pb.StepEnded(cause=1, exit_code=-(1 << 31), cpu_us=(1 << 64) - 1, signal=1 << 31)  # type: ignore[arg-type]
    _, report = report_from_wire(pb.Report(seq=1, ended=ended))
    assert isinstance(report, StepEnded)
    assert (report.exit_code, report.cpu_us, report.signal) == (-0x7FFF, 1 << 48, 127)


@settings(deadline=None, max_examples=50)
@given(u32, requests, keys, layouts)
def test_steps(job_id: int, request: StepRequest, key: StepKey, layout: StepLayout) -> None:
    same = {name: getattr(request, name) for name in request.__match_args__}
    argv, environment = BlobRef(3, 1), BlobRef(3, 2)
    sent = pb.CreateStepRequest(job_id=job_id, **same | {"argv": ["x"], "environment": b"A=1"})
    message = pb.CreateStepRequest.FromString(sent.SerializeToString())
    got = step_request_from_wire(message, argv, environment)
    assert got == replace(request, argv=argv, environment=environment)
    reply = step_reply_to_wire(key, layout)
    assert step_reply_from_wire(key.job_id, reply) == (key, layout)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4)))
def test_a_command_line_is_read_as_it_was_stored(argv: list[str]) -> None:
    assert argv_from_blob(argv_to_blob(argv)) == tuple(argv)


def test_bytes_that_are_no_text_reach_the_program_as_they_are() -> None:
    argv = argv_from_blob(b"prog\0\xff\xfe\0\0")
    assert (len(argv), os.fsencode(argv[1]), argv[2]) == (3, b"\xff\xfe", "")
    assert argv_to_blob(argv) == b"prog\0\xff\xfe\0\0"
    assert argv_from_blob(b"") == ()


def test_a_refused_step_raises_what_it_was_refused_with() -> None:
    reply = step_refusal_to_wire(CraneError(ErrorCode.UNKNOWN_JOB, "no such job", "look"))
    with pytest.raises(CraneError, match="no such job") as caught:
        step_reply_from_wire(1, reply)
    assert (caught.value.code, caught.value.hint) == (ErrorCode.UNKNOWN_JOB, "look")


def test_registration() -> None:
    inventory = Inventory(
        4000, 1024, (DeviceCount("gpu", "a100", 2),), "v2", "Linux", "1", 7, ("dusty",), True, 3
    )
    running = (StepKey(1, -1, 1), StepKey(2, 0, 3))
    registration = Registration(
        "n1", "10.0.0.1", "inc", "boot", "spool", inventory, running, host_id="host"
    )
    hello = hello_to_wire(registration, b"nonce", 17, 4)
    assert (hello.nonce, hello.first_report, hello.known_epoch) == (b"nonce", 17, 4)
    assert registration_from_wire(hello) == registration
    hello.protocol = 99
    with pytest.raises(CraneError, match="version 99"):
        registration_from_wire(hello)
    group = DeviceGroup(
        "npu", "910b3", (DeviceSlot(("/dev/a",), 1), DeviceSlot()), (("V", "{indices}"),), ("/m",)
    )
    assert device_from_wire(device_to_wire(group)) == group


@settings(deadline=None, max_examples=80)
@given(specs)
def test_specs(spec: JobSpec) -> None:
    message = types_pb2.JobSpec.FromString(wire.spec_to_wire(spec).SerializeToString())
    assert wire.spec_from_wire(message) == spec


@settings(deadline=None, max_examples=80)
@given(specs, texts, names, st.none() | dependencies, st.none() | arrays, texts)
def test_submissions(
    spec: JobSpec,
    name: str,
    args: tuple[str, ...],
    dependency: Dependency | None,
    array: ArraySpec | None,
    command: str,
) -> None:
    script, environment = BlobRef(3, 1), BlobRef(3, 2)
    job = Submission(spec, name, script, environment, args, dependency, array, command)
    sent = wire.submission_to_wire(job, 5, 2, 3).SerializeToString()
    message = control_pb2.SubmitJobsRequest.Submission.FromString(sent)
    assert (message.spec, message.script, message.environment) == (5, 2, 3)
    assert wire.submission_from_wire(message, spec, script, environment) == job


@pytest.mark.parametrize(
    ("message", "decode"),
    [
        (pb.ControllerMessage(orders=[pb.Order()]), orders_from_wire),
        (pb.ControllerMessage(orders=[pb.Order(launch=pb.LaunchStep())]), orders_from_wire),
        (
            pb.ControllerMessage(
                orders=[pb.Order(launch=pb.LaunchStep(script=1, allocation=[{}]))]  # type: ignore[list-item]
            ),
            orders_from_wire,
        ),
        (pb.ControllerMessage(orders=[pb.Order(end_job=pb.EndJob())]), orders_from_wire),
        (pb.Report(seq=1), report_from_wire),
        (pb.Report(seq=1, ended=pb.StepEnded()), report_from_wire),
        (types_pb2.JobSpec(open_mode=77), wire.spec_from_wire),  # type: ignore[arg-type]
        (types_pb2.Dependency(terms=[{}]), wire.dependency_from_wire),  # type: ignore[list-item]
    ],
)
def test_what_a_peer_of_this_version_would_not_send(message: Any, decode: Any) -> None:
    with pytest.raises(CraneError) as caught:
        decode(message)
    assert caught.value.code in {ErrorCode.PROTOCOL, ErrorCode.BAD_VALUE}
