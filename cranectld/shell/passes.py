"""Passes over the planner's tables, and what each leaves for the next: planning without a thread.

Imports numba: only when the kernels' cache is settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cranectld.core.fold import NS, Delta, PolicyRow
from cranectld.shell.forecasting import Forecasts
from cranectld.shell.prioritising import Ranks
from cranectld.shell.promising import Moves
from cranectld.shell.tables import PlannerTables
from sched_core.columns import Ints
from sched_core.memory import Memory
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.remedy import Remedy, remedies

if TYPE_CHECKING:
    from sched_core.plan_conservative import Promises

MAX_STARTS = 2_000
"""Starts of one pass."""


def policy_of(row: PolicyRow) -> Policy:
    """Policy and bounds of a pass, as configured."""
    given = row.scheduler
    return Policy(
        kind=PolicyKind[given.policy.upper().replace("-", "_")],
        depth=given.depth,
        max_starts=MAX_STARTS,
        estimate_steps=given.estimate_steps,
        window=given.window,
        resolution=given.resolution,
        visits=given.visits,
    )


class Passes:
    """Tables, the memory of the last pass, and what conservative passes promised."""

    def __init__(self) -> None:
        self.tables = PlannerTables()
        self.moves = Moves()
        self.forecasts = Forecasts()
        self.ranks: Ranks | None = None
        """Of the last pass; None: priorities are those that the core decided."""
        self._memory = Memory()
        self._policy = policy_of(self.tables.policy)
        self._multifactor = False

    @property
    def most(self) -> int:
        """Starts of one pass at most; the next pass continues at once."""
        return self._policy.max_starts

    def fold(self, changes: Sequence[Delta], now: int) -> None:
        """Take what changed; `now` in ns."""
        self.tables.apply(changes, now)

    def use(self, row: PolicyRow) -> None:
        """Plan as configured from now on; the kernels that it needs are loaded."""
        self._policy = policy_of(row)
        self._multifactor = row.priority.kind == "multifactor"

    def make(self, now: int) -> Plan:
        """The plan of one pass at `now` (ns)."""
        self.tables.open_due(now)
        part, policy = self.tables.tables, self._policy
        priorities = self.tables.priorities if self._multifactor else None
        if priorities is not None:
            priorities.renew(part, now // NS)
        promises = self._promises()
        made = plan(
            part.nodes,
            part.shapes,
            part.jobs,
            part.running,
            policy,
            now // NS,
            promises=promises,
            memory=self._memory,
        )
        self.moves.add(made, promises)
        self.ranks = (
            Ranks(priorities, part.jobs.priority[part.jobs.order()]) if priorities else None
        )
        return made

    def forecast(self, made: Plan, now: int) -> None:
        """Estimate when what waits starts; `made` is the last plan, made at `now` (ns)."""
        self.forecasts.passed(made, self.tables.tables, now // NS)

    def decided(self, made: Plan, taken: int, now: int) -> None:
        """So many of the starts of the last plan, made at `now` (ns), were taken."""
        if taken and taken == made.starts:
            self.forecasts.started(now // NS)
        standing = self.tables.standing
        if _conservative(self._policy):
            none: Ints = made.start_job[:0]
            standing.keep(made, none if taken == made.starts else made.start_job)
        else:
            standing.forget()

    def sooner(self, job_id: int, partitions: Sequence[str], now: int) -> tuple[Remedy, ...]:
        """What would make a job start sooner (sched_core.remedy); none if it does not wait."""
        self.tables.open_due(now)
        if job_id not in self.tables.tables.jobs:
            return ()
        return remedies(
            self.tables.tables, self._policy, now // NS, job_id, partitions, self._promises()
        )

    def _promises(self) -> Promises | None:
        return self.tables.standing.promises() if _conservative(self._policy) else None

    def next_due(self, made: Plan, now: int) -> int:
        """Instant (ns) of the next pass that is worth making though nothing happens; 0: none known.

        A begin time, or the next point of a coarse grid of promised starts: on an exact one a
        promise falls due when something ends, which happens.
        """
        due = self.tables.open_due(now)
        step = self._policy.resolution
        if step > 1 and _conservative(self._policy) and len(made.head_job):
            grid = -(-(now // NS + 1) // step) * step * NS
            due = min(due, grid) if due else grid
        return due


def _conservative(policy: Policy) -> bool:
    return policy.kind >= PolicyKind.CONSERVATIVE
