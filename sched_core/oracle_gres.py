"""The slow, obvious twin of the device choice: every set of every size, compared as tuples.

Imports no kernel and no table: devices are plain values, layouts plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from sched_core.layouts import Layout

SHORT = -1
ILLEGAL = -2
NO_SET = -3
GIVEN_BACK = -4


@dataclass(slots=True)
class Slot:
    """A device: kind, healthy or not, thousandths free, NUMA node (-1 unknown), place."""

    kind: str
    place: int
    free: int = 1000
    healthy: bool = True
    numa: int = -1


def pairs(slots: Sequence[Slot], chosen: Sequence[int], layout: Layout | None) -> tuple[int, int]:
    """Sum of link weights of all pairs of a set, and how many of them share a NUMA node."""
    links = near = 0
    for i, j in combinations(chosen, 2):
        if layout:
            links += layout.weights[slots[i].place][slots[j].place]
        near += slots[i].numa == slots[j].numa >= 0
    return links, near


def legal(slots: Sequence[Slot], chosen: Sequence[int], layout: Layout | None) -> bool:
    """Whether a job may have this set."""
    if layout is None:
        return True
    if layout.counts and len(chosen) not in layout.counts:
        return False
    mask = sum(1 << slots[i].place for i in chosen)
    listed = [m for m in layout.sets if m.bit_count() == len(chosen)]
    return not listed or mask in listed


def rank(
    slots: Sequence[Slot], chosen: Sequence[int], free: Sequence[int], layout: Layout | None
) -> int:
    """Sum of the ranks of the groups a listed set breaks into."""
    if layout is None or not any(m.bit_count() == len(chosen) for m in layout.sets):
        return 0
    total = 0
    for group in layout.groups:
        inside = [i for i in chosen if group >> slots[i].place & 1]
        around = [i for i in free if group >> slots[i].place & 1]
        if inside:
            total += layout.prefer[len(inside) - 1][len(around) - 1]
    return total


def choose(slots: Sequence[Slot], layout: Layout | None, kind: str, want: int) -> list[int] | int:
    """The slots a job gets, or why none: the best legal set of all there are."""
    if want <= 0 or (want > 1000 and want % 1000):
        return ILLEGAL
    usable = [
        i
        for i, slot in enumerate(slots)
        if slot.kind == kind and slot.healthy and slot.free >= min(want, 1000)
    ]
    size = max(want // 1000, 1)
    if len(usable) < size:
        return SHORT
    in_use = [i for i in usable if slots[i].free < 1000]
    if in_use:
        return [min(in_use, key=lambda i: (slots[i].free, i))]
    if layout is not None and (
        size > len(layout.weights) or (layout.counts and size not in layout.counts)
    ):
        return ILLEGAL
    best: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    for chosen in combinations(usable, size):
        if legal(slots, chosen, layout):
            links, near = pairs(slots, chosen, layout)
            rest = pairs(slots, [i for i in usable if i not in chosen], layout)
            cost = rank(slots, chosen, usable, layout)
            key = (-links, cost, -near, -rest[0], -rest[1])
            if best is None or (key, chosen) < best:
                best = (key, chosen)
    return NO_SET if best is None else list(best[1])


def choose_items(
    nodes: dict[int, tuple[list[Slot], dict[str, Layout | None]]],
    items: Sequence[tuple[int, int, str, int]],
) -> list[list[int] | int]:
    """Items (start, node, kind, want) one after another; a start gets all of its items or none."""
    out: list[list[int] | int] = []
    for start in sorted({item[0] for item in items}):
        mine = [item[1:] for item in items if item[0] == start]
        got: list[list[int] | int] = []
        for node, kind, want in mine:
            slots, layouts = nodes[node]
            chosen = choose(slots, layouts.get(kind), kind, want)
            got.append(chosen)
            if isinstance(chosen, int):
                break
            for i in chosen:
                slots[i].free -= min(want, 1000)
        if isinstance(got[-1], int):
            for (node, _, want), chosen in zip(mine, got, strict=False):
                if isinstance(chosen, list):
                    for i in chosen:
                        nodes[node][0][i].free += min(want, 1000)
            got = [chosen if isinstance(chosen, int) else GIVEN_BACK for chosen in got]
            got += [GIVEN_BACK] * (len(mine) - len(got))
        out += got
    return out
