"""What the shell asks of the planner, which makes scheduling passes in a thread of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from cranectld.core.events import Logged
from cranectld.shell.verdicts import Verdict

__all__ = ["Planning", "Verdict"]


class Planning(Protocol):
    """Makes passes and submits CommitPlan commands through `Loop.submit_threadsafe`."""

    def start(self) -> None:
        """Begin planning: called once, when the state is recovered."""

    def apply(self, logged: Sequence[Logged]) -> None:
        """Take the events of one command, just applied; called in the loop's thread."""

    def wake(self) -> None:
        """Make a pass soon."""

    def close(self) -> None:
        """Stop, and wait for the thread."""

    def verdict(self, job_id: int) -> Verdict | None:
        """The verdict of the last pass on a pending job; None: not looked at."""

    def planned_start(self, job_id: int) -> int:
        """Instant (ns) at which the last pass expects it to start; 0: unknown."""

    @property
    def ready(self) -> bool:
        """False while the kernels are being compiled."""

    @property
    def figures(self) -> Mapping[str, float]:
        """Pass times and depths, for `ccontrol diag`."""
