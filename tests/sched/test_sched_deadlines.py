"""Deadlines and least time limits: what starts, for how long, and what is not promised."""

from __future__ import annotations

from typing import Any

import pytest

from sched_core.codes import VerdictCode
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.tables import Request, Tables

NOW = 100
BACKFILLING = [PolicyKind.EASY, PolicyKind.CONSERVATIVE, PolicyKind.CONSERVATIVE_REPLAN]


def cluster(nodes: int = 2) -> Tables:
    tables = Tables()
    for i in range(nodes):
        tables.nodes.set(f"n{i}", cpu=4000, memory=100, partitions=("p",))
    return tables


def submit(tables: Tables, job_id: int, duration: int, nodes: int = 1, **terms: Any) -> None:
    licences = terms.pop("licences", ())
    request = Request(("p",), cpu_per_node=4000, min_nodes=nodes, licences=licences)
    shape = tables.shapes.intern(request)
    tables.jobs.add(job_id, shape, duration=duration, submit=job_id, **terms)


def make(tables: Tables, kind: PolicyKind, promises: Promises | None = None, **rest: Any) -> Plan:
    t = tables
    policy = Policy(kind, **rest)
    return plan(t.nodes, t.shapes, t.jobs, t.running, policy, NOW, promises=promises)


def starts(made: Plan) -> dict[int, int]:
    return dict(zip(made.start_job.tolist(), made.start_limit.tolist(), strict=True))


def codes(made: Plan) -> dict[int, VerdictCode]:
    return {job: VerdictCode(c) for job, c in zip(made.job.tolist(), made.code, strict=True)}


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_who_cannot_end_by_its_deadline_any_more_is_never_started(kind: PolicyKind) -> None:
    tables = cluster()
    submit(tables, 1, 50, deadline=NOW + 49)
    submit(tables, 2, 50, deadline=NOW + 49, time_min=50)
    submit(tables, 3, 50, deadline=NOW + 50)
    submit(tables, 4, 50, deadline=NOW + 40, time_min=30)
    submit(tables, 5, 50, deadline=NOW + 55, begin=NOW + 10)
    submit(tables, 6, 50, deadline=NOW + 60, begin=NOW + 10)
    made = make(tables, kind)
    assert starts(made) == {3: 50, 4: 40}
    late = VerdictCode.DEADLINE
    begin = VerdictCode.BEGIN_TIME
    ok = VerdictCode.STARTED
    assert codes(made) == {1: late, 2: late, 3: ok, 4: ok, 5: late, 6: begin}


@pytest.mark.parametrize("kind", BACKFILLING)
@pytest.mark.parametrize("least", [1, 29, 30, 31])
def test_time_min_fills_the_hole_before_a_promise(kind: PolicyKind, least: int) -> None:
    tables = cluster()
    tables.running.add(1, NOW + 30, [0], [[4000]])
    submit(tables, 2, 20, nodes=2)
    submit(tables, 3, 50, time_min=least)
    submit(tables, 4, 50)
    made = make(tables, kind)
    assert starts(made) == ({3: 30} if least <= 30 else {})
    assert codes(made)[4] == VerdictCode.PRIORITY


@pytest.mark.parametrize("kind", BACKFILLING)
def test_time_min_heeds_promised_licences(kind: PolicyKind) -> None:
    tables = cluster(3)
    tables.licences.set("matlab", 2)
    tables.running.add(1, NOW + 30, [0], [[4000]], (("matlab", 1),))
    submit(tables, 2, 20, licences=(("matlab", 2),))
    submit(tables, 3, 50, time_min=10, licences=(("matlab", 1),))
    assert starts(make(tables, kind)) == {3: 30}


def test_time_min_is_heeded_beyond_the_depth_too() -> None:
    tables = cluster()
    tables.running.add(1, NOW + 30, [0], [[4000]])
    submit(tables, 2, 20, nodes=2)
    submit(tables, 3, 50, time_min=10)
    assert starts(make(tables, PolicyKind.CONSERVATIVE, depth=1)) == {3: 30}


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_no_promise_is_made_by_which_a_deadline_would_be_missed(kind: PolicyKind) -> None:
    tables = cluster(1)
    tables.running.add(1, NOW + 30, [0], [[4000]])
    submit(tables, 2, 20, deadline=NOW + 49)
    submit(tables, 3, 20, deadline=NOW + 50)
    submit(tables, 4, 20)
    made = make(tables, kind)
    heads = dict(zip(made.head_job.tolist(), made.head_start.tolist(), strict=True))
    assert heads.get(2) is None
    assert heads[3] == NOW + 30
    assert codes(made)[2] != VerdictCode.DEADLINE


def test_a_promise_that_a_new_deadline_forbids_is_dropped() -> None:
    tables = cluster(1)
    tables.running.add(1, NOW + 30, [0], [[4000]])
    submit(tables, 2, 20)
    first = make(tables, PolicyKind.CONSERVATIVE)
    assert first.head_start.tolist() == [NOW + 30]
    tables.jobs.update(2, deadline=NOW + 40)
    made = make(tables, PolicyKind.CONSERVATIVE, Promises.of(first))
    assert made.head_job.tolist() == []
    assert made.moved.tolist() == [-1]


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_a_least_limit_above_the_limit_itself_says_nothing(kind: PolicyKind) -> None:
    tables = cluster(1)
    submit(tables, 1, 50, time_min=70, deadline=NOW + 60)
    assert starts(make(tables, kind)) == {1: 50}
    tables.jobs.update(1, duration=90)
    assert codes(make(tables, kind)) == {1: VerdictCode.DEADLINE}


def test_a_record_with_either_is_not_plain_and_equal_content_says_so() -> None:
    one, other = cluster(), cluster()
    submit(one, 1, 50)
    submit(other, 1, 50, time_min=20)
    assert one.jobs.plain[0] == 1
    assert other.jobs.plain[0] == 0
    assert not one.equals(other)
    other.jobs.update(1, time_min=0)
    assert one.equals(other)
    other.jobs.update(1, deadline=500)
    assert not one.equals(other)


def test_what_others_of_its_shape_failed_for_does_not_keep_a_shorter_one_back() -> None:
    tables = cluster()
    tables.running.add(1, NOW + 30, [0], [[4000]])
    submit(tables, 2, 20, nodes=2)
    submit(tables, 3, 50)
    submit(tables, 4, 50)
    submit(tables, 5, 50, time_min=31)
    submit(tables, 6, 50, time_min=30)
    assert starts(make(tables, PolicyKind.EASY)) == {6: 30}


def test_who_is_promised_nothing_for_its_deadline_leaves_its_partition_to_others() -> None:
    tables = cluster(1)
    tables.nodes.set("m0", cpu=4000, memory=100, partitions=("q",))
    tables.running.add(1, NOW + 30, [0], [[4000]])
    tables.running.add(2, NOW + 60, [1], [[4000]])
    for job, late in ((3, {}), (4, {"deadline": NOW + 70}), (5, {})):
        parts = ("p",) if job == 3 else ("p", "q")
        shape = tables.shapes.intern(Request(parts, cpu_per_node=4000))
        tables.jobs.add(job, shape, duration=20, submit=job, **late)
    made = make(tables, PolicyKind.EASY)
    assert made.head_job.tolist() == [3, 5]
    assert made.head_start.tolist() == [NOW + 30, NOW + 60]
