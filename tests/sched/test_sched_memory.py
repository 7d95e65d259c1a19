"""A plan made with what earlier passes left behind equals one made from scratch."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.memory import Memory
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.tables import Request, Tables


class History:
    """A small cluster whose nodes, queue and running jobs change at random between passes."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tables = Tables()
        self.now, self.next = 100, 1
        for name in range(self.rng.randint(1, 6)):
            self.set_node(f"n{name}")
        self.submit()

    def set_node(self, name: str) -> None:
        rng = self.rng
        gres = (("gpu", rng.choice(["a", "b", ""]), rng.randint(1, 2)),)
        self.tables.nodes.set(
            name,
            cpu=rng.choice([2000, 4000]),
            memory=rng.choice([50, 100]),
            gres=gres if rng.random() < 0.5 else (),
            partitions=tuple(rng.sample(["p", "q"], rng.randint(1, 2))),
            features=tuple(f for f in "xyz" if rng.random() < 0.5),
            usable=rng.random() < 0.8,
            weight=rng.choice([1, 1, 2]),
        )

    def submit(self) -> None:
        rng = self.rng
        for _ in range(rng.randint(1, 6)):
            request = Request(
                partitions=tuple(rng.sample(["p", "q"], rng.choice([1, 1, 2]))),
                cpu_per_task=rng.choice([500, 1000, 2000]),
                memory_per_node=rng.choice([0, 30]),
                gres_per_node=rng.choice([(), (("gpu", "a", 1),), (("gpu", "", 1),)]),
                ntasks=rng.choice([0, 0, 3]),
                min_nodes=rng.choice([0, 0, 2]),
                exclusive=rng.random() < 0.1,
                features=rng.choice([(), (("x",),), (("y", "z"), ("x",))]),
                required=("n0",) if rng.random() < 0.1 else (),
                excluded=("n1",) if rng.random() < 0.1 else (),
            )
            rest = {"priority": rng.choice([0, 0, 1]), "count": rng.choice([1, 1, 2])}
            shape = self.tables.shapes.intern(request)
            duration = rng.choice([5, 10, 30])
            self.tables.jobs.add(self.next, shape, duration=duration, submit=self.next, **rest)
            self.next += 1

    def change(self, made: Plan) -> None:
        """One thing happens, after some or all of the starts have."""
        rng, tables = self.rng, self.tables
        accept = rng.choice([0.0, 0.5, 1.0])
        for k in range(made.starts):
            rows = slice(int(made.start_ptr[k]), int(made.start_ptr[k + 1]))
            if rng.random() < accept:
                end = self.now + rng.choice([1, 10, 20])
                tables.running.add(100_000 + self.next, end, made.node[rows], made.amount[rows])
                self.next += 1
        waiting = made.job.tolist()
        for job_id in rng.sample(waiting, min(len(waiting), rng.choice([0, 1, 3]))):
            tables.jobs.remove(job_id)
        what = rng.choice(["node", "submit", "end", "end", "drain", "nothing", "forget"])
        if what == "node":
            self.set_node(f"n{rng.randint(0, 7)}")
        elif what == "submit":
            self.submit()
        elif what == "drain":
            tables.nodes.set_usable("n0", rng.random() < 0.5)
        elif what == "end":
            running = sorted(tables.running.content())
            for job_id in rng.sample(running, min(len(running), 2)):
                tables.running.remove(job_id)
        elif what == "forget" and not (tables.nodes.allocations > 0).any():
            tables.nodes.remove("n0")
            self.set_node("n0")
        self.now += rng.choice([0, 1, 7])


def same(one: Any, other: Any) -> bool:
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(list(PolicyKind)))
@settings(deadline=None, max_examples=60)
def test_a_memory_makes_no_plan_another(seed: int, kind: PolicyKind) -> None:
    history, memory = History(seed), Memory()
    policy = Policy(kind)
    t = history.tables
    kept: list[tuple[Plan, Plan]] = []
    for _ in range(12):
        parts = (t.nodes, t.shapes, t.jobs, t.running)
        made = plan(*parts, policy, history.now, memory=memory)
        anew = plan(*parts, policy, history.now)
        kept.append((made, anew))
        history.change(made)
    for made, anew in kept:  # a later pass changes no plan that has been given out
        for field in fields(Plan):
            assert same(getattr(made, field.name), getattr(anew, field.name)), field.name


def test_a_memory_serves_other_tables_after_the_first() -> None:
    memory = Memory()
    for seed in (1, 2, 1):
        t = History(seed).tables
        parts = (t.nodes, t.shapes, t.jobs, t.running)
        made, anew = plan(*parts, Policy(), 100, memory=memory), plan(*parts, Policy(), 100)
        assert all(same(getattr(made, f.name), getattr(anew, f.name)) for f in fields(Plan))
