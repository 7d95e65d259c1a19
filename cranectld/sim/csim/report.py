"""What csim prints: a block for one policy, a table for several, or JSON; and the jobs as CSV."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import numpy as np

from cranectld.sim.csim.machine import Machine
from cranectld.sim.csim.measures import Measures, Waits
from cranectld.sim.csim.replay import Outcome, Scenario
from cranectld.sim.csim.workload import Workload
from sched_core.columns import Ints

WAITS = ("mean wait", "median", "p95", "max", "slowdown")
JOBS_HEADER = "job_id,submit,start,end"


@dataclass(frozen=True, slots=True)
class Result:
    """One policy's replay."""

    scenario: Scenario
    outcome: Outcome
    measures: Measures
    unstarted: int = 0
    """Jobs that the nodes never had room for; they are in no figure."""


def as_text(path: str, jobs: Workload, machine: Machine, results: list[Result]) -> str:
    """For people: what was replayed, then the figures. Waits in seconds."""
    lines = [f"{path}: {len(jobs):,} jobs on {machine}", *(f"  {note}" for note in jobs.notes), ""]
    if len(results) == 1:
        lines += _one(results[0])
    else:
        lines += _several(results)
    return "\n".join(lines) + "\n"


def _one(result: Result) -> list[str]:
    found = result.measures
    rows = [["processors", "jobs", *WAITS]]
    for part in found.classes:
        name = f"{part.low}-{part.high}" if part.low < part.high else str(part.low)
        rows.append([name, *cells(part.waits)])
    rows.append(["all", *cells(found.waits)])
    return [
        f"policy       {result.scenario}",
        f"utilisation  {found.utilisation:.4f}",
        f"makespan     {found.makespan:,} s",
        *(f"promises     {kept}" for kept in _promises(result)),
        *(f"not started  {count}" for count in _unstarted(result)),
        "",
        *aligned(rows),
    ]


def _several(results: list[Result]) -> list[str]:
    rows = [["policy", "jobs", *WAITS, "utilisation", "makespan"]]
    for result in results:
        found = result.measures
        rest = [f"{found.utilisation:.4f}", f"{found.makespan:,}"]
        rows.append([str(result.scenario), *cells(found.waits), *rest])
    told = [(result, text) for result in results for text in _promises(result)]
    told += [(result, f"{text} not started") for result in results for text in _unstarted(result)]
    kept = [f"{result.scenario}: {text}" for result, text in told]
    return [*aligned(rows), *([""] if kept else []), *kept]


def _promises(result: Result) -> list[str]:
    """One text if the policy counts its promises, else none."""
    if result.outcome.promises is None:
        return []
    return [f"{result.outcome.promises:,} jobs promised a start, {result.outcome.broken:,} broken"]


def _unstarted(result: Result) -> list[str]:
    """One text if there are any, else none."""
    return [f"{result.unstarted:,} jobs"] if result.unstarted else []


def cells(waits: Waits) -> list[str]:
    """Figures under `jobs` and WAITS."""
    return [
        f"{waits.jobs:,}",
        f"{waits.mean:,.1f}",
        f"{waits.median:,.1f}",
        f"{waits.p95:,}",
        f"{waits.max:,}",
        f"{waits.bounded_slowdown:,.4f}",
    ]


def aligned(rows: list[list[str]], names: int = 1) -> list[str]:
    """The first columns, `names` of them, to the left, figures to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        fitted = [
            cell.ljust(width) if i < names else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(fitted).rstrip())
    return lines


def as_json(path: str, jobs: Workload, machine: Machine, results: list[Result]) -> str:
    """For programs: the same, nothing rounded, times in seconds."""
    described = {
        "trace": path,
        "machine": dataclasses.asdict(machine),
        "jobs": len(jobs),
        "notes": list(jobs.notes),
        "results": [
            dataclasses.asdict(result.scenario)
            | dataclasses.asdict(result.measures)
            | {"promises": result.outcome.promises, "broken": result.outcome.broken}
            | {"unstarted": result.unstarted}
            for result in results
        ],
    }
    return json.dumps(described, indent=2) + "\n"


def write_jobs(path: str, jobs: Workload, start: Ints) -> None:
    """Every job in the order of the trace, `JOBS_HEADER` first; -1: it never started. OSError."""
    end = np.where(start >= 0, start + jobs.run, -1)
    columns = [column.tolist() for column in (jobs.job_id, jobs.submit, start, end)]
    rows = (f"{a},{b},{c},{d}\n" for a, b, c, d in zip(*columns, strict=True))
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{JOBS_HEADER}\n")
        file.writelines(rows)
