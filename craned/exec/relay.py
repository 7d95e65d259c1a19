"""Streams of a `crun` step: the shim's side of the connection to the waiting command.

Frames in both directions, all integers big-endian: `type u8, rank u32, length u32, payload`.

    from the step   HELLO   payload: job i64, step i32, attempt u32, node u32, count u32,
                            ranks count x u32, then the ticket
                    STDOUT, STDERR   bytes a task has written
                    EXIT    payload: exit code u8, signal u8
                    FAIL    payload: text; the step could not be started on this host
                    DONE    no process of the step is left here, no output will follow
    to the step     STDIN   bytes for a task's standard input; empty: end of file
                    SIGNAL  payload: signal u8; to every process of the step on this host

Rank 0xFFFFFFFF in STDIN means every task. When the connection breaks the step is cancelled, as a
command that was interrupted expects.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from typing import Any

from craned.exec.protocol import LaunchOrder
from craned.exec.stdio import LaunchError, Streams

HEADER = struct.Struct("!BII")
_HELLO = struct.Struct("!qiIII")
_UCRED = struct.Struct("iII")
HELLO, STDOUT, STDERR, EXIT, FAIL, DONE, STDIN, SIGNAL = 1, 2, 3, 4, 5, 6, 16, 17
ALL_TASKS = 0xFFFFFFFF
MAX_PAYLOAD = 1 << 20
_CHUNK = 65536
_CONNECT_SECONDS = 15.0
_STALL_SECONDS = 60.0
_DRAIN_READS = 32
_LINGER_SECONDS = 1.0
_MAX_PENDING = 4 << 20
_MAX_OUTGOING = 1 << 20
"""Bytes for a crun that does not read (a stopped one, say); then the tasks' pipes fill up."""


def connect(order: LaunchOrder) -> socket.socket:
    """Connect to the waiting crun and say who we are. Raises LaunchError with code `connect`.

    The address is the user's choice, and any socket may listen there: to be called with the user's
    effective ids, which decide what can be reached and are what the listener is told (SO_PEERCRED,
    unix(7), takes those of the moment of connect(2)).
    """
    sock = None
    try:
        family, address = _resolve(order.connect)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(_CONNECT_SECONDS)
        sock.connect(address)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count = len(order.ranks)
        hello = _HELLO.pack(*order.key, order.node_id, count)
        hello += struct.pack(f"!{count}I", *order.ranks) + order.ticket.encode()
        sock.sendall(HEADER.pack(HELLO, 0, len(hello)) + hello)
    except (OSError, ValueError) as error:
        if sock is not None:
            sock.close()
        raise LaunchError(
            "connect", f"crun at {order.connect} cannot be reached from this host: {error}"
        ) from error
    return sock


def _resolve(endpoint: str) -> tuple[int, Any]:
    """Family and address of `unix:/path` or `host:port`. Raises OSError or ValueError.

    The host must be a number: a name service that does not answer would hold up the shim.
    """
    if endpoint.startswith("unix:"):
        return socket.AF_UNIX, endpoint[5:]
    host, _, port = endpoint.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError("no HOST:PORT")
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=flags)
    return found[0][0], found[0][4]


def _credentials(sock: socket.socket, order: LaunchOrder) -> list[tuple[int, int, bytes]]:
    """What a shim of root sends with every message: the user, for listeners that ask who sent it
    (SO_PASSCRED, unix(7)). They would be told root, which the shim is again by then.
    """
    if sock.family != socket.AF_UNIX or os.getresuid()[2] != 0:
        return []
    who = _UCRED.pack(os.getpid(), order.uid, order.gid)
    return [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, who)]


