"""What the shell asks of the planner, which makes scheduling passes in a thread of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from cranectld.core.events import Logged
from cranectld.shell.prioritising import Term
from cranectld.shell.verdicts import Verdict

if TYPE_CHECKING:
    from sched_core.remedy import Remedy

__all__ = ["Planning", "Verdict"]


class Planning(Protocol):
    """Makes passes and submits CommitPlan commands through `Loop.submit_threadsafe`."""

    def start(self) -> None:
        """Begin planning: called once, when the state is recovered."""

    def apply(self, logged: Sequence[Logged]) -> None:
        """Take the events of one command, just applied; called in the loop's thread."""

    def wake(self) -> None:
        """Make a pass soon."""

    def sooner(self, job_id: int, partitions: tuple[str, ...]) -> Future[tuple[Remedy, ...]]:
        """What would make a pending job start sooner (sched_core.remedy); answered by the thread."""

    def close(self) -> None:
        """Stop, and wait for the thread."""

    def verdict(self, job_id: int) -> Verdict | None:
        """The verdict of the last pass on a pending job; None: not looked at."""

    def terms(self, job_id: int) -> tuple[Term, ...]:
        """What the priority of a waiting job is made of; empty: the core decided it."""

    def planned_start(self, job_id: int) -> int:
        """Instant (ns) at which the last pass expects it to start; 0: unknown."""

    @property
    def ready(self) -> bool:
        """False while the kernels are being compiled."""

    @property
    def figures(self) -> Mapping[str, float]:
        """Pass times and depths, for `ccontrol diag`."""
