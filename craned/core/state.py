"""The agent's state: the steps it answers for, the reports nobody has acknowledged, its lease.

The outbox lives in memory alone. What must not be lost is in the spool, written by the shims: a
record that a step was claimed, that it runs, how it ended; it is removed only when the controller
has logged the end (`Forget`). A restarted agent is told of these records (`Adopted`) and its outbox
is as it was, with new numbers. Reports without a record (a step refused, JobReleased) need none:
the controller repeats the order at the next registration and gets the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from crane.session import EndCause, Report, StepEnded, StepKey
from craned.core.instructions import Launch

MAX_STEPS = 50_000
"""Steps answered for at once; more are refused."""
MAX_TOMBSTONES = 20_000
"""Ended attempts (and steps) remembered after their acknowledgement, the newest."""
MAX_SEND = 2_000
"""Reports in one message."""
DEFAULT_GRACE = 5
"""Seconds, for steps whose order is not known any more (adopted ones)."""


class Phase(IntEnum):
    """How far a step is."""

    WAITING = 1
    """An older attempt of the job still has processes here: launched when they are gone."""
    LAUNCHING = 2
    RUNNING = 3
    HELD = 4
    """The batch script has ended; reported when nothing else of the job is left here."""
    ENDED = 5
    """Reported, and not yet acknowledged."""


@dataclass(slots=True)
class Step:
    """One step on this host."""

    key: StepKey
    phase: Phase
    grace: int = DEFAULT_GRACE
    """Seconds between SIGTERM and SIGKILL."""
    seq: int = 0
    """Number of its newest report; 0: none yet."""
    killed: EndCause | None = None
    launch: Launch | None = None
    """While WAITING."""
    end: StepEnded | None = None
    """While HELD."""

    @property
    def live(self) -> bool:
        """Whether processes of it may exist, or be started."""
        return self.phase <= Phase.RUNNING


@dataclass(slots=True)
class Attempt:
    """What this host knows of one attempt of a job."""

    job_id: int
    attempt: int
    steps: dict[int, Step] = field(default_factory=dict)
    ending: bool = False
    """Told to end it, or the batch script has ended: nothing more of it is launched."""
    released: bool = False
    """That nothing of it is left here is in the outbox."""

    @property
    def live(self) -> bool:
        """Whether processes of it may exist, or be started."""
        return any(step.live for step in self.steps.values())


@dataclass(slots=True)
class AgentState:
    """Everything the agent's core knows."""

    epoch: int = 0
    """Highest epoch obeyed; older controllers are refused."""
    stream: int = 0
    """Of the newest session in that epoch."""
    connected: bool = False
    jobs: dict[int, dict[int, Attempt]] = field(default_factory=dict)
    """Job id -> attempt number -> attempt."""
    steps: int = 0
    """How many steps `jobs` holds."""
    next_seq: int = 1
    sent: dict[int, Report] = field(default_factory=dict)
    """Reports sent in this session and not acknowledged, by number, ascending."""
    unsent: dict[int, Report] = field(default_factory=dict)
    """Reports to be sent, by number, ascending; every number is above those of `sent`."""
    ended_attempts: dict[int, int] = field(default_factory=dict)
    """Job id -> newest attempt that is over here; oldest entry first."""
    ended_steps: dict[StepKey, None] = field(default_factory=dict)
    """Acknowledged steps of attempts that are not over here; oldest first."""
    lease: int = 0
    """Nanoseconds; 0: none was granted yet."""
    kill: bool = False
    """Whether jobs are ended when the lease has run out."""
    renewed: int = 0
    """Instant from which the lease runs."""
    remembered: int = 0
    """`renewed` as last put on disk."""
    lost: bool = False
    """The lease has run out, and that was acted upon."""
    settled: int = 0
    """Instant by which every shim has looked at the present terms on disk (craned.core.lease)."""
    claimed: int = 0
    """Lease (ns) that the present registration said every step is held to; 0: none."""

    def find(self, key: StepKey) -> Step | None:
        """The step, if this host answers for it."""
        attempt = self.jobs.get(key.job_id, {}).get(key.attempt)
        return attempt.steps.get(key.step) if attempt is not None else None

    def listed(self) -> tuple[StepKey, ...]:
        """Steps alive, or with an end that is not acknowledged: what a registration names."""
        return tuple(
            step.key
            for attempts in self.jobs.values()
            for attempt in attempts.values()
            for step in attempt.steps.values()
        )

    def first_report(self) -> int:
        """Number of the oldest report in the outbox; 0: it is empty."""
        return next(iter(self.sent), 0) or next(iter(self.unsent), 0)
