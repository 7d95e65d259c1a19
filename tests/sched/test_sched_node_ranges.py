"""Node ranges (`-N 2-4`), and CPUs that nobody shares (oversubscribe off), under every policy."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.tables import Request, Tables

KINDS = [PolicyKind.FIFO, PolicyKind.EASY, PolicyKind.CONSERVATIVE, PolicyKind.CONSERVATIVE_REPLAN]
NOW = 100


def cluster(nodes: int, cpus: int = 2) -> Tables:
    tables = Tables()
    for i in range(nodes):
        tables.nodes.set(f"n{i}", cpu=1000 * cpus, memory=64, partitions=("p",))
    return tables


def submit(tables: Tables, job_id: int, request: Request, duration: int = 10) -> None:
    shape = tables.shapes.intern(request)
    tables.jobs.add(job_id, shape, duration=duration, submit=job_id)


def run(tables: Tables, kind: PolicyKind) -> Plan:
    t = tables
    return plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind), NOW)


def sizes(ptr: list[int]) -> list[int]:
    return [end - first for first, end in pairwise(ptr)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("free", "expected"), [(5, [4]), (4, [4]), (3, [3]), (2, [2]), (1, [])])
def test_a_range_gets_as_many_nodes_as_can_be_had(
    kind: PolicyKind, free: int, expected: list[int]
) -> None:
    tables = cluster(5)
    for node in range(5 - free):
        tables.running.add(50 + node, 110 + node, [node], [[2000, 0]])
    submit(tables, 0, Request(("p",), cpu_per_task=2000, min_nodes=2, max_nodes=4))
    made = run(tables, kind)
    assert sizes(made.start_ptr.tolist()) == expected
    if not expected:  # it waits for the fewest
        assert made.planned.tolist() == [110]
        assert sizes(made.head_ptr.tolist()) == [0 if kind == PolicyKind.FIFO else 2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_range_of_packed_tasks_takes_the_fewest_nodes_that_hold_them(kind: PolicyKind) -> None:
    tables = cluster(5)
    low = Request(("p",), cpu_per_task=1000, ntasks=5, min_nodes=2, max_nodes=4)
    submit(tables, 0, low)
    made = run(tables, kind)
    assert made.tasks.tolist() == [2, 2, 1]
    tables = cluster(5)
    submit(tables, 0, Request(("p",), cpu_per_task=1000, ntasks=9, min_nodes=2, max_nodes=4))
    assert run(tables, kind).starts == 0


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=60)
def test_starts_keep_their_range_and_share_no_cpu(seed: int, kind: PolicyKind) -> None:
    """Every allocation has its CPUs for itself: together never more than the node has."""
    rng = random.Random(seed)
    tables = cluster(rng.randint(2, 6), cpus=3)
    ranges = {}
    for job_id in range(10):
        low = rng.randint(1, 3)
        high = low + rng.randint(0, 2)
        ranges[job_id] = (low, high)
        cpu = rng.choice([500, 1000, 1500, 3000])
        submit(tables, job_id, Request(("p",), cpu_per_task=cpu, min_nodes=low, max_nodes=high))
    made = run(tables, kind)
    for job_id, size in zip(made.start_job.tolist(), sizes(made.start_ptr.tolist()), strict=True):
        assert ranges[job_id][0] <= size <= ranges[job_id][1]
    used = [0] * tables.nodes.rows
    for node, amount in zip(made.node.tolist(), made.amount.tolist(), strict=True):
        used[node] += amount[0]
    assert max(used, default=0) <= 3000
