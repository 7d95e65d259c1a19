"""Slow, obvious twins of the kernels in plain Python, for tests. Imports no kernel and no table.

Nothing here is clever: amounts are dicts, every question is answered by trying. The textbook on one
pool of processors is in `oracle_pool`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product

from sched_core import oracle_jobs
from sched_core.codes import VerdictCode
from sched_core.names import GresAmount
from sched_core.oracle_licences import Licences
from sched_core.oracle_limits import Limit, charge, exceeded
from sched_core.request import Request

Amounts = dict[str, int]
Job = oracle_jobs.Job
NEVER = oracle_jobs.NEVER
Place = tuple[str, tuple[str, ...]]
"""A partition, and features that all nodes of a gang have there."""


@dataclass
class Node:
    """A node; `taken` is what running jobs hold, `number` breaks ties."""

    number: int
    capacity: Amounts
    partitions: frozenset[str]
    features: frozenset[str]
    usable: bool
    weight: int
    free: Amounts


@dataclass
class Held:
    """What a running job, or one just placed, holds on a node until `end`."""

    node: str
    end: int
    amounts: Amounts


@dataclass
class Start:
    """A gang placed: node name, tasks and amounts, in order."""

    job_id: int
    partition: str
    rows: list[tuple[str, int, Amounts]]
    limit: int = 0


@dataclass
class Outcome:
    """What a pass decided."""

    starts: list[Start] = field(default_factory=list)
    heads: list[tuple[int, str, int, list[str]]] = field(default_factory=list)
    code: dict[int, int] = field(default_factory=dict)
    planned: dict[int, int] = field(default_factory=dict)
    matching: dict[int, tuple[int, int]] = field(default_factory=dict)
    over: dict[int, set[str]] = field(default_factory=dict)


def vector(cpu: int, memory: int, gres: Iterable[GresAmount]) -> Amounts:
    """Amounts by dimension name; a typed resource counts in its total too."""
    out = {"cpu": cpu, "memory": memory}
    for name, kind, count in gres:
        for key in (f"gres/{name}", f"gres/{name}:{kind}")[: 2 if kind else 1]:
            out[key] = out.get(key, 0) + count
    return out


def need(request: Request, tasks: int) -> Amounts:
    """What `tasks` tasks (without `ntasks`: one gang member) take on a node."""
    if not request.ntasks:
        tasks *= request.tasks_each
    out = vector(request.cpu_per_node, request.memory_per_node, request.gres_per_node)
    per_task = vector(request.cpu_per_task, request.memory_per_task, request.gres_per_task)
    for key, amount in per_task.items():
        out[key] = out.get(key, 0) + tasks * amount
    return {key: amount for key, amount in out.items() if amount}


def divisions(wanted: Amounts, offer: Amounts) -> Iterator[Amounts]:
    """Every way to settle the untyped part of `wanted` on the types that `offer` names."""
    totals = [key for key in wanted if key.startswith("gres/") and ":" not in key]
    ways: list[list[Amounts]] = []
    for total in totals:
        types = sorted(key for key in {**offer, **wanted} if key.startswith(f"{total}:"))
        missing = wanted[total] - sum(wanted.get(key, 0) for key in types)
        some = [
            dict(zip(types, extra, strict=True))
            for extra in product(range(missing + 1), repeat=len(types))
            if sum(extra) <= missing
        ]
        ways.append(some)
    for choice in product(*ways):
        out = dict(wanted)
        for extra in choice:
            for key, amount in extra.items():
                out[key] = out.get(key, 0) + amount
        yield out


def within(amounts: Amounts, offer: Amounts) -> bool:
    """Whether settled amounts fit, devices without a type included."""
    if any(amount > max(offer.get(key, 0), 0) for key, amount in amounts.items() if amount):
        return False
    for total in (key for key in amounts if key.startswith("gres/") and ":" not in key):
        rest = [
            side.get(total, 0) - sum(v for k, v in side.items() if k.startswith(f"{total}:"))
            for side in (amounts, offer)
        ]
        if rest[0] > rest[1]:
            return False
    return True


def tasks_fit(request: Request, capacity: Amounts, *offers: Amounts) -> int:
    """Most tasks (without `ntasks`: 0 or 1) that fit into every one of the offers at once."""
    if request.exclusive and any(plain(offer) != plain(capacity) for offer in offers):
        return 0
    cap = (request.ntasks_per_node or request.ntasks) if request.ntasks else 1
    count = 0
    while count < cap:
        ways = divisions(need(request, count + 1), capacity)
        if not any(all(within(way, offer) for offer in offers) for way in ways):
            break
        count += 1
    return count


def plain(amounts: Amounts) -> Amounts:
    """Amounts without the zeros."""
    return {key: amount for key, amount in amounts.items() if amount}


def settle(wanted: Amounts, offers: list[Amounts], capacity: Amounts) -> Amounts:
    """Decide types: plain devices first, then the scarcest type that suffices, else the widest."""
    out = dict(wanted)
    for total in [key for key in wanted if key.startswith("gres/") and ":" not in key]:
        types = [key for key in capacity if key.startswith(f"{total}:")]
        missing = wanted[total] - sum(wanted.get(key, 0) for key in types)
        untyped = min(offer.get(total, 0) - sum(offer.get(k, 0) for k in types) for offer in offers)
        missing -= min(missing, max(untyped, 0))
        while missing > 0:
            left = {k: min(o.get(k, 0) for o in offers) - out.get(k, 0) for k in types}
            able = [k for k in types if left[k] >= missing]
            if able:
                key = min(able, key=lambda k: (left[k], types.index(k)))
            else:
                key = max(types, key=lambda k: (left[k], -types.index(k)))
            take = min(missing, left[key])
            assert take > 0
            out[key] = out.get(key, 0) + take
            missing -= take
    return out


def places(request: Request) -> list[Place]:
    """Where a gang may be, in order of preference: it is in one of them as a whole."""
    return list(product(request.partitions, request.alternatives or ((),)))


def matches(request: Request, name: str, node: Node, place: Place) -> bool:
    """Whether a node is in a place, has the features and is not excluded."""
    clauses = request.features
    return (
        place[0] in node.partitions
        and node.features.issuperset(place[1])
        and (not clauses or any(node.features.issuperset(clause) for clause in clauses))
        and name not in request.excluded
    )


def choose(
    request: Request, candidates: list[tuple[str, int]], most: int
) -> list[tuple[str, int]] | None:
    """A gang from candidates (name, tasks) in order of preference, required ones first."""
    names = [name for name, _ in candidates]
    keep = len(dict.fromkeys(request.required))
    if any(name not in names for name in request.required):
        return None
    low = request.nodes_low
    if low > most or keep > most or len(candidates) < low:
        return None
    if not request.ntasks:
        return candidates[:most]
    taken: list[tuple[str, int]] = []
    for candidate in candidates[:most]:
        if len(taken) >= low and sum(t for _, t in taken) >= request.ntasks:
            break
        taken.append(candidate)
    if sum(t for _, t in taken) < request.ntasks:
        others = sorted(range(keep, len(candidates)), key=lambda i: -candidates[i][1])
        kept = sorted([*range(keep), *others[: most - keep]])
        taken = [candidates[i] for i in kept]
        if sum(t for _, t in taken) < request.ntasks:
            return None
    tasks = [1] * len(taken)
    for i, (_, fit) in enumerate(taken):
        tasks[i] += min(fit - 1, request.ntasks - sum(tasks))
    return [(name, count) for (name, _), count in zip(taken, tasks, strict=True)]


class Pass:
    """The twin of one pass, step by step."""

    def __init__(
        self,
        nodes: dict[str, Node],
        held: list[Held],
        now: int,
        fifo: bool,
        limits: dict[str, Limit] | None = None,
        licences: Licences | None = None,
    ) -> None:
        self.limits = limits or {}
        self.licences = licences or Licences()
        self.nodes = nodes
        self.held = sorted(held, key=lambda h: (h.end, nodes[h.node].number))
        self.placed: list[Held] = []
        self.now = now
        self.fifo = fifo
        self.out = Outcome()
        self.promised: dict[str, tuple[int, Amounts]] = {}
        self.state: dict[str, int] = {}
        self.blocked: set[str] = set()
        self.order = sorted(nodes, key=self._preference)

    def _preference(self, name: str) -> tuple[int, int, int]:
        node = self.nodes[name]
        share = node.free["cpu"] * 4096 // max(node.capacity["cpu"], 1)
        return node.weight, share, node.number

    def offers(self, name: str, end: int, heed: bool) -> list[Amounts]:
        """What a job running until `end` may take on a node: now, and beside a promise."""
        out = [self.nodes[name].free]
        if heed and name in self.promised and end > self.promised[name][0]:
            out.append(self.promised[name][1])
        return out

    def candidates(
        self, request: Request, place: Place, end: int, heed: bool
    ) -> list[tuple[str, int]]:
        """Nodes that can host a part now, in order of preference, required ones first."""
        required = list(dict.fromkeys(request.required))
        found = []
        for name in [*required, *(n for n in self.order if n not in required)]:
            node = self.nodes.get(name)
            if node is None or not node.usable or (heed and name in self.blocked):
                continue
            if matches(request, name, node, place):
                count = tasks_fit(request, node.capacity, *self.offers(name, end, heed))
                if count:
                    found.append((name, count))
        return found

    def choose(
        self, request: Request, found: list[tuple[str, int]], most: int
    ) -> list[tuple[str, int]] | None:
        """A gang from candidates: by preference alone."""
        return choose(request, found, most)

    def start(self, job: Job) -> bool:
        """Place one task of a record with the longest limit for which it fits."""
        return any(self.start_for(job, length) for length in job.lengths(self.now))

    def start_for(self, job: Job, length: int) -> bool:
        """Place one task of a record in the first place where it fits for so long."""
        request, end = job.request, self.now + length
        if self.licences.lacks(request.licences, self.now, end):
            return False
        for place in places(request):
            if self.fifo and self.state.get(place[0]):
                continue
            found = self.candidates(request, place, end, True)
            gang = self.choose(request, found, request.nodes_high)
            if gang is None:
                continue
            rows = []
            for name, tasks in gang:
                node, offers = self.nodes[name], self.offers(name, end, True)
                amounts = self.amounts(request, name, tasks, offers)
                for offer in offers:
                    for key, amount in amounts.items():
                        offer[key] = offer.get(key, 0) - amount
                self.placed.append(Held(name, max(end, self.now + 1), amounts))
                rows.append((name, tasks if request.ntasks else request.tasks_each, amounts))
                assert all(amount >= 0 for key, amount in node.free.items() if amounts.get(key))
            self.out.starts.append(Start(job.job_id, place[0], rows, length))
            self.licences.book(request.licences, self.now, end)
            return True
        return False

    def amounts(self, request: Request, name: str, tasks: int, offers: list[Amounts]) -> Amounts:
        """What a gang member takes on a node."""
        capacity = self.nodes[name].capacity
        if request.exclusive:
            return plain(capacity)
        return plain(settle(need(request, tasks), offers, capacity))

    def earliest(
        self, request: Request, place: Place, skip_promised: bool, duration: int = 1
    ) -> tuple[int, list[str], dict[str, Amounts]]:
        """First instant at which a gang fits if nothing else starts; nodes as they become able.

        Its licences have to be free for all its duration.
        """
        free = {name: dict(node.free) for name, node in self.nodes.items()}
        able = [
            name
            for name in self.order
            if self.nodes[name].usable
            and matches(request, name, self.nodes[name], place)
            and not (skip_promised and name in self.promised)
        ]
        ready: list[str] = []

        def look(names: Iterable[str]) -> None:
            for name in names:
                fits = name in able and tasks_fit(request, self.nodes[name].capacity, free[name])
                if fits and name not in ready:
                    ready.append(name)

        look(self.order)
        soon = self.now + 1
        events = [(max(h.end, soon), h) for h in self.held] + [(h.end, h) for h in self.placed]
        changes = {when for when, _ in events} | self.licences.instants()
        instants = [self.now, *sorted(t for t in changes if t > self.now)]
        for instant in instants:
            for when, held in events:
                if when == instant:
                    for key, amount in held.amounts.items():
                        free[held.node][key] = free[held.node].get(key, 0) + amount
                    look([held.node])
            lacks = self.licences.lacks(request.licences, instant, instant + duration)
            if not lacks and self.gang_at(request, ready, free, request.nodes_high) is not None:
                return instant, ready, free
        return NEVER, ready, free

    def gang_at(
        self, request: Request, ready: list[str], free: dict[str, Amounts], most: int
    ) -> list[tuple[str, int]] | None:
        """A gang on the nodes that became able, the last ones first."""
        required = list(dict.fromkeys(request.required))
        names = [name for name in required if name in ready]
        names += [name for name in reversed(ready) if name not in required]
        fits = [(n, tasks_fit(request, self.nodes[n].capacity, free[n])) for n in names]
        return self.choose(request, fits, most)

    def soonest(
        self, request: Request, skip_promised: bool, where: Iterable[Place], duration: int = 1
    ) -> tuple[int, Place]:
        """Earliest start over some places, and the first place that has it."""
        best: tuple[int, Place] = (NEVER, ("", ()))
        for place in where:
            when = self.earliest(request, place, skip_promised, duration)[0]
            if when < best[0]:
                best = (when, place)
        return best

    def possible(self, request: Request, usable_only: bool) -> bool:
        """Whether the empty cluster could host a gang."""
        for place in places(request):
            names = [
                name
                for name, node in self.nodes.items()
                if (node.usable or not usable_only) and matches(request, name, node, place)
            ]
            required = list(dict.fromkeys(request.required))
            names = [n for n in required if n in names] + [n for n in names if n not in required]
            fits = [
                (n, tasks_fit(request, self.nodes[n].capacity, self.nodes[n].capacity))
                for n in names
            ]
            able = [(n, t) for n, t in fits if t]
            if choose(request, able, request.nodes_high) is not None:
                return True
        return False

    def promise(self, job: Job, when: int, place: Place) -> None:
        """EASY: hold nodes for the head at its shadow time."""
        request = job.request
        _, ready, free = self.earliest(request, place, True, job.duration)
        self.licences.book(request.licences, when, when + job.duration)
        most = request.nodes_high if request.ntasks else request.nodes_low
        gang = self.gang_at(request, ready, free, most)
        assert gang is not None
        for name, tasks in gang:
            amounts = self.amounts(request, name, tasks, [free[name]])
            rest = {k: v - amounts.get(k, 0) for k, v in free[name].items()}
            self.promised[name] = (when, rest)
        self.state[place[0]] = 1
        self.out.heads.append((job.job_id, place[0], when, [name for name, _ in gang]))
        self.order.sort(key=lambda n: (self.nodes[n].weight, n not in self.promised))

    def fail(self, job: Job) -> None:
        """A task did not start: write the verdict, make it a head if its turn has come."""
        request, out = job.request, self.out
        fits = any(
            self.choose(request, self.candidates(request, p, 0, False), request.nodes_high)
            for p in places(request)
        )
        if not self.possible(request, True):
            ever = self.possible(request, False)
            out.code[job.job_id] = VerdictCode.NODE_NOT_AVAIL if ever else VerdictCode.NEVER
            return
        vacant = [
            p
            for p in places(request)
            if not self.state.get(p[0]) and self.earliest(request, p, False)[0] < NEVER
        ]
        last = job.deadline - job.least
        if self.fifo:
            vacant = [
                p for p in vacant if self.earliest(request, p, False, job.duration)[0] <= last
            ]
        elif last < self.soonest(request, True, vacant, job.duration)[0] < NEVER:
            vacant = []
        first = bool(vacant) or not any(self.state.get(p) for p in request.partitions)
        when, place = self.soonest(request, not self.fifo, vacant, job.duration)
        if vacant and self.fifo:
            for name, _ in vacant:
                self.state[name] = 2
                self.blocked |= {n for n, node in self.nodes.items() if name in node.partitions}
            out.heads.append((job.job_id, place[0], when, []))
        elif vacant and when < NEVER:
            self.promise(job, when, place)
        else:
            self.state.update(dict.fromkeys((name for name, _ in vacant), 2))
        if when < NEVER:
            out.planned[job.job_id] = when
        leads = when < NEVER or (first and not fits)
        out.code[job.job_id] = VerdictCode.RESOURCES if leads else VerdictCode.PRIORITY
        lacking = self.licences.short(request.licences, self.now)
        if lacking:
            out.code[job.job_id] = VerdictCode.LICENSES
            out.over[job.job_id] = set(lacking)

    def demand(self, request: Request) -> Amounts:
        """What a start counts against limits: the request, at the fewest nodes."""
        low = request.nodes_low
        total = {
            key: low * amount for key, amount in need(request, 0 if request.ntasks else 1).items()
        }
        if request.ntasks:
            per_node = need(request, 0)
            for key, amount in need(request, request.ntasks).items():
                total[key] = total.get(key, 0) + amount - per_node.get(key, 0)
        return {"jobs": 1, **total}

    def demand_of(self, job: Job) -> Amounts:
        """What one task of a record counts against limits."""
        return self.demand(job.request)

    def over(self, job: Job) -> bool:
        """Whether a limit keeps the job from starting: then its verdict says which."""
        found = exceeded(self.limits, job.limit, self.demand_of(job))
        if found:
            self.out.code[job.job_id] = VerdictCode.LIMIT
            self.out.over[job.job_id] = found
        return bool(found)

    def run(self, jobs: list[Job]) -> Outcome:
        """The whole pass."""
        for job in sorted(jobs, key=lambda j: (-j.priority, j.submit, j.job_id)):
            gate = job.gated(self.now)
            if gate:
                self.out.code[job.job_id] = gate
            else:
                self.out.code[job.job_id] = VerdictCode.STARTED
                for _ in range(job.count):
                    if self.over(job):
                        break
                    if not self.start(job):
                        self.fail(job)
                        break
                    charge(self.limits, job.limit, self.demand_of(job))
            self.out.matching[job.job_id] = self.counts(job.request)
        return self.out

    def counts(self, request: Request) -> tuple[int, int]:
        """Nodes that could host a part when empty: all of them, and the usable ones."""
        names = [
            name
            for name, node in self.nodes.items()
            if any(matches(request, name, node, p) for p in places(request))
            and tasks_fit(request, node.capacity, node.capacity)
        ]
        return len(names), sum(self.nodes[name].usable for name in names)
