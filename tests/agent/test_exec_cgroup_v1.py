"""Groups of cgroup v1 by themselves: needs root and the v1 controllers of this host."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from craned.exec.cgroup import CgroupError, Usage
from craned.exec.cgroup_v1 import V1Backend, open_v1
from craned.exec.protocol import StepLimits

pytestmark = pytest.mark.root


@pytest.fixture
def backend() -> Iterator[V1Backend]:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes cgroups")
    try:
        made = open_v1("/sys/fs/cgroup", f"crane-test-{uuid.uuid4().hex[:12]}")
    except CgroupError as error:
        pytest.skip(f"no cgroup v1 here: {error}")
    yield made
    made.close()
    made.remove_base()
    assert made.leftovers() == []


@pytest.mark.parametrize("looked", [False, True], ids=["unopened", "opened"])
def test_a_group_that_somebody_else_removes_is_an_empty_one(backend, looked):
    """As when a job ends while its shims look at the groups of its steps."""
    group = backend.step("s1", "step_0", StepLimits(memory=64, pids=10), ())
    if looked:
        assert group.empty()
        assert group.usage().oom_kills == 0
    backend.remove("s1")
    assert group.empty()
    assert group.processes() == []
    group.kill()
    assert group.usage() == Usage(-1, -1, 0)
    group.close_files()
