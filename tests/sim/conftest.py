"""Kernels are compiled once for all workers, in the cache that the tests of sched_core use."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sched_core import cachedir

ROOT = Path(
    os.environ.get(cachedir.VARIABLE)
    or Path(tempfile.gettempdir()) / f"crane-test-kernels-{os.getuid()}"
)
os.environ[cachedir.VARIABLE] = str(ROOT)
if "NUMBA_DISABLE_JIT" not in os.environ:
    cachedir.use(ROOT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a worker may wait until the kernels are compiled."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def compiled_kernels() -> None:
    """The first test that asks for it may wait until the kernels are compiled."""
    if "NUMBA_DISABLE_JIT" in os.environ:
        return
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cachedir.is_complete(ROOT, "pass"):
            command = [sys.executable, "-m", "sched_core.warmup", "--group", "pass"]
            subprocess.run([*command, "--cache-dir", str(ROOT)], check=True, timeout=580)
        from sched_core.warmup import warmup

        warmup(ROOT, "pass")
