"""Which devices of a node a job gets: the best-linked legal set, leaving the rest well linked.

Sets of one node are compared by, in this order: the sum of the link weights of their pairs; the
rank their layout gives to the groups they break into; the number of pairs on one NUMA node; the
same two sums over the devices that stay free; the lowest slots. Up to EXACT_MAX candidates every
set is weighed (branch and bound; C(16, 8) = 12,870 sets at most), beyond that sets are grown
greedily. Where a layout lists the legal sets, all of those are weighed, whatever their number.

A pair's weight holds the link's weight and, below it, 1 for one NUMA node. What stays free after a
set S out of all candidates has the sum T - degrees(S) + pairs(S): among sets of equal pairs the
least sum of degrees leaves most, so the rest need never be summed up.
"""

from __future__ import annotations

from typing import NamedTuple

from sched_core.columns import Cube, Matrix, Vector
from sched_core.jit import kernel
from sched_core.slots import LAYOUT, NUMA, PLACE

EXACT_MAX = 16
SHIFT = 12
"""Bits for the NUMA part of a sum of pair weights: a set of 64 has 2,016 pairs, 4,032 twice."""


class Boards(NamedTuple):
    """Layouts as arrays; P is the most places, at least 1 of each axis."""

    weights: Cube
    """[layouts, P, P]"""
    rules: Matrix
    """[layouts, 4]: PLACES, COUNTS, GROUPS, WORST."""
    sets: Vector
    """Masks of places: by layout, then by count."""
    first: Matrix
    """[layouts, P + 2] sets of count c: from `first[l, c]` to `first[l, c + 1]`."""
    groups: Matrix
    """[layouts, most groups] masks."""
    prefer: Cube
    """[layouts, P + 1, P + 1] rank of (taken, free)."""


PLACES = 0
COUNTS = 1
"""Bit c: c devices are legal."""
GROUPS = 2
WORST = 3
"""Highest rank of the layout; at least 1."""
RULES = 4


class Bench(NamedTuple):
    """Scratch of one choice, and its result. Contents between calls do not matter."""

    pair: Matrix
    """[64, 64] compound weights between candidates."""
    gain: Matrix
    """[65, 64] weight of a candidate to the devices picked so far, by depth."""
    rows: Matrix
    """[6, 65]: the rows below."""


CAND = 0
"""Slots that could be chosen, ascending."""
DEGREE = 1
"""Sum of a candidate's weights to all others."""
PICK = 2
"""Candidate numbers of the set at hand, ascending."""
BEST = 3
"""Those of the best set so far; at the end its slots."""
SUM = 4
"""Pairs of the first d picks; cell 64: of the best set."""
DEG = 5
"""Degrees of the first d picks; cell 64: of the best set."""
RANK = 64
"""Cell of the row PICK: rank of the set at hand; of BEST: of the best set."""
BENCH_ROWS = 6


@kernel
def ones(mask: int) -> int:
    """Bits set. O(bits set)."""
    count = 0
    while mask != 0:
        mask &= mask - 1
        count += 1
    return count


@kernel
def weigh_pairs(slots: Cube, boards: Boards, bench: Bench, node: int, found: int) -> None:
    """Fill `pair` and DEGREE for the candidates. O(found²)."""
    pair = bench.pair
    rows = bench.rows
    for i in range(found):
        rows[DEGREE, i] = 0
        pair[i, i] = 0
    for i in range(found):
        a = rows[CAND, i]
        for j in range(i):
            b = rows[CAND, j]
            weight = 0
            layout = slots[LAYOUT, node, a]
            if layout >= 0:
                weight = boards.weights[layout, slots[PLACE, node, a], slots[PLACE, node, b]]
            weight <<= SHIFT
            if slots[NUMA, node, a] >= 0 and slots[NUMA, node, a] == slots[NUMA, node, b]:
                weight += 1
            pair[i, j] = weight
            pair[j, i] = weight
            rows[DEGREE, i] += weight
            rows[DEGREE, j] += weight


@kernel
def better(rows: Matrix, pairs: int, degrees: int, size: int) -> bool:
    """Whether the set in PICK, with its rank, beats the best so far. O(1), on full ties O(size)."""
    links, best_links = pairs >> SHIFT, rows[SUM, RANK] >> SHIFT
    if links != best_links:
        return bool(links > best_links)
    if rows[PICK, RANK] != rows[BEST, RANK]:
        return bool(rows[PICK, RANK] < rows[BEST, RANK])
    if pairs != rows[SUM, RANK]:
        return bool(pairs > rows[SUM, RANK])
    if degrees != rows[DEG, RANK]:
        return bool(degrees < rows[DEG, RANK])
    for i in range(size):
        if rows[PICK, i] != rows[BEST, i]:
            return bool(rows[PICK, i] < rows[BEST, i])
    return False


