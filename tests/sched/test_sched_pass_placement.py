"""Passes with a placement policy equal their oracle, start by start, and do what its name says."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle, oracle_placement
from sched_core.codes import Placement
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.tables import Request, Tables

EXAMPLES = 40 if "NUMBA_DISABLE_JIT" in os.environ else 150
SEEDS = st.integers(0, 2**32)
NOW = 1000
PARTS = ("p", "q")
KINDS = st.sampled_from([PolicyKind.FIFO, PolicyKind.EASY])


class Situation:
    """A random state of a few partly used nodes, told to the tables and to the oracle."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.tables = Tables()
        self.twins: dict[str, oracle.Node] = {}
        self.held: list[oracle.Held] = []
        self.jobs: list[oracle.Job] = []
        for kind in ("a", "b"):
            self.tables.dims.gres("gpu", kind)
        for i in range(rng.randint(2, 7)):
            self._add_node(rng, f"n{i}")
        requests = [self._request(rng) for _ in range(4)]
        for job_id in range(rng.randint(1, 12)):
            request = rng.choice(requests)
            duration = rng.choice([5, 10, 20])
            self.jobs.append(oracle.Job(job_id, request, duration, job_id))
            shape = self.tables.shapes.intern(request)
            self.tables.jobs.add(job_id, shape, duration=duration, submit=job_id)

    def _add_node(self, rng: random.Random, name: str) -> None:
        cpu, memory = rng.choice([4000, 8000]), rng.choice([60, 100])
        gres = rng.choice([(), (("gpu", "a", 4),), (("gpu", "a", 2), ("gpu", "b", 2))])
        parts, weight = rng.choice([("p",), ("q",), PARTS, PARTS]), rng.choice([1, 1, 1, 2])
        feats = tuple(name for name in "xy" if rng.random() < 0.7)
        row = self.tables.nodes.set(
            name,
            cpu=cpu,
            memory=memory,
            gres=gres,
            partitions=parts,
            features=feats,
            weight=weight,
        )
        amounts = oracle.vector(cpu, memory, gres)
        dims = [self.tables.dims.name(r) for r in range(len(self.tables.dims))]
        amounts = {key: amounts[key] for key in dims if key in amounts}
        twin = oracle.Node(row, amounts, frozenset(parts), frozenset(feats), True, weight, {})
        twin.free = dict(amounts)
        self.twins[name] = twin
        taken = {"cpu": rng.choice([0, 0, 1000, 3000]), "memory": rng.choice([0, 20])}
        if gres and rng.random() < 0.5:
            taken |= {"gres/gpu": 1, "gres/gpu:a": 1}
        if any(taken.values()):
            end = NOW + rng.choice([5, 8, 20])
            vector = [taken.get(key, 0) for key in dims]
            self.tables.running.add(1000 + row, end, [row], [vector])
            self.held.append(oracle.Held(name, end, taken))
            for key, amount in taken.items():
                twin.free[key] = twin.free.get(key, 0) - amount

    @staticmethod
    def _request(rng: random.Random) -> Request:
        gres = rng.choice([(), (("gpu", "a", 1),), (("gpu", "", 2),), (("gpu", "b", 2),)])
        return Request(
            partitions=rng.choice([("p",), ("q",), PARTS]),
            cpu_per_task=rng.choice([500, 1000, 2000]),
            memory_per_node=rng.choice([0, 10]),
            gres_per_node=gres,
            ntasks=rng.choice([0, 0, 0, 2, 5]),
            min_nodes=rng.choice([0, 0, 2]),
            exclusive=rng.random() < 0.1,
            alternatives=rng.choice([(), (), (("x",), ("y",))]),
            required=("n0",) if rng.random() < 0.1 else (),
            excluded=("n1",) if rng.random() < 0.1 else (),
        )

    def popular(self) -> list[tuple[Request, int]]:
        every = [job.request for job in self.jobs]
        some = {request for request in every if request.gres_per_node}
        return [(request, every.count(request)) for request in some]

    def oracle(self, kind: PolicyKind, placements: dict[str, Placement]) -> oracle.Pass:
        named = {part: own.name.lower() for part, own in placements.items()}
        twin = oracle_placement.PlacedPass(
            self.twins, self.held, NOW, kind == PolicyKind.FIFO, named, self.popular()
        )
        twin.run(self.jobs)
        return twin

    def plan(self, policy: Policy) -> Plan:
        t = self.tables
        return plan(t.nodes, t.shapes, t.jobs, t.running, policy, NOW)


