"""Passes that heed switches equal their oracle; nobody waits for switches longer than he asked."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle, oracle_topology
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.switches import TopologyTable
from sched_core.tables import Request, Tables

EXAMPLES = 30 if "NUMBA_DISABLE_JIT" in os.environ else 120
SEEDS = st.integers(0, 2**32)
NOW = 1000
PARENTS = {"s0": "c", "s1": "c", "s2": "", "c": ""}
KINDS = st.sampled_from([PolicyKind.FIFO, PolicyKind.EASY])
CONSERVATIVE = st.sampled_from([PolicyKind.CONSERVATIVE, PolicyKind.CONSERVATIVE_REPLAN])


class Situation:
    """Nodes below three leaf switches or none, some in use, told to the tables and the oracle."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.tables = Tables()
        self.topology = TopologyTable(self.tables.nodes)
        for switch, parent in PARENTS.items():
            self.topology.set(switch, parent)
        self.twins: dict[str, oracle.Node] = {}
        self.leaves: dict[str, str] = {}
        self.held: list[oracle.Held] = []
        self.jobs: list[oracle.Job] = []
        for i in range(rng.randint(2, 8)):
            self._add_node(rng, f"n{i}")
        requests = [self._request(rng) for _ in range(4)]
        for job_id in range(rng.randint(1, 9)):
            self.submit(oracle.Job(job_id, rng.choice(requests), rng.choice([5, 10, 20]), job_id))

    def submit(self, job: oracle.Job, eligible: int = -1) -> None:
        self.jobs.append(job)
        shape = self.tables.shapes.intern(job.request)
        self.tables.jobs.add(
            job.job_id, shape, duration=job.duration, submit=job.submit, eligible=eligible
        )

    def _add_node(self, rng: random.Random, name: str) -> None:
        leaf, parts = rng.choice(["s0", "s1", "s2", ""]), rng.choice([("p",), ("p", "q")])
        cpu = rng.choice([2000, 3000])
        feats = tuple(name for name in "xy" if rng.random() < 0.7)
        row = self.tables.nodes.set(
            name, cpu=cpu, memory=0, partitions=parts, features=feats, switch=leaf
        )
        self.leaves[name] = leaf or "-"
        amounts = {"cpu": cpu, "memory": 0}
        self.twins[name] = oracle.Node(
            row, amounts, frozenset(parts), frozenset(feats), True, 1, dict(amounts)
        )
        if rng.random() < 0.6:
            end, taken = NOW + rng.choice([3, 8, 15]), rng.choice([1000, 2000])
            self.tables.running.add(1000 + row, end, [row], [[taken, 0]])
            self.held.append(oracle.Held(name, end, {"cpu": taken}))
            self.twins[name].free["cpu"] -= taken

    @staticmethod
    def _request(rng: random.Random) -> Request:
        ntasks = rng.choice([0, 0, 0, 3, 4])
        return Request(
            partitions=rng.choice([("p",), ("p", "q"), ("q",)]),
            cpu_per_task=rng.choice([1000, 2000]),
            ntasks=ntasks,
            min_nodes=rng.choice([1, 2, 2, 3, 4]),
            max_nodes=rng.choice([0, 4]),
            switches=rng.choice([0, 1, 1, 2]),
            alternatives=rng.choice([(), (), (("x",), ("y",))]),
            required=("n0",) if rng.random() < 0.1 else (),
        )

    def plan(self, kind: PolicyKind, fewest: bool, now: int = NOW) -> Plan:
        t = self.tables
        policy = Policy(kind, fewest_switches=fewest)
        return plan(t.nodes, t.shapes, t.jobs, t.running, policy, now, topology=self.topology)

    def span(self, rows: list[int]) -> int:
        """Leaf switches of some nodes."""
        return len({self.leaves[self.tables.nodes.names.text(row)] for row in rows})


