"""The controller's simulated shell: the real core, its log on a fake disk, sessions and timers.

It does what `cranectld/shell` does, in the same order: decide and apply a turn of commands, append
the batch, and only when that is durable release effects and replies. A crash may come at any of
the seams between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crane.config.model import Timeouts
from crane.session import Order, Registration
from cranectld.core.apply import apply
from cranectld.core.commands import (
    ApplyConfig,
    ClockStepped,
    Command,
    CreateStep,
    RegisterNode,
    Rejected,
    StartEpoch,
    StepGranted,
    TakeReports,
    Tick,
)
from cranectld.core.contact import ContactBook
from cranectld.core.decide import decide
from cranectld.core.due import next_due
from cranectld.core.effects import Effect, ForgetOrders, Replan
from cranectld.core.events import Logged
from cranectld.core.identity import CONTROLLER
from cranectld.core.react import react
from cranectld.core.verify import verify
from cranectld.shell.clock import Clock as EventTime
from cranectld.sim.clock import MS, US, Process, Timer, seconds
from cranectld.sim.messages import (
    AgentMessage,
    ControllerMessage,
    Hello,
    Refused,
    StepAsked,
    Welcome,
)
from cranectld.sim.network import Stream
from cranectld.sim.planning import make_planner

if TYPE_CHECKING:
    from cranectld.sim.world import World

Reply = Callable[[object], None]
TURN_COMMANDS = 64
FOLLOWED = 100 * MS
INTRODUCTION = seconds(10)
"""From a Welcome to the agent's first frame after it, at most."""


@dataclass(slots=True)
class _Batch:
    """What one turn decided: released when `seq` is durable."""

    seq: int = 0
    logged: list[Logged] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    replies: list[tuple[Reply, object]] = field(default_factory=list)


class _Link:
    """A stream of an agent; what it said, and orders for it, wait until it is registered."""

    __slots__ = ("number", "orders", "registered", "registration", "said", "stream", "terms")

    def __init__(
        self, stream: Stream, number: int, registration: Registration, terms: Timeouts
    ) -> None:
        self.stream = stream
        self.number = number
        self.registration = registration
        self.terms = terms
        """What it was told in its Welcome."""
        self.orders: list[Order] = []
        self.said: list[AgentMessage] = []
        self.registered = False


