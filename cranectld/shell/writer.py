"""The log's writer: one thread that appends whatever has gathered since its last append.

Group commit: while one append is being made durable, further batches queue here, and the next append
takes all of them, together with the one pack of blobs that gathered meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue

from crane.jobspec import BlobRef
from cranectld.core.events import Logged
from cranectld.shell import failpoint
from cranectld.shell.figures import Samples
from cranectld.shell.memory import give_back
from cranectld.store.api import Pack, Store

PLACES = tuple(range(16_384))
"""Places in a pack as shared objects: every pending job keeps two references."""

RECLAIM_AFTER = 2.0
"""Seconds without anything to write after which some unneeded rows are deleted."""

PACK_AGE = 7200.0
"""Seconds after which the projector's word on a pack is trusted: it looks far more often."""

TRIM_AFTER = 32 << 20
"""Bytes of blobs written after which what they took in memory is given back to the system."""
TRIM_IDLE = 0.2
"""Seconds without anything to write after which it is given back however little it was."""


class Writer:
    """Appends batches in order. `done` and `failed` are called in the writer's own thread."""

    def __init__(
        self,
        store: Store,
        done: Callable[[int], None],
        failed: Callable[[Exception], None],
        packs: Iterable[int] = (),
    ) -> None:
        """`packs`: those that jobs refer to. `done` is told the sequence up to which everything is durable; `failed` ends the thread."""
        self._store = store
        self._done = done
        self._failed = failed
        self._queue: SimpleQueue[Sequence[Logged] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._in_use: OrderedDict[int, float] = OrderedDict.fromkeys(packs, time.monotonic())
        self._pack_id = store.next_pack_id()
        self._blobs: list[bytes] = []
        self._bytes = 0
        self._writing = 0
        self._since_trim = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self.latency = Samples()
        self.appends = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, batch: Sequence[Logged]) -> None:
        """Queue a batch; its first event follows the last one of the batch before."""
        self._queue.put(batch)

    def flush(self) -> None:
        """Make blobs durable that no batch has taken along."""
        self._queue.put(())

    def add_blobs(self, blobs: Sequence[bytes]) -> list[BlobRef]:
        """Add blobs to the pack that travels with the next append; where each one will be found.

        Call it before the command that refers to them is submitted: then they are durable no later
        than its events. Blobs of a refused command are left to garbage collection.
        """
        with self._lock:
            start = len(self._blobs)
            self._blobs.extend(blobs)
            self._in_use[self._pack_id] = time.monotonic()
            self._bytes += sum(map(len, blobs))
            end = start + len(blobs)
            places = PLACES[start:end] if end <= len(PLACES) else range(start, end)
            return [BlobRef(self._pack_id, place) for place in places]

    def reuse(self, pack: int) -> None:
        """A command is about to refer to a pack stored before: it must not be deleted meanwhile."""
        with self._lock:
            self._in_use[pack] = time.monotonic()
            self._in_use.move_to_end(pack)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of blobs not yet durable."""
        return self._bytes + self._writing

    def close(self) -> None:
        """Write what is queued, close the store, end the thread."""
        if self._thread.ident is None:
            self._store.close()
            return
        self._queue.put(None)
        self._thread.join()

    def _next(self) -> Sequence[Logged] | None:
        """The next batch; while there is none, rows nobody needs any more are deleted."""
        while True:
            try:
                return self._queue.get(timeout=TRIM_IDLE if self._since_trim else RECLAIM_AFTER)
            except Empty:
                if self._since_trim:
                    self._since_trim = 0
                    give_back()
                    continue
                self._store.reclaim(keep=self._needed())

    def _needed(self) -> dict[int, None]:
        """Packs referred to lately: what the projector knows of them may be out of date."""
        with self._lock:
            oldest = time.monotonic() - PACK_AGE
            while self._in_use and next(iter(self._in_use.values())) < oldest:
                self._in_use.popitem(last=False)
            return dict.fromkeys(self._in_use)

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon must stop
            self._failed(error)
        finally:
            self._store.close()

    def _write_all(self) -> None:
        while (batch := self._next()) is not None:
            events = list(batch)
            closing = self._gather(events)
            self._append(events)
            if events:
                self._done(events[-1].seq)
            if closing:
                return

    def _gather(self, events: list[Logged]) -> bool:
        """Take the other batches that wait; whether the end was among them."""
        while True:
            try:
                more = self._queue.get_nowait()
            except Empty:
                return False
            if more is None:
                return True
            events.extend(more)

    def _append(self, events: list[Logged]) -> None:
        # Asked before the lock is taken: the store may be busy reading a pack.
        following = self._store.next_pack_id() if self._blobs else 0
        pack = None
        with self._lock:
            if following:
                pack = Pack(self._pack_id, tuple(self._blobs))
                self._pack_id = following
                self._blobs = []
                self._writing, self._bytes = self._bytes, 0
        if pack is None and not events:
            return  # a flush with nothing left to write
        started = time.perf_counter()
        failpoint.hit("append")
        self._store.append(events, pack)
        failpoint.hit("fsync")
        self.latency.add(time.perf_counter() - started)
        self.appends += 1
        self._since_trim += self._writing
        self._writing = 0
        if self._since_trim >= TRIM_AFTER:
            del pack
            self._since_trim = 0
            give_back()
