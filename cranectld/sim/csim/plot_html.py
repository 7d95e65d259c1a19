"""A plot as one HTML file: inline SVG, no script, no library, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from cranectld.sim.csim.chart import COLOURS, WAIT_CLASSES, Bar, Chart, ticks

WIDTH = 1200
LEFT = 70
RIGHT = 20
CURVE = 150
GANTT = 520
GAP = 56
TOP = 60
_STYLE = (
    "body{font-family:sans-serif;margin:1em}svg{max-width:100%;height:auto}"
    "text{font-size:12px;fill:#333}.h{font-size:14px;font-weight:bold}"
    ".g{stroke:#ddd;stroke-width:1}.a{stroke:#333;fill:none}rect.j{stroke:#fff;stroke-width:.3}"
)


def as_html(chart: Chart) -> Iterator[str]:
    """The file in pieces."""
    height = TOP + 2 * (CURVE + GAP) + GANTT + GAP
    title = escape(chart.title)
    yield f"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
    yield f"<style>{_STYLE}</style></head><body>\n"
    yield f"<svg viewBox='0 0 {WIDTH} {height}' xmlns='http://www.w3.org/2000/svg'>\n"
    yield f"<text class='h' x='{LEFT}' y='20'>{title}</text>\n"
    edges = [float(edge) for edge in chart.edges]
    top = TOP
    used = [float(share) * 100 for share in chart.used]
    yield from _curve(top, "processors in use, %", edges, used, 100.0, "#3182bd")
    top += CURVE + GAP
    waiting = [float(count) for count in chart.waiting]
    most = max(1.0, *waiting)
    yield from _curve(top, "jobs waiting (most in the bin)", edges, waiting, most, "#d94801")
    top += CURVE + GAP
    yield from _gantt(top, chart)
    yield "</svg></body></html>\n"


def _across(when: float, begin: float, end: float) -> float:
    return LEFT + (when - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)


def _frame(top: int, height: int, name: str, begin: float, end: float) -> Iterator[str]:
    yield f"<text class='h' x='{LEFT}' y='{top - 8}'>{escape(name)}</text>\n"
    for when, label in ticks(begin, end):
        x = _across(when, begin, end)
        yield f"<line class='g' x1='{x:.1f}' x2='{x:.1f}' y1='{top}' y2='{top + height}'/>"
        yield f"<text x='{x:.1f}' y='{top + height + 16}' text-anchor='middle'>{label}</text>\n"
    yield (
        f"<rect class='a' x='{LEFT}' y='{top}' width='{WIDTH - LEFT - RIGHT}' height='{height}'/>\n"
    )


def _levels(top: int, height: int, most: float) -> Iterator[str]:
    for part in range(5):
        y = top + height * (4 - part) / 4
        label = f"{most * part / 4:,.10g}"
        yield f"<text x='{LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{label}</text>\n"


def _curve(
    top: int, name: str, edges: list[float], values: list[float], most: float, colour: str
) -> Iterator[str]:
    """A step function from 0 to `most`, filled."""
    begin, end = edges[0], edges[-1]
    yield from _frame(top, CURVE, name, begin, end)
    yield from _levels(top, CURVE, most)
    points = [f"{LEFT},{top + CURVE}"]
    for i, value in enumerate(values):
        y = top + CURVE * (1 - value / most)
        points += [f"{_across(edge, begin, end):.1f},{y:.1f}" for edge in edges[i : i + 2]]
    points.append(f"{WIDTH - RIGHT},{top + CURVE}")
    yield f"<polygon points='{' '.join(points)}' fill='{colour}' fill-opacity='.6'/>\n"


def _gantt(top: int, chart: Chart) -> Iterator[str]:
    begin, end = chart.window
    yield from _frame(top, GANTT, f"{_count(chart.bars)} jobs on their processors", begin, end)
    yield from _levels(top, GANTT, chart.processors)
    scale = GANTT / chart.processors
    for bar in chart.bars:
        x = _across(bar.begin, begin, end)
        width = _across(bar.end, begin, end) - x
        y, height = top + GANTT - bar.high * scale, (bar.high - bar.low) * scale
        yield (
            f"<rect class='j' x='{x:.2f}' y='{y:.2f}' width='{width:.2f}' height='{height:.2f}' "
            f"fill='{COLOURS[bar.wait_class]}'><title>job {bar.job_id}: {bar.procs:,} processors, "
            f"waited {bar.wait:,} s</title></rect>\n"
        )
    x = WIDTH - RIGHT - 420
    for (_, name), colour in zip(WAIT_CLASSES, COLOURS, strict=True):
        yield f"<rect x='{x}' y='{top - 19}' width='12' height='12' fill='{colour}'/>"
        yield f"<text x='{x + 17}' y='{top - 8}'>{escape(name)}</text>\n"
        x += 105


def _count(bars: tuple[Bar, ...]) -> str:
    return f"{len({bar.job_id for bar in bars}):,}"
