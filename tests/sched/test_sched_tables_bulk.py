"""Rows added in bulk are the same as rows added one by one, on top of whatever was there."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.columns import bit_row
from sched_core.running import END_MAX
from sched_core.tables import Request, Tables

PARTS, FEATURES = ["p", "q"], ["x", "y"]


def one_node(rng: random.Random) -> tuple[int, int, int, list[str], list[str]]:
    some = [name for name in FEATURES if rng.random() < 0.5]
    return rng.randint(1, 9), rng.randint(0, 9), rng.randint(0, 2), rng.sample(PARTS, 1), some


def prepared() -> Tables:
    """Tables with something in every one of them, and the names of the rest registered."""
    tables = Tables()
    tables.nodes.set("first", cpu=50, memory=50, gres=(("gpu", "a", 1),), partitions=("p", "q"))
    tables.nodes.feature_names.number("x")
    tables.nodes.feature_names.number("y")
    tables.running.add(1, 7, [0], [[3, 4]])
    tables.running.add(2, 9, [0], [[1, 1, 1, 1]])
    tables.running.remove(1)
    return tables


@given(seed=st.integers(0, 2**32), count=st.integers(0, 40))
@settings(deadline=None, max_examples=40)
def test_bulk_equals_one_by_one(seed: int, count: int) -> None:
    rng = random.Random(seed)
    nodes = [one_node(rng) for _ in range(count)]
    runs = [(rng.randint(0, count), rng.choice([5, 9, END_MAX * 2])) for _ in range(count)]
    slow, fast = prepared(), prepared()
    dims, names = fast.dims, fast.nodes
    for i, (cpu, memory, gpus, parts, some) in enumerate(nodes):
        gres = (("gpu", "a", gpus),) if gpus else ()
        rest = {"gres": gres, "partitions": tuple(parts), "features": tuple(some)}
        slow.nodes.set(f"n{i}", cpu=cpu, memory=memory, **rest)
    capacity = [dims.vector(n[0], n[1], (("gpu", "a", n[2]),)) for n in nodes]
    bits = [[names.partition_names.number(p) for p in n[3]] for n in nodes]
    marks = [[names.feature_names.number(f) for f in n[4]] for n in nodes]
    names.set_many(
        [f"n{i}" for i in range(count)],
        capacity=np.array(capacity, np.int64).reshape(count, dims.width),
        partitions=np.array([bit_row(b, 1) for b in bits], np.int64).reshape(count, 1),
        features=np.array([bit_row(m, 1) for m in marks], np.int64).reshape(count, 1),
    )
    for i, (row, end) in enumerate(runs):
        slow.running.add(100 + i, end, [row], [[1, 2]])
    fast.running.add_many(
        range(100, 100 + count),
        np.array([end for _, end in runs], np.int64),
        np.array([row for row, _ in runs], np.int64),
        np.array([[1, 2]] * count, np.int64).reshape(count, 2),
    )
    assert fast.equals(slow)
    for job_id in range(100, 100 + count, 2):
        slow.running.remove(job_id)
        fast.running.remove(job_id)
    assert fast.equals(slow)


def test_what_is_known_already_is_refused() -> None:
    tables = prepared()
    shape = tables.shapes.intern(Request(partitions=("p",), cpu_per_task=1))
    one = np.ones(1, np.int64)
    with pytest.raises(AssertionError, match="known already"):
        tables.nodes.set_many(
            ["first"], capacity=one[None], partitions=one[None], features=one[None]
        )
    with pytest.raises(AssertionError, match="runs already"):
        tables.running.add_many([2], one, one * 0, one[None])
    with pytest.raises(AssertionError, match="twice"):
        tables.jobs.add_many([8, 8], [shape, shape], duration=1, submit=np.arange(2))
