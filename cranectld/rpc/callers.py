"""Who calls: principals from the kernel's peer credentials, from tokens, and from agents' word."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from collections import OrderedDict

from crane.auth import token as tokens
from crane.errors import CraneError, ErrorCode
from cranectld.core.identity import Principal

CACHE_SIZE = 4096
CACHE_SECONDS = 300.0


class Callers:
    """Makes principals. Root, and the user this daemon runs as, are administrators."""

    def __init__(self, key: bytes) -> None:
        """`key`: the cluster's, which tokens are signed with."""
        self._key = key
        self._own_uid = os.geteuid()
        self._names: OrderedDict[int, tuple[str, float]] = OrderedDict()

    async def of_uid(self, uid: int, gid: int) -> Principal:
        """The principal of a uid and gid that somebody trusted has established."""
        return self._principal(uid, gid, await self._name(uid))

    def of_token(self, token: bytes) -> Principal:
        """The principal a token speaks for. Raises CraneError (NOT_AUTHENTICATED)."""
        if not token:
            raise CraneError(
                ErrorCode.NOT_AUTHENTICATED,
                "the request carries no token",
                "ask the daemon on your host for one (the commands do so themselves)",
            )
        identity = tokens.verify(self._key, token, int(time.time()))
        return self._principal(identity.uid, identity.gid, identity.user)

    def issue(self, caller: Principal, lifetime: int) -> tuple[bytes, int]:
        """A token for the caller, and when it expires (ns since the epoch)."""
        now = int(time.time())
        token = tokens.issue(self._key, caller.uid, caller.gid, caller.user, now, lifetime)
        return token, tokens.verify(self._key, token, now).expires * 1_000_000_000

    def _principal(self, uid: int, gid: int, user: str) -> Principal:
        return Principal(uid=uid, gid=gid, user=user, admin=uid in (0, self._own_uid))

    async def _name(self, uid: int) -> str:
        """User name; the uid in digits where it has none. The directory may be slow: not here."""
        known = self._names.get(uid)
        now = time.monotonic()
        if known is not None and now - known[1] < CACHE_SECONDS:
            return known[0]
        name = await asyncio.to_thread(_look_up, uid)
        self._names[uid] = (name, now)
        if len(self._names) > CACHE_SIZE:
            self._names.popitem(last=False)
        return name


def _look_up(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
        name.encode()  # a name that is no valid text could not be logged
    except (KeyError, UnicodeEncodeError):
        return str(uid)
    return name
