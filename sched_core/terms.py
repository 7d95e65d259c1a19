"""RunningTerms: on what terms a running job may be preempted. Jobs without terms are protected."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from sched_core.columns import Ints, resized, room

LOST_MAX = 1 << 40
"""Most lost work that is told apart, in CPU-seconds."""


class PreemptMode(IntEnum):
    """What becomes of a preempted job."""

    CANCEL = 1
    REQUEUE = 2
    SUSPEND = 3
    """It keeps its memory and devices and gives its CPUs only; no work is lost."""


class RunningTerms:
    """Terms as columns, one row per job that has any.

    Columns of `columns[t, j]`: ID (-1: spare), TIER, PROTECTED (s: not before), SINCE (s, start or
    last checkpoint), WEIGHT (thousandths of a CPU whose work would be lost), MODE, GRACE (s).
    `row[a]` leads from an allocation of the RunningTable to its job's terms, -1: none. O(nodes of
    the job) each.
    """

    ID, TIER, PROTECTED, SINCE, WEIGHT, MODE, GRACE = range(7)

    def __init__(self) -> None:
        self._row_of: dict[int, int] = {}
        self._spare: list[int] = []
        self._rows = 0
        self.columns: Ints = np.full((7, 16), -1, np.int64)
        self.row: Ints = np.full(16, -1, np.int64)

    @property
    def rows(self) -> int:
        """Rows in use or spare."""
        return self._rows

    def set(
        self,
        job_id: int,
        allocations: Sequence[int],
        *,
        tier: int,
        protected_until: int,
        since: int,
        weight: int,
        mode: PreemptMode,
        grace: int,
    ) -> None:
        """Give a job terms, or other terms: see `RunningTable.set_terms`."""
        assert weight >= 0
        assert grace >= 0
        row = self._row_of.get(job_id, -1)
        if row < 0:
            row = self._spare.pop() if self._spare else self._rows
            self._row_of[job_id] = row
        if row == self._rows:
            self._rows += 1
            if self._rows > self.columns.shape[1]:
                self.columns = resized(self.columns, 7, room(self._rows), fill=-1)
        longest = max(allocations, default=-1) + 1
        if longest > len(self.row):
            self.row = resized(self.row, room(longest), fill=-1)
        self.columns[:, row] = (job_id, tier, protected_until, since, weight, int(mode), grace)
        self.row[allocations] = row

    def has(self, job_id: int) -> bool:
        """Whether a job has terms."""
        return job_id in self._row_of

    def place(self, job_id: int) -> int:
        """Row of a job's terms; KeyError if it has none."""
        return self._row_of[job_id]

    def forget(self, job_id: int, allocations: Sequence[int]) -> None:
        """The job ended, or is protected again."""
        row = self._row_of.pop(job_id, -1)
        if row >= 0:
            self.columns[:, row] = -1
            self.row[allocations] = -1
            self._spare.append(row)

    def content(self) -> dict[int, tuple[int, ...]]:
        """Terms by job id, free of row numbers."""
        return {
            job_id: tuple(self.columns[1:, row].tolist()) for job_id, row in self._row_of.items()
        }

    def equals(self, other: RunningTerms) -> bool:
        """Whether both hold the same terms for the same jobs."""
        return self.content() == other.content()

    def lost_work(self, now: int) -> Ints:
        """[rows] CPU-seconds, rounded up, that preempting each job at `now` would lose."""
        c = self.columns[:, : self._rows]
        seconds = np.clip(now - c[self.SINCE], 0, LOST_MAX)
        weight = np.minimum(c[self.WEIGHT], LOST_MAX * 1000 // np.maximum(seconds, 1))
        lost: Ints = np.minimum(-(-(weight * seconds) // 1000), LOST_MAX)
        lost[c[self.MODE] == PreemptMode.SUSPEND] = 0
        return lost
