"""Framing of the local door: a 4-byte big-endian length, then one message (door.proto)."""

from __future__ import annotations

import struct

MAX_FRAME = 256 << 20
"""Bytes; a longer frame closes the connection."""

LENGTH = struct.Struct(">I")


def frame(body: bytes) -> bytes:
    """`body` with its length in front."""
    return LENGTH.pack(len(body)) + body
