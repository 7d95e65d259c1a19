"""A replay on nodes of equal CPUs through the public `plan()`: the code that runs real clusters.

A job of n processors is a gang of n tasks with one CPU each, packed on as few nodes as the order of
preference allows. Batch semantics as on the pool; slower, for a pass looks at nodes and writes a
verdict for every job.
"""

from __future__ import annotations

import heapq

import numpy as np

from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.machine import Machine
from cranectld.sim.csim.replay import Scenario
from cranectld.sim.csim.workload import Workload
from sched_core.columns import Ints
from sched_core.plan import Policy, PolicyKind, plan
from sched_core.tables import Request, Tables

KINDS = {"fcfs": PolicyKind.FIFO, "easy": PolicyKind.EASY}
"""Policies of the public pass."""
ALL = 1 << 40
PARTITION = ("pool",)
CPU = 1000
"""Thousandths of a CPU per processor of a job."""


def replay_on_nodes(jobs: Workload, machine: Machine, scenario: Scenario, control: Ints) -> Ints:
    """Start (s) of each job, -1 if stopped before; `control` as for `sched_core.pool.replay`.

    One `plan()` for every instant at which a job ends or is submitted.
    """
    policy = _policy(scenario)
    tables = Tables()
    for i in range(machine.nodes):
        tables.nodes.set(f"n{i}", cpu=machine.cpus * CPU, memory=0, partitions=PARTITION)
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    turn = np.argsort(jobs.submit, kind="stable").tolist()
    submit, procs, estimate, run = (
        column.tolist() for column in (jobs.submit, jobs.procs, jobs.estimate, jobs.run)
    )
    start = np.full(len(jobs), -1, np.int64)
    ends: list[tuple[int, int]] = []
    arrived = 0
    while (ends or arrived < len(turn)) and not control[1]:
        coming = [submit[turn[arrived]]] if arrived < len(turn) else []
        now = min([end for end, _ in ends[:1]] + coming)
        while ends and ends[0][0] <= now:
            tables.running.remove(heapq.heappop(ends)[1])
        while arrived < len(turn) and submit[turn[arrived]] <= now:
            i = turn[arrived]
            request = Request(partitions=PARTITION, cpu_per_task=CPU, ntasks=procs[i])
            shape = tables.shapes.intern(request)
            tables.jobs.add(i, shape, duration=estimate[i], submit=arrived)
            arrived += 1
        made = plan(*parts, policy, now)
        for k, i in enumerate(made.start_job.tolist()):
            rows = slice(int(made.start_ptr[k]), int(made.start_ptr[k + 1]))
            tables.jobs.remove(i)
            tables.running.add(i, now + estimate[i], made.node[rows], made.amount[rows])
            start[i] = now
            heapq.heappush(ends, (now + run[i], i))
            control[0] += 1
    return start


def _policy(scenario: Scenario) -> Policy:
    kind = KINDS.get(scenario.policy)
    if kind is None or scenario.order != "fcfs":
        what = scenario.policy if kind is None else f"the order {scenario.order}"
        raise CsimError(
            f"{what} is not offered on nodes, only {' and '.join(KINDS)} in order of submission; "
            "use --pool"
        )
    return Policy(kind=kind, depth=scenario.depth or ALL, estimate_steps=0)
