"""kill -9 of the controller under load, at seeded instants and at every fail point.

The truth is a file that every job appends its id to (O_APPEND, one write). An acknowledged job is
*lost* if the controller does not know it any more, if it has not ended when all is quiet again, or
if it counts as completed and the truth does not have it. It has *run twice* if the truth has it
twice. Jobs are submitted with `no_requeue`: none may ever run again by design, so any second line
is a defect. With them a job whose shim is killed counts as NODE_FAIL, and that is not lost.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.cluster import Cluster, cluster, environment
from bench.report import Report, percentile
from cli import devfiles
from crane.client import Client
from crane.client.newjob import describe
from crane.client.selection import Selection
from crane.errors import CraneError
from crane.states import JobState

CONTROLLER_POINTS = ("decide", "append", "fsync", "reply", "order-sent", "acknowledge")
AGENT_POINTS = ("fork", "exec", "exit-record")
SEED = 20_260
SUBMITTERS = 2
OUTSTANDING = 48
"""Jobs acknowledged and not yet run, above which submitters pause: load, not a flood."""
LONGEST_LIFE = 3.0
"""Seconds from a controller's readiness to its end at most: with and without a ready planner."""
PATIENCE = 120.0
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    kills: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    """Fail points at which a process has died."""
    acknowledged: int = 0
    unanswered: int = 0
    """Submissions cut off by a kill: they may or may not have been taken."""
    lost: list[str] = field(default_factory=list)
    run_twice: list[int] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    """Seconds from the start of the process to its first answer."""
    states: Counter[str] = field(default_factory=Counter)


def controller(report: Report, jobs: int = 0) -> None:
    """`jobs`: how many kills at seeded instants (default 200); every fail point comes after them."""
    found = measure(jobs or 200, CONTROLLER_POINTS, AGENT_POINTS)
    params = {
        "seed": SEED,
        "fail_points": dict(found.hits),
        "unanswered": found.unanswered,
        "states": dict(found.states),
    }
    report.metric("kills", found.kills, "", **params)
    report.metric("acknowledged", found.acknowledged, "jobs")
    report.metric("lost", len(found.lost), "jobs", first=found.lost[:3])
    report.metric("run_twice", len(found.run_twice), "jobs", first=found.run_twice[:3])
    report.metric("restart_s", percentile(found.restarts, 0.5), "s", max=max(found.restarts))


def measure(
    kills: int, controller_points: Sequence[str], agent_points: Sequence[str], seed: int = SEED
) -> Outcome:
    """Run load through all these deaths, wait until all is quiet, and compare with the truth."""
    rng = random.Random(seed)
    out = Outcome()
    nodes = max(2, len(agent_points))
    with cluster("--nodes", str(nodes), "--cpus", "8") as running, _daemons(running) as daemons:
        _arm_agents(running, daemons, agent_points)
        with _Load(running, rng.randrange(1 << 30)) as load:
            daemons.restart_controller(out)
            for _ in range(kills):
                life = rng.uniform(0.0, LONGEST_LIFE)
                load.busy()
                time.sleep(life)
                daemons.restart_controller(out)
                out.kills += 1
            for point in controller_points:
                # The first hits are the controller's own start.
                daemons.restart_controller(out, f"{point}:{rng.randrange(8, 40)}")
                _until(daemons.controller_died, f"the controller to die at {point}")
                out.hits[point] += 1
                daemons.restart_controller(out)
            for point in agent_points:
                _until(lambda p=point: os.path.exists(_once(running, p)), f"a death at {point}")  # type: ignore[misc]
                out.hits[point] += 1
            load.busy()
        _until(lambda: _quiet(running.client), "all jobs to end")
        _compare(running, load, out)
    return out


def _until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that no event tells."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.01)


# --- daemons --------------------------------------------------------------------------------------


