"""Passes beside reservations against their slow twin, and what must hold of every one of them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle
from sched_core.codes import VerdictCode
from sched_core.oracle_conservative import Bounds, Last
from sched_core.oracle_limits import Limit
from sched_core.oracle_reservations import Guarded, Member, Reserved
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.reservations import Acl, Principal, Reservation
from sched_core.tables import Request, Tables

EXAMPLES = int(os.environ.get("SCHED_EXAMPLES", "30"))
SEEDS = st.integers(0, 2**32)
NOW = 1000
ANN, BOB = Principal("ann", "physics"), Principal("bob", "arts")


def random_request(rng: random.Random, names: list[str]) -> Request:
    low = rng.choice([0, 0, 0, 1, 2])
    gres = (("gpu", rng.choice(["a", "b", ""]), rng.randint(1, 2)),)
    return Request(
        partitions=tuple(rng.sample(["p", "q"], rng.choice([1, 1, 2]))),
        cpu_per_task=rng.choice([1000, 1000, 1000, 2000]),
        memory_per_node=rng.choice([0, 0, 30]),
        gres_per_node=gres if rng.random() < 0.3 else (),
        ntasks=rng.choice([0, 0, 0, 2, 4]),
        min_nodes=low,
        max_nodes=rng.choice([0, low + 1]) if low else 0,
        exclusive=rng.random() < 0.15,
        features=(("x",),) if rng.random() < 0.15 else (),
        alternatives=(("x",), ("y",)) if rng.random() < 0.25 else (),
        required=tuple(rng.sample(names, 1)) if rng.random() < 0.1 else (),
        excluded=tuple(rng.sample(names, 1)) if rng.random() < 0.1 else (),
    )


class Site:
    """A small random cluster with reservations, told to the tables and to the oracle."""

    def __init__(self, seed: int, jobs: int = 14) -> None:
        self.rng = rng = random.Random(seed)
        self.now = NOW
        self.tables = Tables()
        self.twins: dict[str, oracle.Node] = {}
        self.running: dict[int, list[Member]] = {}
        self.next_id = 500
        self.jobs: list[oracle.Job] = []
        self.wishes: dict[int, str] = {}
        self.limits = {"u": Limit(bounds={"jobs": rng.randint(1, 4)})}
        self.tables.limits.set("u", jobs=self.limits["u"].bounds["jobs"])
        for i in range(rng.randint(3, 5)):
            self.add_node(f"n{i}")
        self.requests = [random_request(rng, list(self.twins)) for _ in range(4)]
        while "r0" not in self.tables.reservations:
            self.reserve("r0")
        for i in range(1, rng.randint(1, 3)):
            self.reserve(f"r{i}")
        for job_id in range(rng.randint(0, 4)):
            self.run_something(job_id)
        for job_id in range(100, 100 + rng.randint(1, jobs)):
            self.add_job(job_id)

    def add_node(self, name: str) -> None:
        rng = self.rng
        cpu = rng.choice([2000, 4000])
        gres = (("gpu", "a", rng.randint(1, 2)), ("gpu", "b", 1)) if rng.random() < 0.5 else ()
        parts = tuple(rng.sample(["p", "q"], rng.choice([1, 2, 2])))
        feats = tuple(name for name in "xy" if rng.random() < 0.6)
        weight, usable = rng.choice([1, 1, 2]), rng.random() < 0.92
        row = self.tables.nodes.set(
            name,
            cpu=cpu,
            memory=60,
            gres=gres,
            partitions=parts,
            features=feats,
            weight=weight,
            usable=usable,
        )
        amounts = self.named(oracle.vector(cpu, 60, gres))
        twin = oracle.Node(row, amounts, frozenset(parts), frozenset(feats), usable, weight, {})
        twin.free = dict(amounts)
        self.twins[name] = twin

    def named(self, amounts: dict[str, int]) -> dict[str, int]:
        """Amounts in the order of the tables' dimensions, which decides between equal types."""
        dims = [self.tables.dims.name(r) for r in range(len(self.tables.dims))]
        return {key: amounts[key] for key in dims if key in amounts}

    def vector(self, amounts: dict[str, int]) -> list[int]:
        dims = self.tables.dims
        return [amounts.get(dims.name(r), 0) for r in range(len(dims))]

    def reserve(self, name: str) -> None:
        rng = self.rng
        early = [-20, -5, 0] if name == "r0" else []
        start = self.now + rng.choice([*early, *early, -5, 5, 10, 20])
        end = max(start + rng.choice([10, 30, 60]), self.now + rng.choice([4, 9, 20]))
        nodes = tuple(rng.sample(list(self.twins), rng.randint(1, len(self.twins))))
        kind = rng.choice(["whole", "part", "part", "maintenance"])
        kind = rng.choice(["whole", "part"]) if name == "r0" else kind
        acl = Acl(users=frozenset({"ann"}))
        part, gres = kind == "part", (("gpu", rng.choice(["", "a"]), 1),)
        try:
            one = Reservation(
                name,
                start,
                end,
                nodes,
                acl,
                cpu=1000 * rng.randint(1, 3) * part,
                memory=30 * part,
                gres=gres if part and rng.random() < 0.4 else (),
                maintenance=kind == "maintenance",
                overlap=kind != "maintenance" and rng.random() < 0.3,
                overrun=kind != "maintenance" and rng.random() < 0.3,
            )
            self.tables.reservations.set(one)
        except ValueError:
            return  # there is not enough for it

    def reserved(self) -> list[Reserved]:
        """What is kept, as the table says."""
        dims, names = self.tables.dims, self.tables.nodes.names
        out = []
        for one in self.tables.reservations.kept(self.now):
            kept = {}
            for node, amount in zip(one.node.tolist(), one.amount.tolist(), strict=True):
                capacity = self.twins[names.text(node)].capacity
                kept[names.text(node)] = {
                    dims.name(r): amount[r] for r in range(len(dims)) if dims.name(r) in capacity
                }
            flags = (one.of.maintenance, one.of.overlap, one.of.overrun)
            out.append(Reserved(one.of.name, kept, list(one.instances), *flags))
        return out

    def run_something(self, job_id: int) -> None:
        """A job that runs: anywhere, or within a reservation that is on."""
        rng = self.rng
        wishes, kept = {}, [r for r in self.reserved() if not r.maintenance]
        if kept and rng.random() < 0.5:
            wishes[job_id] = rng.choice(kept).name
        job = oracle.Job(job_id, rng.choice(self.requests), rng.choice([5, 10]), job_id)
        guard = self.reserved() if wishes else []
        twin = self.twin(Bounds(), None, guard, wishes)
        twin.run_guarded([job], "fifo")
        for start in twin.starts:
            rows = [(name.split("\0")[0], tasks, amounts) for name, tasks, amounts in start.rows]
            end = NOW + rng.choice([-5, 1, 5, 10, 20, 40])
            self.run(end, rows, wishes.get(job_id, ""))

    def add_job(self, job_id: int) -> None:
        rng = self.rng
        job = oracle.Job(
            job_id,
            rng.choice(self.requests),
            duration=rng.choice([4, 4, 5, 9, 10, 11, 20, 50]),
            submit=rng.randint(0, 5),
            priority=rng.choice([0, 0, 1]),
            begin=rng.choice([0] * 9 + [self.now + 5]),
            gate=rng.choice([0] * 9 + [int(VerdictCode.DEPENDENCY)]),
            count=rng.choice([1, 1, 1, 1, 1, 3, 0]),
            limit=rng.choice(["", "", "u"]),
        )
        self.jobs.append(job)
        shape = self.tables.shapes.intern(job.request)
        rest = {key: getattr(job, key) for key in ("priority", "begin", "gate", "count", "submit")}
        limit = self.tables.limits.names.find(job.limit)
        self.tables.jobs.add(job_id, shape, duration=job.duration, limit=limit, **rest)
        known = [one.name for one in self.reserved() if not one.maintenance]
        if rng.random() < 0.5:
            name, who = (
                rng.choice([*known, *known, *known, "r0", "r9"]),
                rng.choice([ANN] * 9 + [BOB]),
            )
            self.tables.reservations.want(job_id, name, who)
            self.wishes[job_id] = name if who is ANN else "none"

    def advance(self, made: Plan) -> None:
        """Carry out the starts, end what is over and perhaps something else, go on in time."""
        rng, tables = self.rng, self.tables
        by_id = {job.job_id: job for job in self.jobs}
        for i, job_id in enumerate(made.start_job.tolist()):
            job, name = by_id[job_id], self.wishes.get(job_id, "")
            self.run(self.now + job.duration, self.rows(made, "start", i), name)
            job.count -= 1
            tables.jobs.update(job_id, count=job.count)
        for job in [job for job in self.jobs if job.count == 0]:
            self.jobs.remove(job)
            tables.jobs.remove(job.job_id)
            self.wishes.pop(job.job_id, None)
        self.now += rng.choice([1, 4, 5, 10])
        for job_id, some in list(self.running.items()):
            if some[0].end <= self.now or rng.random() < 0.2:
                tables.running.remove(job_id)
                for held in self.running.pop(job_id):
                    for key, amount in held.amounts.items():
                        self.twins[held.node].free[key] += amount
        if rng.random() < 0.3:
            name = rng.choice(["r1", "r2"])
            if name in tables.reservations:
                tables.reservations.remove(name)
            else:
                self.reserve(name)
        self.add_job(self.next_id)
        self.next_id += 1

    def run(self, end: int, rows: list[tuple[str, int, dict[str, int]]], reservation: str) -> None:
        """Let a job run, in a reservation or not."""
        where = [self.tables.nodes.names.find(name) for name, _, _ in rows]
        vectors = [self.vector(amounts) for _, _, amounts in rows]
        self.tables.running.add(self.next_id, end, where, vectors, reservation=reservation)
        self.running[self.next_id] = [Member(n, end, a, reservation) for n, _, a in rows]
        for name, _, amounts in rows:
            for key, amount in amounts.items():
                self.twins[name].free[key] -= amount
        self.next_id += 1

    def twin(
        self, bounds: Bounds, last: Last | None, guard: list[Reserved], wishes: dict[int, str]
    ) -> Guarded:
        twins = {
            name: oracle.Node(**{**vars(twin), "free": dict(twin.free)})
            for name, twin in self.twins.items()
        }
        held: list[oracle.Held] = [one for some in self.running.values() for one in some]
        limits = {"u": Limit(bounds=self.limits["u"].bounds)}
        return Guarded(twins, held, self.now, bounds, last, limits, guard, wishes)

    def oracle(self, kind: PolicyKind, bounds: Bounds, last: Last | None = None) -> Guarded:
        leads = {PolicyKind.FIFO: "fifo", PolicyKind.EASY: "easy"}.get(kind, "")
        twin = self.twin(bounds, last, self.reserved(), self.wishes)
        return twin.run_guarded(self.jobs, leads)

    def plan(self, kind: PolicyKind, bounds: Bounds, last: Promises | None = None) -> Plan:
        policy = Policy(
            kind, depth=bounds.depth, window=bounds.window, resolution=bounds.resolution
        )
        t = self.tables
        return plan(t.nodes, t.shapes, t.jobs, t.running, policy, self.now, promises=last)

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

    def equal(self, made: Plan, twin: Guarded) -> None:
        """Start by start, promise by promise, verdict by verdict."""
        parts = self.tables.nodes.partition_names

        def bare(rows: list[tuple[str, int, dict[str, int]]]) -> list[object]:
            return [(name.split("\0")[0], tasks, amounts) for name, tasks, amounts in rows]

        starts = [
            (int(job), parts.text(int(part)), self.rows(made, "start", i))
            for i, (job, part) in enumerate(zip(made.start_job, made.start_partition, strict=True))
        ]
        assert starts == [(s.job_id, s.partition.split("\0")[0], bare(s.rows)) for s in twin.starts]
        heads = {}
        for i, job in enumerate(made.head_job.tolist()):
            part = parts.text(int(made.head_partition[i]))
            heads[job] = (int(made.head_start[i]), part, self.rows(made, "head", i))
        assert heads == {
            job: (p.start, p.partition.split("\0")[0], bare(p.rows))
            for job, p in twin.promises.items()
        }
        for i, job in enumerate(made.job.tolist()):
            assert VerdictCode(int(made.code[i])) == twin.code[job]
            if job in twin.planned and twin.code[job] != VerdictCode.LIMIT:
                assert made.planned[i] == twin.planned[job]


