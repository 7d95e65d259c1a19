"""The seeded clock: what happens next, on integer nanoseconds."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

US = 1_000
MS = 1_000_000
S = 1_000_000_000

START = 1_700_000_000 * S
"""The instant at which every world begins."""


class Process:
    """Something that can die; what it had in mind dies with it."""

    __slots__ = ("alive",)

    def __init__(self) -> None:
        self.alive = True


class ProcessDied(Exception):  # noqa: N818 - names what happened
    """Raised by a fault in the middle of a process's work: the rest of that work does not happen."""

    def __init__(self, process: Process, seam: str) -> None:
        super().__init__(seam)
        self.process = process
        self.seam = seam


class Timer:
    """One thing that is to happen."""

    __slots__ = ("action", "arguments", "owner", "time")

    def __init__(
        self, time: int, owner: Process | None, action: Callable[..., None], arguments: Any
    ) -> None:
        self.time = time
        self.owner = owner
        self.action: Callable[..., None] | None = action
        self.arguments = arguments

    def cancel(self) -> None:
        """Let it not happen, and hold on to nothing until the instant is there."""
        self.action = self.owner = None
        self.arguments = ()


class Clock:
    """Events in the order of their instants; those of one instant in the order they were asked for."""

    def __init__(self) -> None:
        self.now = START
        self.steps = 0
        """Events that have happened."""
        self._heap: list[tuple[int, int, Timer]] = []
        self._count = 0

    def at(
        self, time: int, action: Callable[..., None], *arguments: Any, owner: Process | None = None
    ) -> Timer:
        """Call `action(*arguments)` at an instant, unless `owner` has died by then."""
        timer = Timer(max(time, self.now), owner, action, arguments)
        self._count += 1
        heapq.heappush(self._heap, (timer.time, self._count, timer))
        return timer

    def after(
        self, delay: int, action: Callable[..., None], *arguments: Any, owner: Process | None = None
    ) -> Timer:
        """Like `at`, `delay` ns from now."""
        return self.at(self.now + delay, action, *arguments, owner=owner)

    def next_time(self) -> int | None:
        """Instant of the next event; None: nothing is to happen any more."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> bool:
        """Let the next event happen; False if there is none."""
        while self._heap:
            time, _, timer = heapq.heappop(self._heap)
            if timer.action is None or (timer.owner is not None and not timer.owner.alive):
                continue
            assert time >= self.now, "time does not go back"
            self.now = time
            self.steps += 1
            timer.action(*timer.arguments)
            return True
        return False


def seconds(value: float) -> int:
    """Nanoseconds of so many seconds."""
    return round(value * S)
