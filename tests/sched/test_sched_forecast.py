"""Estimates for records beyond the depth, and intervals learnt from errors."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.codes import VerdictCode
from sched_core.forecast import FORGET, ErrorTable, fluid_starts
from sched_core.oracle_forecast import FluidJob, FluidRun, fluid_pool
from sched_core.tables import Request, Tables

NOW = 1_000


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list, list]:
    nodes = [
        (draw(st.integers(1, 8)), draw(st.integers(1, 64))) for _ in range(draw(st.integers(1, 4)))
    ]
    runs = [
        (
            draw(st.integers(0, len(nodes) - 1)),
            draw(st.integers(1, 4)),
            draw(st.integers(-50, 5_000)),
        )
        for _ in range(draw(st.integers(0, 5)))
    ]
    queue = [
        (
            draw(st.integers(1, 8)), draw(st.integers(0, 64)), draw(st.integers(1, 3)),
            draw(st.integers(1, 100_000)), draw(st.integers(0, 5)) == 0,
            draw(st.sampled_from((0, 0, 3_000))),
        )
        for _ in range(draw(st.integers(1, 8)))
    ]  # fmt: skip
    return nodes, runs, queue


@given(pools())
@settings(deadline=None, max_examples=150)
def test_the_queue_flows_as_the_oracle_says(pool):
    nodes, runs, queue = pool
    tables = Tables()
    capacity = {"cpu": 0, "memory": 0}
    for i, (cpu, memory) in enumerate(nodes):
        tables.nodes.set(f"n{i}", cpu=cpu * 1000, memory=memory, partitions=("p",))
        capacity["cpu"] += cpu * 1000
        capacity["memory"] += memory
    tables.nodes.set("down", cpu=64_000, memory=64, partitions=("p",), usable=False)
    for i, (node, cpu, left) in enumerate(runs):
        tables.running.add(10_000 + i, NOW + left, [node], [[cpu * 1000, 0]])
    jobs = []
    for i, (cpu, memory, wide, lasts, held, begin) in enumerate(queue):
        request = Request(
            partitions=("p",), cpu_per_node=cpu * 1000, memory_per_node=memory, min_nodes=wide
        )
        gate = int(VerdictCode.HELD_USER) if held else 0
        shape = tables.shapes.intern(request)
        tables.jobs.add(i, shape, duration=lasts, submit=i, gate=gate, begin=begin)
        takes = {"cpu": cpu * 1000 * wide, "memory": memory * wide}
        jobs.append(FluidJob(takes, lasts, begin, not held))
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    found = fluid_starts(*parts, tables.jobs.order(), NOW)
    holds = [FluidRun({"cpu": cpu * 1000}, NOW + left) for _, cpu, left in runs]
    assert found.tolist() == fluid_pool(capacity, holds, jobs, NOW)


def test_partitions_drain_apart_and_one_without_nodes_gives_no_estimate():
    tables = Tables()
    tables.nodes.set("a", cpu=4_000, memory=0, partitions=("a",))
    tables.nodes.set("b", cpu=4_000, memory=0, partitions=("b",))
    for i, part in enumerate(("a", "a", "b", "none")):
        request = Request(partitions=(part,), cpu_per_node=4_000)
        tables.jobs.add(i, tables.shapes.intern(request), duration=600, submit=i)
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    assert fluid_starts(*parts, tables.jobs.order(), 0).tolist() == [0, 600, 0, -1]


def test_without_errors_the_interval_is_wide():
    low, high = ErrorTable().interval(np.array([0, 600], np.int64))
    assert low.tolist() == [0, 0]
    assert (high >= np.array([0, 600 * 16])).all()


def test_an_interval_holds_the_share_of_waits_it_promises():
    draw = random.Random(7)
    table = ErrorTable()

    def waits(count: int) -> tuple[np.ndarray, np.ndarray]:
        foretold = np.array([draw.randrange(1, 50_000) for _ in range(count)], np.int64)
        factor = [draw.lognormvariate(0.4, 0.9) for _ in range(count)]
        return foretold, (foretold * np.array(factor)).astype(np.int64)

    for _ in range(5):
        table.record(*waits(2_000))
    foretold, actual = waits(4_000)
    low, high = table.interval(foretold)
    inside = ((low <= actual) & (actual <= high)).mean()
    assert 0.78 <= inside <= 0.90, inside
    assert (high < 16 * foretold).mean() > 0.9


def test_old_errors_fade():
    table = ErrorTable()
    wait = np.full(FORGET, 1_000, np.int64)
    for _ in range(4):
        table.record(wait, wait * 8)
    for _ in range(12):
        table.record(wait, wait)
    low, high = table.interval(wait[:1])
    assert low[0] <= 1_000 <= high[0] < 2_000
    assert table.counts.sum() <= FORGET
