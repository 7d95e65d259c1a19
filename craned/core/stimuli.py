"""Stimuli: everything that can happen to an agent, as its core is told of it."""

from __future__ import annotations

from dataclasses import dataclass

from crane.session import Order, StepEnded, StepStarted


@dataclass(frozen=True, slots=True)
class Contact:
    """The last word with a controller; kept on disk, so that a restarted agent honours its lease."""

    epoch: int
    lease: int
    """Nanoseconds; 0: none."""
    kill: bool
    """Whether jobs are ended when the lease has run out (`lost_contact = kill`)."""
    renewed: int
    """Instant from which the lease runs."""
    settled: int = 0
    """Instant by which every shim has looked at `lease` and `kill`."""


@dataclass(frozen=True, slots=True)
class NotRemembered:
    """A Contact could not be put on disk: nobody knows which terms the shims go by."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a starting agent found on its host; first stimulus, and only once."""

    running: tuple[StepStarted, ...] = ()
    ended: tuple[StepEnded, ...] = ()
    """Steps whose end no controller has acknowledged."""
    contact: Contact | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """A controller proved to hold the key, welcomed this agent, and has registered it."""

    epoch: int
    stream: int
    """Grows with every session of an epoch."""
    lease: int
    """Nanoseconds."""
    kill: bool
    renewed: int
    """When the frame was sent with which it registered the node."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session broke."""

    stream: int


@dataclass(frozen=True, slots=True)
class OrdersReceived:
    """Orders, with the scripts and environments that their BlobRefs index."""

    epoch: int
    stream: int
    orders: tuple[Order, ...]
    blobs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Reports up to `seq` are in the controller's log."""

    stream: int
    seq: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The controller has received what this agent sent at `sent` (an instant of the agent)."""

    stream: int
    sent: int
    lease: int = 0
    """Nanoseconds; 0: unchanged."""


@dataclass(frozen=True, slots=True)
class LauncherReports:
    """Steps that started or ended here. `released` of an end is filled in by the core."""

    reports: tuple[StepStarted | StepEnded, ...]


@dataclass(frozen=True, slots=True)
class Flush:
    """The session can take reports: hand over what waits."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: act on what is due (`lease.next_due`)."""


Stimulus = (
    Adopted
    | Connected
    | Disconnected
    | OrdersReceived
    | Acknowledged
    | Heard
    | LauncherReports
    | Flush
    | Tick
    | NotRemembered
)
