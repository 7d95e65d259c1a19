"""`csim replay`: the figures, the files it writes, what it refuses, and how it is interrupted."""

from __future__ import annotations

import csv
import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cranectld.sim.csim.__main__ import main
from sched_core.oracle_pool import PoolJob, pool_schedule

ROOT = Path(__file__).resolve().parents[2]
KTH = str(ROOT / "bench/data/KTH-SP2-1996-2.swf.gz")
JIT = "NUMBA_DISABLE_JIT" not in os.environ
pytestmark = pytest.mark.usefixtures("compiled_kernels")


def some_jobs(seed: int, count: int, processors: int) -> list[PoolJob]:
    rng = random.Random(seed)
    jobs = []
    for _ in range(count):
        estimate = rng.randint(1, 40)
        size = rng.randint(1, processors)
        jobs.append(PoolJob(rng.randint(0, 400), size, estimate, rng.randint(1, estimate)))
    return jobs


def write_trace(path: Path, jobs: list[PoolJob], processors: int) -> str:
    lines = [f"; MaxProcs: {processors}\n"]
    for i, j in enumerate(jobs):
        lines.append(
            f"{i + 70} {j.submit} -1 {j.runtime} {j.processors} -1 -1 {j.processors} "
            f"{j.estimate} -1 1 1 1 -1 -1 -1 -1 -1\n"
        )
    path.write_text("".join(lines))
    return str(path)


def starts(path: Path) -> list[int]:
    with path.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["job_id", "submit", "start", "end"]
    return [int(row[2]) for row in rows[1:]]


def test_jobs_are_written_in_the_order_of_the_trace(tmp_path: Path) -> None:
    jobs = some_jobs(1, 60, 8)
    trace = write_trace(tmp_path / "log.swf", jobs, 8)
    out = tmp_path / "starts.csv"
    assert main(["replay", trace, "--policy", "easy-sjbf", "--jobs", str(out)]) == 0
    expected = pool_schedule(jobs, 8, "easy-sjbf")
    with out.open() as file:
        rows = [tuple(map(int, row)) for row in list(csv.reader(file))[1:]]
    assert rows == [
        (i + 70, j.submit, start, start + j.runtime)
        for i, (j, start) in enumerate(zip(jobs, expected, strict=True))
    ]
    assert sorted(os.listdir(tmp_path)) == ["log.swf", "starts.csv"]


def test_clairvoyance_order_and_depth_reach_the_core(tmp_path: Path) -> None:
    jobs = some_jobs(3, 60, 8)
    trace = write_trace(tmp_path / "log.swf", jobs, 8)
    out = tmp_path / "starts.csv"
    words = ["--clairvoyant", "--order", "saf", "--depth", "3", "--jobs", str(out)]
    assert main(["replay", trace, *words]) == 0
    known = [PoolJob(j.submit, j.processors, j.runtime, j.runtime) for j in jobs]
    assert starts(out) == pool_schedule(known, 8, "easy", "saf", 3)


