"""Keeps the projector running beside the controller, which can do without it for a while."""

from __future__ import annotations

import asyncio
import logging

from cranectld.projector.process import ProjectorProcess

log = logging.getLogger("projector")

LOOK = 1.0
"""Seconds between two looks whether it still runs."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before it is started again; doubled each time it ends soon."""
STEADY = 60.0
"""Seconds after which it counts as running well."""
PATIENCE = 15.0
"""Seconds it has, when the controller stops, to fold the rest and make a snapshot; if that is not
enough it finishes by itself."""


class ProjectorKeeper:
    """Starts the projector, and again whenever it ends."""

    def __init__(self, state_dir: str, *, keep_log: bool = True) -> None:
        """`keep_log` False: it may have the log's beginning removed (`controller.keep_log`)."""
        self._state_dir = state_dir
        self._arguments = () if keep_log else ("--prune-log",)
        self._process: ProjectorProcess | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._pause = FIRST_PAUSE
        self.starts = 0

    def start(self) -> None:
        """Start it; needs a running event loop."""
        aio = asyncio.get_running_loop()
        self._began = aio.time()
        self.starts += 1
        try:
            self._process = ProjectorProcess(self._state_dir, self._arguments)
        except OSError as error:  # too many processes or open files: there may be room later
            log.error("cannot be started: %s", error)
            self._retry()
            return
        self._timer = aio.call_later(LOOK, self._look)

    def wake(self) -> None:
        """The log has grown."""
        if self._process is not None:
            self._process.wake()

    async def close(self) -> None:
        """Let it finish."""
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            status = await asyncio.to_thread(self._process.close, PATIENCE)
            if status is None:
                log.info(
                    "still makes a snapshot (pid %d); it will end by itself", self._process.pid
                )

    def _look(self) -> None:
        assert self._process is not None
        aio = asyncio.get_running_loop()
        status = self._process.poll()
        if status is None:
            self._timer = aio.call_later(LOOK, self._look)
            return
        self._process.close()
        self._process = None
        if aio.time() - self._began > STEADY:
            self._pause = FIRST_PAUSE
        log.warning("ended with status %d; starting it again in %.1f s", status, self._pause)
        self._retry()

    def _retry(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause, self.start)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
