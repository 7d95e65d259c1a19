"""Slow, obvious twin of passes with heterogeneous jobs, for tests. Imports no kernel and no table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sched_core.codes import VerdictCode
from sched_core.oracle import (
    NEVER,
    Amounts,
    Held,
    Job,
    Outcome,
    Pass,
    Place,
    Start,
    choose,
    matches,
    places,
    tasks_fit,
)
from sched_core.request import Request


@dataclass
class BundleJob(Job):
    """A pending record of several components; `request` is the first of them."""

    components: tuple[Request, ...] = ()
    apart: bool = False

    def without(self, part: Request, names: list[str]) -> Request:
        """A component, without nodes of the others if they share none."""
        return replace(part, excluded=(*part.excluded, *names)) if self.apart else part

    @property
    def partitions(self) -> list[str]:
        """All partitions it may be in."""
        return list(dict.fromkeys(p for part in self.components for p in part.partitions))


@dataclass
class BundleStart(Start):
    """Rows of all components; which component each is of."""

    component: list[int] = field(default_factory=list)


class BundlePass(Pass):
    """A pass in which some jobs have several components.

    What failed once is not tried again for the same components and as long a duration, although a
    placement one after the other might succeed with less.
    """

    fail_from: dict[tuple[Request, ...], int]
    no_head: set[tuple[Request, ...]]

    def run(self, jobs: list[Job]) -> Outcome:
        """The whole pass."""
        self.fail_from, self.no_head = {}, set()
        return super().run(jobs)

    def demand_of(self, job: Job) -> Amounts:
        """What a start counts against limits: all components, one job."""
        if not isinstance(job, BundleJob):
            return super().demand_of(job)
        out: Amounts = {}
        for part in job.components:
            for key, amount in self.demand(part).items():
                out[key] = out.get(key, 0) + amount
        return {**out, "jobs": 1}

    def place(self, job: BundleJob, heed: bool) -> list[tuple[int, Place, Held, int]] | None:
        """Component, place, amounts and tasks of every row if all fit now; takes them."""
        end = self.now + job.duration if heed else 0
        rows: list[tuple[int, Place, Held, int]] = []
        for number, component in enumerate(job.components):
            part = job.without(component, [held.node for _, _, held, _ in rows])
            gang = None
            for place in places(part):
                if heed and self.fifo and self.state.get(place[0]):
                    continue
                found = self.candidates(part, place, end, heed)
                gang = choose(part, found, part.nodes_high)
                if gang is not None:
                    break
            if gang is None:
                self.undo(rows, end, heed)
                return None
            for name, tasks in gang:
                offers = self.offers(name, end, heed)
                amounts = self.amounts(part, name, tasks, offers)
                for offer in offers:
                    for key, amount in amounts.items():
                        offer[key] = offer.get(key, 0) - amount
                held = Held(name, max(end, self.now + 1), amounts)
                rows.append((number, place, held, tasks if part.ntasks else part.tasks_each))
        return rows

    def undo(self, rows: list[tuple[int, Place, Held, int]], end: int, heed: bool) -> None:
        """Give back what `place` took."""
        for _, _, held, _ in rows:
            for offer in self.offers(held.node, end, heed):
                for key, amount in held.amounts.items():
                    offer[key] += amount

    def start(self, job: Job) -> bool:
        """Place one task of a record: all its components."""
        if not isinstance(job, BundleJob):
            return super().start(job)
        if job.duration >= self.fail_from.get(job.components, NEVER):
            return False
        rows = self.place(job, True)
        if rows is None:
            return False
        self.placed += [held for _, _, held, _ in rows]
        told = [(held.node, tasks, held.amounts) for _, _, held, tasks in rows]
        numbers = [number for number, _, _, _ in rows]
        self.out.starts.append(BundleStart(job.job_id, rows[0][1][0], told, job.duration, numbers))
        return True

    def together(
        self, job: BundleJob, skip_promised: bool, vacant: bool
    ) -> tuple[int, list[tuple[Place, str]], dict[str, Amounts]]:
        """Earliest instant at which all fit, the nodes then, and what is left on them."""
        latest = self.now
        for part in job.components:
            where = [p for p in places(part) if not (vacant and self.state.get(p[0]))]
            latest = max(latest, self.soonest(part, skip_promised, where)[0])
        instants = self.instants()
        if latest == NEVER or self.at(job, instants[-1], skip_promised, vacant) is None:
            return NEVER, [], {}
        for instant in instants:
            if instant >= latest:
                found = self.at(job, instant, skip_promised, vacant)
                if found is not None:
                    return instant, *found
        raise AssertionError

    def instants(self) -> list[int]:
        """Now, and every instant at which something is released."""
        ends = [max(h.end, self.now + 1) for h in self.held] + [h.end for h in self.placed]
        return [self.now, *sorted(set(ends))]

    def at(
        self, job: BundleJob, when: int, skip_promised: bool, vacant: bool
    ) -> tuple[list[tuple[Place, str]], dict[str, Amounts]] | None:
        """Nodes of all components, and what they leave, if all fit at an instant."""
        free = {name: dict(node.free) for name, node in self.nodes.items()}
        for held in [*self.held, *self.placed]:
            end = held.end if held in self.placed else max(held.end, self.now + 1)
            if end <= when:
                for key, amount in held.amounts.items():
                    free[held.node][key] = free[held.node].get(key, 0) + amount
        chosen: list[tuple[Place, str]] = []
        for component in job.components:
            part = job.without(component, [name for _, name in chosen])
            gang = None
            for place in places(part):
                if vacant and self.state.get(place[0]):
                    continue
                gang = self.gang_then(part, place, free, skip_promised)
                if gang is not None:
                    break
            if gang is None:
                return None
            for name, tasks in gang:
                amounts = self.amounts(part, name, tasks, [free[name]])
                free[name] = {k: v - amounts.get(k, 0) for k, v in free[name].items()}
                chosen.append((place, name))
        return chosen, free

    def gang_then(
        self, part: Request, place: Place, free: dict[str, Amounts], skip_promised: bool
    ) -> list[tuple[str, int]] | None:
        """A gang of one component: required nodes first, then by number of the node."""
        by_number = sorted(self.nodes, key=lambda name: self.nodes[name].number)
        required = list(dict.fromkeys(part.required))
        found = []
        for name in [*required, *(n for n in by_number if n not in required)]:
            node = self.nodes.get(name)
            if node is None or not node.usable or (skip_promised and name in self.promised):
                continue
            if matches(part, name, node, place):
                count = tasks_fit(part, node.capacity, free[name])
                if count:
                    found.append((name, count))
        if part.nodes_low > part.nodes_high:
            return None
        return choose(part, found, part.nodes_high if part.ntasks else part.nodes_low)

    def turn(self, job: BundleJob) -> int:
        """Become a head if every component has a partition without one; the start."""
        when, chosen, free = self.together(job, not self.fifo, True)
        waits = [p for p in job.partitions if not self.state.get(p)]
        if when == NEVER:
            if not self.fifo and self.together(job, False, True)[0] < NEVER:
                self.state.update(dict.fromkeys(waits, 2))
            return NEVER
        names = [] if self.fifo else list(dict.fromkeys(name for _, name in chosen))
        if self.fifo:
            self.state.update(dict.fromkeys(waits, 2))
            for part in waits:
                self.blocked |= {n for n, node in self.nodes.items() if part in node.partitions}
        else:
            self.state.update({place[0]: 1 for place, _ in chosen})
            self.promised.update({name: (when, free[name]) for name in names})
            self.order.sort(key=lambda n: (self.nodes[n].weight, n not in self.promised))
        self.out.heads.append((job.job_id, chosen[0][0][0], when, names))
        return when

    def fail(self, job: Job) -> None:
        """A task did not start: write the verdict, make it a head if its turn has come."""
        if not isinstance(job, BundleJob):
            super().fail(job)
            return
        key = job.components
        codes = [VerdictCode.NODE_NOT_AVAIL, VerdictCode.NEVER]
        for code, usable in zip(reversed(codes), (False, True), strict=True):
            if not all(self.possible(part, usable) for part in key):
                self.out.code[job.job_id] = code
                return
        if self.fail_from.get(key, NEVER) > job.duration:
            self.remember(job)
        before = [p for p in job.partitions if self.state.get(p)]
        when = NEVER
        if key not in self.no_head and len(before) < len(job.partitions):
            when = self.turn(job)
            if when == NEVER:
                self.no_head.add(key)
        if when < NEVER:
            self.out.planned[job.job_id] = when
        first = not before or any(self.state.get(p) for p in job.partitions if p not in before)
        leads = when < NEVER or (first and not self.fail_from[key])
        self.out.code[job.job_id] = VerdictCode.RESOURCES if leads else VerdictCode.PRIORITY

    def remember(self, job: BundleJob) -> None:
        """Note for which durations the same components fail from now on."""
        rows = self.place(job, False)
        if rows is None:
            self.fail_from[job.components] = 0
            return
        self.undo(rows, 0, False)
        end = self.now + job.duration
        promises = [when for _, _, when, _ in self.out.heads if when < end]
        last = max([self.now, *promises])
        known = self.fail_from.get(job.components, NEVER)
        self.fail_from[job.components] = min(known, last - self.now + 1)
