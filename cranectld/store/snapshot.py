"""Snapshots: the state at a sequence number, in a file of its own each.

The projector writes them, the controller reads them; a file is complete or not there under its name,
so the two need no lock between them, and a large one never holds up the log.

Layout, little endian: magic (8), version (u32), seq (u64), then frames of length (u32), crc32 of
what follows (u32) and a zlib-compressed part; a frame of length 0 ends the file.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator

from crane.errors import CraneError, ErrorCode
from cranectld.core.state import State
from cranectld.store.api import StoreError
from cranectld.store.codec.state import decode_state, encode_state
from cranectld.store.files import make_directory, replace_file, sync_directory

KEEP = 2
"""Snapshots kept: should the newest be damaged, the one before it and the log after it serve."""

_MAGIC = b"CRANESNP"
_VERSION = 1
_HEAD = struct.Struct("<8sIQ")
_FRAME = struct.Struct("<II")
_NAME = re.compile(r"(\d{20})\.snap")
_MAX_PART = 1 << 30


def snapshot_dir(state_dir: str) -> str:
    """Where the snapshots of a store are."""
    return os.path.join(state_dir, "snapshots")


def list_snapshots(state_dir: str) -> list[int]:
    """Sequence numbers of the snapshots that are there, oldest first."""
    try:
        names = os.listdir(snapshot_dir(state_dir))
    except FileNotFoundError:
        return []
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def save_snapshot(state_dir: str, state: State) -> str:
    """Write the state, which must not change meanwhile, durably; the file's path. Raises OSError."""
    make_directory(snapshot_dir(state_dir))
    chunks = [_HEAD.pack(_MAGIC, _VERSION, state.seq)]
    for part in encode_state(state):
        body = zlib.compress(part, 1)
        chunks += [_FRAME.pack(len(body), zlib.crc32(body)), body]
    chunks.append(_FRAME.pack(0, 0))
    path = _path(state_dir, state.seq)
    replace_file(path, chunks)
    return path


def drop_old_snapshots(state_dir: str, keep: int = KEEP) -> list[int]:
    """Delete all but the newest; the sequence numbers of those kept, oldest first."""
    assert keep >= KEEP, "one snapshot may be damaged"
    found = list_snapshots(state_dir)
    for seq in found[:-keep]:
        os.unlink(_path(state_dir, seq))
    if found[:-keep]:
        sync_directory(snapshot_dir(state_dir))
    return found[-keep:]


def read_snapshot(state_dir: str, seq: int, *, any_schema: bool = False) -> State:
    """One snapshot. Raises StoreError STORE_CORRUPT or STORE_NEWER, FileNotFoundError."""
    path = _path(state_dir, seq)
    try:
        state = decode_state(_parts(path, seq), any_schema=any_schema)
    except CraneError as error:
        raise StoreError(error.code, f"{path}: {error.message}", error.hint) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(ErrorCode.SYSTEM, f"{path} cannot be read: {error}") from error
    if state.seq != seq:
        raise _damaged(f"{path}: it holds the state at {state.seq}")
    return state


def load_newest(
    state_dir: str, at_most: int | None = None, log_begins: int = 1
) -> tuple[int, State] | None:
    """The newest snapshot (of events up to `at_most`) that can be read; None: there is none.

    Snapshots of other versions are passed over, as folding the log is sure to be right; where the
    log does not go back to its first event (`log_begins`), they are better than nothing.
    """
    for any_schema in (False, True) if log_begins > 1 else (False,):
        for seq in reversed(list_snapshots(state_dir)):
            if at_most is not None and seq > at_most:
                continue
            try:
                return seq, read_snapshot(state_dir, seq, any_schema=any_schema)
            except FileNotFoundError:
                continue  # the projector dropped it just now
            except StoreError as error:
                if error.code is not ErrorCode.STORE_CORRUPT:
                    raise
    return None


def _path(state_dir: str, seq: int) -> str:
    return os.path.join(snapshot_dir(state_dir), f"{seq:020d}.snap")


def _parts(path: str, seq: int) -> Iterator[bytes]:
    with open(path, "rb") as source:
        head = source.read(_HEAD.size)
        if len(head) != _HEAD.size:
            raise _damaged("it is too short")
        magic, version, found = _HEAD.unpack(head)
        if magic != _MAGIC:
            raise _damaged("it is not a snapshot")
        if version > _VERSION:
            raise StoreError(ErrorCode.STORE_NEWER, f"it has version {version}")
        if version != _VERSION or found != seq:
            raise _damaged("its header does not fit its name")
        while True:
            frame = source.read(_FRAME.size)
            if len(frame) != _FRAME.size:
                raise _damaged("its end is missing")
            size, checksum = _FRAME.unpack(frame)
            if size == 0:
                if checksum or source.read(1):
                    raise _damaged("something follows its end")
                return
            body = source.read(min(size, _MAX_PART))
            if len(body) != size or zlib.crc32(body) != checksum:
                raise _damaged("a checksum does not fit")
            try:
                yield zlib.decompress(body)
            except zlib.error as error:
                raise _damaged(str(error)) from error


def _damaged(why: str) -> StoreError:
    return StoreError(
        ErrorCode.STORE_CORRUPT,
        f"a snapshot cannot be used: {why}",
        "an older snapshot or the whole log is read instead, where there is one",
    )
