"""RunningTable: what runs, until when, and what it holds where."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from sched_core.columns import Ints, resized, room
from sched_core.licences import LicenceTable
from sched_core.names import MEMORY
from sched_core.nodes import NodeTable
from sched_core.ordering import Order
from sched_core.terms import PreemptMode, RunningTerms

END_MAX = 1 << 41
"""Seconds; ends beyond stand for "no limit" and are kept as this."""


class RunningTable:
    """Running jobs (an array task is one) and their allocations, one row per job and node.

    Columns of allocations: `node[a]` (row of the NodeTable; -1: spare), `end[a]` (s, when it is
    released by its limit) and `amount[a, R]`. Adding a job takes its amounts from `nodes.free`,
    removing it gives them back: the two tables cannot disagree. O(nodes of the job) each.
    """

    def __init__(self, nodes: NodeTable, licences: LicenceTable | None = None) -> None:
        self.nodes = nodes
        self.licences = licences if licences is not None else LicenceTable()
        self._rows_of: dict[int, list[int]] = {}
        self.reserved: dict[int, str] = {}
        """By job id, the reservation that a job runs in; not of the others."""
        self._spare: list[int] = []
        self._rows = 0
        self._order = Order(self._key)
        self.terms = RunningTerms()
        self._parked: dict[int, Ints] = {}
        """Of each suspended job `[nodes, R]`: what it gave back and wants again."""
        self.columns: Ints = np.full((2, 16), -1, np.int64)
        """`node` and `end` as rows of one matrix."""
        self.node: Ints = self.columns[0]
        self.end: Ints = self.columns[1]
        self.amount: Ints = np.zeros((16, nodes.dims.width), np.int64)

    def __len__(self) -> int:
        return len(self._rows_of)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._rows_of

    def add(
        self,
        job_id: int,
        end: int,
        nodes: Sequence[int] | Ints,
        amounts: Sequence[object] | Ints,
        licences: tuple[tuple[str, int], ...] = (),
        reservation: str = "",
    ) -> None:
        """A job started: `end` in seconds, `nodes` distinct rows, `amounts[i, :]` taken on each.

        Columns of `amounts` beyond those given count as zero. `licences` are held until it ends.
        What a member of a `reservation` holds while that lasts is of what is reserved.
        """
        assert job_id not in self._rows_of, job_id
        where = np.asarray(nodes, np.int64)
        taken = np.asarray(amounts, np.int64).reshape(len(where), -1)
        self.fit_columns(len(where))
        reused = min(len(self._spare), len(where))
        rows = [self._spare.pop() for _ in range(reused)]
        fresh = self._rows + len(where) - reused
        rows.extend(range(self._rows, fresh))
        self._rows = fresh
        self._rows_of[job_id] = rows
        if reservation:
            self.reserved[job_id] = reservation
        self.node[rows] = where
        self.end[rows] = min(end, END_MAX)
        self.amount[rows] = 0
        self.amount[rows, : taken.shape[1]] = taken
        self.nodes.free[where, : taken.shape[1]] -= taken
        self.nodes.allocations[where] += 1
        if licences:
            self.licences.hold(job_id, min(end, END_MAX), licences)
        self._order.touch(rows)

    def add_many(self, job_ids: Sequence[int], end: Ints, nodes: Ints, amounts: Ints) -> None:
        """Jobs of one node each started: the same as `add` one by one, at the cost of a few calls.

        `end[i]` in seconds, `nodes[i]` the node's row, `amounts[i, :]` taken on it.
        """
        self.fit_columns(len(job_ids))
        first, last = self._rows, self._rows + len(job_ids)
        expected = len(self._rows_of) + len(job_ids)
        self._rows_of.update(zip(job_ids, ([row] for row in range(first, last)), strict=True))
        assert len(self._rows_of) == expected, "a job runs already, or is named twice"
        self._rows = last
        rows, width = slice(first, last), amounts.shape[1]
        self.node[rows] = nodes
        self.end[rows] = np.minimum(end, END_MAX)
        self.amount[rows] = 0
        self.amount[rows, :width] = amounts
        np.subtract.at(self.nodes.free[:, :width], nodes, amounts)
        np.add.at(self.nodes.allocations, nodes, 1)
        self._order.forget()

    def remove(self, job_id: int) -> None:
        """A job ended, everywhere: all it held is free again."""
        rows = self._rows_of.pop(job_id)
        self.terms.forget(job_id, rows)
        self._parked.pop(job_id, None)
        self.licences.give_back(job_id)
        self.reserved.pop(job_id, None)
        where = self.node[rows]
        self.nodes.free[where, : self.amount.shape[1]] += self.amount[rows]
        self.nodes.allocations[where] -= 1
        self.node[rows] = -1
        self._spare.extend(reversed(rows))
        if not self._rows_of:
            self._rows = 0
            self._spare.clear()
        self._order.touch(rows)

    def held(self, job_id: int) -> tuple[Ints, Ints]:
        """Node rows of a running job, and what it holds on each: `[nodes, R]`."""
        rows = self._rows_of[job_id]
        return self.node[rows], self.amount[rows]

    def set_end(self, job_id: int, end: int) -> None:
        """Its time limit changed: it is released at `end` (s)."""
        rows = self._rows_of[job_id]
        self.end[rows] = min(end, END_MAX)
        self.licences.set_end(job_id, min(end, END_MAX))
        self._order.touch(rows)

    def suspend(self, job_id: int, *, end: int | None = None, keep_gres: bool = True) -> None:
        """Stop a job where it is: it gives back its CPUs, and keeps its memory and licences.

        Also its generic resources, with `keep_gres` (processes that hold a device cannot let go of
        it). What it keeps is released at its end as before, or at another `end` (s).
        """
        assert job_id not in self._parked, job_id
        rows = self._rows_of[job_id]
        parked = self.amount[rows, : len(self.nodes.dims)]
        parked[:, MEMORY] = 0
        if keep_gres:
            parked[:, MEMORY + 1 :] = 0
        self._parked[job_id] = parked
        self._shift(rows, -parked)
        if end is not None:
            self.set_end(job_id, end)

    def resume(self, job_id: int, end: int) -> list[int]:
        """Let a suspended job run on, until `end` (s), if all that it gave back is free.

        Gives the node rows on which it is not; then nothing changes. O(nodes of the job x R).
        """
        rows, parked = self._rows_of[job_id], self._parked[job_id]
        where = self.node[rows]
        free = self.nodes.free[where, : parked.shape[1]]
        lacking = ((free < parked) & (parked > 0)).any(axis=1)
        parent = np.array(self.nodes.dims.parent)[: parked.shape[1]]
        for total in np.unique(parent[parent >= 0]).tolist():  # devices without a type, too
            types = parent == total
            plain = parked[:, total] - parked[:, types].sum(axis=1)
            lacking |= (free[:, total] - free[:, types].sum(axis=1) < plain) & (plain > 0)
        if lacking.any():
            return [int(node) for node in where[lacking]]
        del self._parked[job_id]
        self._shift(rows, parked)
        self.set_end(job_id, end)
        return []

    def is_suspended(self, job_id: int) -> bool:
        """Whether a running job is suspended."""
        return job_id in self._parked

    def _shift(self, rows: list[int], more: Ints) -> None:
        """Let allocations hold more (less, below 0) than they do."""
        self.amount[rows, : more.shape[1]] += more
        self.nodes.free[self.node[rows], : more.shape[1]] -= more

    def set_terms(
        self,
        job_id: int,
        *,
        tier: int,
        protected_until: int = 0,
        since: int = 0,
        weight: int = 0,
        mode: PreemptMode = PreemptMode.REQUEUE,
        grace: int = 0,
    ) -> None:
        """Let a job be preempted for jobs of a higher `tier`, from `protected_until` (s) on.

        It would lose the work of `weight` thousandths of a CPU done from `since` (s) on, its start
        or its last checkpoint, and be given `grace` seconds to end. Never called, it is protected.
        """
        self.terms.set(
            job_id,
            self._rows_of[job_id],
            tier=tier,
            protected_until=protected_until,
            since=since,
            weight=weight,
            mode=mode,
            grace=grace,
        )

    def protect(self, job_id: int) -> None:
        """Nobody may preempt a job any more (it is being preempted already, for instance)."""
        self.terms.forget(job_id, self._rows_of[job_id])

    def releases(self) -> Ints:
        """Rows of all allocations by end, then node, then row. Corrected after a change."""
        return self._order.rows(lambda rows: self.node[rows] >= 0, self._sorted)

    def _sorted(self) -> Ints:
        live = np.flatnonzero(self.node[: self._rows] >= 0)
        order = np.lexsort((self.node[live], self.end[live]))
        return live[order].astype(np.int64, copy=False)

    def _key(self, row: int) -> tuple[int, ...]:
        return int(self.end[row]), int(self.node[row]), row

    def rows_of(self, job_id: int) -> list[int]:
        """Rows of a running job's allocations; KeyError if it does not run."""
        return self._rows_of[job_id]

    def overlaid(self, nodes: NodeTable, node: Ints, end: Ints, amount: Ints) -> RunningTable:
        """A copy over other nodes, in which more is released, or with a minus taken, at some ends.

        Without a job that it belongs to: for one pass. O(a + k log k).
        """
        self.fit_columns()
        out = copy(self)
        out.nodes = nodes
        first, last = self._rows, self._rows + len(node)
        order = self.releases()
        out.columns = resized(self.columns, 2, max(room(last), len(self.node)), fill=-1)
        out.amount = resized(self.amount, out.columns.shape[1], nodes.dims.width)
        out.node, out.end = out.columns
        out.node[first:last], out.end[first:last] = node, end
        out.amount[first:last, : amount.shape[1]] = amount
        more = np.lexsort((node, end))
        places = np.searchsorted(self.end[order], end[more], side="right")
        merged = np.insert(order, places, more + first).astype(np.int64, copy=False)
        out._order = Order(out._key, merged)  # noqa: SLF001
        return out

    def content(self) -> dict[int, object]:
        """Logical content by job id, free of row numbers."""
        names, dims = self.nodes.names, self.nodes.dims
        return {
            job_id: sorted(
                (
                    names.text(int(self.node[a])),
                    int(self.end[a]),
                    sorted(dims.named(self.amount[a].tolist()).items()),
                    sorted(dims.named(parked).items()),
                )
                for a, parked in zip(rows, self._parked_of(job_id, rows), strict=True)
            )
            for job_id, rows in self._rows_of.items()
        }

    def _parked_of(self, job_id: int, rows: list[int]) -> list[list[int]]:
        parked = self._parked.get(job_id)
        return [[] for _ in rows] if parked is None else parked.tolist()

    def equals(self, other: RunningTable) -> bool:
        """Whether both tables hold the same jobs, allocations and terms."""
        return (
            self.content() == other.content()
            and self.reserved == other.reserved
            and self.terms.equals(other.terms)
        )

    def fit_columns(self, more: int = 0) -> None:
        """Make every column long and wide enough for `more` rows and the dimensions known."""
        self.nodes.fit_columns()
        rows = max(len(self.node), room(self._rows + more))
        if (rows, self.nodes.dims.width) != self.amount.shape:
            self.amount = resized(self.amount, rows, self.nodes.dims.width)
            self.columns = resized(self.columns, 2, rows, fill=-1)
            self.node, self.end = self.columns
