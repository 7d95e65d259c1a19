"""Places where a test may kill the process: `CRANE_FAILPOINT=name[:n[:file]]` dies at the nth hit.

The process sends itself SIGKILL, which nothing can clean up after, as a power cut would. With a
file, only the first process to create it dies, so that its successors get past the point.
Unset (always, outside tests), `hit` is an empty function: the check is made once, at import.
"""

from __future__ import annotations

import os
import signal

_NAME, _, _REST = os.environ.get("CRANE_FAILPOINT", "").partition(":")
_COUNT, _, _ONCE = _REST.partition(":")
_left = int(_COUNT) if _COUNT.isdigit() else 1


def _armed(name: str) -> None:
    global _left  # noqa: PLW0603 - one counter per process is the point
    if name != _NAME:
        return
    _left -= 1
    if _left:
        return
    if _ONCE:
        try:
            os.close(os.open(_ONCE, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)


def _unarmed(name: str) -> None:
    del name


hit = _armed if _NAME else _unarmed
"""`hit("fork")`: dies here if the environment says so. Names: fork, exec, exit-record."""
