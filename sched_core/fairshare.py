"""Fair-share factors of every association at once: Fair Tree, or the classic 2^-(U/S).

Fair Tree (R. Cox and L. Morrison, 2014). Among siblings the *level fair-share* is S / U: the part
of the siblings' shares that is one's own over the part of their usage that is. The tree is walked
depth first, best level first; users are ranked as they are met, and a user's factor is his rank
from below over the number of users. Siblings of one level: users share a rank, accounts have their
children merged into one list, and a user beside an account has the rank of its best user. Users
that inherit (`shares.INHERIT`) share a rank within their account.

Classic (multifactor without Fair Tree). S is the product of the parts down the tree, U the
*effective usage*: one's own part of all usage, drawn towards what the account as a whole used.

Half-lives drop out of both: only ratios of usage at one instant matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sched_core import jit
from sched_core.columns import FloatMatrix, Ints, Matrix
from sched_core.decay import FRACTION, roots
from sched_core.jit import entry, inlined, kernel
from sched_core.shares import USAGE_MAX, ShareTable

FACTOR_BITS = 30
ONE = 1 << FACTOR_BITS
"""Factors are 0..ONE, that is 0.0..1.0 in steps of 2^-30."""
UNUSED = 1e300
"""Level of what has shares and no usage: stands for infinity."""

# Rows of `columns`.
PARENT = 0
"""In: as in the ShareTable. Out: looking through accounts that inherit."""
SHARES = 1
KIND = 2
"""As in the ShareTable."""
USED = 3
"""In: usage of the association itself. Out: with that of all below it."""
BELOW_SHARES = 4
BELOW_USED = 5
"""Sums over the children."""
FIRST = 6
NEXT = 7
"""First child and next sibling; -1: none."""
ORDER = 8
"""Rows from the root down: an account is before its children."""
STACK = 9
SEGMENT = 10
"""What remains to be visited, best last, and where the list of siblings of each begins."""
SCRATCH = 11
FACTOR = 12
"""Out: 0..ONE."""
COLUMNS = 13
# Rows of `reals`.
LEVEL = 0
"""Level fair-share: 1.0 is exactly the share."""
PART = 1
"""Normalised shares, 0..1 of the whole (classic)."""
EFFECTIVE = 2
"""Effective usage, 0..1 of the whole (classic)."""
REALS = 3


class Tree(NamedTuple):
    """Associations: `n` rows, row 0 the root."""

    columns: Matrix
    """[COLUMNS, n]"""
    reals: FloatMatrix
    """[REALS, n]"""


_POWERS = tuple((1 << FRACTION + 31) // root for root in roots(FACTOR_BITS))
"""2^-(1/2), 2^-(1/4), 2^-(1/8) ... in steps of 2^-31."""


@kernel
def link(tree: Tree) -> int:
    """Fill FIRST to ORDER and the sums; gives the number of rows in ORDER. O(n).

    Invariant: afterwards USED of an account holds its own usage and that of all below it, at most
    USAGE_MAX. Rows that are absent, or hang below nothing, are in no list. Siblings that inherit
    are in no sum over siblings. O(depth) more for every row below accounts that inherit.
    """
    columns = tree.columns
    count = columns.shape[1]
    columns[BELOW_SHARES : BELOW_USED + 1] = 0
    columns[FIRST : NEXT + 1] = -1
    for row in range(count - 1, 0, -1):
        above = columns[PARENT, row]
        while above > 0 and columns[SHARES, above] < 0:
            above = columns[PARENT, above]
        columns[PARENT, row] = above
        if columns[KIND, row] >= 0 and above >= 0:
            columns[NEXT, row] = columns[FIRST, above]
            columns[FIRST, above] = row
    columns[ORDER, 0] = 0
    known = 1
    for i in range(count):
        if i == known:
            break
        row = columns[ORDER, i]
        child = columns[FIRST, row]
        while child >= 0:
            columns[BELOW_SHARES, row] += max(columns[SHARES, child], 0)
            columns[ORDER, known] = child
            known += 1
            child = columns[NEXT, child]
    for i in range(known - 1, 0, -1):
        row = columns[ORDER, i]
        above = columns[PARENT, row]
        used = columns[USED, row]
        if columns[SHARES, row] >= 0:
            columns[BELOW_USED, above] = min(columns[BELOW_USED, above] + used, USAGE_MAX)
        columns[USED, above] = min(columns[USED, above] + used, USAGE_MAX)
    return known


@kernel
def levels(tree: Tree, known: int) -> int:
    """Fill LEVEL of all but the root; gives the number of users. O(n).

    Users that inherit are of one level, as if each had used exactly his share. One division of two products: exact, so that equal ratios tie, while these stay below 2^53.
    """
    columns = tree.columns
    users = 0
    for i in range(1, known):
        row = columns[ORDER, i]
        above = columns[PARENT, row]
        used = columns[USED, row]
        users += columns[KIND, row] == 1
        if columns[SHARES, row] <= 0:
            tree.reals[LEVEL, row] = 1.0 if columns[SHARES, row] < 0 else 0.0
        elif used == 0:
            tree.reals[LEVEL, row] = UNUSED
        else:
            promised = float(columns[SHARES, row]) * float(columns[BELOW_USED, above])
            taken = float(columns[BELOW_SHARES, above]) * float(used)
            tree.reals[LEVEL, row] = promised / taken
    return users


@kernel
def sort_stack(tree: Tree, low: int, high: int) -> None:
    """Sort a part of STACK by rising LEVEL, stably (bottom-up merge). O(k log k)."""
    columns = tree.columns
    reals = tree.reals
    width = 1
    while width < high - low:
        for first in range(low, high, 2 * width):
            middle, last = min(first + width, high), min(first + 2 * width, high)
            left, right = first, middle
            for k in range(first, last):
                if right >= last or (
                    left < middle
                    and reals[LEVEL, columns[STACK, left]] <= reals[LEVEL, columns[STACK, right]]
                ):
                    columns[SCRATCH, k] = columns[STACK, left]
                    left += 1
                else:
                    columns[SCRATCH, k] = columns[STACK, right]
                    right += 1
        for k in range(low, high):
            columns[STACK, k] = columns[SCRATCH, k]
        width *= 2


@kernel
def descend(tree: Tree, low: int, high: int) -> int:
    """Replace a part of STACK by the children of the accounts in it, sorted; gives its new end.

    O(k log k) for k children. Invariant: STACK never holds a row twice, so it never overflows.
    """
    columns = tree.columns
    accounts = 0
    for i in range(low, high):
        if columns[KIND, columns[STACK, i]] == 0:
            columns[SCRATCH, accounts] = columns[STACK, i]
            accounts += 1
    top = low
    for i in range(accounts):
        child = columns[FIRST, columns[SCRATCH, i]]
        while child >= 0:
            columns[STACK, top] = child
            columns[SEGMENT, top] = low
            top += 1
            child = columns[NEXT, child]
    sort_stack(tree, low, top)
    return top


@entry
def rank_users(tree: Tree) -> int:
    """Fair Tree: fill FACTOR of every user (0 for accounts); gives the number of users.

    Reads PARENT, SHARES, KIND and USED, which it sums up. O(n log n). `shared` is the rank that the
    best user of the accounts just entered takes over, being beside a user, while the stack is
    higher than `floor`.
    """
    columns = tree.columns
    reals = tree.reals
    columns[FACTOR] = 0
    users = levels(tree, link(tree))
    columns[STACK, 0] = 0
    top = descend(tree, 0, 1)
    left, shared, floor = users, 0, 0
    while top > 0:
        low = top - 1
        level, segment = reals[LEVEL, columns[STACK, low]], columns[SEGMENT, low]
        while (
            low > 0
            and columns[SEGMENT, low - 1] == segment
            and reals[LEVEL, columns[STACK, low - 1]] == level
        ):
            low -= 1
        if top <= floor:
            shared = 0
        rank = shared if shared > 0 else left
        found = 0
        for i in range(low, top):
            if columns[KIND, columns[STACK, i]] == 1:
                columns[FACTOR, columns[STACK, i]] = (rank << FACTOR_BITS) // users
                found += 1
        if found > 0:
            left -= found
            shared, floor = rank, low
        top = descend(tree, low, top)
    return users


@inlined
def half_power(exponent: float) -> int:
    """2^-exponent in steps of 2^-30, rounded down; `exponent` >= 0. The same on every machine."""
    if exponent >= FACTOR_BITS + 1:
        return 0
    fixed = int(exponent * ONE)
    value = 1 << 31
    for i in range(FACTOR_BITS):
        if fixed >> (FACTOR_BITS - 1 - i) & 1:
            value = value * _POWERS[i] >> 31
    return value >> (fixed >> FACTOR_BITS) >> 1


@entry
def halve_users(tree: Tree, damping: int) -> int:
    """Classic: FACTOR = 2^-(U / S / damping) of users and accounts; gives the rows done. O(n).

    Below the first level U = own + (U of the account - own) x shares / shares of all siblings. Who
    inherits has the factor of the account.
    """
    columns = tree.columns
    reals = tree.reals
    columns[FACTOR] = 0
    known = link(tree)
    whole = float(max(columns[USED, 0], 1))
    reals[PART, 0] = 1.0
    reals[EFFECTIVE, 0] = float(columns[USED, 0]) / whole
    for i in range(known):
        row = columns[ORDER, i]
        above = columns[PARENT, row]
        if i > 0 and columns[SHARES, row] < 0:
            reals[EFFECTIVE, row] = reals[EFFECTIVE, above]
            reals[PART, row] = reals[PART, above]
        elif i > 0:
            part = 0.0
            if columns[SHARES, row] > 0:
                part = float(columns[SHARES, row]) / float(columns[BELOW_SHARES, above])
            own = float(columns[USED, row]) / whole
            if above > 0:
                own += (reals[EFFECTIVE, above] - own) * part
            reals[EFFECTIVE, row] = own
            reals[PART, row] = reals[PART, above] * part
        if reals[PART, row] > 0.0:
            used = reals[EFFECTIVE, row] / reals[PART, row]
            columns[FACTOR, row] = half_power(used / damping)
    return known


def _tree(table: ShareTable, now: int) -> Tree:
    """Columns for the kernels: a copy of the table's, its usage, and scratch."""
    rows = table.rows
    columns = np.zeros((COLUMNS, rows), np.int64)
    columns[: KIND + 1] = table.columns[:, :rows]
    columns[USED] = table.usage(now)
    return Tree(columns, np.zeros((REALS, rows)))


