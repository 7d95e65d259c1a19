"""The devices chosen are those that brute force over all sets chooses, and always legal."""

from __future__ import annotations

import os
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import gres, oracle_gres
from sched_core.device_items import GIVEN_BACK, ILLEGAL, NO_SET, SHORT
from sched_core.layouts import LAYOUTS, Layout, blocks, full, mask_of, weigh
from sched_core.oracle_gres import Slot
from sched_core.slots import Device, Health, SlotTable
from sched_core.tables import Tables

INTERPRETED = "NUMBA_DISABLE_JIT" in os.environ
EXAMPLES = 25 if INTERPRETED else 150
BOARDS = {name: make() for name, make in LAYOUTS.items()}


def table_of(
    nodes: list[tuple[list[Slot], dict[str, Layout | None]]],
) -> SlotTable:
    """A table of the oracle's nodes; what is not free is held by a job."""
    tables = Tables()
    table = SlotTable(tables.nodes)
    for row, (slots, layouts) in enumerate(nodes):
        name = f"n{row}"
        tables.nodes.set(name, cpu=1000, memory=0)
        devices = []
        for slot in slots:
            health = Health.HEALTHY if slot.healthy else Health(1 + slot.place % 2)
            layout = layouts[slot.kind]
            devices.append(Device("dev", slot.kind, health, slot.numa, layout, slot.place))
        table.set(name, devices)
        used = [i for i, slot in enumerate(slots) if slot.free < 1000]
        taken = [1000 - slots[i].free for i in used]
        rows = np.full(len(used), row)
        table.add(row, rows, np.array(used, np.int64), np.array(taken, np.int64))
    return table


def chosen_by_kernel(slots: list[Slot], layout: Layout | None, want: int) -> list[int] | int:
    table = table_of([(slots, {"x": layout})])
    choice = gres.choose_devices(table, "n0", "dev", "x", want)
    return choice.slot.tolist() if choice.status[0] > 0 else int(choice.status[0])


def free_of(layout: Layout, places: str) -> list[Slot]:
    """A board of which only some places are free."""
    free = {int(place, 16) for place in places}
    return [Slot("x", p, 1000 if p in free else 0) for p in range(layout.places)]


@st.composite
def layouts(draw: st.DrawFn) -> Layout | None:
    kind = draw(st.sampled_from(["none", "named", "random", "listed"]))
    if kind == "none":
        return None
    if kind == "named":
        return BOARDS[draw(st.sampled_from(sorted(BOARDS)))]
    n = draw(st.integers(1, 8))
    level = st.integers(0, 3)
    cells = {pair: draw(level) for pair in combinations(range(n), 2)}
    weights = weigh(n, lambda i, j: cells[i, j])
    if kind == "random":
        return Layout(weights)
    sets = draw(st.sets(st.integers(1, (1 << n) - 1), min_size=1, max_size=12))
    counts = draw(st.sets(st.integers(1, n)))
    half = n // 2
    groups = (mask_of(range(half)), mask_of(range(half, n))) if half else ()
    rank = st.integers(0, 3)
    prefer = tuple(tuple(draw(rank) for _ in range(n)) for _ in range(n)) if groups else ()
    return Layout(weights, tuple(sorted(counts)), tuple(sorted(sets)), groups, prefer)


