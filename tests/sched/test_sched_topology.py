"""Gangs by topology: fewest leaf switches of all gangs there are, and the very gang of the twin."""

from __future__ import annotations

import os

import numpy as np
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
    *,
    size: int = 0,
    ntasks: int = 0,
    each: int = 1,
    most: int = 0,
    adjacent: bool = False,
) -> list[tuple[int, int]] | int:
    rows = np.array([row for row, _, _ in nodes], np.int64)
    tasks = np.array([count for _, _, count in nodes], np.int64)
    gang = topology.place(
        table,
        rows,
        tasks,
        size=size,
        ntasks=ntasks,
        each=each,
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
    gang = placed(table_of(parents, nodes), nodes, size=size)
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


@given(
    parents=trees(),
    nodes=candidates(),
    size=st.integers(0, 6),
    ntasks=st.integers(1, 12),
    each=st.integers(0, 3),
    most=st.integers(0, 2),
    adjacent=st.booleans(),
)
@settings(deadline=None, max_examples=EXAMPLES)
def test_the_gang_is_that_of_the_twin(
    parents: dict[str, str],
    nodes: list[Candidate],
    size: int,
    ntasks: int,
    each: int,
    most: int,
    adjacent: bool,
) -> None:
    ask = {"size": size, "ntasks": ntasks * (size == 0), "each": each, "most": most}
    gang = placed(table_of(parents, nodes), nodes, **ask, adjacent=adjacent)
    assert gang == oracle_topology.place(parents, nodes, **ask, adjacent=adjacent)


@given(parents=trees(), nodes=candidates(), size=st.integers(1, 4), ntasks=st.integers(1, 12))
@settings(deadline=None, max_examples=EXAMPLES // 4)
def test_so_many_nodes_for_so_many_tasks_hold_them_all(
    parents: dict[str, str], nodes: list[Candidate], size: int, ntasks: int
) -> None:
    ntasks = max(ntasks, size)
    gang = placed(table_of(parents, nodes), nodes, size=size, ntasks=ntasks)
    fits = {row: count for row, _, count in nodes}
    if isinstance(gang, list):
        assert len(gang) == size
        assert sum(count for _, count in gang) == ntasks
        assert all(1 <= count <= fits[row] for row, count in gang)


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
    assert rows_of(placed(table, RACKS, size=3)) == [4, 5, 6]
    assert rows_of(placed(table, RACKS, size=4)) == [0, 1, 2, 3]
    assert placed(table, RACKS, size=1, ntasks=2) == [(4, 2)]
    assert placed(table, RACKS, ntasks=5) == [(4, 2), (5, 2), (6, 1)]


def test_a_wide_gang_fills_whole_leaves_below_the_lowest_switch() -> None:
    table = table_of(TREE, RACKS)
    assert rows_of(placed(table, RACKS, size=6)) == [0, 1, 2, 3, 4, 5]
    assert rows_of(placed(table, RACKS, size=10)) == list(range(10))
    assert placed(table, RACKS, size=11) == TOO_FEW
    assert rows_of(placed(table_of({}, RACKS), RACKS, size=6)) == [0, 1, 2, 3, 4, 5]


def test_a_bound_on_switches_holds_until_the_wait_is_over() -> None:
    table = table_of(TREE, RACKS)
    rows, tasks = np.arange(10), np.full(10, 2)
    asked = {"size": 6, "switches": 1, "wait_until": 100}
    assert topology.place(table, rows, tasks, **asked, now=99).outcome == SWITCHES
    assert topology.place(table, rows, tasks, **asked, now=100).outcome == 6
    assert topology.place(table, rows, tasks, size=6, switches=2, wait_until=100).outcome == 6


def test_adjacent_nodes_of_the_last_leaf_are_the_shortest_run_that_suffices() -> None:
    nodes: list[Candidate] = [(row, "a", 1) for row in (5, 0, 1, 2, 7, 8, 10)]
    table = table_of({}, nodes)
    assert rows_of(placed(table, nodes, size=2)) == [5, 0]
    assert rows_of(placed(table, nodes, size=2, adjacent=True)) == [7, 8]
    assert rows_of(placed(table, nodes, size=3, adjacent=True)) == [0, 1, 2]
    assert rows_of(placed(table, nodes, size=4, adjacent=True)) == [5, 0, 1, 2]


def test_without_a_topology_preference_alone_decides() -> None:
    nodes: list[Candidate] = [(row, "-", 1) for row in (3, 1, 2)]
    assert rows_of(placed(table_of({}, nodes), nodes, size=2)) == [3, 1]


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
