"""Conservative passes against their slow twin, and what must hold of every one of them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sched_core import oracle
from sched_core.codes import MoveCause, VerdictCode
from sched_core.feasible import feasible
from sched_core.oracle_conservative import Bounds, Conservative, Last
from sched_core.oracle_licences import Licences
from sched_core.oracle_limits import Limit
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.tables import Request, Tables

EXAMPLES = int(os.environ.get("SCHED_EXAMPLES", "100"))
SEEDS = st.integers(0, 2**32)
NOW = 1000


def random_gres(rng: random.Random, most: int, share: float) -> tuple[tuple[str, str, int], ...]:
    if rng.random() > share:
        return ()
    some = rng.sample(["a", "b", ""], rng.choice([1, 1, 2]))
    return tuple(("gpu", kind, rng.randint(1, most)) for kind in some)


def random_request(rng: random.Random, names: list[str]) -> Request:
    low = rng.choice([0, 0, 1, 2, 3])
    return Request(
        partitions=tuple(rng.sample(["p", "q"], rng.choice([1, 1, 1, 2]))),
        cpu_per_task=rng.choice([1000, 1000, 2000]),
        memory_per_node=rng.choice([0, 0, 0, 30]),
        gres_per_node=random_gres(rng, 2, 0.35),
        ntasks=rng.choice([0, 0, 0, 2, 4, 5]),
        ntasks_per_node=rng.choice([0, 0, 2]),
        min_nodes=low,
        max_nodes=rng.choice([0, low, low + 1]) if low else 0,
        exclusive=rng.random() < 0.1,
        features=rng.choice([(), (), (), (("x",),)]),
        alternatives=rng.choice([(), (), (), (("y",), ("x",)), (("x", "y"), ("y",))]),
        required=tuple(rng.sample(names, 1)) if rng.random() < 0.1 else (),
        excluded=tuple(rng.sample(names, 1)) if rng.random() < 0.1 else (),
    )


def crowded_request(rng: random.Random) -> Request:
    """A request that most nodes could serve, so that many jobs compete for the same holes."""
    low, packed = rng.choice([1, 1, 2, 3]), rng.choice([0, 0, 3, 4])
    return Request(
        partitions=("p",),
        cpu_per_task=rng.choice([1000, 2000, 3000]) if not packed else 1000,
        gres_per_node=(("gpu", "", rng.randint(1, 2)),) if rng.random() < 0.3 else (),
        ntasks=packed,
        min_nodes=0 if packed else low,
        max_nodes=2 if packed else 0,
        alternatives=(("x",), ("y",)) if rng.random() < 0.3 else (),
    )


class Cluster:
    """A small random cluster, told to the tables and to the oracle, that lives for some passes."""

    def __init__(self, seed: int, jobs: int = 12, crowded: bool = False) -> None:
        self.crowded = crowded
        self.rng = rng = random.Random(seed)
        self.now = NOW
        self.tables = Tables()
        self.twins: dict[str, oracle.Node] = {}
        self.jobs: dict[int, oracle.Job] = {}
        self.running: dict[int, list[oracle.Held]] = {}
        self.holding: dict[int, tuple[tuple[str, int], ...]] = {}
        self.limits = {
            "u": Limit(bounds={"jobs": rng.randint(1, 4), "cpu": rng.randint(3, 9) * 1000})
        }
        bounds = self.limits["u"].bounds
        self.tables.limits.set("u", jobs=bounds["jobs"], cpu=bounds["cpu"])
        self.timed = rng.random() < 0.3
        self.next_id = 100
        for i in range(rng.randint(2, 3) if crowded else rng.randint(1, 4)):
            self.add_node(f"n{i}")
        self.requests = [random_request(rng, [*self.twins, "ghost"])]
        if crowded:
            self.requests = [crowded_request(rng) for _ in range(rng.randint(2, 5))]
        while not crowded and len(self.requests) < 5:  # most of them some that could run
            request = random_request(rng, list(self.twins))
            if feasible(self.tables.nodes, request)[0] > 0 or rng.random() < 0.05:
                self.requests.append(request)
        self.total: dict[str, int] = {}
        if rng.random() < 0.4:
            self.license_some()
        for _ in range(rng.randint(0, 5)):
            self.run_something()
        for _ in range(rng.randint(1, jobs)):
            self.add_job()

    def add_node(self, name: str) -> None:
        rng = self.rng
        cpu, memory, gres = rng.choice([2000, 4000]), 60, random_gres(rng, 3, 0.5)
        parts = tuple(rng.sample(["p", "q"], rng.choice([1, 2, 2])))
        if self.crowded:
            cpu, parts, gres = 4000, ("p",), (("gpu", "a", 1), ("gpu", "b", rng.randint(1, 2)))
        feats = tuple(f for f in ("x", "y") if rng.random() < 0.6)
        usable, weight = self.crowded or rng.random() < 0.9, rng.choice([1, 1, 2])
        settings_ = {"partitions": parts, "features": feats, "usable": usable, "weight": weight}
        row = self.tables.nodes.set(name, cpu=cpu, memory=memory, gres=gres, **settings_)
        amounts = oracle.vector(cpu, memory, gres)
        # Types of equal width are taken in the order in which the tables first heard of them.
        dims = [self.tables.dims.name(r) for r in range(len(self.tables.dims))]
        amounts = {key: amounts[key] for key in dims if key in amounts}
        twin = oracle.Node(row, amounts, frozenset(parts), frozenset(feats), usable, weight, {})
        twin.free = dict(amounts)
        self.twins[name] = twin

    def license_some(self) -> None:
        """Let most requests ask for licences, now and then for more than there are."""
        rng = self.rng
        for i, request in enumerate(self.requests):
            names = rng.sample(["m", "s"], rng.choice([0, 1, 1, 2]))
            wanted = tuple((name, rng.randint(1, 2)) for name in names)
            self.requests[i] = replace(request, licences=wanted)
        self.total = {"m": rng.randint(1, 5), "s": rng.randint(1, 3)}
        for name, total in self.total.items():
            self.tables.licences.set(name, total + 1, elsewhere=1)

    def booked(self) -> Licences:
        """What running jobs hold, for the twin."""
        out = Licences(dict(self.total))
        for job_id, wanted in self.holding.items():
            end = self.running[job_id][0].end
            out.book(wanted, 0, max(end, self.now + 1))
        return out

    def run_something(self) -> None:
        """Let an unconstrained pass of the oracle place a job that then runs."""
        twins = {n: t for n, t in self.twins.items() if t.usable}
        job = oracle.Job(self.next_id, self.rng.choice(self.requests), 10, 0)
        single = oracle.Pass(twins, [], 0, fifo=True, licences=Licences({"m": 9, "s": 9}))
        if single.start(job):
            rows = [(name, amounts) for name, _, amounts in single.out.starts[0].rows]
            end = self.now + self.rng.choice([-5, 0, 1, 5, 10, 20])
            self.begin(self.next_id, end, rows, job.request.licences)
            self.next_id += 1

    def begin(
        self,
        job_id: int,
        end: int,
        rows: list[tuple[str, dict[str, int]]],
        licences: tuple[tuple[str, int], ...],
    ) -> None:
        dims = self.tables.dims
        where = [self.tables.nodes.names.find(name) for name, _ in rows]
        vectors = [[a.get(dims.name(r), 0) for r in range(len(dims))] for _, a in rows]
        self.tables.running.add(job_id, end, where, vectors, licences)
        self.holding[job_id] = licences
        self.running[job_id] = [oracle.Held(name, end, amounts) for name, amounts in rows]

    def end(self, job_id: int) -> None:
        self.tables.running.remove(job_id)
        del self.holding[job_id]
        for held in self.running.pop(job_id):
            for key, amount in held.amounts.items():
                self.twins[held.node].free[key] += amount

    def add_job(self, priority: int | None = None) -> None:
        rng = self.rng
        job = oracle.Job(
            self.next_id,
            rng.choice(self.requests),
            duration=rng.choice([5, 9, 10, 11, 20]),
            submit=self.next_id,
            priority=rng.choice([0, 0, 0, 1]) if priority is None else priority,
            begin=0 if self.crowded else rng.choice([0] * 12 + [NOW + 5]),
            gate=0 if self.crowded else rng.choice([0] * 12 + [VerdictCode.DEPENDENCY]),
            count=1 if self.crowded else rng.choice([1, 1, 1, 1, 3, 0]),
            limit="u" if not self.crowded and rng.random() < 0.25 else "",
        )
        if self.timed and rng.random() < 0.5:
            job.deadline = self.now + rng.randint(4, 60)
        if self.timed and rng.random() < 0.6:
            job.time_min = rng.randint(1, job.duration + 1)
        self.next_id += 1
        self.jobs[job.job_id] = job
        shape = self.tables.shapes.intern(job.request)
        named = ("priority", "begin", "gate", "count", "deadline", "time_min")
        rest = {key: getattr(job, key) for key in named}
        rest["limit"] = self.tables.limits.names.find(job.limit)
        self.tables.jobs.add(job.job_id, shape, duration=job.duration, submit=job.submit, **rest)

    def advance(self, made: Plan, disturb: bool) -> None:
        """Carry out the starts, then go on to the next instant at which something happens."""
        rng = self.rng
        for i, job_id in enumerate(made.start_job.tolist()):
            rows = [(name, amounts) for name, _, amounts in self.rows(made, "start", i)]
            job = self.jobs[job_id]
            for name, amounts in rows:
                for key, amount in amounts.items():
                    self.twins[name].free[key] -= amount
            self.next_id += 1
            end = self.now + int(made.start_limit[i])
            self.begin(self.next_id, end, rows, job.request.licences)
            job.count -= 1
            self.tables.jobs.update(job_id, count=job.count)
        for job_id in [job_id for job_id, job in self.jobs.items() if job.count == 0]:
            del self.jobs[job_id]
            self.tables.jobs.remove(job_id)
        ends = [some[0].end for some in self.running.values()]
        starts = made.head_start.tolist()
        self.now = max(min([*ends, *starts, self.now + 9]), self.now + 1)
        if rng.random() < 0.5 and self.running:
            self.end(rng.choice(list(self.running)))
        for job_id, some in list(self.running.items()):
            if some[0].end <= self.now and not (disturb and rng.random() < 0.2):
                self.end(job_id)
        if disturb:
            for _ in range(rng.choice([0, 0, 1, 2])):
                self.add_job()
            if rng.random() < 0.15:
                name = rng.choice(list(self.twins))
                self.twins[name].usable = not self.twins[name].usable
                self.tables.nodes.set_usable(name, self.twins[name].usable)
            if self.total and rng.random() < 0.15:
                self.total["m"] = rng.randint(0, 5)
                self.tables.licences.set("m", self.total["m"])

    def plan(self, bounds: Bounds, last: Promises | None = None, replan: bool = False) -> Plan:
        kind = PolicyKind.CONSERVATIVE_REPLAN if replan else PolicyKind.CONSERVATIVE
        policy = Policy(
            kind=kind, depth=bounds.depth, window=bounds.window, resolution=bounds.resolution
        )
        t = self.tables
        return plan(t.nodes, t.shapes, t.jobs, t.running, policy, self.now, promises=last)

    def oracle(self, bounds: Bounds, last: Last | None = None) -> Conservative:
        twins = {
            name: oracle.Node(**{**vars(twin), "free": dict(twin.free)})
            for name, twin in self.twins.items()
        }
        held = [one for some in self.running.values() for one in some]
        limits = {"u": Limit(bounds=self.limits["u"].bounds)}
        twin = Conservative(twins, held, self.now, bounds, last, limits, self.booked())
        return twin.run(list(self.jobs.values()))

    def rows(self, made: Plan, ptr: str, i: int) -> list[tuple[str, int, dict[str, int]]]:
        """Rows of start or promise `i` with names."""
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

    def equal(self, made: Plan, twin: Conservative) -> None:
        """Start by start and promise by promise."""
        parts = self.tables.nodes.partition_names
        starts = [
            oracle.Start(job, parts.text(part), self.rows(made, "start", i), limit)
            for i, (job, part, limit) in enumerate(
                np.column_stack((made.start_job, made.start_partition, made.start_limit)).tolist()
            )
        ]
        assert starts == twin.starts
        heads = {}
        for i, job in enumerate(made.head_job.tolist()):
            part = parts.text(int(made.head_partition[i]))
            heads[job] = (int(made.head_start[i]), part, self.rows(made, "head", i))
        assert heads == {job: (p.start, p.partition, p.rows) for job, p in twin.promises.items()}
        for i, job in enumerate(made.job.tolist()):
            assert VerdictCode(int(made.code[i])) == twin.code[job]
            if twin.code[job] == VerdictCode.LICENSES:
                name = self.tables.licences.names.text(int(made.short[i]))
                assert name in twin.over_by[job]
            if job in twin.planned:
                assert made.planned[i] == twin.planned[job]
            assert MoveCause(int(made.moved_cause[i])) == twin.cause.get(job, MoveCause.KEPT)

    def sound(self, made: Plan) -> None:
        """Nothing is oversubscribed at any instant, and every gang is whole."""
        dims = self.tables.dims
        taken: list[tuple[str, int, int, dict[str, int]]] = []
        for some in self.running.values():
            taken += [(h.node, self.now, max(h.end, self.now + 1), h.amounts) for h in some]
        started = list(zip(made.start_job.tolist(), made.start_limit.tolist(), strict=True))
        gangs = [(j, self.now, limit, "start", i) for i, (j, limit) in enumerate(started)]
        for i, (j, start) in enumerate(zip(made.head_job.tolist(), made.head_start, strict=True)):
            gangs.append((j, int(start), self.jobs[j].duration, "head", i))
        for job_id, start, length, ptr, i in gangs:
            job, rows = self.jobs[job_id], self.rows(made, ptr, i)
            assert job.least <= length <= job.duration
            assert start + length <= job.deadline
            assert job.request.nodes_low <= len({name for name, _, _ in rows}) == len(rows)
            assert len(rows) <= job.request.nodes_high
            assert not job.request.ntasks or sum(t for _, t, _ in rows) == job.request.ntasks
            assert set(job.request.required) <= {name for name, _, _ in rows}
            taken += [(name, start, start + length, amounts) for name, _, amounts in rows]
        booked = self.booked()
        spans = [(self.jobs[j].request.licences, t, t + length) for j, t, length, _, _ in gangs]
        for span in spans:
            booked.book(*span)
        assert not any(booked.overbooked(*span) for span in spans)
        for name, twin in self.twins.items():
            mine = [t for t in taken if t[0] == name]
            for _, instant, _, _ in mine:
                used = dict.fromkeys((dims.name(r) for r in range(len(dims))), 0)
                for _, start, end, amounts in mine:
                    if start <= instant < end:
                        for key, amount in amounts.items():
                            used[key] += amount
                assert all(used[key] <= twin.capacity.get(key, 0) for key in used)


BOUNDS = st.builds(
    Bounds,
    depth=st.sampled_from([0, 3, 100, 100, 100]),
    window=st.sampled_from([1 << 39, 1 << 39, 30, 10]),
    resolution=st.sampled_from([1, 1, 1, 7]),
)


@given(seed=SEEDS, bounds=BOUNDS, crowded=st.booleans())
@settings(deadline=None, max_examples=2 * EXAMPLES)
def test_replanning_equals_its_oracle_job_by_job(seed: int, bounds: Bounds, crowded: bool) -> None:
    cluster = Cluster(seed, jobs=18, crowded=crowded)
    made = cluster.plan(bounds, replan=True)
    cluster.equal(made, cluster.oracle(bounds))
    cluster.sound(made)


@example(3628799, Bounds(3, 1 << 39, 1), 2, False)  # over a limit, with a promise that stays
@given(seed=SEEDS, bounds=BOUNDS, passes=st.integers(2, 6), crowded=st.booleans())
@settings(deadline=None, max_examples=2 * EXAMPLES)
def test_compressing_equals_its_oracle_pass_by_pass(
    seed: int, bounds: Bounds, passes: int, crowded: bool
) -> None:
    """Jobs end early or late, come and go, some ahead of others, nodes are lost and come back."""
    cluster = Cluster(seed, jobs=14 if crowded else 8, crowded=crowded)
    last, twin_last = None, None
    for _ in range(passes):
        made = cluster.plan(bounds, last)
        twin = cluster.oracle(bounds, twin_last)
        cluster.equal(made, twin)
        cluster.sound(made)
        freed = cluster.rng.random() < 0.7
        last, twin_last = replace(Promises.of(made), freed=freed), twin.result(freed)
        cluster.advance(made, disturb=True)


@given(seed=SEEDS, bounds=BOUNDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_promises_are_never_later_if_jobs_only_end_early(seed: int, bounds: Bounds) -> None:
    cluster = Cluster(seed, jobs=8)
    last, promised = None, dict[int, int]()
    for _ in range(8):
        made = cluster.plan(bounds, last)
        cluster.sound(made)
        planned = dict(zip(made.job.tolist(), made.planned.tolist(), strict=True))
        placed = dict(zip(made.job.tolist(), made.placed.tolist(), strict=True))
        for job, start in promised.items():
            over = (
                made.code[made.job.tolist().index(job)] == VerdictCode.LIMIT
                if job in planned
                else 0
            )
            if (
                job in planned and not placed[job] and not over
            ):  # of an array the next task is promised next
                assert 0 <= planned[job] <= max(start, cluster.now)
        late = [start for start in made.head_start.tolist() if start < cluster.now]
        assert not late
        assert not made.moved_cause.any()
        promised = dict(zip(made.head_job.tolist(), made.head_start.tolist(), strict=True))
        last = Promises.of(made)
        cluster.advance(made, disturb=False)


def test_the_same_holds_without_compiling() -> None:
    """The kernels are plain Python too: what the oracle tests cover is what runs."""
    if "NUMBA_DISABLE_JIT" in os.environ:
        return
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "SCHED_EXAMPLES": "25"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [str(Path(__file__)), "-k", "equals_its_oracle"]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
