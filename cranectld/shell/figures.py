"""Figures of the running daemon (`ccontrol diag`): counters, and the spread of recent samples."""

from __future__ import annotations

import asyncio
from collections import Counter, deque

WINDOW = 1024
"""How many of the latest samples percentiles are taken of."""

STALL_PERIOD = 0.1


class Samples:
    """The latest durations (seconds) of one kind of work."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=WINDOW)
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Take one sample."""
        self._latest.append(seconds)
        self._max = max(self._max, seconds)

    def figures(self, name: str) -> dict[str, float]:
        """Milliseconds: `<name>_ms_p50` and `_p99` of the latest, `_max` since the start."""
        ordered = sorted(self._latest)
        spread = {"p50": 0.5, "p99": 0.99} if ordered else {}
        found = {
            f"{name}_ms_{key}": 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
            for key, share in spread.items()
        }
        return found | {f"{name}_ms_max": 1e3 * self._max}


class Counts:
    """Named counters."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Count."""
        self._counts[name] += amount

    def figures(self) -> dict[str, float]:
        """Every counter, by name."""
        return {name: float(count) for name, count in sorted(self._counts.items())}


class Watchdog:
    """Measures how late the event loop comes back to a timer: how long something held it."""

    def __init__(self) -> None:
        self.stalls = Samples()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure until closed; needs a running event loop."""
        self._arm(asyncio.get_running_loop())

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + STALL_PERIOD

        def woken() -> None:
            self.stalls.add(max(0.0, loop.time() - due))
            self._arm(loop)

        self._handle = loop.call_at(due, woken)

    def close(self) -> None:
        """Stop."""
        if self._handle is not None:
            self._handle.cancel()
