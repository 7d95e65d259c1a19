"""The single-writer loop: every command is decided here, one after another, and logged before told.

A turn of the loop takes some commands from the inbox (bounded by number and by time, so that reads
and heartbeats get their turn), decides and applies them, and hands the events to the writer's
thread. The next turn may come before they are durable; replies, reads and effects are released in
order, each when everything it may have seen is durable.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from crane.errors import CraneError, ErrorCode
from cranectld.core.apply import apply
from cranectld.core.commands import Command, Rejected, TakeReports
from cranectld.core.decide import decide
from cranectld.core.decide.decision import Decision
from cranectld.core.effects import Effect
from cranectld.core.events import Logged
from cranectld.core.packs import live_packs
from cranectld.core.react import react
from cranectld.core.state import State
from cranectld.shell import failpoint
from cranectld.shell.clock import Clock
from cranectld.shell.figures import Counts, Samples, Watchdog
from cranectld.shell.writer import Writer
from cranectld.store.api import Store

log = logging.getLogger("loop")

T = TypeVar("T")

MAX_TURN_COMMANDS = 512
MAX_TURN_SECONDS = 0.003
MAX_FLIGHT = 256
"""Batches not yet durable; beyond, deciding waits for the disk."""
MAX_INBOX = 100_000
MAX_WAITING_BYTES = 64 << 20
PULSE = 0.02
"""Seconds between two turns that have nothing but agents' reports to take."""
SWITCH_INTERVAL = 0.0005
"""How soon a busy loop lets the writer's thread have the interpreter, in seconds."""

Listener = Callable[[Sequence[Logged]], None]
_Future = asyncio.Future[Any] | concurrent.futures.Future[Any]


@dataclass(slots=True)
class _Batch:
    """What one turn decided: released when `seq` is durable."""

    seq: int = 0
    logged: list[Logged] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    replies: list[tuple[_Future, object]] = field(default_factory=list)


class LogFailed(Exception):  # noqa: N818 - names what happened to the log
    """The log could not be written, or an event could not be applied: the daemon must stop."""


class PartFailed(Exception):  # noqa: N818 - names what happened to the part
    """A part that the daemon is nothing without has failed: the daemon must stop."""


