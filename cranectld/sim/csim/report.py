"""What csim prints: a block for one policy, a table for several, or JSON; and the jobs as CSV."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from cranectld.sim.csim.files import whole_file
from cranectld.sim.csim.machine import Machine
from cranectld.sim.csim.measures import Measures, Waits
from cranectld.sim.csim.replay import Outcome, Scenario
from cranectld.sim.csim.workload import Workload
from sched_core.columns import Ints

_WAITS = ("mean wait", "median", "p95", "max", "slowdown")
JOBS_HEADER = "job_id,submit,start,end"


@dataclass(frozen=True, slots=True)
class Result:
    """One policy's replay."""

    scenario: Scenario
    outcome: Outcome
    measures: Measures


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
    rows = [["processors", "jobs", *_WAITS]]
    for part in found.classes:
        name = f"{part.low}-{part.high}" if part.low < part.high else str(part.low)
        rows.append([name, *_cells(part.waits)])
    rows.append(["all", *_cells(found.waits)])
    return [
        f"policy       {result.scenario}",
        f"utilisation  {found.utilisation:.4f}",
        f"makespan     {found.makespan:,} s",
        *(f"promises     {kept}" for kept in _promises(result)),
        "",
        *_aligned(rows),
    ]


def _several(results: list[Result]) -> list[str]:
    rows = [["policy", "jobs", *_WAITS, "utilisation", "makespan"]]
    for result in results:
        found = result.measures
        rest = [f"{found.utilisation:.4f}", f"{found.makespan:,}"]
        rows.append([str(result.scenario), *_cells(found.waits), *rest])
    kept = [f"{result.scenario}: {text}" for result in results for text in _promises(result)]
    return [*_aligned(rows), *([""] if kept else []), *kept]


def _promises(result: Result) -> list[str]:
    """One text if the policy counts its promises, else none."""
    if result.outcome.promises is None:
        return []
    return [f"{result.outcome.promises:,} jobs promised a start, {result.outcome.broken:,} broken"]


def _cells(waits: Waits) -> list[str]:
    return [
        f"{waits.jobs:,}",
        f"{waits.mean:,.1f}",
        f"{waits.median:,.1f}",
        f"{waits.p95:,}",
        f"{waits.max:,}",
        f"{waits.bounded_slowdown:,.4f}",
    ]


def _aligned(rows: list[list[str]]) -> list[str]:
    """First column to the left, figures to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        figures = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *figures]))
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
            for result in results
        ],
    }
    return json.dumps(described, indent=2) + "\n"


def write_jobs(path: str, jobs: Workload, start: Ints) -> None:
    """Every job in the order of the trace, `JOBS_HEADER` first. The file is whole or not there."""
    end = start + jobs.run
    columns = [column.tolist() for column in (jobs.job_id, jobs.submit, start, end)]
    rows = (f"{a},{b},{c},{d}\n" for a, b, c, d in zip(*columns, strict=True))
    with whole_file(path) as partial, open(partial, "w", encoding="ascii") as file:
        file.write(f"{JOBS_HEADER}\n")
        file.writelines(rows)