BOUNDS = st.builds(
    Bounds,
    depth=st.sampled_from([3, 100, 100, 100]),
    window=st.sampled_from([1 << 39, 1 << 39, 30]),
    resolution=st.sampled_from([1, 1, 7]),
)
LEADING = st.sampled_from([PolicyKind.FIFO, PolicyKind.EASY])


@given(seed=SEEDS, kind=LEADING, depth=st.sampled_from([3, 100, 100]))
@settings(deadline=None, max_examples=2 * EXAMPLES)
def test_fifo_and_easy_equal_their_oracle(seed: int, kind: PolicyKind, depth: int) -> None:
    site = Site(seed)
    made = site.plan(kind, Bounds(depth=depth))
    site.equal(made, site.oracle(kind, Bounds(depth=depth)))


@given(seed=SEEDS, bounds=BOUNDS)
@settings(deadline=None, max_examples=2 * EXAMPLES)
def test_replanning_equals_its_oracle(seed: int, bounds: Bounds) -> None:
    site = Site(seed)
    made = site.plan(PolicyKind.CONSERVATIVE_REPLAN, bounds)
    site.equal(made, site.oracle(PolicyKind.CONSERVATIVE_REPLAN, bounds))


@given(seed=SEEDS, bounds=BOUNDS, passes=st.integers(2, 4))
@settings(deadline=None, max_examples=EXAMPLES)
def test_compressing_equals_its_oracle_pass_by_pass(seed: int, bounds: Bounds, passes: int) -> None:
    """Members and others start, end in time or early, and reservations come and go."""
    site = Site(seed, jobs=8)
    kind, last, twin_last = PolicyKind.CONSERVATIVE, None, None
    for _ in range(passes):
        made = site.plan(kind, bounds, last)
        twin = site.oracle(kind, bounds, twin_last)
        site.equal(made, twin)
        last, twin_last = Promises.of(made), twin.result()
        site.advance(made)


