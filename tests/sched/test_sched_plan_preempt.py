"""Preemption after a pass: victims are allowed and taken once, and every preemptor really starts."""

from __future__ import annotations

import os
import random
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.layouts import LAYOUTS
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_preempt import Preemptions, PreemptRules, plan_with_preemption
from sched_core.slots import Device, Health, SlotTable
from sched_core.tables import JobTable, Request, RunningTable, ShapeTable, Tables
from sched_core.terms import PreemptMode

EXAMPLES = 25 if "NUMBA_DISABLE_JIT" in os.environ else 100
SEEDS = st.integers(0, 2**32)
KINDS = st.sampled_from([PolicyKind.FIFO, PolicyKind.EASY])
NOW = 1000
CLASSES = 4


class Situation:
    """Nodes full of jobs on various terms, and records of which some may preempt."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.tables = Tables()
        self.terms: dict[int, tuple[int, int, int, PreemptMode]] = {}
        self.requests: dict[int, Request] = {}
        rows = rng.randint(2, 5)
        for i in range(rows):
            parts = rng.choice([("p",), ("p", "q")])
            gres = rng.choice([(), (("gpu", "a", 2),)])
            self.tables.nodes.set(
                f"n{i}", cpu=rng.choice([2000, 4000]), memory=90, gres=gres, partitions=parts
            )
        for job_id in range(rng.randint(1, 12)):
            self._run(rng, job_id, rng.sample(range(rows), rng.choice([1, 1, 1, 2])))
        for job_id in range(100, 100 + rng.randint(1, 6)):
            self._submit(rng, job_id)
        may = np.array([[rng.random() < 0.6 for _ in range(CLASSES)] for _ in range(CLASSES)])
        asking = [job for job in self.requests if rng.random() < 0.7]
        self.rules = PreemptRules(
            may.astype(np.int64),
            np.array(asking, np.int64),
            np.array([rng.randrange(CLASSES) for _ in asking], np.int64),
        )

    def _run(self, rng: random.Random, job_id: int, where: list[int]) -> None:
        t = self.tables
        cpu, memory = rng.choice([500, 1000, 2000]), rng.choice([0, 20])
        amounts = []
        for row in where:
            gpus = int(rng.random() < 0.4 and len(t.dims) > 2 and t.nodes.free[row, 2] > 0)
            amounts.append([cpu, memory, gpus, gpus][: len(t.dims)])
            if (t.nodes.free[row, : len(amounts[-1])] < amounts[-1]).any():
                return
        t.running.add(job_id, NOW + rng.choice([20, 40]), where, amounts)
        if rng.random() < 0.85:
            mode = rng.choice([*PreemptMode])
            term = (rng.randrange(CLASSES), rng.choice([0, 0, NOW, NOW + 1]), job_id, mode)
            self.terms[job_id] = term
            t.running.set_terms(
                job_id,
                tier=term[0],
                protected_until=term[1],
                since=NOW - rng.choice([1, 50]),
                weight=cpu,
                mode=mode,
                grace=job_id,
            )

    def _submit(self, rng: random.Random, job_id: int) -> None:
        gres = rng.choice([(), (), (("gpu", "", 1),), (("gpu", "a", 2),)])
        request = Request(
            partitions=rng.choice([("p",), ("q",), ("q", "p")]),
            cpu_per_task=rng.choice([500, 1000, 2000, 4000]),
            memory_per_node=rng.choice([0, 40]),
            gres_per_node=gres,
            ntasks=rng.choice([0, 0, 2, 3]),
            min_nodes=rng.choice([0, 0, 1, 2]),
        )
        self.requests[job_id] = request
        shape = self.tables.shapes.intern(request)
        self.tables.jobs.add(job_id, shape, duration=rng.choice([10, 50]), submit=job_id)

    def plan(self, kind: PolicyKind) -> tuple[Plan, Preemptions]:
        t = self.tables
        tables = (t.nodes, t.shapes, t.jobs, t.running)
        return plan_with_preemption(*tables, Policy(kind), NOW, self.rules)


def end_victims(tables: Tables, found: Preemptions, of: set[int]) -> None:
    """Some of the victims are gone, or suspended."""
    for victim, mode in zip(found.victim.tolist(), found.mode.tolist(), strict=True):
        if victim in of:
            nodes, amounts = tables.running.held(victim)
            kept = amounts.copy()
            kept[:, 0] = 0
            tables.running.remove(victim)
            if mode == PreemptMode.SUSPEND:
                tables.running.add(victim, NOW + 99, nodes, kept)


def starts_alone(tables: Tables, request: Request, where: list[int]) -> Plan:
    """A pass over one record that must have the nodes given (if any)."""
    nodes = deepcopy(tables.nodes)
    shapes = ShapeTable(nodes)
    jobs = JobTable(shapes)
    names = tuple(nodes.names.text(row) for row in where)
    wanted = replace(request, required=names)
    jobs.add(1, shapes.intern(wanted), duration=5, submit=0)
    return plan(nodes, shapes, jobs, RunningTable(nodes), Policy(PolicyKind.FIFO), NOW)


def take_starts(tables: Tables, made: Plan) -> None:
    for i in range(made.starts):
        rows = slice(int(made.start_ptr[i]), int(made.start_ptr[i + 1]))
        tables.running.add(10_000 + i, NOW + 50, made.node[rows], made.amount[rows])


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_every_preemptor_starts_once_the_victims_are_gone(seed: int, kind: PolicyKind) -> None:
    situation = Situation(seed)
    tables = Situation(seed).tables
    made, found = situation.plan(kind)
    take_starts(tables, made)
    end_victims(tables, found, set(found.victim.tolist()))
    assert (tables.nodes.free >= 0).all()
    for i, job_id in enumerate(found.job.tolist()):
        assert job_id not in made.start_job
        rows = slice(int(found.node_ptr[i]), int(found.node_ptr[i + 1]))
        request, where = situation.requests[job_id], found.node[rows].tolist()
        alone = starts_alone(tables, request, where)
        assert alone.starts == 1
        assert sorted(alone.node.tolist()) == sorted(where)
        assert found.tasks[rows].sum() == (request.ntasks or len(where))
        tables.running.add(20_000 + i, NOW + 50, where, found.amount[rows])
        assert (tables.nodes.free >= 0).all()


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_victims_are_allowed_exempt_times_hold_and_nobody_dies_twice(
    seed: int, kind: PolicyKind
) -> None:
    situation = Situation(seed)
    t, rules = situation.tables, situation.rules
    before = Situation(seed).tables
    made, found = situation.plan(kind)
    assert t.equals(before)
    assert (t.nodes.free == before.nodes.free).all()
    ordinary = plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind), NOW)
    for name in Plan.__dataclass_fields__:
        if name != "examined":
            assert np.array_equal(getattr(made, name), getattr(ordinary, name)), name
    assert len(set(found.victim.tolist())) == len(found.victim)
    assert len(set(found.job.tolist())) == len(found.job)
    classes = dict(zip(rules.job.tolist(), rules.job_class.tolist(), strict=True))
    places = [made.job.tolist().index(job) for job in found.job.tolist()]
    assert places == sorted(places)
    for i, job_id in enumerate(found.job.tolist()):
        own = slice(int(found.victim_ptr[i]), int(found.victim_ptr[i + 1]))
        for victim, mode, grace in zip(
            found.victim[own].tolist(), found.mode[own].tolist(), found.grace[own].tolist(),
            strict=True,
        ):  # fmt: skip
            tier, until, wanted, how = situation.terms[victim]
            assert rules.may[classes[job_id], tier]
            assert until <= NOW
            assert mode == how
            assert grace == (0 if how == PreemptMode.SUSPEND else wanted)
            assert found.start[i] >= NOW + grace
        ahead = [h for h, head in enumerate(made.head_job.tolist()) if head < job_id]
        promised = {
            int(node)
            for h in ahead
            if made.head_job[h] not in found.job
            for node in made.head_node[int(made.head_ptr[h]) : int(made.head_ptr[h + 1])]
        }
        rows = found.node[int(found.node_ptr[i]) : int(found.node_ptr[i + 1])].tolist()
        assert not promised & set(rows)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_no_victim_is_in_vain(seed: int) -> None:
    situation = Situation(seed)
    made, found = situation.plan(PolicyKind.FIFO)
    first = set(found.victim[: int(found.victim_ptr[1])].tolist()) if len(found.job) else set()
    for spared in first:
        tables = Situation(seed).tables
        take_starts(tables, made)
        end_victims(tables, found, first - {spared})
        assert starts_alone(tables, situation.requests[int(found.job[0])], []).starts == 0


def full_node(layout: str = "") -> tuple[Tables, SlotTable]:
    """One node of four devices, all CPUs and devices held by job 1 of class 0."""
    t = Tables()
    slots = SlotTable(t.nodes)
    t.nodes.set("n", cpu=4000, memory=0, gres=(("npu", "", 4),), partitions=("p",))
    board = LAYOUTS[layout]() if layout else None
    slots.set("n", [Device("npu", layout=board, place=i) for i in range(4)])
    t.running.add(1, NOW + 100, [0], [[4000, 0, 4]])
    slots.add(1, np.zeros(4, np.int64), np.arange(4), np.full(4, 1000))
    t.running.set_terms(1, tier=0, grace=30)
    return t, slots


def ask(t: Tables, jobs: list[int], **more: object) -> Preemptions:
    rules = PreemptRules(
        PreemptRules.tiers(2), np.array(jobs, np.int64), np.ones(len(jobs), np.int64)
    )
    tables = (t.nodes, t.shapes, t.jobs, t.running)
    return plan_with_preemption(*tables, Policy(), NOW, rules, **more)[1]


def cpus(count: int, **more: object) -> Request:
    return Request(partitions=("p",), cpu_per_task=1000 * count, **more)  # type: ignore[arg-type]


def test_what_a_victim_leaves_over_serves_the_next() -> None:
    t, _ = full_node()
    for job_id, count in ((10, 3), (11, 1), (12, 1)):
        t.jobs.add(job_id, t.shapes.intern(cpus(count)), duration=5, submit=job_id)
    found = ask(t, [10, 11, 12])
    assert found.job.tolist() == [10, 11]
    assert found.victim_ptr.tolist() == [0, 1, 1]
    assert found.start.tolist() == [NOW + 30, NOW + 30]
    assert (found.victim.tolist(), found.grace.tolist()) == ([1], [30])


def test_a_limit_keeps_a_preemptor_back() -> None:
    t, _ = full_node()
    limit = t.limits.set("u", jobs=1)
    for job_id in (10, 11):
        t.jobs.add(job_id, t.shapes.intern(cpus(1)), duration=5, submit=job_id, limit=limit)
    assert ask(t, [10, 11]).job.tolist() == [10]


@pytest.mark.parametrize(("layout", "expected"), [("", [10]), ("ascend-910-8", [])])
def test_devices_with_rules_are_not_preempted_for(layout: str, expected: list[int]) -> None:
    t, slots = full_node(layout)
    request = cpus(1, gres_per_node=(("npu", "", 2),))
    t.jobs.add(10, t.shapes.intern(request), duration=5, submit=1)
    assert ask(t, [10], slots=slots).job.tolist() == expected


def test_who_holds_a_sick_device_is_no_victim() -> None:
    t, slots = full_node()
    request = cpus(1, gres_per_node=(("npu", "", 4),))
    t.jobs.add(10, t.shapes.intern(request), duration=5, submit=1)
    assert ask(t, [10], slots=slots).victim.tolist() == [1]
    slots.set_health("n", 2, Health.DEGRADED)
    assert ask(t, [10], slots=slots).victim.tolist() == []
