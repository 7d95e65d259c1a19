"""What commands must not import, and how they end when their reader leaves: real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BANNED = {"numpy", "numba", "grpc", "asyncio", "argparse", "logging", "ssl", "google.protobuf",
          "dataclasses", "inspect", "re", "typing", "socket", "tomllib", "subprocess"}  # fmt: skip
LINES = {
    "csub": "--wrap true",
    "cqueue": "-h",
    "ccancel": "12",
    "cinfo": "-h",
    "cacct": "-h -a".replace("-h ", "-n "),
    "ccontrol": "show node",
    "cwhy": "102",
    "cwait": "90",
}


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", LINES)
def test_a_command_imports_nothing_heavy(cluster, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = type(cluster.answers["ListHistory"])()
    ended.CopyFrom(cluster.answers["ListHistory"])
    if command == "cwait":
        cluster.answers["ListJobs"] = type(cluster.answers["ListJobs"])(jobs=[ended.jobs[0]], seq=5)
    program = (
        "import sys, os\n"
        f"from cli.{command} import main\n"
        "status = main(sys.argv[1:])\n"
        "sys.stderr.write(' '.join(sys.modules))\n"
        "sys.exit(status)\n"
    )
    done = python(program, *LINES[command].split())

    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split("\n")[-1].split())
    assert "cli.command" in loaded
    assert not loaded & BANNED


def test_a_long_queue_is_shown_without_importing_more(cluster):
    page = cluster.answers["ListJobs"]
    many = type(page)(now=page.now)
    for number in range(1, 3001):
        many.jobs.add().CopyFrom(page.jobs[number % len(page.jobs)])
        many.jobs[-1].job_id = number
    assert many.ByteSize() > 400_000
    cluster.answers["ListJobs"] = many
    program = (
        "import sys\n"
        "from cli.cqueue import main\n"
        "main(['-h', '-o', '%A', '-S', 'A'])\n"
        "sys.stderr.write(' '.join(sys.modules))\n"
    )
    done = python(program)

    assert done.stdout.split() == [str(number) for number in range(1, 3001)]
    assert not set(done.stderr.split()) & BANNED


@pytest.mark.parametrize("command", [*LINES, "crun", "crane"])
def test_help_and_version_need_no_controller(command):
    program = f"from cli.{command} import main; main()"
    environ = os.environ | {"CRANE_SOCKET": "/nowhere"}
    for option, begins in (("--help", f"usage: {command}"), ("--version", f"{command} 0.")):
        done = subprocess.run(
            [sys.executable, "-c", program, option],
            capture_output=True, text=True, timeout=60, check=False, env=environ,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(begins)
    assert "Examples:" in python(program, "--help").stdout


def test_a_reader_that_leaves_is_no_error(cluster):
    whole = cluster.answers["ListJobs"]
    first = whole.jobs[0]
    for _ in range(3000):
        whole.jobs.add().CopyFrom(first)
    process = subprocess.Popen(
        [sys.executable, "-c", "from cli.cqueue import main; main()"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert b"JOBID" in process.stdout.readline()
    process.stdout.close()

    errors = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert errors == b""
