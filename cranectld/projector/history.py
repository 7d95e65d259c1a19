"""Reads the read model: what `cacct` shows, and how jobs no longer in memory ended."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from crane.jobspec import JobSpec, Submission
from crane.session import NodeShare
from crane.states import ENDED, JobState, Reason, StepState
from cranectld.core.commands import PastJob, Selector
from cranectld.projector.tables import (
    ATTEMPT_COLUMNS,
    HISTORY_NAME,
    JOB_COLUMNS,
    STEP_COLUMNS,
    open_readonly,
)
from cranectld.store.codec.records import decode_rare, decode_shares, decode_spec
from cranectld.store.schema import sqlite_errors

MAX_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class PastStep:
    """A step that ended."""

    step: int
    name: str
    state: StepState
    start_time: int
    end_time: int
    exit_code: int
    signal: int
    nodes: tuple[str, ...]
    ntasks: int
    cpu_us: int
    memory_peak: int
    message: str


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt of a job; `end_time` 0: it runs. `tres_*`: amounts times seconds."""

    job_id: int
    attempt: int
    partition: str
    state: JobState
    reason: Reason
    exit_code: int
    signal: int
    requeued: bool
    start_time: int
    end_time: int
    cpu_us: int
    memory_peak: int
    tres_cpu: int
    tres_memory: int
    tres_node: int
    tres_gres: str
    shares: tuple[NodeShare, ...]
    steps: tuple[PastStep, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryJob:
    """A job, an array's record, or an array task that was started, as of `HistoryPage.seq`."""

    job_id: int
    array_id: int
    """0: not a task of an array."""
    task: int
    """Array index; -1: a job, or an array's record."""
    submission: Submission
    """Without its blobs."""
    user: str
    uid: int
    gid: int
    partition: str
    """Where it ran, or those it asks for."""
    priority: int
    submit_time: int
    eligible_time: int
    start_time: int
    end_time: int
    state: JobState
    reason: Reason
    exit_code: int
    signal: int
    attempt: int
    restarts: int
    cancelled_by: int
    nodes: tuple[str, ...]
    cpus: int
    memory: int
    gres: str
    cpu_us: int
    memory_peak: int
    task_states: tuple[tuple[JobState, int], ...] = ()
    """An array's record: how many tasks are in each state."""
    attempts: tuple[PastAttempt, ...] = ()
    """Where asked for: oldest first."""

    @property
    def spec(self) -> JobSpec:
        """What it asked for."""
        return self.submission.spec


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Part of an answer; `next_token` empty: there is no more."""

    jobs: tuple[HistoryJob, ...]
    next_token: str
    seq: int
    """Up to which event of the log the answer is true."""


class HistoryReader:
    """Reads `history.db`; calls from any thread, one at a time. Empty until the projector made it."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._path = os.path.join(state_dir, HISTORY_NAME)
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._spec = lru_cache(maxsize=4096)(self._load_spec)

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def seq(self) -> int:
        """Up to which event of the log the read model is true; 0: it is not there yet."""
        rows = self._rows("SELECT seq FROM progress", ())
        return int(rows[0][0]) if rows else 0

    def query(
        self,
        selector: Selector,
        since: int = 0,
        until: int = 0,
        page_size: int = 1000,
        token: str = "",
        *,
        attempts: bool = False,
    ) -> HistoryPage:
        """Jobs that match, by rising id, that were in some state between `since` and `until` (ns).

        0 is no bound. `attempts` adds every attempt with its steps. Raises StoreError, and
        ValueError for a token that is none of ours.
        """
        size = min(max(page_size, 1), MAX_PAGE)
        where, values = _conditions(selector, since, until)
        if token:
            where.append("job_id > ?")
            values.append(int(token))
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        # Progress first: what is read after it is at least as new.
        seq = self.seq()
        found = self._rows(
            f"SELECT {', '.join(JOB_COLUMNS)} FROM job {condition}"  # noqa: S608 - our own text
            " ORDER BY job_id LIMIT ?",
            (*values, size + 1),
        )
        more = found[size:]
        jobs = [self._job(row) for row in found[:size]]
        if attempts:
            known = self._attempts([job.job_id for job in jobs])
            jobs = [_with_attempts(job, known.get(job.job_id, ())) for job in jobs]
        next_token = str(jobs[-1].job_id) if more else ""
        return HistoryPage(tuple(jobs), next_token, seq)

    def outcome(self, job_id: int, task: int = -1) -> PastJob | None:
        """How a job (or an array's task, by index) ended; None: unknown, or it has not ended.

        A task of an ended array that was never started has been cancelled.
        """
        columns = "state, exit_code, start_time, end_time"
        if task >= 0:
            rows = self._rows(
                f"SELECT {columns} FROM job"  # noqa: S608 - our own text
                " WHERE array_id = ? AND array_id > 0 AND task = ? ORDER BY job_id DESC LIMIT 1",
                (job_id, task),
            )
            if not rows:
                return self._never_started(job_id, task)
        else:
            rows = self._rows(f"SELECT {columns} FROM job WHERE job_id = ?", (job_id,))  # noqa: S608
        if not rows or JobState(rows[0][0]) not in ENDED:
            return None
        state, exit_code, start_time, end_time = rows[0]
        return PastJob(job_id, task, JobState(state), exit_code, start_time, end_time)

    def _never_started(self, job_id: int, task: int) -> PastJob | None:
        rows = self._rows("SELECT end_time, rare FROM job WHERE job_id = ?", (job_id,))
        if not rows or not rows[0][0]:
            return None
        array = decode_rare(rows[0][1]).array
        if array is None or not any(
            first <= task <= last and (task - first) % step == 0
            for first, last, step in array.ranges
        ):
            return None
        return PastJob(job_id, task, JobState.CANCELLED, 0, 0, rows[0][0])

    def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self._lock, sqlite_errors(self._path, "reading it"):
            if self._connection is None:
                self._connection = open_readonly(self._state_dir)
            if self._connection is None:
                return []
            return self._connection.execute(statement, values).fetchall()

    def _load_spec(self, spec_id: int) -> JobSpec:
        return decode_spec(self._rows("SELECT body FROM spec WHERE id = ?", (spec_id,))[0][0])

    def _job(self, row: Sequence[Any]) -> HistoryJob:
        found = dict(zip(JOB_COLUMNS, row, strict=True))
        rare = decode_rare(found["rare"])
        submission = Submission(
            spec=self._spec(found["spec_id"]),
            name=found["name"],
            args=rare.args,
            dependency=rare.dependency,
            array=rare.array,
            command=found["command"],
        )
        counts = json.loads(found["task_states"]) if found["task_states"] else {}
        same = ("job_id", "array_id", "task", "user", "uid", "gid", "partition", "priority",
                "submit_time", "eligible_time", "start_time", "end_time", "exit_code", "signal",
                "attempt", "restarts", "cancelled_by", "cpus", "memory", "gres", "cpu_us",
                "memory_peak")  # fmt: skip
        return HistoryJob(
            submission=submission,
            state=JobState(found["state"]),
            reason=Reason(found["reason"]),
            nodes=tuple(found["nodes"].split(",")) if found["nodes"] else (),
            task_states=tuple((JobState(int(k)), v) for k, v in counts.items()),
            **{name: found[name] for name in same},
        )

    def _attempts(self, job_ids: Sequence[int]) -> dict[int, tuple[PastAttempt, ...]]:
        out: dict[int, tuple[PastAttempt, ...]] = {}
        for part in _slices(job_ids, 500):
            marks = ", ".join("?" * len(part))
            steps: dict[tuple[int, int], list[PastStep]] = {}
            for row in self._rows(
                f"SELECT {', '.join(STEP_COLUMNS)} FROM step WHERE job_id IN ({marks})"  # noqa: S608
                " ORDER BY job_id, attempt, step",
                part,
            ):
                steps.setdefault((row[0], row[1]), []).append(_step(row))
            for row in self._rows(
                f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempt"  # noqa: S608 - our own text
                f" WHERE job_id IN ({marks}) ORDER BY job_id, attempt",
                part,
            ):
                attempt = _attempt(row, tuple(steps.get((row[0], row[1]), ())))
                out[attempt.job_id] = (*out.get(attempt.job_id, ()), attempt)
        return out


def _slices(items: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _with_attempts(job: HistoryJob, attempts: tuple[PastAttempt, ...]) -> HistoryJob:
    values = {name: getattr(job, name) for name in HistoryJob.__dataclass_fields__}
    return HistoryJob(**{**values, "attempts": attempts})


def _step(row: Sequence[Any]) -> PastStep:
    found = dict(zip(STEP_COLUMNS, row, strict=True))
    del found["job_id"], found["attempt"]
    found["state"] = StepState(found["state"])
    found["nodes"] = tuple(found["nodes"].split(",")) if found["nodes"] else ()
    return PastStep(**found)


def _attempt(row: Sequence[Any], steps: tuple[PastStep, ...]) -> PastAttempt:
    found = dict(zip(ATTEMPT_COLUMNS, row, strict=True))
    for name in ("nodes", "node_count", "cpus", "memory", "gres"):
        del found[name]  # sums of the shares
    found["state"] = JobState(found["state"])
    found["reason"] = Reason(found["reason"])
    found["requeued"] = bool(found["requeued"])
    found["shares"] = decode_shares(found["shares"])
    return PastAttempt(**found, steps=steps)


def _conditions(selector: Selector, since: int, until: int) -> tuple[list[str], list[Any]]:
    """Parts of a WHERE clause, all of which must hold, and their values."""
    where: list[str] = []
    values: list[Any] = []
    if since:
        where.append("(end_time = 0 OR end_time >= ?)")
        values.append(since)
    if until:
        where.append("submit_time <= ?")
        values.append(until)
    if selector.ids:
        parts: list[str] = []
        for item in selector.ids:
            if not item.ranges:
                parts.append("job_id = ? OR (array_id = ? AND array_id > 0)")
                values += [item.job_id, item.job_id]
                continue
            for first, last, step in item.ranges:
                parts.append(
                    "(array_id = ? AND array_id > 0 AND task BETWEEN ? AND ?"
                    " AND (task - ?) % ? = 0)"
                )
                values += [item.job_id, first, last, first, max(step, 1)]
        where.append(f"({' OR '.join(parts)})")
    lists: tuple[tuple[str, Sequence[Any]], ...] = (
        ("user", selector.users),
        ("name", selector.names),
        ("account", selector.accounts),
        ("qos", selector.qos),
        ("state", [int(state) for state in selector.states]),
    )
    for column, wanted in lists:
        if wanted:
            where.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    of_spec: tuple[tuple[str, Sequence[str]], ...] = (
        ("reservation", selector.reservations),
        ("wckey", selector.wckeys),
    )
    for column, wanted in of_spec:
        if wanted:
            marks = ", ".join("?" * len(wanted))
            where.append(f"spec_id IN (SELECT id FROM spec WHERE {column} IN ({marks}))")  # noqa: S608
            values += wanted
    if selector.licences:  # kept as `name:count,name:count`
        either = " OR ".join(["instr(',' || licences, ?) > 0"] * len(selector.licences))
        where.append(f"spec_id IN (SELECT id FROM spec WHERE {either})")  # noqa: S608 - our own text
        values += [f",{name}:" for name in selector.licences]
    for column, names in (("partition", selector.partitions), ("nodes", selector.nodes)):
        if names:
            either = " OR ".join([f"instr(',' || {column} || ',', ?) > 0"] * len(names))
            where.append(f"({either})")
            values += [f",{name}," for name in names]
    return where, values
