"""LimitTable: what users, accounts and QoS may have running, checked before placement.

A record names one row; that row's parents are checked with it, so a chain says user, account, the
account above and so on. Whoever owns the tables decides which rows there are and what is in use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sched_core.columns import Ints, resized, room
from sched_core.names import Dimensions, GresAmount, Names

JOBS = 0
"""Column of the number of jobs; that of dimension `r` is `1 + r`."""
NO_LIMIT = -1
UNBOUNDED = 1 << 61
"""Stands for what is left where nothing bounds it: more than any request asks for."""


class LimitTable:
    """Limits as columns; a row is the number of its name, for ever.

    Columns: `bound[l, 1 + R]` (most that may run at once, jobs first, then amounts by dimension;
    -1: no limit), `used[l, 1 + R]` (what runs now and counts) and `parent[l]` (row; -1: none).
    All operations on one row are O(R), and O(depth) for the parent.
    """

    def __init__(self, dims: Dimensions) -> None:
        self.dims = dims
        self.names = Names()
        self.bound: Ints = np.full((16, 1 + dims.width), NO_LIMIT, np.int64)
        self.used: Ints = np.zeros((16, 1 + dims.width), np.int64)
        self.parent: Ints = np.full(16, -1, np.int64)

    @property
    def rows(self) -> int:
        """Rows in use."""
        return len(self.names)

    def set(
        self,
        name: str,
        *,
        parent: str = "",
        jobs: int = NO_LIMIT,
        cpu: int = NO_LIMIT,
        memory: int = NO_LIMIT,
        gres: tuple[GresAmount, ...] = (),
    ) -> int:
        """Add a row or replace its limits; what is in use stays. Gives the row.

        `jobs` at once, `cpu` in thousandths, `memory` in MiB, `gres` as (name, type, count). Raises
        ValueError if the row would be above itself.
        """
        row = self.names.number(name)
        above = self.names.number(parent) if parent else -1
        pairs = [(self.dims.gres(kind, type_), count) for kind, type_, count in gres]
        self.fit_columns()
        self._check_chain(name, row, above)
        self.parent[row] = above
        self.bound[row] = NO_LIMIT
        self.bound[row, :3] = jobs, cpu, memory
        for (total, typed), count in pairs:
            self.bound[row, 1 + (typed if typed >= 0 else total)] = count
        return row

    def set_many(self, names: Sequence[str], bound: Ints) -> None:
        """Add rows without parents: `bound[i, :]`, jobs first, then by dimension; -1 for the rest."""
        rows = [self.names.number(name) for name in names]
        self.fit_columns()
        self.parent[rows] = -1
        self.bound[rows] = NO_LIMIT
        self.bound[rows, : bound.shape[1]] = bound

    def set_used(self, name: str, jobs: int, amounts: Sequence[int]) -> None:
        """Say what runs and counts for a row: jobs, and amounts by dimension (the rest: none).

        Every row is told by itself: what a user has running counts for the account only if it is
        said there too.
        """
        row = self.names.find(name)
        assert row >= 0, name
        self.fit_columns()
        self.used[row] = 0
        self.used[row, JOBS] = jobs
        self.used[row, 1 : 1 + len(amounts)] = amounts

    def left(self) -> Ints:
        """What may still start: `[l, 1 + R]`, negative where more is in use than may be. A copy."""
        self.fit_columns()
        bound, used = self.bound[: self.rows], self.used[: self.rows]
        free: Ints = np.where(bound == NO_LIMIT, UNBOUNDED, bound - used)
        return free[:, : 1 + len(self.dims)].copy()

    def chain(self) -> Ints:
        """`[4, l]`: the first row that bounds anything, from each row up; the next above that; and
        the first column of the row that does, and the one after the last.

        -1: no such row. O(rows x depth).
        """
        bounded = self.bound[: self.rows] != NO_LIMIT
        bounds = bounded.any(axis=1)
        low = bounded.argmax(axis=1)
        high = bounded.shape[1] - bounded[:, ::-1].argmax(axis=1)
        parent = self.parent[: self.rows]
        first = np.arange(self.rows)
        while True:
            climbing = (first >= 0) & ~bounds[first]
            if not climbing.any():
                break
            first[climbing] = parent[first[climbing]]
        above = np.where(first >= 0, parent[first], -1)
        rows = [first, np.where(above >= 0, first[above], -1), low, high]
        return np.stack(rows).astype(np.int64, copy=False)

    def fit_columns(self) -> None:
        """Make every column long and wide enough for the rows and dimensions known. Amortised."""
        rows, width = max(room(self.rows), len(self.parent)), 1 + self.dims.width
        if (rows, width) != self.bound.shape:
            self.bound = resized(self.bound, rows, width, fill=NO_LIMIT)
            self.used = resized(self.used, rows, width)
            self.parent = resized(self.parent, rows, fill=-1)

    def content(self) -> dict[str, object]:
        """Logical content by name, free of row numbers."""
        out: dict[str, object] = {}
        for row in range(self.rows):
            bound, used = self.bound[row].tolist(), self.used[row].tolist()
            above = int(self.parent[row])
            limits = {i: n for i, n in enumerate(bound) if n != NO_LIMIT}
            named = {self._column(i): n for i, n in limits.items()}
            counts = {self._column(i): n for i, n in enumerate(used) if n}
            if named or counts or above >= 0:
                text = self.names.text(above) if above >= 0 else ""
                out[self.names.text(row)] = (text, named, counts)
        return out

    def equals(self, other: LimitTable) -> bool:
        """Whether both tables say the same about the same rows."""
        return self.content() == other.content()

    def _column(self, column: int) -> str:
        return "jobs" if column == JOBS else self.dims.name(column - 1)

    def _check_chain(self, name: str, row: int, above: int) -> None:
        while above >= 0:
            if above == row:
                raise ValueError(
                    f"limits of {name!r} would be above themselves: name another parent"
                )
            above = int(self.parent[above])
