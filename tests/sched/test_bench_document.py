"""What the benchmarks of the core check, and the document that sets figures beside goals."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bench import document
from bench.core import timed
from bench.growth import drawing, growth, over_bound
from bench.incremental import Course, incremental
from bench.report import Report
from bench.scenarios import SCENARIOS
from bench.workload import SIZES, load, make
from sched_core.memory import Memory

JIT = "NUMBA_DISABLE_JIT" not in os.environ


def test_goals_are_of_scenarios_that_there_are() -> None:
    assert {goal.scenario for goal in document.GOALS} <= SCENARIOS.keys()
    low = document.Goal("core.easy", "pass_s", 0.1, 0.02)
    high = document.Goal("core.drain", "placements_per_s", 1e6, 5e6, more=True)
    assert [low.verdict(v) for v in (0.02, 0.05, 0.2)] == ["reached", "kept", "**missed**"]
    assert [high.verdict(v) for v in (5e6, 1e6, 9e5)] == ["reached", "kept", "**missed**"]


def test_a_document_is_made_of_what_scenarios_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw.jsonl"
    lines: list[object] = [{"machine": {"cpus": 2, "cpu": "some", "command": "x"}}]
    for run, value in enumerate((0.05, 0.03, 0.09)):
        lines.append(figure("core.easy", "pass_s", value, "s", run=run))
    for nodes in (1250, 2500):
        for metric in ("first_pass_s", "pass_s"):
            size = {"nodes": nodes, "jobs": 10 * nodes}
            lines.append(figure("core.growth", metric, nodes / 1e6, "s", **size))
    raw.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "benchmarks.md"
    assert document.main([str(raw), "--out", str(out)]) == 0
    text = out.read_text()
    assert "| cpu | some |" in text
    assert "| `pass_s` | 0.1 | 0.02 | 0.05 | kept |" in text
    assert "| `core.easy` | `pass_s` | 0.05 | 0.03 | 0.09 | s | 3 |" in text
    assert "| 2,500 nodes, 25,000 jobs | 2.5 | 2.5 |" in text
    assert text.count("not run") == len(document.GOALS) - 1
    assert (tmp_path / "benchmarks.jsonl").read_text() == raw.read_text()
    assert document.main(["--only", "core.esay", "--out", str(out)]) == 2
    assert "no scenario 'core.esay'; there are e2e.throughput" in capsys.readouterr().err


def figure(scenario: str, metric: str, value: float, unit: str, **params: object) -> object:
    return {
        "scenario": scenario, "metric": metric, "value": value, "unit": unit, "params": params,
    }  # fmt: skip


def test_growth_is_drawn_and_compared_with_its_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert over_bound([10, 100], [1.0, 20.0]) == pytest.approx(1.0)
    text = "".join(drawing([1000, 2000, 4000], [0.02, 0.03, 0.05], [0.001, 0.002, 0.004]))
    root = ElementTree.fromstring(text)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3
    points = [tuple(map(float, p.split(","))) for p in lines[1].attrib["points"].split()]
    assert all(0 < x < 720 and 0 < y < 420 for x, y in points)
    assert points == sorted(points, key=lambda p: (p[0], -p[1]))
    if JIT:
        growth(Report("core.growth"), 40, None, None, tmp_path / "growth.svg")
        assert "over_n_log_n" in capsys.readouterr().out
        ElementTree.parse(tmp_path / "growth.svg")


@pytest.mark.skipif(not JIT, reason="a large state takes minutes when kernels are interpreted")
def test_every_incremental_pass_is_compared_with_one_from_scratch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "small.npz", **make(replace(SIZES["full"], nodes=40, pending=200)))
    incremental(Report("core.incremental"), 0, tmp_path / "small.npz", None)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["metric"] == "equal_to_scratch"
    assert lines[-1]["value"] >= 20


def test_a_plan_of_another_state_is_found() -> None:
    state = make(replace(SIZES["full"], nodes=40, pending=60), 2)
    tables, now = load(state), int(state["now_s"])
    made, _ = timed(tables, now, Memory())
    course = Course(state, state["job_limit_s"])
    assert course.differing(made, now) == []
    job_id = len(state["job_nodes"])
    course.end(job_id)
    tables.running.remove(job_id)
    again, _ = timed(tables, now, Memory())
    assert course.differing(again, now) == []
    other = course.differing(made, now)
    assert other
    course.take(again, now)
    assert len(course._ids) == len(made.job) - again.starts
    assert np.isin(course._ids, again.start_job).sum() == 0
