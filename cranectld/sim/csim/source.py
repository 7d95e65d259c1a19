"""What is replayed: a trace or a controller's log, made into a workload and a machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cranectld.sim.csim.machine import Machine, machine
from cranectld.sim.csim.replay import Scenario
from cranectld.sim.csim.trace import read_swf
from cranectld.sim.csim.workload import Workload, workload
from sched_core.columns import Ints

if TYPE_CHECKING:
    from cranectld.core.fold import NodeRow
    from cranectld.sim.csim.history import History
    from cranectld.sim.csim.site import Site

NS = 1_000_000_000
CPU = 1000
NO_LIMIT = 1 << 40
"""Seconds."""
POLICIES = {"fifo": "fcfs"}
"""Names of the configuration that are others here."""


@dataclass(frozen=True, slots=True)
class Source:
    """A workload, where it ran, and how."""

    path: str
    jobs: Workload
    machine: Machine
    scenario: Scenario
    """What was in force, as far as is known."""
    site: Site | None = None
    """Of a log; a trace's nodes are made of the machine."""
    started: Ints | None = None
    """When each job did start (s); -1: not known. None: of none."""


def trace_source(path: str, pool: int | None, nodes: str | None, filtering: str) -> Source:
    """A trace in the SWF. Raises CsimError."""
    trace = read_swf(path)
    where = machine(trace, pool, nodes)
    jobs = workload(trace, where.processors, filtering)
    return Source(path, jobs, where, Scenario("easy"), started=jobs.started)


def log_source(path: str) -> Source:
    """A controller's state directory or `log.db`. Raises CsimError."""
    from cranectld.sim.csim.history import read_history  # noqa: PLC0415  (not for a trace)

    history = read_history(path)
    jobs, site, started = _recorded(path, history)
    scheduler = history.policies[-1]
    policy = POLICIES.get(scheduler.policy, scheduler.policy)
    scenario = Scenario(policy, depth=scheduler.depth)
    if policy.startswith("conservative"):
        scenario = replace(scenario, window=scheduler.window, resolution=scheduler.resolution)
    return Source(path, jobs, machine_of(site), scenario, site, started)


def machine_of(site: Site) -> Machine:
    """The nodes of a site by CPUs, each with the most it ever had in service.

    A part of a CPU counts as one.
    """
    most: dict[str, int] = {}
    for row in (*site.nodes, *(row for _, row in site.changes)):
        if row.usable:
            most[row.name] = max(row.cpu, most.get(row.name, 0))
    sizes = [-(-cpu // CPU) for cpu in most.values() if cpu]
    groups = {size: sizes.count(size) for size in dict.fromkeys(sizes)}
    return Machine(sum(sizes), tuple((count, size) for size, count in groups.items()))


def _recorded(path: str, history: History) -> tuple[Workload, Site, Ints]:
    from cranectld.core.fold import RequestCache  # noqa: PLC0415
    from cranectld.sim.csim.errors import CsimError  # noqa: PLC0415
    from cranectld.sim.csim.site import Held, Site  # noqa: PLC0415

    attempts = sorted(history.attempts, key=lambda attempt: (attempt.submit, attempt.record))
    if not attempts:
        waiting = f"; {history.waiting:,} wait" if history.waiting else ""
        raise CsimError(f"{path}: no job in this log has started{waiting}: nothing to replay")
    cache = RequestCache()
    column = {
        name: np.array([getattr(attempt, name) for attempt in attempts], np.int64)
        for name in ("job_id", "uid", "priority", "submit", "eligible", "start", "end", "cpus")
    }
    limits = [attempt.spec.time_limit for attempt in attempts]
    end = np.where(column["end"] == 0, history.end, column["end"])
    place = np.empty(len(attempts), np.int64)
    place[sorted(range(len(attempts)), key=lambda i: attempts[i].record)] = np.arange(len(attempts))
    jobs = Workload(
        job_id=column["job_id"],
        submit=column["submit"] // NS,
        procs=np.maximum(-(-column["cpus"] // CPU), 1),
        estimate=np.array([limit if limit > 0 else NO_LIMIT for limit in limits], np.int64),
        run=np.maximum(-((column["start"] - end) // NS), 1),
        notes=tuple(_notes(history, int(np.count_nonzero(column["end"] == 0)))),
        user=column["uid"],
        cpu=column["cpus"],
    )
    arrays = [(attempt.record[0], attempt.array_limit) for attempt in attempts]
    last = -(-history.end // NS)
    site = Site(
        nodes=tuple(row for when, row in history.changes if when <= history.begin),
        requests=tuple(cache.request(attempt.spec) for attempt in attempts),
        eligible=np.maximum(column["eligible"], history.begin) // NS,
        priority=column["priority"],
        turn=place,
        changes=tuple(_changes(history, last)),
        held=tuple(Held(row, -(-when // NS) if when else last) for row, when in history.running),
        arrays=tuple(arrays) if any(most for _, most in arrays) else (),
    )
    return jobs, site, column["start"] // NS


def _changes(history: History, last: int) -> list[tuple[int, NodeRow]]:
    """What nodes become; when the log is over, those that are out of service come back."""
    out = [(when // NS, row) for when, row in history.changes if when > history.begin]
    final = {row.name: row for _, row in history.changes}
    return out + [(last, row._replace(usable=True)) for row in final.values() if not row.usable]


def _notes(history: History, running: int) -> list[str]:
    counts = (
        (history.cancelled, "ended without having started, left out"),
        (history.waiting, "wait when the log ends, left out"),
        (running, "run when the log ends, and are taken to end then"),
        (history.runs_again, "were run again: every attempt is replayed as a job"),
        (
            len(history.running),
            "ran when the log begins: they hold their nodes and are not counted",
        ),
    )
    notes = [f"{count:,} jobs {text}" for count, text in counts if count]
    if len(history.policies) > 1:
        notes.append(f"{len(history.policies) - 1:,} changes of the scheduler's configuration")
    return notes
