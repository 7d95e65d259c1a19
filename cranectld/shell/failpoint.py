"""Places where a test may kill the controller: `CRANE_FAILPOINT=name[:n]` dies at the nth hit.

The process sends itself SIGKILL, which nothing can clean up after, as a power cut would. Unset
(always, outside tests), `hit` is an empty function: the check is made once, at import.
"""

from __future__ import annotations

import os
import signal

NAMES = ("decide", "append", "fsync", "reply", "order-sent", "acknowledge")
"""decide: decided and applied, not handed to the log. append: about to be written. fsync: durable,
nothing released. reply: released, not yet at the client. order-sent, acknowledge: sent to an agent."""

_NAME, _, _COUNT = os.environ.get("CRANE_FAILPOINT", "").partition(":")
_left = int(_COUNT) if _COUNT.isdigit() else 1


def _armed(name: str) -> None:
    global _left  # noqa: PLW0603 - one counter per process is the point
    if name != _NAME:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _unarmed(name: str) -> None:
    del name


hit = _armed if _NAME in NAMES else _unarmed
"""`hit("append")`: dies here if the environment says so."""
