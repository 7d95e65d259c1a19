"""Memory that large requests leave behind in the allocator, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def _find() -> Callable[[int], int] | None:
    """Glibc's malloc_trim(3); other C libraries have none, and need none."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


_TRIM = _find()


def give_back() -> None:
    """Return free memory to the system; some milliseconds, without the interpreter's lock."""
    if _TRIM is not None:
        _TRIM(0)
