"""Heterogeneous jobs against their slow twin, and what must hold of every pass with them."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle
from sched_core.codes import VerdictCode
from sched_core.oracle_bundles import BundleJob, BundlePass, BundleStart
from sched_core.oracle_limits import Limit
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.tables import Bundle, Request, Tables

EXAMPLES = int(os.environ.get("SCHED_EXAMPLES", "120"))
SEEDS = st.integers(0, 2**32)
KINDS = st.sampled_from([PolicyKind.FIFO, PolicyKind.EASY])
NOW = 1000


def random_request(rng: random.Random, names: list[str]) -> Request:
    low = rng.choice([0, 1, 1, 2, 3])
    return Request(
        partitions=tuple(rng.sample(["p", "q"], rng.choice([1, 1, 2]))),
        cpu_per_task=rng.choice([1000, 1000, 2000]),
        memory_per_node=rng.choice([0, 0, 30]),
        gres_per_node=rng.choice([(), (), (("gpu", "", 1),), (("gpu", "a", 1),)]),
        ntasks=rng.choice([0, 0, 2, 4]),
        min_nodes=low,
        max_nodes=rng.choice([0, low + 1]) if low else 0,
        exclusive=rng.random() < 0.1,
        features=rng.choice([(), (), (("x",),)]),
        alternatives=rng.choice([(), (), (), (("x",), ("y",))]),
        required=tuple(rng.sample(names, 1)) if rng.random() < 0.08 else (),
        excluded=tuple(rng.sample(names, 1)) if rng.random() < 0.08 else (),
    )


class Situation:
    """A random state with jobs of one and of several components, told to tables and oracle."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.tables = Tables()
        self.twins: dict[str, oracle.Node] = {}
        self.held: list[oracle.Held] = []
        self.jobs: list[oracle.Job] = []
        for i in range(rng.randint(2, 5)):
            self._add_node(f"n{i}")
        self.limits: dict[str, Limit] = {}
        if rng.random() < 0.3:
            bounds = {"jobs": rng.randint(1, 3), "cpu": 1000 * rng.randint(2, 9)}
            self.tables.limits.set("u", jobs=bounds["jobs"], cpu=bounds["cpu"])
            self.limits["u"] = Limit(bounds=bounds)
        requests = [random_request(rng, [*self.twins, "ghost"]) for _ in range(5)]
        for job_id in range(rng.randint(0, 6)):
            self._run(job_id, rng.choice(requests))
        several = [tuple(rng.choices(requests, k=rng.choice([2, 2, 3]))) for _ in range(3)]
        self.apart = [
            parts for parts in several if rng.random() < 0.5 and not any(p.required for p in parts)
        ]
        for job_id in range(100, 100 + rng.randint(1, 10)):
            self._add_job(job_id, rng.choice(requests), rng.choice([(), *several, *several]))

    def _add_node(self, name: str) -> None:
        rng = self.rng
        cpu, memory, weight = rng.choice([2000, 4000]), 60, rng.choice([1, 1, 2])
        gres = rng.choice([(), (("gpu", "a", 1), ("gpu", "b", 1)), (("gpu", "a", 2),)])
        parts = tuple(rng.sample(["p", "q"], rng.choice([1, 2])))
        feats = tuple(f for f in "xy" if rng.random() < 0.6)
        usable = rng.random() < 0.9
        row = self.tables.nodes.set(
            name,
            cpu=cpu,
            memory=memory,
            gres=gres,
            partitions=parts,
            features=feats,
            usable=usable,
            weight=weight,
        )
        amounts = oracle.vector(cpu, memory, gres)
        dims = [self.tables.dims.name(r) for r in range(len(self.tables.dims))]
        amounts = {key: amounts[key] for key in dims if key in amounts}
        self.twins[name] = oracle.Node(
            row, amounts, frozenset(parts), frozenset(feats), usable, weight, dict(amounts)
        )

    def _run(self, job_id: int, request: Request) -> None:
        twins = {name: twin for name, twin in self.twins.items() if twin.usable}
        single = oracle.Pass(twins, [], 0, fifo=True)
        if single.start(oracle.Job(job_id, request, 10, 0)):
            end = NOW + self.rng.choice([-5, 0, 1, 5, 10, 20])
            rows = [(name, amounts) for name, _, amounts in single.out.starts[0].rows]
            dims = self.tables.dims
            where = [self.tables.nodes.names.find(name) for name, _ in rows]
            vectors = [[a.get(dims.name(r), 0) for r in range(len(dims))] for _, a in rows]
            self.tables.running.add(job_id, end, where, vectors)
            self.held += [oracle.Held(name, end, amounts) for name, amounts in rows]

    def _add_job(self, job_id: int, request: Request, parts: tuple[Request, ...]) -> None:
        rng = self.rng
        apart = parts in self.apart
        given = {
            "duration": rng.choice([5, 10, 11, 20, 50]),
            "submit": rng.randint(0, 5),
            "priority": rng.choice([0, 0, 1]),
            "count": rng.choice([1, 1, 1, 2]),
        }
        limit = rng.choice(["", *self.limits])
        job = oracle.Job(job_id, request, **given, limit=limit)
        if parts:
            job = BundleJob(job_id, parts[0], **given, limit=limit, components=parts, apart=apart)
        self.jobs.append(job)
        shape = self.tables.shapes.intern(Bundle(parts, apart) if parts else request)
        self.tables.jobs.add(job_id, shape, **given, limit=self.tables.limits.names.find(job.limit))

    def plan(self, kind: PolicyKind) -> Plan:
        t = self.tables
        return plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind=kind), NOW)

    def oracle(self, kind: PolicyKind) -> BundlePass:
        twins = {name: replace(twin, free=dict(twin.free)) for name, twin in self.twins.items()}
        limits = {name: replace(own, used=dict(own.used)) for name, own in self.limits.items()}
        twin = BundlePass(twins, self.held, NOW, kind == PolicyKind.FIFO, limits)
        twin.run(self.jobs)
        return twin

    def starts(self, made: Plan) -> list[oracle.Start]:
        names, dims = self.tables.nodes.names, self.tables.dims
        parts = self.tables.nodes.partition_names
        several = {job.job_id for job in self.jobs if isinstance(job, BundleJob)}
        out: list[oracle.Start] = []
        for i, (first, end) in enumerate(pairwise(made.start_ptr.tolist())):
            job_id = int(made.start_job[i])
            rows = [
                (
                    names.text(int(made.node[k])),
                    int(made.tasks[k]),
                    dims.named(made.amount[k].tolist()),
                )
                for k in range(first, end)
            ]
            limit = int(made.start_limit[i])
            part, component = parts.text(int(made.start_partition[i])), made.component[first:end]
            if job_id in several:
                out.append(BundleStart(job_id, part, rows, limit, component.tolist()))
            else:
                assert not component.any()
                out.append(oracle.Start(job_id, part, rows, limit))
        return out

    def heads(self, made: Plan) -> list[tuple[int, str, int, list[str]]]:
        names, parts = self.tables.nodes.names, self.tables.nodes.partition_names
        return [
            (
                int(made.head_job[i]),
                parts.text(int(made.head_partition[i])),
                int(made.head_start[i]),
                [names.text(int(n)) for n in made.head_node[first:end]],
            )
            for i, (first, end) in enumerate(pairwise(made.head_ptr.tolist()))
        ]


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_a_pass_equals_its_oracle_start_by_start(seed: int, kind: PolicyKind) -> None:
    situation = Situation(seed)
    made = situation.plan(kind)
    twin = situation.oracle(kind)
    assert situation.starts(made) == twin.out.starts
    assert situation.heads(made) == twin.out.heads
    for i, job_id in enumerate(made.job.tolist()):
        assert VerdictCode(int(made.code[i])) == twin.out.code[job_id]
        assert (made.matching[i], made.usable[i]) == twin.out.matching[job_id]
        if job_id in twin.out.planned:
            assert made.planned[i] == twin.out.planned[job_id]


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_all_components_start_or_none_and_nothing_is_oversubscribed(
    seed: int, kind: PolicyKind
) -> None:
    situation = Situation(seed)
    made = situation.plan(kind)
    left = situation.tables.nodes.free.copy()
    for node, amount in zip(made.node.tolist(), made.amount, strict=True):
        left[node, : len(amount)] -= amount
    assert (left >= 0).all()
    jobs = {job.job_id: job for job in situation.jobs}
    for start in situation.starts(made):
        job = jobs[start.job_id]
        if isinstance(job, BundleJob) and isinstance(start, BundleStart):
            names = [name for name, _, _ in start.rows]
            assert not job.apart or len(set(names)) == len(names)
            assert sorted(set(start.component)) == list(range(len(job.components)))
            for number, part in enumerate(job.components):
                rows = [r for r, c in zip(start.rows, start.component, strict=True) if c == number]
                assert part.nodes_low <= len(rows) <= part.nodes_high
                assert not part.ntasks or sum(tasks for _, tasks, _ in rows) == part.ntasks
                assert any(
                    all(
                        oracle.matches(part, name, situation.twins[name], place)
                        for name, _, _ in rows
                    )
                    for place in oracle.places(part)
                )


