"""Conservative passes of the core: a deep queue on a full cluster, all or the first of it planned.

As in `bench.core`, a time is that of one call of `plan` from tables to plan, with everything on,
over tables that an earlier pass has seen.
"""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from bench.core import EVERYTHING, REPEATS, finish
from bench.report import Report
from bench.workload import ASSOCIATIONS, NOW, SIZES, WINDOW, Arrays, load, make, read
from sched_core.memory import Memory
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.tables import Tables
from sched_core.warmup import warmup

DEPTH = 1_000
"""Jobs that `core.backfill` promises a start."""
DEEP_NODES, DEEP_CPUS, DEEP_SHAPES, DEEP_JOBS = 1_000, 32, 300, 10_000
FREED = 100
"""Nodes whose jobs end between the two passes of `core.deep1000`."""


def backfill(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """Ten thousand full nodes: a thousand jobs are promised a start, all others tried for now."""
    full = SIZES["full"]
    size = replace(full, pending=jobs) if jobs else full
    state = read(workload) if workload is not None else make(size)
    tables = load(state)
    policy = replace(EVERYTHING, kind=PolicyKind.CONSERVATIVE, depth=DEPTH)
    made, took = _passes(tables, int(state["now_s"]), policy)
    _report(report, tables, made, took, depth=DEPTH)
    finish(report, state, made, path)


def deep1000(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """A thousand full nodes and ten thousand jobs, all of them planned; then 100 nodes come free."""
    state = read(workload) if workload is not None else make_deep(jobs or DEEP_JOBS)
    tables, now = load(state), int(state["now_s"])
    window = int(state["window_s"])
    policy = replace(EVERYTHING, kind=PolicyKind.CONSERVATIVE, window=window)
    made, took = _passes(tables, now, policy)
    _report(report, tables, made, took, window_s=window)
    finish(report, state, made, path)
    rest = _free(tables, state)
    again, took = _passes(tables, now, policy, Promises.of(made))
    report.metric("started_after_freeing", again.starts, "starts", nodes=FREED)
    report.metric("second_pass_s", took, "s", promised=len(again.head_job))
    finish(report, rest, again, None)
    if not again.starts or (again.moved != 0).any():
        sys.exit(f"{report.scenario}: nothing started on free nodes, or a promise moved later")


def make_deep(pending: int, seed: int = 1) -> Arrays:
    """Equal nodes, each held by one job for up to a day; six jobs in ten want a part of one node,
    the others 2 to 64 whole ones. A few shapes make up most of the queue."""
    rng = np.random.default_rng(seed)
    cpu = np.full(DEEP_NODES, DEEP_CPUS * 1000)
    memory, none = np.full(DEEP_NODES, 131_072), np.zeros(DEEP_NODES, np.int64)
    one = rng.random(DEEP_SHAPES) < 0.6
    nodes = np.where(one, 1, rng.integers(2, 65, DEEP_SHAPES))
    cpus = np.where(one, rng.integers(1, DEEP_CPUS + 1, DEEP_SHAPES), DEEP_CPUS)
    limits = rng.integers(10, 24 * 60, DEEP_SHAPES) * 60
    pick = (rng.pareto(1.1, pending) * DEEP_SHAPES / 20).astype(np.int64)
    pick = np.minimum(pick, DEEP_SHAPES - 1)
    zero = np.zeros(pending, np.int64)
    bounded = rng.random(ASSOCIATIONS) < 0.3
    return {
        "node_cpu_milli": cpu,
        "node_mem_mib": memory,
        "node_gpus": none,
        "node_gpu_type": none - 1,
        "node_partitions": np.ones(DEEP_NODES, np.uint64),
        "node_features": np.zeros(DEEP_NODES, np.uint64),
        "run_node": np.arange(DEEP_NODES),
        "run_cpu_milli": cpu,
        "run_mem_mib": memory,
        "run_gpus": none,
        "run_end_s": NOW + rng.integers(60, 86_400, DEEP_NODES),
        "job_nodes": nodes[pick],
        "job_cpu_milli": cpus[pick] * 1000,
        "job_mem_mib": zero,
        "job_gpus": zero,
        "job_gpu_type": zero - 1,
        "job_partition": zero,
        "job_features_all": zero.astype(np.uint64),
        "job_exclusive": zero.astype(bool),
        "job_limit_s": limits[pick],
        "job_assoc": rng.integers(0, ASSOCIATIONS, pending),
        "assoc_cpu_limit_milli": np.where(bounded, int(cpu.sum()) // 50, -1),
        "now_s": np.array(NOW),
        "window_s": np.array(WINDOW),
    }


def _free(tables: Tables, state: Arrays) -> Arrays:
    """End all jobs of some nodes; the state that is left."""
    nodes = np.random.default_rng(1).permutation(len(state["node_gpus"]))[:FREED]
    gone = np.isin(state["run_node"], nodes)
    first = len(state["job_nodes"])
    for number in np.flatnonzero(gone).tolist():
        tables.running.remove(first + number)
    return {
        name: column[~gone] if name.startswith("run_") else column for name, column in state.items()
    }


def _passes(
    tables: Tables, now: int, policy: Policy, promises: Promises | None = None
) -> tuple[Plan, float]:
    """A plan from the tables, and the median time of passes after the first."""
    warmup()
    gc.collect()
    gc.freeze()  # the tables live as long as the process: no collection need look at them
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    memory = Memory()
    times = []
    for _ in range(1 + REPEATS):
        begun = time.perf_counter()
        made = plan(*parts, policy, now, promises=promises, memory=memory)
        times.append(time.perf_counter() - begun)
    return made, median(times[1:])


def _report(report: Report, tables: Tables, made: Plan, took: float, **params: object) -> None:
    size = {"nodes": tables.nodes.rows, "jobs": len(tables.jobs), "shapes": len(tables.shapes)}
    counts = {"starts": made.starts, "promised": len(made.head_job)}
    report.metric("pass_s", took, "s", **size, **counts, **params)
    report.metric("verdicts_per_s", len(made.job) / took, "verdicts/s")
