"""Who asks: an authenticated principal, never taken from a message."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a command, as the local door or a token established it."""

    uid: int
    gid: int
    user: str
    admin: bool = False
    """root, or the user the controller runs as."""


CONTROLLER = Principal(uid=0, gid=0, user="crane", admin=True)
"""The controller acting on its own behalf."""
