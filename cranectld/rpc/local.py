"""The controller's local door: its socket's peers are who the kernel says they are."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from crane.auth.door import DoorServer, Peer, Stream, Unary
from cranectld.rpc.callers import Callers
from cranectld.rpc.control import Control

log = logging.getLogger("door")


def local_door(path: str, control: Control, callers: Callers) -> DoorServer:
    """A server of `control` on the unix socket `path`, not started yet."""

    def unary(method: str) -> Unary:
        async def serve(peer: Peer, body: bytes) -> bytes:
            return await control.call(method, await callers.of_uid(peer.uid, peer.gid), body)

        return serve

    async def watch(peer: Peer, body: bytes) -> AsyncIterator[bytes]:
        caller = await callers.of_uid(peer.uid, peer.gid)
        async for reply in control.watch(caller, body):
            yield reply

    streams: dict[str, Stream] = {"WatchEvents": watch}
    return DoorServer(path, {name: unary(name) for name in control.unary}, streams, _crashed)


def _crashed(method: str, error: BaseException) -> None:
    log.error("%s failed", method, exc_info=error)
