"""Requests of local users that the controller decides: sent over the session, awaited here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crane.auth.door import Peer
from crane.errors import CraneError, ErrorCode
from crane.v1 import agent_pb2 as pb
from crane.wire.errors import from_wire

MAX_WAITING = 4_096
DEADLINE = 30.0
"""Seconds."""


class Forwards:
    """Numbers requests, and gives each its answer. Identities come from the kernel (Peer)."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when there is something to send."""
        self._wake = wake
        self._next_id = 1
        self._waiting: dict[int, asyncio.Future[pb.CreateStepReply]] = {}
        self._steps: list[pb.CreateStepForward] = []
        self._signals: list[pb.SignalStepForward] = []
        self.connected = False

    async def create_step(self, peer: Peer, request: pb.CreateStepRequest) -> pb.CreateStepReply:
        """The step that was made. Raises the CraneError it was refused with."""
        number, future = self._number()
        self._steps.append(
            pb.CreateStepForward(id=number, uid=peer.uid, gid=peer.gid, request=request)
        )
        return await self._answer(number, future)

    async def signal_step(self, peer: Peer, request: pb.SignalStepRequest) -> None:
        """Raises the CraneError it was refused with."""
        number, future = self._number()
        self._signals.append(
            pb.SignalStepForward(id=number, uid=peer.uid, gid=peer.gid, request=request)
        )
        await self._answer(number, future)

    def collect(self, message: pb.AgentMessage) -> None:
        """Put what waits to be sent into a message."""
        if self._steps:
            message.create_steps.extend(self._steps)
            self._steps.clear()
        if self._signals:
            message.signal_steps.extend(self._signals)
            self._signals.clear()

    def answered(self, answer: pb.CreateStepAnswer) -> None:
        """The controller's answer; one that nobody waits for any more is dropped."""
        future = self._waiting.get(answer.id)
        if future is not None and not future.done():
            future.set_result(answer.reply)

    def lost(self) -> None:
        """The session is over: whether the requests were carried out is not known."""
        self.connected = False
        self._steps.clear()
        self._signals.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(
                    CraneError(
                        ErrorCode.UNAVAILABLE,
                        "the connection to the controller broke before it answered",
                        "see with cqueue --steps whether the step was made, and try again",
                    )
                )

    def _number(self) -> tuple[int, asyncio.Future[pb.CreateStepReply]]:
        if not self.connected:
            raise CraneError(
                ErrorCode.CONTROLLER_UNREACHABLE,
                "this host's agent has no connection to the controller at the moment",
                "it dials again by itself; try again in a few seconds",
            )
        if len(self._waiting) >= MAX_WAITING:
            raise CraneError(
                ErrorCode.LIMIT_EXCEEDED,
                f"{MAX_WAITING} requests of this host wait for the controller",
                "try again later",
            )
        number = self._next_id
        self._next_id += 1
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        return number, future

    async def _answer(
        self, number: int, future: asyncio.Future[pb.CreateStepReply]
    ) -> pb.CreateStepReply:
        self._wake()
        try:
            reply = await asyncio.wait_for(future, DEADLINE)
        except TimeoutError:
            raise CraneError(
                ErrorCode.TIMED_OUT,
                f"the controller did not answer within {DEADLINE:.0f} s",
                "see with cqueue --steps whether the step was made, and try again",
            ) from None
        finally:
            del self._waiting[number]
        if reply.error.code:
            raise from_wire(reply.error)
        return reply
