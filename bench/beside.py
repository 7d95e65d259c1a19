"""An RPC beside the core: how long a controller takes to answer while passes run in its process.

The controller is a real one, and a thread in it makes the passes of `core.backfill` (or of `core.easy`)
again and again, as its planner would with such a queue. What is measured is a unary gRPC over TCP, from
another process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace

from bench.cluster import Cluster, cluster, daemons, environment
from bench.report import Report, percentile
from crane.client import Client
from crane.errors import CraneError

CALLS = 2_000
_READY = "passes run"
_PATIENCE = 180.0


def beside(report: Report, jobs: int = 0) -> None:
    """p50 and p99 of GetStatus, alone, beside EASY passes, and (`beside`) conservative ones."""
    with cluster("--nodes", "1", "--cpus", "1") as running:
        with _calling(running) as client:
            found = {"alone": _times(client, CALLS)}
        arguments = _stop_controller(running)
        for name, policy in (("beside_easy", "easy"), ("beside", "conservative")):
            with _passing_controller(running, arguments, jobs, policy), _calling(running) as client:
                found[name] = _times(client, CALLS)
        for name, times in found.items():
            for share in (0.5, 0.99):
                metric = f"{name}_ms_p{round(100 * share)}"
                report.metric(metric, percentile(times, share), "ms", calls=CALLS)


def _times(client: Client, calls: int) -> list[float]:
    """Milliseconds of each call, one after another."""
    times = []
    for _ in range(calls):
        begun = time.perf_counter()
        client.status()
        times.append((time.perf_counter() - begun) * 1e3)
    return times


@contextlib.contextmanager
def _calling(running: Cluster) -> Iterator[Client]:
    """A client over TCP; its token is from the agent's door, as on any other host."""
    with open(os.path.join(running.home, "crane.toml"), "rb") as file:
        address = tomllib.load(file)["agent"]["controller"]
    os.environ["CRANE_HOST_SOCKET"] = os.path.join(running.home, "n1.sock")
    deadline = time.monotonic() + _PATIENCE
    with Client(address) as client:
        while True:
            try:
                client.status()
                break
            except CraneError:
                client.close()
                if time.monotonic() > deadline:
                    raise
        yield client


def _stop_controller(running: Cluster) -> list[str]:
    """The arguments that the cluster's controller had; it is gone."""
    pid = daemons(running.home)["cranectld"]
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().decode().rstrip("\0").split("\0")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while "cranectld" in daemons(running.home):
        if time.monotonic() > deadline:
            raise TimeoutError("the controller does not leave")
    return words[words.index("cranectld") + 1 :]


@contextlib.contextmanager
def _passing_controller(
    running: Cluster, arguments: list[str], jobs: int, policy: str
) -> Iterator[None]:
    """A controller in its place, in whose process passes run."""
    command = [sys.executable, "-m", "bench.beside", policy, str(jobs), *arguments]
    made = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment(running.home), text=True
    )
    try:
        assert made.stdout is not None
        if made.stdout.readline().strip() != _READY:
            raise RuntimeError("the controller with passes did not start")
        yield
    finally:
        made.terminate()
        made.wait()


def _serve(policy: str, jobs: int, arguments: list[str]) -> int:
    """The child: a controller, and a thread that plans."""
    from bench.core import EVERYTHING
    from bench.core_conservative import DEPTH
    from bench.workload import SIZES, load, make
    from cranectld.__main__ import main
    from sched_core.memory import Memory
    from sched_core.plan import PolicyKind, plan
    from sched_core.warmup import warmup

    warmup()
    size = SIZES["full"]
    state = make(replace(size, pending=jobs) if jobs else size)
    tables, now = load(state), int(state["now_s"])
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    terms = EVERYTHING
    if policy == "conservative":
        terms = replace(terms, kind=PolicyKind.CONSERVATIVE, depth=DEPTH)
    memory = Memory()
    plan(*parts, terms, now, memory=memory)
    print(_READY, flush=True)

    def passes() -> None:
        while True:
            plan(*parts, terms, now, memory=memory)

    threading.Thread(target=passes, daemon=True).start()
    return main(arguments)


if __name__ == "__main__":
    sys.exit(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
