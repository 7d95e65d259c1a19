"""The slow, obvious twin of placement by topology: all sets of leaves, then all sets of nodes.

Imports no kernel and no table: a tree is a dict from switch to parent, "" above the roots; a node
without a switch hangs on the switch "-".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from sched_core.oracle import Held, Node, Pass
from sched_core.request import Request

Candidate = tuple[int, str, int]
"""Node row, leaf switch, tasks it can host."""
TOO_FEW = 0
SWITCHES = -1


def path(parents: dict[str, str], switch: str) -> list[str]:
    """A switch and all above it; last the top, ""."""
    out = [switch]
    while out[-1]:
        out.append(parents.get(out[-1], ""))
    return out


def height(parents: dict[str, str], leaves: Sequence[str], switch: str) -> int:
    """Longest way down from a switch."""
    known = [*parents, *leaves, "-"]
    return max(
        (path(parents, low).index(switch) for low in known if switch in path(parents, low)),
        default=0,
    )


def common(parents: dict[str, str], leaves: Sequence[str]) -> str:
    """The lowest switch above some leaves."""
    first = path(parents, leaves[0])
    return next(s for s in first if all(s in path(parents, leaf) for leaf in leaves))


def fewest_leaves(
    parents: dict[str, str], candidates: Sequence[Candidate], size: int
) -> tuple[int, int] | None:
    """Fewest leaf switches of any `size` candidates, and the height of the lowest switch so."""
    best = None
    every = [leaf for _, leaf, _ in candidates]
    for gang in combinations(candidates, size):
        leaves = sorted({leaf for _, leaf, _ in gang})
        key = (len(leaves), height(parents, every, common(parents, leaves)))
        best = key if best is None else min(best, key)
    return best


def place(
    parents: dict[str, str],
    candidates: Sequence[Candidate],
    low: int,
    high: int,
    ntasks: int = 0,
    most: int = 0,
    adjacent: bool = False,
) -> list[tuple[int, int]] | int:
    """The gang as (node, tasks), or why there is none."""
    usable = [c for c in candidates if c[2]]
    if not ntasks:
        size = min(len(usable), high)
        if size < low:
            return TOO_FEW
        gang = equal(parents, usable, size, 0, most, adjacent)
        if gang == SWITCHES:
            gang = equal(parents, usable, low, 0, most, adjacent)
        return gang if isinstance(gang, int) else [(c[0], c[2]) for c in gang]
    gang = equal(parents, usable, 0, ntasks, most, False)
    if isinstance(gang, list) and not low <= len(gang) <= high:
        size = low if len(gang) < low else high
        able = [c for c in usable if c[2] * size >= ntasks]
        gang = equal(parents, able, size, 0, most, adjacent)
        widest = unequal(parents, usable, size, ntasks)
        if isinstance(gang, int) or span(widest) < span(gang):
            gang = SWITCHES if 0 < most < span(widest) else widest or TOO_FEW
    if isinstance(gang, int):
        return gang
    tasks, left = [1] * len(gang), ntasks - len(gang)
    for i, (_, _, fits) in enumerate(gang):
        tasks[i] += min(fits - 1, left)
        left -= tasks[i] - 1
    return [(c[0], t) for c, t in zip(gang, tasks, strict=True)]


def span(gang: Sequence[Candidate]) -> int:
    """Leaf switches of a gang."""
    return len({leaf for _, leaf, _ in gang})


def unequal(
    parents: dict[str, str], usable: Sequence[Candidate], size: int, ntasks: int
) -> list[Candidate]:
    """The widest nodes below the lowest switch that has enough, leaf after leaf; or none."""
    leaves = list(dict.fromkeys(leaf for _, leaf, _ in usable))
    offers = []
    for switch in sorted({s for leaf in leaves for s in path(parents, leaf)}):
        under = [c for c in usable if switch in path(parents, c[1])]
        widest = sorted(under, key=lambda c: -c[2])[:size]
        spare = sum(c[2] for c in widest) - ntasks
        if len(widest) == size and spare >= 0:
            key = (height(parents, leaves, switch), spare, usable.index(widest[0]))
            offers.append((key, widest))
    gang = min(offers)[1] if offers else []
    return sorted(gang, key=lambda c: (leaves.index(c[1]), usable.index(c)))


def equal(
    parents: dict[str, str],
    usable: Sequence[Candidate],
    size: int,
    ntasks: int,
    most: int,
    adjacent: bool,
) -> list[Candidate] | int:
    """`size` nodes, or nodes for `ntasks`, on the fewest leaf switches."""
    want = size or ntasks

    def units(candidate: Candidate) -> int:
        return 1 if size else min(candidate[2], ntasks)

    by_leaf: dict[str, list[Candidate]] = {}
    for candidate in usable:
        by_leaf.setdefault(candidate[1], []).append(candidate)
    have = {leaf: sum(map(units, members)) for leaf, members in by_leaf.items()}
    ranked = sorted(by_leaf, key=lambda leaf: -have[leaf])
    first = {leaf: usable.index(members[0]) for leaf, members in by_leaf.items()}
    if sum(have.values()) < want:
        return TOO_FEW
    fewest = next(
        count
        for count in range(1, len(ranked) + 1)
        if any(sum(have[leaf] for leaf in some) >= want for some in combinations(ranked, count))
    )
    if most and fewest > most:
        return SWITCHES
    offers = []
    for switch in sorted({s for leaf in ranked for s in path(parents, leaf)}):
        under = [leaf for leaf in ranked if switch in path(parents, leaf)]
        whole, others = under[: fewest - 1], under[fewest - 1 :]
        rest = want - sum(have[leaf] for leaf in whole)
        fit = [leaf for leaf in others if have[leaf] >= rest]
        if fit:
            last = min(fit, key=lambda leaf: (have[leaf], first[leaf]))
            key = (height(parents, ranked, switch), have[last] - rest, first[last])
            offers.append((key, whole, last, rest))
    _, whole, last, rest = min(offers)
    gang = [candidate for leaf in whole for candidate in by_leaf[leaf]]
    return gang + members_of(by_leaf[last], rest, units, adjacent and size > 0)


def members_of(
    members: list[Candidate], rest: int, units: Callable[[Candidate], int], adjacent: bool
) -> list[Candidate]:
    """Those of a leaf that give the rest: the shortest run that has it, or the first ones."""
    if adjacent:
        rows = sorted(members)
        runs: list[list[Candidate]] = []
        for candidate in rows:
            if runs and candidate[0] == runs[-1][-1][0] + 1:
                runs[-1].append(candidate)
            else:
                runs.append([candidate])
        wide = [run for run in runs if len(run) >= rest]
        if wide:
            return min(wide, key=len)[:rest]
    out: list[Candidate] = []
    while rest > 0:
        out.append(members[len(out)])
        rest -= units(out[-1])
    return out


class NearPass(Pass):
    """A pass whose gangs lie on few leaf switches: those that ask for it, or (`fewest`) all."""

    def __init__(
        self,
        nodes: dict[str, Node],
        held: list[Held],
        now: int,
        fifo: bool,
        parents: dict[str, str],
        leaves: dict[str, str],
        fewest: bool,
    ) -> None:
        super().__init__(nodes, held, now, fifo)
        self.parents = parents
        self.leaves = leaves
        self.fewest = fewest

    def choose(
        self, request: Request, found: list[tuple[str, int]], most: int
    ) -> list[tuple[str, int]] | None:
        """A gang by switches, unless one node is asked for, or some are by name."""
        low, high = request.nodes_low, request.nodes_high
        anywhere = not request.switches and not self.fewest
        if anywhere or high == 1 or request.required or low > most:
            return super().choose(request, found, most)
        names = dict(enumerate(name for name, _ in found))
        candidates = [(i, self.leaves.get(name, "-"), t) for i, (name, t) in enumerate(found)]
        gang = place(self.parents, candidates, low, most, request.ntasks, request.switches)
        return (
            None
            if isinstance(gang, int)
            else [(names[i], tasks if request.ntasks else 1) for i, tasks in gang]
        )
