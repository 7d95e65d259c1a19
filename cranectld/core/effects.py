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


Effect = SendOrder | Replan