class SimulatedController(Process):
    """One cranectld process."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.process: Process = self
        self.state = world.log.recover(world.rng)
        self._time = EventTime(self.state.time, world.wall, lambda: world.clock.now)
        self.contacts = ContactBook(self.state, self.now)
        self.planner = make_planner(world.options.planner, self)
        self._inbox: deque[tuple[Command, Reply | None]] = deque()
        self._turning = False
        self._flight: deque[_Batch] = deque()
        self._to_write: list[_Batch] = []
        self._writing = False
        self._durable = self.state.seq
        self._open = False
        self._guests: dict[Stream, _Link] = {}
        """Welcomed; their agents have not proved yet that they are there."""
        self._links: dict[str, _Link] = {}
        self._newest: dict[str, int] = {}
        self._streams = 0
        self._tick: Timer | None = None
        self._ticking = False
        self._stepping = False

    def start(self) -> None:
        """Recover, start an epoch, put the configuration in force, and begin to plan."""
        self.world.checks.recovered(self.state)
        self.submit(StartEpoch(), None)
        self.submit(ApplyConfig(CONTROLLER, self.world.config), self._open_doors)
        self.planner.start()
        self.planner.wake()
        self._check_contacts()

    def _open_doors(self, _: object) -> None:
        """The epoch has begun and the configuration is in force: agents may register."""
        self._open = True

    def reconfigure(self) -> None:
        """Put the world's configuration in force, as `ccontrol reconfigure` does."""
        self.submit(ApplyConfig(CONTROLLER, self.world.config), self._reconfigured)

    def _reconfigured(self, _: object) -> None:
        """Agents that were told other terms have to register anew."""
        for node, link in list(self._links.items()):
            if link.terms != self.state.config.timeouts:
                self._end(node)

    @property
    def now(self) -> int:
        """Event time."""
        return self._time.now()

    def after(self, instant: int, action: Callable[[], None], least: int = 0) -> Timer:
        """Call at an instant of event time, and in `least` ns at the earliest."""
        delay = max(instant - self.now, least)
        return self.world.clock.after(delay, action, owner=self)

    # --- the loop --------------------------------------------------------------------------------

    def submit(self, command: Command, reply: Reply | None) -> None:
        """Put a command into the inbox; `reply` is called when it is durable."""
        self._inbox.append((command, reply))
        self._schedule()

    def _schedule(self) -> None:
        if not self._turning:
            self._turning = True
            self.world.clock.after(self.world.draw(10 * US, MS), self._turn, owner=self)

    def _turn(self) -> None:
        self._turning = False
        batch = _Batch()
        for _ in range(min(len(self._inbox), TURN_COMMANDS)):
            command, reply = self._inbox.popleft()
            self._take(command, reply, batch)
        batch.seq = self.state.seq
        self._flight.append(batch)
        if batch.logged:
            self.world.faults.hit(self, "decide")
            self._to_write.append(batch)
            self._write()
        else:
            self._release()
        self._arm()
        if self._inbox:
            self._schedule()

    def _take(self, command: Command, reply: Reply | None, batch: _Batch) -> None:
        state = self.state
        try:
            decision = decide(state, command, max(self.now, state.time))
        except Rejected as refusal:
            self.world.story.rejected(command, refusal)
            if reply is not None:
                batch.replies.append((reply, refusal))
            return
        events: list[Logged] = []
        for event in decision.events:
            logged = Logged(state.seq + 1, max(self.now, state.time), event)
            apply(state, logged)
            assert state.seq == logged.seq, "apply must advance the sequence by one"
            batch.effects.extend(react(state, logged))
            events.append(logged)
            self.world.story.event(logged)
        batch.effects.extend(decision.effects)
        if reply is not None:
            batch.replies.append((reply, decision.reply))
        if events:
            batch.logged.extend(events)
            self.planner.applied(events)
            if self.world.checking:
                verify(state)

    # --- the log ---------------------------------------------------------------------------------

    def _write(self) -> None:
        """Append what has gathered, as one row: group commit."""
        if self._writing or not self._to_write:
            return
        self._writing = True
        events = [logged for batch in self._to_write for logged in batch.logged]
        self._to_write.clear()
        row = self.world.log.write(events, self.state.epoch)
        self.world.faults.hit(self, "append")
        latency = self.world.draw(0.3 * MS, 8 * MS)
        self.world.clock.after(latency, self._synced, row, events[-1].seq, owner=self)

    def _synced(self, row: bytes, seq: int) -> None:
        self.world.log.sync()
        self._writing = False
        self._durable = seq
        self.world.checks.durable(row, self.state)
        self.world.faults.hit(self, "fsync")
        self._release()
        self._write()

    def _release(self) -> None:
        while self._flight and self._flight[0].seq <= self._durable:
            batch = self._flight.popleft()
            self._perform(batch.effects)
            for reply, answer in batch.replies:
                reply(answer)
                self.world.faults.hit(self, "reply")

    def _perform(self, effects: Sequence[Effect]) -> None:
        orders: dict[str, list[Order]] = {}
        replan = False
        for effect in effects:
            if isinstance(effect, Replan):
                replan = True
            elif isinstance(effect, ForgetOrders):
                orders.pop(effect.node, None)
                link = self._links.get(effect.node)
                if link is not None:
                    link.orders.clear()
            else:
                orders.setdefault(effect.node, []).append(effect.order)
        for node, waiting in orders.items():
            self.world.faults.hit(self, "order")
            link = self._links.get(node)
            if link is not None:
                link.orders += waiting
                self._send_orders(link)
            self.world.faults.hit(self, "order-sent")
        if replan:
            self.planner.wake()

    def _send_orders(self, link: _Link) -> None:
        if not link.registered or not link.orders:
            return
        message = ControllerMessage(self.state.epoch, orders=tuple(link.orders))
        link.orders.clear()
        link.stream.to_agent(message)
        repeat = self.world.network.weather.repeat
        if repeat and self.world.rng.random() < repeat:
            link.stream.to_agent(message)

    # --- time ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        due = None if self._ticking else next_due(self.state)
        if due is not None:
            self._tick = self.after(due, self._due, least=10 * MS)

    def _due(self) -> None:
        self._tick = None
        self._ticking = True
        self.submit(Tick(), self._ticked)

    def _ticked(self, _: object) -> None:
        self._ticking = False
        self._arm()

    def _check_contacts(self) -> None:
        ahead = self._time.ahead()
        if ahead > FOLLOWED and not self._stepping:
            self._stepping = True
            self.submit(ClockStepped(ahead), lambda _: self._stepped(ahead))
        if not self._stepping:
            self._look_who_is_late()
        period = min(seconds(self.world.config.timeouts.node) // 4, seconds(1))
        self.world.clock.after(period, self._check_contacts, owner=self)

    def _stepped(self, by: int) -> None:
        self._time.follow(by)
        self.contacts.stepped(by)
        self._stepping = False
        self.planner.wake()
        self._arm()

    def _look_who_is_late(self) -> None:
        for silent in self.contacts.late(self.now):
            # Its fence counts from what was heard last: no later word may renew the agent's lease
            # in this session, so the session ends first.
            self._end(silent.node)
            self.submit(silent, None)

    # --- sessions --------------------------------------------------------------------------------

    def received(self, stream: Stream, message: object) -> None:
        """A message of an agent."""
        if isinstance(message, Hello):
            self._hello(stream, message)
            return
        assert isinstance(message, AgentMessage)
        guest = self._guests.pop(stream, None)
        if guest is not None:
            self._register(guest)
        link = self._links.get(stream.node)
        if link is None or link.stream is not stream:
            return
        self.contacts.heard(stream.node, self.now)
        if link.registered:
            self._said(link, message)
        else:
            link.said.append(message)

    def _said(self, link: _Link, message: AgentMessage) -> None:
        node = link.stream.node
        if message.asked is not None:
            self._step_asked(link, message.asked)
        if message.reports:
            last = message.reports[-1][0]
            reports = tuple(report for _, report in message.reports)
            for seq, report in message.reports:
                self.world.story.report(node, seq, report)
            self.submit(TakeReports(node, reports), lambda answer: self._taken(link, last, answer))
        link.stream.to_agent(ControllerMessage(self.state.epoch, heard=message.clock))

    def _taken(self, link: _Link, last: int, answer: object) -> None:
        assert not isinstance(answer, Rejected), answer
        if self._links.get(link.stream.node) is link:
            link.stream.to_agent(ControllerMessage(self.state.epoch, acknowledged=last))
            self.world.faults.hit(self, "acknowledge")

    def _hello(self, stream: Stream, hello: Hello) -> None:
        if not self._open:
            stream.to_agent(Refused("the controller is starting"))
            return
        timeouts = self.state.config.timeouts
        self._streams += 1
        self._guests[stream] = _Link(stream, self._streams, hello.registration, timeouts)
        stream.to_agent(
            Welcome(
                self.state.epoch,
                self._streams,
                seconds(timeouts.lease),
                timeouts.lost_contact == "kill",
                seconds(timeouts.heartbeat),
            )
        )
        self.world.clock.after(INTRODUCTION, self._no_proof, stream, owner=self)

    def _no_proof(self, stream: Stream) -> None:
        if self._guests.pop(stream, None) is not None:
            stream.close_at(self)

    def _register(self, link: _Link) -> None:
        """Its agent is there: the stream takes the place of an older one."""
        node = link.stream.node
        if link.number < self._newest.get(node, 0):
            link.stream.close_at(self)
            return
        self._newest[node] = link.number
        old = self._links.get(node)
        self._links[node] = link
        if old is not None:
            old.stream.close_at(self)
        self.submit(RegisterNode(link.registration), lambda answer: self._registered(link, answer))

    def _registered(self, link: _Link, answer: object) -> None:
        if self._links.get(link.stream.node) is not link:
            return
        if isinstance(answer, Rejected) or link.terms != self.state.config.timeouts:
            self._end(link.stream.node)
            return
        link.registered = True
        self.contacts.heard(link.stream.node, self.now)
        for message in link.said:
            self._said(link, message)
        link.said.clear()
        self._send_orders(link)

    def _end(self, node: str) -> None:
        """End the node's session: its agent has to register to be obeyed again."""
        link = self._links.pop(node, None)
        if link is not None:
            link.stream.close_at(self)

    def broken(self, stream: Stream) -> None:
        """A stream is over."""
        self._guests.pop(stream, None)
        link = self._links.get(stream.node)
        if link is not None and link.stream is stream:
            del self._links[stream.node]

    def _step_asked(self, link: _Link, asked: StepAsked) -> None:
        principal = self.world.principal(asked.uid)

        def answer(result: object) -> None:
            assert isinstance(result, StepGranted | Rejected)
            if self._links.get(link.stream.node) is link:
                message = ControllerMessage(self.state.epoch, answer=(asked.number, result))
                link.stream.to_agent(message)

        self.submit(CreateStep(principal, asked.job_id, asked.request), answer)

    @property
    def quiet(self) -> bool:
        """Whether nothing is being decided or written."""
        return not (self._inbox or self._flight)
