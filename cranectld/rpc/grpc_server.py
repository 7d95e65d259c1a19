"""The TCP door: gRPC, callers known by their tokens, agents by the cluster's key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import grpc
from grpc import aio

from crane.errors import CraneError, ErrorCode
from crane.v1 import agent_pb2
from crane.wire.errors import to_wire
from crane.wire.frames import MAX_REQUEST
from cranectld.core.identity import Principal
from cranectld.rpc.agents import Agents
from cranectld.rpc.callers import Callers
from cranectld.rpc.control import Control

if TYPE_CHECKING:
    Context = aio.ServicerContext[bytes, bytes]

log = logging.getLogger("grpc")

MAX_CALLS = 1 << 15
"""Calls under way at a time. Agents have one that lasts, or two for a moment when they dial anew:
room for more than 10,000 of them, and for clients."""

MAX_STREAMS = 128
"""Calls of one connection at a time; an agent makes one, a client a few."""

IDLE_MS = 600_000
"""A connection without a call for so long is closed; clients dial again by themselves."""

READ_TIME = 30.0
"""Seconds a request may take to arrive, once it is its turn to be read."""

READ_AT_ONCE = 4
"""Requests of one user that are read at a time: the bound on what unfinished ones hold here, as
crane.auth.quota is at the local door. The others wait, in the network's windows."""

MAX_MESSAGE = 256 << 20
"""Bytes of what is sent; for what is received, from anybody, see crane.wire.frames."""
TOKEN_KEY = "crane-token-bin"  # noqa: S105 - the name of a metadata entry
ERROR_KEY = "crane-error-bin"
"""Trailing metadata of a refused call: the `crane.v1.Error`."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.max_connection_idle_ms", IDLE_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
)

_STATUS = {
    ErrorCode.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.NOT_PERMITTED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.NOT_AUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.LIMIT_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
}


class GrpcServer:
    """Serves Control and Agents on one address."""

    def __init__(self, address: str, control: Control, agents: Agents, callers: Callers) -> None:
        """`address`: `host:port`; port 0 takes any that is free."""
        self._address = address
        self._control = control
        self._callers = callers
        self._reading: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()
        self._server = aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        # To a client these are calls with one request each. Taken as streams, a request is not read
        # before the handler asks for it: a caller without a token makes us hold nothing.
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.stream_unary_rpc_method_handler(self._unary(name)) for name in control.unary
        }
        handlers["IssueToken"] = grpc.stream_unary_rpc_method_handler(_no_token)
        handlers["WatchEvents"] = grpc.stream_stream_rpc_method_handler(self._watch)
        session = grpc.stream_stream_rpc_method_handler(
            agents.session,
            agent_pb2.Sealed.FromString,
            agent_pb2.Sealed.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("crane.v1.Control", handlers),
                grpc.method_handlers_generic_handler("crane.v1.Agents", {"Session": session}),
            )
        )

    async def start(self) -> int:
        """Listen; the port. Raises CraneError if the address is taken or wrong."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise CraneError(
                ErrorCode.SOCKET_IN_USE,
                f"cannot listen on {self._address}",
                "stop what listens there, or change controller.listen in the configuration",
            ) from error
        await self._server.start()
        return port

    async def close(self) -> None:
        """Stop; open calls are given a moment."""
        await self._server.stop(grace=0.5)

    def _caller(self, context: Context) -> Principal:
        token = b""
        for key, value in context.invocation_metadata() or ():
            if key == TOKEN_KEY and isinstance(value, bytes):
                token = value
        return self._callers.of_token(token)

    async def _read(self, caller: Principal, bodies: AsyncIterable[bytes]) -> bytes:
        """The request. Raises TIMED_OUT."""
        turn = self._reading.get(caller.uid)
        if turn is None:
            turn = self._reading[caller.uid] = asyncio.Semaphore(READ_AT_ONCE)
        async with turn:
            try:
                async with asyncio.timeout(READ_TIME):
                    return await anext(aiter(bodies), b"")
            except TimeoutError:
                raise CraneError(
                    ErrorCode.TIMED_OUT,
                    f"the request was not complete after {READ_TIME:g} seconds",
                    "send it again, or less at a time",
                ) from None

    def _unary(self, method: str) -> Callable[[AsyncIterable[bytes], Context], Awaitable[bytes]]:
        async def serve(bodies: AsyncIterable[bytes], context: Context) -> bytes:
            try:
                caller = self._caller(context)
                return await self._control.call(method, caller, await self._read(caller, bodies))
            except CraneError as error:
                await _refuse(context, error)
            except Exception as error:  # one request must not end the daemon
                log.exception("%s failed", method)
                message = f"{method} failed: {error!r}"
                await _refuse(
                    context, CraneError(ErrorCode.INTERNAL, message, "see the controller's log")
                )
            raise AssertionError("abort does not return")

        return serve

    async def _watch(self, bodies: AsyncIterable[bytes], context: Context) -> AsyncIterator[bytes]:
        try:
            caller = self._caller(context)
            async for reply in self._control.watch(caller, await self._read(caller, bodies)):
                yield reply
        except CraneError as error:
            await _refuse(context, error)


async def _no_token(_bodies: AsyncIterable[bytes], context: Context) -> bytes:
    """A token would live for ever if it could be shown for the next one."""
    error = CraneError(
        ErrorCode.NOT_PERMITTED,
        "tokens are issued where the kernel says who asks, not over the network",
        "ask the daemon on your host (its local socket)",
    )
    await _refuse(context, error)
    raise AssertionError("abort does not return")


async def _refuse(context: Context, error: CraneError) -> None:
    """End the call with the error, whole in the metadata and in words in the status."""
    wire = to_wire(error.code.name, error.message, error.hint)
    context.set_trailing_metadata(((ERROR_KEY, wire.SerializeToString()),))
    status = _STATUS.get(error.code, grpc.StatusCode.FAILED_PRECONDITION)
    await context.abort(status, str(error)[:1000])
