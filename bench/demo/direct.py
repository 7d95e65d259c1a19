"""The same table as the demonstration's jobs make, computed here at once and in another way.

The jobs count in parts and add up in plain Python; this takes the whole trace as numpy columns.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BOUNDS = (1, 4, 8, 16, 32, 100)
"""The largest number of processors of each size class."""
SHORTEST = 10
"""Seconds: shorter run times count as this in the bounded slowdown."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; waits in seconds, the share in percent."""

    name: str
    jobs: int
    hours: float
    share: float
    median: int
    wait95: int
    slowdown: float


def table(path: str) -> list[Row]:
    """The rows for a trace in the Standard Workload Format, gzipped. Raises OSError, ValueError."""
    with gzip.open(path, "rt", encoding="ascii", errors="replace") as lines:
        columns = np.loadtxt(lines, comments=";", usecols=(2, 3, 4), ndmin=2)
    return rows(columns.astype(np.int64))


def rows(columns: NDArray[np.int64]) -> list[Row]:
    """Rows for columns of wait, run time (seconds) and processors; negative: not known."""
    known = (columns[:, 0] >= 0) & (columns[:, 1] >= 0) & (columns[:, 2] >= 1)
    waits, runs, sizes = columns[known].T
    used = runs * sizes
    total = float(used.sum())
    slowdowns = np.maximum(1.0, (waits + runs) / np.maximum(runs, SHORTEST))
    classes = np.searchsorted(np.array(BOUNDS), sizes)
    found = []
    for number, most in enumerate(BOUNDS):
        least = BOUNDS[number - 1] + 1 if number else 1
        mine = classes == number
        if mine.any():
            name = str(most) if least == most else f"{least}-{most}"
            found.append(_row(name, waits[mine], used[mine], total, slowdowns[mine]))
    return [*found, _row("all", waits, used, total, slowdowns)]


def _row(
    name: str,
    waits: NDArray[np.int64],
    used: NDArray[np.int64],
    total: float,
    slowdowns: NDArray[np.float64],
) -> Row:
    median, wait95 = np.percentile(waits, (50, 95), method="inverted_cdf")
    seconds = float(used.sum())
    return Row(
        name=name,
        jobs=len(waits),
        hours=seconds / 3600,
        share=100 * seconds / total if total else 0.0,
        median=int(median),
        wait95=int(wait95),
        slowdown=float(slowdowns.mean()),
    )


def parse(text: str) -> list[Row]:
    """The rows of a printed table. Raises ValueError if a line is not one."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 7 or not words[1].isdigit():
            continue  # the headings
        found.append(
            Row(
                name=words[0],
                jobs=int(words[1]),
                hours=float(words[2]),
                share=float(words[3].rstrip("%")),
                median=int(words[4]),
                wait95=int(words[5]),
                slowdown=float(words[6]),
            )
        )
    return found


def difference(printed: list[Row], computed: list[Row]) -> str:
    """How two tables differ, but for rounding to the digits printed; empty: they do not."""
    if [row.name for row in printed] != [row.name for row in computed]:
        return f"rows {[row.name for row in printed]}, not {[row.name for row in computed]}"
    for mine, other in zip(printed, computed, strict=True):
        exact = (mine.jobs, mine.median, mine.wait95) == (other.jobs, other.median, other.wait95)
        near = (
            abs(mine.hours - other.hours) <= 0.0501
            and abs(mine.share - other.share) <= 0.0501
            and abs(mine.slowdown - other.slowdown) <= 0.00501
        )
        if not (exact and near):
            return f"{mine} is not {other}"
    return ""
