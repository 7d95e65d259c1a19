"""Requests over a daemon's local door: length-framed messages on a unix socket (door.proto)."""

from __future__ import annotations

import _socket  # `socket` wraps it in 8 ms of imports that a command does without
import errno
import time
from collections import deque

from crane.client.transport import ConnectionLostError, error_of, raise_error
from crane.errors import CraneError, ErrorCode
from crane.wire import light
from crane.wire.frames import LENGTH, MAX_FRAME, MAX_REQUEST, frame

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

CALL_TIMEOUT = 60.0
"""Seconds one answer may take; a controller under full load answers in milliseconds."""

_WINDOW = 4
"""Requests under way at a time: enough to keep both sides busy, too few to fill the socket."""

_RECEIVE = 1 << 18
_PARTING_TIME = 1.0
"""Seconds; what was said is in the socket's buffer already."""


class DoorTransport:
    """A connection to the door at `path`. Raises OSError if there is nobody."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._buffer = b""
        self._next_id = 0
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def call(self, method: str, body: bytes, timeout: float | None = None) -> bytes:
        """Answer to one request. Raises CraneError: the daemon's, TIMED_OUT, ConnectionLostError."""
        number = self._send(method, body)
        return self._answer(number, time.monotonic() + (timeout or CALL_TIMEOUT))

    def pipeline(self, method: str, bodies: Iterable[bytes]) -> Iterator[bytes]:
        """Answers to many requests, in order; the next ones travel while the first is answered."""
        under_way: deque[int] = deque()
        for body in bodies:
            under_way.append(self._send(method, body))
            if len(under_way) >= _WINDOW:
                yield self._answer(under_way.popleft(), time.monotonic() + CALL_TIMEOUT)
        while under_way:
            yield self._answer(under_way.popleft(), time.monotonic() + CALL_TIMEOUT)

    def stream(self, method: str, body: bytes, timeout: float | None = None) -> Iterator[bytes]:
        """Answers of a streaming method, until the daemon ends it; `timeout` is for each of them.

        A stream ends only with its connection: close the transport to abandon it.
        """
        number = self._send(method, body)
        while True:
            deadline = None if timeout is None else time.monotonic() + timeout
            reply = self._reply(number, deadline)
            if not reply.more:
                return
            yield reply.body

    def _send(self, method: str, body: bytes) -> int:
        self._next_id += 1
        request = light.message("DoorRequest")(id=self._next_id, method=method, body=body)
        data = frame(request.SerializeToString())
        if len(data) > MAX_REQUEST:
            raise CraneError(
                ErrorCode.LIMIT_EXCEEDED,
                f"the request has {len(data)} bytes; at most {MAX_REQUEST} are allowed",
                "send less at a time",
            )
        self._socket.settimeout(CALL_TIMEOUT)
        try:
            # Commands end by SIGPIPE when nobody reads their output; this is not their output.
            self._socket.sendall(data, _socket.MSG_NOSIGNAL)
        except OSError as error:
            raise self._parting_word(error) from None
        return self._next_id

    def _answer(self, number: int, deadline: float) -> bytes:
        body: bytes = self._reply(number, deadline).body
        return body

    def _reply(self, number: int, deadline: float | None) -> Any:
        """The next reply. Raises the error it carries; number 0 is about the whole connection."""
        reply = self._frame(deadline)
        if reply.id != number and not (reply.id == 0 and reply.HasField("error")):
            raise _protocol(f"answered request {reply.id} where {number} was due")
        if reply.HasField("error"):
            raise_error(reply.error)
        return reply

    def _frame(self, deadline: float | None) -> Any:
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
        if length > MAX_FRAME:
            raise _protocol(f"announced an answer of {length} bytes")
        try:
            return light.message("DoorReply").FromString(self._read(length, deadline))
        except light.DecodeError as error:
            raise _protocol(f"sent what is no answer ({error})") from None

    def _parting_word(self, error: OSError) -> CraneError:
        """What the daemon said before it hung up on us, or that the connection was lost."""
        deadline = time.monotonic() + _PARTING_TIME
        try:
            while (reply := self._frame(deadline)).id:
                pass  # answers to what was sent before
            return error_of(reply.error) or self._lost(error)
        except CraneError:
            return self._lost(error)

    def _read(self, size: int, deadline: float | None) -> bytes:
        chunks = [self._buffer]
        have = len(self._buffer)
        while have < size:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                # 0 would mean "do not wait at all": what has arrived may still be read.
                self._socket.settimeout(None if left is None else max(left, 0.001))
                chunk = self._socket.recv(_RECEIVE)
            except TimeoutError:
                self._buffer = b"".join(chunks)
                raise CraneError(
                    ErrorCode.TIMED_OUT,
                    "no answer within the time allowed",
                    "is the daemon overloaded or stopped? (ccontrol diag)",
                ) from None
            except OSError as error:
                raise self._lost(error) from None
            if not chunk:
                raise self._lost(OSError(errno.ECONNRESET, "the other side hung up"))
            chunks.append(chunk)
            have += len(chunk)
        data = b"".join(chunks)
        self._buffer = data[size:]
        return data[:size]

    def _lost(self, error: OSError) -> ConnectionLostError:
        return ConnectionLostError(
            ErrorCode.CONTROLLER_UNREACHABLE,
            f"the connection to {self.path} was lost: {error.strerror or error}",
            "the daemon may have been restarted: try again",
        )


def _protocol(what: str) -> CraneError:
    return CraneError(
        ErrorCode.PROTOCOL,
        f"the daemon {what}",
        "use the same version of the commands and the daemons",
    )
