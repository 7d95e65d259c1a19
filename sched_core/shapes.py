"""ShapeTable: requests, interned. A pass costs O(shapes x nodes), not O(jobs x nodes)."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np

from sched_core.alternatives import AlternativeTable
from sched_core.columns import Ints, bit_row, resized, room, words
from sched_core.licences import LicenceTable
from sched_core.nodes import NodeTable
from sched_core.request import Bundle, Request


class ShapeTable:
    """Requests as columns, one row per distinct `Request`, counted by the records that use it.

    Columns: `node_need[s, R]` and `task_need[s, R]` (amounts per node and per task), `ntasks[s]`
    (0: one gang member per node), `task_cap[s]` (most tasks on a node), `tasks_each[s]`,
    `low[s]`/`high[s]` (nodes), `exclusive[s]`, `parts[s, P]` (partition numbers, -1 padding),
    `choices[s, A]` (numbers of `alternatives`, 0: no condition, -1 padding),
    `clauses[s, C, W]` with `nclauses[s]` (features: any clause whose bits a node has),
    `list_start[s]`, `nrequired[s]`, `nexcluded[s]` into `listed` (node rows: required, excluded),
    `users[s]`, `serial[s]` (another one for every request ever interned), `switches[s]` (most leaf
    switches; 0: any), `switch_wait[s]` (s), `relaxed[s]` (row of the same without; -1: none) and
    `members[s]` (components of a `Bundle`: rows of their shapes follow in `listed`; all else of its row is its first one's,
    but for `parts`, which has all partitions) and `apart[s]` (1: they share no node). All operations are O(size of one request), amortised.
    """

    _NAMES = (
        "ntasks",
        "task_cap",
        "tasks_each",
        "low",
        "high",
        "exclusive",
        "nclauses",
        "list_start",
        "nrequired",
        "nexcluded",
        "users",
        "serial",
        "switches",
        "switch_wait",
        "relaxed",
        "members",
        "apart",
    )
    ntasks: Ints
    task_cap: Ints
    tasks_each: Ints
    low: Ints
    high: Ints
    exclusive: Ints
    nclauses: Ints
    list_start: Ints
    nrequired: Ints
    nexcluded: Ints
    users: Ints
    serial: Ints
    switches: Ints
    switch_wait: Ints
    relaxed: Ints
    members: Ints
    apart: Ints

    def __init__(self, nodes: NodeTable) -> None:
        self.nodes = nodes
        self.licences = LicenceTable()
        self.licensed: dict[int, tuple[tuple[int, int], ...]] = {}
        """Rows of the shapes that ask for licences: number and count of each."""
        self._row_of: dict[Request | Bundle, int] = {}
        self._requests: list[Request | Bundle | None] = []
        self.bundles: dict[int, None] = {}
        """Rows of heterogeneous jobs."""
        self._spare: list[int] = []
        width = nodes.dims.width
        self.node_need: Ints = np.zeros((16, width), np.int64)
        self.task_need: Ints = np.zeros((16, width), np.int64)
        self.parts: Ints = np.full((16, 1), -1, np.int64)
        self.alternatives = AlternativeTable(nodes.feature_names)
        self.choices: Ints = np.zeros((16, 1), np.int64)
        self.clauses: Ints = np.zeros((16, 1, 1), np.int64)
        self.listed: Ints = np.zeros(16, np.int64)
        self.columns: Ints = np.zeros((len(self._NAMES), 16), np.int64)
        """The simple columns as rows of one matrix, in the order kernels know them by."""
        self._bind()
        self._serial = 0
        self._listed_end = 0
        self._listed_dead = 0

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def rows(self) -> int:
        """Rows in use or spare."""
        return len(self._requests)

    def request(self, row: int) -> Request | Bundle:
        """The request interned in a row."""
        found = self._requests[row]
        assert found is not None
        return found

    def intern(self, request: Request | Bundle) -> int:
        """Row of a request; a new one lives from `retain` until as many `release` as `retain`."""
        known = self._row_of.get(request)
        if known is not None:
            return known
        members = []
        if isinstance(request, Bundle):
            for component in request.components:
                members.append(self.intern(component))
                self.retain(members[-1])
        row = self._spare.pop() if self._spare else len(self._requests)
        if row == len(self._requests):
            self._requests.append(None)
        self._requests[row] = request
        self._row_of[request] = row
        parts = request.components if isinstance(request, Bundle) else (request,)
        self._write(row, parts[0], request.partitions, members)
        self._write_licences(row, parts)
        self.apart[row] = isinstance(request, Bundle) and request.apart
        if members:
            self.bundles[row] = None
        if any(part.switches for part in parts):
            free = tuple(replace(part, switches=0, switch_wait=0) for part in parts)
            self.switches[row] = max(part.switches for part in parts)
            self.switch_wait[row] = max(part.switch_wait for part in parts)
            more = Bundle(free, request.apart) if isinstance(request, Bundle) else free[0]
            self.relaxed[row] = self.intern(more)
            self.retain(int(self.relaxed[row]))
        return row

    def components(self, row: int) -> list[int]:
        """Rows of the shapes of a heterogeneous job's components; empty: no such job."""
        start = int(self.list_start[row] + self.nrequired[row] + self.nexcluded[row])
        found: list[int] = self.listed[start : start + int(self.members[row])].tolist()
        return found

    def retain(self, row: int, times: int = 1) -> None:
        """Count more users of a row."""
        assert self._requests[row] is not None
        self.users[row] += times

    def release(self, row: int, times: int = 1) -> None:
        """Count fewer users of a row; without any it is free for another request."""
        assert self.users[row] >= times
        self.users[row] -= times
        if self.users[row] == 0:
            request = self.request(row)
            components = self.components(row)
            first = request.components[0] if isinstance(request, Bundle) else request
            for names in first.alternatives:
                self.alternatives.give_back(names)
            del self._row_of[request]
            self.bundles.pop(row, None)
            self._requests[row] = None
            self._spare.append(row)
            self.licensed.pop(row, None)
            self.choices[row] = -1
            self._listed_dead += int(self.nrequired[row] + self.nexcluded[row] + self.members[row])
            self.nrequired[row] = self.nexcluded[row] = self.members[row] = 0
            for component in components:
                self.release(component)
            if self.relaxed[row] >= 0:
                self.release(int(self.relaxed[row]))

    def histogram_size(self) -> int:
        """Cells a pass needs to find the widest nodes: 1 + the most tasks of a bounded gang."""
        bounded = self.high[: self.rows] < self.ntasks[: self.rows]
        return 1 + int(np.max(self.ntasks[: self.rows] * bounded, initial=0))

    def _bind(self) -> None:
        """Let every simple column be a view of its row of the matrix."""
        for name, column in zip(self._NAMES, self.columns, strict=True):
            setattr(self, name, column)

    def _write(
        self, row: int, request: Request, partitions: tuple[str, ...], members: list[int]
    ) -> None:
        nodes, dims = self.nodes, self.nodes.dims
        parts = [nodes.partition_names.number(name) for name in partitions]
        clauses = [[nodes.feature_names.number(f) for f in clause] for clause in request.features]
        choices = [self.alternatives.take(names) for names in request.alternatives] or [0]
        required = [nodes.names.number(name) for name in dict.fromkeys(request.required)]
        excluded = [nodes.names.number(name) for name in dict.fromkeys(request.excluded)]
        per_task = (request.cpu_per_task, request.memory_per_task, request.gres_per_task)
        per_node = (request.cpu_per_node, request.memory_per_node, request.gres_per_node)
        dims.vector(*per_task)  # registers what is new, before the widths are read
        node_need = np.array(dims.vector(*per_node), np.int64)
        task_need = np.array(dims.vector(*per_task), np.int64)
        self._fit_columns(len(parts), len(clauses), len(choices))
        if request.ntasks == 0:
            node_need += task_need * request.tasks_each
            task_need[:] = 0
        self.node_need[row] = node_need
        self.task_need[row] = task_need
        self.ntasks[row] = request.ntasks
        self.task_cap[row] = request.ntasks_per_node or request.ntasks if request.ntasks else 1
        self.tasks_each[row] = request.tasks_each
        self.low[row] = request.nodes_low
        self.high[row] = request.nodes_high
        self.exclusive[row] = request.exclusive
        self.switches[row] = request.switches
        self.switch_wait[row] = request.switch_wait
        self.relaxed[row] = -1
        self._serial += 1
        self.serial[row] = self._serial
        self.parts[row] = -1
        self.parts[row, : len(parts)] = parts
        self.choices[row] = -1
        self.choices[row, : len(choices)] = choices
        self.nclauses[row] = len(clauses)
        for i, clause in enumerate(clauses):
            self.clauses[row, i] = bit_row(clause, self.clauses.shape[2])
        self._write_lists(row, required, excluded, members)

    def _write_licences(self, row: int, parts: tuple[Request, ...]) -> None:
        wanted: dict[int, int] = {}
        for name, count in (one for part in parts for one in part.licences):
            number = self.licences.names.number(name)
            wanted[number] = wanted.get(number, 0) + count
        if wanted:
            self.licensed[row] = tuple(wanted.items())

    def _fit_columns(self, parts: int, clauses: int, choices: int) -> None:
        self.nodes.fit_columns()
        rows = max(room(self.rows), len(self.users))
        width = self.nodes.dims.width
        if (rows, width) != self.node_need.shape:
            self.node_need = resized(self.node_need, rows, width)
            self.task_need = resized(self.task_need, rows, width)
            self.columns = resized(self.columns, len(self._NAMES), rows)
            self._bind()
        longest = max(parts, self.parts.shape[1])
        if (rows, longest) != self.parts.shape:
            self.parts = resized(self.parts, rows, longest, fill=-1)
        most = max(choices, self.choices.shape[1])
        if (rows, most) != self.choices.shape:
            self.choices = resized(self.choices, rows, most, fill=-1)
        most = max(clauses, self.clauses.shape[1])
        depth = words(len(self.nodes.feature_names))
        if (rows, most, depth) != self.clauses.shape:
            self.clauses = resized(self.clauses, rows, most, depth)

    def fit_words(self) -> None:
        """Widen what depends on dimensions and features named since the last request."""
        self._fit_columns(0, 0, 0)

    def _write_lists(
        self, row: int, required: list[int], excluded: list[int], members: list[int]
    ) -> None:
        if self._listed_dead > 64 and self._listed_dead > self._listed_end // 2:
            self._compact_lists()
        end = self._listed_end + len(required) + len(excluded) + len(members)
        if end > len(self.listed):
            self.listed = resized(self.listed, room(end))
        self.listed[self._listed_end : end] = required + excluded + members
        self.list_start[row] = self._listed_end
        self.nrequired[row] = len(required)
        self.nexcluded[row] = len(excluded)
        self.members[row] = len(members)
        self._listed_end = end

    def _compact_lists(self) -> None:
        """Move the live node lists together: amortised over the releases that left the holes."""
        old, end = self.listed.copy(), 0
        for row in self._row_of.values():
            count = int(self.nrequired[row] + self.nexcluded[row] + self.members[row])
            start = int(self.list_start[row])
            self.listed[end : end + count] = old[start : start + count]
            self.list_start[row] = end
            end += count
        self._listed_end, self._listed_dead = end, 0

    def overlaid(self, nodes: NodeTable) -> ShapeTable:
        """A copy over an overlaid NodeTable, for more requests without a trace here. O(s x R)."""
        out = copy(self)
        out.nodes = nodes
        out._row_of, out._requests = dict(self._row_of), list(self._requests)  # noqa: SLF001
        out._spare, out.licensed = list(self._spare), dict(self.licensed)  # noqa: SLF001
        out.bundles = dict(self.bundles)
        out.alternatives = self.alternatives.overlaid()
        for name in ("node_need", "task_need", "parts", "choices", "clauses", "listed", "columns"):
            setattr(out, name, getattr(self, name).copy())
        out._bind()  # noqa: SLF001  (a copy of its own class)
        return out

    def content(self) -> dict[Request | Bundle, int]:
        """Users of every request that has any."""
        rows = self._row_of.items()
        return {request: int(self.users[row]) for request, row in rows if self.users[row]}

    def equals(self, other: ShapeTable) -> bool:
        """Whether both tables hold the same requests with as many users."""
        return self.content() == other.content()
