"""Long answers in slices, so that the loop is never held for more than a few milliseconds."""

from __future__ import annotations

import asyncio
import time

SLICE = 0.003


class Pace:
    """`if pace.due: await pace.breathe()` between two pieces of work."""

    __slots__ = ("_deadline",)

    def __init__(self) -> None:
        self._deadline = time.monotonic() + SLICE

    @property
    def due(self) -> bool:
        """Whether this slice is used up."""
        return time.monotonic() > self._deadline

    async def breathe(self) -> None:
        """Let the others run, then begin a new slice."""
        await asyncio.sleep(0)
        self._deadline = time.monotonic() + SLICE
