"""Writes the read model: rows and progress in one transaction, so that each event counts once."""

from __future__ import annotations

import os
import sqlite3

from crane.jobspec import JobSpec
from cranectld.projector.fold import Projection
from cranectld.projector.rows import Row, spec_row
from cranectld.projector.tables import (
    ATTEMPT_COLUMNS,
    HISTORY_NAME,
    JOB_COLUMNS,
    SPEC_COLUMNS,
    STEP_COLUMNS,
    open_writer,
    upsert,
)
from cranectld.store.codec.records import encode_spec
from cranectld.store.schema import sqlite_errors

_JOB = upsert("job", JOB_COLUMNS)
_ATTEMPT = upsert("attempt", ATTEMPT_COLUMNS)
_STEP = upsert("step", STEP_COLUMNS)
_SPEC = upsert("spec", SPEC_COLUMNS)
_SPEC_ID = JOB_COLUMNS.index("spec_id")


class HistoryWriter:
    """The one writer of `history.db`."""

    def __init__(self, state_dir: str) -> None:
        """Raises StoreError."""
        self.path = os.path.join(state_dir, HISTORY_NAME)
        self._connection: sqlite3.Connection = open_writer(state_dir)

    def seq(self) -> int:
        """Up to which event the read model is true."""
        with sqlite_errors(self.path, "reading its progress"):
            return int(self._connection.execute("SELECT seq FROM progress").fetchone()[0])

    def write(self, projection: Projection) -> None:
        """Write what changed, and that it is true up to the projection's last event.

        Raises StoreError; the projection is then of no more use (its notes are spent).
        """
        jobs = projection.take_jobs()
        execute = self._connection.execute
        with sqlite_errors(self.path, "writing it"):
            execute("BEGIN IMMEDIATE")
            try:
                jobs = self._with_specs(projection, jobs)
                self._connection.executemany(_JOB, jobs)
                self._connection.executemany(_ATTEMPT, projection.attempts.values())
                self._connection.executemany(_STEP, projection.steps.values())
                state = projection.state
                execute("UPDATE progress SET seq = ?, time = ?", (state.seq, state.time))
                execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    execute("ROLLBACK")
                raise
        projection.attempts.clear()
        projection.steps.clear()

    def make_durable(self) -> None:
        """Everything written so far survives a power failure when this returns."""
        with sqlite_errors(self.path, "checkpointing"):
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("UPDATE progress SET seq = seq")
            self._connection.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def _with_specs(self, projection: Projection, jobs: list[Row]) -> list[Row]:
        """The rows with real ids for specs that had provisional ones."""
        unknown = projection.specs.unknown
        if not unknown:
            return jobs
        ids = {given: self._spec_id(spec) for given, spec in unknown.items()}
        projection.specs.settle(ids)
        return [
            (*row[:_SPEC_ID], ids[row[_SPEC_ID]], *row[_SPEC_ID + 1 :])
            if row[_SPEC_ID] < 0
            else row
            for row in jobs
        ]

    def _spec_id(self, spec: JobSpec) -> int:
        body = encode_spec(spec)
        found = self._connection.execute("SELECT id FROM spec WHERE body = ?", (body,)).fetchone()
        if found is not None:
            return int(found[0])
        cursor = self._connection.execute(_SPEC, spec_row(body, spec))
        assert cursor.lastrowid is not None
        return cursor.lastrowid
