"""What comes in as bytes and is kept as a reference: scripts, command lines, environments.

They go to the writer's open pack before the command that refers to them is submitted: then they are
durable no later than its events. Equal ones of one request, and of recent requests, are stored once.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence

from crane.jobspec import BlobRef
from cranectld.rpc.pace import Pace
from cranectld.shell.blobs import BlobReader
from cranectld.shell.loop import Loop

BLOBS_REMEMBERED = 8192
REUSE_SECONDS = 60.0
"""How long a stored blob may be referred to again by later requests. Far shorter than the age at
which the projector may drop a pack that no job refers to."""


class Intake:
    """Stores blobs, and remembers where it put the latest."""

    def __init__(self, loop: Loop, reader: BlobReader) -> None:
        self._loop = loop
        self._reader = reader
        self._stored: OrderedDict[bytes, tuple[BlobRef, float]] = OrderedDict()

    async def take(self, blobs: Sequence[bytes], pace: Pace) -> list[BlobRef]:
        """Where each blob will be. Waits while too many bytes wait for the disk."""
        digests = await _digests(blobs, pace)
        await self._loop.room()
        return self._store(digests)

    def _store(self, digests: Sequence[tuple[bytes, bytes]]) -> list[BlobRef]:
        """References for (blob, digest) of a request; what is not stored yet joins the open pack."""
        now = time.monotonic()
        found: dict[bytes, BlobRef] = {}
        fresh: dict[bytes, bytes] = {}
        for blob, digest in digests:
            if digest in found or digest in fresh:
                continue
            stored = self._stored.get(digest)
            if stored is not None and now - stored[1] < REUSE_SECONDS:
                found[digest] = stored[0]
                self._loop.writer.reuse(stored[0].pack)
            else:
                fresh[digest] = blob
        new = list(fresh.values())
        refs = self._loop.writer.add_blobs(new) if new else []
        self._reader.remember(refs, new)
        for digest, ref in zip(fresh, refs, strict=True):
            found[digest] = ref
            self._stored[digest] = (ref, now)
            self._stored.move_to_end(digest)
        while len(self._stored) > BLOBS_REMEMBERED:
            self._stored.popitem(last=False)
        return [found[digest] for _, digest in digests]


async def _digests(blobs: Sequence[bytes], pace: Pace) -> list[tuple[bytes, bytes]]:
    """Every blob with what tells whether two are equal (BLAKE2b-256: RFC 7693)."""
    found: list[tuple[bytes, bytes]] = []
    for blob in blobs:
        if pace.due:
            await pace.breathe()
        found.append((blob, hashlib.blake2b(blob, digest_size=32).digest()))
    return found
