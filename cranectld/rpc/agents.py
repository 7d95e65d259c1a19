"""The agents' service: accepts a stream, checks who dials, registers the node, runs the session."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from crane.auth.seal import Channel, check_mac, hello_mac, welcome_mac
from crane.config.model import NodeConfig, Timeouts
from crane.errors import CraneError, ErrorCode
from crane.session import Registration
from crane.v1 import agent_pb2 as pb
from crane.v1 import types_pb2 as types
from crane.wire.errors import to_wire
from crane.wire.session import PROTOCOL, device_to_wire, registration_from_wire
from cranectld.core.commands import RegisterNode, Rejected
from cranectld.core.contact import ContactBook
from cranectld.core.decide.hosts import check_host, is_same_agent
from cranectld.core.due import NS
from cranectld.core.events import ConfigApplied, Logged
from cranectld.core.state import Node
from cranectld.rpc.agent_stream import AgentStream
from cranectld.rpc.callers import Callers
from cranectld.rpc.requests import error_of, parse
from cranectld.rpc.steps import StepCreator
from cranectld.shell.blobs import BlobReader
from cranectld.shell.clock import Clock
from cranectld.shell.effects import Links
from cranectld.shell.loop import Loop

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[pb.Sealed, pb.Sealed]

log = logging.getLogger("agents")

Terms = tuple[NodeConfig, Timeouts]

RIVAL_HEARTBEATS = 3
"""A node heard within so many heartbeats is alive: nobody else may register under its name."""
INTRODUCTION_SECONDS = 10.0
"""From the opening of a stream to the agent's first frame after the Welcome, at most."""


