"""Suspended jobs: they hold memory, devices and licences, but no CPUs, and go on when these are free."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.codes import VerdictCode
from sched_core.plan import Policy, PolicyKind, plan
from sched_core.tables import Request, Tables

NOW = 100


def cluster(nodes: int = 1) -> Tables:
    tables = Tables()
    for i in range(nodes):
        gres = (("gpu", "a", 1), ("gpu", "", 1))
        tables.nodes.set(f"n{i}", cpu=4000, memory=100, gres=gres, partitions=("p",))
    return tables


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_others_get_the_cpus_and_wait_for_the_memory(kind: PolicyKind) -> None:
    tables = cluster()
    tables.running.add(1, NOW + 30, [0], [[4000, 60]])
    tables.running.suspend(1)
    light = Request(("p",), cpu_per_node=4000, memory_per_node=40)
    heavy = Request(("p",), cpu_per_node=4000, memory_per_node=41)
    tables.jobs.add(2, tables.shapes.intern(heavy), duration=10, submit=2)
    t = tables
    made = plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind), NOW)
    assert made.code.tolist() == [VerdictCode.RESOURCES]
    assert made.planned.tolist() == [NOW + 30]
    tables.jobs.remove(2)
    tables.jobs.add(3, tables.shapes.intern(light), duration=10, submit=3)
    made = plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind), NOW)
    assert made.start_job.tolist() == [3]


def test_it_goes_on_only_where_all_it_gave_back_is_free() -> None:
    tables = cluster(2)
    running = tables.running
    running.add(1, NOW + 30, [0, 1], [[3000, 60], [2000, 60]])
    running.suspend(1, end=NOW + 99)
    assert running.is_suspended(1)
    assert running.end[:2].tolist() == [NOW + 99] * 2
    running.add(2, NOW + 10, [1], [[3000, 0]])
    before = tables.nodes.free.copy()
    assert running.resume(1, NOW + 50) == [1]
    assert (tables.nodes.free == before).all()
    running.remove(2)
    assert running.resume(1, NOW + 50) == []
    assert not running.is_suspended(1)
    assert tables.nodes.free[:2, :2].tolist() == [[1000, 40], [2000, 40]]
    assert running.end[:2].tolist() == [NOW + 50] * 2


def test_devices_are_kept_unless_they_can_be_let_go_of() -> None:
    tables = cluster()
    running, dims = tables.running, tables.dims
    total, typed = dims.find_gres("gpu", "a")
    taken = [1000, 0, 0, 0]
    taken[total] = 1  # the device without a type
    running.add(1, NOW, [0], [taken])
    running.suspend(1)
    assert tables.nodes.free[0, total] == 1
    assert running.resume(1, NOW) == []
    running.suspend(1, keep_gres=False)
    assert tables.nodes.free[0, total] == 2
    running.add(2, NOW, [0], [taken])
    assert tables.nodes.free[0, typed] == tables.nodes.free[0, total] == 1
    assert running.resume(1, NOW) == [0]  # the one that is left has a type
    running.remove(2)
    assert running.resume(1, NOW) == []


def test_two_tables_agree_only_if_the_same_jobs_are_suspended() -> None:
    one, other = cluster(), cluster()
    for tables in (one, other):
        tables.running.add(1, NOW, [0], [[1000, 5]])
    one.running.suspend(1)
    assert not one.equals(other)
    other.running.suspend(1)
    assert one.equals(other)
    one.running.remove(1)
    assert one.equals(cluster())


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_free_amounts_are_what_nobody_holds_after_any_history(seed: int) -> None:
    rng = random.Random(seed)
    tables = cluster(3)
    running, free = tables.running, tables.nodes.free
    held: dict[int, dict[int, list[int]]] = {}
    idle: set[int] = set()
    for job in range(30):
        some = rng.sample(range(3), rng.randint(1, 2))
        wanted = [rng.choice([500, 1000]), rng.randint(0, 20), 0, 0]
        if all(free[node, r] >= wanted[r] for node in some for r in range(4)):
            running.add(job, NOW, some, [wanted] * len(some))
            held[job] = dict.fromkeys(some, wanted)
        for other in list(held):
            chance = rng.random()
            if chance < 0.1:
                running.remove(other)
                idle.discard(other)
                del held[other]
            elif chance < 0.3 and other not in idle:
                running.suspend(other)
                idle.add(other)
            elif chance < 0.5 and other in idle:
                possible = all(free[node, 0] >= want[0] for node, want in held[other].items())
                assert (running.resume(other, NOW) == []) == possible
                idle -= {other} if possible else set()
        expected = tables.nodes.capacity[:3].copy()
        for other, nodes in held.items():
            for node, (cpu, memory, *_) in nodes.items():
                expected[node, :2] -= np.array([0 if other in idle else cpu, memory])
        assert (free[:3] == expected).all()
        assert (free >= 0).all()