class _Daemons:
    """The cluster's daemons, started by this process so that they can be killed and replaced."""

    def __init__(self, running: Cluster) -> None:
        self._running = running
        self._known = {p.name: p for p in devfiles.processes(running.home)}
        self._mine: dict[str, subprocess.Popen[bytes]] = {}

    def end(self, name: str, number: signal.Signals) -> None:
        """Signal a daemon and wait until it is gone."""
        mine = self._mine.pop(name, None)
        if mine is not None:
            mine.send_signal(number)
            mine.wait(PATIENCE)
            return
        process = self._known.pop(name)
        os.kill(process.pid, number)
        _until(lambda: not devfiles.alive(process), f"{name} to end")

    def start(self, name: str, arguments: Sequence[str], failpoint: str) -> None:
        home = self._running.home
        environ = environment(home) | {"PYTHONPATH": _ROOT, "CRANE_FAILPOINT": failpoint}
        with open(devfiles.path(home, "log", f"{name}.log"), "ab") as log:
            self._mine[name] = subprocess.Popen(
                [sys.executable, *arguments, "--config", devfiles.path(home, "crane.toml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home, env=environ,
                start_new_session=True,
            )  # fmt: skip

    def restart_controller(self, out: Outcome, failpoint: str = "") -> None:
        """kill -9, then a new one; its time to the first answer is noted."""
        self.end("cranectld", signal.SIGKILL)
        begun = time.monotonic()
        self.start("cranectld", ["-m", "cranectld"], failpoint)
        _until(lambda: self._answers(failpoint), "the controller to answer")
        if not failpoint:
            out.restarts.append(time.monotonic() - begun)

    def _answers(self, failpoint: str) -> bool:
        process = self._mine["cranectld"]
        if process.poll() is not None:
            if failpoint:
                return True  # it has met its end already
            with open(devfiles.path(self._running.home, "log", "cranectld.log")) as log:
                said = log.read()[-2_000:]
            raise RuntimeError(f"the controller ended with status {process.returncode}: {said}")
        try:
            with Client(devfiles.socket_path(self._running.home)) as client:
                return client.status().pid == process.pid
        except CraneError:
            return False

    def controller_died(self) -> bool:
        """Whether it has killed itself."""
        return self._mine["cranectld"].poll() == -signal.SIGKILL

    def restart_agent(self, name: str, failpoint: str) -> None:
        """An agent in order and anew, with a fail point for its launcher and shims."""
        home = self._running.home
        self.end(name, signal.SIGTERM)
        _until(lambda: not _launcher_of(home, name), f"the launcher of {name} to leave")
        places = ["--state-dir", devfiles.path(home, name)]
        places += ["--socket", devfiles.path(home, f"{name}.sock")]
        arguments = ["-m", "craned", "--node", name, "--oversubscribe", *places]
        self.start(name, arguments, failpoint)

    def close(self) -> None:
        """End what was started here, agents first."""
        for name in sorted(self._mine, key=lambda name: name == "cranectld"):
            self.end(name, signal.SIGTERM)


@contextmanager
def _daemons(running: Cluster) -> Iterator[_Daemons]:
    daemons = _Daemons(running)
    try:
        yield daemons
    finally:
        daemons.close()


def _launcher_of(home: str, name: str) -> bool:
    mark = devfiles.path(home, name, "")
    for process in devfiles.leftovers(home):
        try:
            with open(f"/proc/{process.pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace")
        except OSError:
            continue
        if mark in words and "craned.exec" in words:
            return True
    return False


def _once(running: Cluster, point: str) -> str:
    """The file whose creation says that a process has died at the point."""
    return os.path.join(running.work, f"died-{point}")


def _arm_agents(running: Cluster, daemons: _Daemons, points: Sequence[str]) -> None:
    for number, point in enumerate(points, start=1):
        daemons.restart_agent(f"n{number}", f"{point}:3:{_once(running, point)}")
    wanted = len(running.client.nodes())
    _until(
        lambda: sum(node.connected for node in running.client.nodes()) == wanted,
        "the agents to be back",
    )


# --- load -----------------------------------------------------------------------------------------


class _Load:
    """Threads that submit jobs and remember which were acknowledged."""

    def __init__(self, running: Cluster, seed: int) -> None:
        self.truth = os.path.join(running.work, "truth")
        self.acknowledged: list[int] = []
        self.unanswered = 0
        self._running = running
        self._seed = seed
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._submit, args=(number,)) for number in range(SUBMITTERS)
        ]

    def __enter__(self) -> _Load:
        with open(self.truth, "wb"):
            pass
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def busy(self) -> None:
        """Wait until another job has been acknowledged: the load has found the new controller."""
        before = len(self.acknowledged)
        _until(lambda: len(self.acknowledged) > before or self._full(), "an acknowledgement")

    def _full(self) -> bool:
        return len(self.acknowledged) - len(self.runs()) > OUTSTANDING

    def runs(self) -> list[int]:
        """The truth: the id of each run."""
        with open(self.truth, "rb") as file:
            return [int(line) for line in file.read().split()]

    def _submit(self, number: int) -> None:
        rng = random.Random(self._seed + number)
        with Client(devfiles.socket_path(self._running.home)) as client:
            while not self._stop.is_set():
                pause = rng.choice(("", "", "sleep 0.2\n"))
                job = describe(
                    content=f"#!/bin/sh\n{pause}echo $CRANE_JOB_ID >> {self.truth}\n".encode(),
                    output="/dev/null", chdir=self._running.work, no_requeue=True,
                    env={"PATH": "/usr/bin:/bin"},
                )  # fmt: skip
                try:
                    self.acknowledged.append(client.submit_job(job))
                except CraneError as error:
                    self.unanswered += "reach" not in error.message
                    self._stop.wait(0.02)
                while self._full() and not self._stop.wait(0.02):
                    pass


# --- comparing ------------------------------------------------------------------------------------


def _quiet(client: Client) -> bool:
    try:
        counts = client.status().jobs
    except CraneError:
        return False
    return not sum(count for state, count in counts.items() if not state.ended)


def _compare(running: Cluster, load: _Load, out: Outcome) -> None:
    runs = Counter(load.runs())
    everything = {job.job_id: job for job in running.client.jobs(Selection(all=True))}
    past = (job for job in running.client.history() if job.job_id not in everything)
    everything |= {job.job_id: job for job in past}
    out.acknowledged, out.unanswered = len(load.acknowledged), load.unanswered
    out.run_twice = sorted(job for job, count in runs.items() if count > 1)
    for number in load.acknowledged:
        job = everything.get(number)
        if job is None:
            out.lost.append(f"{number}: unknown")
            continue
        out.states[job.state.name] += 1
        if not job.ended:
            out.lost.append(f"{number}: still {job.state.name}")
        elif job.state is JobState.COMPLETED and not runs[number]:
            out.lost.append(f"{number}: completed, but it has not run")
