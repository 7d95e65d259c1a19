"""Orders that are corrected equal orders that are sorted, after any history."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import ordering
from sched_core.tables import Request, Tables


@given(seed=st.integers(0, 2**32), few=st.sampled_from([2, 1000]))
@settings(deadline=None, max_examples=60)
def test_a_corrected_order_equals_a_sorted_one(seed: int, few: int) -> None:
    rng = random.Random(seed)
    tables, usual = Tables(), ordering.FEW
    for name in "abc":
        tables.nodes.set(name, cpu=100_000, memory=1, partitions=("p",))
    shape = tables.shapes.intern(Request(partitions=("p",), cpu_per_task=1))
    tables.shapes.retain(shape)
    jobs, running = tables.jobs, tables.running
    ordering.FEW = few
    try:
        for number in range(60):
            what = rng.choice(["add", "add", "many", "remove", "change", "look"])
            waiting, runs = list(jobs.content()), list(running.content())
            if what == "add":
                jobs.add(number, shape, duration=1, submit=rng.randint(0, 3))
                where = rng.sample(range(3), rng.randint(1, 3))
                running.add(number, rng.randint(1, 5), where, [[1]] * len(where))
            elif what == "many":
                ids = range(1000 + number * 10, 1003 + number * 10)
                jobs.add_many(ids, [shape] * 3, duration=1, submit=np.array([2, 1, 2]))
                running.add_many(
                    ids, np.array([4, 1, 4]), np.array([0, 2, 0]), np.ones((3, 1), int)
                )
            elif what == "remove" and waiting and runs:
                jobs.remove(rng.choice(waiting))
                running.remove(rng.choice(runs))
            elif what == "change" and waiting and runs:
                jobs.update(rng.choice(waiting), priority=rng.randint(0, 2))
                running.set_end(rng.choice(runs), rng.randint(1, 5))
            elif what == "look":
                assert jobs.order().tolist() == jobs._sorted().tolist()
                assert running.releases().tolist() == running._sorted().tolist()
    finally:
        ordering.FEW = usual
    assert jobs.order().tolist() == jobs._sorted().tolist()
    assert running.releases().tolist() == running._sorted().tolist()
