"""Priorities of a million pending jobs over ten thousand associations, usage and ranks included."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from bench.report import Report
from sched_core import priority as p
from sched_core.columns import Ints
from sched_core.fairshare import ONE, fair_tree
from sched_core.shares import ShareTable
from sched_core.warmup import warmup

JOBS = 1_000_000
ACCOUNTS = 1_000
USERS = 9_000
SHAPES = 1_000
NOW = 1_700_000_000
RUNS = 9


def associations(random: np.random.Generator) -> ShareTable:
    """Accounts in a tree a few levels deep, users with a year of usage, a third with jobs."""
    table = ShareTable(epoch=NOW - 365 * 86400)
    names = ["root"]
    for i in range(ACCOUNTS):
        above = names[int(random.integers(0, max(1, len(names) // 4)))]
        table.add(f"a{i}", above, shares=int(random.integers(1, 100)))
        names.append(f"a{i}")
    for i in range(USERS):
        above = names[int(random.integers(0, len(names)))]
        table.add(f"u{i}", above, shares=int(random.integers(1, 10)), user=True)
        for _ in range(int(random.integers(0, 3))):
            start = NOW - int(random.integers(86400, 365 * 86400))
            table.charge(f"u{i}", int(random.integers(1, 10**6)), start, start + 36000)
        if i % 3 == 0:
            table.begin(f"u{i}", int(random.integers(1, 10**6)), NOW - 3600)
    return table


def pending(random: np.random.Generator, jobs: int, rows: int) -> Ints:
    """Jobs of users, in the order in which nobody sorted them."""
    columns = np.full((p.JOB_COLUMNS, jobs), -1, np.int64)
    columns[p.SHAPE] = random.integers(0, SHAPES, jobs)
    columns[p.ASSOCIATION] = random.integers(ACCOUNTS + 1, rows, jobs)
    columns[p.PARTITION] = random.integers(0, 20, jobs)
    columns[p.QOS] = random.integers(0, 10, jobs)
    columns[p.ELIGIBLE] = NOW - random.integers(0, 14 * 86400, jobs)
    columns[p.NICE] = random.integers(0, 3, jobs)
    columns[p.SITE] = 0
    return columns


def priority(report: Report, jobs: int = 0) -> None:
    """One recalculation: usage now, Fair Tree, terms, a priority for every job."""
    count = jobs or JOBS
    warmup()
    random = np.random.default_rng(1)
    table = associations(random)
    columns = pending(random, count, table.rows)
    weights = p.Weights(10_000, 100, 1_000_000, 1_000, 5_000, 50_000, tres=(("cpu", 1_000),))

    def some(rows: int) -> Ints:
        return random.integers(0, ONE, rows, dtype=np.int64)

    size, tres, partitions, qos = some(SHAPES), some(SHAPES)[None, :], some(20), some(10)
    owner = some(table.rows)

    def terms() -> p.Terms:
        shares = fair_tree(table, NOW)
        return p.terms(weights, p.Factors(owner, shares, partitions, qos, size, tres))

    made = terms()
    params = {"jobs": count, "associations": table.rows, "shapes": SHAPES}
    parts: dict[str, Callable[[], object]] = {
        "usage_s": lambda: table.usage(NOW),
        "fairshare_s": lambda: fair_tree(table, NOW),
        "priorities_s": lambda: p.prioritise(columns, made, NOW),
        "pass_s": lambda: p.prioritise(columns, terms(), NOW),
    }
    for name, part in parts.items():
        seconds = median(_timed(part) for _ in range(RUNS))
        report.metric(name, seconds, "s", **params)
    report.metric("jobs_per_s", count / report.values["pass_s"], "1/s", **params)


def _timed(part: Callable[[], object]) -> float:
    begun = time.perf_counter()
    part()
    return time.perf_counter() - begun
