"""What one user may hold of a daemon's door at a time: connections, and bytes of requests.

A request is kept whole in memory before anybody knows whether it makes sense. So its length is
counted before the first byte is read, and until it is answered: no user can make the daemon hold
more, however many requests he leaves unfinished.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from crane.errors import CraneError, ErrorCode
from crane.wire.frames import MAX_REQUEST

MAX_CONNECTIONS = 200
"""Of one user at a time; root and the daemon's own user may have more."""

MAX_BYTES = 2 * MAX_REQUEST
"""Bytes of one user's requests, from their announcement to their answer."""

TRUSTED_BYTES = 16 * MAX_REQUEST
"""The same of root's and of the daemon's own user's."""

SMALL = 1 << 16
"""Bytes of a request that is not counted: a connection's buffer has that many anyway, and a user
whose large requests are under way can still look at his jobs and cancel them."""


class Quota:
    """Counts per user id. The arguments are for doors that allow other amounts."""

    def __init__(
        self,
        connections: int = MAX_CONNECTIONS,
        request_bytes: int = MAX_BYTES,
        trusted: Collection[int] | None = None,
    ) -> None:
        """`trusted`: user ids with any number of connections; None: root, and the daemon's own."""
        self._most_connections = connections
        self._most_bytes = request_bytes
        self._trusted = (0, os.geteuid()) if trusted is None else trusted
        self._connections: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()

    def connect(self, uid: int) -> None:
        """Count a connection. Raises LIMIT_EXCEEDED if there are as many as there may be."""
        if self._connections[uid] >= self._most_connections and uid not in self._trusted:
            raise CraneError(
                ErrorCode.LIMIT_EXCEEDED,
                f"user {uid} has {self._connections[uid]} connections to this daemon, "
                f"at most {self._most_connections} are allowed",
                "end some of the commands that run, or keep one connection for many requests",
            )
        self._connections[uid] += 1

    def disconnect(self, uid: int) -> None:
        """A connection that was counted has ended."""
        _less(self._connections, uid, 1)

    @contextmanager
    def request(self, uid: int, size: int) -> Iterator[None]:
        """Count a request of `size` bytes while it is read and answered. Raises LIMIT_EXCEEDED."""
        if size <= SMALL:
            yield
            return
        most = TRUSTED_BYTES if uid in self._trusted else self._most_bytes
        if self._bytes[uid] + size > most:
            raise CraneError(
                ErrorCode.LIMIT_EXCEEDED,
                f"a request of {size} bytes does not fit: user {uid} has {self._bytes[uid]} bytes "
                f"of requests under way, at most {most} are allowed",
                "wait for their answers, or send less at a time",
            )
        self._bytes[uid] += size
        try:
            yield
        finally:
            _less(self._bytes, uid, size)


def _less(counts: Counter[int], uid: int, by: int) -> None:
    counts[uid] -= by
    assert counts[uid] >= 0, "given back more than was taken"
    if not counts[uid]:
        del counts[uid]
