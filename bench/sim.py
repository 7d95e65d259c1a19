"""Replays of a whole log on one pool of processors: what `csim` waits for."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np

from bench.report import Report
from cranectld.sim.csim.machine import Machine
from cranectld.sim.csim.measures import measures
from cranectld.sim.csim.trace import read_swf
from cranectld.sim.csim.workload import Workload, workload
from sched_core.columns import Ints
from sched_core.pool import PoolPolicy, replay
from sched_core.warmup import warmup

TRACE = Path(__file__).parent / "data" / "SDSC-SP2-sc15filtered.swf.gz"
RUNS = 5


def easy(report: Report, jobs: int = 0) -> None:
    """EASY with the users' estimates."""
    _measure(report, PoolPolicy.EASY, jobs)


def conservative(report: Report, jobs: int = 0) -> None:
    """A planned start for every job, compressed when one ends early."""
    _measure(report, PoolPolicy.CONSERVATIVE, jobs)


def _measure(report: Report, policy: PoolPolicy, count: int) -> None:
    warmup()
    trace = read_swf(str(TRACE))
    machine = Machine(trace.max_procs)
    jobs = workload(trace, machine.processors, "strong")
    if count:
        jobs = jobs.only(np.arange(len(jobs)) < count)
    seconds = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        start = replay(
            jobs.submit,
            jobs.procs,
            jobs.estimate,
            jobs.run,
            processors=machine.processors,
            policy=policy,
        )
        seconds.append(time.perf_counter() - begun)
    _check(jobs, start, machine.processors)
    found = measures(jobs, start, machine.processors)
    report.metric(
        "wall_s",
        median(seconds),
        "s",
        jobs=len(jobs),
        runs=RUNS,
        slowest_s=round(max(seconds), 4),
        mean_bounded_slowdown=round(found.waits.bounded_slowdown, 4),
    )
    report.metric("jobs_per_s", len(jobs) / median(seconds), "jobs/s")


def _check(jobs: Workload, start: Ints, processors: int) -> None:
    """No job starts before it is submitted, and no instant holds more than the machine."""
    instants = np.concatenate([start + jobs.run, start])
    change = np.concatenate([-jobs.procs, jobs.procs])
    ends_first = np.repeat([0, 1], len(start))
    used = np.cumsum(change[np.lexsort((ends_first, instants))])
    assert (start >= jobs.submit).all()
    assert used.max() <= processors
