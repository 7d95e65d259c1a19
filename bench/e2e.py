"""End to end: throughput of short jobs, and latency on an idle cluster."""

from __future__ import annotations

import os
import time

from bench.cluster import Cluster, cluster
from bench.report import Report, percentile
from crane.client.model import JobEvent
from crane.client.newjob import NewJob, describe
from crane.states import JobState


def throughput(report: Report, jobs: int = 0) -> None:
    """Submit jobs of their own script and output file in batches; until all are COMPLETED."""
    count = jobs or 2_000
    with cluster("--nodes", "4", "--cpus", "32") as running:
        _warm(running)
        described = [_job(running, i) for i in range(count)]
        cpu = running.cpu_seconds()
        seq = running.client.status().seq
        begun = time.perf_counter()
        answers = list(running.client.submit_many(described))
        submitted = time.perf_counter() - begun
        ids = [answer for answer in answers if isinstance(answer, int)]
        _until_completed(running, seq, ids)
        took = time.perf_counter() - begun
        spent = {n: round(s - cpu.get(n, 0.0), 2) for n, s in running.cpu_seconds().items()}
        refused = [answer for answer in answers if not isinstance(answer, int)]
        assert not refused, refused[0]
        missing = [i for i in ids if not os.path.exists(f"{running.work}/{i}.out")]
        assert not missing, f"{len(missing)} jobs left no output, the first is {missing[0]}"
        params = _in_force(running) | {"jobs": count, "cpu_s": spent}
        report.metric("jobs_per_s", count / took, "jobs/s", submit_s=round(submitted, 3), **params)


def latency(report: Report, jobs: int = 0) -> None:
    """One job at a time on an idle cluster: from `submit` to the time stamp the job writes."""
    count = jobs or 50
    with cluster("--nodes", "4", "--cpus", "32") as running:
        _warm(running)
        waits = []
        for i in range(count):
            path = f"{running.work}/stamp-{i}"
            job = describe(
                content=b"#!/bin/sh\ndate +%s%N\n", output=path, chdir=running.work, env={}
            )
            begun = time.time_ns()
            number = running.client.submit_job(job)
            running.client.wait([number], timeout=30)
            with open(path) as file:
                waits.append((int(file.read()) - begun) / 1e6)
        params = _in_force(running) | {"jobs": count}
        report.metric("start_ms_p50", percentile(waits, 0.50), "ms", **params)
        report.metric("start_ms_p99", percentile(waits, 0.99), "ms", **params)


def _job(running: Cluster, number: int) -> NewJob:
    return describe(
        content=b"#!/bin/sh\n/bin/true # %d\n" % number,
        output=f"{running.work}/%j.out",
        chdir=running.work,
        job_name=f"true-{number}",
        env={"PATH": "/usr/bin:/bin"},
    )


def _warm(running: Cluster) -> None:
    """Run one job, so that what is measured is a cluster in operation."""
    job = describe(content=b"#!/bin/sh\n", output="/dev/null", chdir=running.work, env={})
    running.client.wait([running.client.submit_job(job)], timeout=120)


def _until_completed(running: Cluster, seq: int, ids: list[int]) -> None:
    """Wait until every job's end is recorded as COMPLETED; `seq`: the log's, before they were sent."""
    left = dict.fromkeys(ids)
    for event in running.client.events(seq, timeout=300):
        if not isinstance(event, JobEvent) or not event.state.ended:
            continue
        if event.state is not JobState.COMPLETED:
            raise RuntimeError(f"job {event.job_id} ended as {event.state.name}")
        left.pop(event.job_id, None)
        if not left:
            return


def _in_force(running: Cluster) -> dict[str, object]:
    """What makes figures comparable: cgroup backend, how the log is kept, who runs it."""
    status = running.client.status()
    return {
        "cgroup": running.client.nodes()[0].cgroup,
        "root": os.geteuid() == 0,
        "log_appends": status.figures.get("log_appends", 0),
        "log_append_p50_ms": status.figures.get("log_append_p50_ms", 0),
    }
