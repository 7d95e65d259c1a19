"""Where a plot goes: the name of the file says its format."""

from __future__ import annotations

from cranectld.sim.csim.chart import Chart
from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.plot_html import as_html
from cranectld.sim.csim.plot_png import require_matplotlib, write_png


def check_plot(path: str) -> None:
    """Raise CsimError if no plot can be drawn under this name."""
    if path.endswith(".png"):
        require_matplotlib()
    elif not path.endswith(".html"):
        raise CsimError(f"--plot {path!r} ends neither in .png nor in .html; name the format so")


def write_plot(path: str, chart: Chart, *, png: bool) -> None:
    """Draw a chart into a file, as a picture or as HTML. Raises OSError."""
    if png:
        write_png(path, chart)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(as_html(chart))
