"""Plots: what the curves and the Gantt chart show is what happened, and the files can be read."""

from __future__ import annotations

import random
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cranectld.sim.csim.__main__ import main
from cranectld.sim.csim.chart import BINS, GANTT_JOBS, Chart, chart, ticks
from cranectld.sim.csim.workload import Workload
from sched_core.columns import Ints
from sched_core.oracle_pool import PoolJob, pool_schedule

pytestmark = pytest.mark.usefixtures("compiled_kernels")
PROCESSORS = 8
LINE = "{0} {1} -1 {2} {3} -1 -1 {3} {4} -1 1 1 1 -1 -1 -1 -1 -1\n"


def replayed(seed: int, count: int, span: int) -> tuple[Workload, Ints]:
    rng = random.Random(seed)
    jobs = []
    for _ in range(count):
        run = rng.randint(1, 30)
        jobs.append(PoolJob(rng.randint(5, span), rng.randint(1, PROCESSORS), run, run))
    starts = np.array(pool_schedule(jobs, PROCESSORS, "easy"))
    submit, procs, estimate, run_ = np.array(
        [(j.submit, j.processors, j.estimate, j.runtime) for j in jobs]
    ).T
    return Workload(np.arange(count), submit, procs, estimate, run_, ()), starts


def drawn(seed: int, count: int = 80, span: int = 400) -> tuple[Workload, Ints, Chart]:
    jobs, start = replayed(seed, count, span)
    return jobs, start, chart("a & <b>", jobs, start, PROCESSORS)


@pytest.mark.parametrize("seed", range(4))
def test_the_curves_are_what_happened(seed: int) -> None:
    jobs, start, found = drawn(seed)
    first = jobs.submit.min()
    assert len(found.used) == len(found.waiting) == BINS
    work = (found.used * np.diff(found.edges)).sum() * PROCESSORS
    assert work == pytest.approx((jobs.procs * jobs.run).sum())
    assert found.used.min() >= 0
    assert found.used.max() <= 1 + 1e-9
    for i, (low, high) in enumerate(pairwise(found.edges)):
        instants = [low, *(t for t in (*jobs.submit, *start) - first if low < t < high)]
        waiting = [((jobs.submit - first <= t) & (start - first > t)).sum() for t in instants]
        assert found.waiting[i] == max(waiting)


@pytest.mark.parametrize("seed", range(4))
def test_no_two_bars_overlap_and_every_job_has_its_processors(seed: int) -> None:
    jobs, start, found = drawn(seed)
    width = dict.fromkeys(jobs.job_id.tolist(), 0)
    for bar in found.bars:
        assert 0 <= bar.low < bar.high <= PROCESSORS
        width[bar.job_id] += bar.high - bar.low
        assert bar.wait == start[bar.job_id] - jobs.submit[bar.job_id]
    assert width == dict(enumerate(jobs.procs.tolist()))
    taken = [
        (processor, bar.begin, bar.end)
        for bar in found.bars
        for processor in range(bar.low, bar.high)
    ]
    taken.sort()
    for (one, _, end), (other, begin, _) in pairwise(taken):
        assert one < other or end <= begin


def test_of_many_jobs_those_around_the_longest_queue_are_shown() -> None:
    jobs, start, found = drawn(7, GANTT_JOBS + 200, 60_000)
    begin, end = found.window
    assert 0 <= begin < end
    shown = {bar.job_id for bar in found.bars}
    assert GANTT_JOBS - 2 <= len(shown) < len(jobs)
    instants = np.sort(np.concatenate([jobs.submit, start]))
    queue = [((jobs.submit <= t) & (start > t)).sum() for t in instants]
    peak = instants[int(np.argmax(queue))] - jobs.submit.min()
    assert begin <= peak <= end
    assert all(begin <= bar.begin < bar.end <= end for bar in found.bars)


def test_ticks_are_few_and_round() -> None:
    assert [label for _, label in ticks(0, 10)] == [f"{n} s" for n in range(11)]
    assert [label for _, label in ticks(90, 400)][:2] == ["2 min", "3 min"]
    assert [label for _, label in ticks(0, 86_400 * 300)][1] == "30 d"
    assert ticks(0, 1e13)


def write_trace(path: Path) -> str:
    lines = [LINE.format(i, 5 * i, 20, 1 + i % 3, 30) for i in range(40)]
    path.write_text("; MaxProcs: 4\n" + "".join(lines))
    return str(path)


def test_html_is_one_readable_file_that_needs_nothing_else(tmp_path: Path) -> None:
    trace, out = write_trace(tmp_path / "a&b<c>.swf"), tmp_path / "plot.html"
    assert main(["replay", trace, "--plot", str(out)]) == 0
    text = out.read_text()
    assert "<script" not in text
    assert text.count("http") == 1, "only the name of the SVG dialect"
    svg = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    bars = svg.findall(".//{*}rect[@class='j']")
    assert len({bar[0].text for bar in bars}) == 40
    for box in svg.findall(".//{*}rect"):
        left, top = float(box.attrib["x"]), float(box.attrib["y"])
        assert 0 <= left <= left + float(box.attrib["width"]) <= width
        assert 0 <= top <= top + float(box.attrib["height"]) <= height
    before = out.read_bytes()
    assert main(["replay", trace, "--plot", str(out)]) == 0
    assert out.read_bytes() == before


def test_a_picture_needs_the_extra_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = write_trace(tmp_path / "log.swf")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["replay", trace, "--plot", str(tmp_path / "plot.png")]) == 2
    assert "pip install 'cranesched[plot]'" in capsys.readouterr().err
    assert main(["replay", trace, "--plot", str(tmp_path / "plot.pdf")]) == 2
    assert "neither in .png nor in .html" in capsys.readouterr().err
    assert main(["replay", trace, "--plot", "/nonexistent/plot.html"]) == 6
    assert "/nonexistent/plot.html: cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["log.swf"]


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trace, out = write_trace(tmp_path / "log.swf"), tmp_path / "plot.png"
    assert main(["replay", trace, "--plot", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert len(out.read_bytes()) > 10_000
