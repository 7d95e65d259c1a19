"""A plot as a picture, drawn by matplotlib, which only this module imports (the extra `plot`)."""

from __future__ import annotations

from typing import Any

from cranectld.sim.csim.chart import COLOURS, WAIT_CLASSES, Chart, ticks
from cranectld.sim.csim.errors import CsimError


def require_matplotlib() -> None:
    """Raise CsimError if it is not installed: before a long replay, not after it."""
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError:
        raise CsimError(
            "--plot to PNG needs matplotlib: pip install 'cranesched[plot]', or give OUT.html"
        ) from None


def write_png(path: str, chart: Chart) -> None:
    """Draw; raises OSError if the file cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.collections import PatchCollection  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.patches import Patch, Rectangle  # noqa: PLC0415

    figure = Figure(figsize=(12, 9), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(chart.title)
    share, queue, gantt = figure.subplots(3, 1, height_ratios=(1, 1, 3))
    share.stairs(chart.used * 100, chart.edges, fill=True, alpha=0.6, color="#3182bd")
    share.set(ylim=(0, 100), ylabel="in use, %")
    queue.stairs(chart.waiting, chart.edges, fill=True, alpha=0.6, color="#d94801")
    queue.set(ylim=(0, None), ylabel="jobs waiting")
    for axes in (share, queue):
        _time_axis(axes, float(chart.edges[0]), float(chart.edges[-1]))
    boxes = [
        Rectangle((bar.begin, bar.low), bar.end - bar.begin, bar.high - bar.low)
        for bar in chart.bars
    ]
    colours = [COLOURS[bar.wait_class] for bar in chart.bars]
    gantt.add_collection(PatchCollection(boxes, facecolor=colours, edgecolor="w", linewidth=0.2))
    gantt.set(ylim=(0, chart.processors), ylabel="processors")
    _time_axis(gantt, *chart.window)
    names = [
        Patch(color=colour, label=name)
        for (_, name), colour in zip(WAIT_CLASSES, COLOURS, strict=True)
    ]
    gantt.legend(handles=names, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    # Without the date and version of the program the same replay gives the same bytes.
    canvas.print_png(path, metadata={"Software": None})


def _time_axis(axes: Any, begin: float, end: float) -> None:
    marks = ticks(begin, end)
    axes.set_xlim(begin, end)
    axes.set_xticks([when for when, _ in marks], [label for _, label in marks])
