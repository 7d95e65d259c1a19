"""NodeTable: what every node has, what of it is free, and where it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from enum import IntEnum

import numpy as np

from sched_core.columns import Ints, bit_row, resized, room, set_bits, words
from sched_core.names import CPU, Dimensions, GresAmount, Names


class NodeUse(IntEnum):
    """What the scheduler may do with a row."""

    ABSENT = 0
    """No node has this row."""
    USABLE = 1
    UNUSABLE = 2
    """Down, drained or failed: it exists, and takes no job."""


class NodeTable:
    """Nodes as columns; a node's row is the number of its name, for ever.

    Columns: `capacity[n, R]`, `free[n, R]` (amounts by dimension; `free = capacity - taken`, which
    may be negative after a shrink), `partitions[n, W]` and `features[n, W]` (bit words),
    `use[n]` (`NodeUse`), `weight[n]` (lower is filled first), `switch[n]` (number, -1 none) and
    `allocations[n]` (running allocations on it). All operations are O(1) in the number of rows.
    """

    def __init__(self, dims: Dimensions) -> None:
        self.dims = dims
        self.version = 0
        """Rises with every change but of what is taken."""
        self.names = Names()
        self.partition_names = Names()
        self.feature_names = Names()
        self.switch_names = Names()
        self.capacity: Ints = np.zeros((16, dims.width), np.int64)
        self.free: Ints = np.zeros((16, dims.width), np.int64)
        self.partitions: Ints = np.zeros((16, 1), np.int64)
        self.features: Ints = np.zeros((16, 1), np.int64)
        self.use: Ints = np.zeros(16, np.int64)
        self.weight: Ints = np.zeros(16, np.int64)
        self.switch: Ints = np.full(16, -1, np.int64)
        self.allocations: Ints = np.zeros(16, np.int64)

    @property
    def rows(self) -> int:
        """Rows in use: numbers given to node names so far (some may be ABSENT)."""
        return len(self.names)

    def fit_columns(self) -> None:
        """Make every column long and wide enough for the names and dimensions known. Amortised."""
        rows, width = room(self.rows), self.dims.width
        part, feat = words(len(self.partition_names)), words(len(self.feature_names))
        if rows > len(self.use) or width > self.capacity.shape[1]:
            rows = max(rows, len(self.use))
            self.capacity = resized(self.capacity, rows, width)
            self.free = resized(self.free, rows, width)
            for name in ("use", "weight", "allocations"):
                setattr(self, name, resized(getattr(self, name), rows))
            self.switch = resized(self.switch, rows, fill=-1)
        if self.partitions.shape != (len(self.use), part):
            self.partitions = resized(self.partitions, len(self.use), part)
        if self.features.shape != (len(self.use), feat):
            self.features = resized(self.features, len(self.use), feat)

    def set(
        self,
        name: str,
        *,
        cpu: int,
        memory: int,
        gres: tuple[GresAmount, ...] = (),
        partitions: tuple[str, ...] = (),
        features: tuple[str, ...] = (),
        usable: bool = True,
        weight: int = 1,
        switch: str = "",
    ) -> int:
        """Add a node or replace what is known of it; what its jobs hold stays taken. Gives the row.

        `cpu` in thousandths, `memory` in MiB, `gres` as (name, type, count).
        """
        assert cpu >= 0
        assert memory >= 0
        row = self.names.number(name)
        amounts = self.dims.vector(cpu, memory, gres)
        parts = [self.partition_names.number(part) for part in partitions]
        feats = [self.feature_names.number(feature) for feature in features]
        self.fit_columns()
        new = np.array(amounts, np.int64)
        self.free[row] += new - self.capacity[row]
        self.capacity[row] = new
        self.partitions[row] = bit_row(parts, self.partitions.shape[1])
        self.features[row] = bit_row(feats, self.features.shape[1])
        self.weight[row] = weight
        self.switch[row] = self.switch_names.number(switch) if switch else -1
        self.use[row] = NodeUse.USABLE if usable else NodeUse.UNUSABLE
        self.version += 1
        return row

    def set_many(
        self, names: Sequence[str], *, capacity: Ints, partitions: Ints, features: Ints
    ) -> None:
        """Add nodes not known before, usable and of weight 1, at the cost of a few calls for all.

        `capacity[i, :]` by dimension; `partitions[i, :]` and `features[i, :]` are bit words over
        the numbers that `partition_names` and `feature_names` gave.
        """
        first = self.rows
        for name in names:
            self.names.number(name)
        assert self.rows == first + len(names), "a node is known already, or named twice"
        self.fit_columns()
        rows = slice(first, self.rows)
        for column, content in (
            (self.capacity, capacity),
            (self.free, capacity),
            (self.partitions, partitions),
            (self.features, features),
        ):
            column[rows, : content.shape[1]] = content
        self.weight[rows] = 1
        self.use[rows] = NodeUse.USABLE
        self.version += 1

    def set_usable(self, name: str, usable: bool) -> None:
        """Let a node take jobs, or not (down, drained)."""
        row = self.names.find(name)
        assert row >= 0
        assert self.use[row] != NodeUse.ABSENT, name
        self.use[row] = NodeUse.USABLE if usable else NodeUse.UNUSABLE
        self.version += 1

    def remove(self, name: str) -> None:
        """Forget a node. What jobs still hold on it stays recorded until they are removed."""
        row = self.names.find(name)
        assert row >= 0
        self.free[row] -= self.capacity[row]
        for column in (self.capacity, self.partitions, self.features):
            column[row] = 0
        self.use[row] = NodeUse.ABSENT
        self.weight[row] = 0
        self.switch[row] = -1
        self.version += 1

    def preference(self) -> Ints:
        """Rows of the nodes that exist, in the order in which they are filled.

        By weight, then the most used first (by the share of its CPUs that is free), then by number.
        O(n log n), three numpy calls.
        """
        use = self.use[: self.rows]
        capacity = np.maximum(self.capacity[: self.rows, CPU], 1)
        share = self.free[: self.rows, CPU] * 4096 // capacity
        order = np.lexsort((share, self.weight[: self.rows]))
        present: Ints = order[use[order] != NodeUse.ABSENT].astype(np.int64, copy=False)
        return present

    def overlaid(self) -> NodeTable:
        """A copy that may get more rows and partitions without a trace here. O(n x R)."""
        out = copy(self)
        out.names, out.partition_names = self.names.copy(), self.partition_names.copy()
        for name in ("capacity", "free", "partitions", "features", "use", "weight", "switch"):
            setattr(out, name, getattr(self, name).copy())
        out.allocations = self.allocations.copy()
        return out

    def content(self) -> dict[str, object]:
        """Logical content by node name, free of row and bit numbers."""
        out: dict[str, object] = {}
        for row in range(self.rows):
            taken = [int(x) for x in self.capacity[row] - self.free[row]]
            if self.use[row] == NodeUse.ABSENT and not any(taken):
                continue
            parts = set_bits(self.partitions[row].tolist())
            feats = set_bits(self.features[row].tolist())
            switch = int(self.switch[row])
            out[self.names.text(row)] = (
                self.dims.named(self.capacity[row].tolist()),
                self.dims.named(taken),
                sorted(self.partition_names.text(p) for p in parts),
                sorted(self.feature_names.text(f) for f in feats),
                int(self.use[row]),
                int(self.weight[row]),
                self.switch_names.text(switch) if switch >= 0 else "",
                int(self.allocations[row]),
            )
        return out

    def equals(self, other: NodeTable) -> bool:
        """Whether both tables say the same about the same nodes, however they came to it."""
        return self.content() == other.content()