@given(seed=SEEDS, kind=KINDS, fewest=st.booleans())
@settings(deadline=None, max_examples=EXAMPLES)
def test_a_pass_equals_its_oracle(seed: int, kind: PolicyKind, fewest: bool) -> None:
    situation = Situation(seed)
    made = situation.plan(kind, fewest)
    fifo = kind == PolicyKind.FIFO
    twin = oracle_topology.NearPass(
        situation.twins, situation.held, NOW, fifo, PARENTS, situation.leaves, fewest
    )
    twin.run(situation.jobs)
    names = situation.tables.nodes.names
    starts = [
        (
            int(made.start_job[i]),
            [
                (names.text(int(made.node[k])), int(made.tasks[k]))
                for k in range(int(made.start_ptr[i]), int(made.start_ptr[i + 1]))
            ],
        )
        for i in range(made.starts)
    ]
    assert starts == [(s.job_id, [(n, t) for n, t, _ in s.rows]) for s in twin.out.starts]
    assert list(zip(made.head_job.tolist(), made.head_start.tolist(), strict=True)) == [
        (head[0], head[2]) for head in twin.out.heads
    ]
    for i, job_id in enumerate(made.job.tolist()):
        assert int(made.code[i]) == twin.out.code[job_id]


@given(seed=SEEDS, kind=CONSERVATIVE, fewest=st.booleans())
@settings(deadline=None, max_examples=EXAMPLES // 2)
def test_starts_and_promises_keep_to_the_switches_asked_for(
    seed: int, kind: PolicyKind, fewest: bool
) -> None:
    situation = Situation(seed)
    made = situation.plan(kind, fewest)
    bounds = {job.job_id: job.request for job in situation.jobs}
    for jobs, ptr, node in (
        (made.start_job, made.start_ptr, made.node),
        (made.head_job, made.head_ptr, made.head_node),
    ):
        for i, job_id in enumerate(jobs.tolist()):
            request = bounds[job_id]
            rows = node[int(ptr[i]) : int(ptr[i + 1])].tolist()
            if request.switches and not request.required:
                assert situation.span(rows) <= request.switches


def two_leaves() -> Situation:
    """One idle node on each of two leaves; a gang of two that would have one leaf for 60 s."""
    situation = Situation.__new__(Situation)
    situation.tables = Tables()
    situation.topology = TopologyTable(situation.tables.nodes)
    situation.leaves, situation.jobs = {}, []
    for name, leaf in (("a", "x"), ("b", "x"), ("c", "y")):
        situation.leaves[name] = leaf
        situation.tables.nodes.set(name, cpu=1000, memory=0, partitions=("p",), switch=leaf)
    situation.tables.running.add(100, NOW + 500, [0], [[1000, 0]])
    request = Request(partitions=("p",), cpu_per_task=1000, min_nodes=2, switches=1, switch_wait=60)
    situation.submit(oracle.Job(1, request, 50, 1), eligible=NOW)
    return situation


@pytest.mark.parametrize("kind", [*PolicyKind])
def test_patience_ends(kind: PolicyKind) -> None:
    situation = two_leaves()
    made = situation.plan(kind, False)
    assert (made.starts, made.planned[0]) == (0, NOW + 500)
    made = situation.plan(kind, False, NOW + 59)
    assert made.starts == 0
    made = situation.plan(kind, False, NOW + 60)
    assert sorted(made.node.tolist()) == [1, 2]
    situation.tables.running.remove(100)
    assert sorted(situation.plan(kind, False).node.tolist()) == [0, 1]
    t = situation.tables
    t.jobs.remove(1)
    assert t.shapes.content() == {}
    with pytest.raises(ValueError, match="negative"):
        Request(partitions=("p",), cpu_per_task=1, switch_wait=-1)


@pytest.mark.parametrize("kind", [*PolicyKind])
def test_without_a_topology_table_nothing_is_asked_of_switches(kind: PolicyKind) -> None:
    t = two_leaves().tables
    made = plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind, fewest_switches=True), NOW)
    assert made.starts == 1
