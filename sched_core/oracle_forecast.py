"""The slow, obvious twin of `forecast.fluid_starts`, for tests. Imports no kernel and no table."""

from __future__ import annotations

from dataclasses import dataclass

Amounts = dict[str, int]
SCALE = 1 << 20
HORIZON = 30 * 86_400


@dataclass(frozen=True)
class FluidJob:
    """A record: what all of it takes by dimension, and how long it runs (s)."""

    takes: Amounts
    lasts: int
    begin: int = 0
    is_open: bool = True


@dataclass(frozen=True)
class FluidRun:
    """What a running job holds on nodes of the partition, until `end` (s)."""

    holds: Amounts
    end: int


def fluid_pool(
    capacity: Amounts, runs: list[FluidRun], queue: list[FluidJob], now: int
) -> list[int]:
    """Estimated start of each job of one partition's queue; -1: closed."""
    ahead: Amounts = {}
    for dimension, have in capacity.items():
        left = sum(
            run.holds.get(dimension, 0) * min(max(run.end - now, 1), HORIZON) for run in runs
        )
        ahead[dimension] = left * SCALE // have
    starts = []
    for job in queue:
        if not job.is_open:
            starts.append(-1)
            continue
        shares = {d: min(a * SCALE // capacity[d], SCALE) for d, a in job.takes.items() if a}
        wait = max((ahead[d] for d, share in shares.items() if share), default=0)
        starts.append(max(now + wait // SCALE, job.begin))
        for dimension, share in shares.items():
            ahead[dimension] += share * min(job.lasts, HORIZON)
    return starts
