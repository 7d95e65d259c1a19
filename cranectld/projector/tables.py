"""`history.db`: the tables of the read model, made from the log and from nothing else.

Anyone may read the file with any SQLite tool; it may be deleted, and is then made again from the
log. `progress` says up to which event it is true, and changes in the same transaction as the rows.

Units: instants in ns since the epoch (0: not yet), CPU in thousandths, memory in MiB, `memory_peak`
in bytes, `cpu_us` in microseconds; `tres_*` are amounts times seconds.
"""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

from crane.errors import ErrorCode
from cranectld.store.api import StoreError
from cranectld.store.files import create_private
from cranectld.store.schema import corrupt, sqlite_errors

HISTORY_NAME = "history.db"
APPLICATION_ID = 0x63726869
"""`crhi`."""
SCHEMA_VERSION = 1

JOB_COLUMNS = (
    "job_id", "array_id", "task", "name", "user", "uid", "gid", "account", "partition", "qos",
    "priority", "submit_time", "eligible_time", "start_time", "end_time", "state", "reason",
    "exit_code", "signal", "attempt", "restarts", "cancelled_by", "nodes", "node_count", "cpus",
    "memory", "gres", "cpu_us", "memory_peak", "command", "task_states", "spec_id", "rare",
)  # fmt: skip
ATTEMPT_COLUMNS = (
    "job_id", "attempt", "partition", "state", "reason", "exit_code", "signal", "requeued",
    "start_time", "end_time", "nodes", "node_count", "cpus", "memory", "gres", "cpu_us",
    "memory_peak", "tres_cpu", "tres_memory", "tres_node", "tres_gres", "shares",
)  # fmt: skip
STEP_COLUMNS = (
    "job_id", "attempt", "step", "name", "state", "start_time", "end_time", "exit_code", "signal",
    "nodes", "ntasks", "cpu_us", "memory_peak", "message",
)  # fmt: skip
SPEC_COLUMNS = (
    "id", "body", "work_dir", "comment", "wckey", "reservation", "licences", "time_limit",
    "min_nodes", "ntasks", "cpus_per_task", "mem_per_node", "mem_per_cpu", "gres", "features",
)  # fmt: skip

