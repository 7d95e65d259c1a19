"""Slow, obvious twin of conservative backfilling, for tests. Imports no kernel and no table.

On concrete nodes with all that a request can say; the textbook on one pool is in `oracle_pool`.
Every question is answered by trying: what is free at an instant is capacity less all bookings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sched_core.codes import MoveCause, VerdictCode
from sched_core.oracle import (
    Amounts,
    Held,
    Job,
    Node,
    Pass,
    Place,
    Start,
    choose,
    matches,
    need,
    places,
    plain,
    settle,
    tasks_fit,
    within,
)
from sched_core.oracle_licences import Licences
from sched_core.oracle_limits import Limit, charge, exceeded
from sched_core.request import Request

Rows = list[tuple[str, int, Amounts]]


@dataclass
class Promise:
    """A gang promised: node name, tasks and amounts, in order."""

    start: int
    partition: str
    rows: Rows
    length: int


@dataclass
class Last:
    """What the last pass left: the records it knew, and what it promised."""

    known: set[int] = field(default_factory=set)
    promised: dict[int, Promise] = field(default_factory=dict)
    freed: bool = True
    """Whether anything was given back since."""


@dataclass(frozen=True)
class Bounds:
    """Bounds of the policy."""

    depth: int = 10_000
    window: int = 1 << 39
    resolution: int = 1


class Conservative:
    """The twin of one pass. `last` None: re-planning."""

    def __init__(
        self,
        nodes: dict[str, Node],
        held: list[Held],
        now: int,
        bounds: Bounds,
        last: Last | None,
        limits: dict[str, Limit] | None = None,
        licences: Licences | None = None,
    ) -> None:
        self.limits = limits or {}
        self.licences = licences or Licences()
        self.over_by: dict[int, list[str]] = {}
        self.nodes = nodes
        self.now = now
        self.bounds = bounds
        self.last = last or Last()
        self.booked = [(h.node, now, max(h.end, now + 1), h.amounts) for h in held]
        self.judge = Pass(nodes, [], now, False)
        self.order = self.judge.order
        self.base = {name: dict(node.free) for name, node in nodes.items()}
        for name, _, _, amounts in self.booked:
            for key, amount in amounts.items():
                self.base[name][key] = self.base[name].get(key, 0) + amount
        self.promises: dict[int, Promise] = {}
        self.starts: list[Start] = []
        self.code: dict[int, VerdictCode] = {}
        self.planned: dict[int, int] = {}
        self.cause: dict[int, MoveCause] = {}
        self.waiting: set[str] = set()

    def offers(self, name: str, start: int, end: int) -> list[Amounts]:
        """What a node leaves at every instant of a span at which that changes, and at its start."""
        mine = [b for b in self.booked if b[0] == name]
        instants = {start} | {t for b in mine for t in b[1:3] if start < t < end}
        out = []
        for instant in sorted(instants):
            free = dict(self.base[name])
            for _, begin, stop, amounts in mine:
                if begin <= instant < stop:
                    for key, amount in amounts.items():
                        free[key] = free.get(key, 0) - amount
            out.append(free)
        return out

    def gang(
        self, request: Request, place: Place, start: int, end: int
    ) -> list[tuple[str, int]] | None:
        """A gang that fits in a place for all of a span."""
        required = list(dict.fromkeys(request.required))
        found = []
        for name in [*required, *(n for n in self.order if n not in required)]:
            node = self.nodes.get(name)
            if node and node.usable and matches(request, name, node, place):
                count = tasks_fit(request, node.capacity, *self.offers(name, start, end))
                if count:
                    found.append((name, count))
        most = request.nodes_high
        if choose(request, found, most) and start > self.now and not request.ntasks:
            most = request.nodes_low
        return choose(request, found, most)

    def instants(self) -> Iterable[int]:
        """Instants at which something may start: now, and where something ends, rounded up."""
        step = self.bounds.resolution
        ends = {end for _, _, end, _ in self.booked} | self.licences.instants()
        ends = {-(-end // step) * step for end in ends}
        horizon = self.now + self.bounds.window
        return [self.now, *sorted(t for t in ends if self.now < t <= horizon)]

    def earliest(self, job: Job, latest: int | None = None) -> tuple[Promise, bool] | None:
        """Earliest hole of a job, in the first place that has it, to end by its deadline.

        If that is not now, the longest hole from now on that will do is better.
        """
        found = self.hole(job, job.duration, latest)
        if found is None or not found[1]:
            for length in job.lengths(self.now):
                found = self.hole(job, length, self.now) or found
                if found is not None and found[1]:
                    break
        return found

    def hole(self, job: Job, length: int, latest: int | None) -> tuple[Promise, bool] | None:
        """Earliest hole of so many seconds, in the first place that has it."""
        for start in self.instants():
            end = start + length
            if (latest is not None and start > latest) or end > job.deadline:
                break
            if self.licences.lacks(job.request.licences, start, end):
                continue
            for place in places(job.request):
                gang = self.gang(job.request, place, start, end)
                if gang is not None:
                    rows = [self.row(job.request, name, t, start, end) for name, t in gang]
                    return Promise(start, place[0], rows, length), start == self.now
        return None

    def row(
        self, request: Request, name: str, tasks: int, start: int, end: int
    ) -> tuple[str, int, Amounts]:
        """What a member of a gang takes."""
        capacity = self.nodes[name].capacity
        amounts = plain(capacity)
        if not request.exclusive:
            offers = self.offers(name, start, end)
            amounts = plain(settle(need(request, tasks), offers, capacity))
        return name, tasks if request.ntasks else request.tasks_each, amounts

    def book(self, job: Job, promise: Promise, sign: int = 1) -> None:
        """Book a gang, or (sign -1) undo it."""
        for name, _, amounts in promise.rows:
            booking = (name, promise.start, promise.start + promise.length, amounts)
            if sign > 0:
                self.booked.append(booking)
            else:
                self.booked.remove(booking)
        change = self.licences.book if sign > 0 else self.licences.cancel
        change(job.request.licences, promise.start, promise.start + promise.length)

    def keep(self, job: Job, promise: Promise, cause: MoveCause) -> None:
        """Book a promise of the last pass if it can be kept."""
        end = promise.start + job.duration
        held = [(name, self.nodes[name]) for name, _, _ in promise.rows]
        stands = any(
            place[0] == promise.partition
            and all(n.usable and matches(job.request, name, n, place) for name, n in held)
            for place in places(job.request)
        )
        why = MoveCause.KEPT if stands else MoveCause.NODE
        for name, _, amounts in promise.rows if stands else []:
            if not all(within(amounts, offer) for offer in self.offers(name, promise.start, end)):
                why = cause
        lacks = self.licences.lacks(job.request.licences, promise.start, end)
        if why == MoveCause.KEPT and lacks:
            why = cause
        if why == MoveCause.KEPT:
            self.book(job, promise)
            self.promises[job.job_id] = promise
        else:
            self.promises.pop(job.job_id, None)
            self.cause[job.job_id] = why

    def is_open(self, job: Job) -> bool:
        """Whether it may start, but for resources."""
        return not job.gated(self.now)

    def run(self, jobs: list[Job]) -> Conservative:
        """The whole pass."""
        queue = sorted(jobs, key=lambda j: (-j.priority, j.submit, j.job_id))
        for job in queue:
            old = self.last.promised.get(job.job_id)
            start = max(old.start, self.now) if old is not None else 0
            if old is not None and self.is_open(job) and start + job.duration <= job.deadline:
                kept = self.moved(old, start, job.duration)
                self.keep(job, kept, MoveCause.RUNNING)
        seen = 0
        for place, job in enumerate(queue):
            if not self.is_open(job):
                self.code[job.job_id] = VerdictCode(job.gated(self.now))
            else:
                seen += 1
                deep = seen > self.bounds.depth and job.job_id not in self.last.promised
                if deep:
                    self.plan(job, self.now)
                elif self.last.known and job.job_id not in self.last.known:
                    self.go_before(job, queue[place + 1 :])
                else:
                    self.plan(job)
        return self

    def moved(self, promise: Promise, start: int, length: int) -> Promise:
        """The same promise for another instant."""
        return Promise(start, promise.partition, promise.rows, length)

    def started(self, job: Job, promise: Promise) -> Start:
        """A promise for now as a start."""
        return Start(job.job_id, promise.partition, promise.rows, promise.length)

    def go_before(self, job: Job, behind: list[Job]) -> None:
        """A record new to the queue is planned as if nothing was promised to those behind it."""
        lifted = [(other, self.promises.get(other.job_id)) for other in behind]
        for other, promise in lifted:
            if promise is not None:
                self.book(other, promise, -1)
        self.plan(job)
        for other, promise in lifted:
            if promise is not None:
                self.keep(other, promise, MoveCause.AHEAD)

    def plan(self, job: Job, latest: int | None = None) -> None:
        """Plan one record; with `latest` now: start what can start, and promise nothing."""
        placed = 0
        while placed < job.count:
            old = self.promises.get(job.job_id)
            demand = self.judge.demand_of(job)
            if exceeded(self.limits, job.limit, demand):
                self.over(job, old)
                return
            if old is not None and old.start > self.now and not self.last.freed:
                break
            if old is not None:
                del self.promises[job.job_id]
                self.book(job, old, -1)
                latest = max(old.start - 1, self.now)
            found = self.earliest(job, latest)
            if found is None:
                if old is not None:
                    self.book(job, old)
                    self.promises[job.job_id] = old
                break
            promise, now = found
            self.book(job, promise)
            if not now:
                self.promises[job.job_id] = promise
                break
            for name, _, amounts in promise.rows:
                for key, amount in amounts.items():
                    self.nodes[name].free[key] -= amount
            self.starts.append(self.started(job, promise))
            charge(self.limits, job.limit, demand)
            placed += 1
            latest = None if old is not None else latest
        if placed == job.count:
            self.code[job.job_id] = VerdictCode.STARTED
            self.planned[job.job_id] = self.now
            return
        self.explain(job)

    def over(self, job: Job, old: Promise | None) -> None:
        """A limit keeps it from starting: a promise that is due is given up, another one stays."""
        self.code[job.job_id] = VerdictCode.LIMIT
        if old is not None and old.start <= self.now:
            self.book(job, self.promises.pop(job.job_id), -1)
        elif old is not None:
            self.planned[job.job_id] = old.start

    def explain(self, job: Job) -> None:
        """The verdict on a record that waits."""
        mine = self.promises.get(job.job_id)
        if mine is not None:
            self.planned[job.job_id] = mine.start
        if not self.judge.possible(job.request, True):
            ever = self.judge.possible(job.request, False)
            self.code[job.job_id] = VerdictCode.NODE_NOT_AVAIL if ever else VerdictCode.NEVER
            return
        first = not self.waiting.issuperset(job.request.partitions)
        self.waiting.update(job.request.partitions)
        self.code[job.job_id] = VerdictCode.RESOURCES if first else VerdictCode.PRIORITY
        lacking = self.licences.short(job.request.licences, self.now)
        if lacking:
            self.code[job.job_id] = VerdictCode.LICENSES
            self.over_by[job.job_id] = lacking

    def result(self, freed: bool = True) -> Last:
        """What the next pass is to know."""
        return Last(set(self.code), dict(self.promises), freed)
