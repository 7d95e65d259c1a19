"""What is offered to start a job sooner does so: applied, the job starts when it was told."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.remedy import Remedy, RemedyKind, remedies
from sched_core.tables import Request, Tables

NOW = 6_000
EASY = Policy(PolicyKind.EASY)


def situation(seed: int) -> Tables:
    """Up to four nodes in two partitions, some jobs that run, some that wait."""
    rng, tables = random.Random(seed), Tables()
    for i in range(rng.randint(1, 4)):
        parts = rng.choice((("a",), ("a", "b"), ("b",)))
        tables.nodes.set(f"n{i}", cpu=4_000, memory=0, partitions=parts)
    for job_id in range(rng.randint(1, 6)):
        node, cpu = rng.randrange(tables.nodes.rows), rng.choice((1_000, 2_000, 4_000))
        if tables.nodes.free[node, 0] >= cpu:
            tables.running.add(job_id, NOW + 60 * rng.randint(1, 90), [node], [[cpu, 0]])
    for job_id in range(100, 100 + rng.randint(1, 7)):
        request = Request(
            partitions=(rng.choice("ab"),),
            cpu_per_node=rng.choice((1_000, 2_000, 4_000)),
            min_nodes=rng.choice((1, 1, 2, 3)),
        )
        shape = tables.shapes.intern(request)
        tables.jobs.add(job_id, shape, duration=60 * rng.randint(1, 120), submit=job_id)
    return tables


def planned(tables: Tables, now: int) -> Plan:
    return plan(tables.nodes, tables.shapes, tables.jobs, tables.running, EASY, now)


def apply(tables: Tables, job_id: int, remedy: Remedy) -> None:
    request = tables.shapes.request(int(tables.jobs.shape[tables.jobs.row(job_id)]))
    if remedy.kind is RemedyKind.TIME_LIMIT:
        tables.jobs.update(job_id, duration=remedy.limit)
        return
    if remedy.kind is RemedyKind.NODES:
        request = replace(request, min_nodes=remedy.nodes)
    else:
        request = replace(request, partitions=(*request.partitions, remedy.partition))
    tables.jobs.set_shape(job_id, tables.shapes.intern(request))


def start_of(tables: Tables, job_id: int) -> int:
    """Let everything run to its limit until the job starts."""
    now = NOW
    for _ in range(200):
        made = planned(tables, now)
        for k, started in enumerate(made.start_job.tolist()):
            rows = slice(int(made.start_ptr[k]), int(made.start_ptr[k + 1]))
            end = now + int(tables.jobs.duration[tables.jobs.row(started)])
            tables.jobs.remove(started)
            tables.running.add(started, end, made.node[rows], made.amount[rows])
            if started == job_id:
                return now
        live = tables.running.releases()
        assert len(live), "nothing runs, and the job does not start"
        now = int(tables.running.end[live[0]])
        ended = {i for i in range(200) if i in tables.running}
        for i in ended:
            if tables.running.content()[i][0][1] <= now:
                tables.running.remove(i)
    raise AssertionError("the job never starts")


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_a_remedy_applied_starts_the_job_when_it_says(seed: int) -> None:
    tables = situation(seed)
    waiting = planned(tables, NOW).job.tolist()
    for job_id in waiting:
        for remedy in remedies(tables, EASY, NOW, job_id, ("a", "b")):
            changed = situation(seed)
            apply(changed, job_id, remedy)
            start = start_of(changed, job_id)
            assert start == NOW if remedy.start == NOW else start <= remedy.start, remedy
    assert tables.equals(situation(seed)), "asking changes nothing"


def one_node() -> Tables:
    """A node with half of it taken for an hour, and a job for all of it ahead of another."""
    tables = Tables()
    tables.nodes.set("n0", cpu=4_000, memory=0, partitions=("a",))
    tables.nodes.set("n1", cpu=4_000, memory=0, partitions=("b",))
    tables.running.add(1, NOW + 3_600, [0], [[2_000, 0]])
    tables.running.add(2, NOW + 9_000, [1], [[4_000, 0]])
    whole = tables.shapes.intern(Request(partitions=("a",), cpu_per_node=4_000))
    half = tables.shapes.intern(Request(partitions=("a",), cpu_per_node=2_000))
    tables.jobs.add(10, whole, duration=600, submit=0)
    tables.jobs.add(11, half, duration=7_200, submit=1)
    return tables


def test_the_longest_limit_that_fits_before_the_head_is_offered():
    tables = one_node()
    assert remedies(tables, EASY, NOW, 11) == (
        Remedy(RemedyKind.TIME_LIMIT, limit=3_600, start=NOW),
    )


def test_a_partition_that_is_free_is_offered_and_one_that_is_full_is_not():
    tables = one_node()
    tables.nodes.set("n2", cpu=4_000, memory=0, partitions=("c",))
    (offered,) = (r for r in remedies(tables, EASY, NOW, 10, ("a", "b", "c")))
    assert offered == Remedy(RemedyKind.PARTITION, partition="c", start=NOW)


def test_fewer_nodes_are_offered():
    tables = Tables()
    for i in range(4):
        tables.nodes.set(f"n{i}", cpu=1_000, memory=0, partitions=("a",))
    tables.running.add(1, NOW + 600, [0], [[1_000, 0]])
    wide = Request(partitions=("a",), cpu_per_node=1_000, min_nodes=4)
    tables.jobs.add(10, tables.shapes.intern(wide), duration=600, submit=0)
    assert remedies(tables, EASY, NOW, 10) == (Remedy(RemedyKind.NODES, nodes=3, start=NOW),)


def test_a_job_that_starts_needs_nothing_and_an_unknown_one_is_refused():
    tables = one_node()
    tables.running.remove(1)
    assert remedies(tables, EASY, NOW, 10, ("a", "b")) == ()
    with pytest.raises(KeyError):
        remedies(tables, EASY, NOW, 99)
