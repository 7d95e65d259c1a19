"""The session with the controller: one outgoing stream, dialled again for as long as the agent lives.

Both sides prove to hold the cluster's key before anything is obeyed, and every later frame is sealed
(crane.auth.seal). What there is to say is collected when it is sent: at once after a pause, else
at intervals that grow with how much there was, so that a burst of reports costs few messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from typing import TYPE_CHECKING, Protocol

import grpc
from grpc import aio

from crane.auth import seal
from crane.errors import CraneError, ErrorCode
from crane.v1 import agent_pb2 as pb
from crane.wire.errors import from_wire
from crane.wire.session import PROTOCOL
from craned.clock import Clock

if TYPE_CHECKING:
    Call = aio.StreamStreamCall[pb.Sealed, pb.Sealed]

log = logging.getLogger("craned.link")

WINDOW_PER_REPORT = 0.01
WINDOW = 0.08
"""Least seconds between two messages for each report of the first, and at most: the more jobs end,
the more of them share a message, a commit and an acknowledgement."""
MAX_MESSAGE = 64 << 20
"""Bytes of a message from the controller."""
WELCOME_SECONDS = 10.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
LEAST_SILENCE = 10.0
"""Seconds; a controller that says nothing for this long and three heartbeats is given up."""
BEATS_PER_LEASE = 3
"""The shims expect the lease to be renewed before half of it has passed (craned.exec.lease)."""
_NONCE_BYTES = 32
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)


class Owner(Protocol):
    """Who a session speaks for. Called from the event loop."""

    def hello(self, nonce: bytes) -> pb.Hello:
        """How the agent introduces itself now."""

    def welcomed(self, welcome: pb.Welcome) -> None:
        """A controller that holds the key has answered. It registers the node when it has read the
        first frame sent after this, and says so by answering that (`heard`).
        """

    def received(self, message: pb.ControllerMessage) -> None:
        """The next message of the session. Raises CraneError: the session is closed."""

    def outgoing(self) -> pb.AgentMessage:
        """What there is to say now."""

    def lost(self, why: str) -> None:
        """The session is over (also: none came about)."""


class Session:
    """Dials `address` (`host:port`, `unix:/path`) until `close`."""

    def __init__(self, address: str, key: bytes, owner: Owner, clock: Clock) -> None:
        self._address = address
        self._key = key
        self._owner = owner
        self._clock = clock
        self._wake = asyncio.Event()
        self._call: Call | None = None
        self._channel: seal.Channel | None = None
        self._heartbeat = 5.0
        self._last_sent = 0.0
        self._window = 0.0
        self._last_heard = 0.0
        self._beat_due = False
        self._closing = False
        self._obeyed = False
        """Whether this session has brought more than a welcome."""

    def wake(self) -> None:
        """There is something to say."""
        self._wake.set()

    def hang_up(self, why: str) -> None:
        """Close the present session; another is dialled."""
        if self._call is not None:
            log.warning("closing the session: %s", why)
            self._call.cancel()

    async def run(self) -> None:
        """Keep a session, until `close`."""
        pause = SHORTEST_PAUSE
        while not self._closing:
            why = await self._one_session()
            if self._closing:
                return
            if self._obeyed:
                pause = SHORTEST_PAUSE
            self._obeyed = False
            self._owner.lost(why)
            # Spread out: after a restart of the controller a whole cluster dials.
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            log.warning("no session with %s: %s; again in %.1f s", self._address, why, wait)
            await asyncio.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def close(self) -> None:
        """End the session in order; jobs are not touched."""
        self._closing = True
        self._wake.set()
        call = self._call
        if call is not None:
            with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
                await asyncio.wait_for(call.done_writing(), 1.0)
            call.cancel()

    async def _one_session(self) -> str:
        """Dial, talk, and say why it ended."""
        async with aio.insecure_channel(self._address, options=_OPTIONS) as channel:
            dial = channel.stream_stream(
                "/crane.v1.Agents/Session",
                request_serializer=pb.Sealed.SerializeToString,
                response_deserializer=pb.Sealed.FromString,
            )
            self._call = dial(None)
            try:
                await asyncio.wait_for(self._introduce(self._call), WELCOME_SECONDS)
                await self._talk(self._call)
            except aio.AioRpcError as error:
                return _said(error)
            except TimeoutError:
                return "the controller did not answer"
            except CraneError as error:
                return str(error)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closing or (task is not None and task.cancelling()):
                    raise
                return "the session was closed"
            finally:
                self._call.cancel()
                self._call = None
        return "the controller closed the session"

    async def _introduce(self, call: Call) -> None:
        body = self._owner.hello(secrets.token_bytes(_NONCE_BYTES)).SerializeToString()
        hello = seal.hello_mac(self._key, body)
        await call.write(pb.Sealed(body=body, counter=0, mac=hello))
        frame = await _next_frame(call)
        if frame is None:
            raise CraneError(
                ErrorCode.UNAVAILABLE,
                "the controller closed the session before it answered",
                "see its log",
            )
        seal.check_mac(seal.welcome_mac(self._key, hello, frame.body), frame.mac)
        welcome = pb.Welcome.FromString(frame.body)
        if welcome.error.code:
            raise from_wire(welcome.error)
        if welcome.protocol != PROTOCOL:
            raise CraneError(
                ErrorCode.PROTOCOL,
                f"the controller speaks version {welcome.protocol} of the session, not {PROTOCOL}",
                "run the same version of cranectld and craned",
            )
        self._channel = seal.Channel(self._key, hello, frame.mac, "agent")
        self._heartbeat = min(max(welcome.heartbeat, 0.05), 3600.0)
        if welcome.lease:
            self._heartbeat = min(self._heartbeat, welcome.lease / BEATS_PER_LEASE)
        self._owner.welcomed(welcome)

    async def _talk(self, call: Call) -> None:
        loop = asyncio.get_running_loop()
        self._last_heard = loop.time()
        self._last_sent = 0.0
        self._wake.set()  # the first frame is due whatever there is to say: it has us registered
        writer = loop.create_task(self._write(call))
        pulse = loop.create_task(self._pulse(call))
        try:
            await self._read(call)
        finally:
            for task in (writer, pulse):
                task.cancel()
            await asyncio.gather(writer, pulse, return_exceptions=True)

    async def _read(self, call: Call) -> None:
        assert self._channel is not None
        loop = asyncio.get_running_loop()
        while (frame := await _next_frame(call)) is not None:
            self._channel.open(frame.body, frame.counter, frame.mac)
            self._last_heard = loop.time()
            self._obeyed = True
            self._owner.received(pb.ControllerMessage.FromString(frame.body))

    async def _write(self, call: Call) -> None:
        assert self._channel is not None
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            early = self._last_sent + self._window - loop.time()
            if early > 0:
                await asyncio.sleep(early)
            self._wake.clear()
            message = self._owner.outgoing()
            message.clock = self._clock.now()
            message.heartbeat, self._beat_due = self._beat_due, False
            body = message.SerializeToString()
            counter, mac = self._channel.seal(body)
            self._last_sent = loop.time()
            self._window = min(WINDOW, WINDOW_PER_REPORT * len(message.reports))
            try:
                await call.write(pb.Sealed(body=body, counter=counter, mac=mac))
            except (aio.AioRpcError, asyncio.InvalidStateError):
                call.cancel()  # the reader says why
                return

    async def _pulse(self, call: Call) -> None:
        """Heartbeats when there is nothing else to say; gives up a controller that is silent."""
        loop = asyncio.get_running_loop()
        silence = max(LEAST_SILENCE, 3 * self._heartbeat)
        while True:
            await asyncio.sleep(max(0.01, self._last_sent + self._heartbeat - loop.time()))
            if loop.time() - self._last_sent >= self._heartbeat:
                self._beat_due = True
                self._wake.set()
            if loop.time() - self._last_heard > silence:
                log.warning("nothing was heard from the controller for %.0f s", silence)
                call.cancel()
                return


async def _next_frame(call: Call) -> pb.Sealed | None:
    """The next frame; None when the controller has closed the stream."""
    frame = await call.read()
    return frame if isinstance(frame, pb.Sealed) else None


def _said(error: aio.AioRpcError) -> str:
    """Why a call failed, in a line."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return f"cannot reach it ({error.details()})"
    return f"{error.code().name}: {error.details()}"
