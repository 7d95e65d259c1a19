"""The agent's simulated shell: the real `craned.core` between a stream and a fake host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from crane.session import DeviceCount, Inventory, LaunchStep, Registration, StepEnded, StepStarted
from cranectld.sim.clock import MS, Process, Timer, seconds
from cranectld.sim.messages import (
    AgentMessage,
    ControllerMessage,
    Hello,
    Refused,
    StepAsked,
    Welcome,
)
from cranectld.sim.network import Stream
from craned.core import lease, verify
from craned.core.handle import handle
from craned.core.instructions import (
    Forget,
    Hangup,
    Instruction,
    Kill,
    Launch,
    Remember,
    ReportsWaiting,
    Send,
    SetLimit,
    Signal,
)
from craned.core.state import AgentState
from craned.core.stimuli import (
    Acknowledged,
    Adopted,
    Connected,
    Disconnected,
    Flush,
    Heard,
    LauncherReports,
    OrdersReceived,
    Stimulus,
    Tick,
)

if TYPE_CHECKING:
    from cranectld.sim.host import FakeHost
    from cranectld.sim.world import World

GIVE_UP = seconds(10)
"""A session in which we are not registered by then is dialled anew."""


class SimulatedAgent(Process):
    """One craned process."""

    def __init__(self, world: World, host: FakeHost) -> None:
        super().__init__()
        self.world = world
        self.host = host
        self.process: Process = self
        self.state = AgentState()
        self.stream: Stream | None = None
        self.registered = False
        self._welcome: Welcome | None = None
        """Of a session in which the controller has not said yet that it has registered us."""
        self.heartbeat = seconds(5)
        self.last_word = 0
        self._retries = 0
        self._unconfirmed: dict[object, LaunchStep] = {}
        """Launches the launcher has given no word of."""
        self._kills: dict[object, Kill] = {}
        """Kills of steps whose end is not known yet."""
        self._last_call = 0
        self._tick: Timer | None = None
        host.incarnations += 1
        self.incarnation = f"{host.name}-craned-{host.incarnations}"

    def start(self) -> None:
        """Adopt what the spool knows, then dial."""
        records = self.host.spool.records.values()
        running = tuple(
            r.started or StepStarted(r.key, r.claimed) for r in records if r.end is None
        )
        ended = tuple(r.end for r in records if r.end is not None)
        self.tell(Adopted(running, ended, self.host.spool.contact))
        self._dial()

    def die(self, *, reset: bool = True) -> None:
        """Killed. With `reset` the kernel tells the controller that the stream is over."""
        self.alive = False
        self.host.agent = None
        if reset and self.stream is not None:
            self.stream.close()

    # --- the core --------------------------------------------------------------------------------

    def tell(self, stimulus: Stimulus) -> None:
        """Let the core handle a stimulus, and do as it says."""
        instructions = handle(self.state, stimulus, self.host.now)
        if self.world.checking:
            verify.verify(self.state)
        for instruction in instructions:
            self._perform(instruction)
        self._arm()

    def _perform(self, instruction: Instruction) -> None:
        host = self.host
        match instruction:
            case Send():
                self._send_reports(instruction)
            case Launch():
                self._unconfirmed[instruction.order.key] = instruction.order
                host.launch(instruction.order, self.state.kill)
            case ReportsWaiting():
                self.world.clock.after(self.world.draw(0, 2 * MS), self.tell, Flush(), owner=self)
            case Forget():
                self.world.faults.hit(self, "forget")
                host.forget(instruction.key)
            case Kill():
                self._kills[instruction.key] = instruction
                self._to_launcher(host.kill, instruction.key, instruction.grace, instruction.cause)
            case Signal():
                self._to_launcher(host.signal, instruction.key, instruction.signal)
            case SetLimit():
                self._to_launcher(host.set_limit, instruction.key, instruction.end_time)
            case Remember():
                host.remember(instruction.contact)
            case Hangup():
                self._hang_up()

    def _to_launcher(self, action: Callable[..., None], *arguments: object) -> None:
        """After every launch that was sent before: the launcher's socket is a stream."""
        self.world.clock.after(4 * MS, action, *arguments, owner=self.host.launcher)

    def _arm(self) -> None:
        due = lease.next_due(self.state)
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if due is not None:
            self._tick = self.world.clock.at(due - self.host.skew, self.tell, Tick(), owner=self)

    # --- the launcher ----------------------------------------------------------------------------

    def ordered(self, delay: int, action: Callable[..., None], *arguments: object) -> None:
        """Call after a delay, never before what was to be called earlier."""
        self._last_call = max(self._last_call + 1, self.world.clock.now + delay)
        self.world.clock.at(self._last_call, action, *arguments, owner=self)

    def told(self, reports: tuple[StepStarted | StepEnded, ...]) -> None:
        """The launcher reports."""
        for report in reports:
            self._unconfirmed.pop(report.key, None)
            if isinstance(report, StepEnded):
                self._kills.pop(report.key, None)
        self.world.faults.hit(self, "told")
        self.tell(LauncherReports(reports))

    def launcher_revived(self) -> None:
        """A new launcher: send again what the old one may not have done."""
        for order in list(self._unconfirmed.values()):
            self.host.launch(order, self.state.kill)
        for kill in list(self._kills.values()):
            self._to_launcher(self.host.kill, kill.key, kill.grace, kill.cause)

    # --- the session -----------------------------------------------------------------------------

    def _dial(self) -> None:
        world = self.world
        self.stream = world.network.dial(self.host.name, self, world.controller)
        self.registered = False
        self._welcome = None
        if self.stream is None:
            self._dial_later()
            return
        self.stream.to_controller(Hello(self._registration()))
        world.clock.after(GIVE_UP, self._not_registered, self.stream, owner=self)

    def _dial_later(self) -> None:
        self._retries = min(self._retries + 1, 6)
        delay = self.world.draw(20 * MS, 100 * MS << self._retries)
        self.world.clock.after(delay, self._dial, owner=self)

    def _not_registered(self, stream: Stream) -> None:
        if stream is self.stream and not self.registered:
            self._hang_up()

    def _registration(self) -> Registration:
        host = self.host
        devices = tuple(DeviceCount(g.name, g.type, g.count) for g in host.config.gres)
        inventory = Inventory(host.cpus, host.memory, devices, "v2", "fake", "0", host.boots)
        return Registration(
            host.name, host.name, self.incarnation, host.boot_id, host.spool.spool_id, inventory,
            self.state.listed(), lease.claim(self.state, host.now) / seconds(1), f"{host.name}-machine",
        )  # fmt: skip

    def _hang_up(self) -> None:
        stream, self.stream = self.stream, None
        if stream is None:
            return
        stream.close_at(self)
        self._over()

    def broken(self, stream: Stream) -> None:
        """The stream is over."""
        if stream is self.stream:
            self.stream = None
            self._over()

    def _over(self) -> None:
        if self.registered:
            self.registered = False
            self.tell(Disconnected(self.state.stream))
        self._dial_later()

    def received(self, stream: Stream, message: object) -> None:
        """A message of the controller."""
        if stream is not self.stream:
            return
        self.last_word = self.world.clock.now
        if isinstance(message, ControllerMessage):
            self._controller_said(message)
        elif isinstance(message, Welcome):
            self._welcome = message
            self.heartbeat = message.heartbeat
            stream.to_controller(AgentMessage(self.host.now))
            self.world.clock.after(self.heartbeat, self._beat, stream, owner=self)
        else:
            assert isinstance(message, Refused)
            self._hang_up()

    def _controller_said(self, message: ControllerMessage) -> None:
        welcome = self._welcome
        if welcome is not None and message.heard:
            self._welcome, self.registered, self._retries = None, True, 0
            terms = (welcome.lease, welcome.kill)
            self.tell(Connected(welcome.epoch, welcome.stream, *terms, message.heard))
        number = self.state.stream
        if message.heard:
            self.tell(Heard(number, message.heard))
        if message.acknowledged:
            self.tell(Acknowledged(number, message.acknowledged))
        if message.orders:
            for order in message.orders:
                self.world.story.order(self.host.name, order)
            self.tell(OrdersReceived(message.epoch, number, message.orders))
        if message.answer is not None:
            self.world.step_answered(*message.answer)

    def _beat(self, stream: Stream) -> None:
        if stream is not self.stream:
            return
        if self.world.clock.now - self.last_word > max(3 * self.heartbeat, seconds(6)):
            self._hang_up()
            return
        weather = self.world.network.weather
        if not weather.lose_heartbeat or self.world.rng.random() >= weather.lose_heartbeat:
            stream.to_controller(AgentMessage(self.host.now))
        self.world.clock.after(self.heartbeat, self._beat, stream, owner=self)

    def _send_reports(self, send: Send) -> None:
        if self.stream is None or not self.registered:
            return
        message = AgentMessage(self.host.now, send.reports)
        self.world.faults.hit(self, "report")
        self.stream.to_controller(message)
        repeat = self.world.network.weather.repeat
        if repeat and self.world.rng.random() < repeat:
            self.stream.to_controller(message)
        if self.state.unsent:
            self.world.clock.after(MS, self.tell, Flush(), owner=self)

    def ask(self, asked: StepAsked) -> bool:
        """Hand on a `crun`; False without a session."""
        if self.stream is None or not self.registered:
            return False
        self.stream.to_controller(AgentMessage(self.host.now, asked=asked))
        return True
