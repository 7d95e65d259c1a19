"""`csim whatif`: the same history as it was, replayed as configured, and replayed with a change.

The second is what the third is to be compared with: a replay knows no more than the log or the
trace says, and how far it is from what really happened is seen between the first two.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

import numpy as np

from cranectld.sim.csim.changes import Setting, changed, setting
from cranectld.sim.csim.command import (
    POLICIES,
    add_scenario,
    add_source,
    measured,
    scenario_of,
    source_of,
)
from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.machine import Machine
from cranectld.sim.csim.measures import Measures, measures
from cranectld.sim.csim.replay import Scenario
from cranectld.sim.csim.report import WAITS, aligned, cells
from cranectld.sim.csim.source import Source
from sched_core.columns import Ints

WAS, REPLAYED, CHANGED = "as it was", "replayed", "changed"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One way in which things went; all rows are of the same jobs."""

    name: str
    machine: Machine
    scenario: Scenario | None
    """None: not replayed."""
    measures: Measures


def add_whatif(subparsers: Any) -> None:
    """Add `whatif` to the subcommands of `csim`."""
    text = "replay a site's log, or a trace, with settings changed"
    parser = subparsers.add_parser("whatif", help=text, description=text.capitalize() + ".")
    add_source(parser)
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        required=True,
        dest="settings",
        help="what to change, as policy=conservative or 'nodes.n[1-4].cpus=32'; may be repeated",
    )
    parser.add_argument(
        "--policy", choices=POLICIES, help="to compare with; default: easy, or what was in force"
    )
    add_scenario(parser)
    parser.add_argument("--json", action="store_true", help="figures as JSON")


def whatif(options: argparse.Namespace) -> str:
    """Do what is asked for; gives what is to be printed. Raises CsimError."""
    settings = [setting(text) for text in options.settings]
    source = source_of(options)
    scenario = scenario_of(options, source, options.policy)
    other, its_scenario = changed(source, scenario, settings)
    starts = [
        measured(each, under).outcome.start
        for each, under in ((source, scenario), (other, its_scenario))
    ]
    ways: list[tuple[str, Source, Scenario | None, Ints]] = [
        (REPLAYED, source, scenario, starts[0]),
        (CHANGED, other, its_scenario, starts[1]),
    ]
    notes = list(source.jobs.notes)
    was = source.started
    if was is None or not (was >= 0).any():
        notes.append("the trace does not say when jobs started")
    else:
        ways.insert(0, (WAS, source, None, was))
    rows, left = _rows(source, ways)
    if left:
        notes.append(f"{left:,} jobs whose start is not known in all rows are in none")
    document = _json if options.json else _text
    return document(source, settings, notes, rows)


def _rows(
    source: Source, ways: list[tuple[str, Source, Scenario | None, Ints]]
) -> tuple[list[Row], int]:
    """Figures of the jobs that started in all ways, and how many did not."""
    keep = np.logical_and.reduce([start >= 0 for _, _, _, start in ways])
    if not keep.any():
        raise CsimError(f"{source.path}: no job starts in all of {', '.join(w[0] for w in ways)}")
    jobs, split = source.jobs.only(keep), source.machine.processors
    rows = [
        Row(
            name,
            where.machine,
            under,
            measures(jobs, start[keep], where.machine.processors, split),
        )
        for name, where, under, start in ways
    ]
    return rows, int(np.count_nonzero(~keep))


def _text(source: Source, settings: list[Setting], notes: list[str], rows: list[Row]) -> str:
    count = rows[0].measures.waits.jobs
    lines = [f"{source.path}: {count:,} jobs on {source.machine}", *(f"  {n}" for n in notes), ""]
    for row in rows:
        says = (
            "when they started by the log or trace" if row.scenario is None else str(row.scenario)
        )
        if row.name == CHANGED:
            says = " ".join([f"{says};", *(given.text for given in settings)])
        lines.append(f"{row.name:<11}{says}")
    table = [["processors", "", "jobs", *WAITS, "utilisation", "makespan"]]
    for place, part in enumerate(rows[0].measures.classes):
        name = f"{part.low}-{part.high}" if part.low < part.high else str(part.low)
        for row in rows:
            own = row.measures.classes[place]
            table.append([name, row.name, *cells(own.waits), f"{own.utilisation:.4f}", ""])
            name = ""
    name = "all"
    for row in rows:
        found = row.measures
        rest = [f"{found.utilisation:.4f}", f"{found.makespan:,}"]
        table.append([name, row.name, *cells(found.waits), *rest])
        name = ""
    return "\n".join([*lines, "", *aligned(table, 2)]) + "\n"


def _json(source: Source, settings: list[Setting], notes: list[str], rows: list[Row]) -> str:
    document = {
        "trace": source.path,
        "settings": [given.text for given in settings],
        "notes": notes,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    return json.dumps(document, indent=2) + "\n"