@st.composite
def boards(draw: st.DrawFn) -> tuple[list[Slot], Layout | None]:
    layout = draw(layouts())
    n = layout.places if layout else draw(st.integers(1, 8))
    places = draw(st.permutations(range(n))) if draw(st.booleans()) else list(range(n))
    sockets = draw(st.sampled_from([0, 1, 2]))
    state = st.sampled_from([1000, 1000, 1000, 600, 250, 0, -1000])
    slots = [
        Slot("x", p, draw(state), draw(st.integers(0, 7)) > 0, p * sockets // n if sockets else -1)
        for p in places
    ]
    return slots, layout


@given(board=boards(), want=st.sampled_from([*range(1000, 10000, 1000), 16000, 250, 500, 0, 1500]))
@settings(deadline=None, max_examples=EXAMPLES)
def test_the_set_is_that_of_brute_force(board: tuple[list[Slot], Layout | None], want: int) -> None:
    slots, layout = board
    assert chosen_by_kernel(slots, layout, want) == oracle_gres.choose(slots, layout, "x", want)


@given(board=boards(), count=st.integers(1, 8))
@settings(deadline=None, max_examples=EXAMPLES)
def test_what_is_chosen_is_legal_whole_and_healthy(
    board: tuple[list[Slot], Layout | None], count: int
) -> None:
    slots, layout = board
    chosen = chosen_by_kernel(slots, layout, count * 1000)
    could = gres.can_give(
        table := table_of([(slots, {"x": layout})]),
        gres.boards_of(table.layouts),
        gres.bench_of(),
        np.zeros(1, np.int64),
        table.nodes.dims.find_gres("dev", "x")[1],
        count * 1000,
    )[0]
    if isinstance(chosen, int):
        assert could == chosen
        return
    assert could == 1
    assert len({*chosen}) == count
    assert all(slots[i].healthy and slots[i].free == 1000 for i in chosen)
    assert oracle_gres.legal(slots, chosen, layout)


@given(data=st.data(), two=st.lists(boards(), min_size=1, max_size=3))
@settings(deadline=None, max_examples=EXAMPLES // 2)
def test_items_follow_one_another_and_starts_are_all_or_nothing(
    data: st.DataObject, two: list[tuple[list[Slot], Layout | None]]
) -> None:
    nodes = {row: (slots, {"x": layout}) for row, (slots, layout) in enumerate(two)}
    item = st.tuples(
        st.integers(0, 3),
        st.sampled_from(sorted(nodes)),
        st.just("x"),
        st.sampled_from([250, 500, 1000, 2000, 4000]),
    )
    items = sorted(data.draw(st.lists(item, min_size=1, max_size=6)), key=lambda i: i[0])
    table = table_of(list(nodes.values()))
    before = table.slots.copy()
    kind = table.nodes.dims.find_gres("dev", "x")[1]
    wanted = np.array([[s, n, kind, w] for s, n, _, w in items], np.int64).T
    choice = gres.choose(table, wanted, gres.boards_of(table.layouts), gres.bench_of())
    assert (table.slots == before).all()
    expected = oracle_gres.choose_items(nodes, items)
    for i, want in enumerate(expected):
        part = slice(int(choice.ptr[i]), int(choice.ptr[i + 1]))
        if isinstance(want, int):
            assert (choice.status[i], part.start) == (want, part.stop)
        else:
            assert choice.slot[part].tolist() == want
            assert {*choice.amount[part].tolist()} == {min(items[i][3], 1000)}
    refused = {item[0] for item, want in zip(items, expected, strict=True) if want == GIVEN_BACK}
    refused |= {i[0] for i, want in zip(items, expected, strict=True) if isinstance(want, int)}
    assert choice.failed == len(refused)


@pytest.mark.parametrize(
    ("board", "free", "count", "expected"),
    [
        # Hybrid cube mesh: the double links first, and never a pair without a direct link.
        ("dgx1-8", "01234567", 2, [2, 3]),
        ("dgx1-8", "0157", 2, [1, 5]),
        # Two rings: one device goes to the ring with 1, then 3, then 2, then 4 free ones.
        ("ascend-910-8", "0124", 1, [4]),
        ("ascend-910-8", "01245", 1, [0]),
        ("ascend-910-8", "014567", 1, [0]),
        # Two: the ring with 2, then 4, then 3. Never across.
        ("ascend-910-8", "01245", 2, [4, 5]),
        ("ascend-910-8", "0124567", 2, [4, 5]),
        ("ascend-910-8", "04", 2, NO_SET),
        ("ascend-910-8", "012345", 3, ILLEGAL),
        ("ascend-910-8", "012567", 4, NO_SET),
        ("ascend-910-8", "01234567", 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        # Cards of two dies: whole cards, and a half-used card for one die.
        ("ascend-a3-16", "0234", 2, [2, 3]),
        ("ascend-a3-16", "0234", 1, [0]),
        ("ascend-a3-16", "01234", 4, [0, 1, 2, 3]),
        ("ascend-a3-16", "024", 2, NO_SET),
        # Two groups of eight: best fit, and the same positions of both for more than eight.
        ("ascend-910b-16", "01238abc", 4, [0, 1, 2, 3]),
        ("ascend-910b-16", "0123489ab", 4, [8, 9, 10, 11]),
        ("ascend-910b-16", "012345789abcdf", 12, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]),
        ("ascend-910b-16", "0123456789abcdef", 9, ILLEGAL),
        ("p800-8", "0145", 4, [0, 1, 4, 5]),
        ("p800-8", "0147", 4, NO_SET),
        ("p800-8", "0123456", 4, [0, 1, 2, 3]),
        # A pair to a switch: what stays behind are whole pairs.
        ("pcie-8", "0123467", 1, [4]),
        ("pcie-8", "024567", 2, [4, 5]),
        ("pcie-8", "012345", 2, [4, 5]),
        ("nvswitch-8", "135", 2, [1, 3]),
        ("nvswitch-8", "135", 4, SHORT),
    ],
)
def test_rules_of_known_boards(
    board: str, free: str, count: int, expected: list[int] | int
) -> None:
    layout = BOARDS[board]
    assert chosen_by_kernel(free_of(layout, free), layout, count * 1000) == expected


def test_devices_of_one_numa_node_come_first_where_links_are_equal() -> None:
    slots = [Slot("x", p, 1000 if p != 3 else 0, numa=p // 4) for p in range(8)]
    table = table_of([(slots, {"x": full(8)})])
    choice = gres.choose_devices(table, "n0", "dev", "x", 4000)
    assert (choice.slot.tolist(), choice.numa.tolist()) == ([4, 5, 6, 7], [0b10])
    choice = gres.choose_devices(table, "n0", "dev", "x", 5000)
    assert choice.numa.tolist() == [0b11]


def test_the_weakest_link_counts_more_than_one_numa_node() -> None:
    layout = Layout(weigh(4, lambda i, j: int((i, j) == (0, 3))))
    slots = [Slot("x", p, numa=p // 2) for p in range(4)]
    assert chosen_by_kernel(slots, layout, 2000) == [0, 3]


def test_a_share_goes_to_the_fullest_device_that_has_it() -> None:
    layout = full(4)
    slots = [Slot("x", p, free) for p, free in enumerate((1000, 300, 500, 200))]
    assert chosen_by_kernel(slots, layout, 250) == [1]
    assert chosen_by_kernel(slots, layout, 400) == [2]
    assert chosen_by_kernel(slots, layout, 600) == [0]
    rings = BOARDS["ascend-910-8"]
    assert chosen_by_kernel(free_of(rings, "0124"), rings, 250) == [4]


def test_degraded_devices_take_no_new_job() -> None:
    tables = Tables()
    table = SlotTable(tables.nodes)
    tables.nodes.set("n", cpu=1000, memory=0)
    table.set("n", [Device("dev", "x", numa=0) for _ in range(3)])
    table.set_health("n", 0, Health.DEGRADED)
    table.set_health("n", 1, Health.UNHEALTHY)
    assert gres.choose_devices(table, "n", "dev", "x", 1000).slot.tolist() == [2]
    assert gres.choose_devices(table, "n", "dev", "x", 2000).status.tolist() == [SHORT]


def test_node_score_of_two_rings() -> None:
    """8 x (healthy x 4 - rank) + (8 - free)."""
    layout = BOARDS["ascend-910-8"]
    nodes = ["01234567", "0124567", "012", "04", "0"]
    table = table_of([(free_of(layout, free), {"x": layout}) for free in nodes])
    table.set_health("n2", 7, Health.UNHEALTHY)
    kind = table.nodes.dims.find_gres("dev", "x")[1]
    every = np.arange(len(nodes))
    kernels = (table, gres.boards_of(table.layouts), gres.bench_of())
    assert gres.rate(*kernels, every, kind, 1000).tolist() == [
        8 * (32 - 3) + 0,
        8 * (32 - 1) + 1,
        8 * (28 - 1) + 5,
        8 * (32 - 0) + 6,
        8 * (32 - 0) + 7,
    ]
    assert gres.rate(*kernels, every, kind, 2000).tolist() == [
        8 * (32 - 1),
        8 * (32 - 1) + 1,
        8 * (28 - 2) + 5,
        -1,
        -1,
    ]


def test_more_than_sixteen_candidates_are_grown_within_one_block() -> None:
    layout = blocks(24, 8)
    slots = free_of(layout, "")
    for p in (0, 1, 2, *range(5, 24)):
        slots[p].free = 1000
    assert chosen_by_kernel(slots, layout, 8000) == list(range(8, 16))
    assert chosen_by_kernel(slots, layout, 6000) == list(range(3)) + list(range(5, 8))
    assert chosen_by_kernel(slots, layout, 22000) == [0, 1, 2, *range(5, 24)]


def test_rows_of_a_plan_become_items_by_type() -> None:
    parent = [-1, -1, -1, 2, 2, -1]
    amount = np.array([[1000, 5, 3, 1, 2, 0], [0, 0, 0, 0, 0, 0], [1, 1, 4, 0, 3, 1]], np.int64)
    ptr, node = np.array([0, 2, 3]), np.array([7, 8, 9])
    items = gres.items_of_rows(ptr, node, amount, parent).T.tolist()
    assert items == [
        [0, 7, 3, 1000],
        [0, 7, 4, 2000],
        [1, 9, 2, 1000],
        [1, 9, 4, 3000],
        [1, 9, 5, 1000],
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layout(()), "1 to 62 places"),
        (lambda: Layout(((0, 1), (2, 0))), "the same both ways"),
        (lambda: Layout(((1,),)), "0 on its diagonal"),
        (lambda: Layout(((0, 1), (1, 0)), counts=(3,)), "counts must be"),
        (lambda: Layout(((0, 1), (1, 0)), sets=(4,)), "a set or group"),
        (lambda: Layout(((0, 1), (1, 0)), groups=(1, 3)), "disjoint"),
        (lambda: Layout(((0, 1), (1, 0)), groups=(3,), prefer=((0,),)), "preferences"),
        (lambda: Layout(((0, 1), (1, 0)), groups=(1,), prefer=((-1,),)), "ranks"),
    ],
)
def test_what_cannot_be_a_layout_is_told(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
