"""Heterogeneous jobs in conservative passes against their slow twin, pass by pass."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle
from sched_core.codes import MoveCause, VerdictCode
from sched_core.oracle_bundles import BundleJob
from sched_core.oracle_bundles_conservative import BundleConservative, BundlePromise
from sched_core.oracle_conservative import Bounds, Last
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.tables import Bundle, Request, Tables

EXAMPLES = int(os.environ.get("SCHED_EXAMPLES", "100"))
SEEDS = st.integers(0, 2**32)


def random_request(rng: random.Random, names: list[str]) -> Request:
    low = rng.choice([1, 1, 2])
    return Request(
        partitions=tuple(rng.sample(["p", "q"], rng.choice([1, 1, 2]))),
        cpu_per_task=rng.choice([1000, 1000, 2000]),
        gres_per_node=rng.choice([(), (), (("gpu", "", 1),), (("gpu", "a", 1),)]),
        ntasks=rng.choice([0, 0, 3]),
        min_nodes=low,
        max_nodes=rng.choice([0, low + 1]),
        exclusive=rng.random() < 0.1,
        alternatives=rng.choice([(), (), (("x",), ("y",))]),
        required=tuple(rng.sample(names, 1)) if rng.random() < 0.08 else (),
        excluded=tuple(rng.sample(names, 1)) if rng.random() < 0.08 else (),
    )


class Cluster:
    """A small random cluster with jobs of one and of several components; it lives for some passes."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.now, self.next_id = 1000, 100
        self.tables = Tables()
        self.twins: dict[str, oracle.Node] = {}
        self.jobs: dict[int, oracle.Job] = {}
        self.running: dict[int, list[oracle.Held]] = {}
        for i in range(rng.randint(2, 4)):
            self.add_node(f"n{i}")
        self.requests = [random_request(rng, [*self.twins, "ghost"]) for _ in range(4)]
        for _ in range(rng.randint(2, 8)):
            self.add_job()

    def add_node(self, name: str) -> None:
        rng = self.rng
        cpu, gres = rng.choice([2000, 4000]), (("gpu", "a", 1), ("gpu", "b", rng.randint(0, 1)))
        parts = tuple(rng.sample(["p", "q"], rng.choice([1, 2, 2])))
        feats = tuple(f for f in "xy" if rng.random() < 0.7)
        row = self.tables.nodes.set(
            name, cpu=cpu, memory=9, gres=gres, partitions=parts, features=feats
        )
        amounts = oracle.vector(cpu, 9, gres)
        self.twins[name] = oracle.Node(
            row, amounts, frozenset(parts), frozenset(feats), True, 1, dict(amounts)
        )

    def add_job(self) -> None:
        rng, request = self.rng, self.rng.choice(self.requests)
        parts = tuple(rng.choices(self.requests, k=2)) if rng.random() < 0.5 else ()
        apart = rng.random() < 0.5 and not any(part.required for part in parts)
        given = {
            "duration": rng.choice([5, 10, 11, 20]),
            "submit": self.next_id,
            "priority": rng.choice([0, 0, 0, 1]),
            "count": rng.choice([1, 1, 1, 2]),
        }
        job = oracle.Job(self.next_id, request, **given)
        if parts:
            job = BundleJob(self.next_id, parts[0], **given, components=parts, apart=apart)
        self.jobs[self.next_id] = job
        shape = self.tables.shapes.intern(Bundle(parts, apart) if parts else request)
        self.tables.jobs.add(self.next_id, shape, **given)
        self.next_id += 1

    def rows(self, made: Plan, ptr: str, i: int) -> list[tuple[str, int, dict[str, int]]]:
        first, last = getattr(made, f"{ptr}_ptr")[i : i + 2].tolist()
        node, tasks, amount = (
            (made.node, made.tasks, made.amount)
            if ptr == "start"
            else (made.head_node, made.head_tasks, made.head_amount)
        )
        names, dims = self.tables.nodes.names, self.tables.dims
        return [
            (names.text(int(node[k])), int(tasks[k]), dims.named(amount[k].tolist()))
            for k in range(first, last)
        ]

    def advance(self, made: Plan) -> None:
        """Carry out the starts; some jobs end, early or late; some come; a node may be lost."""
        rng, dims = self.rng, self.tables.dims
        for i, job_id in enumerate(made.start_job.tolist()):
            job, end = self.jobs[job_id], self.now + self.jobs[job_id].duration
            held: dict[str, dict[str, int]] = {}
            for name, _, amounts in self.rows(made, "start", i):
                mine = held.setdefault(name, {})
                for key, amount in amounts.items():
                    mine[key] = mine.get(key, 0) + amount
                    self.twins[name].free[key] -= amount
            where = [self.tables.nodes.names.find(name) for name in held]
            vectors = [[a.get(dims.name(r), 0) for r in range(len(dims))] for a in held.values()]
            self.tables.running.add(self.next_id, end, where, vectors)
            self.running[self.next_id] = [oracle.Held(n, end, a) for n, a in held.items()]
            self.next_id += 1
            job.count -= 1
            self.tables.jobs.update(job_id, count=job.count)
            if job.count == 0:
                del self.jobs[job_id]
                self.tables.jobs.remove(job_id)
        self.now += rng.choice([1, 5, 9])
        for job_id, some in list(self.running.items()):
            if rng.random() < (0.8 if some[0].end <= self.now else 0.25):
                self.tables.running.remove(job_id)
                del self.running[job_id]
                for held_ in some:
                    for key, amount in held_.amounts.items():
                        self.twins[held_.node].free[key] += amount
        if rng.random() < 0.5:
            self.add_job()
        if rng.random() < 0.15:
            name = rng.choice(list(self.twins))
            self.twins[name].usable = not self.twins[name].usable
            self.tables.nodes.set_usable(name, self.twins[name].usable)

    def plan(self, bounds: Bounds, last: Promises | None) -> Plan:
        policy = Policy(PolicyKind.CONSERVATIVE, bounds.depth, resolution=bounds.resolution)
        policy = replace(policy, window=bounds.window)
        t = self.tables
        return plan(t.nodes, t.shapes, t.jobs, t.running, policy, self.now, promises=last)

    def oracle(self, bounds: Bounds, last: Last | None) -> BundleConservative:
        twins = {name: replace(twin, free=dict(twin.free)) for name, twin in self.twins.items()}
        held = [one for some in self.running.values() for one in some]
        twin = BundleConservative(twins, held, self.now, bounds, last)
        twin.run(list(self.jobs.values()))
        return twin

    def equal(self, made: Plan, twin: BundleConservative) -> None:
        parts = self.tables.nodes.partition_names
        starts = [
            (int(job), parts.text(int(part)), self.rows(made, "start", i))
            for i, (job, part) in enumerate(zip(made.start_job, made.start_partition, strict=True))
        ]
        assert starts == [(s.job_id, s.partition, s.rows) for s in twin.starts]
        heads = {}
        for i, (first, end) in enumerate(pairwise(made.head_ptr.tolist())):
            part = parts.text(int(made.head_partition[i]))
            component = made.head_component[first:end].tolist()
            what = (int(made.head_start[i]), part, self.rows(made, "head", i), component)
            heads[int(made.head_job[i])] = what
        expected = {}
        for job, p in twin.promises.items():
            component = p.component if isinstance(p, BundlePromise) else [0] * len(p.rows)
            expected[job] = (p.start, p.partition, p.rows, component)
        assert heads == expected
        for i, job in enumerate(made.job.tolist()):
            assert VerdictCode(int(made.code[i])) == twin.code[job]
            if job in twin.planned:
                assert made.planned[i] == twin.planned[job]
            assert MoveCause(int(made.moved_cause[i])) == twin.cause.get(job, MoveCause.KEPT)

    def sound(self, made: Plan) -> None:
        """Nothing is oversubscribed at any instant if all keep their limits."""
        taken: list[tuple[str, int, int, dict[str, int]]] = []
        for some in self.running.values():
            taken += [(h.node, self.now, max(h.end, self.now + 1), h.amounts) for h in some]
        gangs = [(int(j), self.now, "start", i) for i, j in enumerate(made.start_job)]
        gangs += [(int(j), int(made.head_start[i]), "head", i) for i, j in enumerate(made.head_job)]
        for job_id, start, ptr, i in gangs:
            end = start + self.jobs[job_id].duration
            taken += [(name, start, end, a) for name, _, a in self.rows(made, ptr, i)]
        for name, twin in self.twins.items():
            mine = [t for t in taken if t[0] == name]
            for instant in {t[1] for t in mine}:
                for key, most in twin.capacity.items():
                    assert most >= sum(a.get(key, 0) for _, s, e, a in mine if s <= instant < e)


BOUNDS = st.builds(
    Bounds,
    depth=st.sampled_from([0, 3, 100, 100]),
    window=st.sampled_from([1 << 39, 1 << 39, 30]),
    resolution=st.sampled_from([1, 1, 7]),
)


@given(seed=SEEDS, bounds=BOUNDS, passes=st.integers(1, 5))
@settings(deadline=None, max_examples=EXAMPLES)
def test_passes_equal_their_oracle_one_by_one(seed: int, bounds: Bounds, passes: int) -> None:
    cluster = Cluster(seed)
    last: Promises | None = None
    twin_last: Last | None = None
    for _ in range(passes):
        made = cluster.plan(bounds, last)
        twin = cluster.oracle(bounds, twin_last)
        cluster.equal(made, twin)
        cluster.sound(made)
        freed = cluster.rng.random() < 0.7
        last, twin_last = replace(Promises.of(made), freed=freed), twin.result(freed)
        cluster.advance(made)
