"""The only clock of the controller's shell; the core is told the time.

Event time is one scale for everything: what is logged, begin times, deadlines, the silence of nodes
and the fences of lost ones. It starts at the wall clock and goes on at the pace of CLOCK_BOOTTIME
(clock_gettime(2): nobody sets it, and it counts while the host sleeps), as leases do on the agents.
So a wall clock that is set shortens no silence and no fence. Where it was set

- forward, event time follows (begin times are instants of the wall clock), but only after everything
  that measures a duration on this scale has been moved by as much: `ahead`, then the command
  ClockStepped (cranectld.core.decide.fences), then `follow` (cranectld.shell.timers);
- back, event time goes on at half its pace until the two meet: nothing waits for ever, and what is
  measured gets longer.

What happened to the clocks while no controller ran is not known: each one that starts grants full
leases anew. A job's end by its time limit is an instant of this scale that is not moved; the limit
itself is kept by the shims, which measure elapsed time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def since_boot() -> int:
    """Nanoseconds since the host was started, asleep or not."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Clock:
    """Instants (ns since the epoch) that never go back, however the host's clock is set.

    May be read by every thread.
    """

    def __init__(
        self,
        last: int = 0,
        wall: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] = since_boot,
    ) -> None:
        """`last`: the latest instant already in the log; `wall` and `steady`: clocks to read, ns."""
        self._wall = wall
        self._steady = steady
        self._lock = threading.Lock()
        self._last = max(last, wall())
        self._read = steady()

    def now(self) -> int:
        """Event time."""
        with self._lock:
            wall, steady = self._wall(), self._steady()
            passed, self._read = max(steady - self._read, 0), steady
            self._last = min(self._last + passed, max(wall, self._last + passed // 2))
            return self._last

    def ahead(self) -> int:
        """Nanoseconds by which the wall clock is ahead: it was set forward."""
        now = self.now()
        return max(self._wall() - now, 0)

    def follow(self, by: int) -> None:
        """Go forward by so many ns at once."""
        assert by >= 0
        with self._lock:
            self._last += by

    @staticmethod
    def monotonic() -> float:
        """Seconds on a clock that only measures durations."""
        return time.monotonic()
