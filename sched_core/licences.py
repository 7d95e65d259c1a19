"""LicenceTable: counted resources of the whole cluster, which jobs hold while they run.

A licence is on no node: a job takes its number of each once, however many nodes it has.
"""

from __future__ import annotations

import numpy as np

from sched_core.columns import Ints, resized, room
from sched_core.names import Names

HELD_LICENCE = 0
"""Row of the licence; -1: a spare column."""
HELD_END = 1
HELD_COUNT = 2


class LicenceTable:
    """Licences as columns; a row is the number of its name, for ever.

    Columns: `total[l]` (how many there are), `elsewhere[l]` (in use outside of this cluster, as
    whoever counts for the site says) and `held[3, h]` (what running jobs hold and until when, in s).
    A name that only requests mention has a total of 0. All operations on one row or one job are
    O(1), amortised.
    """

    def __init__(self) -> None:
        self.names = Names()
        self.total: Ints = np.zeros(16, np.int64)
        self.elsewhere: Ints = np.zeros(16, np.int64)
        self.held: Ints = np.full((3, 16), -1, np.int64)
        self._columns_of: dict[int, list[int]] = {}
        self._spare: list[int] = []
        self._used = 0

    def __len__(self) -> int:
        return len(self.names)

    def set(self, name: str, total: int, elsewhere: int = 0) -> int:
        """Add a licence or change its numbers, also below what is in use. Gives the row.

        Raises ValueError for numbers below 0.
        """
        if total < 0 or elsewhere < 0:
            raise ValueError(f"licences cannot be fewer than 0: {name} {total}, {elsewhere}")
        row = self.names.number(name)
        self._fit()
        self.total[row], self.elsewhere[row] = total, elsewhere
        return row

    def hold(self, job_id: int, end: int, licences: tuple[tuple[str, int], ...]) -> None:
        """A job runs, and holds so many of some names until `end` (s)."""
        assert job_id not in self._columns_of, job_id
        columns = []
        for name, count in licences:
            column = self._spare.pop() if self._spare else self._used
            if column == self._used:
                self._used += 1
                if self._used > self.held.shape[1]:
                    self.held = resized(self.held, 3, room(self._used), fill=-1)
            self.held[:, column] = self.names.number(name), end, count
            columns.append(column)
        self._columns_of[job_id] = columns
        self._fit()

    def give_back(self, job_id: int) -> None:
        """A job ended; nothing is done if it holds none."""
        columns = self._columns_of.pop(job_id, None)
        if columns is not None:
            self.held[HELD_LICENCE, columns] = -1
            self._spare.extend(columns)

    def set_end(self, job_id: int, end: int) -> None:
        """It holds what it holds until `end` (s)."""
        if job_id in self._columns_of:
            self.held[HELD_END, self._columns_of[job_id]] = end

    def left(self) -> Ints:
        """`[l]` free now: less than 0 where totals fell below what is in use. O(l + held)."""
        self._fit()
        out: Ints = (self.total - self.elsewhere)[: len(self)]
        held = self.holdings()
        np.subtract.at(out, held[HELD_LICENCE], held[HELD_COUNT])
        return out

    def holdings(self) -> Ints:
        """`[3, h]` of what is held now, by licence, then end. O(h log h)."""
        live = self.held[:, np.flatnonzero(self.held[HELD_LICENCE, : self._used] >= 0)]
        order = np.lexsort((live[HELD_END], live[HELD_LICENCE]))
        return live[:, order]

    def content(self) -> tuple[object, ...]:
        """Logical content by name, free of row numbers."""
        numbers = {
            self.names.text(row): (int(self.total[row]), int(self.elsewhere[row]))
            for row in range(min(len(self), len(self.total)))
            if self.total[row] or self.elsewhere[row]
        }
        held = {
            job_id: sorted(
                (self.names.text(row), end, count)
                for row, end, count in self.held.T[columns].tolist()
            )
            for job_id, columns in self._columns_of.items()
        }
        return numbers, held

    def equals(self, other: LicenceTable) -> bool:
        """Whether both tables say the same of the same names and jobs."""
        return self.content() == other.content()

    def _fit(self) -> None:
        rows = max(room(len(self)), len(self.total))
        if rows != len(self.total):
            self.total = resized(self.total, rows)
            self.elsewhere = resized(self.elsewhere, rows)
