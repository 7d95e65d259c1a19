"""A replay on nodes through the public `plan()`: the code that runs real clusters.

Batch semantics, as a controller's: at one instant all ends, then what changes about nodes, then all
submissions, then one pass. Passes are made at such instants, and where one was promised a start.
Slower than the pool, for a pass looks at nodes and writes a verdict for every job.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import replace

import numpy as np

from cranectld.core.fold import NodeRow
from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.replay import Scenario
from cranectld.sim.csim.site import Held, Site
from cranectld.sim.csim.workload import Workload
from sched_core.columns import Ints
from sched_core.jobs import DURATION_MAX, JobTable
from sched_core.memory import Memory
from sched_core.orders import TIME_DEPENDENT, rank
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.tables import Tables

SHORTEST_FIRST = "easy-sjbf"
KINDS = {
    "fcfs": PolicyKind.FIFO,
    "easy": PolicyKind.EASY,
    SHORTEST_FIRST: PolicyKind.EASY,
    "conservative": PolicyKind.CONSERVATIVE,
    "conservative-replan": PolicyKind.CONSERVATIVE_REPLAN,
}
"""Policies of the public pass."""
ALL = 1 << 40
HEAD = 1
"""Priority of heads in the second look of `easy-sjbf`, which puts no job above 0."""


def replay_on_nodes(jobs: Workload, site: Site, scenario: Scenario, control: Ints) -> Ints:
    """Start (s) of each job, -1 if none; `control` as for `sched_core.pool.replay`.

    A job has no start if the replay was stopped before, or if the nodes never had room for it.
    """
    return _Replay(jobs, site, scenario).run(control)


class _Replay:
    """Tables, and what happens when; all instants are seconds."""

    def __init__(self, jobs: Workload, site: Site, scenario: Scenario) -> None:
        self._policy = _policy(scenario)
        self._site = site
        self._tables = Tables()
        self._by_length: JobTable | None = None
        if scenario.policy == SHORTEST_FIRST:
            self._by_length = JobTable(self._tables.shapes)
        self._memory = Memory()
        self._promises: Promises | None = None
        self._due: int | None = None
        """When the next promised start is."""
        self._freed = False
        self._estimate = np.minimum(jobs.estimate, DURATION_MAX).tolist()
        self._run = jobs.run.tolist()
        self._start = np.full(len(jobs), -1, np.int64)
        self._started = 0
        self._turn = site.turn.tolist()
        self._priority = _priority(jobs, site, scenario.order).tolist()
        self._arrivals = deque(_by_time(site))
        self._changes = deque(site.changes)
        self._ends: list[tuple[int, int]] = []
        self._arrays: dict[int, tuple[list[int], deque[int]]] = {}
        for row in site.nodes:
            self._put(row)
        for number, held in enumerate(site.held):
            self._hold(len(jobs) + number, held)

    def run(self, control: Ints) -> Ints:
        """Event by event, until nothing can happen any more or `control[1]` is set."""
        while not control[1]:
            now = self._next()
            if now is None:
                break
            self._advance(now)
            self._take(self._pass(now), now)
            control[0] = self._started
        return self._start

    def _next(self) -> int | None:
        instants = [when for when, _ in self._ends[:1]]
        instants += [queue[0][0] for queue in (self._arrivals, self._changes) if queue]
        instants += [self._due] if self._due is not None else []
        return min(instants, default=None)

    def _advance(self, now: int) -> None:
        self._freed = False
        while self._ends and self._ends[0][0] <= now:
            i = heapq.heappop(self._ends)[1]
            self._tables.running.remove(i)
            self._freed = True
            self._let_next(i)
        while self._changes and self._changes[0][0] <= now:
            self._put(self._changes.popleft()[1])
            self._freed = True
        while self._arrivals and self._arrivals[0][0] <= now:
            self._arrive(self._arrivals.popleft()[1])

    def _arrive(self, i: int) -> None:
        """A job waits from now on, or for its turn among the tasks of its array."""
        array, most = self._site.arrays[i] if self._site.arrays else (0, 0)
        if most:
            going, waiting = self._arrays.setdefault(array, ([0], deque()))
            if going[0] >= most:
                waiting.append(i)
                return
            going[0] += 1
        shape = self._tables.shapes.intern(self._site.requests[i])
        fixed = {"duration": self._estimate[i], "submit": self._turn[i]}
        self._tables.jobs.add(i, shape, priority=self._priority[i], **fixed)
        if self._by_length is not None:
            self._by_length.add(i, shape, priority=-self._estimate[i], **fixed)

    def _let_next(self, ended: int) -> None:
        if ended >= len(self._run) or not self._site.arrays:
            return
        array, most = self._site.arrays[ended]
        if most:
            going, waiting = self._arrays[array]
            going[0] -= 1
            if waiting:
                self._arrive(waiting.popleft())

    def _pass(self, now: int) -> Plan:
        if self._by_length is not None:
            return self._two_looks(self._by_length, now)
        last = self._promises
        if last is not None:
            last = replace(last, freed=self._freed)
        made = self._plan(self._tables.jobs, self._policy, now, last)
        if self._policy.kind >= PolicyKind.CONSERVATIVE:
            self._promises = Promises.of(made)
            later = made.head_start[made.head_start > now]
            self._due = int(later.min()) if len(later) else None
        return made

    def _two_looks(self, by_length: JobTable, now: int) -> Plan:
        """The head is the first that does not fit; behind it the shortest goes first."""
        first = self._plan(self._tables.jobs, replace(self._policy, kind=PolicyKind.FIFO), now)
        self._take(first, now)
        heads = first.head_job.tolist()
        for i in heads:
            by_length.update(i, priority=HEAD)
        made = self._plan(by_length, self._policy, now)
        for i in heads:
            by_length.update(i, priority=-self._estimate[i])
        return made

    def _plan(self, jobs: JobTable, policy: Policy, now: int, last: Promises | None = None) -> Plan:
        tables = self._tables
        parts = (tables.nodes, tables.shapes, jobs, tables.running)
        return plan(*parts, policy, now, promises=last, memory=self._memory)

    def _take(self, made: Plan, now: int) -> None:
        """What a plan starts runs from now on."""
        self._started += made.starts
        for k, i in enumerate(made.start_job.tolist()):
            rows = slice(int(made.start_ptr[k]), int(made.start_ptr[k + 1]))
            self._tables.jobs.remove(i)
            if self._by_length is not None:
                self._by_length.remove(i)
            end = now + self._estimate[i]
            self._tables.running.add(i, end, made.node[rows], made.amount[rows])
            self._start[i] = now
            heapq.heappush(self._ends, (now + self._run[i], i))

    def _put(self, row: NodeRow) -> None:
        rest = row._asdict()
        self._tables.nodes.set(rest.pop("name"), **rest)

    def _hold(self, i: int, held: Held) -> None:
        """What ran before the replay; nodes that are not there any more hold nothing."""
        tables = self._tables
        holds = [hold for hold in held.row.holds if tables.nodes.names.find(hold[0]) >= 0]
        vectors = [tables.dims.vector(cpu, memory, gres) for _, cpu, memory, gres in holds]
        amounts = np.zeros((len(vectors), tables.dims.width), np.int64)
        for place, vector in enumerate(vectors):
            amounts[place, : len(vector)] = vector
        where = [tables.nodes.names.number(name) for name, _, _, _ in holds]
        tables.running.add(i, held.row.end, where, amounts)
        heapq.heappush(self._ends, (held.end, i))


def _priority(jobs: Workload, site: Site, order: str) -> Ints:
    """Of each job: the site's, or by its place in another order."""
    if order == "fcfs":
        return site.priority
    by_turn = np.argsort(site.turn)
    estimate = np.minimum(jobs.estimate, DURATION_MAX)
    priority = np.empty(len(by_turn), np.int64)
    columns = (column[by_turn] for column in (jobs.submit, jobs.procs, estimate))
    priority[by_turn] = -rank(order, *columns)
    return priority


def _by_time(site: Site) -> list[tuple[int, int]]:
    """(instant, job) in the order in which jobs come to wait."""
    order = np.lexsort((site.turn, site.eligible))
    return list(zip(site.eligible[order].tolist(), order.tolist(), strict=True))


def _policy(scenario: Scenario) -> Policy:
    kind = KINDS.get(scenario.policy)
    if kind is None:
        offered = ", ".join(KINDS)
        raise CsimError(f"{scenario.policy} is not offered on nodes, only {offered}; use --pool")
    if scenario.order in TIME_DEPENDENT:
        raise CsimError(f"the order {scenario.order} is not offered on nodes; use --pool")
    if scenario.policy == SHORTEST_FIRST and scenario.depth:
        raise CsimError(f"{scenario.policy} is offered on nodes without a depth only; use --pool")
    return Policy(
        kind=kind,
        depth=scenario.depth or ALL,
        max_starts=ALL,
        estimate_steps=0,
        window=scenario.window or DURATION_MAX,
        resolution=scenario.resolution,
    )
