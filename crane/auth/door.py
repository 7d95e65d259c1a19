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
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple

from crane.errors import CraneError, ErrorCode
from crane.v1.door_pb2 import DoorReply, DoorRequest
from crane.wire.errors import to_wire
from crane.wire.frames import LENGTH, MAX_FRAME, frame

_UCRED = struct.Struct("iII")

MAX_CONNECTIONS = 200
"""Of one user at a time; root and the daemon's own user may have more."""


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
    ) -> None:
        """`on_crash` is told of exceptions that are no CraneError; the client sees INTERNAL."""
        self._path = path
        self._unary = unary
        self._streams = streams
        self._on_crash = on_crash
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._open: Counter[int] = Counter()

    async def start(self) -> None:
        """Listen. Raises CraneError if another daemon does already, or the place is no good."""
        remove_stale_socket(self._path)
        old = os.umask(0o117)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self._path, backlog=512)
        except OSError as error:
            raise CraneError(
                ErrorCode.SOCKET_UNUSABLE,
                f"cannot listen on {self._path}: {error.strerror or error}",
                "choose a shorter path in a directory this user can write",
            ) from error
        finally:
            os.umask(old)
        os.chmod(self._path, 0o666)  # noqa: S103 - everybody may knock; SO_PEERCRED says who did

    async def close(self) -> None:
        """Stop listening, drop the connections, remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = None
        sock: socket.socket = writer.get_extra_info("socket")
        creds = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        peer = Peer(*_UCRED.unpack(creds))
        self._open[peer.uid] += 1
        try:
            if self._open[peer.uid] > MAX_CONNECTIONS and peer.uid not in (0, os.geteuid()):
                return  # one user must not take every descriptor the daemon may have
            while (request := await _read_request(reader)) is not None:
                await self._answer(peer, request, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the daemon is closing
        finally:
            del self._tasks[task]
            self._open[peer.uid] -= 1
            if not self._open[peer.uid]:
                del self._open[peer.uid]
            writer.close()

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


async def _read_request(reader: asyncio.StreamReader) -> DoorRequest | None:
    """Next request; None at the end, or when what came is no frame of ours."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if length > MAX_FRAME:
            return None
        return DoorRequest.FromString(await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        return None
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
