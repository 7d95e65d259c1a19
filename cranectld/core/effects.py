"""Effects: what the shell does once the events behind them are durable.

Every effect may be lost or repeated (a crash between append and effect): orders are idempotent, and
what is missing on an agent is sent again when it registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from crane.session import Order


@dataclass(frozen=True, slots=True)
class SendOrder:
    """Send an order to a node's agent, if it is connected."""

    node: str
    order: Order


@dataclass(frozen=True, slots=True)
class Replan:
    """Something changed that may let a job start: make a scheduling pass soon."""


@dataclass(frozen=True, slots=True)
class ForgetOrders:
    """Drop what waits to be sent to a node: it has registered, and what follows says all it must know.

    Orders of before may be about attempts that its registration has just shown to be over.
    """

    node: str


Effect = SendOrder | Replan | ForgetOrders
