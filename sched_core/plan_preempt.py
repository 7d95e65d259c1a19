"""A pass, and then who of those that still wait starts by preemption, in queue order.

Each record that may preempt asks once, for one task: victims are chosen as `preempt` says, among
running jobs of classes that its class may preempt. What the plan itself starts is never a victim,
nobody is a victim twice, and when all victims have gone every preemptor named here fits beside the
plan's starts and the other preemptors: none is in vain. What victims leave over is used by the next
preemptors, who then need fewer or none of their own. Nodes promised to records ahead in the queue
are left alone; a promise to a record behind may be delayed, as by any start of one ahead.

Not asked for: heterogeneous jobs, records that limits keep back, that would have a bounded number of
switches, or that want devices of boards with rules; whether they would start cannot be told by
counts. Nor is a job a victim that holds a sick device: nobody would get that after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sched_core.codes import VerdictCode
from sched_core.columns import Ints, Matrix
from sched_core.limits import LimitTable
from sched_core.memory import Memory
from sched_core.plan import Plan, Policy, _demand, plan
from sched_core.preempt import Preemption, PreemptPolicy, cheapest_first, preempt_among
from sched_core.slots import KIND, LAYOUT, SlotTable
from sched_core.tables import JobTable, NodeTable, RunningTable, ShapeTable
from sched_core.terms import PreemptMode, RunningTerms

OUT_OF_REACH = 1 << 50
"""Taken off the free amounts of nodes promised to others: no victim makes up for it."""


@dataclass(frozen=True, slots=True)
class PreemptRules:
    """Who may preempt whom. Classes are QoS, or partition tiers, by number."""

    may: Matrix
    """[classes, classes] 1: records of the row's class may preempt jobs of the column's (the `tier`
    of their terms)."""
    job: Ints
    """[k] pending records that may preempt."""
    job_class: Ints
    """[k] their classes."""
    attempts: int = 100
    """Records that ask in one pass."""
    search: PreemptPolicy = PreemptPolicy()  # noqa: RUF009  (a frozen value)

    @staticmethod
    def tiers(count: int) -> Matrix:
        """A matrix by which every class preempts all lower ones."""
        return np.tri(count, k=-1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Preemptions:
    """Preemptors in queue order, what each is promised, and its victims."""

    job: Ints
    """[p] preemptors, one task of each."""
    start: Ints
    """[p] instant (s) by which the victims it waits for are gone."""
    partition: Ints
    """[p]"""
    victim_ptr: Ints
    """[p+1] victims of preemptor i: `victim_ptr[i]` to `victim_ptr[i+1]`; none: it takes what the
    victims of those before it leave over."""
    victim: Ints
    """[v] job ids, each once."""
    mode: Ints
    """[v] `PreemptMode`: cancel, requeue, suspend."""
    grace: Ints
    """[v] seconds a victim is given to end; 0 if it is suspended."""
    node_ptr: Ints
    """[p+1] rows of preemptor i."""
    node: Ints
    tasks: Ints
    amount: Ints
    """[rows, dimensions]"""
    lost_work: Ints
    """[p] CPU-seconds that its victims lose."""


def plan_with_preemption(
    nodes: NodeTable,
    shapes: ShapeTable,
    jobs: JobTable,
    running: RunningTable,
    policy: Policy,
    now: int,
    rules: PreemptRules,
    *,
    memory: Memory | None = None,
    **more: Any,
) -> tuple[Plan, Preemptions]:
    """A plan as `plan` makes it (`more`: its other arguments), and what preemption adds to it.

    The tables are as before afterwards. Beside the pass: O(starts), and for each record that asks
    three kernels per partition (see `plan_preemption`).
    """
    memory = memory if memory is not None else Memory()
    made = plan(nodes, shapes, jobs, running, policy, now, memory=memory, **more)
    asking = _asking(made, shapes, jobs, rules, more.get("slots"))
    free = nodes.free.copy()
    try:
        turn = _Round(nodes, shapes, jobs, running, made, rules, now, memory)
        turn.spare(more["slots"].holders_of_sick() if more.get("slots") is not None else [])
        found = turn.ask(asking)
    finally:
        nodes.free[:] = free
    return made, _columns(found, made.amount.shape[1])


def _asking(
    made: Plan, shapes: ShapeTable, jobs: JobTable, rules: PreemptRules, slots: SlotTable | None
) -> list[tuple[int, int]]:
    """Place in the queue and class of those that may preempt and wait for others."""
    waits = (made.code == VerdictCode.RESOURCES) | (made.code == VerdictCode.PRIORITY)
    may = (rules.may.sum(axis=1) > 0)[rules.job_class]
    classes = dict(zip(rules.job[may].tolist(), rules.job_class[may].tolist(), strict=True))
    places = np.flatnonzero(waits & np.isin(made.job, rules.job[may]))
    shape = jobs.shape[jobs.order()[places]]
    told = (shapes.switches[shape] == 0) & (shapes.members[shape] == 0)
    if slots is not None:
        told &= ~_ruled(shapes, slots)[shape]
    return [(place, classes[int(made.job[place])]) for place in places[told].tolist()]


def _ruled(shapes: ShapeTable, slots: SlotTable) -> Any:
    """[s] whether a shape wants devices of which any board has rules."""
    ruled = np.array([bool(own.counts or own.sets) for own in slots.layouts] + [False])
    kinds = np.unique(slots.slots[KIND][ruled[slots.slots[LAYOUT]] & (slots.slots[KIND] >= 0)])
    parent = np.array(shapes.nodes.dims.parent)
    dims = np.unique(np.concatenate([kinds, parent[kinds][parent[kinds] >= 0]])).astype(np.int64)
    wants = shapes.node_need[: shapes.rows, dims] + shapes.task_need[: shapes.rows, dims]
    return wants.any(axis=1)


class _Round:
    """The records of one pass that ask, one after another; `nodes.free` is what is left for them."""

    def __init__(
        self,
        nodes: NodeTable,
        shapes: ShapeTable,
        jobs: JobTable,
        running: RunningTable,
        made: Plan,
        rules: PreemptRules,
        now: int,
        memory: Memory,
    ) -> None:
        self.nodes, self.shapes, self.jobs, self.running = nodes, shapes, jobs, running
        self.made, self.rules, self.now, self.memory = made, rules, now, memory
        self.dims = made.amount.shape[1]
        np.subtract.at(nodes.free[:, : self.dims], made.node, made.amount)
        self.spared = np.zeros(running.terms.rows, bool)
        self.ready = np.full(nodes.rows, now, np.int64)
        self.budget = _Budget(shapes, jobs, made)
        self.heads_seen = 0
        self.place_of = dict(zip(made.job.tolist(), range(len(made.job)), strict=True))

    def spare(self, jobs: list[int]) -> None:
        """Leave these alone: what they hold would not all be free after them."""
        for job_id in jobs:
            if self.running.terms.has(job_id):
                self.spared[self.running.terms.place(job_id)] = True

    def ask(self, asking: list[tuple[int, int]]) -> list[tuple[int, int, Preemption]]:
        """Job, promised start and preemption of those that got one."""
        found: list[tuple[int, int, Preemption]] = []
        hopeless: set[tuple[int, int]] = set()
        order, asked = self.jobs.order(), 0
        for place, number in asking:
            row = int(order[place])
            shape = int(self.jobs.shape[row])
            if (shape, number) in hopeless or not self.budget.allows(row):
                continue
            if asked == self.rules.attempts:
                break
            asked += 1
            self._leave_promised(place, {job for job, _, _ in found})
            one = self._victims(shape, number)
            if one is None:
                hopeless.add((shape, number))
                continue
            hopeless.clear()
            self.budget.charge(row)
            found.append((int(self.made.job[place]), self._settle(one), one))
        return found

    def _leave_promised(self, place: int, served: set[int]) -> None:
        """Put out of reach the nodes promised to records ahead of a place, if not `served` yet."""
        made = self.made
        while self.heads_seen < len(made.head_job):
            head = self.heads_seen
            if self.place_of[int(made.head_job[head])] >= place:
                return
            rows = slice(int(made.head_ptr[head]), int(made.head_ptr[head + 1]))
            if int(made.head_job[head]) not in served:
                self.nodes.free[np.unique(made.head_node[rows])] -= OUT_OF_REACH
            self.heads_seen += 1

    def _victims(self, shape: int, number: int) -> Preemption | None:
        """Victims for a shape; None also where it would start only on what is promised to others."""
        terms = self.running.terms
        tier = terms.columns[RunningTerms.TIER, : terms.rows]
        known = (tier >= 0) & (tier < len(self.rules.may)) & ~self.spared
        may = known & (self.rules.may[number, np.where(known, tier, 0)] > 0)
        chosen = cheapest_first(terms, may, self.now)
        tables = (self.nodes, self.shapes, self.running)
        one = preempt_among(*tables, shape, chosen, self.rules.search, self.now, self.memory)
        if one is None or (len(one.victims) == 0 and (self.ready[one.nodes] == self.now).all()):
            return None
        return one

    def _settle(self, one: Preemption) -> int:
        """Give the victims' amounts back, take the preemptor's; gives when it can start."""
        start = max(one.start, int(self.ready[one.nodes].max()))
        terms = self.running.terms
        for job_id, mode in zip(one.victims.tolist(), one.mode.tolist(), strict=True):
            self.spared[terms.place(job_id)] = True
            where, amounts = self.running.held(job_id)
            given = amounts[:, :1] if mode == PreemptMode.SUSPEND else amounts
            np.add.at(self.nodes.free[:, : given.shape[1]], where, given)
            self.ready[where] = np.maximum(self.ready[where], start)
        self.nodes.free[one.nodes, : self.dims] -= one.amount
        self.ready[one.nodes] = start
        return start


class _Budget:
    """What limits leave after the starts of a plan, and then after each preemptor."""

    def __init__(self, shapes: ShapeTable, jobs: JobTable, made: Plan) -> None:
        self.jobs = jobs
        self.demand = _demand(shapes)
        self.limits: LimitTable = jobs.limits
        self.left = self.limits.left()
        order = jobs.order()
        some = np.flatnonzero((made.placed > 0) & (jobs.limit[order] >= 0))
        for place in some.tolist():
            self.charge(int(order[place]), int(made.placed[place]))

    def _chain(self, row: int) -> list[int]:
        at, out = int(self.jobs.limit[row]), []
        while at >= 0:
            out.append(at)
            at = int(self.limits.parent[at])
        return out

    def allows(self, row: int) -> bool:
        """Whether another task of a record is within all its limits."""
        wants = self.demand[self.jobs.shape[row]]
        return all((self.left[at][wants > 0] >= wants[wants > 0]).all() for at in self._chain(row))

    def charge(self, row: int, tasks: int = 1) -> None:
        """Tasks of a record start: they count in all its limits."""
        for at in self._chain(row):
            self.left[at] -= tasks * self.demand[self.jobs.shape[row]]


def _columns(found: list[tuple[int, int, Preemption]], dims: int) -> Preemptions:
    ones = [one for _, _, one in found]
    nothing = np.zeros(0, np.int64)

    def joined(parts: list[Ints]) -> Ints:
        return np.concatenate([nothing, *parts])

    def ends(sizes: list[int]) -> Ints:
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    return Preemptions(
        job=np.array([job for job, _, _ in found], np.int64),
        start=np.array([start for _, start, _ in found], np.int64),
        partition=np.array([one.partition for one in ones], np.int64),
        victim_ptr=ends([len(one.victims) for one in ones]),
        victim=joined([one.victims for one in ones]),
        mode=joined([one.mode for one in ones]),
        grace=joined([one.grace for one in ones]),
        node_ptr=ends([len(one.nodes) for one in ones]),
        node=joined([one.nodes for one in ones]),
        tasks=joined([one.tasks for one in ones]),
        amount=np.concatenate([np.zeros((0, dims), np.int64), *(one.amount for one in ones)]),
        lost_work=np.array([one.lost_work for one in ones], np.int64),
    )
