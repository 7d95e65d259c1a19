"""The slow, obvious twin of placements: orders of nodes, and passes whose starts follow one.

Imports no kernel and no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sched_core.oracle import Amounts, Held, Pass, Place, matches, need, places, tasks_fit
from sched_core.oracle import Node as PassNode
from sched_core.request import Request

WHOLE_SHARE = 65535
Node = tuple[Sequence[int], Sequence[int], int]
"""Capacity and free by dimension, weight."""


def fine(node: Node, need: Sequence[int], placement: str) -> int:
    """How full the node is, or would be, in what is asked for; 0..65535."""
    capacity, free, _ = node
    asked = [r for r, amount in enumerate(need) if amount]
    if placement == "weight" or not asked:
        return 0
    if placement == "best_fit":
        return min((free[r] - need[r]) * WHOLE_SHARE // capacity[r] for r in asked)
    share = sum(free[r] * WHOLE_SHARE // capacity[r] for r in asked) // len(asked)
    return share if placement == "pack" else WHOLE_SHARE - share


def order(
    nodes: Sequence[Node], base: Sequence[int], need: Sequence[int], placement: str, by_weight: bool
) -> list[int]:
    """The rows of `base` that can host `need`, by weight, then fine score, then place in `base`."""
    able = [
        row
        for row in base
        if all(
            amount == 0 or (nodes[row][0][r] > 0 and nodes[row][1][r] >= amount)
            for r, amount in enumerate(need)
        )
    ]
    return sorted(
        able,
        key=lambda row: (nodes[row][2] if by_weight else 0, fine(nodes[row], need, placement)),
    )


class PlacedPass(Pass):
    """A pass whose starts take nodes by a placement; `popular` are requests and their records."""

    def __init__(
        self,
        nodes: dict[str, PassNode],
        held: list[Held],
        now: int,
        fifo: bool,
        placements: dict[str, str],
        popular: list[tuple[Request, int]],
    ) -> None:
        super().__init__(nodes, held, now, fifo)
        self.placements = placements
        self.popular = popular

    def candidates(
        self, request: Request, place: Place, end: int, heed: bool
    ) -> list[tuple[str, int]]:
        """As without, but those that are not required by weight, then score."""
        found = super().candidates(request, place, end, heed)
        placement = self.placements[place[0]]
        if not heed or placement == "weight":
            return found
        keep = [c for c in found if c[0] in request.required]
        rest = [c for c in found if c[0] not in request.required]
        return keep + sorted(
            rest, key=lambda c: (self.nodes[c[0]].weight, self.score(request, c[0], placement))
        )

    def score(self, request: Request, name: str, placement: str) -> tuple[int, int]:
        """What `sched_core.preference.score` says, of one task."""
        node = self.nodes[name]
        wanted = need(request, 1)
        dims = list(node.capacity)
        plain = ([node.capacity[d] for d in dims], [node.free[d] for d in dims], 0)
        asked = [wanted.get(d, 0) for d in dims]
        if placement != "fgd":
            return 0, fine(plain, asked, placement)
        taken = self.amounts(request, name, 1, [node.free])
        after = {d: node.free[d] - taken.get(d, 0) for d in dims}
        grown = self.unusable(name, after) - self.unusable(name, node.free)
        return grown, fine(plain, asked, "best_fit")

    def unusable(self, name: str, free: Amounts) -> int:
        """Free devices that popular requests cannot use on a node, times their records."""
        node = self.nodes[name]
        idle = sum(max(n, 0) for d, n in free.items() if d.startswith("gres/") and ":" not in d)
        lost = 0
        for request, records in self.popular:
            anywhere = replace(request, excluded=())
            suits = any(matches(anywhere, name, node, p) for p in places(request))
            fits = tasks_fit(request, node.capacity, node.capacity) > 0 and all(
                amount <= free.get(d, 0) for d, amount in need(request, 1).items() if amount
            )
            lost += 0 if suits and fits else idle * records
        return lost
