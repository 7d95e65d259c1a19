"""Devices for the rows of a plan: what a node can give, which devices it gives, all rows at once."""

from __future__ import annotations

from typing import NamedTuple

from sched_core.columns import Cube, Matrix, Vector
from sched_core.device_sets import (
    BEST,
    CAND,
    COUNTS,
    EXACT_MAX,
    PICK,
    PLACES,
    RANK,
    SUM,
    WORST,
    Bench,
    Boards,
    grow,
    search_all,
    search_listed,
    weigh_pairs,
)
from sched_core.jit import entry, kernel
from sched_core.slots import FREE, HEALTH, KIND, LAYOUT, NUMA, PLACE, WHOLE

SHORT = -1
"""Not enough healthy free devices."""
ILLEGAL = -2
"""The layout allows no set of so many devices, or the amount is no legal one."""
NO_SET = -3
"""Enough devices are free, and no legal set of them."""
GIVEN_BACK = -4
"""It could be had; another item of the same start could not."""


@kernel
def candidates(slots: Cube, rows: Matrix, node: int, kind: int, least: int) -> int:
    """Write healthy slots of a kind with at least `least` thousandths free; gives their number."""
    found = 0
    for s in range(slots.shape[2]):
        healthy = slots[HEALTH, node, s] == 0
        if slots[KIND, node, s] == kind and healthy and slots[FREE, node, s] >= least:
            rows[CAND, found] = s
            found += 1
    return found


@kernel
def fullest(slots: Cube, rows: Matrix, node: int, found: int) -> int:
    """The candidate in part use with the least left, equals the lowest; -1: all are whole."""
    best = -1
    for i in range(found):
        free = slots[FREE, node, rows[CAND, i]]
        if free < WHOLE and (best < 0 or free < slots[FREE, node, rows[CAND, best]]):
            best = i
    return best