class Loop:
    """Owns the state. Its methods belong to the event loop's thread, but for `..._threadsafe`."""

    def __init__(self, state: State, store: Store, clock: Clock) -> None:
        """`state`: the fold of everything in `store`. Needs a running event loop."""
        self._state = state
        self._clock = clock
        self._aio = asyncio.get_running_loop()
        self._inbox: deque[tuple[Command, _Future]] = deque()
        self._flight: deque[_Batch] = deque()
        self._readers: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._urgent = 0
        """Commands of the inbox that cannot wait."""
        self._scheduled = False
        self._pulse: asyncio.TimerHandle | None = None
        self._last_turn = 0.0
        self._closing = False
        self._durable = state.seq
        self._turns = Samples()
        self._counts = Counts()
        self._watchdog = Watchdog()
        self._writer = Writer(
            store,
            lambda seq: self._call(self._made_durable, seq),
            lambda error: self._call(self._append_failed, error),
            live_packs(state),
        )
        self.failure: asyncio.Future[LogFailed | PartFailed] = self._aio.create_future()
        """Done when the daemon has to stop at once."""
        self.on_applied: list[Listener] = []
        """Told the events of each command right after they were applied (not yet durable)."""
        self.on_durable: list[Listener] = []
        """Told the events of each batch once durable, before its replies are released."""
        self.on_effects: list[Callable[[Sequence[Effect]], None]] = []
        """Told the effects of each batch once durable."""

    @property
    def state(self) -> State:
        """The present state, for those who react to `on_applied`; others use `read`."""
        return self._state

    @property
    def durable_seq(self) -> int:
        """Sequence up to which everything is on disk."""
        return self._durable

    @property
    def writer(self) -> Writer:
        """Where blobs are added before the command that refers to them."""
        return self._writer

    def start(self) -> None:
        """Begin to take commands."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._writer.start()
        self._watchdog.start()

    async def close(self) -> None:
        """Refuse new commands, finish those taken, and make all of it durable."""
        self._closing = True
        while (self._inbox or self._flight) and not self.failure.done():
            waiter = self._aio.create_future()
            self._readers.append((sys.maxsize, waiter))
            await waiter
        self._watchdog.close()
        if not self.failure.done():
            await asyncio.to_thread(self._writer.close)

    async def submit(self, command: Command) -> Any:
        """The command's reply (its type is said there), once its events are durable.

        Raises Rejected, or CraneError (UNAVAILABLE) when the loop is closing or overrun.
        """
        future: asyncio.Future[Any] = self._aio.create_future()
        self._enqueue(command, future)
        return await future

    def submit_threadsafe(self, command: Command) -> concurrent.futures.Future[Any]:
        """Submit from another thread; the future has the reply, or raises as `submit` does."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def enqueue() -> None:
            try:
                self._enqueue(command, future)
            except CraneError as error:
                future.set_exception(error)

        self._aio.call_soon_threadsafe(enqueue)
        return future

    def look_threadsafe(self, look: Callable[[State], T]) -> concurrent.futures.Future[T]:
        """`look(state)` between two commands, for another thread; not only of what is durable.
        `look` is called in the loop's thread, and must not change or keep the state.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call(_: object) -> None:
            try:
                future.set_result(look(self._state))
            except Exception as error:
                log.exception("a look at the state failed")
                future.set_exception(error)

        self._call(call, None)
        return future

    def stop_threadsafe(self, failure: PartFailed) -> None:
        """Have the daemon stop at once, from any thread."""
        self._call(self._stop, failure)

    async def read(self, look: Callable[[State], T]) -> T:
        """`look(state)`, released when what it saw is durable. `look` must not change or keep it."""
        found = look(self._state)
        await self.settled()
        return found

    async def settled(self) -> None:
        """Wait until everything applied so far is durable."""
        if self._state.seq > self._durable:
            if self.failure.done():
                raise _stopping()
            future = self._aio.create_future()
            self._readers.append((self._state.seq, future))
            await future

    async def room(self) -> None:
        """Wait while too many bytes wait for the disk (called before adding blobs)."""
        while self._writer.waiting_bytes > MAX_WAITING_BYTES and not self._closing:
            if not self._inbox and not self._flight:
                self._writer.flush()  # every job of theirs was refused: no batch takes them along
            await asyncio.sleep(0.005)

    def figures(self) -> dict[str, float]:
        """Figures for `ccontrol diag`."""
        found = {
            "loop_inbox": float(len(self._inbox)),
            "loop_flight": float(len(self._flight)),
            "log_appends": float(self._writer.appends),
            "log_waiting_bytes": float(self._writer.waiting_bytes),
        }
        found |= self._turns.figures("loop_turn")
        found |= self._watchdog.stalls.figures("loop_stall")
        found |= self._writer.latency.figures("log_append")
        return found | self._counts.figures()

    # --- taking commands -------------------------------------------------------------------------

    def _enqueue(self, command: Command, future: _Future) -> None:
        if self._closing:
            raise _stopping()
        if len(self._inbox) >= MAX_INBOX:
            self._counts.add("commands_overrun")
            raise CraneError(
                ErrorCode.UNAVAILABLE,
                f"{MAX_INBOX} commands are waiting already",
                "try again later, with more jobs per request",
            )
        self._inbox.append((command, future))
        self._urgent += not isinstance(command, TakeReports)
        self._schedule()

    def _schedule(self) -> None:
        """Have a turn come: at once, or (if nothing is urgent) a pulse after the last one.

        On a busy cluster reports come in all the time, a few from each agent; taken together they
        cost one append, one look of the planner and one of the projector.
        """
        if not self._inbox or self._scheduled or len(self._flight) >= MAX_FLIGHT:
            return
        wait = 0.0 if self._urgent else self._last_turn + PULSE - self._aio.time()
        if wait > 0:
            if self._pulse is None:
                self._pulse = self._aio.call_later(wait, self._beat)
            return
        self._scheduled = True
        self._aio.call_soon(self._turn)

    def _beat(self) -> None:
        self._pulse = None
        self._schedule()

    def _turn(self) -> None:
        """Decide some of the inbox."""
        self._scheduled = False
        if self.failure.done():
            return
        started = self._clock.monotonic()
        now, batch, taken = self._clock.now(), _Batch(), 0
        while self._inbox and taken < MAX_TURN_COMMANDS:
            command, future = self._inbox.popleft()
            self._urgent -= not isinstance(command, TakeReports)
            taken += 1
            if future.cancelled():
                continue  # whoever asked has gone before it was looked at
            try:
                self._take(command, future, now, batch)
            except Exception as error:  # the state may be half changed: nothing must follow
                log.exception("cannot apply the events of %s", type(command).__name__)
                batch.replies.append((future, None))
                self._flight.append(batch)  # so that nobody waits for its replies
                self._stop(LogFailed(f"cannot apply {type(command).__name__}: {error!r}"))
                return
            if self._clock.monotonic() - started > MAX_TURN_SECONDS:
                break
        batch.seq = self._state.seq
        self._flight.append(batch)
        if batch.logged:
            failpoint.hit("decide")
            self._writer.put(batch.logged)
            self._counts.add("loop_batches")
            self._counts.add("loop_events", len(batch.logged))
        else:
            self._release_durable()
        self._turns.add(self._clock.monotonic() - started)
        self._last_turn = 0.0 if self._inbox else self._aio.time()
        self._schedule()

    def _take(self, command: Command, future: _Future, now: int, batch: _Batch) -> None:
        state = self._state
        kind = type(command).__name__
        self._counts.add(f"command_{kind}")
        try:
            decision = decide(state, command, now)
        except Rejected as refusal:
            self._counts.add("commands_rejected")
            batch.replies.append((future, refusal))
            return
        except Exception as error:  # deciding changes nothing: only this command fails
            log.exception("cannot decide %s", kind)
            if isinstance(command, TakeReports):
                self._take_singly(command, now, batch)
                batch.replies.append((future, None))
                return
            message = f"{kind} failed: {error!r}"
            failed = CraneError(ErrorCode.INTERNAL, message, "see the controller's log")
            batch.replies.append((future, failed))
            return
        self._apply(decision, now, batch)
        batch.replies.append((future, decision.reply))

    def _take_singly(self, command: TakeReports, now: int, batch: _Batch) -> None:
        """Take reports that cannot be decided together one by one, in order, without those that are
        to blame: their agent would repeat them, and all that it says later, for ever.
        """
        for report in command.reports:
            try:
                decision = decide(self._state, TakeReports(command.node, (report,)), now)
            except Exception:
                self._counts.add("reports_dropped")
                log.exception(
                    "node %s: dropped, since it cannot be decided: %r", command.node, report
                )
                continue
            self._apply(decision, now, batch)

    def _apply(self, decision: Decision, now: int, batch: _Batch) -> None:
        """Apply what was decided, and have it logged with the batch."""
        state = self._state
        events: list[Logged] = []
        for event in decision.events:
            logged = Logged(state.seq + 1, max(now, state.time), event)
            apply(state, logged)
            assert state.seq == logged.seq, "apply must advance the sequence by one"
            batch.effects.extend(react(state, logged))
            events.append(logged)
        batch.effects.extend(decision.effects)
        if events:
            batch.logged.extend(events)
            for listener in self.on_applied:
                listener(events)

    # --- releasing -------------------------------------------------------------------------------

    def _call(self, callback: Callable[[Any], None], argument: object) -> None:
        """Run in the loop's thread; the daemon may be gone already."""
        if not self._aio.is_closed():
            self._aio.call_soon_threadsafe(callback, argument)

    def _made_durable(self, seq: int) -> None:
        self._durable = seq
        self._release_durable()
        self._schedule()

    def _release_durable(self) -> None:
        while self._flight and self._flight[0].seq <= self._durable:
            batch = self._flight.popleft()
            if batch.logged:
                self._tell(batch.logged)
            try:
                for perform in self.on_effects if batch.effects else ():
                    perform(batch.effects)
            except Exception as error:  # orders are lost: only a restart sends them again
                log.exception("cannot perform effects")
                self._flight.appendleft(batch)
                self._stop(LogFailed(f"cannot perform effects: {error!r}"))
                return
            for future, reply in batch.replies:
                _resolve(future, reply)
            if batch.logged:
                failpoint.hit("reply")
        idle = not self._flight and not self._inbox
        while self._readers and (self._readers[0][0] <= self._durable or idle):
            _resolve(self._readers.popleft()[1], None)

    def _tell(self, events: Sequence[Logged]) -> None:
        """Tell the listeners what is durable; who waits for replies must not pay for their faults."""
        for listener in self.on_durable:
            try:
                listener(events)
            except Exception:
                self._counts.add("listener_failures")
                log.exception("a listener failed at events %d..%d", events[0].seq, events[-1].seq)

    def _append_failed(self, error: Exception) -> None:
        self._stop(LogFailed(f"cannot write the log: {error}"))

    def _stop(self, failure: LogFailed | PartFailed) -> None:
        """The state may be ahead of the log: nothing more is told to anybody."""
        if self.failure.done():
            return
        self._closing = True
        self.failure.set_result(failure)
        waiting = [future for _, future in self._inbox]
        waiting += [future for batch in self._flight for future, _ in batch.replies]
        waiting += [future for _, future in self._readers]
        self._inbox.clear()
        self._urgent = 0
        self._flight.clear()
        self._readers.clear()
        for future in waiting:
            future.cancel()


def _resolve(future: _Future, reply: object) -> None:
    if future.done():
        return  # whoever asked has gone
    if isinstance(reply, Rejected | CraneError):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _stopping() -> CraneError:
    return CraneError(
        ErrorCode.UNAVAILABLE, "the controller is stopping", "try again when it is back"
    )
