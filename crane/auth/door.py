"""The local door: a unix socket whose peers the kernel names (SO_PEERCRED, unix(7)).

Python's gRPC cannot tell who is at the other end of a unix socket; this can. Frames are those of
`proto/crane/v1/door.proto`; one connection carries requests one after another, a stream until the
client closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

from google.protobuf.message import DecodeError

from crane.auth.quota import Quota
from crane.errors import CraneError, ErrorCode
from crane.v1.door_pb2 import DoorReply, DoorRequest
from crane.wire.errors import to_wire
from crane.wire.frames import LENGTH, MAX_REQUEST, frame

_UCRED = struct.Struct("iII")

ACCEPT_PAUSE = 1.0
"""Seconds the door takes nobody after it could not take one: no descriptor or memory, mostly."""

READ_TIME = 30.0
"""Seconds from the first byte of a request to its last. Between requests a client may be idle."""

_BACKLOG = 512


class Peer(NamedTuple):
    """Credentials of the process that connected, as the kernel recorded them."""

    pid: int
    uid: int
    gid: int


Unary = Callable[[Peer, bytes], Awaitable[bytes]]
Stream = Callable[[Peer, bytes], AsyncIterator[bytes]]
Crash = Callable[[str, BaseException], None]


class DoorServer:
    """Serves `unary` and `streams` by method name. A handler answers bytes or raises CraneError."""

    def __init__(
        self,
        path: str,
        unary: Mapping[str, Unary],
        streams: Mapping[str, Stream],
        on_crash: Crash,
        longest: int = MAX_REQUEST,
        quota: Quota | None = None,
    ) -> None:
        """`on_crash` is told of exceptions that are no CraneError; the client sees INTERNAL.

        `longest`: bytes of a request; a longer one is refused unread, and its connection closed.
        `quota`: what one user may hold of the door; None: the usual.
        """
        self._path = path
        self._unary = unary
        self._streams = streams
        self._on_crash = on_crash
        self._longest = longest
        self._quota = Quota() if quota is None else quota
        self._listening: socket.socket | None = None
        self._serving: dict[asyncio.Task[None], socket.socket] = {}
        self._taking = True

    async def start(self) -> None:
        """Listen. Raises CraneError if another daemon does already, or the place is no good."""
        remove_stale_socket(self._path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listening.bind(self._path)
            os.chmod(self._path, 0o666)  # noqa: S103 - all may knock; SO_PEERCRED says who did
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise CraneError(
                ErrorCode.SOCKET_UNUSABLE,
                f"cannot listen on {self._path}: {error.strerror or error}",
                "choose a shorter path in a directory this user can write",
            ) from error
        self._listening = listening
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    async def close(self) -> None:
        """Stop listening, drop the connections, remove the socket."""
        if self._listening is None:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        self._listening = None
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    # asyncio's own server loses what it has accepted but not yet handed over when it is closed;
    # here a connection has its task, and the task its connection, from the first moment.

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_BACKLOG):
            try:
                taken, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # The loop would call again at once, for ever.
                loop.remove_reader(listening)
                loop.call_later(ACCEPT_PAUSE, self._accept_again, listening)
                if self._taking:
                    self._taking = False
                    self._on_crash("accept", error)
                return
            self._taking = True
            taken.setblocking(False)
            creds = taken.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            peer = Peer(*_UCRED.unpack(creds))
            try:
                self._quota.connect(peer.uid)
            except CraneError as error:
                _turn_away(taken, error)  # one user must not take every descriptor there is
                continue
            task = loop.create_task(self._serve(peer, taken))
            self._serving[task] = taken
            task.add_done_callback(partial(self._served, peer))

    def _accept_again(self, listening: socket.socket) -> None:
        if listening is self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _served(self, peer: Peer, task: asyncio.Task[None]) -> None:
        self._serving.pop(task).close()
        self._quota.disconnect(peer.uid)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash("connection", error)

    async def _serve(self, peer: Peer, taken: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=taken)
        try:
            while await self._next(peer, reader, writer):
                pass
        except CraneError as error:
            writer.write(_refusal(error))
        except ConnectionError:
            pass  # the client went away
        except asyncio.CancelledError:
            writer.transport.abort()  # it may never read what is still to be sent
            raise
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _next(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Serve one request; False at the end, or when what came is no frame of ours.

        Raises LIMIT_EXCEEDED for one that is too long, which is left unread, and TIMED_OUT.
        """
        try:
            first = await reader.readexactly(1)
            until = asyncio.get_running_loop().time() + READ_TIME
            (length,) = LENGTH.unpack(first + await _read(reader, LENGTH.size - 1, until))
            if length > self._longest:
                raise CraneError(
                    ErrorCode.LIMIT_EXCEEDED,
                    f"the request has {length} bytes; at most {self._longest} are allowed",
                    "send less at a time",
                )
            with self._quota.request(peer.uid, length):
                request = DoorRequest.FromString(await _read(reader, length, until))
                await self._answer(peer, request, writer)
        except (asyncio.IncompleteReadError, DecodeError):
            return False
        return True

    async def _answer(self, peer: Peer, request: DoorRequest, out: asyncio.StreamWriter) -> None:
        reply = DoorReply(id=request.id)
        try:
            if request.method in self._streams:
                async for body in self._streams[request.method](peer, request.body):
                    part = DoorReply(id=request.id, body=body, more=True)
                    out.write(frame(part.SerializeToString()))
                    await out.drain()
            elif request.method in self._unary:
                reply.body = await self._unary[request.method](peer, request.body)
            else:
                raise CraneError(
                    ErrorCode.BAD_REQUEST,
                    f"this daemon has no method {request.method!r}",
                    "use the same version of the commands and the daemons",
                )
        except CraneError as error:
            reply.error.CopyFrom(to_wire(error.code.name, error.message, error.hint))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - one request must not end the daemon
            self._on_crash(request.method, error)
            reply.error.CopyFrom(
                to_wire("INTERNAL", f"{request.method} failed: {error!r}", "see the daemon's log")
            )
        out.write(frame(reply.SerializeToString()))
        await out.drain()


async def _read(reader: asyncio.StreamReader, size: int, until: float) -> bytes:
    """So many bytes. Raises TIMED_OUT after the instant `until` of the loop's clock."""
    try:
        async with asyncio.timeout_at(until):
            return await reader.readexactly(size)
    except TimeoutError:
        raise CraneError(
            ErrorCode.TIMED_OUT,
            f"the request was not complete after {READ_TIME:g} seconds",
            "send it again, without a break",
        ) from None


def _refusal(error: CraneError) -> bytes:
    """The frame that ends a connection: number 0, it answers no request in particular."""
    reply = DoorReply(error=to_wire(error.code.name, error.message, error.hint))
    return frame(reply.SerializeToString())


def _turn_away(taken: socket.socket, error: CraneError) -> None:
    """Say why, and hang up. A fresh socket's buffer takes a frame; nothing is waited for."""
    with taken, contextlib.suppress(OSError):
        taken.send(_refusal(error))


def remove_stale_socket(path: str) -> None:
    """Make way for a socket at `path`. Raises CraneError if a live daemon answers there."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise CraneError(
                ErrorCode.SOCKET_UNUSABLE,
                f"{path} exists and is no socket",
                "remove it, or configure another path",
            )
    except FileNotFoundError:
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except (ConnectionRefusedError, FileNotFoundError):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    finally:
        probe.close()
    raise CraneError(
        ErrorCode.SOCKET_IN_USE,
        f"another daemon listens on {path}",
        "stop it first, or configure another path",
    )
