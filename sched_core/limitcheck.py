"""Limits within a pass: what a start would count, and whether it may.

A start counts as what its request asks for at the fewest nodes it would take, so that it can be
told before placement; a wider gang, or whole nodes taken by an exclusive job, count in full once
they run and the owner of the tables says so.
"""

from __future__ import annotations

from sched_core.jit import inlined
from sched_core.views import CHAIN_ABOVE, CHAIN_FIRST, CHAIN_HIGH, CHAIN_LOW, Queue


def exceeded(queue: Queue, shape: int, row: int) -> int:
    """Column of the limit that a start of a shape would exceed, from `row` up; -1: none.

    Only what the shape asks for is held against it. O(depth x R).
    """
    demand = queue.demand
    left = queue.limit_left
    chain = queue.limit_chain
    at = chain[CHAIN_FIRST, row]
    while at >= 0:
        for column in range(chain[CHAIN_LOW, at], chain[CHAIN_HIGH, at]):
            if left[at, column] < demand[shape, column] and demand[shape, column] > 0:
                return column
        at = chain[CHAIN_ABOVE, at]
    return -1


def count(queue: Queue, shape: int, row: int) -> None:
    """A start counts from `row` up. O(depth x R). Invariant: where it was not over, left >= 0."""
    demand = queue.demand
    left = queue.limit_left
    chain = queue.limit_chain
    at = chain[CHAIN_FIRST, row]
    while at >= 0:
        for column in range(chain[CHAIN_LOW, at], chain[CHAIN_HIGH, at]):
            left[at, column] -= demand[shape, column]
        at = chain[CHAIN_ABOVE, at]


over_limit = inlined(exceeded)
"""`exceeded` within a kernel."""
charge = inlined(count)
"""`count` within a kernel."""
