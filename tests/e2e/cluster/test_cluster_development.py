"""`crane up`, `crane status`, `crane down`: a cluster for everybody, and nothing left of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from bench.demo.remains import left, traces


@pytest.fixture
def home():
    path = tempfile.mkdtemp(prefix="crane-dev-", dir="/tmp")
    os.rmdir(path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_cluster_comes_up_runs_a_job_and_goes_away(home, tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CRANE_", "PYTHONDONT"))}

    def run(*words):
        path = os.path.join(os.path.dirname(sys.executable), words[0])
        return subprocess.run(
            [path, *words[1:]], env=env | {"CRANE_HOME": home}, cwd=tmp_path,
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    try:
        up = run("crane", "up", "--nodes", "2", "--cpus", "2", "--gres", "gpu:a100:2")
        assert up.returncode == 0, up
        seen = traces(home, home)
        status = run("crane", "status").stdout
        assert "2 of 2 connected" in status
        again = run("crane", "up")
        assert (again.returncode, "already" in again.stderr) == (6, True)
        body = "echo $CUDA_VISIBLE_DEVICES; crun hostname | wc -l"
        done = run("csub", "--wait", "-N", "2", "--gres", "gpu:2", "-o", "out", "--wrap", body)
        assert done.returncode == 0, done
        assert (tmp_path / "out").read_text().split() == ["0,1", "2"]
        assert run("csub", "--wrap", "sleep 900").returncode == 0
    finally:
        down = run("crane", "down", "--purge")
    assert (down.returncode, down.stderr) == (0, "")
    assert left(seen, home) == []
    assert not os.path.exists(home)
    assert run("crane", "status").returncode == 1
    assert run("cqueue").returncode == 3
