"""Fair-share and priorities by the book, for tests: fractions and recursion, nothing clever.

Imports no kernel and no table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

UNUSED = Fraction(1 << 200)


@dataclass(frozen=True)
class Association:
    """One row of the tree: `parent` is a name, "root" at the top; `used` by itself.

    `shares` below 0: it inherits.
    """

    parent: str
    shares: int
    user: bool
    used: int


Tree = dict[str, Association]


def total_used(tree: Tree, name: str) -> int:
    """Usage of an association and of all below it."""
    own = tree[name].used if name in tree else 0
    return own + sum(total_used(tree, child) for child in children(tree, name))


def children(tree: Tree, name: str) -> list[str]:
    """Names below one in the tree that fair-share looks at."""
    return [child for child in tree if parent(tree, child) == name]


def parent(tree: Tree, name: str) -> str:
    """The account above, looking through those that inherit."""
    above = tree[name].parent
    while above != "root" and tree[above].shares < 0:
        above = tree[above].parent
    return above


def level(tree: Tree, name: str) -> Fraction:
    """S / U among siblings; without shares 0, without usage as good as infinite."""
    siblings = [s for s in children(tree, parent(tree, name)) if tree[s].shares >= 0]
    if tree[name].shares <= 0:
        return Fraction(int(tree[name].shares < 0))
    if not total_used(tree, name):
        return UNUSED
    part = Fraction(tree[name].shares, sum(tree[s].shares for s in siblings))
    return part / Fraction(total_used(tree, name), sum(total_used(tree, s) for s in siblings))


def tiers(tree: Tree, siblings: Iterable[str]) -> list[list[str]]:
    """Users below a merged list of siblings, best first; those of one tier share a rank."""
    out: list[list[str]] = []
    names = list(siblings)
    for value in sorted({level(tree, name) for name in names}, reverse=True):
        equal = [name for name in names if level(tree, name) == value]
        users = [name for name in equal if tree[name].user]
        below = [c for name in equal if not tree[name].user for c in children(tree, name)]
        inner = tiers(tree, below)
        if users:
            inner = [users + (inner[0] if inner else []), *inner[1:]]
        out += inner
    return out


def fair_tree(tree: Tree) -> dict[str, Fraction]:
    """Fair Tree factor of every user: rank from below over the number of users."""
    count = sum(row.user for row in tree.values())
    out, rank = {}, count
    for tier in tiers(tree, children(tree, "root")):
        out.update({name: Fraction(rank, count) for name in tier})
        rank -= len(tier)
    return out


def classic(tree: Tree, name: str, damping: int) -> float:
    """2^-(U / S / damping) of one association."""
    share, effective = normalised(tree, name)
    return math.exp2(-effective / share / damping) if share else 0.0


def normalised(tree: Tree, name: str) -> tuple[Fraction, Fraction]:
    """Normalised shares and effective usage of one association."""
    if name == "root":
        return Fraction(1), Fraction(int(total_used(tree, "root") > 0))
    above = parent(tree, name)
    share, effective = normalised(tree, above)
    if tree[name].shares < 0:
        return share, effective
    siblings = sum(max(tree[s].shares, 0) for s in children(tree, above))
    part = Fraction(tree[name].shares, siblings) if siblings else Fraction(0)
    own = Fraction(total_used(tree, name), max(total_used(tree, "root"), 1))
    if above == "root":
        return part, own
    return share * part, own + (effective - own) * part


def decayed(rate: int, start: int, end: int, now: int, half_life: int) -> float:
    """What usage at a rate from `start` to `end` counts at `now`, each instant halved with time."""
    steps = 2000
    width = (end - start) / steps
    middles = (start + (i + 0.5) * width for i in range(steps))
    return sum(rate * width * math.exp2((middle - now) / half_life) for middle in middles)


def priority(
    weights: dict[str, int], factors: dict[str, Fraction], site: int, nice: int
) -> dict[str, int]:
    """Every term of a job and their sum `priority`: factors down to 2^-30, terms to integers."""
    out = {
        name: weight * math.floor(factors[name] * 2**30) // 2**30
        for name, weight in weights.items()
    }
    out.update(site=site, nice=-nice)
    out["priority"] = min(max(sum(out.values()), 1), 2**32 - 1)
    return out
