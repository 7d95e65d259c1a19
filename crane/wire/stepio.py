"""Streams of a `crun` step, between the command and the shims that run its tasks.

The shims connect to the command. Frames in both directions, all integers big-endian: `type u8,
rank u32, length u32, payload` (craned/exec/relay.py is the other side).

    from the step   HELLO   payload: job i64, step i32, attempt u32, node u32, count u32,
                            ranks count x u32, then the ticket
                    STDOUT, STDERR   bytes a task has written
                    EXIT    payload: exit code u8, signal u8
                    FAIL    payload: text; the step could not be started on this host
                    DONE    no process of the step is left here, no output will follow
    to the step     STDIN   bytes for a task's standard input; empty: end of file
                    SIGNAL  payload: signal u8; to every process of the step on this host
"""

from __future__ import annotations

import struct

from crane.record import dataclass

HEADER = struct.Struct("!BII")
_HELLO = struct.Struct("!qiIII")
HELLO, STDOUT, STDERR, EXIT, FAIL, DONE, STDIN, SIGNAL = 1, 2, 3, 4, 5, 6, 16, 17
ALL_TASKS = 0xFFFFFFFF
MAX_PAYLOAD = 1 << 20
MAX_RANKS = 100_000


class FrameError(Exception):
    """What came is no frame of ours."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who connects: the step's key, the host's place in the step, its ranks, and the ticket."""

    job_id: int
    step: int
    attempt: int
    node: int
    ranks: tuple[int, ...]
    ticket: bytes


def frame(kind: int, rank: int, payload: bytes) -> bytes:
    """One frame, ready to be sent."""
    assert len(payload) <= MAX_PAYLOAD, len(payload)
    return HEADER.pack(kind, rank, len(payload)) + payload


def encode_hello(hello: Hello) -> bytes:
    """Payload of a HELLO frame."""
    count = len(hello.ranks)
    head = _HELLO.pack(hello.job_id, hello.step, hello.attempt, hello.node, count)
    return head + struct.pack(f"!{count}I", *hello.ranks) + hello.ticket


def decode_hello(payload: bytes) -> Hello:
    """The inverse of `encode_hello`. Raises FrameError."""
    try:
        job_id, step, attempt, node, count = _HELLO.unpack_from(payload)
        if count > MAX_RANKS:
            raise FrameError(f"{count} ranks on one host")
        ranks = struct.unpack_from(f"!{count}I", payload, _HELLO.size)
    except struct.error as error:
        raise FrameError(f"a greeting that does not decode: {error}") from None
    return Hello(job_id, step, attempt, node, ranks, payload[_HELLO.size + 4 * count :])


class FrameReader:
    """Cuts a byte stream into `(type, rank, payload)`."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Frames completed by `data`, in order. Raises FrameError."""
        data = self._data + data if self._data else data
        found: list[tuple[int, int, bytes]] = []
        at = 0
        while len(data) - at >= HEADER.size:
            kind, rank, length = HEADER.unpack_from(data, at)
            if length > MAX_PAYLOAD:
                raise FrameError(f"a frame of {length} bytes")
            end = at + HEADER.size + length
            if len(data) < end:
                break
            found.append((kind, rank, data[at + HEADER.size : end]))
            at = end
        self._data = data[at:]
        return found