@given(seed=SEEDS, kind=st.sampled_from(list(PolicyKind)))
@settings(deadline=None, max_examples=2 * EXAMPLES)
def test_nobody_crosses_an_edge_of_a_reservation(seed: int, kind: PolicyKind) -> None:
    """Others leave what is reserved; members keep to its nodes, amounts and times."""
    site = Site(seed)
    made = site.plan(kind, Bounds())
    jobs = {job.job_id: job for job in site.jobs}
    gangs = [(int(j), NOW, "start", i) for i, j in enumerate(made.start_job)]
    gangs += [(int(j), int(made.head_start[i]), "head", i) for i, j in enumerate(made.head_job)]
    taken: list[tuple[str, str, int, int, dict[str, int]]] = []
    for job_id, start, ptr, i in gangs:
        wish, end = site.wishes.get(job_id, ""), start + jobs[job_id].duration
        for name, _, amounts in site.rows(made, ptr, i):
            taken.append((wish, name, start, end, amounts))
    for one in site.reserved():
        for name, kept in one.kept.items():
            for start, end in one.instances:
                mine = [t for t in taken if t[1] == name and t[2] < end and start < t[3]]
                for wish, _, begin, stop, amounts in mine:
                    if wish == one.name:
                        assert start <= begin < end
                        assert stop <= end or one.overrun
                        assert all(amounts[key] <= kept[key] for key in amounts)
                    elif not wish:
                        left = {k: v - kept.get(k, 0) for k, v in site.twins[name].capacity.items()}
                        assert all(amounts[key] <= left[key] for key in amounts)
    by_name = {one.name: one for one in site.reserved()}
    for wish, name, start, end, _ in taken:
        if wish:
            assert name in by_name[wish].kept
            one = by_name[wish]
            assert any(s <= start < e and (end <= e or one.overrun) for s, e in one.instances)


