"""The only clock of the controller's shell; the core is told the time."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Instants (ns since the epoch) that never go back, however the host's clock is set."""

    def __init__(
        self,
        last: int = 0,
        wall: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`last`: the latest instant already in the log; `wall` and `steady`: clocks to read, ns."""
        self._last = last
        self._wall = wall
        self._steady = steady
        self._read = steady()

    def now(self) -> int:
        """Wall clock. While that is behind what was given out before (it was set back), time goes on
        from there at half its speed: nothing waits for ever, and the two meet.
        """
        wall, steady = self._wall(), self._steady()
        if wall < self._last:
            wall = self._last + max(steady - self._read, 0) // 2
        self._read = steady
        self._last = max(self._last, wall)
        return self._last

    @staticmethod
    def monotonic() -> float:
        """Seconds on a clock that only measures durations."""
        return time.monotonic()
