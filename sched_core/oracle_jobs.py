"""A pending record as the slow twins see it. Imports no kernel and no table."""

from __future__ import annotations

from dataclasses import dataclass

from sched_core.codes import VerdictCode
from sched_core.request import Request

NEVER = 1 << 60
"""An instant that never comes."""


@dataclass
class Job:
    """A pending record."""

    job_id: int
    request: Request
    duration: int
    submit: int
    priority: int = 0
    begin: int = 0
    gate: int = 0
    count: int = 1
    limit: str = ""
    deadline: int = NEVER
    time_min: int = 0

    @property
    def least(self) -> int:
        """Shortest time limit it may be started with."""
        return min(self.time_min or self.duration, self.duration)

    def lengths(self, now: int) -> range:
        """Time limits it may be started with now, the longest first."""
        return range(min(self.duration, self.deadline - now), self.least - 1, -1)

    def gated(self, now: int) -> int:
        """What keeps it from being looked at; 0: nothing."""
        if self.gate:
            return self.gate
        if max(self.begin, now) + self.least > self.deadline:
            return VerdictCode.DEADLINE
        if self.begin > now:
            return VerdictCode.BEGIN_TIME
        return 0 if self.count else VerdictCode.ARRAY_LIMIT