@kernel
def pick(slots: Cube, boards: Boards, bench: Bench, node: int, kind: int, want: int) -> int:
    """Choose devices for `want` thousandths of a kind on a node; gives their number or why not.

    Writes the slots, ascending, into the row BEST. Whole devices are multiples of 1000; an amount
    below 1000 is a share of one device, the fullest that has it: a free one is broken into only
    where none in part use suffices, and is then chosen like one whole device. Takes nothing.
    """
    rows = bench.rows
    if want <= 0 or (want > WHOLE and want % WHOLE != 0):
        return ILLEGAL
    size = max(want // WHOLE, 1)
    found = candidates(slots, rows, node, kind, min(want, WHOLE))
    if found < size:
        return SHORT
    rows[PICK, RANK] = 0
    rows[BEST, RANK] = 0
    rows[SUM, RANK] = -1
    share = fullest(slots, rows, node, found)
    if share >= 0:
        rows[BEST, 0] = rows[CAND, share]
        return 1
    layout, listed = slots[LAYOUT, node, rows[CAND, 0]], False
    if layout >= 0:
        if (boards.rules[layout, COUNTS] >> size) & 1 == 0:
            return ILLEGAL
        listed = boards.first[layout, size] < boards.first[layout, size + 1]
    weigh_pairs(slots, boards, bench, node, found)
    if listed:
        search_listed(slots, boards, bench, node, layout, found, size)
    elif found <= EXACT_MAX:
        search_all(bench, found, size)
    else:
        grow(bench, found, size)
    if rows[SUM, RANK] < 0:
        return NO_SET
    for i in range(size):
        rows[BEST, i] = rows[CAND, rows[BEST, i]]
    return int(size)


@kernel
def can_give(slots: Cube, boards: Boards, bench: Bench, node: int, kind: int, want: int) -> int:
    """Whether a node could give this: 1, or why not. Weighs nothing. O(slots + listed sets)."""
    rows = bench.rows
    if want <= 0 or (want > WHOLE and want % WHOLE != 0):
        return ILLEGAL
    size = max(want // WHOLE, 1)
    found = candidates(slots, rows, node, kind, min(want, WHOLE))
    if found < size:
        return SHORT
    layout = slots[LAYOUT, node, rows[CAND, 0]]
    if layout < 0 or fullest(slots, rows, node, found) >= 0:
        return 1
    if (boards.rules[layout, COUNTS] >> size) & 1 == 0:
        return ILLEGAL
    if boards.first[layout, size] == boards.first[layout, size + 1]:
        return 1
    free = 0
    for i in range(found):
        free |= 1 << slots[PLACE, node, rows[CAND, i]]
    for s in range(boards.first[layout, size], boards.first[layout, size + 1]):
        if boards.sets[s] & ~free == 0:
            return 1
    return NO_SET


class Items(NamedTuple):
    """What is wanted of which node, start by start, and what it got."""

    wanted: Matrix
    """[4, q]: I_START (non-decreasing), I_NODE, I_KIND, I_AMOUNT."""
    out: Matrix
    """[3, q + 1]: O_FIRST (item i got devices from `O_FIRST[i]` to `O_FIRST[i + 1]`), O_STATUS,
    O_NUMA."""
    chosen: Matrix
    """[2, devices]: C_SLOT, C_AMOUNT; as long as whole devices, rounded up, are wanted in sum."""


I_START = 0
I_NODE = 1
I_KIND = 2
I_AMOUNT = 3
O_FIRST = 0
O_STATUS = 1
"""Devices it got, or why none."""
O_NUMA = 2
"""Mask of the NUMA nodes of its devices; 0: unknown."""
C_SLOT = 0
C_AMOUNT = 1


@kernel
def give_back(slots: Cube, items: Items, start: int, end: int) -> None:
    """Undo the items of a start that have been chosen. O(their devices)."""
    out = items.out
    base = out[O_FIRST, start]
    for i in range(start, end):
        for d in range(out[O_FIRST, i], out[O_FIRST, i + 1]):
            where = items.chosen[C_SLOT, d]
            slots[FREE, items.wanted[I_NODE, i], where] += items.chosen[C_AMOUNT, d]
    for i in range(start, end):
        out[O_STATUS, i] = GIVEN_BACK
        out[O_NUMA, i] = 0
        out[O_FIRST, i + 1] = base


@kernel
def take(slots: Cube, items: Items, bench: Bench, i: int, count: int) -> None:
    """Take the devices chosen for an item and write them down. O(count)."""
    wanted = items.wanted
    node, amount = wanted[I_NODE, i], min(wanted[I_AMOUNT, i], WHOLE)
    d = items.out[O_FIRST, i]
    near = 0
    for k in range(count):
        slot = bench.rows[BEST, k]
        slots[FREE, node, slot] -= amount
        items.chosen[C_SLOT, d + k] = slot
        items.chosen[C_AMOUNT, d + k] = amount
        if slots[NUMA, node, slot] >= 0:
            near |= 1 << slots[NUMA, node, slot]
    items.out[O_NUMA, i] = near
    items.out[O_FIRST, i + 1] = d + count


@entry
def pick_items(slots: Cube, boards: Boards, bench: Bench, items: Items) -> int:
    """Choose devices for all items in order, each after the earlier ones; gives the starts failed.

    A start is all or nothing: if one of its items cannot be had, its others get nothing either
    (GIVEN_BACK). Changes FREE of `slots`. Invariant: 0 <= FREE of what was chosen, no unhealthy or
    degraded device is chosen. O(sum of the choices).
    """
    wanted = items.wanted
    out = items.out
    first, failed, refused = 0, 0, False
    out[O_FIRST, 0] = 0
    for i in range(wanted.shape[1]):
        if i > 0 and wanted[I_START, i] != wanted[I_START, i - 1]:
            first, refused = i, False
        out[O_FIRST, i + 1] = out[O_FIRST, i]
        out[O_NUMA, i] = 0
        if refused:
            out[O_STATUS, i] = GIVEN_BACK
            continue
        node, kind = wanted[I_NODE, i], wanted[I_KIND, i]
        count = pick(slots, boards, bench, node, kind, wanted[I_AMOUNT, i])
        if count > 0:
            take(slots, items, bench, i, count)
        else:
            give_back(slots, items, first, i)
            out[O_FIRST, i + 1] = out[O_FIRST, i]
            refused = True
            failed += 1
        out[O_STATUS, i] = count
    return failed


@entry
def check_nodes(
    slots: Cube, boards: Boards, bench: Bench, nodes: Vector, kind: int, want: int, out: Vector
) -> int:
    """Write `can_give` of each node into `out`; gives how many can. O(nodes x that)."""
    able = 0
    for i in range(len(nodes)):
        out[i] = can_give(slots, boards, bench, nodes[i], kind, want)
        if out[i] == 1:
            able += 1
    return able


@entry
def rate_nodes(
    slots: Cube, boards: Boards, bench: Bench, nodes: Vector, kind: int, want: int, out: Vector
) -> int:
    """Rate nodes for the devices they would give; gives how many can. Higher is better, -1 cannot.

    Rating: places x (healthy x WORST - rank) + (places - free), the node score of MindCluster's
    Ascend affinity; without preferences the healthiest and then the fullest node. `free` counts
    whole free healthy devices; without a layout the devices are the places. O(sum of the choices).
    """
    able = 0
    for i in range(len(nodes)):
        node = nodes[i]
        out[i] = -1
        if pick(slots, boards, bench, node, kind, want) < 0:
            continue
        places, worst, healthy, free, layout = 0, 1, 0, 0, -1
        for s in range(slots.shape[2]):
            if slots[KIND, node, s] == kind:
                places += 1
                layout = slots[LAYOUT, node, s]
                if slots[HEALTH, node, s] == 0:
                    healthy += 1
                    if slots[FREE, node, s] >= WHOLE:
                        free += 1
        if layout >= 0:
            places, worst = boards.rules[layout, PLACES], boards.rules[layout, WORST]
        out[i] = places * (healthy * worst - bench.rows[BEST, RANK]) + (places - free)
        able += 1
    return able
