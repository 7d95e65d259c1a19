"""SlotTable: every device of every node, how it fares, and what of it is taken.

It stands beside the counts of the NodeTable, which say how many devices a job may have; this table
says which. The two cannot disagree: what no job holds and no job may have (a degraded or unhealthy
device) is taken out of the node's free counts here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sched_core.columns import Cube, Ints, Matrix, resized, room
from sched_core.layouts import Layout
from sched_core.nodes import NodeTable

WHOLE = 1000
"""Thousandths of one device."""
SLOTS_MAX = 64
"""Devices of one node."""
NUMA_MAX = 62

# Layers of the cube `slots`.
FREE = 0
"""Thousandths not taken; may be negative after a device went missing under a job."""
HEALTH = 1
"""`Health`."""
NUMA = 2
"""NUMA node, -1 unknown."""
KIND = 3
"""Dimension of the device's type, or of its name if it has no type; -1: no device has this slot."""
LAYOUT = 4
"""Number of the layout it is part of, -1 none."""
PLACE = 5
"""Place in the layout."""
SLOT_LAYERS = 6
_EMPTY = (0, 0, -1, -1, -1, 0)


class Health(IntEnum):
    """What a device may be used for."""

    HEALTHY = 0
    DEGRADED = 1
    """Its jobs go on; no new one gets it."""
    UNHEALTHY = 2


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a node as its agent reports it; its index in the report is its slot."""

    name: str
    """Generic resource: `gpu`, `npu`."""
    kind: str = ""
    """Type; empty: none."""
    health: Health = Health.HEALTHY
    numa: int = -1
    layout: Layout | None = None
    """All devices of one name and type on a node share one."""
    place: int = 0


class SlotTable:
    """Devices as columns `slots[layer, n, S]`; a node's row is its row in the NodeTable.

    Invariant: FREE = 1000 (0 where no device is) - what jobs hold. `layouts` numbers the layouts in
    use, equal ones once. Operations are O(slots of the nodes concerned).

    As long as jobs hold whole devices, and the same in the RunningTable, what `nodes.free` counts
    of a kind told here is what a new job may have: the healthy devices that nobody holds.
    """

    def __init__(self, nodes: NodeTable) -> None:
        self.nodes = nodes
        self.version = 0
        """Rises when nodes get other devices."""
        self.layouts: list[Layout] = []
        self._layout_numbers: dict[Layout, int] = {}
        self._held: dict[int, tuple[Ints, Ints, Ints]] = {}
        self.slots: Cube = np.zeros((SLOT_LAYERS, 16, 8), np.int64)
        self.slots[:] = np.array(_EMPTY).reshape(-1, 1, 1)
        self.withheld: Matrix = np.zeros((16, nodes.dims.width), np.int64)
        """[n, R] devices that nobody holds and nobody may have: out of `nodes.free`."""

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._held

    def fit_columns(self, width: int = 0) -> None:
        """Make the cube as long as the NodeTable and at least `width` slots wide. Amortised."""
        _, rows, slots = self.slots.shape
        if rows < room(self.nodes.rows) or slots < width:
            shape = (SLOT_LAYERS, max(rows, room(self.nodes.rows)), max(slots, width))
            grown = resized(self.slots, *shape)
            for layer, value in enumerate(_EMPTY):
                grown[layer, rows:] = value
                grown[layer, :, slots:] = value
            self.slots = grown

    def set(self, name: str, devices: Sequence[Device]) -> None:
        """What devices a node has; what its jobs hold stays taken. Empty: none (any more)."""
        assert len(devices) <= SLOTS_MAX
        row = self.nodes.names.number(name)
        self.fit_columns(len(devices))
        had = np.where(self.slots[KIND, row] >= 0, WHOLE, 0)
        new: Matrix = np.repeat(np.array(_EMPTY, np.int64)[:, None], self.slots.shape[2], axis=1)
        layouts: dict[int, int] = {}
        taken: set[tuple[int, int]] = set()
        for slot, device in enumerate(devices):
            total, typed = self.nodes.dims.gres(device.name, device.kind)
            kind = typed if device.kind else total
            layout = self._number(device.layout)
            assert layouts.setdefault(kind, layout) == layout, f"{name}: two layouts of one type"
            if device.layout is not None:
                assert 0 <= device.place < device.layout.places
                assert (kind, device.place) not in taken, f"{name}: place {device.place} twice"
                taken.add((kind, device.place))
            assert -1 <= device.numa <= NUMA_MAX
            new[:, slot] = (WHOLE, device.health, device.numa, kind, layout, device.place)
        new[FREE] += self.slots[FREE, row] - had
        self.slots[:, row] = new
        self.version += 1
        self._withhold([row])

    def set_health(self, name: str, slot: int, health: Health) -> None:
        """A device changed its health."""
        row = self.nodes.names.find(name)
        assert row >= 0
        assert self.slots[KIND, row, slot] >= 0, f"{name} has no slot {slot}"
        self.slots[HEALTH, row, slot] = health
        self._withhold([row])

    def add(self, job_id: int, nodes: Ints, slots: Ints, amounts: Ints) -> None:
        """A job started: `amounts[i]` thousandths of slot `slots[i]` of node row `nodes[i]`.

        No pair of node and slot repeats.
        """
        assert job_id not in self._held, job_id
        self.fit_columns(int(slots.max(initial=-1)) + 1)
        self.slots[FREE, nodes, slots] -= amounts
        self._held[job_id] = (nodes.copy(), slots.copy(), amounts.copy())
        if self.slots[HEALTH, nodes, slots].any():
            self._withhold(np.unique(nodes).tolist())

    def remove(self, job_id: int) -> None:
        """A job ended: its devices are free again. Nothing happens if it held none."""
        if job_id in self._held:
            nodes, slots, amounts = self._held.pop(job_id)
            self.slots[FREE, nodes, slots] += amounts
            if self.slots[HEALTH, nodes, slots].any():
                self._withhold(np.unique(nodes).tolist())

    def holders_of_sick(self) -> list[int]:
        """Jobs that hold a device which nobody would get after them. O(jobs) if there are any."""
        sick = (self.slots[HEALTH] != Health.HEALTHY) & (self.slots[FREE] < WHOLE)
        if not sick.any():
            return []
        return [job for job, (nodes, slots, _) in self._held.items() if sick[nodes, slots].any()]

    def content(self) -> dict[str, object]:
        """Logical content by node name and by job, free of row and layout numbers."""
        out: dict[str, object] = {}
        for row in range(min(self.nodes.rows, self.slots.shape[1])):
            here: dict[int, tuple[object, ...]] = {}
            for slot in range(self.slots.shape[2]):
                free, health, numa, kind, layout, place = self.slots[:, row, slot].tolist()
                if kind >= 0:
                    name = self.nodes.dims.name(kind)
                    board = self.layouts[layout] if layout >= 0 else None
                    here[slot] = (name, free, health, numa, board, place)
                elif free:
                    here[slot] = ("", free)
            if here:
                out[self.nodes.names.text(row)] = here
        for job_id, (nodes, slots, amounts) in self._held.items():
            names = [self.nodes.names.text(row) for row in nodes.tolist()]
            out[f"job {job_id}"] = sorted(zip(names, slots.tolist(), amounts.tolist(), strict=True))
        return out

    def equals(self, other: SlotTable) -> bool:
        """Whether both tables say the same about the same nodes and jobs."""
        return self.content() == other.content()

    def _withhold(self, rows: list[int]) -> None:
        """Bring `withheld`, and with it the free counts, of some nodes up to date."""
        self.nodes.fit_columns()
        parent, width = self.nodes.dims.parent, self.nodes.dims.width
        if self.withheld.shape != (len(self.nodes.use), width):
            self.withheld = resized(self.withheld, len(self.nodes.use), width)
        for row in rows:
            free, health, _, kind, _, _ = self.slots[:, row]
            spare = (kind >= 0) & (health != Health.HEALTHY) & (free >= WHOLE)
            counts = np.bincount(kind[spare], minlength=width)
            for r in np.flatnonzero(counts).tolist():
                if parent[r] >= 0:
                    counts[parent[r]] += counts[r]
            self.nodes.free[row] -= counts - self.withheld[row]
            self.withheld[row] = counts

    def _number(self, layout: Layout | None) -> int:
        if layout is None:
            return -1
        for number, seen in enumerate(self.layouts):
            if seen is layout:  # hashing hundreds of sets for each device would be dear
                return number
        known = self._layout_numbers.setdefault(layout, len(self.layouts))
        if known == len(self.layouts):
            self.layouts.append(layout)
        return known
