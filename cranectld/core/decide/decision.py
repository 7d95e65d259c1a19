"""What deciding a command gives."""

from __future__ import annotations

from dataclasses import dataclass

from cranectld.core.effects import Effect
from cranectld.core.events import Event


@dataclass(frozen=True, slots=True)
class Decision:
    """The events that follow from a command, in order, and the reply to it."""

    events: tuple[Event, ...] = ()
    reply: object = None
    effects: tuple[Effect, ...] = ()
    """What is to be done although no state changes (signals); after the events are durable."""


NOTHING = Decision()
