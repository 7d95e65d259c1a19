"""Scripts and environments on their way to agents: a bounded cache before the store's packs."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from crane.jobspec import BlobRef
from cranectld.store.api import Store

CACHE_BYTES = 4 << 20
LARGEST_CACHED = 1 << 20


class BlobReader:
    """Reads blobs, from memory where they were submitted or read lately."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: OrderedDict[BlobRef, bytes] = OrderedDict()
        self._bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="blob-reader")
        self.reads = 0

    def remember(self, refs: Sequence[BlobRef], blobs: Sequence[bytes]) -> None:
        """Keep what was just submitted: most jobs start soon."""
        for ref, blob in zip(refs, blobs, strict=True):
            if len(blob) > LARGEST_CACHED or ref in self._cache:
                continue
            self._cache[ref] = blob
            self._bytes += len(blob)
        while self._bytes > CACHE_BYTES:
            _, dropped = self._cache.popitem(last=False)
            self._bytes -= len(dropped)

    async def fetch(self, refs: Sequence[BlobRef]) -> dict[BlobRef, bytes]:
        """The blobs, by reference; refs must be durable. Raises what the store raises."""
        found: dict[BlobRef, bytes] = {}
        missing: list[BlobRef] = []
        for ref in refs:
            blob = self._cache.get(ref)
            if blob is None:
                missing.append(ref)
            else:
                self._cache.move_to_end(ref)
                found[ref] = blob
        if missing:
            self.reads += 1
            loop = asyncio.get_running_loop()
            blobs = await loop.run_in_executor(self._thread, self._store.get_blobs, missing)
            self.remember(missing, blobs)
            found.update(zip(missing, blobs, strict=True))
        return found

    def close(self) -> None:
        """End the reading thread."""
        self._thread.shutdown(wait=True)
