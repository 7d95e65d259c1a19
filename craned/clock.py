"""The agent's clock: wall time that never goes back and does not stop while the host sleeps.

Leases and the times of the agent's own reports come from it; setting the host's clock while the
agent runs changes neither (clock_gettime(2), CLOCK_BOOTTIME).
"""

from __future__ import annotations

import time


class Clock:
    """Nanoseconds since the epoch, anchored to the wall clock once."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now(self) -> int:
        """The present instant."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + self._offset

    def to_boot_time(self, instant: int) -> int:
        """The instant as the host's own count since it was started, which outlives this process."""
        return instant - self._offset

    def from_boot_time(self, since_boot: int) -> int:
        """The inverse of `to_boot_time`, in a later process as well."""
        return since_boot + self._offset
