"""Which devices of a node: choices per second on free and on partly used boards."""

from __future__ import annotations

import time
from statistics import median

import numpy as np

from bench.report import Report
from sched_core import gres
from sched_core.columns import Ints
from sched_core.layouts import LAYOUTS, Layout, weigh
from sched_core.slots import Device, SlotTable
from sched_core.tables import Tables

BOARDS = ("dgx1-8", "nvswitch-8", "ascend-910-8", "nvswitch-16", "ascend-a3-16", "ascend-910b-16")
RUNS = 5


def choices(report: Report, jobs: int = 0) -> None:
    """One batch over as many nodes as choices; half of the devices of each are wanted."""
    count = jobs or 2000
    random = np.random.default_rng(1)
    cells = random.integers(0, 8, (16, 16)).tolist()
    made = {name: LAYOUTS[name]() for name in BOARDS}
    made["random-8"] = Layout(weigh(8, lambda i, j: int(cells[i][j])))
    made["random-16"] = Layout(weigh(16, lambda i, j: int(cells[i][j])))
    for name, layout in made.items():
        table, kind = _table(layout, count)
        half = layout.places // 2
        for state, want in (("idle", half), ("busy", max(half // 2, 1))):
            if state == "busy":
                _occupy(table, layout.places, random)
            rate = _rate(table, count, kind, want * 1000)
            report.metric(f"{name}.{state}", rate, "choices/s", devices=want, nodes=count)


def _table(layout: Layout, count: int) -> tuple[SlotTable, int]:
    tables = Tables()
    table = SlotTable(tables.nodes)
    devices = [Device("dev", "x", numa=-1, layout=layout, place=i) for i in range(layout.places)]
    for row in range(count):
        tables.nodes.set(f"n{row}", cpu=1000, memory=0)
        table.set(f"n{row}", devices)
    return table, tables.dims.find_gres("dev", "x")[1]


def _occupy(table: SlotTable, places: int, random: np.random.Generator) -> None:
    """A quarter of the devices, at random."""
    rows, slots = np.nonzero(random.random((table.nodes.rows, places)) < 0.25)
    table.add(1, rows, slots, np.full(len(rows), 1000))


def _rate(table: SlotTable, count: int, kind: int, want: int) -> float:
    every: Ints = np.arange(count)
    wanted = np.array([every, every, np.full(count, kind), np.full(count, want)])
    boards, bench = gres.boards_of(table.layouts), gres.bench_of()
    gres.choose(table, wanted[:, :1], boards, bench)
    spent = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        gres.choose(table, wanted, boards, bench)
        spent.append(time.perf_counter() - begun)
    return count / median(spent)
