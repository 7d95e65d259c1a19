"""Launchers and whole agents with their jobs, driven from a test's thread, and cleaned up after."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from grpc import aio

from crane.auth import seal
from crane.auth.key import create_key
from crane.config.model import DeviceGroup
from crane.jobspec import BATCH_STEP, BlobRef, JobSpec, Submission
from crane.session import EndCause, EndJob, LaunchStep, NodeShare, Order, StepEnded, StepKey
from crane.v1 import agent_pb2 as pb
from crane.v1.door_pb2 import DoorReply, DoorRequest
from crane.wire.frames import LENGTH, frame
from crane.wire.orders import orders_to_wire
from crane.wire.session import device_to_wire, report_from_wire
from crane.wire.steps import argv_to_blob
from craned.exec.client import LauncherClient, LauncherOptions, Snapshot
from craned.exec.protocol import (
    Exited,
    Key,
    LaunchFailed,
    LaunchOrder,
    Report,
    Started,
)

_number = itertools.count()
DEADLINE = 40.0
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT, ENVIRONMENT, ARGV = BlobRef(7, 0), BlobRef(7, 1), BlobRef(7, 2)


class Host:
    """One agent's launcher. Reports are collected; `ended` waits for one."""

    def __init__(self, directory: str, cgroup: str, hold: float) -> None:
        self.directory = directory
        self.base = f"crane-test-{os.getpid()}-{next(_number)}"
        self.options = LauncherOptions(
            spool=f"{directory}/spool", cgroup=cgroup, cgroup_base=self.base, hold=hold,
            lease_file=f"{directory}/contact",
        )  # fmt: skip
        self.reports: list[Report] = []
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._job_ids = itertools.count(1)
        self.client: LauncherClient
        self.snapshot: Snapshot
        self.connect()

    def connect(self) -> Snapshot:
        self.client, self.snapshot = self.run(LauncherClient.start(self.options, self._take))
        return self.snapshot

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE)

    def call(self, function: Callable, *args, **kwargs) -> None:
        async def inside() -> None:
            function(*args, **kwargs)

        self.run(inside())

    def _take(self, reports: list[Report]) -> None:
        with self._news:
            self.reports.extend(reports)
            self._news.notify_all()

    def order(self, script: str | bytes = "", **fields) -> LaunchOrder:
        """A batch step in the host's directory, run by this process's own user.

        Text is the body of a shell script, bytes are a script as it is.
        """
        fields.setdefault("key", Key(next(self._job_ids), -1, 1))
        fields.setdefault("uid", os.getuid())
        fields.setdefault("gid", os.getgid())
        fields.setdefault("cwd", self.directory)
        fields.setdefault("env", b"PATH=/usr/bin:/bin")
        fields.setdefault("kill_grace", 0.3)
        if isinstance(script, bytes):
            fields["script"] = script
        elif script:
            fields["script"] = f"#!/bin/sh\n{script}\n".encode()
            fields.setdefault("stdout", self.path(f"{fields['key'].job_id}.out"))
        return LaunchOrder(**fields)

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def read(self, name: str) -> str:
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def launch(self, *orders: LaunchOrder) -> None:
        self.call(self.client.launch_many, orders)

    def finals(self, key: Key) -> list[Report]:
        return [r for r in self.reports if r.key == key and not isinstance(r, Started)]

    def wait(self, condition: Callable[[], object], what: str = "the condition") -> None:
        """Until it holds: asked again after every report, and every few milliseconds."""
        deadline = time.monotonic() + DEADLINE
        with self._news:
            while not condition():
                assert time.monotonic() < deadline, f"{what} did not come about: {self.reports}"
                self._news.wait(0.01)

    def ended(self, order: LaunchOrder | Key) -> Exited | LaunchFailed:
        key = order.key if isinstance(order, LaunchOrder) else order
        self.wait(lambda: self.finals(key), f"the end of {key}")
        report = self.finals(key)[0]
        assert not isinstance(report, Started)
        return report

    def run_step(self, order: LaunchOrder) -> Exited | LaunchFailed:
        self.launch(order)
        return self.ended(order)

    def wait_file(self, name: str, lines: int = 1) -> str:
        path = self.path(name)
        self.wait(
            lambda: os.path.exists(path) and self.read(name).count("\n") >= lines, f"file {name}"
        )
        return self.read(name)

    def launcher_pid(self) -> int:
        assert self.client._process is not None
        return self.client._process.pid

    def cgroups(self) -> list[str]:
        return glob.glob(f"/sys/fs/cgroup/*/{self.base}") + glob.glob(f"/sys/fs/cgroup/{self.base}")

    def close(self) -> None:
        try:
            self.run(self.client.close(kill=True))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _make_host(cgroup: str, hold: float = 0.0) -> Iterator[Host]:
    # Not tmp_path: its parents are closed to the ordinary users some of these jobs run as.
    directory = tempfile.mkdtemp(prefix="crane-exec-", dir="/tmp")
    os.chmod(directory, 0o711)
    host = Host(directory, cgroup, hold)
    try:
        yield host
        host.close()
        host.wait(lambda: not host.cgroups(), f"no cgroup is left: {host.cgroups()}")
        assert os.listdir(f"{directory}/spool/shims") == []
        assert host.read("spool/launcher.log") == ""
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["auto", "none"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A launcher with the best cgroups to be had, and one without any."""
    yield from _make_host(request.param)


@pytest.fixture
def plain_host() -> Iterator[Host]:
    """A launcher with the best cgroups to be had."""
    yield from _make_host("auto")


@pytest.fixture
def limited_host() -> Iterator[Host]:
    """A launcher that can limit memory; skipped where no cgroup is writable."""
    for host in _make_host("auto"):
        if host.client.cgroup_version == "none":
            host.close()
            pytest.skip("no writable cgroup with the memory controller on this host")
        yield host


@pytest.fixture
def root_host() -> Iterator[Host]:
    """A launcher that can serve several users."""
    if os.geteuid() != 0:
        pytest.skip("needs root: starts jobs of other users")
    yield from _make_host("auto")


# --- a whole agent ----------------------------------------------------------------------------


class Controller:
    """The controller's end of a session over gRPC, sending what the test says: no scheduler behind."""

    def __init__(self, key: bytes) -> None:
        self.key = self.welcome_key = key
        self.epoch, self.stream = 1, 0
        self.lease, self.lost_contact, self.heartbeat = 60.0, "keep", 0.1
        self.devices: tuple[DeviceGroup, ...] = ()
        self.acknowledging = True
        self.answering = True
        """Whether sessions come about; else each is closed when its agent has proved to be there."""
        self.hellos: list[pb.Hello] = []
        self.reports: list[Any] = []
        self.forwards: list[Any] = []
        self.refused = 0
        self.ahead = 0.0  # seconds by which the controller's clock is ahead of the agent's
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

    def clock(self) -> int:
        return time.time_ns() + int(self.ahead * 1e9)

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
        there = lambda: len(self.hellos) >= sessions and self._channel is not None  # noqa: E731
        self.wait(there, f"session {sessions}")

    def send(
        self, *orders: Order, script: str = "", environment: bytes = b"", argv: Sequence[str] = ()
    ) -> None:
        message = pb.ControllerMessage(epoch=self.epoch, clock=self.clock())
        blobs = {SCRIPT: f"#!/bin/sh\n{script}\n".encode(), ENVIRONMENT: environment}
        blobs[ARGV] = argv_to_blob(argv)
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
        first = await context.read()
        if not isinstance(first, pb.Sealed):
            return
        channel.open(first.body, first.counter, first.mac)
        if self.answering:
            self._context, self._channel = context, channel
            self._serving = asyncio.current_task()
            await self._take(pb.AgentMessage.FromString(first.body))
        with self.news:
            self.hellos.append(hello)
            self.news.notify_all()
        if not self.answering:
            return
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
            partition="main", start_time=self.controller.clock(), **given | fields,
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
