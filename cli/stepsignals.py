"""Signals crun catches, as a descriptor its poll loop can wait for (signal.set_wakeup_fd)."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

PASSED_ON = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGCONT,
)  # fmt: skip


class Signals:
    """While entered, the signals are collected instead of ending the command."""

    def __init__(self) -> None:
        self.wakeup, self._write = os.pipe()
        for fd in (self.wakeup, self._write):
            os.set_blocking(fd, False)
        self._caught: list[int] = []
        self._before: dict[int, Any] = {}
        self._before_wakeup = -1

    def __enter__(self) -> Signals:
        self._before_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in PASSED_ON:
            self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._before_wakeup)
        os.close(self.wakeup)
        os.close(self._write)

    def take(self) -> list[int]:
        """Signals since the last time, in order."""
        taken, self._caught = self._caught, []
        return taken

    def _catch(self, number: int, _: FrameType | None) -> None:
        self._caught.append(number)