@given(seed=SEEDS, kind=st.sampled_from(list(PolicyKind)))
@settings(deadline=None, max_examples=2 * EXAMPLES)
def test_nothing_is_oversubscribed_at_any_instant(seed: int, kind: PolicyKind) -> None:
    site = Site(seed)
    made = site.plan(kind, Bounds())
    jobs = {job.job_id: job for job in site.jobs}
    held = [one for some in site.running.values() for one in some]
    taken = [(h.node, NOW, max(h.end, NOW + 1), h.amounts) for h in held]
    for i, job_id in enumerate(made.start_job.tolist()):
        end = NOW + jobs[job_id].duration
        taken += [(name, NOW, end, amounts) for name, _, amounts in site.rows(made, "start", i)]
    for i, job_id in enumerate(made.head_job.tolist()):
        start, end = int(made.head_start[i]), int(made.head_start[i]) + jobs[job_id].duration
        taken += [(name, start, end, amounts) for name, _, amounts in site.rows(made, "head", i)]
    for name, twin in site.twins.items():
        for _, instant, _, _ in taken:
            left = dict(twin.capacity)
            for node, start, end, amounts in taken:
                if node == name and start <= instant < end:
                    left = {key: left[key] - amounts.get(key, 0) for key in left}
            assert min(left.values()) >= 0


