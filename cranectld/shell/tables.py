"""The planner's tables: deltas of the fold applied to the scheduling core's columns."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np

from crane.config.model import SchedulerConfig
from cranectld.core.fold import (
    NS,
    Delta,
    Instant,
    NodeRow,
    NotPending,
    NotRunning,
    PendingRow,
    PolicyRow,
    Reset,
    RunningRow,
    UsageRow,
)
from cranectld.shell.prioritising import Priorities
from cranectld.shell.promising import Standing
from sched_core.tables import DURATION_MAX, Tables

BULK = 64
"""Runs of at least so many new plain records are added with a few numpy calls."""


class PlannerTables:
    """Tables and policy, kept by applying deltas in order."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.policy = PolicyRow(SchedulerConfig())
        self.standing = Standing()
        """Of promises: told of what becomes of those who hold them."""
        self.priorities: Priorities | None = None
        """None: those that the core decided at submission count."""
        self._now = 0
        self._later: list[tuple[int, int]] = []
        """Heap of (begin in ns, job id) of records whose time has not come; may be stale."""

    def apply(self, deltas: Sequence[Delta], now: int) -> None:
        """Fold deltas in order; `now` in ns, never decreasing from call to call."""
        self._now = now
        place = 0
        while place < len(deltas):
            delta = deltas[place]
            if isinstance(delta, PendingRow):
                run = self._plain_run(deltas, place)
                if run >= BULK:
                    part = deltas[place : place + run]
                    self._add_many([row for row in part if isinstance(row, PendingRow)])
                    place += run
                    continue
            self._apply_one(delta)
            place += 1

    def open_due(self, now: int) -> int:
        """Let records start whose begin time has come; the next begin time (ns), 0: none."""
        self._now = now
        jobs = self.tables.jobs
        while self._later and self._later[0][0] <= now:
            begin, job_id = heappop(self._later)
            if job_id in jobs and int(jobs.begin[jobs.row(job_id)]) == -(-begin // NS):
                jobs.update(job_id, begin=0)
        return self._later[0][0] if self._later else 0

    def _begin(self, row: PendingRow) -> int:
        """Begin in the seconds of the tables: rounded up until it has come, so none is early."""
        if row.begin <= self._now:
            return 0
        heappush(self._later, (row.begin, row.job_id))
        return -(-row.begin // NS)

    def _apply_one(self, delta: Delta) -> None:
        jobs, running = self.tables.jobs, self.tables.running
        if isinstance(delta, PendingRow):
            self._put_pending(delta)
        elif isinstance(delta, NotPending):
            if delta.job_id in jobs:
                jobs.remove(delta.job_id)
                if delta.job_id not in running:  # else it holds now what it was promised
                    self.standing.give_back()
        elif isinstance(delta, RunningRow):
            self._put_running(delta)
        elif isinstance(delta, NotRunning):
            if delta.job_id in running:
                running.remove(delta.job_id)
                self.standing.give_back()
                if self.priorities is not None:
                    self.priorities.let_go(delta.job_id)
        elif isinstance(delta, NodeRow):
            self._put_node(delta)
        elif isinstance(delta, PolicyRow):
            self._follow(delta)
        elif isinstance(delta, UsageRow | Instant):
            self._account(delta)
        else:
            assert isinstance(delta, Reset)
            self.tables = Tables()
            self.standing.forget()  # what is promised is said in numbers of the old tables
            self._later = []

    def _follow(self, policy: PolicyRow) -> None:
        self.policy = policy
        self.priorities = None
        if policy.priority.kind == "multifactor":
            self.priorities = Priorities(policy, self._now // NS)

    def _account(self, delta: UsageRow | Instant) -> None:
        if self.priorities is None:
            return
        if isinstance(delta, Instant):
            self.priorities.at(delta.time)
        else:
            self.priorities.use(delta)

    def _plain_run(self, deltas: Sequence[Delta], place: int) -> int:
        """Length of the run of new, open, single records from `place` (`NotRunning` between)."""
        jobs, running = self.tables.jobs, self.tables.running
        end = place
        while end < len(deltas):
            delta = deltas[end]
            if isinstance(delta, PendingRow):
                if (
                    delta.gate
                    or delta.begin > self._now
                    or delta.tasks != 1
                    or delta.job_id in jobs
                ):
                    break
            elif not (isinstance(delta, NotRunning) and delta.job_id not in running):
                break
            end += 1
        return end - place

    def _add_many(self, rows: list[PendingRow]) -> None:
        ids = [row.job_id for row in rows]
        self.tables.jobs.add_many(
            ids,
            [self.tables.shapes.intern(row.request) for row in rows],
            duration=np.array([row.duration for row in rows], np.int64),
            submit=np.array(ids, np.int64),
            priority=np.array([row.priority for row in rows], np.int64),
        )
        if self.priorities is not None:
            for row in rows:
                self.priorities.put(self.tables.jobs.row(row.job_id), row)

    def _put_pending(self, row: PendingRow) -> None:
        jobs = self.tables.jobs
        shape = self.tables.shapes.intern(row.request)
        if row.job_id not in jobs:
            jobs.add(row.job_id, shape, duration=row.duration, submit=row.job_id)
        else:
            self._mind_promise(row, shape)
            if int(jobs.shape[jobs.row(row.job_id)]) != shape:
                jobs.set_shape(row.job_id, shape)
        jobs.update(
            row.job_id,
            priority=row.priority,
            duration=row.duration,
            begin=self._begin(row),
            gate=row.gate,
            count=row.tasks,
        )
        if self.priorities is not None:
            self.priorities.put(jobs.row(row.job_id), row)

    def _mind_promise(self, row: PendingRow, shape: int) -> None:
        """A record that waits changes: its promise may say nothing any more, or be given back."""
        jobs = self.tables.jobs
        at = jobs.row(row.job_id)
        if self.priorities is not None:
            moved = self.priorities.differs(at, row)
        else:
            moved = int(jobs.priority[at]) != row.priority
        before = int(jobs.shape[at]), int(jobs.duration[at])
        if moved or before != (shape, min(max(row.duration, 1), DURATION_MAX)):
            self.standing.renew(row.job_id)
        elif row.gate and not jobs.gate[at]:
            self.standing.give_back()

    def _put_running(self, row: RunningRow) -> None:
        running, dims = self.tables.running, self.tables.dims
        if row.job_id in running:
            running.remove(row.job_id)
            self.standing.give_back()
        where = [self.tables.nodes.names.number(name) for name, _, _, _ in row.holds]
        vectors = [dims.vector(cpu, memory, gres) for _, cpu, memory, gres in row.holds]
        amounts = np.zeros((len(vectors), dims.width), np.int64)
        for i, vector in enumerate(vectors):
            amounts[i, : len(vector)] = vector
        running.add(row.job_id, row.end, where, amounts)
        if self.priorities is not None:
            self.priorities.hold(row)

    def _put_node(self, row: NodeRow) -> None:
        self.standing.give_back()
        self.tables.nodes.set(
            row.name,
            cpu=row.cpu,
            memory=row.memory,
            gres=row.gres,
            partitions=row.partitions,
            features=row.features,
            usable=row.usable,
            weight=row.weight,
            switch=row.switch,
        )
