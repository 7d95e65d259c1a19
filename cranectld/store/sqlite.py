"""The embedded store: one SQLite file, one row per batch, one fsync per batch.

Write-ahead logging with `synchronous=FULL`: a commit is durable when it returns. A batch without
blobs is a single autocommit INSERT, because the writer shares the interpreter with a busy loop and
each further statement would have to win it back (measured: docs/adr). Checkpoints are made here, at
a chosen size, so that their cost is seen and counted.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Container, Iterator, Sequence

from crane.errors import ErrorCode
from crane.jobspec import BlobRef
from cranectld.core.events import EpochStarted, Logged
from cranectld.core.state import State
from cranectld.store.api import Pack, StoreError, StoreFigures
from cranectld.store.blobs import BlobCache, encode_pack
from cranectld.store.codec import encode_batch
from cranectld.store.files import create_private, make_directory, sync_directory
from cranectld.store.lock import Lock
from cranectld.store.reader import LogReader
from cranectld.store.reclaim import read_reclaim
from cranectld.store.schema import (
    APPLICATION_ID,
    LOG_NAME,
    SCHEMA,
    SCHEMA_VERSION,
    check_identity,
    corrupt,
    pack_checksum,
    row_checksum,
    sqlite_errors,
)
from cranectld.store.snapshot import KEEP, list_snapshots, load_newest

CHECKPOINT_BYTES = 16 << 20
"""Write-ahead log size from which it is copied into the file."""
FULL_CHECK_BYTES = 128 << 20
"""Files up to this size are checked as a whole when opened; rows are checked when read anyway."""

_PAGE = 4096
_INSERT_LOG = "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_PACK = "INSERT INTO pack VALUES (?, ?, ?, ?)"


def open_store(state_dir: str) -> SqliteStore:
    """The store of a controller, created (0700, files 0600) where there is none.

    Raises StoreError: STORE_BUSY (another controller, with its pid), STORE_NEWER, STORE_CORRUPT,
    SYSTEM (the directory cannot be made or written).
    """
    try:
        make_directory(state_dir)
        lock = Lock(os.path.join(state_dir, "controller.lock"), "controller")
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            ErrorCode.SYSTEM,
            f"the state directory {state_dir} cannot be used: {error}",
            "check that it is a directory this user may write to",
        ) from error
    try:
        return SqliteStore(state_dir, lock)
    except BaseException:
        lock.release()
        raise


class SqliteStore:
    """See `cranectld.store.api.Store`. Made by `open_store`."""

    def __init__(self, state_dir: str, lock: Lock) -> None:
        self.state_dir = state_dir
        self.path = os.path.join(state_dir, LOG_NAME)
        self._lock = lock
        self._failed = False
        self._connection = _open_writer(state_dir, self.path)
        self._reader_lock = threading.Lock()
        try:
            self._reader = LogReader(state_dir)
        except BaseException:
            self._connection.close()
            raise
        try:
            first, self._last_seq = self._reader.bounds()
            self._check_bounds(first)
            with sqlite_errors(self.path, "reading its end"):
                row = self._connection.execute(
                    "SELECT epoch FROM log WHERE last_seq = ?", (self._last_seq,)
                ).fetchone()
                self._epoch: int = row[0] if row is not None else 0
                found = self._connection.execute("SELECT max(id) FROM pack").fetchone()[0]
        except BaseException:
            self._reader.close()
            self._connection.close()
            raise
        self._next_pack = (found or 0) + 1
        self._blobs = BlobCache(self._load_pack)
        self._unchecked = 0  # bytes in the write-ahead log since the last checkpoint
        self._appends = self._events = self._bytes = self._fsyncs = 0
        self._durations: deque[int] = deque(maxlen=1024)

    @property
    def last_seq(self) -> int:
        """Sequence number of the last durable event; 0: the log is empty."""
        return self._last_seq

    def append(self, events: Sequence[Logged], pack: Pack | None = None) -> None:
        """Make a batch durable, with the blobs its events mention. Raises StoreError: stop.

        Events continue the log without a gap. After an error the store takes nothing more: what
        is on disk is what a restart will find.
        """
        assert events or pack is not None, "a batch has at least one event"
        if self._failed:
            raise StoreError(ErrorCode.SYSTEM, f"{self.path}: an earlier write failed")
        started = time.perf_counter_ns()
        self._failed = True
        if events:
            written = self._append_batch(events, pack)
        else:
            assert pack is not None
            with sqlite_errors(self.path, f"writing pack {pack.pack_id}"):
                written = self._insert_pack(pack, self._last_seq)
        self._failed = False
        self._appends += 1
        self._events += len(events)
        self._bytes += written
        self._fsyncs += 1
        self._unchecked += written + 2 * _PAGE
        if self._unchecked >= CHECKPOINT_BYTES:
            self._checkpoint()
        self._durations.append(time.perf_counter_ns() - started)

    def _append_batch(self, events: Sequence[Logged], pack: Pack | None) -> int:
        """Write events, and their blobs in the same transaction; the bytes of the rows."""
        assert events[0].seq == self._last_seq + 1, "the log has no gaps"
        epoch = self._epoch
        for logged in events:
            if isinstance(logged.event, EpochStarted):
                epoch = logged.event.epoch
        body = encode_batch(events, epoch)
        head = (events[-1].seq, events[0].seq, epoch, events[0].time)
        row = (*head, row_checksum(*head, body), body)
        with sqlite_errors(self.path, f"writing events {events[0].seq}..{events[-1].seq}"):
            if pack is None:
                self._connection.execute(_INSERT_LOG, row)
                written = len(body)
            else:
                written = len(body) + self._insert_with_pack(row, pack)
        self._epoch, self._last_seq = epoch, events[-1].seq
        return written

    def read(self, from_seq: int) -> Iterator[Logged]:
        """Events from `from_seq` to the present end. Raises StoreError on a gap or damage."""
        reader = LogReader(self.state_dir)
        try:
            yield from reader.read(from_seq)
        finally:
            reader.close()

    def next_pack_id(self) -> int:
        """An id for a new pack; never given twice, rising."""
        with self._reader_lock:
            given = self._next_pack
            self._next_pack += 1
        return given

    def get_blobs(self, refs: Sequence[BlobRef]) -> list[bytes]:
        """The blobs; empty for NO_BLOB. Raises StoreError if one is not there or damaged."""
        return self._blobs.get(refs)

    def load_snapshot(self) -> tuple[int, State] | None:
        """The newest snapshot that can be read, with its sequence number."""
        with self._reader_lock:
            first, _ = self._reader.bounds()
        return load_newest(self.state_dir, log_begins=first)

    def reclaim(self, rows: int = 64, keep: Container[int] = ()) -> int:
        """Delete up to `rows` rows the projector says are not needed any more; how many.

        `keep`: packs that are needed after all (the projector's word is some minutes old).
        Cheap when there is nothing to do; meant for a writer that is idle. Keeps the log after the
        second newest snapshot, and the pack with the highest id, from which ids continue.
        """
        note = read_reclaim(self.state_dir)
        snapshots = list_snapshots(self.state_dir)
        through = min(note.log_through, snapshots[-KEEP] if len(snapshots) >= KEEP else 0)
        gone = 0
        with sqlite_errors(self.path, "deleting what is not needed any more"):
            if through:
                gone += self._connection.execute(
                    "DELETE FROM log WHERE last_seq IN"
                    " (SELECT last_seq FROM log WHERE last_seq <= ? ORDER BY last_seq LIMIT ?)",
                    (min(through, self._last_seq - 1), rows),
                ).rowcount
            packs = self._present([p for p in note.packs if p not in keep], rows - gone)
            for pack_id in packs:
                self._connection.execute("DELETE FROM pack WHERE id = ?", (pack_id,))
        self._blobs.forget(packs)
        self._fsyncs += (gone > 0) + len(packs)
        self._unchecked += _PAGE * 2 * (gone + len(packs))
        return gone + len(packs)

    def figures(self) -> StoreFigures:
        """For diagnosis and benchmarks."""
        durations = sorted(d // 1000 for d in tuple(self._durations)) or [0]
        return StoreFigures(
            appends=self._appends,
            events=self._events,
            bytes_written=self._bytes,
            fsyncs=self._fsyncs,
            append_p50=durations[len(durations) // 2],
            append_p99=durations[len(durations) * 99 // 100],
            append_max=durations[-1],
        )

    def close(self) -> None:
        """Release the store, with everything in the one file."""
        with self._reader_lock:
            self._reader.close()
        try:
            if not self._failed:
                with sqlite_errors(self.path, "closing it"):
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.close()
            self._lock.release()

    def _insert_with_pack(self, row: tuple[object, ...], pack: Pack) -> int:
        """Pack and events in one transaction; bytes of the pack's row."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            written = self._insert_pack(pack, self._last_of(row))
            execute(_INSERT_LOG, row)
            execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return written

    def _insert_pack(self, pack: Pack, last_seq: int) -> int:
        """The pack's row, of the batch that ends with `last_seq`; its bytes."""
        body = encode_pack(pack.blobs)
        checksum = pack_checksum(pack.pack_id, last_seq, body)
        self._connection.execute(_INSERT_PACK, (pack.pack_id, last_seq, checksum, body))
        return len(body)

    @staticmethod
    def _last_of(row: tuple[object, ...]) -> int:
        last = row[0]
        assert isinstance(last, int)
        return last

    def _checkpoint(self) -> None:
        with sqlite_errors(self.path, "checkpointing"):
            _, in_log, done = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._fsyncs += 2  # the write-ahead log, then the file
        # What a reader still needs stays; look again after as much more.
        self._unchecked = (in_log - done) * _PAGE // 2

    def _present(self, packs: Sequence[int], limit: int) -> list[int]:
        """Those of the packs that are there, but for the last."""
        if not packs or limit <= 0:
            return []
        there = self._connection.execute("SELECT id FROM pack ORDER BY id").fetchall()
        wanted = set(packs)
        return [row[0] for row in there[:-1] if row[0] in wanted][:limit]

    def _load_pack(self, pack_id: int) -> bytes | None:
        with self._reader_lock:
            return self._reader.pack_body(pack_id)

    def _check_bounds(self, first: int) -> None:
        """The log begins where it may, and ends where the snapshots say it must."""
        snapshots = list_snapshots(self.state_dir)
        newest = snapshots[-1] if snapshots else 0
        if newest > self._last_seq:
            raise corrupt(
                self.path, f"it ends with event {self._last_seq}, a snapshot is of event {newest}"
            )
        if first > 1 and not any(seq >= first - 1 for seq in snapshots):
            raise corrupt(
                self.path, f"it begins with event {first} and no snapshot covers what was before"
            )


def _open_writer(state_dir: str, path: str) -> sqlite3.Connection:
    """The writing connection: file recognised, or made; settings in force; structure checked."""
    created = not os.path.exists(path)
    with sqlite_errors(path, "opening it"):
        create_private(path)
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=5.0
        )
        try:
            known = check_identity(connection, path)
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            assert mode == "wal", "SQLite supports write-ahead logging here"
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute("PRAGMA cell_size_check=ON")
            if not known:
                _create(connection)
            elif os.path.getsize(path) <= FULL_CHECK_BYTES:
                problems = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if problems != "ok":
                    raise corrupt(path, str(problems))
        except BaseException:
            connection.close()
            raise
    if created or not known:
        sync_directory(state_dir)
    return connection


def _create(connection: sqlite3.Connection) -> None:
    """All of the schema, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")
