"""The scheduling core by itself: passes over generated states, or over one that is given.

Kernels are loaded or compiled before any clock starts. A time is that of one call of
`sched_core.plan.plan`, tables to plan, with everything on: partitions, features, GPU types,
exclusive nodes, association limits, and a whole verdict row for every pending job. The first pass
over some tables is told apart from those after it, which know the nodes and requests already.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from bench.report import Report
from bench.soundness import violations
from bench.workload import SIZES, Arrays, load, make, plan_arrays, read
from sched_core.memory import Memory
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.tables import Tables
from sched_core.warmup import warmup

EVERYTHING = Policy(kind=PolicyKind.EASY, depth=1 << 40, max_starts=1 << 40)
"""No job is passed over, and the starts of one pass are not bounded."""
REPEATS = 7


def drain(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """An idle cluster and a million jobs: one pass fills it and says why the rest waits."""
    state = initial("drain", jobs, workload)
    tables, now = load(state), int(state["now_s"])
    made, first, took = passes(tables, now, Memory())
    size = {"nodes": tables.nodes.rows, "jobs": len(tables.jobs), "shapes": len(tables.shapes)}
    report.metric("pass_s", took, "s", starts=made.starts, **size)
    report.metric("first_pass_s", first, "s")
    report.metric("placements_per_s", made.starts / took, "starts/s")
    report.metric("verdicts_per_s", len(made.job) / took, "verdicts/s")
    finish(report, state, made, path)


def easy(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """A full cluster and a deep queue: what a pass costs that finds heads and reasons."""
    _one_pass(report, initial("full", jobs, workload), path)


def scale(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """A hundred thousand nodes, two million jobs that wait."""
    _one_pass(report, initial("scale", jobs, workload), path)


def _one_pass(report: Report, state: Arrays, path: Path | None) -> None:
    tables, now = load(state), int(state["now_s"])
    made, first, took = passes(tables, now, Memory())
    size = {"nodes": tables.nodes.rows, "jobs": len(tables.jobs), "shapes": len(tables.shapes)}
    report.metric("pass_s", took, "s", starts=made.starts, **size)
    report.metric("first_pass_s", first, "s")
    report.metric("verdicts_per_s", len(made.job) / took, "verdicts/s")
    finish(report, state, made, path)


def initial(name: str, jobs: int, workload: Path | None) -> Arrays:
    """The state that is given, or one of a size, with so many jobs if not 0."""
    if workload is not None:
        return read(workload)
    size = SIZES[name]
    return make(replace(size, pending=jobs) if jobs else size)


def timed(tables: Tables, now: int, memory: Memory) -> tuple[Plan, float]:
    """A plan and its time (s)."""
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    begun = time.perf_counter()
    made = plan(*parts, EVERYTHING, now, memory=memory)
    return made, time.perf_counter() - begun


def passes(
    tables: Tables, now: int, memory: Memory, repeats: int = REPEATS
) -> tuple[Plan, float, float]:
    """A plan from the tables, the time of the first pass, and the median of those after it."""
    warmup()
    gc.collect()
    gc.freeze()  # the tables live as long as the process: no collection need look at them
    made, first = timed(tables, now, memory)
    times = [timed(tables, now, memory)[1] for _ in range(repeats)]
    return made, first, median(times or [first])


def finish(report: Report, state: Arrays, made: Plan, path: Path | None) -> None:
    """Memory; the plan is checked, and written where that is asked for."""
    _memory(report)
    arrays = plan_arrays(made, int(state["now_s"]))
    wrong = violations(state, arrays)
    if wrong:
        sys.exit(f"{report.scenario}: the plan is not sound: {'; '.join(wrong)}")
    if path is not None:
        with path.open("wb") as archive:
            np.savez(archive, allow_pickle=False, **arrays)


def _memory(report: Report) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report.metric("rss_mib", peak, "MiB")
