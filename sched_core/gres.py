"""Which devices a start gets: the face of the device kernels for tables and plans.

Amounts are thousandths of a device: 2000 is two whole devices, 250 a quarter of one. What sets are
legal and which is best is told in `device_sets` and `layouts`; nothing here changes a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sched_core import device_sets, jit
from sched_core.columns import Ints, Matrix
from sched_core.device_items import I_AMOUNT, Items, check_nodes, pick_items, rate_nodes
from sched_core.device_sets import Bench, Boards
from sched_core.layouts import Layout
from sched_core.slots import SLOTS_MAX, WHOLE, SlotTable


@dataclass(frozen=True, slots=True)
class Choice:
    """Devices chosen for items, item by item."""

    status: Ints
    """[q] devices the item got (at least 1), or SHORT, ILLEGAL, NO_SET, GIVEN_BACK."""
    ptr: Ints
    """[q + 1] devices of item i: `ptr[i]` to `ptr[i + 1]`."""
    slot: Ints
    """[devices] slot on the item's node; ascending within an item."""
    amount: Ints
    """[devices] thousandths taken of it."""
    numa: Ints
    """[q] mask of the NUMA nodes of an item's devices: their CPUs are the local ones; 0: unknown."""
    failed: int
    """Starts that got nothing."""


def boards_of(layouts: list[Layout]) -> Boards:
    """Layouts as arrays for the kernels. Plain Python over the listed sets: keep the result."""
    places = max((layout.places for layout in layouts), default=1)
    most = max((len(layout.groups) for layout in layouts), default=0)
    n = max(len(layouts), 1)
    weights = np.zeros((n, places, places), np.int64)
    rules = np.zeros((n, device_sets.RULES), np.int64)
    first = np.zeros((n, places + 2), np.int64)
    groups = np.zeros((n, max(most, 1)), np.int64)
    prefer = np.zeros((n, places + 1, places + 1), np.int64)
    sets: list[int] = []
    for number, layout in enumerate(layouts):
        size = layout.places
        weights[number, :size, :size] = layout.weights
        worst = max((rank for row in layout.prefer for rank in row), default=1)
        counts = layout.counts or range(1, size + 1)
        legal = sum(1 << count for count in sorted({*counts}))
        rules[number] = (size, legal, len(layout.groups), max(worst, 1))
        groups[number, : len(layout.groups)] = layout.groups
        for taken, row in enumerate(layout.prefer[:size]):
            prefer[number, taken + 1, 1 : len(row) + 1] = row[:size]
        for count in range(places + 2):
            first[number, count] = len(sets)
            sets += sorted(mask for mask in layout.sets if mask.bit_count() == count)
    return Boards(weights, rules, np.array(sets or [0], np.int64), first, groups, prefer)


def bench_of() -> Bench:
    """Scratch for one choice at a time (67 KiB): one for each thread that chooses."""
    return Bench(
        pair=np.zeros((SLOTS_MAX, SLOTS_MAX), np.int64),
        gain=np.zeros((SLOTS_MAX + 1, SLOTS_MAX), np.int64),
        rows=np.zeros((device_sets.BENCH_ROWS, SLOTS_MAX + 1), np.int64),
    )


def choose(table: SlotTable, wanted: Matrix, boards: Boards, bench: Bench) -> Choice:
    """Devices for all items of all starts, in order, each beside the earlier ones. One kernel call.

    `wanted[4, q]`: start (non-decreasing; its items are all or nothing), node row, dimension of the
    device type (of the name where devices have no type), thousandths. `boards` are those of
    `table.layouts`.
    """
    jit.compile_kernels()
    q = wanted.shape[1]
    most = int(-(-wanted[I_AMOUNT] // WHOLE).sum())
    items = Items(
        wanted=np.ascontiguousarray(wanted, np.int64),
        out=np.zeros((3, q + 1), np.int64),
        chosen=np.zeros((2, max(most, 1)), np.int64),
    )
    table.fit_columns()
    failed = pick_items(table.slots.copy(), boards, bench, items)
    ptr, status, numa = items.out
    slot, amount = items.chosen[:, : ptr[q]]
    return Choice(status[:q], ptr, slot, amount, numa[:q], int(failed))


def choose_devices(table: SlotTable, node: str, name: str, kind: str, want: int) -> Choice:
    """Devices for one request on one node: `want` thousandths of a named resource.

    For commands and examples; a pass calls `choose` once for all its rows.
    """
    total, typed = table.nodes.dims.find_gres(name, kind)
    row = table.nodes.names.find(node)
    assert row >= 0, node
    wanted = np.array([[0], [row], [typed if kind else total], [want]], np.int64)
    return choose(table, wanted, boards_of(table.layouts), bench_of())


def items_of_rows(ptr: Ints, node: Ints, amount: Matrix, parent: list[int]) -> Matrix:
    """What `choose` is asked for the rows of a plan, whose `amount[rows, R]` counts devices.

    `ptr[starts + 1]` and `node[rows]` as in a Plan, `parent` that of the Dimensions. A row asks for
    each type it takes, and for the devices without type: its total less its types. O(rows x R).
    """
    leaf = leaf_amounts(amount, parent)
    row, kind = np.nonzero(leaf)
    start = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    return np.array([start[row], node[row], kind, leaf[row, kind] * WHOLE], np.int64)


def leaf_amounts(amount: Matrix, parent: list[int]) -> Matrix:
    """`[rows, R]` devices of each kind: of a total what its types leave; CPU and memory 0."""
    leaf = amount.copy()
    leaf[:, :2] = 0
    for r, total in enumerate(parent[: amount.shape[1]]):
        if total >= 0:
            leaf[:, total] -= amount[:, r]
    return leaf


def can_give(
    table: SlotTable, boards: Boards, bench: Bench, nodes: Ints, kind: int, want: int
) -> Ints:
    """For each node row: 1 if it could give `want` thousandths of a dimension now, or why not."""
    jit.compile_kernels()
    table.fit_columns()
    out = np.zeros(len(nodes), np.int64)
    check_nodes(table.slots, boards, bench, np.ascontiguousarray(nodes, np.int64), kind, want, out)
    return out


def rate(table: SlotTable, boards: Boards, bench: Bench, nodes: Ints, kind: int, want: int) -> Ints:
    """For each node row how good a place it is for these devices, higher is better; -1: none."""
    jit.compile_kernels()
    table.fit_columns()
    out = np.zeros(len(nodes), np.int64)
    rate_nodes(table.slots, boards, bench, np.ascontiguousarray(nodes, np.int64), kind, want, out)
    return out
