"""How many steps may be starting at once.

Starting more processes than the host has CPUs makes none of them start sooner; it only costs a
shim each, where one that has just ended a short job could have been used again. So only a few steps
may be in their first moments at a time, and further orders wait in line: until one of those has
ended, or has run for longer than a short job would. On a crowded host, where more processes want a
CPU than it has, even short jobs take long; there the first moments last longer, too.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

WINDOW = 0.05
"""Seconds a step counts as starting."""
CROWDED_WINDOW = 0.25
"""The same on a crowded host."""
PER_CPU = 2
LEAST = 4


@dataclass(slots=True)
class WaitingOrder:
    """A launch order in line, and how often a shim was lost over it."""

    payload: bytes
    tries: int


class Pacer:
    """Orders in line, and the steps that are starting, oldest first. Times are monotonic seconds."""

    def __init__(self, cpus: int, crowded: Callable[[], bool]) -> None:
        """`crowded`: whether more processes want to run at this moment than the host can."""
        self._most = max(LEAST, PER_CPU * cpus)
        self._crowded = crowded
        self._line: OrderedDict[bytes, WaitingOrder] = OrderedDict()
        self._starting: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._line)

    def __contains__(self, key: bytes) -> bool:
        return key in self._line

    def wait(self, key: bytes, payload: bytes, tries: int) -> None:
        """Put an order at the end of the line."""
        self._line[key] = WaitingOrder(payload, tries)

    def take(self, key: bytes) -> WaitingOrder | None:
        """Take an order out of the line, wherever it is; None if it is not there."""
        return self._line.pop(key, None)

    def begun(self, key: bytes, now: float) -> None:
        """A step has been given to a shim."""
        self._starting[key] = now

    def settled(self, key: bytes) -> None:
        """A step has ended."""
        self._starting.pop(key, None)

    def next(self, now: float) -> bytes | None:
        """The order whose turn it is; None if there is none or too many steps are starting."""
        if not self._line:
            return None
        if len(self._starting) >= self._most:
            self._let_go(now, CROWDED_WINDOW)
        if len(self._starting) >= self._most and not self._crowded():
            self._let_go(now, WINDOW)
        return next(iter(self._line)) if len(self._starting) < self._most else None

    def _let_go(self, now: float, window: float) -> None:
        """Steps that were begun longer ago than `window` are not starting any more."""
        while self._starting:
            key, since = next(iter(self._starting.items()))
            if now - since < window:
                return
            del self._starting[key]

    def clear(self) -> None:
        """Drop every order in line: none of them has been claimed."""
        self._line.clear()


class Crowd:
    """Whether a Linux host is crowded, by its count of runnable tasks (proc(5), /proc/loadavg)."""

    def __init__(self, cpus: int) -> None:
        self._most = PER_CPU * cpus
        self._file = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> bool:
        """At this moment; the caller itself is one of those that run."""
        runnable = os.pread(self._file, 128, 0).split()[3].partition(b"/")[0]
        return int(runnable) - 1 > self._most