def fair_tree(table: ShareTable, now: int) -> Ints:
    """[rows] Fair Tree factor of every user at `now` (s), 0..ONE; 0 for what is no user.

    The best user of all has ONE. O(n log n), one kernel call.
    """
    jit.compile_kernels()
    tree = _tree(table, now)
    rank_users(tree)
    factors: Ints = tree.columns[FACTOR]
    return factors


def classic(table: ShareTable, now: int, damping: int = 1) -> Ints:
    """[rows] classic factor of every user and account at `now` (s), 0..ONE. O(n), one kernel call.

    ONE without any usage, 1/2 where usage is exactly the share, 0 without shares. A greater
    `damping` (1 or more) softens what usage does.
    """
    assert damping >= 1
    jit.compile_kernels()
    tree = _tree(table, now)
    halve_users(tree, damping)
    factors: Ints = tree.columns[FACTOR]
    return factors


def standing(table: ShareTable, now: int) -> tuple[Ints, Ints]:
    """[rows] usage of every association with all below it, and its level in steps of 2^-30.

    Usage in thousandths x seconds (an account that inherits: its own only). A level of ONE is
    exactly the share; below it one has had more. Levels are cut off at 2^62 (no usage). What people
    are shown; O(n log n).
    """
    jit.compile_kernels()
    tree = _tree(table, now)
    rank_users(tree)
    level = np.minimum(tree.reals[LEVEL], 2.0**32) * ONE
    return tree.columns[USED], level.astype(np.int64)