@given(seed=SEEDS, kind=KINDS, first=st.sampled_from(Placement), second=st.sampled_from(Placement))
@settings(deadline=None, max_examples=EXAMPLES)
def test_a_pass_equals_its_oracle(
    seed: int, kind: PolicyKind, first: Placement, second: Placement
) -> None:
    situation = Situation(seed)
    made = situation.plan(Policy(kind, placement=first, placements=(("q", second), ("x", first))))
    twin = situation.oracle(kind, {"p": first, "q": second})
    names, parts = situation.tables.nodes.names, situation.tables.nodes.partition_names
    for i, start in enumerate(twin.out.starts):
        rows = slice(int(made.start_ptr[i]), int(made.start_ptr[i + 1]))
        gang = [
            (names.text(node), tasks, situation.tables.dims.named(amount.tolist()))
            for node, tasks, amount in zip(
                made.node[rows].tolist(), made.tasks[rows].tolist(), made.amount[rows], strict=True
            )
        ]
        part = parts.text(int(made.start_partition[i]))
        limit = int(made.start_limit[i])
        assert oracle.Start(int(made.start_job[i]), part, gang, limit) == start
    assert made.starts == len(twin.out.starts)
    for i, job_id in enumerate(made.job.tolist()):
        assert int(made.code[i]) == twin.out.code[job_id]


def devices(count: int, kind: str = "a") -> Request:
    some = (("gpu", kind, count),) if count else ()
    return Request(partitions=("p",), cpu_per_task=1000, gres_per_node=some)


def started_on(
    policy: Policy, requests: list[Request], nodes: dict[str, tuple[int, int]]
) -> list[str]:
    """Nodes (CPUs, GPUs) on which jobs start, in queue order."""
    tables = Tables()
    for name, (cpus, gpus) in nodes.items():
        gres = (("gpu", "a", gpus),) if gpus else ()
        tables.nodes.set(name, cpu=cpus * 1000, memory=0, gres=gres, partitions=("p",))
    for job_id, request in enumerate(requests):
        shape = tables.shapes.intern(request)
        tables.jobs.add(job_id, shape, duration=10, submit=job_id)
    made = plan(tables.nodes, tables.shapes, tables.jobs, tables.running, policy, NOW)
    return [tables.nodes.names.text(row) for row in made.node.tolist()]


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (Placement.WEIGHT, "aaaa"),
        (Placement.PACK, "aaaa"),
        (Placement.SPREAD, "abca"),
        (Placement.BEST_FIT, "bbcc"),
    ],
)
def test_what_the_names_say(placement: Placement, expected: str) -> None:
    nodes = {"a": (8, 0), "b": (2, 0), "c": (2, 0)}
    if placement == Placement.PACK:
        nodes = {"a": (4, 0), "b": (4, 0)}
    got = started_on(Policy(placement=placement), [devices(0)] * 4, nodes)
    assert "".join(got) == expected


def test_devices_are_left_where_those_that_wait_can_use_them() -> None:
    """One device for a small job: not from the node on which the large ones just fit."""
    nodes = {"a": (16, 4), "b": (16, 3)}
    jobs = [devices(1), *[devices(4)] * 3, devices(2)]
    assert started_on(Policy(placement=Placement.FGD), jobs, nodes) == ["b", "a", "b"]
    assert started_on(Policy(placement=Placement.SPREAD), jobs, nodes)[0] == "a"


@pytest.mark.parametrize("kind", [PolicyKind.CONSERVATIVE, PolicyKind.CONSERVATIVE_REPLAN])
@pytest.mark.parametrize(("placement", "expected"), [("WEIGHT", 0), ("PACK", 0), ("SPREAD", 1)])
def test_conservative_passes_keep_to_one_order(
    kind: PolicyKind, placement: str, expected: int
) -> None:
    t = Tables()
    for name in ("a", "b"):
        t.nodes.set(name, cpu=4000, memory=0, partitions=("p",))
    t.running.add(100, NOW + 50, [0], [[1000, 0]])
    t.jobs.add(1, t.shapes.intern(devices(0)), duration=10, submit=1)
    policy = Policy(kind, placement=Placement[placement])
    made = plan(t.nodes, t.shapes, t.jobs, t.running, policy, NOW)
    assert made.node.tolist() == [expected]