SCHEMA = (
    """CREATE TABLE progress (
        one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, time INTEGER NOT NULL)""",
    "INSERT INTO progress VALUES (1, 0, 0)",
    """CREATE TABLE spec (
        id INTEGER PRIMARY KEY, body BLOB NOT NULL UNIQUE, work_dir TEXT, comment TEXT,
        wckey TEXT, reservation TEXT, licences TEXT, time_limit INTEGER, min_nodes INTEGER,
        ntasks INTEGER, cpus_per_task INTEGER, mem_per_node INTEGER, mem_per_cpu INTEGER,
        gres TEXT, features TEXT)""",
    # One row per job, per array, and per array task that was started.
    """CREATE TABLE job (
        job_id INTEGER PRIMARY KEY, array_id INTEGER NOT NULL, task INTEGER NOT NULL,
        name TEXT NOT NULL, user TEXT NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
        account TEXT NOT NULL, partition TEXT NOT NULL, qos TEXT NOT NULL,
        priority INTEGER NOT NULL, submit_time INTEGER NOT NULL, eligible_time INTEGER NOT NULL,
        start_time INTEGER NOT NULL, end_time INTEGER NOT NULL, state INTEGER NOT NULL,
        reason INTEGER NOT NULL, exit_code INTEGER NOT NULL, signal INTEGER NOT NULL,
        attempt INTEGER NOT NULL, restarts INTEGER NOT NULL, cancelled_by INTEGER NOT NULL,
        nodes TEXT NOT NULL, node_count INTEGER NOT NULL, cpus INTEGER NOT NULL,
        memory INTEGER NOT NULL, gres TEXT NOT NULL, cpu_us INTEGER NOT NULL,
        memory_peak INTEGER NOT NULL, command TEXT NOT NULL, task_states TEXT,
        spec_id INTEGER NOT NULL REFERENCES spec, rare BLOB)""",
    "CREATE INDEX job_user ON job (user, job_id)",
    "CREATE INDEX job_name ON job (name, job_id)",
    "CREATE INDEX job_state ON job (state, job_id)",
    "CREATE INDEX job_end ON job (end_time)",
    "CREATE INDEX job_task ON job (array_id, task) WHERE array_id > 0",
    """CREATE TABLE attempt (
        job_id INTEGER NOT NULL, attempt INTEGER NOT NULL, partition TEXT NOT NULL,
        state INTEGER NOT NULL, reason INTEGER NOT NULL, exit_code INTEGER NOT NULL,
        signal INTEGER NOT NULL, requeued INTEGER NOT NULL, start_time INTEGER NOT NULL,
        end_time INTEGER NOT NULL, nodes TEXT NOT NULL, node_count INTEGER NOT NULL,
        cpus INTEGER NOT NULL, memory INTEGER NOT NULL, gres TEXT NOT NULL,
        cpu_us INTEGER NOT NULL, memory_peak INTEGER NOT NULL, tres_cpu INTEGER NOT NULL,
        tres_memory INTEGER NOT NULL, tres_node INTEGER NOT NULL, tres_gres TEXT NOT NULL,
        shares BLOB NOT NULL, PRIMARY KEY (job_id, attempt)) WITHOUT ROWID""",
    """CREATE TABLE step (
        job_id INTEGER NOT NULL, attempt INTEGER NOT NULL, step INTEGER NOT NULL,
        name TEXT NOT NULL, state INTEGER NOT NULL, start_time INTEGER NOT NULL,
        end_time INTEGER NOT NULL, exit_code INTEGER NOT NULL, signal INTEGER NOT NULL,
        nodes TEXT NOT NULL, ntasks INTEGER NOT NULL, cpu_us INTEGER NOT NULL,
        memory_peak INTEGER NOT NULL, message TEXT NOT NULL,
        PRIMARY KEY (job_id, attempt, step)) WITHOUT ROWID""",
)


def open_writer(state_dir: str) -> sqlite3.Connection:
    """The projector's connection; the file is made where there is none. Raises StoreError."""
    path = os.path.join(state_dir, HISTORY_NAME)
    with sqlite_errors(path, "opening it"):
        create_private(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        try:
            known = _known(connection, path)
            connection.execute("PRAGMA journal_mode=WAL")
            # Losing the last transactions loses nothing: they are made again from the log.
            connection.execute("PRAGMA synchronous=NORMAL")
            if not known:
                connection.execute("BEGIN IMMEDIATE")
                for statement in SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
    return connection


def open_readonly(state_dir: str) -> sqlite3.Connection | None:
    """A reader's connection; None where the projector has not made the file yet."""
    path = os.path.join(state_dir, HISTORY_NAME)
    if not os.path.exists(path):
        return None
    with sqlite_errors(path, "opening it for reading"):
        connection = sqlite3.connect(
            f"file:{quote(os.path.abspath(path))}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=5.0,
        )
        try:
            if _known(connection, path):
                return connection
        except BaseException:
            connection.close()
            raise
    connection.close()
    return None


def _known(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file has our tables; False: it is new and empty."""
    connection.execute("BEGIN")  # all of one instant: the projector may be making them just now
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    connection.execute("COMMIT")
    if application == 0 and version == 0 and tables == 0:
        return False
    if application != APPLICATION_ID:
        raise corrupt(path, "it is not a history of jobs")
    if version > SCHEMA_VERSION:
        raise StoreError(
            ErrorCode.STORE_NEWER,
            f"{path} has schema {version}, this version knows up to {SCHEMA_VERSION}",
            "start the version that wrote it; or delete the file: it is made again from the log",
        )
    return True


def upsert(table: str, columns: tuple[str, ...]) -> str:
    """A statement that writes a whole row, whether it was there or not."""
    marks = ", ".join("?" * len(columns))
    return f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
