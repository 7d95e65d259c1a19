"""Start-up: what a command costs a person, and what a fresh machine costs its first job."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from statistics import median

from bench.cluster import cluster, command, environment
from bench.report import Report
from crane.client import Client
from crane.client.newjob import describe
from crane.errors import CraneError

RUNS = 15


def commands(report: Report, jobs: int = 0) -> None:
    """Wall time of real commands against a running controller, through the local door."""
    runs = jobs or RUNS
    with cluster("--nodes", "1", "--cpus", "2") as running:
        script = os.path.join(running.work, "job.sh")
        with open(script, "w") as file:
            file.write("#!/bin/sh\ntrue\n")
        env = environment(running.home)

        def wall(words: list[str]) -> float:
            begun = time.perf_counter()
            subprocess.run(words, env=env, cwd=running.work, check=True, capture_output=True)
            return (time.perf_counter() - begun) * 1e3

        submit = command("csub", "--output", "/dev/null", "--hold", script)
        for name, words in (("csub_ms", submit), ("cqueue_ms", command("cqueue"))):
            for _ in range(3):
                wall(words)
            report.metric(name, median(wall(words) for _ in range(runs)), "ms", runs=runs)
        bare = [*command("python"), "-I", "-c", "pass"]
        report.metric("bare_python_ms", median(wall(bare) for _ in range(runs)), "ms", runs=runs)


def cold(report: Report, jobs: int = 0) -> None:
    """A fresh clone, without byte code of ours or kernels: takes jobs, and runs the first."""
    del jobs
    place = tempfile.mkdtemp(prefix="crane-cold-")
    home = os.path.join(place, "home")
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        subprocess.run(["git", "clone", "--quiet", source, f"{place}/checkout"], check=True)
        env = environment(home) | {
            "PYTHONPATH": f"{place}/checkout",
            "XDG_CACHE_HOME": f"{place}/cache",
            "CRANE_NUMBA_CACHE": f"{place}/kernels",
        }
        begun = time.perf_counter()
        crane = [
            *command("python"),
            "-c",
            "import sys; from cli.crane import main; sys.exit(main())",
        ]
        words = [*crane, "up", "--nodes", "1"]
        up = subprocess.Popen(words, env=env, cwd=place, stdout=subprocess.DEVNULL)
        with Client(os.path.join(home, "cranectld.sock")) as client:
            job = describe(content=b"#!/bin/sh\n", output="/dev/null", chdir=place, env={})
            number = _until(lambda: client.submit_job(job), 60)
            report.metric("accept_s", time.perf_counter() - begun, "s")
            client.wait([number], timeout=180)
            report.metric("first_job_s", time.perf_counter() - begun, "s")
        up.wait(timeout=60)
        subprocess.run([*crane, "down"], env=env, cwd=place, check=True, capture_output=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _until(attempt: Callable[[], int], seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except CraneError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
