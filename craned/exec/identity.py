"""Becoming the user for as long as it takes to start his processes.

A shim of root takes the user's real and effective ids (and groups), keeping root only as the
*saved* id. What it opens then is opened with the user's rights, and what it executes has the user's
ids alone: execve(2) copies the effective id over the saved one, and a process that executes with a
nonzero effective id keeps no capability (credentials(7), capabilities(7)). This allows posix_spawn
(vfork) where setuid in a forked child would cost a copy of the shim's page tables.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass


class IdentityError(Exception):
    """The user cannot be impersonated here."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the host's name service says of a user id."""

    uid: int
    gid: int
    name: str
    """The number in digits if there is no entry."""
    home: str
    shell: str
    groups: tuple[int, ...]


def lookup(uid: int, gid: int | None = None) -> Account:
    """The account of a uid, with its supplementary groups; never fails for an unknown one.

    A uid without a passwd entry (common in containers) gets `gid` (or its own number as group),
    no other groups, home `/` and `/bin/sh`.
    """
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        group = uid if gid is None else gid
        return Account(uid, group, str(uid), "/", "/bin/sh", (group,))
    group = entry.pw_gid if gid is None else gid
    groups = tuple(sorted(set(os.getgrouplist(entry.pw_name, group))))
    return Account(uid, group, entry.pw_name, entry.pw_dir, entry.pw_shell, groups)


def group_name(gid: int) -> str:
    """Name of a group; its number in digits if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


class Identities:
    """The ids of this process: its own, and a user's while it starts something for him."""

    __slots__ = ("_groups", "_switched", "privileged", "uid")

    def __init__(self) -> None:
        self.uid = os.geteuid()
        self.privileged = self.uid == 0
        self._groups = os.getgroups()
        self._switched = False

    def become(self, uid: int, gid: int, groups: Sequence[int]) -> None:
        """Act as the user until `restore`. Raises IdentityError; then nothing has changed."""
        if not self.privileged:
            if uid != self.uid:
                raise IdentityError(
                    f"the agent runs as user {self.uid} and cannot run jobs of user {uid}; "
                    "run craned as root to serve several users"
                )
            return
        if uid == 0 and gid == 0 and {0, *groups} == {0, *self._groups}:
            return
        self._switched = True
        try:
            os.setgroups(list(groups) or [gid])
            os.setresgid(gid, gid, 0)
            os.setresuid(uid, uid, 0)
        except OSError as error:
            self.restore()
            raise IdentityError(f"cannot become user {uid}, group {gid}: {error}") from error

    def restore(self) -> None:
        """Be root again."""
        if self._switched:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups(self._groups)
            self._switched = False
