"""Preemption: victims as exhaustive search finds them, none in vain, and the preemptor starts."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle, oracle_preempt
from sched_core.plan import Policy, PolicyKind, plan
from sched_core.preempt import Preemption, PreemptPolicy, plan_preemption
from sched_core.tables import Request, RunningTable, Tables
from sched_core.terms import LOST_MAX, PreemptMode

SEEDS = st.integers(0, 2**32)
NOW = 1000
TIER = 5


class Situation:
    """A few nodes full of jobs with various terms, told to the tables and to the oracle."""

    def __init__(self, seed: int, wide: float = 0.2, jobs: int = 8) -> None:
        rng = random.Random(seed)
        self.rng = rng
        self.tables = Tables()
        self.nodes: dict[str, oracle.Node] = {}
        self.jobs: dict[int, oracle_preempt.Running] = {}
        for i in range(rng.randint(1, 4)):
            self._add_node(f"n{i}")
        for job_id in range(rng.randint(1, jobs)):
            self._run(job_id, rng.random() < wide)

    def _add_node(self, name: str) -> None:
        rng = self.rng
        cpu, memory = rng.choice([2000, 4000]), rng.choice([60, 100])
        gres = rng.choice([(), (("gpu", "a", 2),), (("gpu", "a", 1), ("gpu", "b", 1))])
        parts = rng.choice([("p",), ("p",), ("q",), ("p", "q")])
        usable = rng.random() < 0.9
        row = self.tables.nodes.set(
            name, cpu=cpu, memory=memory, gres=gres, partitions=parts, usable=usable
        )
        amounts = oracle.vector(cpu, memory, gres)
        twin = oracle.Node(row, amounts, frozenset(parts), frozenset(), usable, 1, dict(amounts))
        self.nodes[name] = twin

    def _run(self, job_id: int, wide: bool) -> None:
        """Let a job hold a part of one node, or of two."""
        rng = self.rng
        names = rng.sample(list(self.nodes), min(2 if wide else 1, len(self.nodes)))
        held: list[tuple[str, dict[str, int]]] = []
        for name in names:
            free = self.nodes[name].free
            amounts = {"cpu": rng.choice([500, 1000, 2000]), "memory": rng.choice([0, 20, 40])}
            if rng.random() < 0.5 and "gres/gpu:a" in free:
                amounts |= {"gres/gpu": 1, "gres/gpu:a": 1}
            held.append((name, {k: min(v, free[k]) for k, v in amounts.items()}))
            if held[-1][1].get("gres/gpu") != held[-1][1].get("gres/gpu:a"):
                held[-1][1].update({"gres/gpu": 0, "gres/gpu:a": 0})
        if not any(amounts["cpu"] for _, amounts in held):
            return
        for name, amounts in held:
            for key, amount in amounts.items():
                self.nodes[name].free[key] -= amount
        where = [self.tables.nodes.names.find(name) for name, _ in held]
        self.tables.running.add(job_id, 5000, where, [self._vector(a) for _, a in held])
        self._give_terms(job_id, tuple((name, tuple(a.items())) for name, a in held))

    def _give_terms(
        self, job_id: int, held: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    ) -> None:
        rng = self.rng
        tier = rng.choice([-1, 0, 1, 1, 4, 5])
        until = rng.choice([0, 0, 0, NOW, NOW + 1])
        weight, since = rng.choice([0, 1000, 1500, 4000]), rng.choice([NOW - 10, NOW - 3, NOW])
        mode = rng.choice([PreemptMode.CANCEL, PreemptMode.REQUEUE, PreemptMode.SUSPEND])
        lost = -(-weight * (NOW - since) // 1000) if mode != PreemptMode.SUSPEND else 0
        if tier >= 0:
            self.tables.running.set_terms(
                job_id,
                tier=tier,
                protected_until=until,
                since=since,
                weight=weight,
                mode=mode,
                grace=job_id,
            )
        keeps = mode == PreemptMode.SUSPEND
        self.jobs[job_id] = oracle_preempt.Running(held, tier, until, lost, keeps)

    def _vector(self, amounts: dict[str, int]) -> list[int]:
        dims = self.tables.dims
        return [amounts.get(dims.name(r), 0) for r in range(len(dims))]

    def request(self, single: bool) -> Request:
        rng = self.rng
        names = list(self.nodes)
        gang = {} if single else {"min_nodes": rng.choice([1, 2, 3])}
        if rng.random() < 0.5:
            gang |= {"ntasks": rng.randint(1, 2 if single else 5)}
        if single:
            gang |= {"min_nodes": 1, "max_nodes": 1}
        return Request(
            partitions=rng.choice([("p",), ("q",), ("p", "q"), ("q", "p")]),
            cpu_per_task=rng.choice([500, 1000, 2000]),
            memory_per_node=rng.choice([0, 0, 50]),
            gres_per_node=rng.choice([(), (), (("gpu", "", 1),), (("gpu", "a", 2),)]),
            exclusive=rng.random() < 0.15,
            required=(rng.choice(names),) if rng.random() < 0.15 else (),
            excluded=(rng.choice(names),) if rng.random() < 0.15 else (),
            ntasks=gang.get("ntasks", 0),
            min_nodes=gang.get("min_nodes", 0),
            max_nodes=gang.get("max_nodes", 0),
        )

    def preempt(self, request: Request, policy: PreemptPolicy | None = None) -> Preemption | None:
        t = self.tables
        shape = t.shapes.intern(request)
        return plan_preemption(
            t.nodes, t.shapes, t.running, shape, TIER, policy or PreemptPolicy(), NOW
        )

    def least(self, request: Request) -> tuple[int, int] | None:
        return oracle_preempt.least(self.nodes, self.jobs, request, TIER, NOW)

    def fits_without(self, request: Request, victims: list[int], part: str) -> bool:
        free = oracle_preempt.free_without(self.nodes, self.jobs, victims)
        return oracle_preempt.fits(self.nodes, request, free, (part, ()))

    def check(self, request: Request, found: Preemption) -> None:
        """What holds of every preemption, exact or not."""
        victims = found.victims.tolist()
        part = self.tables.nodes.partition_names.text(found.partition)
        assert victims == sorted(set(victims))
        assert set(victims) <= set(oracle_preempt.candidates(self.jobs, TIER, NOW))
        assert self.fits_without(request, victims, part)
        for victim in victims:
            assert not self.fits_without(request, [v for v in victims if v != victim], part)
        assert found.lost_work == sum(self.jobs[v].lost for v in victims)
        graces = [v for v in victims if not self.jobs[v].keeps]
        assert found.start == NOW + max(graces, default=0)

    def start(self, request: Request, found: Preemption) -> None:
        """Preempt the victims for good: an ordinary pass then starts the preemptor."""
        t = self.tables
        for victim in found.victims.tolist():
            t.running.remove(victim)
            if self.jobs[victim].keeps:
                held = self.jobs[victim].held
                where = [t.nodes.names.find(name) for name, _ in held]
                kept = [self._vector({k: a for k, a in on if k != "cpu"}) for _, on in held]
                t.running.add(victim, 5000, where, kept)
        for row, amount in zip(found.nodes.tolist(), found.amount, strict=True):
            assert (t.nodes.free[row, : len(amount)] >= amount).all()
        t.jobs.add(99, t.shapes.intern(request), duration=10, submit=0)
        made = plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind=PolicyKind.FIFO), NOW)
        assert made.start_job.tolist() == [99]


@given(seed=SEEDS)
@settings(deadline=None, max_examples=150)
def test_for_one_node_the_lost_work_is_the_least(seed: int) -> None:
    s = Situation(seed)
    request = s.request(single=True)
    found, least = s.preempt(request), s.least(request)
    assert (found is None) == (least is None)
    if found is not None:
        assert found.exact
        assert (found.lost_work, len(found.victims)) == least
        s.check(request, found)
        s.start(request, found)


@given(seed=SEEDS, wide=st.sampled_from([0.0, 0.4]))
@settings(deadline=None, max_examples=150)
def test_for_gangs_victims_are_found_where_any_are_and_none_is_in_vain(
    seed: int, wide: float
) -> None:
    s = Situation(seed, wide)
    request = s.request(single=False)
    found, least = s.preempt(request), s.least(request)
    assert (found is None) == (least is None)
    if found is not None and least is not None:
        assert found.lost_work >= least[0]
        if found.exact or (not wide and not request.ntasks):
            assert found.exact
            assert (found.lost_work, len(found.victims)) == least
        s.check(request, found)
        s.start(request, found)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_without_a_budget_victims_are_still_enough_and_none_in_vain(seed: int) -> None:
    s = Situation(seed)
    request = s.request(single=True)
    found = s.preempt(request, PreemptPolicy(visits=0))
    assert (found is None) == (s.least(request) is None)
    if found is not None:
        s.check(request, found)


def crowd(jobs: int, seed: int) -> tuple[Tables, dict[int, oracle_preempt.Running]]:
    """One node of many small jobs of various sizes and costs."""
    rng = random.Random(seed)
    tables = Tables()
    tables.nodes.set("n", cpu=jobs * 1000, memory=jobs * 10, partitions=("p",))
    twins = {}
    for job_id in range(jobs):
        cpu, memory, lost = rng.choice([300, 500, 1000]), rng.choice([1, 5, 10]), rng.randint(0, 30)
        tables.running.add(job_id, 5000, [0], [[cpu, memory]])
        tables.running.set_terms(job_id, tier=0, since=NOW - lost, weight=1000)
        held = (("n", (("cpu", cpu), ("memory", memory))),)
        twins[job_id] = oracle_preempt.Running(held, 0, 0, lost, False)
    return tables, twins


@pytest.mark.parametrize("seed", range(3))
def test_a_crowded_node_is_searched_exactly(seed: int) -> None:
    """Fourteen jobs in two dimensions against all 16,384 sets."""
    tables, twins = crowd(14, seed)
    request = Request(partitions=("p",), cpu_per_node=11_000, memory_per_node=110, min_nodes=1)
    shape = tables.shapes.intern(request)
    parts = (tables.nodes, tables.shapes, tables.running)
    found = plan_preemption(*parts, shape, 1, PreemptPolicy(), NOW)
    free = {"cpu": int(tables.nodes.free[0, 0]), "memory": int(tables.nodes.free[0, 1])}
    node = oracle.Node(
        0, {"cpu": 14_000, "memory": 140}, frozenset("p"), frozenset(), True, 1, free
    )
    assert found is not None
    assert found.exact
    least = oracle_preempt.least({"n": node}, twins, request, 1, NOW)
    assert (found.lost_work, len(found.victims)) == least


def test_equal_jobs_are_no_search_at_all() -> None:
    tables = Tables()
    tables.nodes.set("n", cpu=64_000, memory=64, partitions=("p",))
    for job_id in range(64):
        tables.running.add(job_id, 5000, [0], [[1000, 1]])
        tables.running.set_terms(job_id, tier=0, since=NOW - 5, weight=1000)
    shape = tables.shapes.intern(Request(partitions=("p",), cpu_per_node=10_500, min_nodes=1))
    parts = (tables.nodes, tables.shapes, tables.running)
    found = plan_preemption(*parts, shape, 1, PreemptPolicy(visits=50_000), NOW)
    assert found is not None
    assert found.exact
    assert found.victims.tolist() == list(range(11))


def test_a_job_that_fits_preempts_nobody() -> None:
    tables = Tables()
    tables.nodes.set("n", cpu=2000, memory=10, partitions=("p",))
    tables.running.add(1, 5000, [0], [[1000, 0]])
    tables.running.set_terms(1, tier=0)
    shape = tables.shapes.intern(Request(partitions=("p",), cpu_per_node=1000, min_nodes=1))
    parts = (tables.nodes, tables.shapes, tables.running)
    found = plan_preemption(*parts, shape, 9, PreemptPolicy(), NOW)
    assert found is not None
    assert found.victims.tolist() == []
    assert (found.nodes.tolist(), found.lost_work, found.start) == ([0], 0, NOW)
    shape = tables.shapes.intern(Request(partitions=("p",), cpu_per_node=2000, min_nodes=1))
    found = plan_preemption(*parts, shape, 9, PreemptPolicy(), NOW)
    assert found is not None
    assert found.victims.tolist() == [1]
    tables.running.protect(1)
    assert plan_preemption(*parts, shape, 9, PreemptPolicy(), NOW) is None


def test_terms_are_a_fold_whatever_rows_they_landed_in() -> None:
    def table() -> RunningTable:
        tables = Tables()
        tables.nodes.set("n", cpu=99_000, memory=0, partitions=("p",))
        return tables.running

    first, second = table(), table()
    for job_id in (1, 2, 3):
        first.add(job_id, 10, [0], [[1000]])
    for job_id in (3, 7, 2, 1):
        second.add(job_id, 10, [0], [[1000]])
        second.set_terms(job_id, tier=9)
    second.remove(7)
    assert not first.equals(second)
    for job_id in (1, 2, 3):
        first.set_terms(job_id, tier=job_id, weight=5)
        second.set_terms(job_id, tier=job_id, weight=5)
    assert first.equals(second)
    second.protect(2)
    assert not first.equals(second)
    first.protect(2)
    assert first.equals(second)
    for job_id in range(10, 60):
        first.add(job_id, 10, [0], [[1000]])
        first.set_terms(job_id, tier=job_id, since=0, weight=1 << 50)
    assert len(first.terms.content()) == 52
    assert first.terms.lost_work(1 << 50).max() == LOST_MAX
    assert np.all(first.terms.lost_work(-5) == 0)


def full_nodes(jobs: list[tuple[list[int], int]], nodes: int) -> Tables:
    """Nodes of one CPU; each job holds those it names, whole, and has done so many seconds."""
    tables = Tables()
    for i in range(nodes):
        tables.nodes.set(f"n{i}", cpu=1000, memory=0, partitions=("p",))
    for job_id, (where, lost) in enumerate(jobs):
        tables.running.add(job_id, 5000, where, [[1000]] * len(where))
        tables.running.set_terms(job_id, tier=0, since=NOW - lost, weight=1000)
    return tables


def test_what_a_wide_victim_frees_beside_spares_the_dearest_other() -> None:
    """The third node comes with a second one: of the two cheaper jobs the dearer one is spared."""
    tables = full_nodes([([0], 4), ([1], 8), ([2, 3], 9)], nodes=4)
    request = Request(partitions=("p",), cpu_per_node=1000, min_nodes=3)
    parts = (tables.nodes, tables.shapes, tables.running)
    found = plan_preemption(*parts, tables.shapes.intern(request), 1, PreemptPolicy(), NOW)
    assert found is not None
    assert found.victims.tolist() == [0, 2]
    assert not found.exact, "a victim on several nodes: the least is not promised"


def test_of_equal_lost_work_fewer_victims_count() -> None:
    tables = Tables()
    for name in ("a", "b"):
        tables.nodes.set(name, cpu=2000, memory=0, partitions=("p",))
    for job_id, (node, cpu) in enumerate([(0, 1000), (0, 1000), (1, 2000)]):
        tables.running.add(job_id, 5000, [node], [[cpu]])
        tables.running.set_terms(job_id, tier=0, mode=PreemptMode.SUSPEND)
    request = Request(partitions=("p",), cpu_per_node=2000, min_nodes=1)
    parts = (tables.nodes, tables.shapes, tables.running)
    found = plan_preemption(*parts, tables.shapes.intern(request), 1, PreemptPolicy(), NOW)
    assert found is not None
    assert (found.victims.tolist(), found.lost_work) == ([2], 0)
    assert found.mode.tolist() == [PreemptMode.SUSPEND]
