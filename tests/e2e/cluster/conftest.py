"""Real clusters for tests: a controller and agents as processes, at ports and in files of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from bench.demo.remains import Traces, left, traces
from crane.auth.key import create_key
from crane.client import Client
from crane.client.selection import Selection
from crane.errors import CraneError
from crane.states import JobState, StepState

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
DEADLINE = 60.0
LIVE = tuple(state for state in JobState if not state.ended)
HELD = tuple(state for state in LIVE if state is not JobState.PENDING)

NODES = """
[[nodes]]
name = "n1"
address = "127.0.0.1"
cpus = 4
memory = "1G"
features = ["ib", "old"]
[[nodes]]
name = "n2"
address = "127.0.0.1"
cpus = 4
memory = "1G"
features = ["ib", "new"]
[[nodes]]
name = "n3"
address = "127.0.0.1"
cpus = 4
memory = "1G"
features = ["new"]
[[nodes.devices]]
name = "gpu"
type = "a100"
files = [{devices}]
environment = {{ CUDA_VISIBLE_DEVICES = "{{indices}}", GPU_FILES = "{{files}}" }}
"""
PARTITIONS = """
[[partitions]]
name = "main"
nodes = "ALL"
default = true
[[partitions]]
name = "short"
nodes = "n1"
max_time = "10:00"
default_time = "5:00"
"""
TIMEOUTS = "heartbeat = 0.2\nkill_grace = 1\n"


def until(condition, what="it to happen", deadline=DEADLINE):
    """Wait for a condition of another process."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {deadline} s for {what}"
        threading.Event().wait(0.02)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A controller and its agents. Everything it has is below `home`, its jobs' files in `work`."""

    def __init__(self, nodes: Sequence[str] = ("n1", "n2", "n3"), **sections: str) -> None:
        """`sections`: what else stands in `[cluster]`, `[timeouts]`, ...; TOML."""
        self.home = tempfile.mkdtemp(prefix="crane-e2e-", dir="/tmp")
        os.chmod(self.home, 0o755)
        self.work = self.path("work")
        for name in ("work", "devices"):
            os.mkdir(self.path(name))
            os.chmod(self.path(name), 0o777)
        self.nodes = tuple(nodes)
        self.port = free_port()
        self.sections = {"timeouts": TIMEOUTS} | sections
        self.client = Client(self.path("ctl.sock"))
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.seen = Traces((), (), (), 0)
        create_key(self.path("key"))
        self.configure()

    # --- files -----------------------------------------------------------------------------------

    def path(self, *parts: str) -> str:
        return os.path.join(self.home, *parts)

    def file(self, name: str, text: str | None = None) -> str:
        """A file of the jobs: written, or its path."""
        path = os.path.join(self.work, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return path

    def read(self, name: str) -> str:
        with open(os.path.join(self.work, name), encoding="utf-8") as file:
            return file.read()

    def lines(self, name: str) -> list[str]:
        """Lines of a file of the jobs, none if there is no file yet."""
        return self.read(name).splitlines() if os.path.exists(self.file(name)) else []

    def log(self, name: str) -> str:
        with open(self.path(f"{name}.log"), encoding="utf-8") as file:
            return file.read()

    def configure(self, partitions: str = PARTITIONS, **sections: str) -> None:
        """Write the configuration; `sections` replace those of the same name."""
        self.sections |= sections
        devices = []
        for index in range(2):
            devices.append(f'"{self.path("devices", f"gpu{index}")}"')
            with open(self.path("devices", f"gpu{index}"), "w", encoding="utf-8") as file:
                file.write(f"slot {index}\n")
        parts = {
            "cluster": 'name = "e2e"',
            "controller": f'listen = "127.0.0.1:{self.port}"\nstate_dir = "{self.path("state")}"\n'
            f'socket = "{self.path("ctl.sock")}"\nkey_file = "{self.path("key")}"',
            "agent": f'controller = "127.0.0.1:{self.port}"\nkey_file = "{self.path("key")}"',
        }
        for name, text in self.sections.items():
            parts[name] = f"{parts.get(name, '')}\n{text}"
        text = "".join(f"[{name}]\n{body}\n" for name, body in parts.items())
        text += NODES.format(devices=", ".join(devices)) + partitions
        with open(self.path("crane.toml"), "w", encoding="utf-8") as file:
            file.write(text)

    # --- daemons ---------------------------------------------------------------------------------

    def start(self) -> Cluster:
        self.start_controller()
        for name in self.nodes:
            self.start_agent(name)
        until(self.ready, "the nodes to be there")
        until(lambda: self.client.status().planner_ready, "the planner's kernels")
        self.seen = traces(self.home, self.home)
        return self

    def ready(self) -> bool:
        """Whether the nodes that were started are connected; fails if a daemon has ended."""
        for name, process in self.running.items():
            assert process.poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
        try:
            return sum(node.connected for node in self.client.nodes()) >= len(self.running) - 1
        except CraneError:
            return False

    def start_controller(self, failpoint: str = "") -> None:
        """Start it, and wait until it answers."""
        arguments = ["-m", "cranectld", "--config", self.path("crane.toml")]
        self._spawn("cranectld", arguments, CRANE_FAILPOINT=failpoint)
        self.client.close()
        until(self.answers, "the controller to answer")

    def answers(self) -> bool:
        process = self.running["cranectld"]
        assert process.poll() is None, f"cranectld ended: {self.log('cranectld')[-2000:]}"
        try:
            return self.client.status().pid == process.pid
        except CraneError:
            return False

    def start_agent(self, name: str, failpoint: str = "") -> None:
        arguments = ["-m", "craned", "--config", self.path("crane.toml"), "--node", name]
        arguments += ["--oversubscribe", "--state-dir", self.path(name)]
        arguments += ["--socket", self.path(f"{name}.sock")]
        self._spawn(name, arguments, CRANE_FAILPOINT=failpoint)

    def _spawn(self, name: str, arguments: Sequence[str], **env: str) -> None:
        with open(self.path(f"{name}.log"), "ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=self.environment(PYTHONPATH=ROOT, **env),
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """kill -9 of a daemon."""
        process = self.running.pop(name)
        process.kill()
        process.wait(DEADLINE)

    def stop(self, name: str) -> int:
        """Stop a daemon in order; its exit status."""
        process = self.running.pop(name)
        process.terminate()
        return process.wait(DEADLINE)

    def processes_of(self, name: str) -> list[int]:
        """Everything that belongs to an agent but craned itself: launcher, shims, jobs."""
        mark = self.path(name, "")
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != self._pid(name):
                words = _read(f"/proc/{entry}/cmdline") + _read(f"/proc/{entry}/environ")
                if mark in words and self.path("crane.toml") not in words:
                    found.append(int(entry))
        return found

    @staticmethod
    def words_of(pid: int) -> str:
        """Command line of a process; empty if there is none."""
        return _read(f"/proc/{pid}/cmdline").replace("\0", " ")

    @staticmethod
    def parent_of(pid: int) -> int:
        """Its parent (proc(5), stat field 4)."""
        return int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])

    @staticmethod
    def alive(pid: int | str) -> bool:
        """Whether a process runs; one that has ended and was not waited for does not."""
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return bool(fields) and fields[0] not in ("Z", "X")

    def _pid(self, name: str) -> int:
        return self.running[name].pid if name in self.running else 0

    def close(self) -> None:
        """End the jobs, then the daemons in order; nothing may be left of them."""
        try:
            with contextlib.suppress(CraneError):
                self.end_jobs()
            self.client.close()
            names = sorted(self.running, key=lambda name: name == "cranectld")
            statuses = {name: self.stop(name) for name in names}
            assert set(statuses.values()) <= {0}, statuses
            until(lambda: not self.remains(), f"nothing to be left of it: {self.remains()}", 30)
            for name in ("cranectld", *self.nodes):
                if os.path.exists(self.path(f"{name}.log")):
                    assert "Traceback" not in self.log(name), self.log(name)[-4000:]
        finally:
            for process in self.running.values():
                process.kill()
                process.wait()
            shutil.rmtree(self.home, ignore_errors=True)

    def remains(self) -> list[str]:
        """What is left of the cluster outside its files."""
        return left(self.seen, self.home)

    # --- jobs ------------------------------------------------------------------------------------

    def environment(self, **env: str) -> dict[str, str]:
        """A plain environment in which the commands find this cluster."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        scripts = os.path.dirname(sys.executable)
        kept |= {"PATH": f"{scripts}:/usr/local/bin:/usr/bin:/bin"}
        return kept | {"CRANE_SOCKET": self.path("ctl.sock")} | {k: v for k, v in env.items() if v}

    def run(self, line: str | Sequence[str], *, stdin="", cwd="", **env: str):
        """Run one of our commands in the jobs' directory."""
        words = line.split() if isinstance(line, str) else list(line)
        return subprocess.run(
            [os.path.join(os.path.dirname(sys.executable), words[0]), *words[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd or self.work,
            env=self.environment(**env),
            timeout=DEADLINE,
            check=False,
        )

    def out(self, line: str | Sequence[str], **more) -> str:
        """What a command prints; it must succeed and say nothing else."""
        done = self.run(line, **more)
        assert (done.returncode, done.stderr) == (0, ""), (line, done)
        return done.stdout

    def submit(self, body: str = "true", **options) -> int:
        """Submit a script with this body; its output goes to `ID.out` in the jobs' directory."""
        options = {"output": "%j.out", "chdir": self.work, "time": "10:00"} | options
        options.setdefault("env", self.environment())
        return self.client.submit(content=f"#!/bin/sh\n{body}\n".encode(), **options)

    def wait(self, *jobs: int):
        """How the jobs ended; of one job, or a list."""
        ended = self.client.wait(jobs, timeout=DEADLINE)
        return ended[jobs[0]] if len(jobs) == 1 else [ended[job] for job in jobs]

    def finish(self, body: str = "true", **options):
        """Submit a job and wait for its end."""
        return self.wait(self.submit(body, **options))

    def output(self, job: int) -> str:
        return self.read(f"{job}.out")

    def job(self, job: int | str):
        return self.client.job(job)

    def state(self, job: int | str) -> str:
        return self.job(job).state.name

    def reason(self, job: int | str) -> str:
        return self.job(job).reason.word

    def becomes(self, job: int | str, state: str) -> None:
        until(lambda: self.state(job) == state, f"{job} to become {state}: {self.job(job)}")

    def confirmed(self, job: int) -> None:
        """Wait until the agent has confirmed the first process of a job's batch script."""
        until(
            lambda: self.job(job).steps[0].state is StepState.RUNNING,
            f"the step of {job} to run: {self.job(job)}",
        )

    def says(self, job: int | str, reason: str) -> None:
        until(lambda: self.reason(job) == reason, f"{job} to wait for {reason}: {self.job(job)}")

    def until_node(self, name: str, shown: str) -> None:
        """Wait until a node is in a state, as shown."""
        until(lambda: self.client.nodes([name])[0].shown_state == shown, f"{name} to be {shown}")

    def until_lines(self, name: str, count: int) -> list[str]:
        """Wait for lines of a file that jobs write; its lines."""
        until(lambda: len(self.lines(name)) >= count, f"{count} lines: {self.lines(name)}")
        return self.lines(name)

    def until_output(self, job: int, text: str) -> None:
        """Wait until a running job has written something."""
        until(lambda: "\n".join(self.lines(f"{job}.out")).endswith(text), f"output {text!r}")

    def release_file(self, name: str) -> str:
        """Shell words that wait until the test writes the file `name`."""
        return f"until [ -e {self.file(name)} ]; do sleep 0.05; done"

    def end_jobs(self) -> None:
        """Cancel every job; wait until none holds anything."""
        changes = self.client.cancel(Selection(states=LIVE))
        assert [c.error for c in changes if c.error and c.error.code.name != "WRONG_STATE"] == []
        until(lambda: not list(self.client.jobs(Selection(states=LIVE))), "all jobs to end")


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Cluster]:
    """One cluster for all tests of a worker that leave daemons and configuration alone."""
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(shared_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The shared cluster, idle before and after, with an empty directory for files of jobs."""
    monkeypatch.chdir(shared_cluster.work)
    yield shared_cluster
    shared_cluster.end_jobs()
    assert [node.shown_state for node in shared_cluster.client.nodes()] == ["idle"] * 3
    for name in os.listdir(shared_cluster.work):
        path = shared_cluster.file(name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


@pytest.fixture
def make_cluster() -> Iterator:
    """Clusters of a test's own, with what it wants in their configuration."""
    made: list[Cluster] = []

    def make(nodes: Sequence[str] = ("n1",), **sections: str) -> Cluster:
        made.append(Cluster(nodes, **sections))
        return made[-1].start()

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def kit():
    """What the tests of clusters share."""

    class Kit:
        wait = staticmethod(until)
        deadline = DEADLINE
        root = os.geteuid() == 0
        sigkill = signal.SIGKILL

    return Kit
