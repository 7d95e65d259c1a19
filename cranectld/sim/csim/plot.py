"""Where a plot goes: the name of the file says its format."""

from __future__ import annotations

from cranectld.sim.csim.chart import Chart
from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.files import whole_file
from cranectld.sim.csim.plot_html import as_html
from cranectld.sim.csim.plot_png import require_matplotlib, write_png


def check_plot(path: str) -> None:
    """Raise CsimError if no plot can be drawn under this name."""
    if path.endswith(".png"):
        require_matplotlib()
    elif not path.endswith(".html"):
        raise CsimError(f"--plot {path!r} ends neither in .png nor in .html; name the format so")


def write_plot(path: str, chart: Chart) -> None:
    """Draw a chart into a file of a name that `check_plot` accepts. Raises CsimError."""
    with whole_file(path) as partial:
        if path.endswith(".png"):
            write_png(partial, chart)
        else:
            with open(partial, "w", encoding="utf-8") as file:
                file.writelines(as_html(chart))
