"""Instructions: what the agent's shell does for the core. Each may be repeated without harm."""

from __future__ import annotations

from dataclasses import dataclass

from crane.session import EndCause, LaunchStep, Report, StepKey
from craned.core.stimuli import Contact


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a step. Whatever comes of it returns as LauncherReports with its key."""

    order: LaunchStep
    blobs: tuple[bytes, ...]
    """What BlobRefs in the order index."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End a step: SIGTERM, `grace` seconds, SIGKILL until nothing is left."""

    key: StepKey
    grace: int
    cause: EndCause


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to a step."""

    key: StepKey
    signal: int
    leaders_only: bool
    """Only to the script itself, not to its children."""


@dataclass(frozen=True, slots=True)
class SetLimit:
    """The step's time limit now expires at `end_time` (ns; 0: never)."""

    key: StepKey
    end_time: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The step's end is in the controller's log: remove its record."""

    key: StepKey


@dataclass(frozen=True, slots=True)
class ReportsWaiting:
    """Reports wait and a session is there: send a Flush when convenient."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send these reports, with their numbers, in this session."""

    stream: int
    reports: tuple[tuple[int, Report], ...]


@dataclass(frozen=True, slots=True)
class Hangup:
    """Close the session: who speaks there must not be obeyed."""

    stream: int
    why: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep this on disk, before anything that comes after it is done: steps are held to it.

    A lost write of a mere renewal costs nothing but an earlier end of the lease.
    """

    contact: Contact


Instruction = Launch | Kill | Signal | SetLimit | Forget | ReportsWaiting | Send | Hangup | Remember
