"""Verdicts of the last pass, by job: what the queue's commands show of a waiting job."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cranectld.shell.forecasting import Forecasts
from cranectld.shell.prioritising import Ranks, Term
from cranectld.shell.promising import Move, Moves
from sched_core.codes import VerdictCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sched_core.names import Dimensions, Names
    from sched_core.plan import Plan


class Verdict(NamedTuple):
    """Why a record waits; instants in ns, 0: unknown."""

    code: int
    """`sched_core.codes.VerdictCode`."""
    short: str
    """Dimension that is short (`cpu`, `memory`, `gres/gpu:a100`, `licence/matlab`); empty: none."""
    matching: int
    usable: int
    fitting: int
    ahead: int
    planned_start: int
    pass_time: int
    move: Move | None = None
    """The promise to it that could not be kept."""
    earliest: int = 0
    latest: int = 0
    """Between which it is expected to start, by how wrong earlier estimates were."""
    priority: int | None = None
    """As it was weighed for the pass; None: as the core decided it."""


class Verdicts:
    """The verdict columns of one plan, found by job id in O(log n); immutable once made."""

    def __init__(
        self,
        plan: Plan | None,
        dims: Dimensions,
        pass_time: int,
        moves: Moves | None = None,
        forecasts: Forecasts | None = None,
        ranks: Ranks | None = None,
        licences: Names | None = None,
    ) -> None:
        """`plan` None: before the first pass; `pass_time` in ns."""
        self._plan = plan
        self._moves = moves
        self._forecasts = forecasts
        self._ranks = ranks
        named = (licences.text(i) for i in range(len(licences))) if licences is not None else ()
        self._licences = tuple(f"licence/{name}" for name in named)
        self._short = tuple(dims.name(i) for i in range(len(dims)))
        self._time = pass_time
        self._order: NDArray[np.int64] | None = None

    def find(self, job_id: int) -> Verdict | None:
        """Verdict of a job, None if the pass did not see it."""
        plan = self._plan
        if plan is None or not len(plan.job):
            return None
        if self._order is None:
            self._order = np.argsort(plan.job, kind="stable")
        place = int(np.searchsorted(plan.job, job_id, sorter=self._order))
        if place == len(self._order) or plan.job[self._order[place]] != job_id:
            return None
        row = int(self._order[place])
        short, planned = int(plan.short[row]), max(int(plan.planned[row]), 0) * 1_000_000_000
        span = (0, 0)
        found = self._forecasts.estimates.find(job_id) if self._forecasts is not None else None
        if found is not None:
            planned = planned if planned and found.promised else found.start
            span = (min(found.earliest, planned), max(found.latest, planned))
        names = self._licences if plan.code[row] == VerdictCode.LICENSES else self._short
        return Verdict(
            code=int(plan.code[row]),
            short=names[short] if short >= 0 else "",
            matching=int(plan.matching[row]),
            usable=int(plan.usable[row]),
            fitting=int(plan.fitting[row]),
            ahead=int(plan.ahead[row]),
            planned_start=planned,
            pass_time=self._time,
            move=self._moves.find(job_id) if self._moves is not None else None,
            earliest=span[0],
            latest=span[1],
            priority=int(self._ranks.column[row]) if self._ranks is not None else None,
        )

    def terms(self, job_id: int) -> tuple[Term, ...]:
        """What a priority that was weighed is made of; empty: not known."""
        return self._ranks.priorities.explained(job_id) if self._ranks is not None else ()
