"""The agents' service: accepts a stream, checks who dials, registers the node, runs the session."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
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
from cranectld.core.due import NS
from cranectld.core.events import ConfigApplied, Logged
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

Terms = tuple[NodeConfig, Timeouts]

RIVAL_HEARTBEATS = 3
"""A node heard within so many heartbeats is alive: nobody else may register under its name."""


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

    def _check_rival(self, registration: Registration) -> None:
        """Refuse a second host under the name of one that answers: its jobs would be taken for
        lost, and run again while they live. A host that was rebooted has been silent for longer.
        """
        node, state = registration.node, self._loop.state
        known = state.nodes[node]
        if node not in self._links or not known.boot_id:
            return
        if (known.boot_id, known.spool_id) == (registration.boot_id, registration.spool_id):
            return
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
            self._check_rival(registration)
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
            terms = self._present_terms(registration.node)
            if terms is None:
                return  # removed from the configuration this instant: the agent dials again
            self._terms[registration.node] = terms
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