@dataclass(frozen=True, slots=True)
class _Guest:
    """Who has proved to be there, and what he was told."""

    registration: Registration
    terms: Terms
    number: int
    """Of the stream."""
    channel: Channel
    first: pb.AgentMessage


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
        steps: StepCreator,
        key: bytes,
    ) -> None:
        self._loop = loop
        self._links = links
        self._contacts = contacts
        self._clock = clock
        self._blobs = blobs
        self._callers = callers
        self._steps = steps
        self._key = key
        self._terms: dict[str, Terms] = {}
        """What the agent of each open stream was told in its Welcome."""
        loop.on_durable.append(self._durable)

    def _durable(self, events: Sequence[Logged]) -> None:
        """End the streams of agents that have to register anew: their node is configured no more,
        or what they were told of it (devices, lease, what to do without contact) holds no longer.
        """
        if not any(isinstance(logged.event, ConfigApplied) for logged in events):
            return
        for node, link in self._links.items():
            if node in self._terms and self._terms[node] != self._present_terms(node):
                log.info("node %s has to register anew: its configuration changed", node)
                link.replaced()

    def _present_terms(self, node: str) -> Terms | None:
        state = self._loop.state
        found = state.nodes.get(node)
        return None if found is None else (found.config, state.config.timeouts)

    def _check_host(self, registration: Registration) -> None:
        """Refuse a second host under the name of one that answers, and one that comes while jobs may
        live where the node was before. A host that was rebooted has been silent for longer.

        The node is no nearer to being heard by that: it falls silent as if nobody had come.
        """
        node, state = registration.node, self._loop.state
        known = state.nodes.get(node)
        if known is None or not known.boot_id or is_same_agent(known, registration):
            return
        if node in self._links:
            self._check_rival(known, registration)
        try:
            check_host(known, registration)
        except Rejected as refused:
            raise error_of(refused) from None

    def _check_rival(self, known: Node, registration: Registration) -> None:
        node, state = registration.node, self._loop.state
        silence = (self._clock.now() - self._contacts.last_heard(node)) / NS
        if silence <= RIVAL_HEARTBEATS * state.config.timeouts.heartbeat:
            raise CraneError(
                ErrorCode.CONFLICT,
                f"another host answers as node {node} ({known.address or node}), heard"
                f" {silence:.1f} s ago",
                "give this agent the name of its own host (--node); after a restart it may take a"
                " few seconds",
            )

    async def session(self, _requests: object, context: Context) -> None:
        """Serve one stream until either side ends it.

        A Hello proves that an agent of this cluster made it once: a network may hold it back until
        the host has been rebooted and its next agent has registered. So nothing follows from it but
        a Welcome. The first frame after that is sealed with a key that is made of this Welcome:
        whoever sent it is there now, and is registered.
        """
        try:
            async with asyncio.timeout(INTRODUCTION_SECONDS):
                guest = await self._introduced(context)
        except TimeoutError:
            log.warning(
                "%s: no agent has introduced itself within %.0f s, closing",
                context.peer(),
                INTRODUCTION_SECONDS,
            )
            return
        if guest is not None:
            await self._serve(context, guest)

    async def _introduced(self, context: Context) -> _Guest | None:
        """Hello, Welcome, and the first frame that proves that the agent has got it; None: the
        stream is to be closed.
        """
        first = await context.read()
        if not isinstance(first, pb.Sealed):
            return None
        try:
            hello_seal = hello_mac(self._key, first.body)
            check_mac(hello_seal, first.mac)
        except CraneError as error:
            log.warning("%s: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            return None
        try:
            hello = parse(pb.Hello, first.body)
            registration = registration_from_wire(hello)
            terms = self._present_terms(registration.node)
            if terms is None:
                raise CraneError(
                    ErrorCode.UNKNOWN_NODE,
                    f"node {registration.node!r} is not in the controller's configuration",
                    "add it there and run ccontrol reconfigure, or start the agent with --node",
                )
            self._check_host(registration)
        except CraneError as error:
            log.warning("%s: %s", context.peer(), error)
            await self._welcome(context, hello_seal, pb.Welcome(error=_wire(error)))
            return None
        number = self._links.next_number()
        channel = await self._welcome(context, hello_seal, self._welcome_of(terms, number, hello))
        proof = await context.read()
        if not isinstance(proof, pb.Sealed):
            return None
        try:
            channel.open(proof.body, proof.counter, proof.mac)
            message = parse(pb.AgentMessage, proof.body)
        except CraneError as error:
            log.warning("node %s, from %s: %s", registration.node, context.peer(), error)
            return None
        return _Guest(registration, terms, number, channel, message)

    async def _serve(self, context: Context, guest: _Guest) -> None:
        """Register the node, then let its stream run. Where that cannot be, the stream is closed;
        the agent, which obeys nothing before its first frame is answered, dials again.
        """
        node = guest.registration.node
        stream = AgentStream(
            node,
            self._loop,
            self._contacts,
            self._clock,
            self._blobs,
            self._callers,
            self._steps,
        )
        try:
            self._check_host(guest.registration)  # another may have come since the Hello
            if not self._links.open(node, stream, guest.number):
                log.info("node %s: stream %d came too late", node, guest.number)
                return
            self._contacts.heard(node, self._clock.now())
            # Orders that follow from it wait in the stream until it runs.
            await self._loop.submit(RegisterNode(guest.registration))
            # Heard again: a silence counts from the registration on, never from before it.
            self._contacts.heard(node, self._clock.now())
            log.info("node %s registered from %s", node, context.peer())
            self._terms[node] = guest.terms
            if guest.terms != self._present_terms(node):
                log.info("node %s has to register anew: its configuration changed", node)
                return
            await stream.run(context, guest.channel, guest.first)
        except (Rejected, CraneError) as refused:
            why = error_of(refused) if isinstance(refused, Rejected) else refused
            log.warning("node %s: %s", node, why)
        finally:
            self._links.close(node, stream)
            log.info("node %s: stream %d ended", node, guest.number)

    def _welcome_of(self, terms: Terms, number: int, hello: pb.Hello) -> pb.Welcome:
        state = self._loop.state
        config, timeouts = terms
        return pb.Welcome(
            nonce=hello.nonce,
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
