"""Preemption by trying every set of victims, for tests. Imports no kernel and no table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from sched_core.oracle import Amounts, Node, Place, matches, places, tasks_fit
from sched_core.request import Request


@dataclass(frozen=True)
class Running:
    """A running job: what it holds on which node, and its terms (`tier` -1: protected)."""

    held: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    tier: int
    protected_until: int
    lost: int
    keeps: bool
    """Suspended rather than ended: it gives its CPUs only."""


def candidates(jobs: dict[int, Running], tier: int, now: int) -> list[int]:
    """Jobs that may be preempted for one of a tier."""
    return [i for i, j in jobs.items() if 0 <= j.tier < tier and j.protected_until <= now]


def free_without(
    nodes: dict[str, Node], jobs: dict[int, Running], victims: Iterable[int]
) -> dict[str, Amounts]:
    """What is free on each node once these jobs are preempted."""
    free = {name: dict(node.free) for name, node in nodes.items()}
    for victim in victims:
        for name, held in jobs[victim].held:
            for dim, amount in held:
                if dim == "cpu" or not jobs[victim].keeps:
                    free[name][dim] = free[name].get(dim, 0) + amount
    return free


def fits(nodes: dict[str, Node], request: Request, free: dict[str, Amounts], at: Place) -> bool:
    """Whether the gang fits in a place into what is free."""
    hosts = {
        name: tasks_fit(request, node.capacity, free[name])
        for name, node in nodes.items()
        if node.usable and matches(request, name, node, at)
    }
    required = [hosts.get(name, 0) for name in dict.fromkeys(request.required)]
    others = sorted((c for n, c in hosts.items() if n not in request.required and c), reverse=True)
    low, high = request.nodes_low, request.nodes_high
    if 0 in required or low > high or len(required) > high or len(required) + len(others) < low:
        return False
    best = [min(c, request.ntasks) for c in required + others[: high - len(required)]]
    return sum(best) >= request.ntasks


def subsets(items: list[int]) -> Iterator[tuple[int, ...]]:
    """Every subset, small ones first."""
    for size in range(len(items) + 1):
        yield from combinations(items, size)


def least(
    nodes: dict[str, Node], jobs: dict[int, Running], request: Request, tier: int, now: int
) -> tuple[int, int] | None:
    """Least lost work and, with it, the fewest victims; None: no victims make room."""
    found = [
        (sum(jobs[i].lost for i in victims), len(victims))
        for victims in subsets(candidates(jobs, tier, now))
        for place in places(request)
        if fits(nodes, request, free_without(nodes, jobs, victims), place)
    ]
    return min(found, default=None)
