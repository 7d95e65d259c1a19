"""JobTable: what waits. One record per job; an array is one record with a count of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from sched_core.columns import Ints, resized, room
from sched_core.limits import LimitTable
from sched_core.ordering import FEW, Order
from sched_core.reservation_table import ReservationTable
from sched_core.shapes import ShapeTable

DURATION_MAX = 1 << 40
"""Seconds; stands for "no limit" too. Instants stay far inside int64."""
NO_DEADLINE = 1 << 60


class JobTable:
    """Pending records as columns.

    Columns: `id[j]` (-1: spare row), `shape[j]` (row of the ShapeTable), `priority[j]` (higher is
    first), `submit[j]` (order of submission: lower is first among equals), `duration[j]` (s, the
    estimate by which it is planned), `begin[j]` (s, earliest start), `gate[j]` (a `VerdictCode`
    that keeps it from starting, decided by the controller; 0: open), `count[j]` (tasks that may
    start now), `limit[j]` (row of `limits`; -1: none), `plain[j]` (1: open, of one task, and may
    begin and end at any time), `deadline[j]` (s, by when it has to have ended; NO_DEADLINE: none),
    `time_min[j]` (s, the least limit it may be started with; 0 or above `duration`: that),
    `eligible[j]` (s, since when it might have started but for resources and its `begin`; -1: not
    told, and bounds on switches hold for ever). All operations are O(1) per record.
    """

    _COLUMNS = (
        "id",
        "shape",
        "priority",
        "submit",
        "duration",
        "begin",
        "gate",
        "count",
        "limit",
        "plain",
        "deadline",
        "time_min",
        "eligible",
    )
    id: Ints
    shape: Ints
    priority: Ints
    submit: Ints
    duration: Ints
    begin: Ints
    gate: Ints
    count: Ints
    limit: Ints
    plain: Ints
    deadline: Ints
    time_min: Ints
    eligible: Ints

    def __init__(self, shapes: ShapeTable) -> None:
        self.shapes = shapes
        self.limits = LimitTable(shapes.nodes.dims)
        self.reservations = ReservationTable(shapes.nodes)
        self._row_of: dict[int, int] = {}
        self._spare: list[int] = []
        self._rows = 0
        self._order = Order(self._key)
        self.columns: Ints = np.full((len(self._COLUMNS), 16), -1, np.int64)
        """All columns as rows of one matrix, in the order kernels know them by."""
        self._bind()

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._row_of

    def row(self, job_id: int) -> int:
        """Row of a job's record; KeyError if it does not wait."""
        return self._row_of[job_id]

    def add(
        self,
        job_id: int,
        shape: int,
        *,
        duration: int,
        submit: int,
        priority: int = 0,
        begin: int = 0,
        gate: int = 0,
        count: int = 1,
        limit: int = -1,
        deadline: int = NO_DEADLINE,
        time_min: int = 0,
        eligible: int = -1,
    ) -> None:
        """Add the record of a job: durations and instants in seconds, `submit` any rising number."""
        assert job_id >= 0
        assert job_id not in self._row_of, job_id
        row = self._spare.pop() if self._spare else self._rows
        if row == self._rows:
            self._rows += 1
            self._reserve(self._rows)
        self._row_of[job_id] = row
        self.id[row] = job_id
        self.shape[row] = shape
        self.submit[row] = submit
        self.limit[row] = limit
        self.eligible[row] = eligible
        self.shapes.retain(shape)
        self._order.touch((row,))
        self.update(
            job_id,
            priority=priority,
            duration=duration,
            begin=begin,
            gate=gate,
            count=count,
            deadline=deadline,
            time_min=time_min,
        )

    def add_many(
        self,
        job_ids: Sequence[int],
        shape: Sequence[int] | Ints,
        *,
        duration: Ints | int,
        submit: Ints,
        priority: Ints | int = 0,
        limit: Ints | int = -1,
    ) -> None:
        """Add plain records (open, one task each) at the cost of a few numpy calls for all."""
        first, last = self._rows, self._rows + len(job_ids)
        expected = len(self._row_of) + len(job_ids)
        self._row_of.update(zip(job_ids, range(first, last), strict=True))
        assert len(self._row_of) == expected, "a job waits already, or is named twice"
        self._rows = last
        self._reserve(last)
        self.id[first:last] = np.fromiter(job_ids, np.int64, len(job_ids))
        self.shape[first:last] = shape
        self.submit[first:last] = submit
        self.priority[first:last] = priority
        self.duration[first:last] = np.clip(duration, 1, DURATION_MAX)
        self.begin[first:last] = 0
        self.gate[first:last] = 0
        self.count[first:last] = 1
        self.plain[first:last] = 1
        self.eligible[first:last] = -1
        self.limit[first:last] = limit
        self.deadline[first:last] = NO_DEADLINE
        self.time_min[first:last] = 0
        rows, users = np.unique(self.shape[first:last], return_counts=True)
        for row, times in zip(rows.tolist(), users.tolist(), strict=True):
            self.shapes.retain(row, times)
        self._order.touch(range(first, last))

    def update(
        self,
        job_id: int,
        *,
        priority: int | None = None,
        duration: int | None = None,
        begin: int | None = None,
        gate: int | None = None,
        count: int | None = None,
        deadline: int | None = None,
        time_min: int | None = None,
    ) -> None:
        """Change what is given of a record; the rest stays."""
        row = self._row_of[job_id]
        if priority is not None and priority != self.priority[row]:
            self.priority[row] = priority
            self._order.touch((row,))
        if duration is not None:
            assert duration >= 0
            self.duration[row] = min(max(duration, 1), DURATION_MAX)
        if begin is not None:
            self.begin[row] = begin
        if gate is not None:
            self.gate[row] = gate
        if count is not None:
            assert count >= 0
            self.count[row] = count
        if deadline is not None:
            self.deadline[row] = min(deadline, NO_DEADLINE)
        if time_min is not None:
            assert time_min >= 0
            self.time_min[row] = time_min
        opened = self.gate[row] == 0 and self.begin[row] <= 0 and self.count[row] == 1
        any_time = self.deadline[row] == NO_DEADLINE and self.time_min[row] == 0
        self.plain[row] = opened and any_time

    def set_priorities(self, rows: Ints, values: Ints) -> None:
        """New priorities of many records, by row: O(j), and one sort if many have another one."""
        changed = rows[self.priority[rows] != values]
        self.priority[rows] = values
        if len(changed) > FEW:
            self._order.forget()
        else:
            self._order.touch(changed.tolist())

    def set_limit(self, job_id: int, limit: int) -> None:
        """Count a record under another row of `limits`; -1: none."""
        self.limit[self._row_of[job_id]] = limit

    def set_shape(self, job_id: int, shape: int) -> None:
        """Change what a record asks for."""
        row = self._row_of[job_id]
        old = int(self.shape[row])
        self.shapes.retain(shape)
        self.shape[row] = shape
        self.shapes.release(old)

    def remove(self, job_id: int) -> None:
        """Forget a record: it started as a whole, ended or was cancelled."""
        row = self._row_of.pop(job_id)
        self.id[row] = -1
        self.shapes.release(int(self.shape[row]))
        self.reservations.forget(job_id)
        self._spare.append(row)
        if not self._row_of:
            self._rows = 0
            self._spare.clear()
        self._order.touch((row,))

    def order(self) -> Ints:
        """Rows of all records: by priority (highest first), then submission, then id.

        Corrected after a record came, went or changed its priority: O(j), without a sort unless
        many did.
        """
        return self._order.rows(lambda rows: self.id[rows] >= 0, self._sorted)

    def _sorted(self) -> Ints:
        live = np.flatnonzero(self.id[: self._rows] >= 0)
        keys = (self.id[live], self.submit[live], -self.priority[live])
        return live[np.lexsort(keys)].astype(np.int64, copy=False)

    def _key(self, row: int) -> tuple[int, ...]:
        return -int(self.priority[row]), int(self.submit[row]), int(self.id[row])

    def overlaid(self, shapes: ShapeTable) -> JobTable:
        """A copy whose records may be of other shapes and gates for one pass. O(j)."""
        out = copy(self)
        out.shapes = shapes
        out.columns = self.columns.copy()
        out._bind()  # noqa: SLF001  (a copy of its own class)
        return out

    def content(self) -> dict[int, tuple[object, ...]]:
        """Logical content by job id, free of row numbers."""
        out: dict[int, tuple[object, ...]] = {}
        for job_id, row in self._row_of.items():
            named_apart = ("id", "shape", "limit", "plain")
            names = (name for name in self._COLUMNS if name not in named_apart)
            rest = (int(getattr(self, name)[row]) for name in names)
            limit = int(self.limit[row])
            named = self.limits.names.text(limit) if limit >= 0 else ""
            out[job_id] = (self.shapes.request(int(self.shape[row])), named, *rest)
        return out

    def equals(self, other: JobTable) -> bool:
        """Whether both tables hold the same records, in whatever rows."""
        return self.content() == other.content()

    def _reserve(self, rows: int) -> None:
        if rows > len(self.id):
            self.columns = resized(self.columns, len(self._COLUMNS), room(rows), fill=-1)
            self._bind()

    def _bind(self) -> None:
        """Let every column be a view of its row of the matrix."""
        for name, column in zip(self._COLUMNS, self.columns, strict=True):
            setattr(self, name, column)
