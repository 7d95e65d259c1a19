"""The agent: the pure core between the session with the controller and the launcher.

Everything that happens is told to the core, in order, on the event loop; what the core says is done
here. Work for the launcher keeps its order too: an order to end a step never overtakes the one to
launch it, though that may wait for the user's account to be looked up.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from crane.config.model import DeviceGroup
from crane.errors import CraneError
from crane.session import EndCause, Inventory, Registration, StepEnded
from crane.v1 import agent_pb2 as pb
from crane.wire.orders import orders_from_wire
from crane.wire.session import (
    device_from_wire,
    hello_to_wire,
    inventory_to_wire,
    key_to_wire,
    report_to_wire,
)
from craned.accounts import Accounts, User
from craned.clock import Clock
from craned.contact import ContactFile
from craned.core import lease
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
    Connected,
    Disconnected,
    Flush,
    Heard,
    LauncherReports,
    NotRemembered,
    OrdersReceived,
    Stimulus,
    Tick,
)
from craned.exec import protocol
from craned.exec.client import Launch as LaunchFrame
from craned.exec.client import LauncherClient, launch_frame
from craned.launch import LaunchMaker
from craned.link.forwards import Forwards
from craned.link.session import Session
from craned.outcomes import KILL_CAUSES, MAX_MESSAGE, outcome

log = logging.getLogger("craned")

_SECOND = 1_000_000_000
_TERM = 15


class Agent:
    """Made with what it found on the host; `attach` gives it a launcher and a session."""

    def __init__(
        self,
        registration: Registration,
        look: Callable[[tuple[DeviceGroup, ...]], Inventory],
        maker: LaunchMaker,
        clock: Clock,
        contact: ContactFile,
        controller: str,
    ) -> None:
        """`look` takes the inventory anew; `registration.running` is the core's at each Hello."""
        self._registration = registration
        self._look = look
        self._maker = maker
        self._clock = clock
        self._contact = contact
        self._controller = controller
        self._state = AgentState()
        self._accounts = Accounts(lambda: clock.now() / _SECOND)
        self._launcher: LauncherClient | None = None
        self._session: Session | None = None
        self._work: deque[Launch | Kill | Signal | SetLimit | Forget] = deque()
        self._looking_up: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due: int | None = None
        self._to_send: list[pb.Report] = []
        self._ahead = 0
        """Nanoseconds by which the controller's clock was ahead of ours at its last orders."""
        self._welcome: pb.Welcome | None = None
        """Of a session in which the controller has not said yet that it has registered us."""
        self.forwards = Forwards(self._wake)

    def attach(self, launcher: LauncherClient, session: Session) -> None:
        """From now on instructions are carried out."""
        self._launcher, self._session = launcher, session
        self._do_work()

    async def close(self) -> None:
        """Do nothing more. Jobs are not touched."""
        if self._timer is not None:
            self._timer.cancel()
        if self._looking_up is not None:
            self._looking_up.cancel()
            await asyncio.gather(self._looking_up, return_exceptions=True)

    def busy(self) -> bool:
        """Whether processes of a job may be alive here."""
        return any(
            attempt.live for attempts in self._state.jobs.values() for attempt in attempts.values()
        )

    def tell(self, stimulus: Stimulus) -> None:
        """Let the core know, and do what it says."""
        for instruction in handle(self._state, stimulus, self._clock.now()):
            self._perform(instruction)
        self._do_work()
        self._set_timer()

    def launcher_reports(self, reports: list[protocol.Report]) -> None:
        """Called by the launcher's client."""
        now = self._clock.now()
        self.tell(LauncherReports(tuple([outcome(report, now) for report in reports])))

    def status(self) -> pb.GetHostStatusReply:
        """What the host's door tells about this agent."""
        state = self._state
        due = lease.expiry(state)
        left = max(0, due - self._clock.now()) / _SECOND if due else 0.0
        return pb.GetHostStatusReply(
            node=self._registration.node,
            connected=state.connected,
            controller=self._controller,
            inventory=inventory_to_wire(self._registration.inventory),
            running=[key_to_wire(key) for key in state.listed()],
            pid=os.getpid(),
            reports_waiting=len(state.sent) + len(state.unsent),
            lease_left=left,
        )

    # --- the session's owner ---------------------------------------------------------------------

    def hello(self, nonce: bytes) -> pb.Hello:
        """How the agent introduces itself now."""
        state = self._state
        held = lease.claim(state, self._clock.now()) / _SECOND
        registration = replace(self._registration, held_lease=held)
        message = hello_to_wire(registration, nonce, state.first_report(), state.epoch)
        message.running.extend(key_to_wire(key) for key in state.listed())
        return message

    def welcomed(self, welcome: pb.Welcome) -> None:
        """A controller that holds the key has answered."""
        devices = tuple(device_from_wire(group) for group in welcome.devices)
        changed = devices != self._maker.devices
        self._maker.declare(welcome.cluster, devices)
        self._welcome = welcome
        if changed:
            self._declared(devices)

    def _registered(self, welcome: pb.Welcome, sent: int) -> None:
        """The controller has heard what was sent at that instant, after its Welcome. Only now the
        terms hold: it may have counted a lease to its end before, and must never see it renewed by
        a session that it does not know of.
        """
        kill = welcome.lost_contact == "kill"
        lease_ns = int(welcome.lease * _SECOND)
        self.tell(Connected(welcome.epoch, welcome.stream, lease_ns, kill, sent))
        self.forwards.connected = self._state.connected
        log.info("session %d with %s, epoch %d", welcome.stream, self._controller, welcome.epoch)

    def _declared(self, devices: tuple[DeviceGroup, ...]) -> None:
        """The controller's configuration has other device slots than ours: look at those."""
        inventory = self._look(devices)
        if inventory != self._registration.inventory:
            self._registration = replace(self._registration, inventory=inventory)
            assert self._session is not None
            self._session.hang_up("the node's devices were declared anew: registering again")

    def received(self, message: pb.ControllerMessage) -> None:
        """The next message of the session."""
        if self._welcome is not None and message.heard:
            welcome, self._welcome = self._welcome, None
            self._registered(welcome, message.heard)
        stream = self._state.stream
        if message.heard:
            self.tell(Heard(stream, message.heard, int(message.lease * _SECOND)))
        if message.orders:
            self._ahead = message.clock - self._clock.now()
            orders = orders_from_wire(message)
            self.tell(OrdersReceived(message.epoch, stream, orders, tuple(message.blobs)))
        if message.acknowledged:
            self.tell(Acknowledged(stream, message.acknowledged))
        for answer in message.step_answers:
            self.forwards.answered(answer)

    def outgoing(self) -> pb.AgentMessage:
        """What there is to say now."""
        self.tell(Flush())
        message = pb.AgentMessage(reports=self._to_send)
        self._to_send.clear()
        self.forwards.collect(message)
        return message

    def lost(self, why: str) -> None:
        """The session is over."""
        del why
        self.forwards.lost()
        self._to_send.clear()
        self._welcome = None
        if self._state.connected:
            self.tell(Disconnected(self._state.stream))

    def _wake(self) -> None:
        if self._session is not None:
            self._session.wake()

    # --- what the core says ----------------------------------------------------------------------

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Launch() | Kill() | Signal() | SetLimit() | Forget():
                self._work.append(instruction)
            case Send():
                self._to_send += [report_to_wire(seq, what) for seq, what in instruction.reports]
            case ReportsWaiting():
                self._wake()
            case Hangup():
                assert self._session is not None
                self._session.hang_up(instruction.why)
            case Remember():
                self._remember(instruction)

    def _remember(self, instruction: Remember) -> None:
        try:
            self._contact.write(instruction.contact)
        except OSError as error:
            log.error("the last contact cannot be kept on disk: %s", error)
            self.tell(NotRemembered())
            if instruction.contact.kill and self._session is not None:
                # What is launched now would be held to terms that the shims cannot read.
                self._session.hang_up("the lease cannot be kept on disk")

    def _set_timer(self) -> None:
        due = lease.next_due(self._state)
        if due == self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_due = due
        if due is not None:
            wait = max(0.0, (due - self._clock.now()) / _SECOND)
            self._timer = asyncio.get_running_loop().call_later(wait, self._timer_rang)

    def _timer_rang(self) -> None:
        self._timer_due = None
        self.tell(Tick())

    # --- work for the launcher -------------------------------------------------------------------

    def _do_work(self) -> None:
        """Everything up to the first launch whose user is not known yet."""
        if not self._work or self._launcher is None or self._looking_up is not None:
            return
        launches: list[LaunchFrame] = []
        forgotten: list[protocol.Key] = []
        failed: list[StepEnded] = []
        now = self._clock.now()
        while self._work:
            item = self._work[0]
            if isinstance(item, Launch):
                user = self._accounts.known(item.order.uid, item.order.gid)
                if user is None:
                    self._looking_up = asyncio.get_running_loop().create_task(
                        self._look_up(item.order.uid, item.order.gid)
                    )
                    break
                self._make(item, user, now, launches, failed)
            elif isinstance(item, Forget):
                forgotten.append(protocol.Key(*item.key))
            else:
                # What comes after a launch must reach the launcher after it.
                self._launcher.send_launches(launches)
                launches = []
                self._order(item, now)
            self._work.popleft()
        if launches:
            self._launcher.send_launches(launches)
        if forgotten:
            self._launcher.forget(forgotten)
        if failed:
            self.tell(LauncherReports(tuple(failed)))

    def _make(
        self,
        item: Launch,
        user: User,
        now: int,
        launches: list[LaunchFrame],
        failed: list[StepEnded],
    ) -> None:
        order = item.order
        try:
            kill = self._state.kill
            made = self._maker.make(order, item.blobs, user, now + self._ahead, leased=kill)
            launches.append(launch_frame(made))
            return
        except CraneError as error:
            log.warning("step %s is not launched: %s", order.key, error)
            message = str(error)
        except Exception as error:
            # The order comes again at every registration: it must end its own step, and not us.
            log.exception("step %s is not launched", order.key)
            message = f"no launch order can be made of the request: {error}"
        cause = EndCause.LAUNCH_FAILED
        failed.append(StepEnded(order.key, cause, 0, 0, message[:MAX_MESSAGE], now, now))

    def _order(self, item: Kill | Signal | SetLimit, now: int) -> None:
        assert self._launcher is not None
        key = protocol.Key(*item.key)
        if isinstance(item, Kill):
            self._launcher.kill(key, _TERM, float(item.grace), KILL_CAUSES[item.cause])
        elif isinstance(item, Signal):
            self._launcher.signal(key, item.signal, leaders_only=item.leaders_only)
        else:
            there = now + self._ahead
            left = max(0.0, (item.end_time - there) / _SECOND) if item.end_time else -1.0
            self._launcher.set_time_limit(key, left)

    async def _look_up(self, uid: int, gid: int) -> None:
        try:
            await self._accounts.look_up(uid, gid)
        finally:
            self._looking_up = None
        self._do_work()