@given(seed=SEEDS, kind=st.sampled_from(list(PolicyKind)))
@settings(deadline=None, max_examples=EXAMPLES)
def test_reservations_that_are_over_change_nothing(seed: int, kind: PolicyKind) -> None:
    site = Site(seed)
    for job_id in site.wishes:
        site.tables.reservations.forget(job_id)
    site.now = NOW + 1000
    made = site.plan(kind, Bounds())
    for name in ("r0", "r1", "r2"):
        if name in site.tables.reservations:
            site.tables.reservations.remove(name)
    without = site.plan(kind, Bounds())
    for column in fields(made):
        ours, theirs = getattr(made, column.name), getattr(without, column.name)
        assert np.array_equal(ours, theirs), column.name


def test_the_same_holds_without_compiling() -> None:
    """The kernels are plain Python too: what the oracle tests cover is what runs."""
    if "NUMBA_DISABLE_JIT" in os.environ:
        return
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "SCHED_EXAMPLES": "15"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [str(Path(__file__)), "-k", "equal"]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@given(seed=SEEDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_easy_beside_a_reservation_elsewhere_is_the_textbook_s(seed: int) -> None:
    """On one pool of equal processors, what another partition reserves changes no start."""
    rng = random.Random(seed)
    tables = Tables()
    for i in range(rng.randint(1, 8)):
        tables.nodes.set(f"n{i}", cpu=1000, memory=10, partitions=("p",))
    idle = tables.nodes.rows
    for job_id in range(rng.randint(0, 4)):
        width = rng.randint(1, max(idle, 1))
        if width > idle:
            break
        where = list(range(idle - width, idle))
        tables.running.add(job_id, NOW + rng.randint(-1, 30), where, [[1000]] * width)
        idle -= width
    tables.nodes.set("other", cpu=1000, memory=10, partitions=("q",))
    for job_id in range(100, 100 + rng.randint(1, 12)):
        width = rng.randint(1, tables.nodes.rows - 1)
        shape = tables.shapes.intern(Request(("p",), cpu_per_node=1000, min_nodes=width))
        tables.jobs.add(job_id, shape, duration=rng.randint(1, 30), submit=job_id)
    t, policy = tables, Policy(PolicyKind.EASY)
    without = plan(t.nodes, t.shapes, t.jobs, t.running, policy, NOW)
    t.reservations.set(Reservation("r", NOW + 1, NOW + 99, ("other",)))
    made = plan(t.nodes, t.shapes, t.jobs, t.running, policy, NOW)
    assert made.start_job.tolist() == without.start_job.tolist()
    assert made.head_start.tolist() == without.head_start.tolist()
    assert made.code.tolist() == without.code.tolist()
