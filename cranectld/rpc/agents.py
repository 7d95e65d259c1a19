"""The agents' service: accepts a stream, checks who dials, registers the node, runs the session."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

import grpc

from crane.auth.seal import Channel, check_mac, hello_mac, welcome_mac
from crane.errors import CraneError, ErrorCode
from crane.v1 import agent_pb2 as pb
from crane.v1 import types_pb2 as types
from crane.wire.errors import to_wire
from crane.wire.session import PROTOCOL, device_to_wire, registration_from_wire
from cranectld.core.commands import RegisterNode, Rejected
from cranectld.core.contact import ContactBook
from cranectld.rpc.agent_stream import AgentStream
from cranectld.rpc.callers import Callers
from cranectld.rpc.requests import error_of, parse
from cranectld.shell.blobs import BlobReader
from cranectld.shell.clock import Clock
from cranectld.shell.effects import Links
from cranectld.shell.loop import Loop

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[pb.Sealed, pb.Sealed]

log = logging.getLogger("agents")


class Agents:
    """Handler of `crane.v1.Agents/Session`."""

    def __init__(
        self,
        loop: Loop,
        links: Links,
        contacts: ContactBook,
        clock: Clock,
        blobs: BlobReader,
        callers: Callers,
        key: bytes,
    ) -> None:
        self._loop = loop
        self._links = links
        self._contacts = contacts
        self._clock = clock
        self._blobs = blobs
        self._callers = callers
        self._key = key

    async def session(self, _requests: object, context: Context) -> None:
        """Serve one stream until either side ends it."""
        first = await context.read()
        if not isinstance(first, pb.Sealed):
            return
        try:
            hello_seal = hello_mac(self._key, first.body)
            check_mac(hello_seal, first.mac)
        except CraneError as error:
            log.warning("%s: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            return
        try:
            hello = parse(pb.Hello, first.body)
            registration = registration_from_wire(hello)
            node = self._loop.state.nodes.get(registration.node)
            if node is None:
                raise CraneError(
                    ErrorCode.UNKNOWN_NODE,
                    f"node {registration.node!r} is not in the controller's configuration",
                    "add it there and run ccontrol reconfigure, or start the agent with --node",
                )
            stream = AgentStream(
                registration.node,
                self._loop,
                self._contacts,
                self._clock,
                self._blobs,
                self._callers,
            )
            number = self._links.open(registration.node, stream)
        except CraneError as error:
            log.warning("%s: %s", context.peer(), error)
            await self._welcome(context, hello_seal, pb.Welcome(error=_wire(error)))
            return
        try:
            self._contacts.heard(registration.node, self._clock.now())
            try:
                # Orders that follow from it wait in the stream until the agent has been welcomed.
                await self._loop.submit(RegisterNode(registration))
            except (Rejected, CraneError) as refused:
                why = error_of(refused) if isinstance(refused, Rejected) else refused
                log.warning("node %s: %s", registration.node, why)
                await self._welcome(context, hello_seal, pb.Welcome(error=_wire(why)))
                return
            # Heard again: a silence counts from the registration on, never from before it.
            self._contacts.heard(registration.node, self._clock.now())
            log.info("node %s registered from %s", registration.node, context.peer())
            welcome = self._welcome_of(registration.node, number, hello.nonce)
            channel = await self._welcome(context, hello_seal, welcome)
            await stream.run(context, channel)
        finally:
            self._links.close(registration.node, stream)
            log.info("node %s: stream %d ended", registration.node, number)

    def _welcome_of(self, node: str, number: int, nonce: bytes) -> pb.Welcome:
        state = self._loop.state
        timeouts = state.config.timeouts
        config = state.nodes[node].config
        return pb.Welcome(
            nonce=nonce,
            epoch=state.epoch,
            stream=number,
            heartbeat=timeouts.heartbeat,
            lease=timeouts.lease,
            lost_contact=timeouts.lost_contact,
            devices=[device_to_wire(group) for group in config.devices],
            cluster=state.config.name,
        )

    async def _welcome(self, context: Context, hello_seal: bytes, welcome: pb.Welcome) -> Channel:
        welcome.protocol = PROTOCOL
        # The seal binds it to the Hello; a nonce of our own makes the session's key unlike any other.
        welcome.nonce = welcome.nonce or secrets.token_bytes(16)
        body = welcome.SerializeToString()
        seal = welcome_mac(self._key, hello_seal, body)
        await context.write(pb.Sealed(body=body, counter=0, mac=seal))
        return Channel(self._key, hello_seal, seal, "controller")


def _wire(error: CraneError) -> types.Error:
    return to_wire(error.code.name, error.message, error.hint)
