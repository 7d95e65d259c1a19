"""The slow, obvious twin of the orders of preference. Imports no kernel and no table."""

from __future__ import annotations

from collections.abc import Sequence

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
