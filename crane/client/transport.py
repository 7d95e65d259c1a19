"""How requests reach a daemon: over its local door, or over gRPC. Both carry encoded messages."""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode
from crane.v1.fields_pb2 import ERROR_CODES

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Protocol

    class Transport(Protocol):
        """A connection to one daemon; one request at a time, from one thread."""

        def call(self, method: str, body: bytes, timeout: float | None = None) -> bytes:
            """Answer to one request, within `timeout` seconds. Raises CraneError."""

        def pipeline(self, method: str, bodies: Iterable[bytes]) -> Iterator[bytes]:
            """Answers to many requests of one kind, in order, several under way at a time."""

        def stream(self, method: str, body: bytes, timeout: float | None = None) -> Iterator[bytes]:
            """Answers of a streaming method; `timeout` bounds the wait for each."""

        def close(self) -> None:
            """Hang up; an abandoned stream too."""


class ConnectionLostError(CraneError):
    """The daemon hung up: it was stopped or restarted, or the network failed."""


def error_of(message: Any) -> CraneError | None:
    """The exception an `Error` message stands for, None for OK.

    A code from a newer daemon becomes INTERNAL.
    """
    if not message.code:
        return None
    word = ERROR_CODES.get(message.code, "INTERNAL")
    code = ErrorCode[word] if word in ErrorCode.__members__ else ErrorCode.INTERNAL
    return CraneError(code, message.message, message.hint)


def raise_error(message: Any) -> None:
    """Raise the exception an `Error` message stands for, if it is not OK."""
    found = error_of(message)
    if found is not None:
        raise found
