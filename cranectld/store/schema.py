"""The log's SQLite file: what is in it, how it is recognised, how its rows are checked."""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from crane.errors import ErrorCode
from cranectld.store.api import StoreError

LOG_NAME = "log.db"
APPLICATION_ID = 0x6372616E
"""`cran`: what file(1) and we recognise the file by."""
SCHEMA_VERSION = 1
"""PRAGMA user_version; a newer one is refused."""

SCHEMA = (
    # One row per batch. The key is the last sequence number: the end of the log is one seek away.
    """CREATE TABLE log (
        last_seq INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, epoch INTEGER NOT NULL,
        time INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL)""",
    # Blobs; last_seq is that of the batch they came with.
    """CREATE TABLE pack (
        id INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, checksum INTEGER NOT NULL,
        body BLOB NOT NULL)""",
)

_ROW = struct.Struct("<qqqq")
_PACK = struct.Struct("<qq")
_BACKUP = "restore the state directory from a backup"


def row_checksum(last_seq: int, first_seq: int, epoch: int, time: int, body: bytes) -> int:
    """crc32 of a log row, its other columns included."""
    return zlib.crc32(body, zlib.crc32(_ROW.pack(last_seq, first_seq, epoch, time)))


def pack_checksum(pack_id: int, last_seq: int, body: bytes) -> int:
    """crc32 of a pack row."""
    return zlib.crc32(body, zlib.crc32(_PACK.pack(pack_id, last_seq)))


def corrupt(path: str, why: str) -> StoreError:
    """The error for a file that is damaged."""
    return StoreError(ErrorCode.STORE_CORRUPT, f"{path} is damaged: {why}", _BACKUP)


@contextmanager
def sqlite_errors(path: str, doing: str) -> Iterator[None]:
    """SQLite's errors as StoreErrors: damage told apart from a disk that fails or is full."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        name = getattr(error, "sqlite_errorname", "")
        # SQLITE_ERROR: our statements are right, so what they name has been damaged.
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or name in {"", "SQLITE_ERROR"}:
            raise corrupt(path, f"{error} ({doing})") from error
        raise StoreError(
            ErrorCode.SYSTEM,
            f"{path}: {doing} failed: {error} ({name})",
            "see whether the disk is full or failing (df, dmesg), then start again",
        ) from error


def check_identity(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file has our schema; False: it is new and empty. Raises StoreError."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if application == 0 and version == 0 and not names:
        return False
    if application != APPLICATION_ID:
        raise corrupt(path, "it is not the log of a controller")
    if version > SCHEMA_VERSION:
        raise StoreError(
            ErrorCode.STORE_NEWER,
            f"{path} has schema {version}, this version knows up to {SCHEMA_VERSION}",
            "start the version that wrote it, or a later one",
        )
    if version != SCHEMA_VERSION or not {"log", "pack"} <= names:
        raise corrupt(path, f"schema {version} with tables {sorted(names)} makes no sense")
    return True


def open_readonly(path: str) -> sqlite3.Connection:
    """A connection that only reads; for one thread at a time. Raises StoreError."""
    with sqlite_errors(path, "opening it for reading"):
        connection = sqlite3.connect(
            f"file:{quote(os.path.abspath(path))}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=5.0,
        )
        try:
            connection.execute("PRAGMA cell_size_check=ON")
            if not check_identity(connection, path):
                raise corrupt(path, "it is empty")
        except BaseException:
            connection.close()
            raise
    return connection
