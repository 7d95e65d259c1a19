"""Controllers for tests: in this process or as a process of their own, and clients of both doors."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from crane.auth import seal, token
from crane.auth.key import create_key
from crane.config.load import load
from crane.session import DeviceCount, Inventory, NodeShare, Registration
from crane.v1 import agent_pb2, control_pb2, door_pb2
from crane.wire.frames import frame
from crane.wire.session import hello_to_wire, report_to_wire
from cranectld.core.commands import CommitPlan, PlannedStart
from cranectld.core.state import State
from cranectld.shell.daemon import Daemon, Options
from cranectld.shell.recover import recover
from cranectld.store.sqlite import open_store

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 30.0


def until(condition, what="it to happen", deadline=DEADLINE):
    """Wait for a condition of another process or thread."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {deadline} s for {what}"
        threading.Event().wait(0.01)
    return found


class HeldStore:
    """The real store, whose append waits until the test lets it go, or fails when told to."""

    def __init__(self, store):
        self._store = store
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error = None

    def append(self, events, pack=None):
        self.entered.set()
        assert self.gate.wait(DEADLINE)
        if self.error is not None:
            raise self.error
        self._store.append(events, pack)

    def __getattr__(self, name):
        return getattr(self._store, name)


class Door:
    """A client of the local door, as simple as can be."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(path))

    def send(self, method, body, number=1):
        if not isinstance(body, bytes):
            body = body.SerializeToString()
        request = door_pb2.DoorRequest(id=number, method=method, body=body)
        self.socket.sendall(frame(request.SerializeToString()))

    def receive(self):
        (length,) = struct.unpack(">I", self._exactly(4))
        return door_pb2.DoorReply.FromString(self._exactly(length))

    def call(self, method, body):
        """The reply message, or the Error."""
        self.send(method, body)
        reply = self.receive()
        if reply.HasField("error"):
            return reply.error
        return getattr(control_pb2, REPLIES.get(method, f"{method}Reply")).FromString(reply.body)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the controller closed the connection")
            data += part
        return data

    def close(self):
        self.socket.close()


REPLIES = {"CancelJobs": "ChangeReply", "ChangeJobs": "ChangeReply", "ChangeNodes": "ChangeReply"}


def submission(*names, **spec):
    """A request for one job per name, each with its own script."""
    request = control_pb2.SubmitJobsRequest()
    request.specs.add(work_dir="/tmp", time_limit=60, **spec).components.add(
        cpus_per_task=1000, ntasks=1
    )
    for name in names:
        request.blobs.append(b"#!/bin/sh\necho " + name.encode())
        request.jobs.add(spec=0, name=name, script=len(request.blobs))
    return request


def everything(**more):
    """A ListJobs request for all jobs."""
    return control_pb2.ListJobsRequest(selector=control_pb2.JobSelector(all=True), **more)


@dataclass
class Site:
    """Files of one controller: configuration, key, state, socket."""

    path: Path

    def __post_init__(self):
        self.config_file = self.path / "crane.toml"
        self.socket = self.path / "ctl.sock"
        self.key = create_key(str(self.path / "key"))
        self.write()

    def write(self, extra=""):
        self.config_file.write_text(
            f"""
[controller]
listen = "127.0.0.1:0"
state_dir = "{self.path}/state"
socket = "{self.socket}"
key_file = "{self.path}/key"

[[nodes]]
name = "n[1-3]"
cpus = 4
memory = "4G"

