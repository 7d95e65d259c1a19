"""What a schedule was like, in the figures of the literature.

Bounded slowdown (Feitelson et al. 1997): max(1, (wait + run) / max(run, 10 s)). Percentiles are
nearest-rank. Utilisation is the work of all jobs over the capacity from the first submission to the
last end (the makespan).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cranectld.sim.csim.workload import Workload
from sched_core.columns import Ints

BOUND = 10
"""Seconds: shorter runtimes count as this in slowdowns."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits (s) and slowdowns of some jobs; at least one."""

    jobs: int
    mean: float
    median: float
    p95: int
    max: int
    bounded_slowdown: float
    """Mean."""


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Jobs of `low` to `high` processors (CPUs)."""

    low: int
    high: int
    waits: Waits
    utilisation: float
    """By jobs of the class alone."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Of a whole replay."""

    waits: Waits
    utilisation: float
    makespan: int
    classes: tuple[SizeClass, ...]
    """Only those that have jobs, smallest first."""


def measures(jobs: Workload, start: Ints, processors: int, split: int = 0) -> Measures:
    """Sum up a replay in which every job started. O(n log n).

    Size classes are those of a machine of `split` processors; 0: of this one.
    """
    split = max(split or processors, int(jobs.procs.max()))
    wait = start - jobs.submit
    makespan = int((start + jobs.run).max() - jobs.submit.min())
    work = (jobs.procs if jobs.cpu is None else jobs.cpu / 1000).astype(np.float64) * jobs.run
    capacity = float(processors) * makespan
    classes = []
    low = 1
    for high in sorted({1, *(max(1, split // part) for part in (16, 4, 2, 1))}):
        chosen = (jobs.procs >= low) & (jobs.procs <= high)
        if chosen.any():
            waits = _waits(wait[chosen], jobs.run[chosen])
            classes.append(SizeClass(low, high, waits, float(work[chosen].sum()) / capacity))
        low = high + 1
    return Measures(
        waits=_waits(wait, jobs.run),
        utilisation=float(work.sum()) / capacity,
        makespan=makespan,
        classes=tuple(classes),
    )


def _waits(wait: Ints, run: Ints) -> Waits:
    ordered = np.sort(wait)
    slowdown = np.maximum(1.0, (wait + run) / np.maximum(run, BOUND))
    return Waits(
        jobs=len(wait),
        mean=float(wait.mean()),
        median=float(np.median(wait)),
        p95=int(ordered[math.ceil(0.95 * len(ordered)) - 1]),
        max=int(ordered[-1]),
        bounded_slowdown=float(slowdown.mean()),
    )
