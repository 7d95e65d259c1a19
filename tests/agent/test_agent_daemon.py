"""A real craned, its launcher and its jobs, against a controller's end of the session.

The other end is a gRPC server that speaks the protocol and has no scheduler behind it.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from typing import Any

import pytest

from crane.auth.key import create_key
from crane.config.model import DeviceGroup, DeviceSlot
from crane.jobspec import BATCH_STEP, BlobRef, JobSpec, Submission
from crane.session import (
    EndCause,
    EndJob,
    JobReleased,
    NodeShare,
    SetTimeLimit,
    SignalJob,
    SlotShare,
    StepKey,
    StepLayout,
    StepRequest,
    StepStarted,
)
from crane.v1 import agent_pb2 as pb
from crane.v1 import control_pb2
from crane.v1.door_pb2 import DoorReply
from crane.wire.errors import to_wire
from crane.wire.session import key_from_wire
from craned.contact import host_id

DEADLINE = 40.0
SCRIPT, ENVIRONMENT, ARGV = BlobRef(7, 0), BlobRef(7, 1), BlobRef(7, 2)


def test_an_agent_registers_with_what_its_host_has(rig: Any) -> None:
    rig.start_craned()
    hello = rig.controller.hellos[0]
    assert (hello.node, list(hello.running), hello.protocol) == ("n1", [], 1)
    assert hello.inventory.cpus >= 1000
    assert hello.inventory.memory > 100
    assert hello.inventory.cgroup in {"v1", "v2", "none"}
    assert hello.spool_id
    assert hello.boot_id
    assert hello.host_id == host_id()
    status = rig.status()
    assert (status.node, status.connected, status.pid) == ("n1", True, rig.process.pid)  # type: ignore[union-attr]


def test_no_report_is_lost_and_nothing_runs_twice_over_a_broken_session(rig: Any) -> None:
    controller = rig.controller
    rig.start_craned()
    controller.acknowledging = False
    script = 'echo "$CRANE_JOB_ID" >>ran'
    orders = [rig.order(job) for job in range(1, 51)]
    controller.send(*orders, script=script)
    controller.wait(lambda: len(controller.reports) >= 10, "some reports")
    controller.drop()
    controller.connected(2)
    again = [o for o in orders if o.key not in map(key_from_wire, controller.hellos[-1].running)]
    assert again == [], "all of them are known here"
    controller.acknowledging = True
    controller.send(*orders, script=script)
    for job in range(1, 51):
        assert controller.ended(job).released
    controller.wait(rig.nothing_left, "everything acknowledged")
    assert sorted(map(int, rig.read("ran").split())) == list(range(1, 51))
    controller.wait(lambda: os.listdir(rig.path("state/spool/records")) == [], "spool emptied")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_outlive_their_agent_and_are_adopted(rig: Any, number: signal.Signals) -> None:
    controller = rig.controller
    rig.start_craned()
    os.mkfifo(rig.path("go1"))
    os.mkfifo(rig.path("go2"))
    for job in (1, 2):
        rig.launch(job, f"echo up; read x <go{job}; echo over; exit {job + 3}")
        rig.wait_line(f"{job}.out", "up")
    assert rig.stop_craned(number) == (0 if number == signal.SIGTERM else -number)
    with open(rig.path("go1"), "w") as go:
        go.write("on\n")
    rig.wait_line("1.out", "over")
    rig.start_craned(sessions=2)
    assert sorted(k.job_id for k in controller.hellos[1].running) == [1, 2]
    assert controller.hellos[0].spool_id == controller.hellos[1].spool_id
    controller.send(rig.order(1), rig.order(2), script="echo twice >>twice")
    with open(rig.path("go2"), "w") as go:
        go.write("on\n")
    assert controller.ended(1).exit_code == 4
    assert controller.ended(2).exit_code == 5
    assert rig.read("twice") == ""


def test_a_controller_with_another_key_is_never_obeyed(rig: Any) -> None:
    create_key(rig.path("other"))
    rig.start_craned(key="other", sessions=0)
    rig.controller.wait(lambda: rig.controller.refused >= 2, "two attempts refused")
    assert rig.controller.hellos == []
    assert not rig.status().connected


def test_a_controller_that_cannot_prove_the_key_is_not_obeyed_either(rig: Any) -> None:
    controller = rig.controller
    rig.start_craned()
    rig.launch(1, "echo up; exec sleep 1000")
    rig.wait_line("1.out", "up")
    controller.welcome_key = b"?" * 32
    sessions = len(controller.hellos)
    controller.drop()
    rig.wait_line("craned.log", "does not hold this cluster's key")
    assert not rig.status().connected
    assert controller.ends(1) == []
    controller.welcome_key = controller.key
    controller.connected(sessions + 1)
    controller.wait(lambda: rig.status().connected, "the right one obeyed")


def test_an_older_controller_is_refused_and_a_newer_one_obeyed(rig: Any) -> None:
    controller = rig.controller
    controller.epoch = 5
    rig.start_craned()
    controller.wait(lambda: '"epoch": 5' in rig.read("state/contact"), "epoch 5 remembered")
    rig.stop_craned(signal.SIGKILL)
    controller.epoch = 4
    rig.start_craned(sessions=2, obeyed=False)
    assert controller.hellos[-1].known_epoch == 5
    rig.wait_line("craned.log", "another controller has taken over")
    controller.epoch = 6
    controller.connected(len(controller.hellos) + 1)
    controller.wait(lambda: rig.status().connected, "obeyed")
    rig.launch(1, "exit 3")
    assert controller.ended(1).exit_code == 3


def test_jobs_are_killed_in_time_when_contact_is_lost(rig: Any) -> None:
    controller = rig.controller
    controller.lease, controller.lost_contact = 1.5, "kill"
    rig.start_craned()
    rig.launch(1, "trap 'echo term' TERM; echo up; while :; do sleep 0.02; done")
    rig.wait_line("1.out", "up")
    controller.stop()
    last_word = time.time_ns()
    rig.wait_line("1.out", "term")
    controller.wait(lambda: rig.status().reports_waiting, "the end noticed")
    controller.start()
    controller.connected(2)
    end = controller.ended(1)
    assert end.cause is EndCause.LOST
    assert "lost_contact" in end.message
    assert end.end_time < last_word + 3_500_000_000, "lease, grace and a little"


def test_jobs_are_kept_when_contact_is_lost(rig: Any) -> None:
    controller = rig.controller
    controller.lease = 0.5
    rig.start_craned()
    os.mkfifo(rig.path("go"))
    rig.launch(1, "echo up; read x <go; exit 9")
    rig.wait_line("1.out", "up")
    controller.stop()
    controller.wait(lambda: rig.status().lease_left == 0, "the end of the lease")
    with open(rig.path("go"), "w") as go:
        go.write("on\n")
    controller.wait(lambda: rig.status().reports_waiting, "the end noticed")
    controller.start()
    assert controller.ended(1).exit_code == 9


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_time_limits_hold_though_the_clocks_of_the_hosts_differ(rig: Any, ahead: float) -> None:
    controller = rig.controller
    controller.ahead = ahead
    rig.start_craned()
    second = 1_000_000_000
    rig.launch(1, "exit 3", end_time=controller.clock() + 60 * second)
    assert controller.ended(1).exit_code == 3
    rig.launch(2, "exec sleep 600", end_time=controller.clock() + second)
    assert controller.ended(2).cause is EndCause.TIMEOUT
    rig.launch(3, "exec sleep 600", end_time=controller.clock() + 600 * second)
    controller.send(SetTimeLimit(3, 1, controller.clock() + second))
    assert controller.ended(3).cause is EndCause.TIMEOUT


def test_a_job_can_be_signalled_and_ended(rig: Any) -> None:
    controller = rig.controller
    rig.start_craned()
    rig.launch(1, "trap 'echo usr1' USR1; echo up; while :; do sleep 0.02; done")
    rig.wait_line("1.out", "up")
    controller.send(SignalJob(1, 1, signal.SIGUSR1, batch_only=True))
    rig.wait_line("1.out", "usr1")
    controller.send(EndJob(1, 1, EndCause.CANCELLED), EndJob(99, 1, EndCause.CANCELLED))
    end = controller.ended(1)
    assert (end.cause, end.released) == (EndCause.CANCELLED, True)
    assert JobReleased(99, 1) in controller.reports


def test_a_job_finds_its_variables_devices_and_lookalikes(rig: Any) -> None:
    for name in ("g0", "g1"):
        open(rig.path(name), "w").close()
    slots = tuple(DeviceSlot((rig.path(name),)) for name in ("g0", "g1"))
    rig.controller.devices = (
        DeviceGroup("gpu", "a100", slots, (("CUDA_VISIBLE_DEVICES", "{indices}"),)),
    )
    rig.start_craned()  # it learns of the devices, looks, and dials again before it registers
    devices = rig.controller.hellos[-1].inventory.devices
    assert [(d.name, d.type, d.count) for d in devices] == [("gpu", "a100", 2)]
    script = 'echo "$SLURM_JOB_ID $CUDA_VISIBLE_DEVICES $X $SLURM_CLUSTER_NAME"; command -v srun; scontrol show hostnames "n[1-2]"'
    share = NodeShare("n1", 1000, slots=(SlotShare("gpu", "a100", (1,)),))
    rig.launch(7, script, shares=(share,))
    assert rig.controller.ended(7).exit_code == 0
    assert rig.read("7.out") == f"7 1 1 test\n{rig.path('state/bin/srun')}\nn1\nn2\n"


def test_what_cannot_be_launched_says_why(rig: Any) -> None:
    rig.start_craned()
    rig.launch(1, "exit 0", shares=(NodeShare("n2", 1000),))
    end = rig.controller.ended(1)
    assert (end.cause, end.released) == (EndCause.LAUNCH_FAILED, True)
    assert "nothing allocated on n1" in end.message
    spec = JobSpec(work_dir=rig.directory, stdout="missing/%j.out")
    rig.launch(2, "exit 0", submission=Submission(spec, "j", SCRIPT, ENVIRONMENT))
    end = rig.controller.ended(2)
    assert end.cause is EndCause.LAUNCH_FAILED
    assert "missing" in end.message


def test_tasks_of_a_step_stream_to_their_crun(rig: Any) -> None:
    rig.start_craned()
    with socket.create_server(("127.0.0.1", 0)) as crun:
        crun.settimeout(DEADLINE)
        request = StepRequest(
            argv=ARGV,
            environment=ENVIRONMENT,
            endpoint=f"127.0.0.1:{crun.getsockname()[1]}",
            ticket=b"secret-ticket",
        )
        layout = StepLayout(("n0", "n1"), (1, 2))
        shares = (NodeShare("n0", 1000), NodeShare("n1", 2000))
        rig.controller.send(
            rig.order(3, 0, request=request, layout=layout, shares=shares, addresses=("a", "b")),
            argv=("/bin/sh", "-c", 'echo "$SLURM_PROCID/$SLURM_NTASKS on $SLURM_NODEID"'),
            environment=b"PATH=/usr/bin:/bin",
        )
        stream, _ = crun.accept()
        with stream, stream.makefile("rb") as frames:
            kinds: list[int] = []
            output: dict[int, bytes] = {}
            while header := frames.read(9):
                kind, rank, length = struct.unpack("!BII", header)
                payload = frames.read(length)
                kinds.append(kind)
                if kind == 1:
                    assert payload.endswith(b"secret-ticket")
                if kind == 2:
                    output[rank] = output.get(rank, b"") + payload
                if kind == 6:
                    break
    assert output == {1: b"1/3 on 1\n", 2: b"2/3 on 1\n"}
    end = rig.controller.ended(3, 0)
    assert (end.exit_code, end.released) == (0, False)


def test_requests_at_the_door_reach_the_controller_with_their_uid(rig: Any) -> None:
    controller = rig.controller
    rig.start_craned()
    answers: list[DoorReply] = []
    request = pb.CreateStepRequest(job_id=4, ntasks=2)
    for outcome in (
        pb.CreateStepReply(step=1, attempt=1, nodes=["n1"], tasks_per_node=[2]),
        pb.CreateStepReply(error=to_wire("UNKNOWN_JOB", "there is no job 4", "see cqueue")),
    ):
        asking = threading.Thread(target=lambda: answers.append(rig.ask("CreateStep", request)))
        asking.start()
        forward = controller.wait(lambda: controller.forwards and controller.forwards.pop(), "it")
        assert (forward.uid, forward.gid) == (os.getuid(), os.getgid())
        assert forward.request == request
        controller.answer(forward.id, outcome)
        asking.join(DEADLINE)
    assert list(pb.CreateStepReply.FromString(answers[0].body).nodes) == ["n1"]
    assert answers[1].error.message == "there is no job 4"
    controller.stop()
    controller.wait(lambda: not rig.status().connected, "the loss noticed")
    assert "no connection" in rig.ask("CreateStep", request).error.message
    made = rig.ask("IssueToken", control_pb2.IssueTokenRequest(lifetime=5))
    assert control_pb2.IssueTokenReply.FromString(made.body).token
    assert "no CreateStepRequest" in rig.ask("CreateStep", b"\xff\xff rubbish").error.message
    controller.start()
    controller.connected(2)


def test_two_agents_never_share_a_state_directory(rig: Any) -> None:
    rig.start_craned()
    first = rig.process
    rig.start_craned(sessions=0)
    assert rig.process is not None
    assert rig.process.wait(DEADLINE) == 6
    assert "another craned uses" in rig.read("craned.log")
    rig.process = first


def test_a_start_is_reported_for_what_goes_on(rig: Any) -> None:
    rig.start_craned()
    rig.launch(1, "exec sleep 1000")
    started = rig.controller.wait(lambda: rig.controller.reports, "the start")[0]
    assert isinstance(started, StepStarted)
    assert started.key == StepKey(1, BATCH_STEP, 1)
    assert started.pid > 1
