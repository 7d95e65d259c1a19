"""docs/csim.md: its commands run, and print what it says they print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "csim.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```sh\n(.*?)^```\n\n```text\n(.*?)^```$", DOCUMENT, re.S | re.M)
JIT = "NUMBA_DISABLE_JIT" not in os.environ


@pytest.mark.usefixtures("compiled_kernels")
@pytest.mark.skipif(not JIT, reason="whole logs take minutes when kernels are interpreted")
@pytest.mark.parametrize(("command", "output"), EXAMPLES)
def test_an_example_prints_what_it_shows(command: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "bench").symlink_to(ROOT / "bench")
    itself = f'csim() {{ {shlex.quote(sys.executable)} -m cranectld.sim.csim "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-euc", itself + command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == output


def test_the_document_has_examples() -> None:
    assert len(EXAMPLES) == DOCUMENT.count("```sh") == 4
