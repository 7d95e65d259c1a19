"""What travels in a simulated session: the values that `crane.wire` makes messages of in reality."""

from __future__ import annotations

from dataclasses import dataclass

from crane.session import Order, Registration, Report, StepRequest
from cranectld.core.commands import Rejected, StepGranted


@dataclass(frozen=True, slots=True)
class Hello:
    """The agent's first frame."""

    registration: Registration


@dataclass(frozen=True, slots=True)
class Welcome:
    """The controller's first frame: it waits for the agent's next, which registers the node."""

    epoch: int
    stream: int
    lease: int
    """ns"""
    kill: bool
    heartbeat: int
    """ns"""


@dataclass(frozen=True, slots=True)
class Refused:
    """The controller does not want this node."""

    why: str


@dataclass(frozen=True, slots=True)
class StepAsked:
    """`crun` asks for a step of a job of this uid."""

    number: int
    job_id: int
    uid: int
    request: StepRequest


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """Anything else from an agent; an empty one is a heartbeat. `clock`: when it was sent, there."""

    clock: int
    reports: tuple[tuple[int, Report], ...] = ()
    asked: StepAsked | None = None


@dataclass(frozen=True, slots=True)
class ControllerMessage:
    """Anything else from the controller."""

    epoch: int
    orders: tuple[Order, ...] = ()
    acknowledged: int = 0
    heard: int = 0
    answer: tuple[int, StepGranted | Rejected] | None = None
