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
from bench.workload import SIZES, Arrays, Size, load, make, plan_arrays, read
from sched_core.memory import Memory
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.tables import Tables
from sched_core.warmup import warmup

EVERYTHING = Policy(kind=PolicyKind.EASY, depth=1 << 40, max_starts=1 << 40)
"""No job is passed over, and the starts of one pass are not bounded."""
REPEATS = 7


def drain(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """An idle cluster and a million jobs: one pass fills it and says why the rest waits."""
    state = _state("drain", jobs, workload)
    tables, now = load(state), int(state["now_s"])
    made, first, took = _passes(tables, now, Memory())
    size = {"nodes": tables.nodes.rows, "jobs": len(tables.jobs), "shapes": len(tables.shapes)}
    report.metric("pass_s", took, "s", starts=made.starts, **size)
    report.metric("first_pass_s", first, "s")
    report.metric("placements_per_s", made.starts / took, "starts/s")
    report.metric("verdicts_per_s", len(made.job) / took, "verdicts/s")
    _finish(report, state, made, path)


def easy(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """A full cluster and a deep queue: what a pass costs that finds heads and reasons."""
    _one_pass(report, _state("full", jobs, workload), path)


def scale(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """A hundred thousand nodes, two million jobs that wait."""
    _one_pass(report, _state("scale", jobs, workload), path)


def _one_pass(report: Report, state: Arrays, path: Path | None) -> None:
    tables, now = load(state), int(state["now_s"])
    made, first, took = _passes(tables, now, Memory())
    size = {"nodes": tables.nodes.rows, "jobs": len(tables.jobs), "shapes": len(tables.shapes)}
    report.metric("pass_s", took, "s", starts=made.starts, **size)
    report.metric("first_pass_s", first, "s")
    report.metric("verdicts_per_s", len(made.job) / took, "verdicts/s")
    _finish(report, state, made, path)


def incremental(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """Running jobs end one after another, and the next in the queue takes what each leaves."""
    state = _state("full", jobs, workload)
    tables, now = load(state), int(state["now_s"])
    memory = Memory()
    made, _, _ = _passes(tables, now, memory, repeats=0)
    _finish(report, state, made, path)
    first = len(tables.jobs)
    order = np.random.default_rng(1).permutation(len(tables.running)) + first
    durations = tables.jobs.duration[tables.jobs.order()].copy()
    times: list[float] = []
    for job_id in order.tolist():
        now += 1
        tables.running.remove(job_id)
        made, took = _timed(tables, now, memory)
        for k in range(made.starts):
            rows = slice(int(made.start_ptr[k]), int(made.start_ptr[k + 1]))
            started = int(made.start_job[k])
            tables.jobs.remove(started)
            end = now + int(durations[started])
            tables.running.add(started, end, made.node[rows], made.amount[rows])
        if made.starts:
            times.append(took)
        if len(times) == 20:
            break
    report.metric("pass_ms", median(times) * 1e3, "ms", passes=len(times))
    report.metric("worst_pass_ms", max(times) * 1e3, "ms")


def growth(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """A pass as nodes and jobs double: a line each, and what power of the size its time follows."""
    del workload, path
    base = SIZES["full"]
    least = replace(base, nodes=base.nodes // 8, pending=jobs or base.pending // 8)
    sizes, times = [], []
    for factor in (1, 2, 4, 8, 16):
        size = replace(least, nodes=least.nodes * factor, pending=least.pending * factor)
        state = make(size)
        tables = load(state)
        _, first, took = _passes(tables, int(state["now_s"]), Memory(), repeats=3)
        report.metric("first_pass_s", first, "s", nodes=size.nodes, jobs=size.pending)
        report.metric("pass_s", took, "s", nodes=size.nodes, jobs=size.pending)
        sizes.append(size)
        times.append(took)
    if not report.as_json:
        _plot(sizes, times)
    power = np.polyfit(np.log([size.pending for size in sizes]), np.log(times), 1)[0]
    report.metric("power", float(power), "of the size")


def _plot(sizes: list[Size], times: list[float]) -> None:
    """A bar for each time, as long as its logarithm."""
    least = min(times) / 2
    for size, took in zip(sizes, times, strict=True):
        bar = "#" * round(8 * float(np.log2(took / least)))
        print(f"{size.nodes:9,} nodes {size.pending:9,} jobs {took * 1e3:9.1f} ms {bar}")


def _state(name: str, jobs: int, workload: Path | None) -> Arrays:
    if workload is not None:
        return read(workload)
    size = SIZES[name]
    return make(replace(size, pending=jobs) if jobs else size)


def _timed(tables: Tables, now: int, memory: Memory) -> tuple[Plan, float]:
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    begun = time.perf_counter()
    made = plan(*parts, EVERYTHING, now, memory=memory)
    return made, time.perf_counter() - begun


def _passes(
    tables: Tables, now: int, memory: Memory, repeats: int = REPEATS
) -> tuple[Plan, float, float]:
    """A plan from the tables, the time of the first pass, and the median of those after it."""
    warmup()
    gc.collect()
    gc.freeze()  # the tables live as long as the process: no collection need look at them
    made, first = _timed(tables, now, memory)
    times = [_timed(tables, now, memory)[1] for _ in range(repeats)]
    return made, first, median(times or [first])


def _finish(report: Report, state: Arrays, made: Plan, path: Path | None) -> None:
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
