"""Orders of preference equal those of Python's own sort, and do what their names say."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import jit, oracle_placement
from sched_core.placement import UNABLE, Placement, fill_order, order_nodes
from sched_core.tables import Tables

EXAMPLES = 40 if "NUMBA_DISABLE_JIT" in os.environ else 200


@st.composite
def cluster_nodes(draw: st.DrawFn) -> list[oracle_placement.Node]:
    nodes: list[oracle_placement.Node] = []
    for _ in range(draw(st.integers(1, 12))):
        capacity = [draw(st.sampled_from([0, 4, 8, 64000])) for _ in range(3)]
        free = [draw(st.integers(-1, have)) for have in capacity]
        nodes.append((capacity, free, draw(st.sampled_from([-1, 0, 1, 1, 1 << 39]))))
    return nodes


@given(
    nodes=cluster_nodes(),
    data=st.data(),
    placement=st.sampled_from(Placement),
    by_weight=st.booleans(),
)
@settings(deadline=None, max_examples=EXAMPLES)
def test_the_order_is_that_of_pythons_sort(
    nodes: list[oracle_placement.Node],
    data: st.DataObject,
    placement: Placement,
    by_weight: bool,
) -> None:
    jit.compile_kernels()
    base = data.draw(st.lists(st.sampled_from(range(len(nodes))), unique=True))
    need = data.draw(st.lists(st.integers(0, 5), min_size=3, max_size=3))
    amounts = np.array([[n[0] for n in nodes], [n[1] for n in nodes]], np.int64)
    needs = np.zeros((2, 2, 3), np.int64)
    needs[1, 1] = [amount // 2 for amount in need]
    needs[0, 1] = np.array(need) - needs[1, 1]
    weight = np.array([n[2] if by_weight else 0 for n in nodes], np.int64)
    scores, order, spare = np.zeros((3, len(nodes)), np.int64)
    rows = np.array(base, np.int64)
    asked = (amounts, 1, needs, 1, weight, rows, int(placement))
    able = fill_order(*asked, scores, order, spare)
    expected = oracle_placement.order(nodes, base, need, placement.name.lower(), by_weight)
    assert order[:able].tolist() == expected
    assert {row for row in base if scores[row] < UNABLE} == {*expected}


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (Placement.WEIGHT, ["a", "b", "c", "d"]),
        (Placement.PACK, ["c", "b", "a", "d"]),
        (Placement.SPREAD, ["a", "b", "c", "d"]),
        # c has few CPUs left; of b and a, b has 2 of 8 GPUs left beside the job.
        (Placement.BEST_FIT, ["c", "b", "a", "d"]),
    ],
)
def test_what_each_order_prefers(placement: Placement, expected: list[str]) -> None:
    tables = Tables()
    for name, weight in (("a", 1), ("b", 1), ("c", 1), ("d", 2), ("small", 1), ("down", 1)):
        gpus = 1 if name == "small" else 8
        has = {"cpu": 64000, "memory": 1000, "gres": (("gpu", "", gpus),)}
        tables.nodes.set(name, **has, weight=weight, usable=name != "down")  # type: ignore[arg-type]
    total = tables.dims.find_gres("gpu")[0]
    for job, (row, cpu, gpus) in enumerate([(1, 1000, 4), (2, 60000, 2), (3, 63000, 6)]):
        amounts = np.zeros((1, len(tables.dims)), np.int64)
        amounts[0, 0], amounts[0, total] = cpu, gpus
        tables.running.add(job, 100, [row], amounts)
    need = np.zeros(len(tables.dims), np.int64)
    need[0], need[total] = 1000, 2
    rows = order_nodes(tables.nodes, need, placement)
    assert [tables.nodes.names.text(row) for row in rows.tolist()] == expected


@given(keys=st.lists(st.integers(-3, 3), max_size=40), rows=st.permutations(range(40)))
@settings(deadline=None, max_examples=EXAMPLES)
def test_the_sort_is_stable(keys: list[int], rows: list[int]) -> None:
    """Through the kernel that sorts: weights are the keys, nothing is asked for."""
    jit.compile_kernels()
    rows = [row for row in rows if row < len(keys)]
    amounts, needs = np.zeros((2, 40, 1), np.int64), np.zeros((2, 1, 1), np.int64)
    weight = np.array(keys, np.int64)
    scores, order, spare = np.zeros((3, 40), np.int64)
    base = np.array(rows, np.int64)
    able = fill_order(amounts, 1, needs, 0, weight, base, 0, scores, order, spare)
    assert order[:able].tolist() == sorted(rows, key=lambda row: keys[row])
