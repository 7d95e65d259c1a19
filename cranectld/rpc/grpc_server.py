"""The TCP door: gRPC, callers known by their tokens, agents by the cluster's key."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

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
        self._server = aio.server(options=_OPTIONS)
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name)) for name in control.unary
        }
        handlers["IssueToken"] = grpc.unary_unary_rpc_method_handler(_no_token)
        handlers["WatchEvents"] = grpc.unary_stream_rpc_method_handler(self._watch)
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

    def _unary(self, method: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def serve(body: bytes, context: Context) -> bytes:
            try:
                return await self._control.call(method, self._caller(context), body)
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

    async def _watch(self, body: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            async for reply in self._control.watch(self._caller(context), body):
                yield reply
        except CraneError as error:
            await _refuse(context, error)


async def _no_token(_body: bytes, context: Context) -> bytes:
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
