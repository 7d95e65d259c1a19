"""Accounts of the users whose jobs run here, looked up once in a while and off the event loop.

A name service that hangs (LDAP over a broken network) must delay only the launches of users not
seen lately, never heartbeats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from craned.exec.environment import encode_environment, login_variables
from craned.exec.identity import Account, group_name, lookup

KEEP_SECONDS = 60.0
MAX_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class User:
    """Who runs a job, as this host knows him."""

    account: Account
    group: str
    """Name of his group for the job."""
    login: bytes
    """Encoded variables a login would set: what a job has when it brings no environment."""


def find_user(uid: int, gid: int) -> User:
    """The user as the host's name service has him now; never fails for an unknown one."""
    account = lookup(uid, gid)
    login = login_variables(account.name, account.home, account.shell)
    return User(account, group_name(gid), encode_environment(login))


class Accounts:
    """Recently used accounts, by uid and gid."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` counts seconds and never goes back."""
        self._clock = clock
        self._kept: dict[tuple[int, int], tuple[float, User]] = {}

    def known(self, uid: int, gid: int) -> User | None:
        """The user, if he was looked up lately."""
        kept = self._kept.get((uid, gid))
        if kept is None or kept[0] + KEEP_SECONDS < self._clock():
            return None
        return kept[1]

    async def look_up(self, uid: int, gid: int) -> User:
        """The user as the host's name service has him now."""
        user = await asyncio.to_thread(find_user, uid, gid)
        self._kept.pop((uid, gid), None)
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[uid, gid] = (self._clock(), user)
        return user
