"""What conservative passes promised: kept for the next pass, and where a promise moved, why."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sched_core.codes import MoveCause
from sched_core.columns import Ints

if TYPE_CHECKING:
    from sched_core.plan import Plan
    from sched_core.plan_conservative import Promises


class Standing:
    """The promises of the last conservative pass, and what became of them since.

    Whoever keeps the tables says so: `give_back` when room came free, `renew` when a record that
    waits is no longer what the promise was made for, `forget` when the tables are made anew.
    """

    def __init__(self) -> None:
        self._last: Promises | None = None
        self._renewed: dict[int, None] = {}
        self._freed = True

    def give_back(self) -> None:
        """Something was given back: the next pass may promise earlier starts."""
        self._freed = True

    def renew(self, job_id: int) -> None:
        """The promise to a job says nothing any more; it is planned as if it were new."""
        self._freed = True
        if self._last is not None:
            self._renewed[job_id] = None

    def forget(self) -> None:
        """There are no promises."""
        self._last = None
        self._renewed.clear()

    def keep(self, plan: Plan, refused: Ints) -> None:
        """A conservative plan was made, and its starts decided; `refused`: job ids of which not all
        were taken: what would have been theirs is free, and they are planned as if they were new.
        """
        from sched_core.plan_conservative import Promises  # noqa: PLC0415 - numba, if in use

        self._last = Promises.of(plan)
        self._renewed = dict.fromkeys(refused.tolist())
        self._freed = len(refused) > 0

    def promises(self) -> Promises | None:
        """For the next pass; None: there are none."""
        last = self._last
        if last is None:
            return None
        if self._renewed:
            last = last.without(np.fromiter(self._renewed, np.int64, len(self._renewed)))
        return replace(last, freed=self._freed)


class Move(NamedTuple):
    """A promise that could not be kept."""

    promised: int
    """Instant (s) promised first."""
    cause: MoveCause
    """Of the last move."""


class Moves:
    """Moved promises of jobs that still wait, by job; a few numpy calls for each pass."""

    def __init__(self) -> None:
        self._rows: Ints = np.zeros((3, 0), np.int64)
        """Job ids (rising), instants promised first, causes."""

    def add(self, plan: Plan, last: Promises | None) -> None:
        """Take a plan that was made with `last`; who waits no longer is forgotten."""
        moved = np.flatnonzero(plan.moved)
        known = self._rows
        if not known.shape[1] and (last is None or not len(moved)):
            return
        known = known[:, np.isin(known[0], plan.job)]
        if last is not None and len(moved):
            ids = plan.job[moved]
            order = np.argsort(last.job)
            promised = last.start[order[np.searchsorted(last.job, ids, sorter=order)]]
            new = np.stack([ids, promised, plan.moved_cause[moved]])
            new = new[:, np.argsort(ids)]
            at = np.searchsorted(new[0], known[0])
            again = np.isin(known[0], new[0])
            new[1, at[again]] = known[1, again]  # moved before: what counts is the first promise
            known = np.concatenate([known[:, ~again], new], axis=1)
            known = known[:, np.argsort(known[0])]
        self._rows = known  # replaced, never changed: readers are in another thread

    def find(self, job_id: int) -> Move | None:
        """What became of the promise to a job; None: it was kept, or there was none."""
        rows = self._rows
        at = int(np.searchsorted(rows[0], job_id))
        if at == rows.shape[1] or rows[0, at] != job_id:
            return None
        return Move(int(rows[1, at]), MoveCause(int(rows[2, at])))
