"""Seals of the session between agent and controller: who speaks, in order, nothing replayed.

Frame 0 of each direction (Hello, Welcome) is authenticated with the cluster's key, the Welcome bound
to the Hello it answers; both MACs make the session's key, with which every later frame is sealed
together with its direction and counter. HMAC-SHA256 (RFC 2104) throughout.
"""

from __future__ import annotations

import hmac
from typing import Literal

from crane.errors import CraneError, ErrorCode

Side = Literal["agent", "controller"]


def _mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


def hello_mac(key: bytes, body: bytes) -> bytes:
    """MAC of an agent's Hello frame; its nonce makes it unique."""
    return _mac(key, b"crane hello 1", body)


def welcome_mac(key: bytes, hello: bytes, body: bytes) -> bytes:
    """MAC of the controller's Welcome, bound to the MAC of the Hello it answers."""
    return _mac(key, b"crane welcome 1", hello, body)


def check_mac(expected: bytes, given: bytes) -> None:
    """Compare in constant time. Raises CraneError (NOT_AUTHENTICATED)."""
    if not hmac.compare_digest(expected, given):
        raise CraneError(
            ErrorCode.NOT_AUTHENTICATED,
            "the other side does not hold this cluster's key",
            "both daemons must read the same key file",
        )


class Channel:
    """Seals what one side sends and opens what it receives, after the two hello frames."""

    def __init__(self, key: bytes, hello: bytes, welcome: bytes, side: Side) -> None:
        """`hello` and `welcome` are the MACs of the two hello frames."""
        self._key = _mac(key, b"crane session 1", hello, welcome)
        self._out, self._in = (b"A", b"C") if side == "agent" else (b"C", b"A")
        self._sent = 0
        self._received = 0

    def seal(self, body: bytes) -> tuple[int, bytes]:
        """Counter and MAC for the next frame to send."""
        self._sent += 1
        return self._sent, _mac(self._key, self._out, self._sent.to_bytes(8, "big"), body)

    def open(self, body: bytes, counter: int, mac: bytes) -> None:
        """Accept the next frame received. Raises CraneError (NOT_AUTHENTICATED)."""
        if counter != self._received + 1:
            raise CraneError(
                ErrorCode.NOT_AUTHENTICATED,
                f"frame {counter} arrived where {self._received + 1} was due",
                "the session is closed and dialled again",
            )
        check_mac(_mac(self._key, self._in, counter.to_bytes(8, "big"), body), mac)
        self._received = counter
