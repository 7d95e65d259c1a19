"""Requests over TCP with gRPC, for hosts other than the controller's.

Who asks is said by a token in the metadata, which the daemon on this host issues from our peer
credentials (crane/auth/token.py). A refusal comes as `crane-error-bin` in the trailing metadata.
"""

from __future__ import annotations

import time
from collections import deque

import grpc

from crane.client.door import CALL_TIMEOUT, DoorTransport
from crane.client.transport import ConnectionLostError, error_of
from crane.errors import CraneError, ErrorCode
from crane.wire import light

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

TOKEN_KEY = "crane-token-bin"  # noqa: S105 - the name of a header
ERROR_KEY = "crane-error-bin"
_CONNECT_TIMEOUT = 5.0
_REFRESH_BEFORE = 60.0
"""Seconds before its end at which a token is replaced."""
_MAX_MESSAGE = 256 << 20
_WINDOW = 4


class GrpcTransport:
    """A channel to the controller at `address` (host:port)."""

    def __init__(self, address: str, host_door: str) -> None:
        """Raises CONTROLLER_UNREACHABLE, or what the host's daemon says to the wish for a token."""
        self.address = address
        self._host_door = host_door
        self._token = b""
        self._renew_at = 0.0
        options = (
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.max_send_message_length", _MAX_MESSAGE),
        )
        self._channel = grpc.insecure_channel(address, options)
        try:
            grpc.channel_ready_future(self._channel).result(_CONNECT_TIMEOUT)
        except grpc.FutureTimeoutError:
            self._channel.close()
            raise CraneError(
                ErrorCode.CONTROLLER_UNREACHABLE, f"no answer within {_CONNECT_TIMEOUT:g} s"
            ) from None

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def call(self, method: str, body: bytes, timeout: float | None = None) -> bytes:
        """Answer to one request. Raises CraneError."""
        invoke = self._channel.unary_unary(f"/crane.v1.Control/{method}", None, None)
        try:
            answer = invoke(body, timeout=timeout or CALL_TIMEOUT, metadata=self._metadata())
        except grpc.RpcError as error:
            raise self._error(error) from None
        assert isinstance(answer, bytes)
        return answer

    def pipeline(self, method: str, bodies: Iterable[bytes]) -> Iterator[bytes]:
        """Answers to many requests, in order, several under way at a time."""
        invoke = self._channel.unary_unary(f"/crane.v1.Control/{method}", None, None)
        under_way: deque[Any] = deque()
        try:
            for body in bodies:
                future = invoke.future(body, timeout=CALL_TIMEOUT, metadata=self._metadata())
                under_way.append(future)
                if len(under_way) >= _WINDOW:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except grpc.RpcError as error:
            raise self._error(error) from None

    def stream(self, method: str, body: bytes, timeout: float | None = None) -> Iterator[bytes]:
        """Answers of a streaming method; `timeout` bounds the whole of it."""
        invoke = self._channel.unary_stream(f"/crane.v1.Control/{method}", None, None)
        try:
            yield from invoke(body, timeout=timeout, metadata=self._metadata())
        except grpc.RpcError as error:
            raise self._error(error) from None

    def _metadata(self) -> tuple[tuple[str, bytes], ...]:
        if time.monotonic() >= self._renew_at:
            self._renew()
        return ((TOKEN_KEY, self._token),)

    def _renew(self) -> None:
        """Ask the daemon on this host for a token."""
        try:
            door = DoorTransport(self._host_door)
        except OSError as error:
            raise CraneError(
                ErrorCode.CONTROLLER_UNREACHABLE,
                f"no daemon on this host to say who we are ({self._host_door}: {error.strerror})",
                "start craned here, or use the controller's own host",
            ) from None
        try:
            body = door.call("IssueToken", light.message("IssueTokenRequest")().SerializeToString())
        finally:
            door.close()
        reply = light.message("IssueTokenReply").FromString(body)
        self._token = reply.token
        left = reply.expires / 1e9 - time.time()
        self._renew_at = time.monotonic() + max(left - _REFRESH_BEFORE, left / 2)

    def _error(self, error: grpc.RpcError) -> CraneError:
        assert isinstance(error, grpc.Call)
        for key, value in error.trailing_metadata() or ():
            if key == ERROR_KEY and isinstance(value, bytes):
                found = error_of(light.message("Error").FromString(value))
                if found is not None:
                    return found
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return CraneError(ErrorCode.TIMED_OUT, "no answer within the time allowed")
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
            return ConnectionLostError(
                ErrorCode.CONTROLLER_UNREACHABLE,
                f"the connection to {self.address} was lost: {details}",
                "the controller may have been restarted: try again",
            )
        return CraneError(ErrorCode.PROTOCOL, f"{self.address}: {code.name}: {details}")
