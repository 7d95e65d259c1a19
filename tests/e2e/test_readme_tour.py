"""The tour in README.md does what it says: its commands, run one block after the other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.demo.remains import left, traces
from bench.demo.stage import environment

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
SECONDS = 280


def tour():
    """The blocks of the tour as one program for bash; a block that fails is named."""
    section = re.search(r"^## A five-minute tour\n(.*?)^## ", README.read_text(), re.S | re.M)
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", section[1], re.S | re.M)
    assert len(blocks) > 5
    lines = ["set -eu -o pipefail", "trap 'echo \"failed in block $block\" >&2' EXIT"]
    for number, (language, text) in enumerate(blocks, start=1):
        lines += [f"block={number}", f"echo '--- {number}'"]
        lines.append(text if language == "sh" else f"python - <<'PROGRAM'\n{text}PROGRAM")
    return "\n".join([*lines, "trap - EXIT"])


@pytest.fixture
def place():
    """A directory short enough for sockets, and nothing of its cluster left afterwards."""
    top = tempfile.mkdtemp(prefix="crane-tour-")
    home = f"{top}/home"
    for name in ("work", "tmp"):
        os.mkdir(f"{top}/{name}")
    environ = environment(os.environ, home, f"{top}/tmp", os.path.dirname(sys.executable))
    environ["PYTHONPATH"] = str(ROOT)
    before = None
    try:
        yield f"{top}/work", environ
        before = traces(home, top)
    finally:
        before = before or traces(home, top)
        if os.path.isdir(home):
            down = [f"{os.path.dirname(sys.executable)}/crane", "down", "--purge"]
            subprocess.run(down, env=environ, check=True, timeout=120)
        remaining = left(before, top)
        shutil.rmtree(top)
    assert remaining == []


@pytest.mark.timeout(SECONDS + 120)  # a first start compiles the kernels
def test_every_command_of_the_tour_works(place):
    work, environ = place
    done = subprocess.run(
        ["bash", "-c", tour()],
        cwd=work,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    parts = re.split(r"^--- \d+\n", done.stdout, flags=re.M)[1:]
    up, hello, array, ranks, devices, history, python, down = parts
    assert "n[1-3]" in up
    assert re.search(r"^job 1 has 2 CPUs of n\d$", hello, re.M)
    numbers = [int(line) for line in array.splitlines()[-1].split("+")]
    assert sorted(numbers) == list(range(2, 42, 2))
    told = sorted(line for line in ranks.splitlines() if ": rank " in line)
    assert [line.partition(" on ")[0] for line in told] == [f"{n}: rank {n} of 4" for n in range(4)]
    assert ": PENDING, " in devices
    assert re.search(r"^GPU [01]$", devices, re.M)
    assert "CANCELLED" in history
    assert "JobState=COMPLETED" in history
    assert python == "COMPLETED\n"
    assert "The cluster is down." in down
