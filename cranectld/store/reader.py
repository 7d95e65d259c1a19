"""Reads the log: every row checked, no gap passed over.

A reader has a connection of its own that only reads, so that a controller, its projector and an
inspecting person can read at once. Each look takes a few rows and ends, so that no reader keeps
SQLite from starting its write-ahead log anew.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator

from crane.errors import CraneError
from cranectld.core.events import Logged
from cranectld.store.api import StoreError
from cranectld.store.codec import decode_batch
from cranectld.store.schema import (
    LOG_NAME,
    corrupt,
    open_readonly,
    pack_checksum,
    row_checksum,
    sqlite_errors,
)

_ROWS_PER_LOOK = 64


class LogReader:
    """Follows the log of a state directory. For one thread at a time."""

    def __init__(self, state_dir: str) -> None:
        """Raises StoreError if there is no log, or none that can be read."""
        self.path = os.path.join(state_dir, LOG_NAME)
        self._connection: sqlite3.Connection = open_readonly(self.path)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def bounds(self) -> tuple[int, int]:
        """First and last sequence number kept; (0, 0): the log is empty."""
        with sqlite_errors(self.path, "reading the log's bounds"):
            first = self._connection.execute(
                "SELECT first_seq FROM log ORDER BY last_seq LIMIT 1"
            ).fetchone()
            last = self._connection.execute("SELECT max(last_seq) FROM log").fetchone()
        if first is None and last[0] is None:
            return 0, 0
        if first is None or not all(isinstance(seq, int) for seq in (*first, *last)):
            raise corrupt(self.path, "its first and last rows make no sense")
        return first[0], last[0]

    def read(self, from_seq: int) -> Iterator[Logged]:
        """Events from `from_seq` (>= 1) to the present end. Raises StoreError."""
        for batch in self.batches(from_seq):
            yield from batch

    def batches(self, from_seq: int) -> Iterator[list[Logged]]:
        """The same, as they were written; the first one cut to begin with `from_seq`."""
        assert from_seq >= 1, "sequence numbers start at 1"
        expected, inside = from_seq, True
        while True:
            rows = self._look(expected)
            for row in rows:
                batch = self._checked(row)
                first = batch[0].seq
                if first > expected or (first < expected and not inside):
                    raise corrupt(self.path, f"event {expected} is missing, {first} follows")
                yield batch[expected - first :]
                expected, inside = batch[-1].seq + 1, False
            if len(rows) < _ROWS_PER_LOOK:
                return

    def packs(self) -> list[tuple[int, int]]:
        """Ids of the packs kept, each with the last sequence number of its batch."""
        with sqlite_errors(self.path, "listing packs"):
            rows = self._connection.execute("SELECT id, last_seq FROM pack ORDER BY id")
            return [(int(pack), int(seq)) for pack, seq in rows]

    def pack_body(self, pack_id: int) -> bytes | None:
        """A pack's verified body; None if there is no such pack. Raises StoreError."""
        with sqlite_errors(self.path, f"reading pack {pack_id}"):
            row = self._connection.execute(
                "SELECT last_seq, checksum, body FROM pack WHERE id = ?", (pack_id,)
            ).fetchone()
        if row is None:
            return None
        last_seq, checksum, body = row
        if not isinstance(body, bytes) or pack_checksum(pack_id, last_seq, body) != checksum:
            raise corrupt(self.path, f"the checksum of pack {pack_id} does not fit")
        return body

    def _look(self, from_seq: int) -> list[tuple[int, int, int, int, int, bytes]]:
        with sqlite_errors(self.path, f"reading the log from event {from_seq}"):
            return self._connection.execute(
                "SELECT last_seq, first_seq, epoch, time, checksum, body FROM log"
                " WHERE last_seq >= ? ORDER BY last_seq LIMIT ?",
                (from_seq, _ROWS_PER_LOOK),
            ).fetchall()

    def _checked(self, row: tuple[int, int, int, int, int, bytes]) -> list[Logged]:
        last_seq, first_seq, epoch, time, checksum, body = row
        where = f"events {first_seq}..{last_seq}"
        if (
            not all(isinstance(v, int) for v in row[:5])
            or not isinstance(body, bytes)
            or row_checksum(last_seq, first_seq, epoch, time, body) != checksum
        ):
            raise corrupt(self.path, f"the checksum of {where} does not fit")
        try:
            batch = decode_batch(body)
        except CraneError as error:
            raise StoreError(
                error.code, f"{self.path}, {where}: {error.message}", error.hint
            ) from error
        if batch[0].seq != first_seq or batch[-1].seq != last_seq:
            raise corrupt(self.path, f"{where} hold events {batch[0].seq}..{batch[-1].seq}")
        return batch
