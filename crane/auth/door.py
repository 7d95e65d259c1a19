"""The local door: a unix socket whose peers the kernel names (SO_PEERCRED, unix(7)).

Python's gRPC cannot tell who is at the other end of a unix socket; this can. Frames are those of
`proto/crane/v1/door.proto`; one connection carries requests one after another, a stream until the
client closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

from crane.errors import CraneError, ErrorCode
from crane.v1.door_pb2 import DoorReply, DoorRequest
from crane.wire.errors import to_wire
from crane.wire.frames import LENGTH, MAX_REQUEST, frame

_UCRED = struct.Struct("iII")

MAX_CONNECTIONS = 200
"""Of one user at a time; root and the daemon's own user may have more."""

ACCEPT_PAUSE = 1.0
"""Seconds the door takes nobody after the system had no descriptor or memory for one more."""

_BACKLOG = 512
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


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
    ) -> None:
        """`on_crash` is told of exceptions that are no CraneError; the client sees INTERNAL.

        `longest`: bytes of a request; a longer one is refused unread, and its connection closed.
        """
        self._path = path
        self._unary = unary
        self._streams = streams
        self._on_crash = on_crash
        self._longest = longest
        self._listening: socket.socket | None = None
        self._serving: dict[asyncio.Task[None], socket.socket] = {}
        self._open: Counter[int] = Counter()

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
                if error.errno not in _EXHAUSTED:
                    raise
                loop.remove_reader(listening)
                loop.call_later(ACCEPT_PAUSE, self._accept_again, listening)
                return
            taken.setblocking(False)
            creds = taken.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            peer = Peer(*_UCRED.unpack(creds))
            if self._open[peer.uid] >= MAX_CONNECTIONS and peer.uid not in (0, os.geteuid()):
                taken.close()  # one user must not take every descriptor the daemon may have
                continue
            self._open[peer.uid] += 1
            task = loop.create_task(self._serve(peer, taken))
            self._serving[task] = taken
            task.add_done_callback(partial(self._served, peer))

    def _accept_again(self, listening: socket.socket) -> None:
        if listening is self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _served(self, peer: Peer, task: asyncio.Task[None]) -> None:
        self._serving.pop(task).close()
        self._open[peer.uid] -= 1
        if not self._open[peer.uid]:
            del self._open[peer.uid]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash("connection", error)

    async def _serve(self, peer: Peer, taken: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=taken)
        try:
            while (request := await _read_request(reader, self._longest)) is not None:
                await self._answer(peer, request, writer)
        except CraneError as error:
            reply = DoorReply(error=to_wire(error.code.name, error.message, error.hint))
            writer.write(frame(reply.SerializeToString()))
        except ConnectionError:
            pass  # the client went away
        except asyncio.CancelledError:
            writer.transport.abort()  # it may never read what is still to be sent
            raise
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

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


async def _read_request(reader: asyncio.StreamReader, longest: int) -> DoorRequest | None:
    """Next request; None at the end, or when what came is no frame of ours.

    Raises LIMIT_EXCEEDED for one of more bytes than `longest`, which are left unread.
    """
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if length > longest:
            raise CraneError(
                ErrorCode.LIMIT_EXCEEDED,
                f"the request has {length} bytes; at most {longest} are allowed",
                "send less at a time",
            )
        return DoorRequest.FromString(await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        return None
    except CraneError:
        raise
    except Exception as error:
        if type(error).__name__ == "DecodeError":
            return None
        raise


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
