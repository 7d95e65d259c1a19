"""A peer for the commands: a real local door in a thread that answers with prepared messages."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from crane.auth.door import DoorServer, Peer
from crane.errors import CraneError
from crane.v1 import agent_pb2, control_pb2

GOLDEN = Path(__file__).parent / "golden"
NOW = 1_800_000_000_000_000_000
"""2027-01-15T08:00:00Z, the controller's clock in every answer."""

Answer = object
"""A message, an exception to raise, a function of the request, or (for a stream) a list of messages."""


class FakeController:
    """Serves what `answers` holds by method, and keeps every request it was sent."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, object]] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._ready.wait(10)

    def asked(self, method: str) -> list[object]:
        return [request for name, request in self.requests if name == method]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        self.crashes: list[BaseException] = []
        methods = [m.name for m in control_pb2.DESCRIPTOR.services_by_name["Control"].methods]
        methods += [m.name for m in agent_pb2.DESCRIPTOR.services_by_name["Host"].methods]
        streams = {"WatchEvents": self._stream("WatchEvents")}
        unary = {name: self._unary(name) for name in methods if name not in streams}
        server = DoorServer(self.path, unary, streams, lambda _, error: self.crashes.append(error))
        await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.close()

    def _decode(self, method: str, body: bytes) -> object:
        kind = getattr(control_pb2, f"{method}Request", None) or getattr(
            agent_pb2, f"{method}Request"
        )
        request = kind.FromString(body)
        self.requests.append((method, request))
        return request

    def _unary(self, method: str) -> Callable[[Peer, bytes], object]:
        async def handle(peer: Peer, body: bytes) -> bytes:
            request = self._decode(method, body)
            answer = self.answers[method]
            if callable(answer):
                answer = answer(request)
            if isinstance(answer, CraneError):
                raise answer
            return answer.SerializeToString()

        return handle

    def _stream(self, method: str) -> Callable[[Peer, bytes], AsyncIterator[bytes]]:
        async def handle(peer: Peer, body: bytes) -> AsyncIterator[bytes]:
            request = self._decode(method, body)
            answer = self.answers[method]
            for message in answer(request) if callable(answer) else answer:
                yield message.SerializeToString()

        return handle


@pytest.fixture
def controller(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeController]:
    """A controller at $CRANE_SOCKET, nothing of the tester's own environment in the way."""
    for name in list(os.environ):
        if name.startswith(("CRANE_", "SLURM_", "CSUB_", "SBATCH_", "CRUN_", "SRUN_")):
            monkeypatch.delenv(name)
    for name in ("CQUEUE_FORMAT", "SQUEUE_FORMAT", "CINFO_FORMAT", "SINFO_FORMAT", "SACCT_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    path = str(tmp_path_factory.mktemp("d") / "s")
    fake = FakeController(path)
    monkeypatch.setenv("CRANE_SOCKET", path)
    yield fake
    fake.close()
    monkeypatch.undo()
    time.tzset()
    assert not fake.crashes


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare with a file of tests/cli/golden; UPDATE_GOLDEN=1 writes it instead."""

    def check(name: str, text: str) -> None:
        file = GOLDEN / name
        if os.environ.get("UPDATE_GOLDEN"):
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return check


@pytest.fixture
def cluster(controller: FakeController) -> FakeController:
    """A controller with a few jobs, nodes and partitions of every kind."""
    controller.answers |= _cluster()
    return controller


def _cluster() -> dict[str, Answer]:
    second, hour = 1_000_000_000, 3600 * 1_000_000_000
    pb = control_pb2
    jobs = [
        pb.JobInfo(
            job_id=101, array_task=-1, name="train-a-large-model", user="ada", uid=1000, gid=1000,
            state=2, priority=90, submit_time=NOW - 2 * hour, eligible_time=NOW - 2 * hour,
            start_time=NOW - hour, end_time=NOW + hour, attempt=1, partition="gpu",
            time_limit=7200, command="/home/ada/train.sh", args=["--epochs", "3"],
            stdout="/home/ada/crane-101.out", stderr="/home/ada/crane-101.out",
            allocation=[
                {"node": "n1", "cpus": 4000, "memory": 2048, "tasks": 4,
                 "slots": [{"name": "gpu", "type": "a100", "indices": [0, 1]}]},
                {"node": "n2", "cpus": 4000, "memory": 2048, "tasks": 4},
            ],
            spec={"components": [{"min_nodes": 2, "max_nodes": 2, "ntasks": 8,
                                  "cpus_per_task": 1000, "mem_per_node": 2048,
                                  "gres": [{"name": "gpu", "type": "a100", "count": 1}]}],
                  "account": "physics", "qos": "normal", "work_dir": "/home/ada",
                  "comment": "rule_x", "partitions": ["gpu"]},
            steps=[{"step": -1, "state": 2, "name": "batch", "start_time": NOW - hour,
                    "nodes": ["n1"], "ntasks": 1}],
        ),
        pb.JobInfo(
            job_id=102, array_job_id=102, array_task=-1, name="sweep", user="bob", uid=1001,
            state=1, reason=2, reason_text="short of cpu", priority=80, submit_time=NOW - hour,
            planned_start=NOW + 600 * second, partition="main",
            planned_earliest=NOW + 60 * second, planned_latest=NOW + 1200 * second,
            array={"ranges": [{"first": 3, "last": 9, "step": 1}], "limit": 2},
            spec={"components": [{"ntasks": 1, "cpus_per_task": 500, "mem_per_cpu": 1024}],
                  "work_dir": "/home/bob"},
            task_states={1: 7, 5: 3},
        ),
        pb.JobInfo(
            job_id=105, array_job_id=102, array_task=2, name="sweep", user="bob", uid=1001,
            state=2, submit_time=NOW - hour, start_time=NOW - 65 * second, partition="main",
            time_limit=3600, allocation=[{"node": "n3", "cpus": 500, "memory": 512, "tasks": 1}],
            spec={"components": [{"ntasks": 1, "cpus_per_task": 500}], "work_dir": "/home/bob"},
        ),
        pb.JobInfo(
            job_id=107, array_task=-1, name="after", user="ada", uid=1000, state=1, reason=3,
            submit_time=NOW - 60 * second, partition="main", priority=10,
            dependency={"terms": [{"kind": 3, "job_id": 101, "task": -1}]},
            spec={"components": [{}], "work_dir": "/home/ada", "nice": 5},
        ),
    ]  # fmt: skip
    nodes = [
        pb.NodeInfo(
            name=f"n{number}", address=f"10.0.0.{number}", state=1, shown_state=shown,
            cpus=8000, cpus_alloc=held, memory=16384, memory_alloc=2048 if held else 0,
            partitions=parts, weight=1, version="0.1.0", connected=True, features=["fast"],
            gres=[{"name": "gpu", "type": "a100", "count": 2}] if "gpu" in parts else [],
            cgroup="v2", os="Linux", last_contact=NOW,
        )
        for number, shown, held, parts in (
            (1, "mixed", 4000, ["main", "gpu"]), (2, "mixed", 4000, ["main", "gpu"]),
            (3, "mixed", 500, ["main"]), (4, "idle", 0, ["main"]),
        )
    ]  # fmt: skip
    nodes.append(
        pb.NodeInfo(
            name="n5", state=2, shown_state="down", reason="disk failing", reason_by="root",
            reason_time=NOW - hour, cpus=8000, memory=16384, partitions=["main"],
        )
    )  # fmt: skip
    partitions = [
        pb.PartitionInfo(
            name="main", default=True, up=True, nodes=["n1", "n2", "n3", "n4", "n5"],
            max_time=172_800, default_time=3600, priority=1, cpus=40_000,
        ),
        pb.PartitionInfo(
            name="gpu", up=True, nodes=["n1", "n2"], max_time=-1, default_time=-1, priority=2,
            cpus=16_000, allow_accounts=["physics"],
        ),
    ]  # fmt: skip
    past = [
        pb.JobInfo(
            job_id=90, array_task=-1, name="reduce", user="ada", uid=1000, state=5,
            submit_time=NOW - 3 * hour, start_time=NOW - 3 * hour, end_time=NOW - 2 * hour,
            partition="main", cpu_us=5_250_000, memory_peak=300_000_000, attempt=1,
            allocation=[{"node": "n1", "cpus": 1000, "memory": 100, "tasks": 1}],
            spec={"components": [{"ntasks": 1}], "account": "physics", "work_dir": "/home/ada"},
            steps=[{"step": -1, "state": 3, "name": "batch", "start_time": NOW - 3 * hour,
                    "end_time": NOW - 2 * hour, "nodes": ["n1"], "ntasks": 1,
                    "cpu_us": 5_000_000, "memory_peak": 300_000_000},
                   {"step": 0, "state": 3, "name": "hostname", "start_time": NOW - 3 * hour,
                    "end_time": NOW - 3 * hour + second, "nodes": ["n1"], "ntasks": 2,
                    "exit_code": 3}],
        ),
        pb.JobInfo(
            job_id=91, array_task=-1, name="a-very-long-name", user="ada", uid=1000, state=6,
            cancelled_by=1001, signal=15, submit_time=NOW - hour, start_time=NOW - hour,
            end_time=NOW - hour + 5 * second, partition="main",
            spec={"components": [{}], "work_dir": "/home/ada"},
        ),
    ]  # fmt: skip
    moved = pb.ExplainJobReply(
        job=jobs[3], reason=1, nodes_matching=4, nodes_usable=4, nodes_wanted=1, jobs_ahead=1,
        planned_start=NOW + 900 * second, pass_time=NOW, promised_start=NOW + 600 * second,
        moved_cause="a job that goes before it came, or was changed",
        planned_earliest=NOW + 60 * second, planned_latest=NOW + 1200 * second,
        priority_terms=[{"name": "age", "value": 12}, {"name": "fair-share", "value": 3},
                        {"name": "nice", "value": -5}],
    )  # fmt: skip
    answers: dict[str, Answer] = {
        "ListJobs": pb.ListJobsReply(jobs=jobs, seq=7, now=NOW),
        "ListNodes": pb.ListNodesReply(nodes=nodes, seq=7, now=NOW),
        "ListPartitions": pb.ListPartitionsReply(partitions=partitions),
        "ListHistory": pb.ListHistoryReply(jobs=past, seq=7),
        "ExplainJob": lambda request: moved if request.job_id == 107 else pb.ExplainJobReply(
            job=jobs[1], reason=2, nodes_matching=4, nodes_usable=3, nodes_fitting_now=0,
            nodes_wanted=1, short_of="cpu", jobs_ahead=2, planned_start=NOW + 600 * second,
            pass_time=NOW, text="every node that could run it is busy",
            gates=[{"name": "dependency", "open": True},
                   {"name": "resources", "open": False, "text": "no node has 0.5 CPUs free"}],
            remedies=[{"time_limit": 5400, "start": NOW}, {"nodes": 2, "start": NOW},
                      {"partition": "night", "start": NOW + 600 * second}],
            sooner_known=True,
        ),
        "GetStatus": pb.GetStatusReply(
            cluster="dev", version="0.1.0", epoch=3, seq=70, durable_seq=69, pid=42,
            start_time=NOW - hour, planner_ready=True, figures={"pass.p50_ms": 1.5, "queue": 2},
            jobs={1: 2, 2: 2}, nodes_connected=4, config_file="/etc/crane/crane.toml",
            config={"MinJobAge": "300 sec", "MaxArraySize": "4000000"},
        ),
        "CancelJobs": pb.ChangeReply(results=[{"subject": "101"}]),
        "ChangeJobs": pb.ChangeReply(results=[{"subject": "101"}]),
        "ChangeNodes": pb.ChangeReply(results=[{"subject": "n5"}]),
        "Reconfigure": pb.ReconfigureReply(changes=["nodes: n6 added"]),
        "SubmitJobs": lambda request: pb.SubmitJobsReply(
            results=[{"job_id": 200 + place} for place, _ in enumerate(request.jobs)]
        ),
    }  # fmt: skip
    return answers
