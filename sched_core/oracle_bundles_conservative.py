"""Slow, obvious twin of conservative passes with heterogeneous jobs. Imports no kernel, no table."""

from __future__ import annotations

from dataclasses import dataclass, field

from sched_core.codes import MoveCause, VerdictCode
from sched_core.oracle import Held, Job, Node, Place, Start, matches, places, within
from sched_core.oracle_bundles import BundleJob, BundlePass, BundleStart
from sched_core.oracle_conservative import Bounds, Conservative, Last, Promise, Rows
from sched_core.oracle_limits import Limit
from sched_core.request import Request


@dataclass
class BundlePromise(Promise):
    """Rows of all components; which component each is of."""

    component: list[int] = field(default_factory=list)


class BundleConservative(Conservative):
    """A conservative pass in which some jobs have several components."""

    def __init__(
        self,
        nodes: dict[str, Node],
        held: list[Held],
        now: int,
        bounds: Bounds,
        last: Last | None,
        limits: dict[str, Limit] | None = None,
    ) -> None:
        super().__init__(nodes, held, now, bounds, last, limits)
        self.judge = BundlePass(nodes, [], now, False)
        self.judge.fail_from, self.judge.no_head = {}, set()

    def earliest(self, job: Job, latest: int | None = None) -> tuple[Promise, bool] | None:
        """Earliest hole of a job: of several components one for all of them."""
        if not isinstance(job, BundleJob):
            return super().earliest(job, latest)
        for start in self.instants():
            if latest is not None and start > latest:
                break
            found = self.all_at(job, start)
            if found is not None:
                return found, start == self.now
        return None

    def all_at(self, job: BundleJob, start: int) -> BundlePromise | None:
        """All components at an instant, each beside those before it; as if booked, then undone."""
        end = start + job.duration
        rows: Rows = []
        numbers: list[int] = []
        where = ""
        before = list(self.booked)
        for number, component in enumerate(job.components):
            part = job.without(component, [name for name, _, _ in rows])
            for place in places(part):
                gang = self.component_at(part, place, start, end)
                if gang is not None:
                    break
            if gang is None:
                self.booked = before
                return None
            where = where or place[0]
            for name, tasks in gang:
                row = self.row(part, name, tasks, start, end)
                self.booked.append((name, start, end, row[2]))
                rows.append(row)
                numbers.append(number)
        self.booked = before
        return BundlePromise(start, where, rows, job.duration, numbers)

    def component_at(
        self, part: Request, place: Place, start: int, end: int
    ) -> list[tuple[str, int]] | None:
        """A gang of one component: now by preference and wide, later by number and narrow."""
        if start == self.now:
            return self.gang(part, place, start, end)
        order = self.order
        self.order = sorted(self.nodes, key=lambda name: self.nodes[name].number)
        found = self.gang(part, place, start, end)
        self.order = order
        return found

    def keep(self, job: Job, promise: Promise, cause: MoveCause) -> None:
        """Book a promise of the last pass if it can be kept."""
        if not isinstance(job, BundleJob) or not isinstance(promise, BundlePromise):
            super().keep(job, promise, cause)
            return
        end = promise.start + job.duration
        why = MoveCause.KEPT
        for number, part in enumerate(job.components):
            mine = [
                row[0]
                for row, c in zip(promise.rows, promise.component, strict=True)
                if c == number
            ]
            if not any(
                all(
                    self.nodes[name].usable and matches(part, name, self.nodes[name], place)
                    for name in mine
                )
                for place in places(part)
            ):
                why = MoveCause.NODE
        before = list(self.booked)
        for name, _, amounts in promise.rows:
            offers = self.offers(name, promise.start, end)
            if why == MoveCause.KEPT and not all(within(amounts, offer) for offer in offers):
                why = cause
            self.booked.append((name, promise.start, end, amounts))
        if why == MoveCause.KEPT:
            self.promises[job.job_id] = promise
        else:
            self.booked = before
            self.promises.pop(job.job_id, None)
            self.cause[job.job_id] = why

    def moved(self, promise: Promise, start: int, length: int) -> Promise:
        """The same promise for another instant."""
        if isinstance(promise, BundlePromise):
            rows, numbers = promise.rows, promise.component
            return BundlePromise(start, promise.partition, rows, length, numbers)
        return super().moved(promise, start, length)

    def started(self, job: Job, promise: Promise) -> Start:
        """A promise for now as a start."""
        if isinstance(promise, BundlePromise):
            rows, numbers = promise.rows, promise.component
            return BundleStart(job.job_id, promise.partition, rows, promise.length, numbers)
        return super().started(job, promise)

    def explain(self, job: Job) -> None:
        """The verdict on a record that waits."""
        if not isinstance(job, BundleJob):
            super().explain(job)
            return
        mine = self.promises.get(job.job_id)
        if mine is not None:
            self.planned[job.job_id] = mine.start
        for code, usable in ((VerdictCode.NEVER, False), (VerdictCode.NODE_NOT_AVAIL, True)):
            if not all(self.judge.possible(part, usable) for part in job.components):
                self.code[job.job_id] = code
                return
        first = not self.waiting.issuperset(job.partitions)
        self.waiting.update(job.partitions)
        self.code[job.job_id] = VerdictCode.RESOURCES if first else VerdictCode.PRIORITY
