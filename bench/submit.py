"""Submitting: many separately described jobs, and one very large array."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from bench.cluster import Cluster, cluster, rss_mib
from bench.report import Report
from crane.client.newjob import NewJob, describe, pack_environment
from crane.states import JobState
from cranectld.sim.scale import Scale

ENVIRONMENT_BYTES = 4096
IDLE = 2.0
"""Seconds of rest before what stays is measured."""


def batch(report: Report, jobs: int = 0) -> None:
    """Jobs of their own script and environment, durable when acknowledged; none of them starts."""
    count = jobs or 100_000
    with cluster("--nodes", "1", "--cpus", "2") as running:
        _settle(running)
        before = running.rss_mib()
        begun = time.perf_counter()
        accepted = sum(
            isinstance(answer, int) for answer in running.client.submit_many(_described(count))
        )
        took = time.perf_counter() - begun
        _raise_unless(accepted == count, f"{count - accepted} jobs were refused")
        at_once = running.rss_mib() - before
        status = running.client.status()
        pending = status.jobs.get(JobState.PENDING, 0)
        _raise_unless(pending == count, f"{pending} of {count} are pending")
        params = {"jobs": count, "environment_bytes": ENVIRONMENT_BYTES, "own_environments": True}
        report.metric("jobs_per_s", count / took, "jobs/s", **params)
        report.metric("rss_growth_at_once_mib", at_once, "MiB", **params)
        time.sleep(IDLE)  # the allocator gives memory of the requests back when there is a pause
        report.metric("rss_growth_mib", running.rss_mib() - before, "MiB", **params)


def array(report: Report, jobs: int = 0) -> None:
    """An array of 1,000,000 tasks is accepted; 200,000 of them run on simulated agents."""
    count = jobs or 1_000_000
    with cluster("--nodes", "1", "--cpus", "2") as running:
        _settle(running)
        before = running.rss_mib()
        job = describe(content=b"#!/bin/sh\n", array=f"0-{count - 1}", hold=True, env={})
        begun = time.perf_counter()
        running.client.submit_job(job)
        took = time.perf_counter() - begun
        report.metric("accept_ms", took * 1e3, "ms", tasks=count)
        report.metric("rss_growth_mib", running.rss_mib() - before, "MiB", tasks=count)
    _run_tasks(report, count, count // 5)


def _run_tasks(report: Report, count: int, ended: int) -> None:
    """The real cores with simulated agents: memory after so many of the array's tasks have run."""
    scale = Scale(nodes=100, cpus=32)
    first = scale.submit_array(64)
    scale.run_until_ended(first, 64)  # kernels loaded, tables made
    before = rss_mib(os.getpid())
    number = scale.submit_array(count)
    took = scale.run_until_ended(number, ended)
    params = {"tasks": count, "ended": scale.ended(number), "agents": "simulated"}
    grown = rss_mib(os.getpid()) - before
    report.metric("rss_growth_after_tasks_mib", grown, "MiB", **params)
    report.metric("simulated_tasks_per_s", ended / took, "tasks/s", **params)


def _described(count: int) -> Iterator[NewJob]:
    """Jobs that differ in script and in 4 KiB of environment; held, so that none starts."""
    model = describe(content=b"#!/bin/sh\n", hold=True, output="/dev/null", env={})
    filler = "x" * 100
    names = [f"VARIABLE_{i}" for i in range(ENVIRONMENT_BYTES // 115)]
    for number in range(count):
        own = dict.fromkeys(names, filler) | {"NUMBER": str(number)}
        packed = pack_environment(own)
        packed += b"\0PAD=" + b"y" * (ENVIRONMENT_BYTES - len(packed) - 5)
        yield NewJob(
            spec=model.spec,
            script=b"#!/bin/sh\necho this is job %d\n" % number,
            environment=packed,
            name=f"job-{number}",
            command="(content)",
        )


def _settle(running: Cluster) -> None:
    """Wait until the planner is ready, so that its memory is not counted as growth."""
    deadline = time.monotonic() + 120
    while not running.client.status().planner_ready:
        if time.monotonic() > deadline:
            raise TimeoutError("the planner did not get ready")
        time.sleep(0.1)


def _raise_unless(held: bool, text: str) -> None:
    if not held:
        raise RuntimeError(text)
