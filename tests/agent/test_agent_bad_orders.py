"""Requests nobody should make, and the largest one may make: no order ends the agent."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crane.config.schema import LIMITS
from crane.jobspec import BlobRef, JobSpec, Submission
from crane.session import LaunchStep, NodeShare, StepKey, StepLayout, StepRequest
from cranectld.core.commands import Rejected
from cranectld.core.decide.steps import MAX_TASKS, check_form
from cranectld.core.decide.submit import MAX_ARG_CHARS
from cranectld.rpc.steps import MAX_COMMAND
from craned.accounts import User
from craned.exec import wire
from craned.exec.client import MAX_ORDER, launch_frame
from craned.exec.identity import Account
from craned.exec.protocol import Exited, Key, LaunchOrder, ProtocolError, decode_order
from craned.launch import LaunchMaker

ARGV, ENVIRONMENT = BlobRef(7, 0), BlobRef(7, 1)
UID = os.geteuid()
USER = User(Account(UID, 5, "ann", "/home/ann", "/bin/sh", (5, 7)), "staff", b"HOME=/home/ann")

texts = st.text(max_size=20) | st.text("0123456789\u00b2\u0663", max_size=8)
requests = st.builds(
    StepRequest,
    ntasks=st.integers(-1, MAX_TASKS + 1),
    cpus_per_task=st.integers(-1, MAX_TASKS + 1),
    name=texts,
    argv=st.just(ARGV),
    environment=st.just(ENVIRONMENT),
    work_dir=texts,
    endpoint=texts | st.just("unix:/tmp/s"),
    ticket=st.binary(max_size=8) | st.text("0123456789abcdef", max_size=40).map(str.encode),
    rendezvous=texts | st.just("torch"),
    overlap=st.booleans(),
    stdin_mode=texts | st.sampled_from(["all", "none", "3"]),
)


@settings(deadline=None, max_examples=200)
@example(request=StepRequest(argv=ARGV, ticket=b"a\0"))
@example(request=StepRequest(argv=ARGV, stdin_mode="\u00b2"))
@given(request=requests)
def test_what_the_controller_lets_pass_can_be_launched(request: StepRequest) -> None:
    try:
        check_form(request)
    except Rejected:
        return
    order = LaunchStep(
        StepKey(7, 0, 1), UID, 5, "ann", Submission(JobSpec(work_dir="/w"), "job"),
        shares=(NodeShare("n1", 4000),), addresses=("h1",), partition="main", start_time=5,
        request=request, layout=StepLayout(("n1",), (4,)),
    )  # fmt: skip
    made = LaunchMaker("n1", "/state/bin").make(order, (b"prog\0", b"A=1"), USER, 10)
    key, frame = launch_frame(made)
    assert key == Key(7, 0, 1)
    assert decode_order(frame[wire.HEADER.size :]) == made


@pytest.mark.parametrize("bad", [{"ticket": b"a\0"}, {"work_dir": "/a\0b"}])
def test_an_order_that_cannot_be_made_ends_its_step_and_nothing_else(
    rig: Any, bad: dict[str, Any]
) -> None:
    # Given a controller that has let it pass
    rig.start_craned()
    rig.launch(1, "echo up; exec sleep 1000")
    rig.wait_line("1.out", "up")
    request = StepRequest(argv=ARGV, environment=ENVIRONMENT, endpoint="127.0.0.1:1", **bad)
    order = rig.order(2, 0, request=request, layout=StepLayout(("n1",), (1,)))
    # When it sends it, between others, and again in another session
    for sessions in (1, 2):
        rig.controller.connected(sessions)
        rig.controller.send(order, rig.order(2 + sessions), script="exit 3", argv=("true",))
        assert rig.controller.ended(2 + sessions).exit_code == 3
        if sessions == 1:
            rig.controller.drop()
    # Then that step has ended, the log says why, and craned and the other jobs go on.
    end = rig.controller.ended(2, 0)
    assert (end.cause.name, end.released) == ("LAUNCH_FAILED", False)
    assert "NUL" in end.message
    assert rig.controller.ends(1) == []
    assert "step StepKey(job_id=2, step=0, attempt=1) is not launched" in rig.read("craned.log")
    os.truncate(rig.path("craned.log"), 0)  # its traceback is expected


def most(name: str) -> int:
    """The most that the configuration may set a limit to."""
    return int(next(key.high for key in LIMITS if key.name == name))


def test_the_largest_order_that_may_be_asked_for_fits_into_a_frame() -> None:
    rest = 4 << 20  # of what the agent adds: variables, addresses and host lists
    numbers = 4 * (MAX_TASKS + (1 << 16))
    batch = most("max_script") + most("max_environment") + 4 * MAX_ARG_CHARS
    crun = most("max_environment") + MAX_COMMAND
    assert max(batch, crun) + numbers + rest <= MAX_ORDER < wire.MAX_FRAME
    order = LaunchOrder(
        Key(1, -1, 1), UID, 5, "/", script=b"#" * most("max_script"),
        env=b"A" * most("max_environment"), argv=("\U0001f600" * MAX_ARG_CHARS,),
    )  # fmt: skip
    _, frame = launch_frame(order)
    buffer, found = wire.FrameBuffer(), []
    for at in range(0, len(frame), 1 << 16):
        found += buffer.feed(frame[at : at + (1 << 16)])
    assert decode_order(found[0][1]) == order


def test_an_order_no_shim_could_take_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ProtocolError, match="an order of"):
        launch_frame(LaunchOrder(Key(1, -1, 1), UID, 5, "/", script=b"#" * wire.MAX_FRAME))
    ranks = tuple(range(MAX_TASKS))
    with pytest.raises(ProtocolError, match="too many tasks"):
        launch_frame(LaunchOrder(Key(1, 0, 1), UID, 5, "/", groups=(1,), ranks=ranks))


def test_the_largest_script_that_may_be_configured_runs(plain_host: Any) -> None:
    script = b"#!/bin/sh\nexit 7\n"
    script += b"#" * (most("max_script") - len(script))
    report = plain_host.run_step(plain_host.order(script))
    assert isinstance(report, Exited), report
    assert report.exit_code == 7
