"""When waiting jobs are expected to start: estimates for all of them, and how wrong earlier ones were.

After a pass every record gets an estimate: the start it is promised, or what the pass and the flow
of the queue (`sched_core.forecast`) make of it. The first estimate for a job is remembered until it
starts; what came of it tells how far to trust the next ones. A few numpy calls, whatever waits.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from sched_core.codes import VerdictCode
from sched_core.columns import Ints
from sched_core.forecast import FEW, ErrorTable, fluid_starts
from sched_core.plan import Plan
from sched_core.tables import Tables

NS = 1_000_000_000
REST = 9.0
"""So many times what an estimate took, no other is made: a tenth of the planner's time at most."""
RECENT = 1_024
"""Errors whose median and 90th percentile are told."""

# Rows of what is remembered, by row of the JobTable.
JOB, MADE, START, PROMISED = range(4)


class Estimate(NamedTuple):
    """When a job is expected to start; instants in ns."""

    start: int
    earliest: int
    latest: int
    """Between which, by earlier errors, eight starts in ten fall."""
    promised: bool


class Estimates:
    """Estimates made after one pass, found by job id in O(log n); immutable."""

    def __init__(self, jobs: Ints, starts: Ints, low: Ints, high: Ints, promised: Ints) -> None:
        """Columns by job; instants in seconds, `promised` 0 or 1."""
        order = np.argsort(jobs)
        self._jobs = jobs[order]
        self._columns = np.stack([starts, low, high, promised])[:, order]

    def find(self, job_id: int) -> Estimate | None:
        """The estimate for a job; None: there is none."""
        at = int(np.searchsorted(self._jobs, job_id))
        if at == len(self._jobs) or self._jobs[at] != job_id:
            return None
        start, low, high, promised = self._columns[:, at].tolist()
        return Estimate(start * NS, low * NS, high * NS, bool(promised))


_NONE: Ints = np.zeros(0, np.int64)


class Forecasts:
    """Estimates after each pass, and their errors. For the planner's thread, but for `estimates`
    and `figures`, which others may read.
    """

    def __init__(self) -> None:
        self.estimates = Estimates(_NONE, _NONE, _NONE, _NONE, _NONE)
        self.figures: dict[str, float] = {}
        self._errors = (ErrorTable(), ErrorTable())
        """Of estimates, and of promises: these err to one side."""
        self._known: Ints = np.full((4, 0), -1, np.int64)
        self._starting = self._known
        """Columns of those that the last plan starts."""
        self._recent = np.zeros(RECENT)
        self._count = 0
        self._rested = 0.0
        self.due = 0.0
        """Instant (monotonic s) after which a pass would bring estimates that are lacking; 0: none
        are."""

    def passed(self, made: Plan, tables: Tables, now: int) -> None:
        """A pass was made at `now` (s): estimate what waits, unless that was done just now."""
        order = tables.jobs.order()
        self._note_starts(made, order)
        begun = time.monotonic()
        if begun < self._rested:
            self.due = self._rested
            return
        starts, promised = _starts(made, tables, now)
        some = np.flatnonzero(starts >= 0)
        self._remember(order[some], made.job[some], starts[some], promised[some], now)
        learnt = [int(table.counts.sum()) >= FEW for table in self._errors]
        # A guess that no pass made, and whose error nobody knows, is worth nothing.
        some = some[(promised[some] > 0) | (made.planned[some] >= 0) | learnt[0]]
        starts, promised = starts[some], promised[some]
        low, high = self._spans(starts, promised, now, promise_learnt=learnt[1])
        # A promise is kept as a rule; a mere estimate is what earlier errors make of it.
        starts = np.where(promised, starts, np.clip(starts, low, high))
        self.estimates = Estimates(made.job[some], starts, low, high, promised)
        self.due = 0.0
        took = time.monotonic() - begun
        self._rested = begun + took + REST * took
        self.figures["planner_forecast_last_s"] = took

    def _spans(
        self, starts: Ints, promised: Ints, now: int, *, promise_learnt: bool
    ) -> tuple[Ints, Ints]:
        """Instants (s) between which most starts fall, by earlier errors; a promise is in between."""
        waits = np.maximum(starts - now, 0)
        low, high = np.where(
            promised, self._errors[1].interval(waits), self._errors[0].interval(waits)
        )
        low, high = low + now, high + now
        latest = np.maximum(high, starts) if promise_learnt else starts
        return np.where(promised, np.minimum(low, starts), low), np.where(promised, latest, high)

    def started(self, now: int) -> None:
        """The starts of the last plan, made at `now` (s), were taken."""
        known = self._starting
        if not known.shape[1]:
            return
        foretold = np.maximum(known[START] - known[MADE], 0)
        actual = np.maximum(now - known[MADE], 0)
        for kind, table in enumerate(self._errors):
            mine = known[PROMISED] == kind
            table.record(foretold[mine], actual[mine])
        self._tell(np.abs(actual - foretold))

    def _note_starts(self, made: Plan, order: Ints) -> None:
        """Put aside what was foretold of what starts by a plan: nothing is any more."""
        some = np.flatnonzero(made.placed > 0)
        rows = order[some]
        inside = rows < self._known.shape[1]
        rows, jobs = rows[inside], made.job[some[inside]]
        rows = rows[self._known[JOB, rows] == jobs]
        self._starting = self._known[:, rows]
        self._known[JOB, rows] = -1

    def _remember(self, rows: Ints, jobs: Ints, starts: Ints, promised: Ints, now: int) -> None:
        """Remember the first estimates for jobs; who has none now will have another first one."""
        known = np.full((4, int(rows.max(initial=-1)) + 1), -1, np.int64)
        known[JOB, rows] = jobs
        known[MADE, rows] = now
        known[START, rows] = starts
        known[PROMISED, rows] = promised
        width = min(known.shape[1], self._known.shape[1])
        same = np.flatnonzero(known[JOB, :width] == self._known[JOB, :width])
        known[:, same] = self._known[:, same]
        self._known = known

    def _tell(self, errors: Ints) -> None:
        """Count errors (s) among the recent ones."""
        errors = errors[-RECENT:]
        places = np.arange(self._count, self._count + len(errors)) % RECENT
        self._recent[places] = errors
        self._count += len(errors)
        found = self._recent[: self._count]
        median, most = np.percentile(found, (50, 90)).tolist()
        self.figures["planner_forecast_starts"] = float(self._count)
        self.figures["planner_forecast_error_median_s"] = median
        self.figures["planner_forecast_error_p90_s"] = most


def _starts(made: Plan, tables: Tables, now: int) -> tuple[Ints, Ints]:
    """Estimated start of each record of a plan (s, -1: none), and 1 where it is a promise."""
    jobs = tables.jobs
    flow = fluid_starts(tables.nodes, tables.shapes, jobs, tables.running, jobs.order(), now)
    promised = ((made.planned >= 0) & np.isin(made.job, made.head_job)).astype(np.int64)
    starts = np.where(promised, made.planned, np.maximum(made.planned, flow))
    hopeless = (made.code == VerdictCode.NEVER) | (made.code == VerdictCode.NODE_NOT_AVAIL)
    starts[hopeless | (made.code == VerdictCode.STARTED)] = -1
    return starts, promised
