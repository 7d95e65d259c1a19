"""Why a pending job waits: what the core knows of it first, then the planner's last verdict."""

from __future__ import annotations

from dataclasses import dataclass

from crane.states import Reason
from cranectld.core.explain import reason_for, reason_of
from cranectld.core.state import Job, State
from cranectld.shell.planning import Planning, Verdict
from cranectld.shell.prioritising import Term
from sched_core.codes import VerdictCode


@dataclass(frozen=True, slots=True)
class Why:
    """Reason, details for people, and when it is expected to start (ns; 0: unknown)."""

    reason: Reason
    text: str = ""
    planned_start: int = 0
    earliest: int = 0
    latest: int = 0
    """Between which it is expected to start (ns; 0: unknown)."""
    priority: int | None = None
    """As it was weighed for the last pass; None: as the core decided it."""


class Waiting:
    """Reasons of pending jobs, as of one instant."""

    def __init__(self, planner: Planning | None, now: int) -> None:
        """`now`: ns."""
        self._planner = planner
        self.now = now

    def of(self, state: State, job: Job, own: Reason = Reason.NONE) -> Why:
        """Why a job waits; `own`: what keeps this one task of an array on its own account."""
        gate = reason_of(state, job, self.now) if own is Reason.NONE else own
        verdict = self.verdict(job.job_id)
        priority = verdict.priority if verdict is not None else None
        if gate is not None:
            planned = job.eligible_time if gate is Reason.BEGIN_TIME else 0
            return Why(gate, planned_start=planned, priority=priority)
        if verdict is None:
            return Why(Reason.NONE)
        code = VerdictCode(verdict.code)
        reason = reason_for(code, verdict.short)
        what = "limit on" if code is VerdictCode.LIMIT else "short of"
        text = f"{what} {verdict.short}" if verdict.short else ""
        span = verdict.earliest, verdict.latest
        return Why(reason, text, verdict.planned_start, *span, priority)

    def terms(self, job_id: int) -> tuple[Term, ...]:
        """What the priority of a waiting job is made of, where it is weighed."""
        return self._planner.terms(job_id) if self._planner is not None else ()

    def verdict(self, job_id: int) -> Verdict | None:
        """What the last pass found."""
        return self._planner.verdict(job_id) if self._planner is not None else None
