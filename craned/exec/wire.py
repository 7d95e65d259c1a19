"""Length-prefixed frames: the one framing of the agent's local sockets.

A frame is `<IB`: the length of what follows the length field (kind and payload), the kind, then
the payload. Sockets are unix stream sockets between processes of one user on one host; the bound
on the length still holds, so that a corrupt peer costs a connection and not the memory.
"""

from __future__ import annotations

import socket
import struct

_RECEIVE = 1 << 16
HEADER = struct.Struct("<IB")
MAX_FRAME = 64 << 20
"""Bytes. A launch order fits with the largest script and environment that `limits` can allow (16 MiB
each), a job's arguments (4 MiB), and the variables and ranks of the largest step."""

# craned -> launcher (and launcher -> shim for the first four)
LAUNCH = 1
KILL = 2
SIGNAL = 3
TIME_LIMIT = 4
FORGET = 5
SNAPSHOT = 6
STOP = 7
ADOPT = 8
"""To a shim: the sender is its launcher from now on."""
QUERY = 9

# shim -> launcher -> craned
STARTED = 32
EXITED = 33
FAILED = 34
HELLO = 35
SNAPSHOT_END = 36
DUPLICATE = 37
"""From a shim: somebody has claimed this step before."""
STATE = 38
"""From a shim, answering ADOPT and QUERY: protocol version and the key it runs, if any."""

VERSION = 1
"""Of the control socket's protocol; a peer of another version is refused."""


_SEND_TIMEOUT = struct.pack("ll", 10, 0)


def bound_sending(sock: socket.socket) -> None:
    """Let a blocking socket fail rather than wait for ever on a peer that does not read.

    With Python's own timeouts every call would cost a second system call.
    """
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)


def receive(sock: socket.socket) -> bytes | None:
    """What can be read at once; empty at the end of the stream, None if there is nothing yet."""
    try:
        return sock.recv(_RECEIVE, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


class FrameError(Exception):
    """The peer sent something that is no frame: the connection cannot be used any more."""


def frame(kind: int, payload: bytes) -> bytes:
    """One frame, ready to be sent."""
    assert len(payload) < MAX_FRAME, len(payload)
    return HEADER.pack(len(payload) + 1, kind) + payload


class FrameBuffer:
    """Cuts a byte stream into frames."""

    __slots__ = ("_missing", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        """Of a frame that is not complete, and without `_missing` more bytes cannot be."""
        self._missing = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Frames completed by `data`, in order; keeps the rest. Raises FrameError."""
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return []  # joined once: a large frame comes in a thousand parts
            data = b"".join(self._parts)
            self._parts.clear()
        frames: list[tuple[int, bytes]] = []
        at, end, size = 0, len(data), HEADER.size
        while end - at >= HEADER.size:
            length, kind = HEADER.unpack_from(data, at)
            if not 1 <= length <= MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes; the most is {MAX_FRAME}")
            size = 4 + length
            if end - at < size:
                break
            frames.append((kind, data[at + HEADER.size : at + size]))
            at, size = at + size, HEADER.size
        if at < end:
            self._parts.append(data[at:])
            self._missing = size - (end - at)
        return frames
