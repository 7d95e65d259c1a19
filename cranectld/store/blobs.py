"""Packs of blobs: many scripts and environments in one row, and a cache of those read last.

Layout of a pack's body, little endian: magic (4), method (1: 0 plain, 1 zlib), 3 zero bytes, count
(u32), count ends of blobs (u32, from the start of the data), data (compressed as a whole).
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import accumulate

from crane.errors import ErrorCode
from crane.jobspec import BlobRef
from cranectld.store.api import MAX_PACK_BYTES, StoreError

_MAGIC = b"CPK1"
_HEAD = struct.Struct("<4sB3xI")
_PLAIN, _ZLIB = 0, 1
_SAMPLE = 64 << 10
_WORTH = 0.6
"""Compress when a sample shrinks to this part or less: else the time is better spent writing."""


def encode_pack(blobs: Sequence[bytes]) -> bytes:
    """The body of a pack's row."""
    data = b"".join(blobs)
    assert len(data) <= MAX_PACK_BYTES, "PackBuilder keeps to the limit"
    ends = struct.pack(f"<{len(blobs)}I", *accumulate(map(len, blobs)))
    method = _PLAIN
    if len(zlib.compress(data[:_SAMPLE], 1)) <= _WORTH * min(len(data), _SAMPLE):
        data, method = zlib.compress(data, 1), _ZLIB
    return b"".join((_HEAD.pack(_MAGIC, method, len(blobs)), ends, data))


class PackView:
    """A pack in memory; blobs are cut out of it when asked for."""

    def __init__(self, body: bytes) -> None:
        """Raises ValueError if the body is not a pack."""
        if len(body) < _HEAD.size:
            raise ValueError("it is too short")
        magic, method, count = _HEAD.unpack_from(body)
        start = _HEAD.size + 4 * count
        if magic != _MAGIC or method not in {_PLAIN, _ZLIB} or start > len(body):
            raise ValueError("it has no valid header")
        self._ends = struct.unpack_from(f"<{count}I", body, _HEAD.size)
        size = self._ends[-1] if count else 0
        if size > MAX_PACK_BYTES:
            raise ValueError("it is larger than a pack may be")
        self._data = body[start:]
        if method == _ZLIB:
            unpacker = zlib.decompressobj()
            try:
                self._data = unpacker.decompress(self._data, size + 1)
            except zlib.error as error:
                raise ValueError(str(error)) from error
        if len(self._data) != size:
            raise ValueError("its data has another length than it says")

    @property
    def size(self) -> int:
        """Bytes it keeps in memory, about."""
        return len(self._data) + 64 * len(self._ends)

    def get(self, index: int) -> bytes:
        """One blob. Raises IndexError if there is none of this number."""
        if not 0 <= index < len(self._ends):
            raise IndexError(index)
        start = self._ends[index - 1] if index else 0
        return self._data[start : self._ends[index]]


class BlobCache:
    """Packs read last, up to a number of bytes (at least one pack). Thread-safe."""

    def __init__(self, load: Callable[[int], bytes | None], limit: int = 64 << 20) -> None:
        """`load` returns a pack's verified body, or None; it is called by one thread at a time."""
        self._load = load
        self._limit = limit
        self._size = 0
        self._packs: OrderedDict[int, PackView] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, refs: Sequence[BlobRef]) -> list[bytes]:
        """The blobs; empty for no blob. Raises StoreError STORE_CORRUPT."""
        with self._lock:
            return [self._blob(ref) if ref.pack else b"" for ref in refs]

    def forget(self, pack_ids: Sequence[int]) -> None:
        """Drop packs that were deleted."""
        with self._lock:
            for pack_id in pack_ids:
                view = self._packs.pop(pack_id, None)
                self._size -= view.size if view is not None else 0

    def _blob(self, ref: BlobRef) -> bytes:
        view = self._packs.get(ref.pack)
        if view is None:
            view = self._fetch(ref.pack)
        else:
            self._packs.move_to_end(ref.pack)
        try:
            return view.get(ref.index)
        except IndexError as error:
            raise _damaged(ref.pack, f"it has no blob {ref.index}") from error

    def _fetch(self, pack_id: int) -> PackView:
        body = self._load(pack_id)
        if body is None:
            raise _damaged(pack_id, "it is not there")
        try:
            view = PackView(body)
        except ValueError as error:
            raise _damaged(pack_id, str(error)) from error
        self._packs[pack_id] = view
        self._size += view.size
        while self._size > self._limit and len(self._packs) > 1:
            _, dropped = self._packs.popitem(last=False)
            self._size -= dropped.size
        return view


def _damaged(pack_id: int, why: str) -> StoreError:
    return StoreError(
        ErrorCode.STORE_CORRUPT,
        f"pack {pack_id} of scripts and environments cannot be read: {why}",
        "the jobs that need it cannot start: cancel and resubmit them, or restore a backup",
    )
