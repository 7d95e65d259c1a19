"""Whole passes against their slow twin, and what must hold of every pass, on random clusters."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle
from sched_core.codes import VerdictCode
from sched_core.feasible import feasible
from sched_core.oracle_licences import Licences
from sched_core.oracle_limits import Limit
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.tables import Request, Tables

EXAMPLES = int(os.environ.get("SCHED_EXAMPLES", "120"))
SEEDS = st.integers(0, 2**32)
NOW = 1000


def random_gres(rng: random.Random, request: bool) -> tuple[tuple[str, str, int], ...]:
    if rng.random() < (0.6 if request else 0.4):
        return ()
    kinds = ["a", "b", ""]
    some = rng.sample(kinds, rng.choice([1, 1, 2]))
    return tuple(("gpu", kind, rng.randint(1, 2 if request else 3)) for kind in some)


def random_request(rng: random.Random, names: list[str]) -> Request:
    low = rng.choice([0, 0, 0, 1, 2, 3])
    return Request(
        partitions=tuple(rng.sample(["p", "q", "r"], rng.choice([1, 1, 1, 2]))),
        cpu_per_task=rng.choice([500, 1000, 2000]),
        memory_per_task=rng.choice([0, 0, 10, 30]),
        memory_per_node=rng.choice([0, 0, 20]),
        gres_per_node=random_gres(rng, request=True),
        gres_per_task=random_gres(rng, request=True) if rng.random() < 0.2 else (),
        ntasks=rng.choice([0, 0, 1, 2, 5, 9]),
        ntasks_per_node=rng.choice([0, 0, 1, 2]),
        min_nodes=low,
        max_nodes=rng.choice([0, low, low + 1]) if low else 0,
        exclusive=rng.random() < 0.1,
        features=rng.choice([(), (), (("x",),), (("x", "y"), ("z",))]),
        alternatives=rng.choice([(), (), (), (("x",), ("y",)), (("z",), ("y", "x"), ("x",))]),
        required=tuple(rng.sample(names, 1)) if rng.random() < 0.1 else (),
        excluded=tuple(rng.sample(names, 1)) if rng.random() < 0.1 else (),
    )


def some_licences(rng: random.Random) -> tuple[tuple[str, int], ...]:
    names = rng.sample(["m", "s", "nowhere"], rng.choice([1, 1, 2]))
    return tuple(
        (name, rng.randint(1, 2)) for name in names if name != "nowhere" or rng.random() < 0.1
    )


class Situation:
    """A random state, told to the tables and to the oracle."""

    def __init__(self, seed: int, nodes: int = 6, shapes: int = 6, jobs: int = 14) -> None:
        rng = random.Random(seed)
        self.now = NOW
        self.tables = Tables()
        self.twins: dict[str, oracle.Node] = {}
        self.held: list[oracle.Held] = []
        self.jobs: list[oracle.Job] = []
        for i in range(rng.randint(1, nodes)):
            self._add_node(rng, f"n{i}")
        self.limits = self._limits(rng)
        names = list(self.twins)
        requests = [random_request(rng, [*names, "ghost"]) for _ in range(shapes)]
        self.licences = Licences()
        if rng.random() < 0.5:
            requests = [
                replace(r, licences=some_licences(rng) if rng.random() < 0.6 else ())
                for r in requests
            ]
            self.licences.total = {"m": rng.randint(1, 5), "s": rng.randint(0, 3)}
            for name, total in self.licences.total.items():
                self.tables.licences.set(name, total + 1, elsewhere=1)
        self._run_something(rng, requests, rng.randint(0, 10))
        self.timed = rng.random() < 0.4
        for job_id in range(100, 100 + rng.randint(1, jobs)):
            self._add_job(rng, job_id, rng.choice(requests))

    def _add_node(self, rng: random.Random, name: str) -> None:
        cpu, memory = rng.choice([2000, 4000]), rng.choice([60, 100])
        gres = random_gres(rng, request=False)
        parts = tuple(rng.sample(["p", "q", "r"], rng.randint(1, 3)))
        feats = tuple(rng.sample(["x", "y", "z"], rng.randint(0, 3)))
        usable, weight = rng.random() < 0.85, rng.choice([1, 1, 2])
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
        # Types of equal width are taken in the order in which the tables first heard of them.
        dims = [self.tables.dims.name(r) for r in range(len(self.tables.dims))]
        amounts = {name: amounts[name] for name in dims if name in amounts}
        twin = oracle.Node(row, amounts, frozenset(parts), frozenset(feats), usable, weight, {})
        twin.free = dict(amounts)
        self.twins[name] = twin

    def _run_something(self, rng: random.Random, requests: list[Request], count: int) -> None:
        """Let an unconstrained pass of the oracle place a few jobs that then run."""
        for job_id in range(count):
            twins = {n: t for n, t in self.twins.items() if t.usable}
            job = oracle.Job(job_id, rng.choice(requests), rng.choice([5, 10, 20, 40]), job_id)
            enough = Licences({"m": 9, "s": 9, "nowhere": 9})
            single = oracle.Pass(twins, [], 0, fifo=True, licences=enough)
            if single.start(job):
                end = NOW + rng.choice([-5, 0, 1, 5, 10, 10, 20, 30])
                rows = single.out.starts[0].rows
                where = [self.tables.nodes.names.find(name) for name, _, _ in rows]
                amounts = [self._vector(amounts) for _, _, amounts in rows]
                wanted = job.request.licences if rng.random() < 0.7 else ()
                self.tables.running.add(job_id, end, where, amounts, wanted)
                self.licences.book(wanted, 0, max(end, NOW + 1))
                kept = [dict(amounts) for _, _, amounts in rows]
                if rng.random() < 0.15:
                    self.tables.running.suspend(job_id)
                    for (name, _, _), amounts in zip(rows, kept, strict=True):
                        self.twins[name].free["cpu"] += amounts.pop("cpu", 0)
                for (name, _, _), amounts in zip(rows, kept, strict=True):
                    self.held.append(oracle.Held(name, end, amounts))

    def _vector(self, amounts: dict[str, int]) -> list[int]:
        dims = self.tables.dims
        return [amounts.get(dims.name(r), 0) for r in range(len(dims))]

    def _add_job(self, rng: random.Random, job_id: int, request: Request) -> None:
        job = oracle.Job(
            job_id,
            request,
            duration=rng.choice([5, 9, 10, 11, 20, 50]),
            submit=rng.randint(0, 5),
            priority=rng.choice([0, 0, 1]),
            begin=rng.choice([0] * 9 + [NOW + 5]),
            gate=rng.choice([0] * 9 + [VerdictCode.DEPENDENCY]),
            count=rng.choice([1, 1, 1, 3, 0]),
            limit=rng.choice(["", *self.limits]),
            deadline=NOW + rng.randint(4, 60)
            if self.timed and rng.random() < 0.5
            else oracle.NEVER,
        )
        if self.timed and rng.random() < 0.6:
            job.time_min = rng.randint(1, job.duration + 1)
        self.jobs.append(job)
        shape = self.tables.shapes.intern(request)
        self.tables.jobs.add(
            job_id,
            shape,
            duration=job.duration,
            submit=job.submit,
            priority=job.priority,
            begin=job.begin,
            gate=job.gate,
            count=job.count,
            limit=self.tables.limits.names.find(job.limit),
            deadline=job.deadline,
            time_min=job.time_min,
        )

    def _limits(self, rng: random.Random) -> dict[str, Limit]:
        """A chain or two of limits, in the table and for the twin; half of the time none."""
        out: dict[str, Limit] = {}
        for name in ["u", "v", "account", "all"][: rng.choice([0, 0, 2, 4])]:
            parent = {"u": "account", "v": "all", "account": "all"}.get(name, "")
            some = {"jobs": rng.randint(0, 4), "cpu": 500 * rng.randint(1, 16), "gres/gpu:a": 1}
            bounds = {key: n for key, n in some.items() if rng.random() < 0.4}
            used = {"jobs": rng.randint(0, 2), "cpu": 500 * rng.randint(0, 4)}
            self.tables.limits.set(
                name,
                parent=parent,
                jobs=bounds.get("jobs", -1),
                cpu=bounds.get("cpu", -1),
                gres=(("gpu", "a", 1),) if "gres/gpu:a" in bounds else (),
            )
            self.tables.limits.set_used(name, used["jobs"], [used["cpu"]])
            out[name] = Limit(parent, bounds, used)
        if "account" not in out:
            for limit in out.values():
                limit.parent = ""
        return out

    def plan(self, kind: PolicyKind) -> Plan:
        t = self.tables
        return plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind=kind), self.now)

    def oracle(self, kind: PolicyKind) -> oracle.Pass:
        twins = {
            name: oracle.Node(**{**vars(twin), "free": dict(twin.free)})
            for name, twin in self.twins.items()
        }
        limits = {name: replace(own, used=dict(own.used)) for name, own in self.limits.items()}
        fifo = kind == PolicyKind.FIFO
        twin = oracle.Pass(twins, self.held, self.now, fifo, limits, self.licences.copy())
        twin.run(self.jobs)
        return twin

    def starts(self, made: Plan) -> list[oracle.Start]:
        names, parts = self.tables.nodes.names, self.tables.nodes.partition_names
        out = []
        for i in range(made.starts):
            rows = range(int(made.start_ptr[i]), int(made.start_ptr[i + 1]))
            gang = [
                (
                    names.text(int(made.node[k])),
                    int(made.tasks[k]),
                    self.tables.dims.named(made.amount[k].tolist()),
                )
                for k in rows
            ]
            part = parts.text(int(made.start_partition[i]))
            out.append(oracle.Start(int(made.start_job[i]), part, gang, int(made.start_limit[i])))
        return out

    def heads(self, made: Plan) -> list[tuple[int, str, int, list[str]]]:
        names, parts = self.tables.nodes.names, self.tables.nodes.partition_names
        out = []
        for i in range(len(made.head_job)):
            rows = made.head_node[int(made.head_ptr[i]) : int(made.head_ptr[i + 1])].tolist()
            part = parts.text(int(made.head_partition[i]))
            held = [names.text(row) for row in rows]
            out.append((int(made.head_job[i]), part, int(made.head_start[i]), held))
        return out


KINDS = st.sampled_from([PolicyKind.FIFO, PolicyKind.EASY])


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
        if job_id in twin.out.over:
            short = int(made.short[i])
            name = situation.tables.dims.name(short) if short >= 0 else "jobs"
            if twin.out.code[job_id] == VerdictCode.LICENSES:
                name = situation.tables.licences.names.text(short)
            assert name in twin.out.over[job_id]
        if job_id in twin.out.planned:
            assert made.planned[i] == twin.out.planned[job_id]


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_no_dimension_of_any_node_is_oversubscribed(seed: int, kind: PolicyKind) -> None:
    situation = Situation(seed)
    made = situation.plan(kind)
    left = situation.tables.nodes.free.copy()
    for node, amount in zip(made.node.tolist(), made.amount, strict=True):
        left[node, : len(amount)] -= amount
    assert (left >= 0).all()
    dims = situation.tables.dims
    for total in range(2, len(dims)):
        types = [r for r in range(len(dims)) if dims.parent[r] == total]
        if dims.parent[total] < 0:
            assert (left[:, types].sum(axis=1) <= left[:, total]).all()


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_a_gang_starts_as_a_whole_or_not_at_all(seed: int, kind: PolicyKind) -> None:
    situation = Situation(seed)
    made = situation.plan(kind)
    requests = {job.job_id: job.request for job in situation.jobs}
    placed: dict[int, int] = defaultdict(int)
    for start in situation.starts(made):
        request = requests[start.job_id]
        placed[start.job_id] += 1
        names = [name for name, _, _ in start.rows]
        assert len(set(names)) == len(names)
        assert request.nodes_low <= len(names) <= request.nodes_high
        assert set(request.required) <= set(names)
        assert not set(request.excluded) & set(names)
        if request.ntasks:
            assert sum(tasks for _, tasks, _ in start.rows) == request.ntasks
        for name, tasks, _ in start.rows:
            assert 1 <= tasks <= (request.ntasks_per_node or tasks)
            assert start.partition in situation.twins[name].partitions
            assert situation.twins[name].usable
    by_job = dict(zip(made.job.tolist(), made.placed.tolist(), strict=True))
    assert placed == {job: count for job, count in by_job.items() if count}


@given(seed=SEEDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_backfill_never_delays_a_promised_start(seed: int) -> None:
    """After the starts, every head still fits on its promised nodes at its promised time."""
    situation = Situation(seed)
    made = situation.plan(PolicyKind.EASY)
    requests = {job.job_id: job for job in situation.jobs}
    ends = [(max(held.end, NOW + 1), held.node, held.amounts) for held in situation.held]
    for start in situation.starts(made):
        end = NOW + start.limit
        ends += [(end, name, amounts) for name, _, amounts in start.rows]
    for job_id, _, when, names in situation.heads(made):
        request = requests[job_id].request
        fits = []
        for name in names:
            capacity = situation.twins[name].capacity
            free = dict(capacity)
            for end, node, amounts in ends:
                if node == name and end > when:
                    free = {key: free[key] - amounts.get(key, 0) for key in free}
            fits.append((name, oracle.tasks_fit(request, capacity, free)))
        required = [fit for fit in fits if fit[0] in request.required]
        rest = [fit for fit in fits if fit[0] not in request.required]
        assert oracle.choose(request, required + rest, request.nodes_high) is not None


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_licences_are_never_overbooked_now_or_when_promised(seed: int, kind: PolicyKind) -> None:
    situation = Situation(seed)
    made = situation.plan(kind)
    jobs = {job.job_id: job for job in situation.jobs}
    booked = situation.licences.copy()
    spans = [(jobs[s.job_id], NOW, NOW + s.limit) for s in situation.starts(made)]
    if kind == PolicyKind.EASY:
        heads = situation.heads(made)
        spans += [(jobs[j], when, when + jobs[j].duration) for j, _, when, _ in heads]
    for job, start, end in spans:
        booked.book(job.request.licences, start, end)
    for job, start, end in spans:
        assert not booked.overbooked(job.request.licences, start, end)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_every_record_has_a_verdict_and_every_blocked_one_an_estimate(seed: int) -> None:
    situation = Situation(seed)
    made = situation.plan(PolicyKind.EASY)
    twin = situation.oracle(PolicyKind.EASY)
    requests = {job.job_id: job.request for job in situation.jobs}
    heads = {head[0] for head in twin.out.heads}
    assert sorted(made.job.tolist()) == sorted(requests)
    for i, job_id in enumerate(made.job.tolist()):
        code, request = VerdictCode(int(made.code[i])), requests[job_id]
        if code in {VerdictCode.RESOURCES, VerdictCode.PRIORITY} and job_id not in heads:
            alone = twin.soonest(request, False, oracle.places(request))[0]
            ahead = [when for _, part, when, _ in twin.out.heads if part in request.partitions]
            assert made.planned[i] in {alone, max(alone, min(ahead, default=alone))}
            assert code == VerdictCode.PRIORITY or made.planned[i] == alone
        elif code in {VerdictCode.NODE_NOT_AVAIL, VerdictCode.NEVER}:
            assert made.planned[i] == -1


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_one_waits_for_resources_and_those_behind_it_for_their_turn(
    seed: int, kind: PolicyKind
) -> None:
    """Of records of one partition alone, only the first that waits says RESOURCES.

    Those with a deadline aside: they block nobody if they would miss it.
    """
    situation = Situation(seed)
    made = situation.plan(kind)
    requests = {job.job_id: job.request for job in situation.jobs}
    late = {job.job_id for job in situation.jobs if job.deadline < oracle.NEVER}
    promised = {head[0] for head in situation.heads(made)}
    waits: set[str] = set()
    for i, job_id in enumerate(made.job.tolist()):
        if made.code[i] in {VerdictCode.RESOURCES, VerdictCode.PRIORITY}:
            partitions = requests[job_id].partitions
            if made.code[i] == VerdictCode.RESOURCES:
                assert job_id in promised or not waits.issuperset(partitions)
            if len(partitions) == 1 and partitions[0] in waits:
                assert made.code[i] == VerdictCode.PRIORITY
            if len(partitions) == 1 and job_id not in late:
                waits.update(partitions)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_feasible_at_submit_agrees_with_the_verdict_never(seed: int) -> None:
    situation = Situation(seed)
    twin = situation.oracle(PolicyKind.EASY)
    for job in situation.jobs:
        nodes, _ = feasible(situation.tables.nodes, job.request)
        assert (nodes > 0) == twin.possible(job.request, False)


def test_the_same_holds_without_compiling() -> None:
    """The kernels are plain Python too: what the oracle tests cover is what runs."""
    if "NUMBA_DISABLE_JIT" in os.environ:
        return
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "SCHED_EXAMPLES": "25"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [str(Path(__file__)), "-k", "oracle_start_by_start or promised_start"]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
