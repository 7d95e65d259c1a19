"""The host's own door: what `crun` and users' commands ask of the agent on their host."""

from __future__ import annotations

import logging
import pwd
import time
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from crane.auth import token
from crane.auth.door import DoorServer, Peer
from crane.errors import CraneError, ErrorCode
from crane.v1 import agent_pb2 as pb
from crane.v1 import control_pb2
from craned.link.forwards import Forwards

log = logging.getLogger("craned.door")

MAX_REQUEST = 4 << 20
"""Bytes; a step's environment and arguments fit."""
_AROUND = 1 << 10
"""Bytes of what is around a request in its frame, at most."""

Request = TypeVar("Request", bound=Message)


class HostDoor:
    """Serves CreateStep, SignalStep, IssueToken and GetHostStatus at a unix socket."""

    def __init__(
        self,
        path: str,
        key: bytes,
        forwards: Forwards,
        status: Callable[[], pb.GetHostStatusReply],
    ) -> None:
        self._key = key
        self._forwards = forwards
        self._status = status
        self._server = DoorServer(
            path,
            {
                "CreateStep": self._create_step,
                "SignalStep": self._signal_step,
                "IssueToken": self._issue_token,
                "GetHostStatus": self._get_host_status,
            },
            {},
            _crashed,
            MAX_REQUEST + _AROUND,
        )

    async def start(self) -> None:
        """Listen. Raises CraneError."""
        await self._server.start()

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        await self._server.close()

    async def _create_step(self, peer: Peer, body: bytes) -> bytes:
        reply = await self._forwards.create_step(peer, _decoded(pb.CreateStepRequest, body))
        return reply.SerializeToString()

    async def _signal_step(self, peer: Peer, body: bytes) -> bytes:
        await self._forwards.signal_step(peer, _decoded(pb.SignalStepRequest, body))
        return pb.SignalStepReply().SerializeToString()

    async def _issue_token(self, peer: Peer, body: bytes) -> bytes:
        request = _decoded(control_pb2.IssueTokenRequest, body)
        now = int(time.time())
        made = token.issue(self._key, peer.uid, peer.gid, _user(peer.uid), now, request.lifetime)
        reply = control_pb2.IssueTokenReply(token=made)
        reply.expires = token.verify(self._key, made, now).expires
        return reply.SerializeToString()

    async def _get_host_status(self, peer: Peer, body: bytes) -> bytes:
        del peer, body
        return self._status().SerializeToString()


def _decoded(kind: type[Request], body: bytes) -> Request:
    if len(body) > MAX_REQUEST:
        raise CraneError(
            ErrorCode.LIMIT_EXCEEDED,
            f"a request of {len(body)} bytes; the most is {MAX_REQUEST}",
            "pass large data in files",
        )
    try:
        return kind.FromString(body)
    except DecodeError:
        raise CraneError(
            ErrorCode.PROTOCOL,
            f"what came is no {kind.DESCRIPTOR.name}",
            "use the same version of the commands and the daemons",
        ) from None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _crashed(method: str, error: BaseException) -> None:
    log.error("%s failed", method, exc_info=error)
