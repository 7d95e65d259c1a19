"""The only clock of the controller's shell; the core is told the time."""

from __future__ import annotations

import time


class Clock:
    """Instants (ns since the epoch) that never go back, however the host's clock is set."""

    def __init__(self, last: int = 0) -> None:
        """`last`: the latest instant already in the log."""
        self._last = last

    def now(self) -> int:
        """Wall clock, at least the latest instant given out before."""
        self._last = max(self._last, time.time_ns())
        return self._last

    @staticmethod
    def monotonic() -> float:
        """Seconds on a clock that only measures durations."""
        return time.monotonic()
