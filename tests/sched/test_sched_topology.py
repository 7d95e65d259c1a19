"""Gangs by topology: fewest leaf switches of all gangs there are, and the very gang of the twin."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle_topology, topology
from sched_core.oracle_topology import Candidate
from sched_core.switches import HEIGHT, TopologyTable
from sched_core.tables import Tables
from sched_core.topology import SWITCHES, TOO_FEW

EXAMPLES = 60 if "NUMBA_DISABLE_JIT" in os.environ else 250
SWITCH_NAMES = ["a", "b", "c", "d", "e", "f"]


@st.composite
def trees(draw: st.DrawFn) -> dict[str, str]:
    """Parents of some switches; a switch hangs only on a later one, so there is no cycle."""
    parents = {}
    for i, name in enumerate(SWITCH_NAMES):
        above = draw(st.sampled_from(["", *SWITCH_NAMES[i + 1 :]]))
        if draw(st.booleans()):
            parents[name] = above
    return parents


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    rows = draw(st.lists(st.integers(0, 11), min_size=1, max_size=9, unique=True))
    leaf = st.sampled_from(["-", "a", "b", "c", "d"])
    return [(row, draw(leaf), draw(st.integers(0, 4))) for row in rows]


def table_of(parents: dict[str, str], nodes: list[Candidate]) -> TopologyTable:
    tables = Tables()
    leaves = {row: leaf for row, leaf, _ in nodes}
    for row in range(12):
        leaf = leaves.get(row, "-").replace("-", "")
        tables.nodes.set(f"n{row}", cpu=1000, memory=0, switch=leaf)
    table = TopologyTable(tables.nodes)
    for name, parent in parents.items():
        table.set(name, parent)
    return table


def placed(
    table: TopologyTable,
    nodes: list[Candidate],
    low: int,
    high: int = 0,
    ntasks: int = 0,
    most: int = 0,
    adjacent: bool = False,
) -> list[tuple[int, int]] | int:
    gang = topology.place(
        table,
        np.array([row for row, _, _ in nodes], np.int64),
        np.array([count for _, _, count in nodes], np.int64),
        low=low,
        high=high,
        ntasks=ntasks,
        switches=most,
        wait_until=10,
        adjacent=adjacent,
    )
    if gang.outcome <= 0:
        return gang.outcome
    return list(zip(gang.node.tolist(), gang.tasks.tolist(), strict=True))


@given(parents=trees(), nodes=candidates(), size=st.integers(1, 8))
@settings(deadline=None, max_examples=EXAMPLES)
def test_no_gang_has_fewer_leaf_switches_or_a_lower_common_one(
    parents: dict[str, str], nodes: list[Candidate], size: int
) -> None:
    usable = [c for c in nodes if c[2]]
    best = oracle_topology.fewest_leaves(parents, usable, size)
    gang = placed(table_of(parents, nodes), nodes, size)
    if best is None:
        assert gang == TOO_FEW
        return
    assert isinstance(gang, list)
    leaf_of = {row: leaf for row, leaf, _ in nodes}
    leaves = sorted({leaf_of[row] for row, _ in gang})
    every = [leaf for _, leaf, _ in usable]
    common = oracle_topology.common(parents, leaves)
    assert (len(leaves), oracle_topology.height(parents, every, common)) == best
    assert len({row for row, _ in gang}) == size


@st.composite
def asked(draw: st.DrawFn) -> tuple[int, int, int]:
    """Bounds on nodes, and tasks or none."""
    ntasks = draw(st.integers(0, 12))
    low = draw(st.integers(1, min(ntasks or 6, 6)))
    return low, draw(st.integers(low, ntasks or 8)), ntasks


@given(
    parents=trees(),
    nodes=candidates(),
    ask=asked(),
    most=st.integers(0, 2),
    adjacent=st.booleans(),
)
@settings(deadline=None, max_examples=2 * EXAMPLES)
def test_the_gang_is_that_of_the_twin(
    parents: dict[str, str],
    nodes: list[Candidate],
    ask: tuple[int, int, int],
    most: int,
    adjacent: bool,
) -> None:
    gang = placed(table_of(parents, nodes), nodes, *ask, most, adjacent)
    assert gang == oracle_topology.place(parents, nodes, *ask, most, adjacent)


@given(parents=trees(), nodes=candidates(), ask=asked())
@settings(deadline=None, max_examples=EXAMPLES)
def test_there_is_a_gang_exactly_if_some_set_of_nodes_is_one(
    parents: dict[str, str], nodes: list[Candidate], ask: tuple[int, int, int]
) -> None:
    low, high, ntasks = ask
    gang = placed(table_of(parents, nodes), nodes, *ask)
    widest = sorted((c[2] for c in nodes if c[2]), reverse=True)
    if len(widest) < low or sum(widest[:high]) < ntasks:
        assert gang == TOO_FEW
        return
    assert isinstance(gang, list)
    fits = {row: count for row, _, count in nodes}
    assert low <= len({row for row, _ in gang}) == len(gang) <= high
    assert all(1 <= count <= fits[row] for row, count in gang)
    assert not ntasks or sum(count for _, count in gang) == ntasks


RACKS: list[Candidate] = [
    *((row, "a", 2) for row in range(4)),
    *((row, "b", 2) for row in range(4, 7)),
    *((row, "c", 2) for row in range(7, 10)),
]
TREE = {"a": "left", "b": "left", "c": "right", "left": "top", "right": "top"}


def rows_of(gang: list[tuple[int, int]] | int) -> list[int]:
    assert isinstance(gang, list)
    return [row for row, _ in gang]


def test_a_small_gang_takes_the_leaf_with_the_least_left_over() -> None:
    table = table_of(TREE, RACKS)
    assert rows_of(placed(table, RACKS, 3)) == [4, 5, 6]
    assert rows_of(placed(table, RACKS, 4)) == [0, 1, 2, 3]
    assert placed(table, RACKS, 1, 1, 2) == [(4, 2)]
    assert placed(table, RACKS, 1, ntasks=5) == [(4, 2), (5, 2), (6, 1)]


def test_a_wide_gang_fills_whole_leaves_below_the_lowest_switch() -> None:
    table = table_of(TREE, RACKS)
    assert rows_of(placed(table, RACKS, 6)) == [0, 1, 2, 3, 4, 5]
    assert rows_of(placed(table, RACKS, 10)) == list(range(10))
    assert placed(table, RACKS, 11) == TOO_FEW
    assert rows_of(placed(table_of({}, RACKS), RACKS, 6)) == [0, 1, 2, 3, 4, 5]


def test_a_bound_on_switches_holds_until_the_wait_is_over() -> None:
    table = table_of(TREE, RACKS)
    rows, tasks = np.arange(10), np.full(10, 2)
    for switches, now, outcome in ((1, 99, SWITCHES), (1, 100, 6), (2, 99, 6)):
        gang = topology.place(table, rows, tasks, low=6, switches=switches, wait_until=100, now=now)
        assert gang.outcome == outcome
    # Fewer nodes are taken rather than too many switches.
    assert placed(table, RACKS, 2, 8, most=1) == [(4, 2), (5, 2)]
    assert len(rows_of(placed(table, RACKS, 2, 8))) == 8


def test_unequal_nodes_hold_what_equal_ones_cannot() -> None:
    nodes: list[Candidate] = [(0, "a", 1), (1, "c", 4), (2, "a", 2), (3, "b", 3), (4, "b", 1)]
    table = table_of(TREE, nodes)
    for most in (0, 1):
        assert placed(table, nodes, 2, 2, 4, most) == [(3, 3), (4, 1)]
    assert placed(table, nodes, 2, 2, 5) == [(1, 4), (3, 1)]
    assert placed(table, nodes, 3, 3, 7) == [(2, 2), (1, 4), (3, 1)]
    assert placed(table, nodes, 2, 2, 5, most=1) == SWITCHES
    assert placed(table, nodes, 2, 2, 7) == [(1, 4), (3, 3)]
    assert placed(table, nodes, 2, 2, 8) == TOO_FEW


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        # One leaf rather than a tighter pair of leaves.
        ([(0, "c", 4), (1, "c", 1), (2, "a", 3), (3, "b", 1)], [(0, 3), (1, 1)]),
        # Of two leaves the tighter, else the preferred one.
        ([(0, "c", 5), (1, "c", 1), (2, "a", 4), (3, "a", 1)], [(2, 3), (3, 1)]),
        ([(2, "a", 5), (3, "a", 1), (0, "c", 5), (1, "c", 1)], [(2, 3), (3, 1)]),
        # Nodes of one leaf in order of preference.
        ([(0, "a", 1), (1, "a", 3)], [(0, 1), (1, 3)]),
    ],
)
def test_which_unequal_nodes(nodes: list[Candidate], expected: list[tuple[int, int]]) -> None:
    assert placed(table_of(TREE, nodes), nodes, 2, 2, 4) == expected
    assert oracle_topology.place(TREE, nodes, 2, 2, 4) == expected


def test_adjacent_nodes_of_the_last_leaf_are_the_shortest_run_that_suffices() -> None:
    nodes: list[Candidate] = [(row, "a", 1) for row in (5, 0, 1, 2, 7, 8, 10)]
    table = table_of({}, nodes)
    assert rows_of(placed(table, nodes, 2)) == [5, 0]
    assert rows_of(placed(table, nodes, 2, adjacent=True)) == [7, 8]
    assert rows_of(placed(table, nodes, 3, adjacent=True)) == [0, 1, 2]
    assert rows_of(placed(table, nodes, 4, adjacent=True)) == [5, 0, 1, 2]


def test_without_a_topology_preference_alone_decides() -> None:
    nodes: list[Candidate] = [(row, "-", 1) for row in (3, 1, 2)]
    assert rows_of(placed(table_of({}, nodes), nodes, 2)) == [3, 1]


@given(steps=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", *"abcd", "x"]))))
@settings(deadline=None, max_examples=60)
def test_a_tree_after_any_history_equals_one_built_anew(steps: list[tuple[str, str]]) -> None:
    table, now = TopologyTable(Tables().nodes), dict[str, str]()
    for name, parent in steps:
        if parent == "x" and name in now:
            table.remove(name)
            del now[name]
        elif parent != "x" and not table.is_cycle(name, parent):
            table.set(name, parent)
            now[name] = parent
            table.tree()
    anew = TopologyTable(Tables().nodes)
    for name in sorted(now, reverse=True):
        anew.set(name, now[name])
    assert table.equals(anew)
    names = table.nodes.switch_names
    for name in "abcd":
        if names.find(name) >= 0:
            expected = oracle_topology.height(now, [], name)
            assert table.tree()[HEIGHT, names.find(name)] == expected


def test_a_switch_cannot_hang_on_itself() -> None:
    table = TopologyTable(Tables().nodes)
    table.set("a", "b")
    table.set("b", "c")
    assert table.is_cycle("c", "a")
    assert table.is_cycle("c", "c")
    assert not table.is_cycle("c", "d")
    assert not table.is_cycle("c", "")
