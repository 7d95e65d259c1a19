"""Alternatives that hold for a gang as a whole: `[rack1|rack2]`, under every policy."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.codes import MoveCause
from sched_core.feasible import feasible
from sched_core.memory import Memory
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.tables import Request, Tables

RACKS = (("r1",), ("r2",), ("r3", "ib"))
KINDS = [PolicyKind.FIFO, PolicyKind.EASY, PolicyKind.CONSERVATIVE]


def racks(*features: tuple[str, ...], cpu: int = 2000) -> Tables:
    """Nodes n0, n1, ... with these features, all in partition p."""
    tables = Tables()
    for i, names in enumerate(features):
        tables.nodes.set(f"n{i}", cpu=cpu, memory=100, partitions=("p",), features=names)
    return tables


def submit(tables: Tables, job_id: int, request: Request, duration: int = 10) -> None:
    shape = tables.shapes.intern(request)
    tables.jobs.add(job_id, shape, duration=duration, submit=job_id)


def run(tables: Tables, kind: PolicyKind, memory: Memory | None = None) -> Plan:
    t = tables
    return plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind), 100, memory=memory)


def gangs(tables: Tables, made: Plan) -> list[list[str]]:
    """Node names of every start and, after them, of every promise."""
    names = tables.nodes.names
    starts = [made.node[a:b] for a, b in zip(made.start_ptr, made.start_ptr[1:], strict=False)]
    heads = [made.head_node[a:b] for a, b in zip(made.head_ptr, made.head_ptr[1:], strict=False)]
    return [[names.text(int(n)) for n in gang] for gang in (*starts, *heads)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_gang_takes_the_first_alternative_that_holds_it(kind: PolicyKind) -> None:
    tables = racks(("r1",), ("r2",), ("r1",), ("r2",), ("r2",))
    pair = Request(("p",), cpu_per_task=2000, min_nodes=2, alternatives=(("r1",), ("r2",)))
    for job_id in range(3):
        submit(tables, job_id, pair)
    made = run(tables, kind)
    assert gangs(tables, made)[:2] == [["n0", "n2"], ["n1", "n3"]]
    assert made.start_partition.tolist() == [0, 0]
    assert made.head_partition.tolist() == [0]
    assert made.planned.tolist() == [100, 100, 110]
    assert made.matching.tolist() == [5, 5, 5]


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=60)
def test_all_nodes_of_a_gang_have_the_same_alternative(seed: int, kind: PolicyKind) -> None:
    rng = random.Random(seed)
    tables = racks(*(tuple(rng.sample(["r1", "r2", "r3", "ib"], 2)) for _ in range(9)))
    features = {name: tables.nodes.content()[name] for name in (f"n{i}" for i in range(9))}
    requests = {}
    for job_id in range(8):
        some = tuple(rng.sample(RACKS, rng.randint(1, 3)))
        low = rng.randint(1, 3)
        packed = rng.choice([0, 3])
        requests[job_id] = Request(
            ("p",), cpu_per_task=1000, min_nodes=low, ntasks=packed, alternatives=some
        )
        submit(tables, job_id, requests[job_id], rng.choice([5, 10, 20]))
    made = run(tables, kind)
    for job_id, gang in zip(
        [*made.start_job.tolist(), *made.head_job.tolist()], gangs(tables, made), strict=True
    ):
        assert any(
            all(set(names) <= set(features[node][3]) for node in gang)  # type: ignore[index]
            for names in requests[job_id].alternatives
        )


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_with_the_whole_partition_as_the_only_alternative_nothing_changes(seed: int) -> None:
    """What holds of every node adds places, and no plan another."""
    rng = random.Random(seed)
    made = []
    wanted = [(rng.randint(1, 3), rng.choice([0, 4]), rng.choice([5, 10, 20])) for _ in range(9)]
    for alternatives in ((), (("r1",),), (("r1",), ("r1", "ib"))):
        tables = racks(*[("r1", "ib")] * 5)
        for job_id, (low, packed, duration) in enumerate(wanted):
            request = Request(
                ("p",), cpu_per_task=1000, min_nodes=low, ntasks=packed, alternatives=alternatives
            )
            submit(tables, job_id, request, duration)
        kinds = [run(tables, kind) for kind in KINDS]
        made.append([(gangs(tables, p), p.planned.tolist(), p.code.tolist()) for p in kinds])
    assert made[0] == made[1] == made[2]


def test_numbers_of_alternatives_are_used_again_and_a_memory_notices() -> None:
    tables = racks(("r1",), ("r2",))
    memory = Memory()
    for job_id, rack in enumerate(("r1", "r2", "r1", "ghost")):
        submit(tables, job_id, Request(("p",), cpu_per_task=1000, alternatives=((rack,),)))
        made = run(tables, PolicyKind.EASY, memory)
        expected = {"r1": [["n0"]], "r2": [["n1"]], "ghost": []}[rack]
        assert gangs(tables, made) == expected
        tables.jobs.remove(job_id)
    assert len(tables.shapes.alternatives) == 2


def test_a_promise_is_broken_when_its_nodes_no_longer_share_an_alternative() -> None:
    tables = racks(("r1",), ("r1",), ("r2",))
    tables.running.add(50, 110, [0, 1], [[2000, 0], [2000, 0]])
    pair = Request(("p",), cpu_per_task=2000, min_nodes=2, alternatives=(("r1",), ("r2",)))
    submit(tables, 0, pair)
    first = run(tables, PolicyKind.CONSERVATIVE)
    assert first.planned.tolist() == [110]
    t, policy = tables, Policy(PolicyKind.CONSERVATIVE)
    for features, gang, cause in (
        (("r1", "r2"), ["n0", "n1"], MoveCause.KEPT),
        (("r2",), ["n1", "n2"], MoveCause.NODE),
    ):
        t.nodes.set("n1", cpu=2000, memory=100, partitions=("p",), features=features)
        promises = Promises.of(first)
        made = plan(t.nodes, t.shapes, t.jobs, t.running, policy, 101, promises=promises)
        assert made.planned.tolist() == [110]
        assert gangs(tables, made) == [gang]
        assert made.moved_cause.tolist() == [cause]


def test_feasible_asks_for_one_alternative_with_nodes_enough() -> None:
    tables = racks(("r1",), ("r1",), ("r2",))
    some = {"cpu_per_task": 1000, "alternatives": (("r1",), ("r2",))}
    assert feasible(tables.nodes, Request(("p",), min_nodes=2, **some))[0] == 2  # type: ignore[arg-type]
    assert feasible(tables.nodes, Request(("p",), min_nodes=3, **some))[0] == 0  # type: ignore[arg-type]