@pytest.mark.skipif(not JIT, reason="a whole log takes minutes when kernels are interpreted")
def test_averages_of_a_real_log_are_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    every = "fcfs,easy,easy-sjbf,conservative,conservative-replan"
    assert main(["replay", KTH, "--compare", every, "--pool", "100"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-5:]]
    assert {row[0]: (row[2], row[4], row[5], row[6], row[7]) for row in rows} == {
        "fcfs": ("353,776.4", "805,926", "946,685", "6,814.9733", "0.6852"),
        "easy": ("6,834.6", "37,634", "262,194", "92.6877", "0.6856"),
        "easy-sjbf": ("5,903.7", "35,012", "284,815", "69.3936", "0.6856"),
        "conservative": ("7,316.2", "39,007", "249,058", "88.9666", "0.6856"),
        "conservative-replan": ("7,936.2", "41,661", "249,742", "101.8269", "0.6856"),
    }
    assert main(["replay", KTH, "--compare", "easy,easy-sjbf", "--clairvoyant", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["jobs"] == 28_481
    waits = [result["waits"] for result in found["results"]]
    assert [round(w["mean"], 3) for w in waits] == [6_327.682, 5_435.814]
    assert [round(w["bounded_slowdown"], 4) for w in waits] == [71.7224, 49.8472]
    sizes = [part["waits"]["jobs"] for part in found["results"][0]["classes"]]
    assert sum(sizes) == 28_481


def test_a_small_schedule_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [PoolJob(0, 2, 20, 20), PoolJob(0, 3, 10, 10), PoolJob(0, 1, 20, 5)]
    trace = write_trace(tmp_path / "log.swf", jobs, 4)
    assert main(["replay", trace, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["results"][0]
    assert result["waits"] == {
        "jobs": 3,
        "mean": pytest.approx(20 / 3),
        "median": 0,
        "p95": 20,
        "max": 20,
        "bounded_slowdown": pytest.approx((1 + 3 + 1) / 3),
    }
    assert (result["makespan"], result["utilisation"]) == (30, pytest.approx(75 / 120))
    assert [(c["low"], c["high"]) for c in result["classes"]] == [(1, 1), (2, 2), (3, 4)]
    assert main(["replay", trace]) == 0
    first = capsys.readouterr().out
    assert main(["replay", trace]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--compare", "easy,fcfs", "--jobs", "x.csv"], "--jobs is for one policy"),
        (["--policy", "conservative", "--order", "sjf"], "takes no order"),
        (["--policy", "learned", "--nodes", "2x2"], "is not offered on nodes"),
        (["--order", "wfp3", "--nodes", "2x2"], "is not offered on nodes"),
        (["--nodes", "2x2,x3"], "is not NODESxCPUS"),
        (["--window", "60"], "give --nodes"),
        (["--resolution", "0"], "not a second or more"),
        (["--pool", "-1"], "not -1"),
        (["--depth", "-1"], "below 0"),
        (["--jobs", "/nonexistent/x.csv"], "/nonexistent/x.csv: cannot be written"),
    ],
)
def test_what_cannot_be_done_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    trace = write_trace(tmp_path / "log.swf", some_jobs(4, 5, 4), 4)
    assert main(["replay", trace, *words]) == (6 if "cannot be written" in told else 2)
    output = capsys.readouterr()
    assert output.err.startswith("csim: error: ")
    assert told in output.err
    assert output.err.count("\n") == 1
    assert not output.out


def test_the_trace_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write_trace(tmp_path / "log.swf", some_jobs(4, 5, 4), 4)
    before = Path(trace).read_bytes()
    assert main(["replay", trace, "--jobs", str(tmp_path / "." / "log.swf")]) == 2
    assert "is the trace itself" in capsys.readouterr().err
    assert Path(trace).read_bytes() == before
    with pytest.raises(SystemExit):
        main(["replay", trace, "--compare", "easy,lottery"])
    assert "no policy 'lottery'" in capsys.readouterr().err


@pytest.mark.parametrize("policy", ["easy", "conservative"])
def test_a_terminal_sees_progress_and_can_interrupt(tmp_path: Path, policy: str) -> None:
    files = ["--jobs", str(tmp_path / "starts.csv"), "--plot", str(tmp_path / "plot.html")]
    # whoever runs the tests in the background has them ignore interrupts
    heed = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    heed += "runpy.run_module('cranectld.sim.csim', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", heed, "replay", KTH, "--nodes", "50x2", "--policy", policy]
    master, slave = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *files], stdout=subprocess.PIPE, stderr=slave, env=environment
    ) as process:
        seen = b""
        while b" of 28,481 jobs" not in seen:
            chunk = os.read(master, 4096)
            assert chunk, seen
            seen += chunk
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read() == b""
        assert process.wait(timeout=30) == 130
    # what it said last is lost if nobody holds the terminal's other end any more
    while b"nothing was written" not in seen and select.select([master], [], [], 10)[0]:
        seen += os.read(master, 4096)
    os.close(slave)
    os.close(master)
    assert b"csim: interrupted; nothing was written" in seen
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not JIT, reason="measures compiled kernels")
def test_the_benchmarks_check_and_measure(capsys: pytest.CaptureFixture[str]) -> None:
    from bench import sim
    from bench.report import Report

    for scenario in (sim.easy, sim.conservative):
        report = Report("sim")
        scenario(report, 400)
        assert report.values["jobs_per_s"] > 1000
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["metric"], first["params"]["jobs"]) == ("wall_s", 400)
