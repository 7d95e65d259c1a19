"""Parts of the demonstration that need no cluster: its arithmetic, its stage, its look for remains."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import importlib.util
import io
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.demo import direct, remains
from bench.demo.stage import DemoError, Stage, environment

ROOT = Path(__file__).resolve().parents[2]
JOBS = ROOT / "bench" / "demo" / "jobs"


def program(name):
    """A job's program as a module."""
    spec = importlib.util.spec_from_file_location(f"demo_job_{name}", JOBS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ANALYSE, REDUCE, LIMITS = program("analyse"), program("reduce"), program("limits")


@contextlib.contextmanager
def started_as(*argv, **variables):
    """Arguments and variables of the process while a program runs; gives its output."""
    before_argv, before = sys.argv, os.environ.copy()
    sys.argv = ["program", *argv]
    os.environ.update(variables)
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            yield out
    finally:
        sys.argv = before_argv
        os.environ.clear()
        os.environ.update(before)


def table_by_jobs(trace, directory, parts):
    """What the array job and the dependent job print together."""
    for part in range(parts):
        array = {"CRANE_ARRAY_TASK_ID": str(part), "CRANE_ARRAY_TASK_COUNT": str(parts)}
        with started_as(trace, directory, **array, CRANED_NODENAME="n1"):
            ANALYSE.main()
    with started_as(directory, str(parts)) as out:
        REDUCE.main()
    return out.getvalue()


JOB = st.tuples(st.integers(-1, 400_000), st.integers(-1, 90_000), st.integers(-1, 100))
KNOWN = st.tuples(st.integers(0, 9_999), st.integers(1, 9_999), st.integers(1, 100))


@settings(deadline=None, max_examples=40)
@given(jobs=st.lists(JOB, max_size=60), known=KNOWN, parts=st.integers(1, 9))
def test_the_jobs_and_the_direct_computation_agree_on_any_trace(jobs, known, parts):
    with tempfile.TemporaryDirectory() as directory:
        trace = os.path.join(directory, "trace.swf.gz")
        with gzip.open(trace, "wt", encoding="ascii") as file:
            file.write("; a header\n")
            for number, (wait, run, size) in enumerate([*jobs, known]):
                rest = "-1 -1 " + " ".join(["-1"] * 11)
                file.write(f"{number} 0 {wait} {run} {size} {rest}\n")
        printed = direct.parse(table_by_jobs(trace, directory, parts))
        assert direct.difference(printed, direct.table(trace)) == ""
        assert printed[-1].name == "all"


ROW = direct.Row("2-4", 10, 5.0, 50.0, 30, 60, 1.5)


@pytest.mark.parametrize(
    "change",
    [{"name": "5-8"}, {"jobs": 11}, {"hours": 5.2}, {"share": 50.2}, {"median": 31},
     {"wait95": 61}, {"slowdown": 1.52}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_table_that_differs_in_anything_is_noticed(change):
    assert direct.difference([dataclasses.replace(ROW, **change)], [ROW])
    assert direct.difference([], [ROW])
    assert direct.difference([ROW], [ROW]) == ""


@pytest.mark.parametrize(
    ("lines", "files", "told"),
    [
        (
            "8:pids:/a/b\n4:memory:/a/b\n1:cpu:/a/b\n0::/\n",
            {
                "cpu/a/b/cpu.cfs_quota_us": "200000",
                "cpu/a/b/cpu.cfs_period_us": "100000",
                "cpu/a/cpu.cfs_quota_us": "-1",
                "cpu/a/cpu.cfs_period_us": "100000",
                "memory/a/b/memory.limit_in_bytes": str(9223372036854771712),
                "memory/a/memory.limit_in_bytes": str(256 << 20),
            },
            ("limit 2 (cgroup v1,", "limit 256 MiB (cgroup v1,"),
        ),
        (
            "0::/a/b\n",
            {"a/b/cpu.max": "50000 100000", "a/cpu.max": "max 100000", "a/memory.max": "1048576"},
            ("limit 0.5 (cgroup v2,", "limit 1 MiB (cgroup v2,"),
        ),
        ("0::/a\n", {"a/cpu.max": "max 100000"}, ("no limit in force", "no limit in force")),
    ],
    ids=["v1", "v2", "none"],
)
def test_the_limits_job_tells_the_tightest_limit_around_it(
    tmp_path, monkeypatch, lines, files, told
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    paths = {}
    for line in lines.splitlines():
        _, controllers, path = line.split(":")
        paths[controllers] = path
    monkeypatch.setattr(LIMITS, "ROOT", str(tmp_path))
    monkeypatch.setattr(LIMITS, "groups", lambda: paths)
    with started_as(CRANE_CPUS_ON_NODE="2", CRANE_MEM_PER_NODE="256") as out:
        LIMITS.main()
    cpus, memory = out.getvalue().splitlines()
    assert cpus.startswith("CPUs:   promised 2; " + told[0])
    assert memory.startswith("memory: promised 256 MiB; " + told[1])


def stage(tmp_path):
    out = io.StringIO()
    return Stage(str(tmp_path), os.environ, out), out


def test_commands_are_shown_as_typed_with_their_output_and_no_colours(tmp_path):
    (tmp_path / "file").write_text("content\n")
    shown, out = stage(tmp_path)
    shown.title("A scene")
    shown.say("What comes next.")
    shown.run("cat 'file'")
    assert out.getvalue() == "\n== A scene\n# What comes next.\n$ cat 'file'\ncontent\n"
    assert shown.summary(1.0) == 0


def test_an_unexpected_exit_status_is_a_difference(tmp_path):
    shown, out = stage(tmp_path)
    shown.run("false", statuses=(1,))
    assert shown.checks.failed == []
    shown.run("false")
    shown.expect("a number", 1, 1, 2)
    assert shown.checks.passed == 1
    assert shown.summary(1.0) == 1
    assert "exit status of `false`: found 1, expected 0" in out.getvalue()


def test_a_command_that_is_not_there_ends_the_demonstration(tmp_path):
    shown, _ = stage(tmp_path)
    with pytest.raises(DemoError, match="cannot be run"):
        shown.run("./no-such-command")


def test_nothing_set_for_another_cluster_reaches_the_demonstration():
    base = {
        "PATH": "/bin", "HOME": "/h", "CRANE_SOCKET": "/s", "SBATCH_PARTITION": "p",
        "SLURM_JOB_ID": "1", "CRANE_NUMBA_CACHE": "/c",
    }  # fmt: skip
    assert environment(base, "/d/cluster", "/d/tmp", "/v/bin") == {
        "PATH": "/v/bin:/bin",
        "HOME": "/h",
        "CRANE_HOME": "/d/cluster",
        "CRANE_NUMBA_CACHE": "/c",
        "TMPDIR": "/d/tmp",
    }


def test_processes_and_sockets_that_are_left_are_found_until_they_are_gone():
    with tempfile.TemporaryDirectory(prefix="crane-remains-") as mark:
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
            env=os.environ | {"CRANE_HOME": mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with socket.socket(socket.AF_UNIX) as listener, process:
            assert process.stdout.readline() == b"\n"  # its environment is its own by now
            listener.bind(f"{mark}/s")
            before = remains.traces(mark, mark)
            assert [pid for pid, _, _ in before.processes] == [process.pid]
            assert before.sockets == (f"{mark}/s",)
            found = remains.left(before, mark)
            assert found[0].startswith(f"process {process.pid}: ")
            assert found[1:] == [f"socket {mark}/s"]
            process.stdin.close()
            assert process.wait(timeout=30) == 0
            listener.close()
            assert remains.left(before, mark) == []