@kernel
def keep(rows: Matrix, pairs: int, degrees: int, size: int) -> None:
    """Make the set in PICK the best if it is better. O(size)."""
    if better(rows, pairs, degrees, size):
        for i in range(size):
            rows[BEST, i] = rows[PICK, i]
        rows[BEST, RANK] = rows[PICK, RANK]
        rows[SUM, RANK] = pairs
        rows[DEG, RANK] = degrees


@kernel
def search_all(bench: Bench, found: int, size: int) -> None:
    """The best of all sets of `size` candidates, by branch and bound in lexicographic order.

    A branch is left when even the heaviest pairs could not make it better, or as good with a
    lesser sum of degrees; on full ties the first found is the lowest. At most C(found, size) sets,
    O(found) for each inner one.
    """
    pair = bench.pair
    gain = bench.gain
    rows = bench.rows
    heaviest, least = 0, rows[DEGREE, 0]
    for i in range(found):
        gain[0, i] = 0
        least = min(least, rows[DEGREE, i])
        for j in range(i):
            heaviest = max(heaviest, pair[i, j])
    rows[SUM, 0] = 0
    rows[DEG, 0] = 0
    depth, at = 0, 0
    while True:
        left = size - depth - 1
        if found - at <= left:
            if depth == 0:
                return
            depth -= 1
            at = rows[PICK, depth] + 1
            continue
        rows[PICK, depth] = at
        pairs = rows[SUM, depth] + gain[depth, at]
        degrees = rows[DEG, depth] + rows[DEGREE, at]
        at += 1
        if left == 0:
            keep(rows, pairs, degrees, size)
            continue
        top = 0
        for j in range(at, found):
            gain[depth + 1, j] = gain[depth, j] + pair[at - 1, j]
            top = max(top, gain[depth + 1, j])
        bound = pairs + left * top + left * (left - 1) // 2 * heaviest
        hopeful = bound == rows[SUM, RANK] and degrees + left * least < rows[DEG, RANK]
        if bound > rows[SUM, RANK] or hopeful:
            depth += 1
            rows[SUM, depth] = pairs
            rows[DEG, depth] = degrees


@kernel
def grow(bench: Bench, found: int, size: int) -> None:
    """The best of the sets grown from each candidate; for more candidates than can be enumerated.

    Rule: to the seed, the lowest first, add the candidate with the most weight to those picked;
    equals go by the least degree, then by slot. O(found² x size).
    """
    pair = bench.pair
    gain = bench.gain
    rows = bench.rows
    for seed in range(found):
        for i in range(found):
            gain[0, i] = 0
            gain[1, i] = 0
        nearest, pairs, degrees = seed, 0, 0
        for _ in range(size):
            gain[1, nearest] = 1
            pairs += gain[0, nearest]
            degrees += rows[DEGREE, nearest]
            last, nearest = nearest, -1
            for i in range(found):
                gain[0, i] += pair[last, i]
                if gain[1, i] == 1:
                    continue
                if (
                    nearest < 0
                    or gain[0, i] > gain[0, nearest]
                    or (gain[0, i] == gain[0, nearest] and rows[DEGREE, i] < rows[DEGREE, nearest])
                ):
                    nearest = i
        count = 0
        for i in range(found):
            if gain[1, i] == 1:
                rows[PICK, count] = i
                count += 1
        keep(rows, pairs, degrees, size)


@kernel
def rank_of(boards: Boards, layout: int, taken: int, free: int) -> int:
    """Rank a layout gives to taking a set of places while `free` are free. O(groups)."""
    rank = 0
    for g in range(boards.rules[layout, GROUPS]):
        group = boards.groups[layout, g]
        if group & taken:
            rank += boards.prefer[layout, ones(group & taken), ones(group & free)]
    return int(rank)


@kernel
def search_listed(
    slots: Cube, boards: Boards, bench: Bench, node: int, layout: int, found: int, size: int
) -> None:
    """The best of the sets a layout lists for `size` devices. O(sets x (found + size²))."""
    pair = bench.pair
    rows = bench.rows
    free = 0
    for i in range(found):
        free |= 1 << slots[PLACE, node, rows[CAND, i]]
    for s in range(boards.first[layout, size], boards.first[layout, size + 1]):
        mask = boards.sets[s]
        if mask & ~free:
            continue
        count, pairs, degrees = 0, 0, 0
        for i in range(found):
            if (mask >> slots[PLACE, node, rows[CAND, i]]) & 1:
                rows[PICK, count] = i
                for k in range(count):
                    pairs += pair[i, rows[PICK, k]]
                degrees += rows[DEGREE, i]
                count += 1
        rows[PICK, RANK] = rank_of(boards, layout, mask, free)
        keep(rows, pairs, degrees, size)
