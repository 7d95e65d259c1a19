"""Passes beside reservations against their slow twin, and what must hold of every one of them."""

from __future__ import annotations

import os
import random

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

EXAMPLES = int(os.environ.get("SCHED_EXAMPLES", "80"))
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
        self.held: list[oracle.Held] = []
        self.jobs: list[oracle.Job] = []
        self.wishes: dict[int, str] = {}
        self.limits = {"u": Limit(bounds={"jobs": rng.randint(1, 4)})}
        self.tables.limits.set("u", jobs=self.limits["u"].bounds["jobs"])
        for i in range(rng.randint(3, 5)):
            self.add_node(f"n{i}")
        self.requests = [random_request(rng, list(self.twins)) for _ in range(4)]
        for i in range(rng.randint(1, 3)):
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
        feats = ("x",) if rng.random() < 0.7 else ()
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
        start = NOW + rng.choice([*early, *early, -5, 5, 10, 20])
        end = max(start + rng.choice([10, 30, 60]), NOW + rng.choice([4, 9, 20]))
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
            out.append(Reserved(one.of.name, kept, list(one.instances), one.of.maintenance))
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
            end = NOW + rng.choice([-5, 1, 5, 10, 20, 40])
            rows = [(name.split("\0")[0], amounts) for name, _, amounts in start.rows]
            where = [self.tables.nodes.names.find(name) for name, _ in rows]
            name = wishes.get(job_id, "")
            vectors = [self.vector(amounts) for _, amounts in rows]
            self.tables.running.add(job_id, end, where, vectors, name)
            self.held += [Member(node, end, amounts, name) for node, amounts in rows]

    def add_job(self, job_id: int) -> None:
        rng = self.rng
        job = oracle.Job(
            job_id,
            rng.choice(self.requests),
            duration=rng.choice([4, 4, 5, 9, 10, 11, 20, 50]),
            submit=rng.randint(0, 5),
            priority=rng.choice([0, 0, 1]),
            begin=rng.choice([0] * 9 + [NOW + 5]),
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

    def twin(
        self, bounds: Bounds, last: Last | None, guard: list[Reserved], wishes: dict[int, str]
    ) -> Guarded:
        twins = {
            name: oracle.Node(**{**vars(twin), "free": dict(twin.free)})
            for name, twin in self.twins.items()
        }
        limits = {"u": Limit(bounds=self.limits["u"].bounds)}
        return Guarded(twins, list(self.held), self.now, bounds, last, limits, guard, wishes)

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
            if job in twin.planned:
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
