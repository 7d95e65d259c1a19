"""Framing of the local door: a 4-byte big-endian length, then one message (door.proto)."""

from __future__ import annotations

import struct

MAX_FRAME = 256 << 20
"""Bytes of an answer; a longer one ends the connection."""

MAX_REQUEST = 64 << 20
"""Bytes of a request, read before anybody knows whether it makes sense: many times what the client
library sends at once, and twice what the largest script and environment take that `limits` allows."""

LENGTH = struct.Struct(">I")


def frame(body: bytes) -> bytes:
    """`body` with its length in front."""
    return LENGTH.pack(len(body)) + body
