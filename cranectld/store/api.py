"""What the controller needs of a store, whatever engine it is built on."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from crane.errors import CraneError, ErrorCode
from crane.jobspec import NO_BLOB, BlobRef
from cranectld.core.events import Logged
from cranectld.core.state import State

MAX_PACK_BYTES = 512 << 20
"""Of one pack; SQLite's largest row is 1 GiB."""


class StoreError(CraneError):
    """The store cannot be opened, read or written. A controller that meets one stops."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Scripts and environments of one submission, stored as one row beside its events."""

    pack_id: int
    blobs: tuple[bytes, ...]


class PackBuilder:
    """Collects the blobs of a pack; equal ones are stored once. Not thread-safe."""

    def __init__(self, pack_id: int) -> None:
        """`pack_id` from `Store.next_pack_id`."""
        assert pack_id > 0, "0 stands for no blob"
        self.pack_id = pack_id
        self.size = 0
        """Bytes of all distinct blobs."""
        self._index: dict[bytes, int] = {}

    def add(self, blob: bytes) -> BlobRef:
        """Where the blob will be. Raises CraneError LIMIT_EXCEEDED when the pack is full."""
        if not blob:
            return NO_BLOB
        index = self._index.get(blob)
        if index is None:
            if self.size + len(blob) > MAX_PACK_BYTES:
                raise CraneError(
                    ErrorCode.LIMIT_EXCEEDED,
                    f"scripts and environments of one batch exceed {MAX_PACK_BYTES >> 20} MiB",
                    "submit fewer jobs at a time",
                )
            self.size += len(blob)
            index = self._index[blob] = len(self._index)
        return BlobRef(self.pack_id, index)

    def build(self) -> Pack | None:
        """The pack; None if nothing was added."""
        return Pack(self.pack_id, tuple(self._index)) if self._index else None


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What the store has done since it was opened; durations in microseconds."""

    appends: int
    events: int
    bytes_written: int
    fsyncs: int
    append_p50: int
    """Over the last 1,024 appends."""
    append_p99: int
    append_max: int


class Store(Protocol):
    """An event log with blobs and snapshots. One process has it open at a time.

    `append`, `reclaim` and `close` belong to one thread, the writer; everything else may be called
    from any thread.
    """

    @property
    def last_seq(self) -> int:
        """Sequence number of the last durable event; 0: the log is empty."""

    def append(self, events: Sequence[Logged], pack: Pack | None = None) -> None:
        """Make a batch durable, with the blobs its events mention. Raises StoreError: stop.

        Without events, the pack alone: its jobs were refused, and it is reclaimed in time.
        """

    def read(self, from_seq: int) -> Iterator[Logged]:
        """Events from `from_seq` to the present end. Raises StoreError on a gap or damage."""

    def next_pack_id(self) -> int:
        """An id for a new pack; never given twice, rising."""

    def get_blobs(self, refs: Sequence[BlobRef]) -> list[bytes]:
        """The blobs; empty for NO_BLOB. Raises StoreError if one is not there or damaged."""

    def load_snapshot(self) -> tuple[int, State] | None:
        """The newest snapshot that can be read, with its sequence number."""

    def reclaim(self, rows: int = 64, keep: Container[int] = ()) -> int:
        """Delete up to `rows` rows the projector says are not needed any more, but for the packs to
        `keep`; how many.
        """

    def figures(self) -> StoreFigures:
        """For diagnosis and benchmarks."""

    def close(self) -> None:
        """Release the store."""
