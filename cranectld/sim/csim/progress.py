"""A bar on standard error, for people at a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from cranectld.sim.csim.replay import Progress, Scenario

BAR = 30


@contextlib.contextmanager
def progress_bar(scenario: Scenario) -> Iterator[Progress | None]:
    """A bar if standard error is a terminal, else None; it is gone when the replay is over."""
    if not sys.stderr.isatty():
        yield None
        return
    begun = time.monotonic()

    def show(started: int, jobs: int) -> None:
        done = started * BAR // jobs
        spent = time.monotonic() - begun
        bar = "#" * done + "." * (BAR - done)
        sys.stderr.write(f"\r{scenario} [{bar}] {started:,} of {jobs:,} jobs, {spent:.0f} s\x1b[K")
        sys.stderr.flush()

    sys.stderr.write(f"\r{scenario}: loading kernels\x1b[K")
    sys.stderr.flush()
    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
