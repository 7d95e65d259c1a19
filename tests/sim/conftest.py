"""Kernels are compiled once, whoever comes first: `make test` has done it before the tests start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sched_core.warmup import warmup


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a worker may wait until the kernels are compiled."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def compiled_kernels() -> None:
    """The first test that asks for it may wait until the kernels are compiled."""
    if "NUMBA_DISABLE_JIT" not in os.environ:
        for group in ("conservative", "priority"):
            warmup(group=group)
