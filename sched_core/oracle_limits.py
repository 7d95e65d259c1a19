"""The slow, obvious twin of limits: chains are walked by name. Imports nothing of this package."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Limit:
    """A row: most of each ("jobs", or a dimension's name) at once, and what is in use."""

    parent: str = ""
    bounds: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)


def exceeded(limits: dict[str, Limit], name: str, demand: dict[str, int]) -> set[str]:
    """What a start has no room for, in the first row from `name` up where there is such."""
    while name:
        limit = limits[name]
        found = {
            key
            for key, amount in demand.items()
            if amount > 0
            and key in limit.bounds
            and limit.used.get(key, 0) + amount > limit.bounds[key]
        }
        if found:
            return found
        name = limit.parent
    return set()


def charge(limits: dict[str, Limit], name: str, demand: dict[str, int]) -> None:
    """A start counts in the row and all above it."""
    while name:
        limit = limits[name]
        for key, amount in demand.items():
            limit.used[key] = limit.used.get(key, 0) + amount
        name = limit.parent