@given(seed=SEEDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_starts_leave_room_for_all_components_of_a_head(seed: int) -> None:
    """After the starts, every head of several components still fits at its promised time."""
    situation = Situation(seed)
    made = situation.plan(PolicyKind.EASY)
    jobs = {job.job_id: job for job in situation.jobs}
    held = list(situation.held)
    twins = {n: replace(t, free=dict(t.free)) for n, t in situation.twins.items()}
    for start in situation.starts(made):
        end = NOW + jobs[start.job_id].duration
        for name, _, amounts in start.rows:
            held.append(oracle.Held(name, end, amounts))
            for key, amount in amounts.items():
                twins[name].free[key] -= amount
    for job_id, _, when, names in situation.heads(made):
        job = jobs[job_id]
        if isinstance(job, BundleJob):
            mine = {name: twins[name] for name in names}
            there = BundlePass(mine, [h for h in held if h.node in mine], NOW, False)
            assert there.at(job, when, False, False) is not None


@given(seed=SEEDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_what_waits_has_an_estimate(seed: int) -> None:
    situation = Situation(seed)
    made = situation.plan(PolicyKind.EASY)
    twin = situation.oracle(PolicyKind.EASY)
    heads = {head[0] for head in twin.out.heads}
    jobs = {job.job_id: job for job in situation.jobs}
    for i, job_id in enumerate(made.job.tolist()):
        code, job = VerdictCode(int(made.code[i])), jobs[job_id]
        if isinstance(job, BundleJob) and job_id not in heads:
            if code in {VerdictCode.RESOURCES, VerdictCode.PRIORITY}:
                alone = twin.together(job, False, False)[0]
                alone = -1 if alone == oracle.NEVER else alone
                ahead = [max(alone, when) for _, _, when, _ in twin.out.heads]
                assert made.planned[i] in {alone, *ahead}
            elif code in {VerdictCode.NODE_NOT_AVAIL, VerdictCode.NEVER}:
                assert made.planned[i] == -1


def test_a_bundle_has_two_components_or_more() -> None:
    one = Request(("p",), cpu_per_task=1000)
    with pytest.raises(ValueError, match=r"2\.\.128 components, not 1"):
        Bundle((one,))


def test_a_bundle_and_its_components_leave_no_trace() -> None:
    tables = Tables()
    parts = tuple(Request((f"p{i}",), cpu_per_task=1000 + i) for i in range(3))
    for turn in range(200):
        tables.jobs.add(turn, tables.shapes.intern(Bundle(parts[turn % 2 :])), duration=1, submit=0)
        if turn:
            tables.jobs.remove(turn - 1)
        rows = tables.shapes.components(int(tables.jobs.shape[tables.jobs.row(turn)]))
        assert [tables.shapes.request(row) for row in rows] == list(parts[turn % 2 :])
    tables.jobs.remove(199)
    assert tables.shapes.content() == {}
    assert tables.equals(Tables())
