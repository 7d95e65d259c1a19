"""Slow, obvious twin of passes beside reservations, for tests. Imports no kernel and no table.

FIFO, EASY and conservative alike: what a node has at an instant, for somebody, is worked out from
what runs, what is booked and what is reserved then, and a job fits where it does at every instant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sched_core.codes import MoveCause, VerdictCode
from sched_core.oracle import (
    Amounts,
    Held,
    Job,
    Node,
    Pass,
    Start,
    choose,
    matches,
    places,
    plain,
    tasks_fit,
)
from sched_core.oracle_conservative import Bounds, Conservative, Last, Promise
from sched_core.oracle_limits import Limit, charge, exceeded

POOLS = 1 << 20
"""Nodes within a reservation come after all others."""


@dataclass(frozen=True)
class Reserved:
    """A reservation: what it keeps on each node, when, and which jobs are in it."""

    name: str
    kept: dict[str, Amounts]
    instances: list[tuple[int, int]]
    maintenance: bool = False
    overlap: bool = False
    overrun: bool = False

    def on(self, instant: int) -> bool:
        """Whether an instance is on."""
        return any(start <= instant < end for start, end in self.instances)


@dataclass
class Member(Held):
    """What a member of a reservation that runs holds."""

    reservation: str = ""


def less(amounts: Amounts, other: Amounts, sign: int = 1) -> Amounts:
    """Amounts without others."""
    keys = {**amounts, **other}
    return {key: amounts.get(key, 0) - sign * other.get(key, 0) for key in keys}


def both(kept: Amounts, left: Amounts) -> Amounts:
    """What there is of what is kept where so much is left."""
    out = {key: max(min(kept[key], left.get(key, 0)), 0) for key in kept}
    for total in [key for key in kept if key.startswith("gres/") and ":" not in key]:
        types = [key for key in {**kept, **left} if key.startswith(f"{total}:")]
        if types:
            rest = [
                side.get(total, 0) - sum(side.get(k, 0) for k in types) for side in (kept, left)
            ]
            some = sum(out.get(key, 0) for key in types)
            out[total] = max(min(out[total], some + min(rest)), 0)
    return out


def share(one: Reserved, other: Reserved) -> bool:
    """Whether members of both have what both keep at the same time."""
    return one.overlap or other.overlap


class Guarded(Conservative):
    r"""The twin of one pass. Reservations come in the order in which they were made.

    A node within a reservation is called `node\\0reservation`, a partition `partition\\0reservation`.
    """

    def __init__(
        self,
        nodes: dict[str, Node],
        held: list[Held],
        now: int,
        bounds: Bounds,
        last: Last | None,
        limits: dict[str, Limit],
        reserved: list[Reserved],
        wishes: dict[int, str],
    ) -> None:
        self.reserved = sorted(reserved, key=lambda r: not r.maintenance)
        self.wishes = wishes
        self.real = nodes
        self.running = held
        self.pool_of: dict[str, tuple[str, Reserved]] = {}
        everything = dict(nodes)
        for one in self.reserved:
            for name, kept in one.kept.items():
                if not one.maintenance and one.name in wishes.values():
                    everything[f"{name}\0{one.name}"] = self._pool(name, kept, one)
        super().__init__(everything, [], now, bounds, last, limits)
        self.leading: dict[str, int] = {}
        for name, node in everything.items():
            node.free = self.offers(name, now, now + 1)[0]
        self.judge = Pass(everything, [], now, False)
        self.order = self.judge.order

    def _kept(self, name: str) -> Reserved | None:
        return next((r for r in self.reserved if r.name == name and not r.maintenance), None)

    def _pool(self, name: str, kept: Amounts, one: Reserved) -> Node:
        node = self.real[name]
        whole = plain(kept) == plain(node.capacity)
        parts = {f"{part}\0{one.name}" for part in node.partitions}
        parts |= {f"{part}\0" for part in parts if whole}
        number = POOLS + len(self.pool_of)
        self.pool_of[f"{name}\0{one.name}"] = (name, one)
        return replace(
            node, number=number, capacity=dict(kept), partitions=frozenset(parts), free=dict(kept)
        )

    def at(self, name: str, instant: int) -> Amounts:
        """What is free at an instant, but for what this pass has booked."""
        node, pool = self.pool_of.get(name, (name, None))
        out = dict(self.real[node].capacity)
        members = []
        for held in self.running:
            if held.node == node and max(held.end, self.now + 1) > instant:
                where = self.inside(held, instant)
                if where is None:
                    out = less(out, held.amounts)
                else:
                    members.append((where, held))
        if pool is None or self.is_outside(name, instant):
            for one in self.reserved:
                if one.on(instant) and node in one.kept:
                    out = less(out, one.kept[node])
            return out
        if not self.is_within(name, instant):
            return dict.fromkeys(out, 0)
        for one in self.reserved[: self.reserved.index(pool)]:
            if one.on(instant) and node in one.kept and not share(one, pool):
                out = less(out, one.kept[node])
        out = both(pool.kept[node], out)
        for where, held in members:
            if where is pool or share(where, pool):
                out = less(out, held.amounts)
        return out

    def is_within(self, name: str, instant: int) -> bool:
        """Whether a reservation gives of what it keeps for members to be planned in."""
        _, pool = self.pool_of.get(name, (name, None))
        some = pool.instances[: 1 if pool.overrun else None] if pool is not None else []
        return any(start <= instant < end for start, end in some)

    def is_outside(self, name: str, instant: int) -> bool:
        """Whether a row is the node itself: always, or after the end, where members may run on."""
        _, pool = self.pool_of.get(name, (name, None))
        return pool is None or (pool.overrun and instant >= pool.instances[0][1])

    def is_same(self, name: str, other: str, instant: int) -> bool:
        """Whether what is booked on one row is of the other row too, at an instant."""
        node, one = self.pool_of.get(name, (name, None))
        twin, two = self.pool_of.get(other, (other, None))
        if name == other or node != twin:
            return name == other
        if self.is_outside(name, instant) and self.is_outside(other, instant):
            return True
        within = self.is_within(name, instant) and self.is_within(other, instant)
        return within and one is not None and two is not None and share(one, two)

    def inside(self, held: Held, instant: int) -> Reserved | None:
        """The reservation of which a running job holds its amounts on a node at an instant."""
        one = self._kept(held.reservation) if isinstance(held, Member) else None
        if one is None or held.node not in one.kept:
            return None
        return one if one.on(instant) else None

    def edges(self, name: str) -> set[int]:
        """Instants at which what is free there changes."""
        node, _ = self.pool_of.get(name, (name, None))
        out = {t for _, begin, end, _ in self.booked for t in (begin, end)}
        out |= {max(h.end, self.now + 1) for h in self.running if h.node == node}
        for one in self.reserved:
            out |= {t for instance in one.instances for t in instance}
        return out

    def offers(self, name: str, start: int, end: int) -> list[Amounts]:
        """What a node leaves at every instant of a span at which that changes, and at its start."""
        out = []
        for instant in sorted({start} | {t for t in self.edges(name) if start < t < end}):
            free = self.at(name, instant)
            for node, begin, stop, amounts in self.booked:
                if begin <= instant < stop and self.is_same(node, name, instant):
                    free = less(free, amounts)
            out.append(free)
        return out

    def earliest(self, job: Job, latest: int | None = None) -> tuple[Promise, bool] | None:
        """Earliest hole of a job; where members may run on, before the end of the first instance."""
        one = self._kept(self.wishes.get(job.job_id, ""))
        if one is not None and one.overrun:
            end = one.instances[0][1]
            latest = end - 1 if latest is None else min(latest, end - 1)
        return super().earliest(job, latest)

    def instants(self) -> list[int]:
        """Instants at which something may start: now, and where something changes, rounded up."""
        step = self.bounds.resolution
        some = {-(-t // step) * step for name in self.nodes for t in self.edges(name)}
        return [self.now, *sorted(t for t in some if self.now < t <= self.now + self.bounds.window)]

    def within(self, job: Job) -> Job:
        """A member's record as it is planned: within its reservation."""
        if job.job_id not in self.wishes:
            return job
        name, request = self.wishes[job.job_id], job.request
        tail = "\0" if request.exclusive else ""
        return replace(
            job,
            request=replace(
                request,
                partitions=tuple(f"{part}\0{name}{tail}" for part in request.partitions),
                required=tuple(f"{node}\0{name}" for node in request.required),
                excluded=tuple(f"{node}\0{name}" for node in request.excluded),
            ),
        )

    def keep(self, job: Job, promise: Promise, cause: MoveCause) -> None:
        """Book a promise of the last pass if it can be kept; never on nodes no longer reserved."""
        if all(name in self.nodes for name, _, _ in promise.rows):
            super().keep(job, promise, cause)
        else:
            self.promises.pop(job.job_id, None)
            self.cause[job.job_id] = MoveCause.NODE

    def run_guarded(self, jobs: list[Job], leads: str = "") -> Guarded:
        """The whole pass: conservative, or `leads` is `easy` or `fifo`."""
        mine = []
        for job in jobs:
            name = self.wishes.get(job.job_id, "")
            barred = job.job_id in self.wishes and not self._kept(name)
            gate = job.gate or (VerdictCode.RESERVATION if barred else 0)
            mine.append(replace(job if barred else self.within(job), gate=gate))
        if leads:
            self._lead_all(mine, leads == "fifo")
        else:
            self.run(mine)
        for job in mine:
            one = self._kept(self.wishes.get(job.job_id, ""))
            waits = self.code[job.job_id] in {VerdictCode.RESOURCES, VerdictCode.PRIORITY}
            if one is not None and waits:
                spans = [end - max(start, self.now) for start, end in one.instances]
                if not one.on(self.now) or (max(spans) < job.duration and not one.overrun):
                    self.code[job.job_id] = VerdictCode.RESERVATION
        return self

    def _lead_all(self, jobs: list[Job], fifo: bool) -> None:
        blocked: set[str] = set()
        queue = sorted(jobs, key=lambda j: (-j.priority, j.submit, j.job_id))
        waiting = []
        for seen, job in enumerate(j for j in queue if not self._gated(j)):
            if seen >= self.bounds.depth:
                self.code[job.job_id] = VerdictCode.NOT_REACHED
                continue
            demand = self.judge.demand(job.request)
            self.code[job.job_id] = VerdictCode.STARTED
            for _ in range(job.count):
                if exceeded(self.limits, job.limit, demand):
                    self.code[job.job_id] = VerdictCode.LIMIT
                    break
                if not self._start(job, blocked):
                    self._fail(job, fifo, blocked)
                    waiting.append(job)
                    break
                charge(self.limits, job.limit, demand)
        for job in waiting:
            waits = self.code[job.job_id] in {VerdictCode.RESOURCES, VerdictCode.PRIORITY}
            if waits and job.job_id not in self.planned:
                found = self.earliest(job)
                self.planned[job.job_id] = found[0].start if found else -1

    def _gated(self, job: Job) -> bool:
        code = job.gate
        if not code and job.begin > self.now:
            code = VerdictCode.BEGIN_TIME
        elif not code and not job.count:
            code = VerdictCode.ARRAY_LIMIT
        if code:
            self.code[job.job_id] = VerdictCode(code)
        return bool(code)

    def _start(self, job: Job, blocked: set[str]) -> bool:
        """Start a task now, if it fits until its end beside all that is promised."""
        end = self.now + job.duration
        before = {name: self.nodes[name].usable for name in blocked}
        for name in blocked:
            self.nodes[name].usable = False
        gangs = [(p[0], self.gang(job.request, p, self.now, end)) for p in places(job.request)]
        for name, usable in before.items():
            self.nodes[name].usable = usable
        for partition, gang in gangs:
            if gang is not None:
                rows = [self.row(job.request, name, t, self.now, end) for name, t in gang]
                self.book(job, Promise(self.now, partition, rows, job.duration))
                self.starts.append(Start(job.job_id, partition, rows, job.duration))
                return True
        return False

    def _fail(self, job: Job, fifo: bool, blocked: set[str]) -> None:
        """The first of a partition that waits is promised its start, or blocks it."""
        request = job.request
        if not self.judge.possible(request, True):
            ever = self.judge.possible(request, False)
            self.code[job.job_id] = VerdictCode.NODE_NOT_AVAIL if ever else VerdictCode.NEVER
            return
        when = {}
        for partition in request.partitions:
            if partition not in self.leading:
                alone = replace(job, request=replace(request, partitions=(partition,)))
                found = self.earliest(alone)
                if found is not None:
                    when[partition] = found[0].start
        behind = any(partition in self.leading for partition in request.partitions)
        self.code[job.job_id] = VerdictCode.RESOURCES
        if not when:
            self.code[job.job_id] = VerdictCode.PRIORITY if behind else VerdictCode.RESOURCES
            return
        best = min(when, key=lambda p: when[p])
        self.planned[job.job_id] = when[best]
        if fifo:
            self.promises[job.job_id] = Promise(when[best], best, [], job.duration)
            self.leading.update(when)
            blocked |= {n for n, node in self.nodes.items() if node.partitions & set(when)}
        else:
            self.leading[best] = when[best]
            self._promise(job, best, when[best])

    def _promise(self, job: Job, partition: str, start: int) -> None:
        """Hold nodes for the first of a partition: those that became able last."""
        request, end = job.request, start + job.duration
        own = (place for place in places(request) if place[0] == partition)
        place = next(place for place in own if self.gang(request, place, start, end))
        required = list(dict.fromkeys(request.required))
        found = []
        for name in [*required, *(n for n in self.order if n not in required)]:
            node = self.nodes.get(name)
            if node and node.usable and matches(request, name, node, place):
                count = tasks_fit(request, node.capacity, *self.offers(name, start, end))
                if count:
                    found.append((name, count))
        others = [one for one in found if one[0] not in required]
        if request.ntasks or request.nodes_high > 1 or required:
            others.reverse()
            others.sort(key=lambda one: -self._able_since(job, one[0], start))
        found = [one for one in found if one[0] in required] + others
        gang = choose(request, found, request.nodes_high if request.ntasks else request.nodes_low)
        assert gang is not None
        rows = [self.row(request, name, t, start, end) for name, t in gang]
        promise = Promise(start, partition, rows, job.duration)
        self.book(job, promise)
        self.promises[job.job_id] = promise
        held = {name for other in self.promises.values() for name, _, _ in other.rows}
        self.order.sort(key=lambda n: (self.nodes[n].weight, n not in held))

    def _able_since(self, job: Job, name: str, when: int) -> int:
        """Since when a node could host a part at every instant until `when`."""
        since = when
        instants = sorted({self.now} | {t for t in self.edges(name) if self.now < t <= when})
        for instant in reversed(instants):
            offer = self.offers(name, instant, instant + 1)[:1]
            if not tasks_fit(job.request, self.nodes[name].capacity, *offer):
                break
            since = instant
        return since
