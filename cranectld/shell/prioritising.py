"""Multifactor priorities of what waits: who asks, what he has used, and the terms they come to.

Rows say who asks for what and who holds what; before a pass all priorities are made anew with a few
numpy calls and two kernels (`sched_core.priority`, `sched_core.fairshare`), or, where that was done
just now, those of new records only. Associations are flat: accounts below the root, users below
their accounts, all with equal shares.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cranectld.core.decide.resolve import BASE_PRIORITY
from cranectld.core.fold import NS, PendingRow, PolicyRow, RunningRow, UsageRow
from sched_core.columns import Ints
from sched_core.shares import ShareTable
from sched_core.tables import Tables

if TYPE_CHECKING:
    from sched_core.priority import Terms

REST = 9.0
"""So many times what making all priorities took, only those of new records are made."""

# Rows of the columns, by row of the JobTable.
ASSOCIATION, ELIGIBLE, NICE, PINNED = range(4)


class Term(NamedTuple):
    """A summand of a priority."""

    name: str
    value: int


class _Association(NamedTuple):
    name: str
    row: int


class Priorities:
    """Owned by the planner's tables; `explained` may be asked by others."""

    def __init__(self, policy: PolicyRow, now: int) -> None:
        """`now`: s."""
        self._policy = policy
        self.shares = ShareTable(policy.priority.half_life, now)
        self._now = now
        self._columns: Ints = np.full((4, 16), -1, np.int64)
        self._known: dict[tuple[str, str], _Association] = {}
        self._fresh: list[int] = []
        self._running: dict[int, tuple[str, int]] = {}
        """Job id -> association and rate."""
        self._terms: Terms | None = None
        self._rested = 0.0
        self._explained = _Explained(np.zeros(0, np.int64), self._columns[:, :0], None, 0)

    def at(self, now: int) -> None:
        """What is put from now on was changed at this instant (s)."""
        self._now = now

    def use(self, row: UsageRow) -> None:
        """Somebody counts as having used so much."""
        name = self._association(row.account, row.user).name
        self.shares.restore(name, row.amount, row.as_of)

    def put(self, at: int, row: PendingRow) -> None:
        """A record came or changed; `at`: its row in the JobTable."""
        if at >= self._columns.shape[1]:
            columns = np.full((4, 2 * at), -1, np.int64)
            columns[:, : self._columns.shape[1]] = self._columns
            self._columns = columns
        columns, spec = self._columns, row.spec
        columns[ASSOCIATION, at] = self._association(spec.account, row.user).row
        columns[ELIGIBLE, at] = row.begin // NS
        columns[NICE, at] = spec.nice
        columns[PINNED, at] = spec.priority
        self._fresh.append(at)

    def differs(self, at: int, row: PendingRow) -> bool:
        """Whether the priority of a record is another one now by what was asked for."""
        return tuple(self._columns[NICE:, at].tolist()) != (row.spec.nice, row.spec.priority)

    def hold(self, row: RunningRow) -> None:
        """A job holds CPUs since its start, or fewer of them from now on."""
        rate = sum(cpus for _, cpus, _, _ in row.holds)
        known = self._running.get(row.job_id)
        if known is None:
            name = self._association(row.account, row.user).name
            self.shares.begin(name, rate, row.start)
        else:
            name = known[0]
            self.shares.finish(name, known[1] - rate, self._now)
        self._running[row.job_id] = name, rate

    def let_go(self, job_id: int) -> None:
        """A job holds nothing any more."""
        known = self._running.pop(job_id, None)
        if known is not None:
            self.shares.finish(*known, self._now)

    def renew(self, tables: Tables, now: int) -> None:
        """Set the priorities of what waits in the tables, as of `now` (s)."""
        fresh, self._fresh = self._fresh, []
        begun = time.monotonic()
        terms = self._terms
        if terms is not None and begun < self._rested and not _outgrown(terms, self.shares, tables):
            if fresh:
                rows = np.array(fresh, np.int64)
                self._set(tables, np.unique(rows[tables.jobs.id[rows] >= 0]), terms, now)
            return
        self._terms = terms = self._made(tables, now)
        rows = tables.jobs.order()
        jobs = tables.jobs.id[rows]
        self._explained = _Explained(jobs, self._set(tables, rows, terms, now), terms, now)
        took = time.monotonic() - begun
        self._rested = begun + took + REST * took

    def explained(self, job_id: int) -> tuple[Term, ...]:
        """What the priority of a job was made of; empty: not known."""
        return self._explained.find(job_id)

    def _made(self, tables: Tables, now: int) -> Terms:
        from sched_core import priority as p  # noqa: PLC0415 - numba, if in use
        from sched_core.fairshare import fair_tree  # noqa: PLC0415

        given, nodes = self._policy.priority, tables.nodes
        tiers = np.zeros(len(nodes.partition_names), np.int64)
        for name, tier in self._policy.tiers:
            number = nodes.partition_names.find(name)
            if number >= 0:
                tiers[number] = tier
        factors = p.Factors(
            association=np.zeros(self.shares.rows, np.int64),
            fairshare=fair_tree(self.shares, now),
            partition=p.relative(tiers),
            qos=np.zeros(0, np.int64),
            size=p.size_factors(nodes, tables.shapes, small_first=given.small_first),
            tres=np.zeros((0, tables.shapes.rows), np.int64),
        )
        weights = p.Weights(
            age=given.age,
            fairshare=given.fair_share,
            size=given.size,
            partition=given.partition,
            max_age=given.max_age,
            small_first=given.small_first,
        )
        return p.terms(weights, factors)

    def _set(self, tables: Tables, rows: Ints, terms: Terms, now: int) -> Ints:
        """Set the priorities of records; their columns."""
        from sched_core.priority import prioritise  # noqa: PLC0415 - numba, if in use

        columns = self._matrix(tables, rows, terms)
        tables.jobs.set_priorities(rows, prioritise(columns, terms, now))
        return columns

    def _matrix(self, tables: Tables, live: Ints, terms: Terms) -> Ints:
        """Columns of records as `sched_core.priority` knows them."""
        from sched_core import priority as p  # noqa: PLC0415 - numba, if in use

        jobs, shapes = tables.jobs, tables.shapes
        # Of several partitions the one with the greatest term counts.
        parts = shapes.parts[: shapes.rows]
        worth = np.append(terms.partition, -1)[parts]  # -1, the last: no partition
        best = parts[np.arange(shapes.rows), worth.argmax(axis=1)]
        out = np.zeros((p.JOB_COLUMNS, len(live)), np.int64)
        out[p.SHAPE] = jobs.shape[live]
        out[p.ASSOCIATION] = self._columns[ASSOCIATION, live]
        out[p.PARTITION] = best[jobs.shape[live]]
        out[p.QOS] = -1
        may = (jobs.gate[live] == 0) & (jobs.begin[live] <= 0)
        out[p.ELIGIBLE] = np.where(may, self._columns[ELIGIBLE, live], -1)
        out[p.SITE] = BASE_PRIORITY  # nice values stay visible where weights are small
        out[p.NICE] = self._columns[NICE, live]
        out[p.PINNED] = self._columns[PINNED, live]
        return out

    def _association(self, account: str, user: str) -> _Association:
        known = self._known.get((account, user))
        if known is None:
            above = f"{account}\0"
            if self.shares.row(above) < 0:
                self.shares.add(above)
            name = f"{above}{user}"
            known = _Association(name, self.shares.add(name, above, user=True))
            self._known[account, user] = known
        return known


