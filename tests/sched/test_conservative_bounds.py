"""Bounds of conservative passes, and promises that are kept, given up or broken, told why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sched_core import plan_conservative
from sched_core.codes import MoveCause, VerdictCode
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.tables import Request, Tables

POLICY = Policy(kind=PolicyKind.CONSERVATIVE)


def one_node(cpus: int) -> Request:
    return Request(partitions=("p",), cpu_per_node=cpus * 1000, min_nodes=1)


def full_cluster(nodes: int = 2) -> Tables:
    """Nodes of four CPUs, each held by a job until 100."""
    tables = Tables()
    for i in range(nodes):
        row = tables.nodes.set(f"n{i}", cpu=4000, memory=0, partitions=("p",))
        tables.running.add(i, 100, [row], [[4000, 0]])
    return tables


def add(tables: Tables, job_id: int, cpus: int, duration: int, priority: int = 0) -> None:
    shape = tables.shapes.intern(one_node(cpus))
    tables.jobs.add(job_id, shape, duration=duration, submit=job_id, priority=priority)


def run(tables: Tables, now: int, last: Plan | Promises | None = None, **bounds: int) -> Plan:
    policy = replace(POLICY, **bounds)
    promises = Promises.of(last) if isinstance(last, Plan) else last
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    return plan(*parts, policy, now, promises=promises)


def said(made: Plan, job_id: int) -> tuple[VerdictCode, int, int, MoveCause]:
    """Code, planned start, seconds it moved and why."""
    i = made.job.tolist().index(job_id)
    code, cause = VerdictCode(int(made.code[i])), MoveCause(int(made.moved_cause[i]))
    return code, int(made.planned[i]), int(made.moved[i]), cause


def test_without_time_left_promises_stay_and_the_rest_is_not_reached() -> None:
    tables = full_cluster()
    for job_id in (10, 11, 12):
        add(tables, job_id, 4, 50)
    first = run(tables, 0)
    assert first.head_start.tolist() == [100, 100, 150]
    add(tables, 13, 4, 50)
    second = run(tables, 10, first, visits=-1)
    assert second.head_job.tolist() == [10, 11, 12]
    assert second.head_start.tolist() == [100, 100, 150]
    assert said(second, 13)[:2] == (VerdictCode.NOT_REACHED, -1)
    for running in (0, 1):
        tables.running.remove(running)
    third = run(tables, 100, second, visits=-1)
    assert third.start_job.tolist() == [10, 11]  # what is due is looked at all the same
    assert said(third, 12)[:2] == (VerdictCode.NOT_REACHED, 150)


def test_a_record_ahead_by_priority_moves_only_what_is_in_its_way() -> None:
    tables = full_cluster()
    for job_id in (10, 11, 12):
        add(tables, job_id, 4, 50)
    first = run(tables, 0)
    add(tables, 20, 4, 50, priority=1)
    second = run(tables, 10, first)
    kept = MoveCause.KEPT
    assert said(second, 20) == (VerdictCode.RESOURCES, 100, 0, kept)
    assert said(second, 10) == (VerdictCode.PRIORITY, 150, 50, MoveCause.AHEAD)
    assert said(second, 11) == (VerdictCode.PRIORITY, 100, 0, kept)
    assert said(second, 12) == (VerdictCode.PRIORITY, 150, 0, kept)


def test_a_record_made_new_may_take_what_is_promised_behind_it() -> None:
    tables = full_cluster(1)
    add(tables, 10, 4, 50)
    add(tables, 11, 4, 50)
    first = run(tables, 0)
    tables.jobs.update(11, priority=1)
    assert said(run(tables, 10, first), 11)[1] == 150
    second = run(tables, 10, Promises.of(first).without(np.array([11])))
    assert said(second, 11)[1] == 100
    assert said(second, 10)[1:] == (150, 50, MoveCause.AHEAD)


def test_a_lost_node_and_a_late_job_are_told_as_causes() -> None:
    tables = full_cluster()
    add(tables, 10, 4, 50)
    add(tables, 11, 4, 50)
    first = run(tables, 0)
    tables.nodes.set_usable("n0", usable=False)
    second = run(tables, 10, first)
    causes = {job: said(second, job)[1:] for job in (10, 11)}
    assert sorted(causes.values()) == [(100, 0, MoveCause.KEPT), (150, 50, MoveCause.NODE)]
    tables.nodes.set_usable("n0", usable=True)
    late = run(tables, 105, second)
    assert {said(late, job)[3] for job in (10, 11)} == {MoveCause.RUNNING, MoveCause.KEPT}


def test_a_window_bounds_promises_and_a_resolution_rounds_them_up() -> None:
    tables = full_cluster(1)
    for job_id in (10, 11, 12):
        add(tables, job_id, 4, 50)
    made = run(tables, 0, window=160, resolution=30)
    assert made.head_start.tolist() == [120]
    made = run(tables, 0, window=180, resolution=30)
    assert made.head_start.tolist() == [120, 180]
    assert said(made, 12)[:2] == (VerdictCode.PRIORITY, -1)


@pytest.mark.parametrize("name", ["ENTRIES_MAX", "SEGMENTS_MAX"])
def test_small_pools_forget_or_stop_but_promise_nothing_wrong(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = full_cluster()
    for job_id in range(10, 40):
        add(tables, job_id, 1 + job_id % 4, 30 + job_id % 7)
    whole = run(tables, 0)
    monkeypatch.setattr(plan_conservative, name, 8)
    part = run(tables, 0)
    if name == "ENTRIES_MAX":
        assert part.head_start.tolist() == whole.head_start.tolist()
        assert part.head_node.tolist() == whole.head_node.tolist()
    else:
        count = len(part.head_job)
        assert 0 < count < len(whole.head_job)
        assert part.head_start.tolist() == whole.head_start.tolist()[:count]
        assert VerdictCode.NOT_REACHED in part.code.tolist()


def test_one_type_at_first_and_another_later_are_no_device_for_all_the_time() -> None:
    tables = Tables()
    both = (("gpu", "a", 1), ("gpu", "b", 1))
    row = tables.nodes.set("n0", cpu=4000, memory=0, gres=both, partitions=("p",))
    dims = tables.dims
    total, typed = dims.gres("gpu", "b")
    held = [0] * len(dims)
    held[0], held[total], held[typed] = 3000, 1, 1
    tables.running.add(0, 20, [row], [held])
    wants_a = Request(partitions=("p",), cpu_per_node=2000, gres_per_node=(("gpu", "a", 1),))
    wants_any = Request(partitions=("p",), cpu_per_node=1000, gres_per_node=(("gpu", "", 1),))
    tables.jobs.add(10, tables.shapes.intern(wants_a), duration=10, submit=0)
    tables.jobs.add(11, tables.shapes.intern(wants_any), duration=30, submit=1)
    made = run(tables, 0)
    assert made.head_job.tolist() == [10, 11]
    assert made.head_start.tolist() == [20, 20]
