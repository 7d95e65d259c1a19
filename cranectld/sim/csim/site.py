"""What a replay on nodes needs beside the columns of a workload: the nodes, and each job's request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cranectld.core.fold import NodeRow, RunningRow
from cranectld.sim.csim.machine import Machine
from cranectld.sim.csim.workload import Workload
from sched_core.columns import Ints
from sched_core.request import Bundle, Request

PARTITION = ("pool",)
CPU = 1000
"""Thousandths of a CPU per processor of a job."""


@dataclass(frozen=True, slots=True)
class Held:
    """What ran already when the replay begins: it holds its nodes until `end` (s)."""

    row: RunningRow
    end: int


@dataclass(frozen=True, slots=True)
class Site:
    """Nodes over time, and what jobs ask of them; vectors are by job of the workload."""

    nodes: tuple[NodeRow, ...]
    requests: tuple[Request | Bundle, ...]
    eligible: Ints
    """Instant (s) from which a job may start."""
    priority: Ints
    """Higher is first; equals by `turn`."""
    turn: Ints
    """Place in order of submission, 0 the first."""
    changes: tuple[tuple[int, NodeRow], ...] = ()
    """What a node is from an instant (s) on, by rising instants."""
    held: tuple[Held, ...] = ()
    arrays: tuple[tuple[int, int], ...] = ()
    """Array a job is a task of, and how many of its tasks may run at once (0: any number); empty:
    there are no arrays."""


def plain_site(jobs: Workload, machine: Machine) -> Site:
    """Nodes of CPUs only, `n0`, `n1`, ...: a job of n processors is a gang of n tasks of one CPU."""
    sizes = [cpus for count, cpus in machine.groups for _ in range(count)]
    nodes = tuple(plain_node(f"n{i}", cpus) for i, cpus in enumerate(sizes))
    known: dict[int, Request] = {}
    for size in jobs.procs.tolist():
        if size not in known:
            known[size] = Request(partitions=PARTITION, cpu_per_task=CPU, ntasks=size)
    requests = tuple(known[size] for size in jobs.procs.tolist())
    turn = np.empty(len(jobs), np.int64)
    turn[np.argsort(jobs.submit, kind="stable")] = np.arange(len(jobs))
    return Site(nodes, requests, jobs.submit, 0 * turn, turn)


def plain_node(name: str, cpus: int) -> NodeRow:
    """A usable node of so many CPUs in the one partition."""
    return NodeRow(name, cpus * CPU, 0, (), PARTITION, (), True, 1, "")
