"""What a pass costs as the cluster and its queue grow: a line for each size, and a drawing of them.

Nodes and jobs grow together, from an eighth of `core.easy` to twice its size, each state full.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.core import passes
from bench.report import Report
from bench.workload import SIZES, load, make
from sched_core.memory import Memory

FACTORS = (1, 2, 4, 8, 16)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 80, 50, 40, 60
_STYLE = "text{font:12px sans-serif;fill:#333}.h{font-weight:bold}.g{stroke:#ddd}"
_FIRST, _LATER, _BOUND = "#9ecae1", "#3182bd", "#d94801"
Point = tuple[float, float]


def growth(
    report: Report, jobs: int, workload: Path | None, path: Path | None, plot: Path | None = None
) -> None:
    """A pass as nodes and jobs double, and how its time compares with n log n."""
    del workload, path
    base = SIZES["full"]
    pending = jobs or base.pending // 8
    nodes = max(base.nodes * pending // base.pending, 8)
    sizes: list[int] = []
    first: list[float] = []
    later: list[float] = []
    for factor in FACTORS:
        size = replace(base, nodes=nodes * factor, pending=pending * factor)
        state = make(size)
        _, once, took = passes(load(state), int(state["now_s"]), Memory(), repeats=3)
        report.metric("first_pass_s", once, "s", nodes=size.nodes, jobs=size.pending)
        report.metric("pass_s", took, "s", nodes=size.nodes, jobs=size.pending)
        sizes.append(size.pending)
        first.append(once)
        later.append(took)
    power = np.polyfit(np.log(sizes), np.log(later), 1)[0]
    report.metric("power", float(power), "of the size")
    ratio = max(over_bound(sizes, later), over_bound(sizes, first))
    report.metric("over_n_log_n", ratio, "times the bound")
    if not report.as_json:
        _bars(sizes, later)
    if plot is not None:
        plot.write_text("".join(drawing(sizes, first, later)), encoding="utf-8")


def _bars(sizes: list[int], times: list[float]) -> None:
    """A bar for each time, as long as its logarithm."""
    least = min(times) / 2
    for size, took in zip(sizes, times, strict=True):
        bar = "#" * round(8 * math.log2(took / least))
        print(f"{size:9,} jobs {took * 1e3:9.1f} ms {bar}")


def over_bound(sizes: Sequence[int], times: Sequence[float]) -> float:
    """How much dearer the largest is than n log n would have it, going by the smallest; 1: as dear.

    Time noise at the smallest size counts in full, so a figure a little over 1 says nothing.
    """
    grown = _n_log_n(sizes[-1]) / _n_log_n(sizes[0])
    return times[-1] / times[0] / grown


def _n_log_n(size: int) -> float:
    return size * math.log(size)


def drawing(sizes: Sequence[int], first: Sequence[float], later: Sequence[float]) -> Iterator[str]:
    """Both axes logarithmic: measured passes, and n log n through the smallest. SVG, in pieces."""
    bound = [later[0] * _n_log_n(size) / _n_log_n(sizes[0]) for size in sizes]
    every = [*first, *later, *bound]
    low = 10.0 ** math.floor(math.log10(min(every)))
    high = 10.0 ** math.ceil(math.log10(max(every)))

    def place(size: float, seconds: float) -> Point:
        x = math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])
        y = math.log(seconds / low) / math.log(high / low)
        return (
            LEFT + x * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM),
        )

    yield f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}'>\n"
    yield f"<style>{_STYLE}</style><rect width='{WIDTH}' height='{HEIGHT}' fill='#fff'/>\n"
    yield f"<text class='h' x='{LEFT}' y='20'>An EASY pass over a full cluster, seconds</text>\n"
    for size in sizes:
        x, y = place(size, low)
        yield f"<line class='g' x1='{x:.1f}' x2='{x:.1f}' y1='{TOP}' y2='{y:.1f}'/>"
        yield f"<text x='{x:.1f}' y='{y + 18:.1f}' text-anchor='middle'>{size:,} jobs</text>\n"
    for step in range(round(math.log10(high / low)) + 1):
        x, y = place(sizes[0], low * 10**step)
        yield f"<line class='g' x1='{x:.1f}' x2='{WIDTH - RIGHT}' y1='{y:.1f}' y2='{y:.1f}'/>"
        yield f"<text x='{x - 8:.1f}' y='{y + 4:.1f}' text-anchor='end'>{low * 10**step:g}</text>\n"
    lines = (("first pass", first, _FIRST), ("pass", later, _LATER), ("n log n", bound, _BOUND))
    for number, (name, times, colour) in enumerate(lines):
        points = [place(size, seconds) for size, seconds in zip(sizes, times, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = " stroke-dasharray='5 4'" if colour == _BOUND else ""
        yield f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'{dashes}/>\n"
        left = LEFT + 140 * number
        yield f"<rect x='{left}' y='{HEIGHT - 24}' width='12' height='12' fill='{colour}'/>"
        yield f"<text x='{left + 18}' y='{HEIGHT - 13}'>{name}</text>\n"
    yield "</svg>\n"
