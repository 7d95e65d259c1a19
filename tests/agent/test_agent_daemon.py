"""A real craned, its launcher and its jobs, against a controller's end of the session.

The other end is a gRPC server that speaks the protocol and has no scheduler behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc import aio

from crane.auth import seal
from crane.auth.key import create_key
from crane.config.model import DeviceGroup, DeviceSlot
from crane.jobspec import BATCH_STEP, BlobRef, JobSpec, Submission
from crane.session import (
    EndCause,
    EndJob,
    JobReleased,
    LaunchStep,
    NodeShare,
    Order,
    SignalJob,
    SlotShare,
    StepEnded,
    StepKey,
    StepLayout,
    StepRequest,
    StepStarted,
)
from crane.v1 import agent_pb2 as pb
from crane.v1 import control_pb2
from crane.v1.door_pb2 import DoorReply, DoorRequest
from crane.wire.errors import to_wire
from crane.wire.frames import LENGTH, frame
from crane.wire.orders import orders_to_wire
from crane.wire.session import device_to_wire, key_from_wire, report_from_wire
from craned.exec.client import LauncherClient, LauncherOptions

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEADLINE = 40.0
SCRIPT, ENVIRONMENT = BlobRef(7, 0), BlobRef(7, 1)


class Controller:
    """The controller's end: welcomes, acknowledges, sends what the test says."""

    def __init__(self, key: bytes) -> None:
        self.key = self.welcome_key = key
        self.epoch, self.stream = 1, 0
        self.lease, self.lost_contact, self.heartbeat = 60.0, "keep", 0.1
        self.devices: tuple[DeviceGroup, ...] = ()
        self.acknowledging = True
        self.hellos: list[pb.Hello] = []
        self.reports: list[Any] = []
        self.forwards: list[Any] = []
        self.refused = 0
        self.news = threading.Condition()
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server: aio.Server | None = None
        self._context: Any = None
        self._serving: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._channel: seal.Channel | None = None

    # --- the test's side -------------------------------------------------------------------------

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        limit = time.monotonic() + DEADLINE
        with self.news:
            while not (found := condition()):
                assert time.monotonic() < limit, f"{what} did not come about: {self.reports[-9:]}"
                self.news.wait(0.01)
        return found

    def start(self) -> None:
        self.run(self._start())

    def stop(self) -> None:
        self.run(self._stop())

    def drop(self) -> None:
        """Break the session; the agent dials again."""
        assert self._serving is not None
        self._loop.call_soon_threadsafe(self._serving.cancel)

    def connected(self, sessions: int = 1) -> None:
        self.wait(
            lambda: len(self.hellos) >= sessions and self._channel is not None,
            f"session {sessions}",
        )

    def send(self, *orders: Order, script: str = "", environment: bytes = b"") -> None:
        message = pb.ControllerMessage(epoch=self.epoch)
        blobs = {SCRIPT: f"#!/bin/sh\n{script}\n".encode(), ENVIRONMENT: environment}
        orders_to_wire(message, orders, blobs)
        self.run(self._send(message))

    def ends(self, job: int, step: int = BATCH_STEP) -> list[StepEnded]:
        return [
            r
            for r in self.reports
            if isinstance(r, StepEnded) and (r.key.job_id, r.key.step) == (job, step)
        ]

    def ended(self, job: int, step: int = BATCH_STEP) -> StepEnded:
        self.wait(lambda: self.ends(job, step), f"the end of {job}.{step}")
        return self.ends(job, step)[0]

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- the agent's side ------------------------------------------------------------------------

    async def _start(self) -> None:
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        handler = grpc.stream_stream_rpc_method_handler(
            self._session, pb.Sealed.FromString, pb.Sealed.SerializeToString
        )
        generic = grpc.method_handlers_generic_handler("crane.v1.Agents", {"Session": handler})
        self._server.add_generic_rpc_handlers((generic,))
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def _stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            await self._server.wait_for_termination()
            self._server = None

    async def _session(self, _: Any, context: Any) -> None:
        try:
            await self._serve(context)
        except asyncio.CancelledError:
            pass  # the agent hung up, or the test did
        finally:
            with self.news:
                if self._context is context:
                    self._context = self._channel = None

    async def _serve(self, context: Any) -> None:
        first = await context.read()
        hello_seal = seal.hello_mac(self.key, first.body)
        if hello_seal != first.mac:
            with self.news:
                self.refused += 1
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "another key")
        hello = pb.Hello.FromString(first.body)
        self.stream += 1
        welcome = pb.Welcome(
            epoch=self.epoch, stream=self.stream, protocol=1, heartbeat=self.heartbeat,
            lease=self.lease, lost_contact=self.lost_contact, cluster="test",
            devices=[device_to_wire(group) for group in self.devices],
        )  # fmt: skip
        body = welcome.SerializeToString()
        mac = seal.welcome_mac(self.welcome_key, hello_seal, body)
        await context.write(pb.Sealed(body=body, mac=mac))
        channel = seal.Channel(self.key, hello_seal, mac, "controller")
        with self.news:
            self._context, self._channel = context, channel
            self._serving = asyncio.current_task()
            self.hellos.append(hello)
            self.news.notify_all()
        while isinstance(sealed := await context.read(), pb.Sealed):
            channel.open(sealed.body, sealed.counter, sealed.mac)
            await self._take(pb.AgentMessage.FromString(sealed.body))

    async def _take(self, message: pb.AgentMessage) -> None:
        reply = pb.ControllerMessage(epoch=self.epoch, heard=message.clock, lease=self.lease)
        with self.news:
            for report in message.reports:
                seq, what = report_from_wire(report)
                self.reports.append(what)
                if self.acknowledging:
                    reply.acknowledged = seq
            self.forwards += [*message.create_steps, *message.signal_steps]
            self.news.notify_all()
        await self._send(reply)

    async def _send(self, message: pb.ControllerMessage) -> None:
        async with self._writing:
            context, channel = self._context, self._channel
            assert channel is not None, "no session"
            body = message.SerializeToString()
            counter, mac = channel.seal(body)
            await context.write(pb.Sealed(body=body, counter=counter, mac=mac))

    def answer(self, number: int, reply: pb.CreateStepReply) -> None:
        answer = pb.CreateStepAnswer(id=number, reply=reply)
        self.run(self._send(pb.ControllerMessage(epoch=self.epoch, step_answers=[answer])))


