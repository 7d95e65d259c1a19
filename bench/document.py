"""`python -m bench report`: runs scenarios, or reads what they wrote, and sets it beside the goals."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import machine
from bench.scenarios import SCENARIOS

GROWTH = "core.growth"
Line = dict[str, Any]
"""What a scenario writes with `--json`."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a metric is to be: at least (or at most), and what to reach for."""

    scenario: str
    metric: str
    least: float
    reach: float
    more: bool = False
    """True: more is better."""

    def verdict(self, value: float) -> str:
        """In a word or two."""
        sign = 1 if self.more else -1
        if sign * value >= sign * self.reach:
            return "reached"
        return "kept" if sign * value >= sign * self.least else "**missed**"


GOALS = (
    Goal("core.drain", "placements_per_s", 1e6, 5e6, more=True),
    Goal("core.drain", "verdicts_per_s", 10e6, 50e6, more=True),
    Goal("core.backfill", "pass_s", 1.0, 0.2),
    Goal("core.easy", "pass_s", 0.10, 0.02),
    Goal("core.incremental", "pass_ms", 20, 2),
    Goal("core.scale", "pass_s", 10, 2),
    Goal("core.scale", "rss_mib", 4096, 2048),
    Goal(GROWTH, "over_n_log_n", 1, 1),
    Goal("core.deep1000", "pass_s", 0.3, 0.05),
    Goal("sim.easy", "wall_s", 1.0, 0.1),
    Goal("sim.conservative", "wall_s", 5, 1),
    Goal("rpc.beside", "beside_ms_p99", 10, 5),
)
"""Of the scheduling core."""


def main(arguments: list[str]) -> int:
    """Exit status 0 if every scenario ran to its end; the document is written in any case."""
    parser = argparse.ArgumentParser(prog="python -m bench report", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="what `--json` printed: run nothing")
    parser.add_argument("--only", help="scenarios to run, with commas; default: all")
    parser.add_argument("--runs", type=int, default=1, help="how often each (default 1)")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else list(SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        known = ", ".join(SCENARIOS)
        print(f"bench: no scenario {unknown[0]!r}; there are {known}", file=sys.stderr)
        return 2
    plot = options.out.with_name(f"{options.out.stem}-growth.svg")
    if options.files:
        texts = [path.read_text(encoding="utf-8") for path in options.files]
        failed: dict[str, str] = {}
    else:
        texts, failed = _run(names, options.runs, plot)
    lines = parse(texts)
    options.out.with_suffix(".jsonl").write_text("".join(texts), encoding="utf-8")
    command = shlex.join(["python", "-m", "bench", "report", *arguments])
    pages = document(lines, failed, command, plot.name if plot.exists() else "")
    options.out.write_text("".join(pages), encoding="utf-8")
    return 1 if failed else 0


def parse(texts: Sequence[str]) -> list[Line]:
    """The lines of files. Raises ValueError for what is no JSON."""
    return [json.loads(line) for text in texts for line in text.splitlines() if line.strip()]


def _run(names: list[str], runs: int, plot: Path) -> tuple[list[str], dict[str, str]]:
    """What each scenario, in a process of its own, printed; and why some did not end well."""
    texts = []
    failed = {}
    for name in names:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "bench", name, "--json", "--runs", str(runs)]
        command += ["--plot", str(plot)] if name == GROWTH else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        texts.append(done.stdout)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            failed[name] = said[-1]
            print(f"bench: {name} failed: {said[-1]}", file=sys.stderr, flush=True)
    return texts, failed


def document(lines: list[Line], failed: dict[str, str], command: str, plot: str) -> Iterator[str]:
    """The pages, in Markdown."""
    described = [line["machine"] for line in lines if "machine" in line]
    yield "# Benchmarks: what was measured\n\n"
    yield f"Made by `{command}`; do not edit.\n"
    yield "What the scenarios are and how to compare versions is said in [bench/README.md](../bench/README.md). Figures are medians of all runs.\n\n"
    yield from _machine(described[-1] if described else machine())
    figures = grouped(lines)
    yield from _goals(figures, failed)
    yield from _growth(figures, plot)
    yield from _all(figures)


def grouped(lines: list[Line]) -> dict[tuple[str, str, str], list[Line]]:
    """Lines of runs of the same: scenario, metric, and the size where there are several."""
    found: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        if "metric" in line:
            size = ""
            if line["scenario"] == GROWTH and "nodes" in line["params"]:
                size = f"{line['params']['nodes']:,} nodes, {line['params']['jobs']:,} jobs"
            found.setdefault((line["scenario"], line["metric"], size), []).append(line)
    return found


def _machine(described: dict[str, object]) -> Iterator[str]:
    yield "| machine | |\n|---|---|\n"
    for name, value in described.items():
        if name != "command":
            yield f"| {name} | {value} |\n"
    yield "\n"


def _goals(
    figures: dict[tuple[str, str, str], list[Line]], failed: dict[str, str]
) -> Iterator[str]:
    yield "## The scheduling core against its goals\n\n"
    yield "| scenario | what | metric | at least | reach for | measured | |\n"
    yield "|---|---|---|---|---|---|---|\n"
    for goal in GOALS:
        what = SCENARIOS[goal.scenario][2]
        found = figures.get((goal.scenario, goal.metric, ""))
        if goal.scenario in failed:
            measured, verdict = failed[goal.scenario], "**failed**"
        elif found is None:
            measured, verdict = "not run", ""
        else:
            value = median(line["value"] for line in found)
            measured, verdict = _short(value), goal.verdict(value)
        bounds = f"{_short(goal.least)} | {_short(goal.reach)}"
        head = f"| `{goal.scenario}` | {what} | `{goal.metric}` "
        yield f"{head}| {bounds} | {measured} | {verdict} |\n"
    yield "\n"
    for name, why in failed.items():
        yield f"`{name}` failed: {why}\n\n"


def _growth(figures: dict[tuple[str, str, str], list[Line]], plot: str) -> Iterator[str]:
    sizes = list(dict.fromkeys(size for name, _, size in figures if name == GROWTH and size))
    if not sizes:
        return
    yield "## How the cost of a pass grows\n\n| size | first pass, ms | pass, ms |\n|---|---|---|\n"
    for size in sizes:
        cells = [
            f"{1e3 * median(line['value'] for line in figures[GROWTH, metric, size]):,.1f}"
            for metric in ("first_pass_s", "pass_s")
        ]
        yield f"| {size} | {' | '.join(cells)} |\n"
    yield f"\n![cost of a pass by size]({plot})\n\n" if plot else "\n"


def _all(figures: dict[tuple[str, str, str], list[Line]]) -> Iterator[str]:
    yield "## Everything\n\n| scenario | metric | median | least | most | unit | runs |\n"
    yield "|---|---|---|---|---|---|---|\n"
    for (name, metric, size), lines in figures.items():
        if size:
            continue
        values = [line["value"] for line in lines]
        cells = [_short(value) for value in (median(values), min(values), max(values))]
        yield f"| `{name}` | `{metric}` | {' | '.join(cells)} | {lines[0]['unit']} | {len(lines)} |\n"


def _short(value: float) -> str:
    """Four digits that count."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.4g} M"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
