"""One open stream to an agent: what it says becomes commands, what it is owed is sent in bundles."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from crane.auth.seal import Channel
from crane.errors import CraneError
from crane.jobspec import BlobRef
from crane.session import EndCause, LaunchStep, Order, StepEnded
from crane.v1 import agent_pb2 as pb
from crane.wire.errors import to_wire
from crane.wire.orders import blob_refs, orders_to_wire
from crane.wire.session import report_from_wire
from cranectld.core.commands import Rejected, SignalStep, TakeReports
from cranectld.core.contact import ContactBook
from cranectld.rpc.callers import Callers
from cranectld.rpc.requests import error_of, parse
from cranectld.rpc.steps import StepCreator
from cranectld.shell import failpoint
from cranectld.shell.blobs import BlobReader
from cranectld.shell.clock import Clock
from cranectld.shell.loop import Loop
from cranectld.store.api import StoreError

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[pb.Sealed, pb.Sealed]

log = logging.getLogger("agents")

ORDERS_AT_ONCE = 500
MESSAGE_BYTES = 16 << 20
"""Blobs of one message, about; the largest script and environment may come on top."""
PATIENCE = 0.1
"""Seconds that acknowledgements wait for company; orders and answers take them along at once."""
MAX_UNDECIDED = 64
"""Messages of an agent that may wait for their commands; beyond, reading from it pauses."""


class AgentStream:
    """Implements `Link` for one stream; `run` lives as long as the stream does."""

    def __init__(
        self,
        node: str,
        loop: Loop,
        contacts: ContactBook,
        clock: Clock,
        blobs: BlobReader,
        callers: Callers,
        steps: StepCreator,
    ) -> None:
        self._node = node
        self._loop = loop
        self._contacts = contacts
        self._clock = clock
        self._blobs = blobs
        self._callers = callers
        self._steps = steps
        self._orders: deque[Order] = deque()
        self._answers: list[pb.CreateStepAnswer] = []
        self._acknowledged = 0
        self._told = 0
        self._heard = 0
        self._wake = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._undecided = asyncio.Semaphore(MAX_UNDECIDED)
        self._tasks: dict[asyncio.Task[None], None] = {}

    def post(self, orders: Sequence[Order]) -> None:
        """Queue orders; what has gathered by the time the stream is free goes in one message."""
        self._orders.extend(orders)
        self._wake.set()

    def forget(self) -> None:
        """Drop the orders that wait: the node has registered since they were made."""
        self._orders.clear()

    def replaced(self) -> None:
        """A newer stream of the node has taken over."""
        self._ended.set()

    async def run(self, context: Context, channel: Channel, first: pb.AgentMessage) -> None:
        """Read and write until the stream ends or a newer one takes over. `first` has been read
        already; it is answered at once, which tells the agent that it is registered.
        """
        self._heard = first.clock
        self._wake.set()
        works = [
            asyncio.ensure_future(work)
            for work in (self._read(context, channel, first), self._write(context, channel))
        ]
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            done, _ = await asyncio.wait([*works, ended], return_when=asyncio.FIRST_COMPLETED)
            for work in done:
                error = work.exception()
                if isinstance(error, CraneError):
                    log.warning("node %s: %s", self._node, error)
                elif error is not None:
                    log.error("node %s: stream failed", self._node, exc_info=error)
        finally:
            if self._soon is not None:
                self._soon.cancel()
            for task in [*works, ended, *self._tasks]:
                task.cancel()
            await asyncio.gather(*works, ended, *self._tasks, return_exceptions=True)

    # --- what the agent says ---------------------------------------------------------------------

    async def _read(self, context: Context, channel: Channel, first: pb.AgentMessage) -> None:
        await self._said(first)
        while isinstance(sealed := await context.read(), pb.Sealed):
            channel.open(sealed.body, sealed.counter, sealed.mac)
            message = parse(pb.AgentMessage, sealed.body)
            self._contacts.heard(self._node, self._clock.now())
            self._heard = message.clock
            self._wake_soon()
            await self._said(message)

    async def _said(self, message: pb.AgentMessage) -> None:
        if message.reports:
            reports = [report_from_wire(report) for report in message.reports]
            last = reports[-1][0]
            await self._start(self._take(tuple(report for _, report in reports), last))
        for create in message.create_steps:
            await self._start(self._create(create))
        for signal in message.signal_steps:
            await self._start(self._signal(signal))

    async def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin work on a command; its turn in the inbox is the order of these calls."""
        await self._undecided.acquire()
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._undecided.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Not acknowledged: the agent dials again and repeats what it had to say.
            log.error("node %s: %s; the stream is closed", self._node, error)
            self._ended.set()

    async def _take(self, reports: tuple[Any, ...], last: int) -> None:
        try:
            await self._loop.submit(TakeReports(self._node, reports))
        except BaseException:
            # At once: the next message may have been taken in the same turn, and to acknowledge that
            # one is to acknowledge all before it.
            self._ended.set()
            raise
        if self._ended.is_set():
            return
        self._acknowledged = max(self._acknowledged, last)
        self._wake_soon()

    async def _create(self, forward: pb.CreateStepForward) -> None:
        """`crun` on that host; the agent, which holds the key, vouches for the uid."""
        caller = await self._callers.of_uid(forward.uid, forward.gid)
        reply = pb.CreateStepReply()
        try:
            granted = await self._steps.create(caller, forward.request)
            reply.step, reply.attempt = granted.key.step, granted.key.attempt
            reply.nodes.extend(granted.nodes)
            reply.tasks_per_node.extend(granted.tasks_per_node)
        except Rejected as refused:
            _refuse(reply, error_of(refused))
        except CraneError as error:
            _refuse(reply, error)
        self._answer(forward.id, reply)

    async def _signal(self, forward: pb.SignalStepForward) -> None:
        caller = await self._callers.of_uid(forward.uid, forward.gid)
        request = forward.request
        reply = pb.CreateStepReply()
        try:
            await self._loop.submit(
                SignalStep(caller, request.job_id, request.step, request.signal)
            )
        except Rejected as refused:
            _refuse(reply, error_of(refused))
        except CraneError as error:
            _refuse(reply, error)
        self._answer(forward.id, reply)

    def _not_launched(self, order: Order) -> None:
        """End a step whose script or command line cannot be read. The node holds on to its share
        until the agent says that nothing of the job is there, as after any other end.
        """
        assert isinstance(order, LaunchStep)
        now = self._clock.now()
        what = "script" if order.request is None else "command line"
        why = f"not launched: the controller cannot read its {what} or environment from the store"
        end = StepEnded(order.key, EndCause.LAUNCH_FAILED, 0, 0, why, now, now)
        task = asyncio.ensure_future(self._report(end))
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _report(self, end: StepEnded) -> None:
        try:
            await self._loop.submit(TakeReports(self._node, (end,)))
        except CraneError as error:  # stopping: the order is made again when the agent registers
            log.warning("node %s: %s", self._node, error)

    def _answer(self, number: int, reply: pb.CreateStepReply) -> None:
        self._answers.append(pb.CreateStepAnswer(id=number, reply=reply))
        self._wake.set()

    def _wake_soon(self) -> None:
        """Have the writer say what can wait a little."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(PATIENCE, self._patience_ended)

    def _patience_ended(self) -> None:
        self._soon = None
        self._wake.set()

    # --- what it is owed -------------------------------------------------------------------------

    async def _write(self, context: Context, channel: Channel) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for message in await self._messages():
                if message.orders:
                    message.clock = self._clock.now()
                body = message.SerializeToString()
                counter, mac = channel.seal(body)
                if message.acknowledged:
                    failpoint.hit("acknowledge")
                await context.write(pb.Sealed(body=body, counter=counter, mac=mac))
                if message.orders:
                    failpoint.hit("order-sent")

    async def _messages(self) -> list[pb.ControllerMessage]:
        """Everything owed now: several messages only where the blobs are many."""
        count = min(len(self._orders), ORDERS_AT_ONCE)
        orders = [self._orders.popleft() for _ in range(count)]
        blobs = await self._fetch(orders)
        found = [self._message()]
        size, known = 0, dict[BlobRef, None]()
        part: list[Order] = []
        for order in orders:
            refs = blob_refs((order,))
            if any(ref not in blobs for ref in refs):
                self._not_launched(order)
                continue
            size += sum(len(blobs[ref]) for ref in refs if ref not in known)
            known |= dict.fromkeys(refs)
            part.append(order)
            if size > MESSAGE_BYTES:
                orders_to_wire(found[-1], part, blobs)
                found.append(self._message())
                size, known, part = 0, {}, []
        orders_to_wire(found[-1], part, blobs)
        if self._orders:
            self._wake.set()
        return [message for message in found if _says_something(message)]

    async def _fetch(self, orders: Iterable[Order]) -> dict[BlobRef, bytes]:
        refs = blob_refs(orders)
        try:
            return await self._blobs.fetch(refs)
        except StoreError:
            found: dict[BlobRef, bytes] = {}
            for ref in refs:
                try:
                    found |= await self._blobs.fetch((ref,))
                except StoreError as error:
                    log.error("node %s: an order is not sent: %s", self._node, error)
            return found

    def _message(self) -> pb.ControllerMessage:
        """A message with all there is to say besides orders."""
        message = pb.ControllerMessage(epoch=self._loop.state.epoch)
        if self._heard and not self._ended.is_set():
            message.heard, self._heard = self._heard, 0
            message.lease = self._loop.state.config.timeouts.lease
        if self._acknowledged > self._told:
            message.acknowledged = self._told = self._acknowledged
        message.step_answers.extend(self._answers)
        self._answers.clear()
        return message


def _says_something(message: pb.ControllerMessage) -> bool:
    return bool(message.orders or message.acknowledged or message.heard or message.step_answers)


def _refuse(reply: pb.CreateStepReply, error: CraneError) -> None:
    reply.error.CopyFrom(to_wire(error.code.name, error.message, error.hint))