class Rig:
    """A controller, one craned as a process, and the directory of its jobs."""

    def __init__(self) -> None:
        # Not tmp_path: a socket's path has room for 107 bytes.
        self.directory = tempfile.mkdtemp(prefix="crane-agent-", dir="/tmp")
        os.chmod(self.directory, 0o711)
        self.controller = Controller(create_key(self.path("key")))
        self.controller.start()
        self.process: subprocess.Popen[bytes] | None = None
        self.jobs: dict[int, None] = {}

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def read(self, name: str) -> str:
        with contextlib.suppress(FileNotFoundError), open(self.path(name)) as file:
            return file.read()
        return ""

    def start_craned(self, *, key: str = "key", sessions: int = 1, obeyed: bool = True) -> None:
        with open(self.path("craned.log"), "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "craned", "--node", "n1", "--state-dir",
                 self.path("state"), "--socket", self.path("door"), "--key-file", self.path(key),
                 "--controller", self.controller.address],
                cwd=ROOT, env={"PATH": os.environ["PATH"], "CRANE_HOME": self.directory},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        if sessions:
            self.controller.connected(sessions)
        if sessions and obeyed:
            self.controller.wait(lambda: self.status().connected, "the agent knows too")

    def stop_craned(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        self.process = None
        return status

    def order(self, job: int, step: int = BATCH_STEP, **fields: Any) -> LaunchStep:
        self.jobs[job] = None
        spec = JobSpec(work_dir=self.directory, stdout="%j.out")
        given: dict[str, Any] = {
            "submission": Submission(spec, f"job{job}", SCRIPT, ENVIRONMENT),
            "shares": (NodeShare("n1", 1000),),
            "addresses": ("127.0.0.1",),
            "kill_grace": 1,
        }
        return LaunchStep(
            StepKey(job, step, 1), os.getuid(), os.getgid(), "tester",
            partition="main", start_time=time.time_ns(), **given | fields,
        )  # fmt: skip

    def launch(self, job: int, script: str, **fields: Any) -> None:
        self.controller.send(
            self.order(job, **fields), script=script, environment=b"PATH=/usr/bin:/bin\0X=1"
        )

    def wait_line(self, name: str, text: str = "\n") -> str:
        self.controller.wait(lambda: text in self.read(name), f"{text!r} in {name}")
        return self.read(name)

    def ask(self, method: str, request: Any) -> DoorReply:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(DEADLINE)
            door.connect(self.path("door"))
            content = request if isinstance(request, bytes) else request.SerializeToString()
            body = DoorRequest(id=1, method=method, body=content)
            door.sendall(frame(body.SerializeToString()))
            with door.makefile("rb") as stream:
                (length,) = LENGTH.unpack(stream.read(LENGTH.size))
                return DoorReply.FromString(stream.read(length))

    def status(self) -> pb.GetHostStatusReply:
        reply = self.ask("GetHostStatus", pb.GetHostStatusRequest())
        return pb.GetHostStatusReply.FromString(reply.body)

    def close(self) -> None:
        try:
            if self.process is not None and self.process.poll() is None:
                if self.controller._channel is not None:
                    self.controller.send(*(EndJob(j, 1, EndCause.CANCELLED) for j in self.jobs))
                    self.controller.wait(self.nothing_left, "every job ended")
                assert self.stop_craned() == 0, self.read("craned.log")
            self.controller.wait(self._launcher_gone, "the launcher left")
        finally:
            if self.process is not None and self.process.poll() is None:
                self.stop_craned(signal.SIGKILL)
            if not self._launcher_gone():
                asyncio.run(self._kill_everything())
            self.controller.close()
        assert "Traceback" not in self.read("craned.log"), self.read("craned.log")
        shutil.rmtree(self.directory)

    async def _kill_everything(self) -> None:
        options = LauncherOptions(spool=self.path("state/spool"))
        client, _ = await LauncherClient.start(options, lambda _: None)
        await client.close(kill=True)

    def nothing_left(self) -> bool:
        return not self.status().running

    def _launcher_gone(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.path("state/spool/launcher.sock"))
            except (FileNotFoundError, ConnectionRefusedError):
                return True
        return False


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def test_an_agent_registers_with_what_its_host_has(rig: Rig) -> None:
    rig.start_craned()
    hello = rig.controller.hellos[0]
    assert (hello.node, list(hello.running), hello.protocol) == ("n1", [], 1)
    assert hello.inventory.cpus >= 1000
    assert hello.inventory.memory > 100
    assert hello.inventory.cgroup in {"v1", "v2", "none"}
    assert hello.spool_id
    assert hello.boot_id
    status = rig.status()
    assert (status.node, status.connected, status.pid) == ("n1", True, rig.process.pid)  # type: ignore[union-attr]


def test_no_report_is_lost_and_nothing_runs_twice_over_a_broken_session(rig: Rig) -> None:
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
def test_jobs_outlive_their_agent_and_are_adopted(rig: Rig, number: signal.Signals) -> None:
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


def test_a_controller_with_another_key_is_never_obeyed(rig: Rig) -> None:
    create_key(rig.path("other"))
    rig.start_craned(key="other", sessions=0)
    rig.controller.wait(lambda: rig.controller.refused >= 2, "two attempts refused")
    assert rig.controller.hellos == []
    assert not rig.status().connected


def test_a_controller_that_cannot_prove_the_key_is_not_obeyed_either(rig: Rig) -> None:
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


def test_an_older_controller_is_refused_and_a_newer_one_obeyed(rig: Rig) -> None:
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


def test_jobs_are_killed_in_time_when_contact_is_lost(rig: Rig) -> None:
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


def test_jobs_are_kept_when_contact_is_lost(rig: Rig) -> None:
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


def test_a_job_can_be_signalled_and_ended(rig: Rig) -> None:
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


def test_a_job_finds_its_variables_devices_and_lookalikes(rig: Rig) -> None:
    for name in ("g0", "g1"):
        open(rig.path(name), "w").close()
    slots = tuple(DeviceSlot((rig.path(name),)) for name in ("g0", "g1"))
    rig.controller.devices = (
        DeviceGroup("gpu", "a100", slots, (("CUDA_VISIBLE_DEVICES", "{indices}"),)),
    )
    rig.start_craned(sessions=2)  # it learns of the devices, looks, and registers again
    devices = rig.controller.hellos[-1].inventory.devices
    assert [(d.name, d.type, d.count) for d in devices] == [("gpu", "a100", 2)]
    script = 'echo "$SLURM_JOB_ID $CUDA_VISIBLE_DEVICES $X $SLURM_CLUSTER_NAME"; command -v srun; scontrol show hostnames "n[1-2]"'
    share = NodeShare("n1", 1000, slots=(SlotShare("gpu", "a100", (1,)),))
    rig.launch(7, script, shares=(share,))
    assert rig.controller.ended(7).exit_code == 0
    assert rig.read("7.out") == f"7 1 1 test\n{rig.path('state/bin/srun')}\nn1\nn2\n"


def test_what_cannot_be_launched_says_why(rig: Rig) -> None:
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


def test_tasks_of_a_step_stream_to_their_crun(rig: Rig) -> None:
    rig.start_craned()
    with socket.create_server(("127.0.0.1", 0)) as crun:
        crun.settimeout(DEADLINE)
        request = StepRequest(
            argv=("/bin/sh", "-c", 'echo "$SLURM_PROCID/$SLURM_NTASKS on $SLURM_NODEID"'),
            environment=b"PATH=/usr/bin:/bin",
            endpoint=f"127.0.0.1:{crun.getsockname()[1]}",
            ticket=b"secret-ticket",
        )
        layout = StepLayout(("n0", "n1"), (1, 2))
        shares = (NodeShare("n0", 1000), NodeShare("n1", 2000))
        rig.controller.send(
            rig.order(3, 0, request=request, layout=layout, shares=shares, addresses=("a", "b"))
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


def test_requests_at_the_door_reach_the_controller_with_their_uid(rig: Rig) -> None:
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


def test_two_agents_never_share_a_state_directory(rig: Rig) -> None:
    rig.start_craned()
    first = rig.process
    rig.start_craned(sessions=0)
    assert rig.process is not None
    assert rig.process.wait(DEADLINE) == 6
    assert "another craned uses" in rig.read("craned.log")
    rig.process = first


def test_a_start_is_reported_for_what_goes_on(rig: Rig) -> None:
    rig.start_craned()
    rig.launch(1, "exec sleep 1000")
    started = rig.controller.wait(lambda: rig.controller.reports, "the start")[0]
    assert isinstance(started, StepStarted)
    assert started.key == StepKey(1, BATCH_STEP, 1)
    assert started.pid > 1
