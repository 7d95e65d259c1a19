"""The benchmarks' states, the way into the tables and out of a plan, and the checker of plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.soundness import violations
from bench.workload import Arrays, Size, load, make, plan_arrays, read
from sched_core.codes import VerdictCode
from sched_core.plan import Policy, plan

IDLE, FULL = Size(40, 0, 600, 30, 1), Size(40, 5, 200, 40, 16)


def planned(state: Arrays) -> Arrays:
    tables, now = load(state), int(state["now_s"])
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    return plan_arrays(plan(*parts, Policy(), now), now)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("size", [IDLE, FULL], ids=["idle", "full"])
def test_a_plan_for_a_generated_state_is_sound_and_says_why_of_every_job(
    size: Size, seed: int
) -> None:
    state = make(size, seed)
    out = planned(state)
    assert violations(state, out) == []
    started = out["verdict_code"] == VerdictCode.STARTED
    rows = np.diff(out["plan_indptr"])
    assert (rows[started] > 0).all()
    assert started.any() == (size is IDLE)
    waits = out["verdict_code"] == VerdictCode.NEVER
    assert (out["verdict_matching"][waits] < state["job_nodes"][waits]).all()
    first = [np.flatnonzero(state["job_partition"] == part)[:1] for part in range(10)]
    assert (out["verdict_ahead"][np.concatenate(first)] == 0).all()


def test_equal_seeds_make_equal_states_and_an_archive_keeps_them(tmp_path: Path) -> None:
    state = make(FULL, 7)
    path = tmp_path / "state.npz"
    np.savez(path, **state)
    again = read(path)
    assert again.keys() == state.keys()
    assert all((again[name] == make(FULL, 7)[name]).all() for name in state)
    np.savez(path, job_nodes=state["job_nodes"])
    with pytest.raises(ValueError, match="lacks job_assoc"):
        read(path)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("plan_start_s", -5, "past"),
        ("node_cpu_milli", -63_000, "cpu_milli of a node"),
        ("node_mem_mib", -250_000, "mem_mib of a node"),
        ("job_nodes", 1, "wrong number"),
        ("node_partitions", 0, "outside the partition"),
        ("node_features", 0, "lacks a feature"),
        ("node_gpu_type", 1, "another type"),
        ("assoc_cpu_limit_milli", 0, "over its CPU limit"),
    ],
)
def test_the_checker_finds_what_is_wrong(column: str, change: int, message: str) -> None:
    state = make(IDLE, 3)
    out = planned(state)
    where = out if column in out else state
    if column in {"node_partitions", "node_features", "assoc_cpu_limit_milli"}:
        where[column] = np.full_like(where[column], change)
    else:
        where[column] = where[column] + change
    assert any(message in text for text in violations(state, out))


def test_a_node_twice_in_a_job_is_found() -> None:
    state = make(IDLE, 3)
    out = planned(state)
    wide = int(np.flatnonzero(np.diff(out["plan_indptr"]))[0])
    state["job_nodes"][wide] = 2
    at = out["plan_indptr"][wide]
    out["plan_node"] = np.insert(out["plan_node"], at, out["plan_node"][at])
    out["plan_indptr"][wide + 1 :] += 1
    assert "a node is twice in one job" in violations(state, out)
