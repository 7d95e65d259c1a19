"""Time for the core: a Tick when something is due, NodeSilent for agents that are late, and
ClockStepped when the wall clock was set forward.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from crane.errors import CraneError
from cranectld.core.commands import ClockStepped, Command, Rejected, Tick
from cranectld.core.contact import ContactBook
from cranectld.core.due import next_due
from cranectld.core.events import Logged
from cranectld.shell.clock import Clock
from cranectld.shell.effects import Links
from cranectld.shell.loop import Loop

log = logging.getLogger("timers")

NS = 1_000_000_000
SHORTEST = 0.01
"""Seconds between two Ticks at least: what a Tick leaves due must not keep the loop busy."""

LONGEST = 60.0
"""Seconds; the host may sleep, or event time go slower: far instants are looked at again."""

CONTACT_CHECKS = 4
LONGEST_CHECK = 1.0
"""Lateness is looked for so many times per node timeout, and at least so often (seconds)."""

FOLLOWED = 0.1
"""Seconds by which the wall clock is set forward at least for event time to follow at once."""


class Timers:
    """Arms itself after every change of the state."""

    def __init__(
        self,
        loop: Loop,
        contacts: ContactBook,
        links: Links,
        clock: Clock,
        stepped: Callable[[], None],
    ) -> None:
        """`stepped`: called when event time has gone forward at once."""
        self._loop = loop
        self._links = links
        self._contacts = contacts
        self._clock = clock
        self._aio = asyncio.get_running_loop()
        self._tick: asyncio.TimerHandle | None = None
        self._next_check: asyncio.TimerHandle | None = None
        self._stale = False
        self._ticking = False
        self._stepping = False
        self._on_step = stepped
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._checked = clock.now()

    def start(self) -> None:
        """Begin, on the state as it is now."""
        self._loop.on_applied.append(self._changed)
        self._arm()
        self._check()

    def close(self) -> None:
        """Stop."""
        for handle in (self._tick, self._next_check):
            if handle is not None:
                handle.cancel()
        for task in list(self._tasks):
            task.cancel()

    def _changed(self, _events: Sequence[Logged]) -> None:
        if not self._stale:
            self._stale = True
            self._aio.call_soon(self._arm)

    def _arm(self) -> None:
        self._stale = False
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._ticking:
            return
        due = next_due(self._loop.state)
        if due is not None:
            delay = (due - self._clock.now()) / NS
            self._tick = self._aio.call_later(min(max(delay, SHORTEST), LONGEST), self._due)

    def _due(self) -> None:
        self._tick = None
        due = next_due(self._loop.state)
        if due is None or due > self._clock.now():
            self._arm()
            return
        self._ticking = True
        self._submit(Tick(), self._ticked)

    def _ticked(self) -> None:
        self._ticking = False
        self._arm()

    def _check(self) -> None:
        """Follow a wall clock that was set forward, else look who is late: what is found late on one
        side of a step must not be decided on the other.
        """
        ahead = self._clock.ahead()
        if ahead > FOLLOWED * NS and not self._stepping:
            log.warning("the wall clock was set forward by %.1f s", ahead / NS)
            self._stepping = True
            self._run(self._step(ahead))
        if not self._stepping:
            self._look_who_is_late()
        period = min(self._loop.state.config.timeouts.node / CONTACT_CHECKS, LONGEST_CHECK)
        self._next_check = self._aio.call_later(max(period, SHORTEST), self._check)

    async def _step(self, by: int) -> None:
        """Fences move first, then event time and the silences, which nobody compares in between."""
        try:
            await self._loop.submit(ClockStepped(by))
            self._clock.follow(by)
            self._contacts.stepped(by)
            self._checked += by
            self._on_step()
        except CraneError as error:
            log.info("the wall clock is not followed yet: %s", error)
        finally:
            self._stepping = False
            self._arm()

    def _look_who_is_late(self) -> None:
        now, timeout = self._clock.now(), self._loop.state.config.timeouts.node
        if now - self._checked > (LONGEST_CHECK + max(timeout / CONTACT_CHECKS, 1.0)) * NS:
            # What agents sent meanwhile may still wait to be read.
            log.warning("this process was held up: agents are awaited anew")
            self._contacts.excuse(now)
        self._checked = now
        for silent in self._contacts.late(now):
            log.warning("node %s does not answer", silent.node)
            # Its fence counts from what was heard last: the session, which could renew the agent's
            # lease beyond it, ends first; the agent has to register to be obeyed again.
            self._links.end(silent.node)
            self._submit(silent, None)

    def _submit(self, command: Command, after: Callable[[], Any] | None) -> None:
        async def run() -> None:
            try:
                await self._loop.submit(command)
            except (Rejected, CraneError) as error:
                log.info("%s: %s", type(command).__name__, error)
            if after is not None:
                after()

        self._run(run())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._aio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
