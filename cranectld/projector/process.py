"""The controller's end of the projector: starts it, wakes it, lets it finish."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence


class ProjectorProcess:
    """A running projector. It ends when this process does, however that ends."""

    def __init__(self, state_dir: str, arguments: Sequence[str] = ()) -> None:
        """Start it. `arguments`: further options of `python -m cranectld.projector`."""
        theirs, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "cranectld.projector",
                    "--state-dir", state_dir, "--pipe-fd", "0", *arguments,
                ],
                stdin=theirs,  # not by its own number, which select(2) may be too small for
                start_new_session=True,  # a terminal's ^C is the controller's to handle
            )  # fmt: skip
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status; None: it runs. One that ended may be started anew at any time."""
        return self._process.poll()

    def wake(self) -> None:
        """Tell it that the log has grown; never blocks."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, b"\0")

    def close(self, timeout: float | None = None) -> int | None:
        """Let it fold the rest and make a snapshot; its exit status, None: it still does so.

        With `timeout` in seconds this waits for it; without, it is left to finish by itself.
        """
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if timeout is None:
            return self._process.poll()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
