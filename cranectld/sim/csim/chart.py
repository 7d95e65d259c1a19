"""What a plot shows, worked out once for all formats: two curves and a Gantt chart.

The curves are cut into bins; the Gantt chart shows every job of a small replay, and of a large one
the jobs around the longest queue. Processors have no names in a pool: for the drawing a job gets
the lowest that are free, in one piece if there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cranectld.sim.csim.workload import Workload
from sched_core.columns import Ints

BINS = 600
GANTT_JOBS = 1500
Floats = NDArray[np.float64]
WAIT_CLASSES = ((0, "no wait"), (3600, "up to 1 h"), (86_400, "up to 1 day"), (1 << 60, "longer"))
COLOURS = ("#9ecae1", "#3182bd", "#fdae6b", "#d94801")
"""Of bars by WAIT_CLASSES."""
_TICKS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Bar:
    """A job, or a part of it: processors `low` to below `high` from `begin` to `end` (s)."""

    job_id: int
    procs: int
    wait: int
    begin: int
    end: int
    low: int
    high: int

    @property
    def wait_class(self) -> int:
        """Place in WAIT_CLASSES."""
        return next(i for i, (most, _) in enumerate(WAIT_CLASSES) if self.wait <= most)


@dataclass(frozen=True, slots=True)
class Chart:
    """Instants in seconds since the first submission."""

    title: str
    processors: int
    edges: Floats
    """[BINS + 1] of the curves."""
    used: Floats
    """[BINS] share of the processors in use, mean over the bin, 0 to 1."""
    waiting: Ints
    """[BINS] most jobs waiting at any instant of the bin."""
    window: tuple[int, int]
    """What the Gantt chart shows."""
    bars: tuple[Bar, ...]


def chart(title: str, jobs: Workload, start: Ints, processors: int) -> Chart:
    """Work out a plot of a replay in which every job started. O(n log n)."""
    first = int(jobs.submit.min())
    submit, begin = jobs.submit - first, start - first
    end = begin + jobs.run
    edges = np.linspace(0.0, float(end.max()), BINS + 1)
    when, level = _steps(begin, end, jobs.procs, edges)
    area = np.concatenate([[0.0], np.cumsum(level[:-1] * np.diff(when))])
    used = np.diff(np.interp(edges, when, area)) / np.diff(edges) / processors
    when, level = _steps(submit, begin, np.ones_like(submit), edges)
    waiting = np.maximum.reduceat(level, np.searchsorted(when, edges[:-1]))
    window = _window(begin, end, when, level)
    bars = tuple(_bars(jobs, submit, begin, end, processors, window))
    return Chart(title, processors, edges, used, waiting, window, bars)


def _steps(rise: Ints, fall: Ints, size: Ints, edges: Floats) -> tuple[Floats, Ints]:
    """A count that grows by `size` at `rise` and shrinks at `fall`: values from each instant on.

    Every edge is one of the instants. Within an instant the last value is the one that holds.
    """
    when = np.concatenate([rise, fall, edges])
    change = np.concatenate([size, -size, np.zeros(len(edges), np.int64)])
    instants, place = np.unique(when, return_inverse=True)
    total = np.zeros(len(instants), np.int64)
    np.add.at(total, place, change)
    return instants, np.cumsum(total)


def _window(begin: Ints, end: Ints, when: Floats, waiting: Ints) -> tuple[int, int]:
    if len(begin) <= GANTT_JOBS:
        return 0, int(end.max())
    ordered = np.sort(begin)
    peak = int(np.searchsorted(ordered, when[int(np.argmax(waiting))]))
    low = min(max(peak - GANTT_JOBS // 2, 0), len(ordered) - GANTT_JOBS)
    left, right = int(ordered[low]), int(ordered[low + GANTT_JOBS - 1])
    return left, max(right, left + 1)


def _bars(
    jobs: Workload, submit: Ints, begin: Ints, end: Ints, processors: int, window: tuple[int, int]
) -> Iterator[Bar]:
    shown = np.flatnonzero((begin < window[1]) & (end > window[0]))
    free = [(0, processors)]
    held: list[tuple[int, list[tuple[int, int]]]] = []
    for i in shown[np.argsort(begin[shown], kind="stable")].tolist():
        for _, pieces in [h for h in held if h[0] <= begin[i]]:
            free = _merged(free + pieces)
        held = [h for h in held if h[0] > begin[i]]
        size = int(jobs.procs[i])
        pieces, free = _lowest(free, size)
        held.append((int(end[i]), pieces))
        wait = int(begin[i] - submit[i])
        left, right = max(int(begin[i]), window[0]), min(int(end[i]), window[1])
        for low, high in pieces:
            yield Bar(int(jobs.job_id[i]), size, wait, left, right, low, high)


def _merged(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for low, high in sorted(pieces):
        if out and out[-1][1] == low:
            out[-1] = (out[-1][0], high)
        else:
            out.append((low, high))
    return out


def _lowest(
    free: list[tuple[int, int]], size: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pieces for a job, and what is left free."""
    whole = [piece for piece in free if piece[1] - piece[0] >= size][:1]
    taken: list[tuple[int, int]] = []
    left: list[tuple[int, int]] = []
    for low, high in free:
        take = min(high - low, size) if not whole or (low, high) == whole[0] else 0
        if take:
            taken.append((low, low + take))
            size -= take
        if low + take < high:
            left.append((low + take, high))
    return taken, left


def ticks(begin: float, end: float) -> list[tuple[float, str]]:
    """At most ten round instants between two, with their labels (seconds to days)."""
    days = [_DAY * n for n in (1, 2, 5, 7, 10, 14, 30, 60, 100, 200, 500, 1000, 5000, 20_000)]
    step = next((t for t in (*_TICKS, *days) if (end - begin) / t <= 10), 1 << 40)
    unit, name = next(
        ((u, n) for u, n in ((_DAY, "d"), (3600, "h"), (60, "min")) if step % u == 0), (1, "s")
    )
    first = -(-int(begin) // step) * step
    return [(t, f"{t // unit:,} {name}") for t in range(first, int(end) + 1, step)]