[[partitions]]
name = "main"
nodes = ["ALL"]
{extra}
"""
        )

    @asynccontextmanager
    async def daemon(self, held=False, projector=False, planner=None):
        """A controller in this process; `planner` makes one, without it nothing is planned."""
        store = open_store(f"{self.path}/state")
        state = recover(store)
        store = HeldStore(store) if held else store
        config = load(str(self.config_file))
        daemon = Daemon(Options(str(self.config_file), config, planner, projector), store, state)
        try:
            await daemon.start()
            yield daemon
        finally:
            if held:
                store.gate.set()
            await daemon.close()

    def process(self, failpoint=""):
        """A controller as a process of its own, without a planner and projector."""
        env = {**os.environ, "CRANE_FAILPOINT": failpoint}
        code = (
            "import sys; from crane.config.load import load;"
            "from cranectld.shell import log; log.setup();"
            "from cranectld.shell.daemon import Options, serve;"
            "sys.exit(serve(Options(sys.argv[1], load(sys.argv[1]), None, False)))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, str(self.config_file)],
            cwd=ROOT,
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )

    def port(self, process):
        """The TCP port a process listens on, once both doors are open."""
        for line in process.stderr:
            if " serves cluster " in line:
                return int(line.split("127.0.0.1:")[1].split()[0])
        raise AssertionError(f"the controller ended with status {process.wait()}")

    def recovered(self) -> State:
        """The state that is in the store now."""
        store = open_store(f"{self.path}/state")
        try:
            return recover(store)
        finally:
            store.close()


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def spawn(site):
    """Start controller processes; all are gone at the end."""
    started = []

    def start(failpoint=""):
        process = site.process(failpoint)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.stderr.read()
        process.wait(DEADLINE)
        process.stderr.close()


class AgentPeer:
    """The agent's side of a session, speaking the protocol and nothing else."""

    def __init__(self, port, key, node="n1", boot="boot-1", spool="s", host="h"):
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.call = self.channel.stream_stream(
            "/crane.v1.Agents/Session",
            agent_pb2.Sealed.SerializeToString,
            agent_pb2.Sealed.FromString,
        )()
        self.key, self.node = key, node
        self.boot, self.spool, self.host = boot, spool, host
        self.clock = 0
        self._ahead = []

    async def hello(self, running=()):
        """Introduce ourselves and be registered; the Welcome."""
        welcome = await self.introduce(running)
        if not welcome.error.message:
            await self.say()
            first = await self.hear_until(lambda message: message.heard)
            first.ClearField("heard")
            if first.orders or first.acknowledged:
                self._ahead.append(first)
        return welcome

    async def introduce(self, running=(), protocol=1):
        """Say Hello, and no more; the Welcome."""
        registration = Registration(
            node=self.node,
            address="127.0.0.1",
            incarnation="i",
            boot_id=self.boot,
            spool_id=self.spool,
            host_id=self.host,
            inventory=Inventory(cpus=4000, memory=4096, devices=(), cgroup="none"),
            running=tuple(running),
        )
        message = hello_to_wire(registration, os.urandom(32), 0, 0)
        message.protocol = protocol
        body = message.SerializeToString()
        mac = seal.hello_mac(self.key, body)
        await self.call.write(agent_pb2.Sealed(body=body, mac=mac))
        reply = await asyncio.wait_for(self.call.read(), DEADLINE)
        seal.check_mac(seal.welcome_mac(self.key, mac, reply.body), reply.mac)
        self.seal = seal.Channel(self.key, mac, reply.mac, "agent")
        return agent_pb2.Welcome.FromString(reply.body)

    async def say(self, *reports, **more):
        """Send reports, as (sequence, report), and whatever else a message may hold."""
        self.clock += 1
        message = agent_pb2.AgentMessage(
            clock=self.clock, reports=[report_to_wire(*report) for report in reports], **more
        )
        body = message.SerializeToString()
        counter, mac = self.seal.seal(body)
        await self.call.write(agent_pb2.Sealed(body=body, counter=counter, mac=mac))

    async def hear(self):
        """The next message; None when the stream has ended."""
        if self._ahead:
            return self._ahead.pop()
        sealed = await asyncio.wait_for(self.call.read(), DEADLINE)
        if not isinstance(sealed, agent_pb2.Sealed):
            return None
        self.seal.open(sealed.body, sealed.counter, sealed.mac)
        return agent_pb2.ControllerMessage.FromString(sealed.body)

    async def hear_until(self, wanted):
        """Messages up to the first that satisfies `wanted`, which is returned."""
        while (message := await self.hear()) is not None:
            if wanted(message):
                return message
        raise AssertionError("the stream ended")

    async def close(self):
        self.call.cancel()
        await self.channel.close()


@pytest.fixture
def kit():
    """Everything the controller's tests share."""

    class Kit:
        door = Door
        agent = AgentPeer
        wait = staticmethod(until)
        jobs = staticmethod(submission)
        all = staticmethod(everything)
        deadline = DEADLINE

        @staticmethod
        def token(key, uid=4242, user="tina", now=None, lifetime=60):
            return token.issue(key, uid, uid, user, int(now or time.time()), lifetime)

        @staticmethod
        def start(job_id, node="n1"):
            """A plan that starts one job on one node."""
            return CommitPlan((PlannedStart(job_id, (NodeShare(node, 1000, 0, (), 1),)),))

        @staticmethod
        async def gone(daemon, node):
            """Wait until the node has no session."""
            end = time.monotonic() + DEADLINE
            while node in daemon.links:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)

        @staticmethod
        def devices(name, count):
            return DeviceCount(name, "", count)

    return Kit