class Relay:
    """Carries the streams of a step's tasks; driven by the shim's poll loop."""

    def __init__(self, order: LaunchOrder, poller: select.poll) -> None:
        """Connect. Raises LaunchError."""
        self._poller = poller
        self._sock = connect(order)
        self._sock.setblocking(False)
        self._credentials = _credentials(self._sock, order)
        self._incoming = b""
        self._outgoing = bytearray()
        self._paused = False
        self._ranks = order.ranks
        self._outputs: dict[int, tuple[int, int]] = {}
        """Pipe -> (rank, STDOUT or STDERR)."""
        self._inputs: dict[int, int] = {}
        """Rank -> pipe."""
        self._pending: dict[int, bytearray] = {}
        self._ending: set[int] = set()
        self.signals: list[int] = []
        """Signals crun asked for, to be taken by the owner."""
        self.broken = False
        poller.register(self._sock, select.POLLIN)

    def of_task(self, rank: int, files: Streams) -> tuple[Streams, list[int]]:
        """Pipes for a task's CONNECT streams, and the ends to close once it has started.

        Raises OSError.
        """
        theirs: list[int] = []
        try:
            return self._pipes(rank, files, theirs), theirs
        except OSError:
            for fd in theirs:
                os.close(fd)
            raise

    def _pipes(self, rank: int, files: Streams, theirs: list[int]) -> Streams:
        ends = [files.stdin, files.stdout, files.stderr]
        for place, kind in ((1, STDOUT), (2, STDERR)):
            if ends[place] == -1:
                ours, ends[place] = os.pipe()
                theirs.append(ends[place])
                os.set_blocking(ours, False)
                self._outputs[ours] = (rank, kind)
                if not self._paused:
                    self._poller.register(ours, select.POLLIN)
        if ends[0] == -1:
            ends[0], ours = os.pipe()
            theirs.append(ends[0])
            os.set_blocking(ours, False)
            self._inputs[rank] = ours
            self._pending[rank] = bytearray()
        return Streams(*ends)

    def owns(self, fd: int) -> bool:
        """Whether an event on `fd` is for `handle`."""
        return fd == self._sock.fileno() or fd in self._outputs or fd in self._inputs.values()

    def handle(self, fd: int) -> None:
        """Something can be read from or written to `fd`."""
        if fd == self._sock.fileno():
            self._flush()
            self._receive()
        elif fd in self._outputs:
            self._forward(fd)
        else:
            for rank, pipe in list(self._inputs.items()):
                if pipe == fd:
                    self._feed(rank)

    def _forward(self, fd: int) -> bool:
        rank, kind = self._outputs[fd]
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            if not self._paused:
                self._poller.unregister(fd)
            os.close(fd)
            del self._outputs[fd]
            return False
        self.send(kind, rank, data)
        return True

    def send(self, kind: int, rank: int, payload: bytes) -> None:
        """One frame to crun, now or when it takes it."""
        if not self.broken:
            self._outgoing += HEADER.pack(kind, rank, len(payload)) + payload
            self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing and not self.broken:
                del self._outgoing[: self._sock.sendmsg((self._outgoing,), self._credentials)]
        except BlockingIOError:
            pass  # the rest goes when crun reads: POLLOUT below
        except OSError:
            self._lose()
        self._watch()

    def _watch(self) -> None:
        """Read from each side only while the other one takes what was read."""
        if not self.broken:
            full = any(len(pending) > _MAX_PENDING for pending in self._pending.values())
            events = (0 if full else select.POLLIN) | (select.POLLOUT if self._outgoing else 0)
            self._poller.modify(self._sock, events)
        pause = not self.broken and len(self._outgoing) > _MAX_OUTGOING
        if pause != self._paused:
            self._paused = pause
            for fd in self._outputs:
                if pause:
                    self._poller.unregister(fd)
                else:
                    self._poller.register(fd, select.POLLIN)

    def _lose(self) -> None:
        if not self.broken:
            self.broken = True
            self._outgoing.clear()
            self._poller.unregister(self._sock)
            self._watch()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._incoming += data
        at = 0
        while len(self._incoming) - at >= HEADER.size:
            kind, rank, length = HEADER.unpack_from(self._incoming, at)
            if length > MAX_PAYLOAD:
                self._lose()
                return
            end = at + HEADER.size + length
            if len(self._incoming) < end:
                break
            self._take(kind, rank, self._incoming[at + HEADER.size : end])
            at = end
        self._incoming = self._incoming[at:]
        self._watch()

    def _take(self, kind: int, rank: int, payload: bytes) -> None:
        if kind == SIGNAL and payload:
            self.signals.append(payload[0])
        elif kind == STDIN:
            for target in self._ranks if rank == ALL_TASKS else (rank,):
                if target in self._inputs:
                    if payload:
                        self._pending[target] += payload
                    else:
                        self._ending.add(target)
                    self._feed(target)

    def _feed(self, rank: int) -> None:
        pipe, pending = self._inputs[rank], self._pending[rank]
        try:
            while pending:
                del pending[: os.write(pipe, pending[:_CHUNK])]
        except BlockingIOError:
            self._poller.register(pipe, select.POLLOUT)
            return
        except BrokenPipeError:
            pending.clear()
            self._ending.add(rank)
        with contextlib.suppress(KeyError):  # registered only while it is full
            self._poller.unregister(pipe)
        if rank in self._ending:
            os.close(pipe)
            del self._inputs[rank], self._pending[rank]
        self._watch()

    def task_exited(self, rank: int, code: int, number: int) -> None:
        """Tell crun, after what the task has written so far."""
        for fd in [fd for fd, (owner, _) in self._outputs.items() if owner == rank]:
            for _ in range(_DRAIN_READS):
                if not self._forward(fd):
                    break
        self.send(EXIT, rank, bytes((code & 0xFF, number)))

    def finish(self, failure: str = "", patience: float = _STALL_SECONDS) -> None:
        """No process is left: send what is still in the pipes, and say so.

        A crun that takes nothing for `patience` seconds loses the rest.
        """
        deadline = time.monotonic() + patience
        for fd in list(self._outputs):
            while fd in self._outputs and self._forward(fd):
                self._wait_sent(deadline)
        if failure:
            self.send(FAIL, 0, failure.encode())
        self.send(DONE, 0, b"")
        self._wait_sent(deadline)
        self._linger()
        self.close()

    def _wait_sent(self, deadline: float) -> None:
        waiting = select.poll()  # select(2) ends at descriptor 1024
        waiting.register(self._sock, select.POLLOUT)
        while self._outgoing and not self.broken:
            left = deadline - time.monotonic()
            if left <= 0:
                self._lose()
                return
            waiting.poll(left * 1000)
            self._flush()

    def _linger(self) -> None:
        # Closing a TCP socket with unread input resets it and may lose what was just sent.
        try:
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.settimeout(_LINGER_SECONDS)
            while self._sock.recv(_CHUNK):
                pass
        except OSError:
            return  # crun is gone, or takes its time: it has had the chance to read

    def close(self) -> None:
        """Close the connection and every pipe."""
        for fd in (*self._outputs, *self._inputs.values()):
            with contextlib.suppress(KeyError):  # not registered while it has nothing to do
                self._poller.unregister(fd)
            os.close(fd)
        self._outputs.clear()
        self._inputs.clear()
        self._pending.clear()
        self._lose()
        self._sock.close()