def _outgrown(terms: Terms, shares: ShareTable, tables: Tables) -> bool:
    """Whether there are associations, shapes or partitions that the terms know nothing of."""
    return (
        terms.association.shape[1] < shares.rows
        or terms.shape.shape[1] < tables.shapes.rows
        or len(terms.partition) < len(tables.nodes.partition_names)
    )


class Ranks(NamedTuple):
    """Priorities in a pass."""

    priorities: Priorities
    column: Ints
    """[m] in queue order."""


class _Explained:
    """Columns and terms of all that waited at one instant; immutable."""

    def __init__(self, jobs: Ints, columns: Ints, terms: Terms | None, now: int) -> None:
        self._order = np.argsort(jobs)
        self._jobs = jobs[self._order]
        self._columns, self._terms, self._now = columns, terms, now

    def find(self, job_id: int) -> tuple[Term, ...]:
        at = int(np.searchsorted(self._jobs, job_id))
        if self._terms is None or at == len(self._jobs) or self._jobs[at] != job_id:
            return ()
        from sched_core import priority as p  # noqa: PLC0415 - numba, if in use

        chosen = self._order[at : at + 1]
        found = p.explain(self._columns, self._terms, self._now, chosen)
        pinned = self._columns[p.PINNED, chosen[0]] >= 0
        terms = (
            Term("base", int(found.site[0])),
            Term("age", int(found.age[0])),
            Term("fair-share", int(found.fairshare[0])),
            Term("size", int(found.size[0])),
            Term("partition", int(found.partition[0])),
            Term("nice", int(found.nice[0])),
            Term("operator" if pinned else "bounds", int(found.adjusted[0])),
        )
        return tuple(term for term in terms if term.value)
