"""Passes that know which devices are free, not only how many.

A pass counts devices. Which ones a start gets is chosen afterwards, for all starts of the plan in
one kernel call. Where boards have rules (Ascend's rings and pairs), devices may be free of which no
legal set is left: such a start is not made. The devices that make its count are then taken to be in
use until the next job there gives some back, and the pass is made anew: what was decided before
that start stays, the job waits like any other for which too few are free, and may be promised a
start then. A request for which no board of a node has a legal set, even when empty, is kept off
that node for good, and says NEVER where there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sched_core import gres
from sched_core.codes import VerdictCode
from sched_core.columns import Ints, Matrix
from sched_core.device_items import GIVEN_BACK, I_KIND, I_START
from sched_core.device_sets import Bench, Boards
from sched_core.jobs import JobTable
from sched_core.layouts import Layout
from sched_core.memory import Memory
from sched_core.running import END_MAX, RunningTable
from sched_core.shapes import ShapeTable
from sched_core.slots import FREE, HEALTH, KIND, LAYOUT, NUMA, PLACE, WHOLE, Health, SlotTable

if TYPE_CHECKING:
    from sched_core.plan import Plan

ROUNDS = 16
"""Passes made at most; starts that still have no legal set are then left out of the last one."""


class DeviceDesk:
    """What is worked out once for a SlotTable, and used for many plans: see `Memory`."""

    def __init__(self, table: SlotTable) -> None:
        self.table = table
        self.boards: Boards = gres.boards_of(table.layouts)
        self.bench: Bench = gres.bench_of()
        self._layouts = len(table.layouts)
        self._of: tuple[object, ...] = ()
        self._barred: Ints = np.zeros((2, 0), np.int64)

    def serves(self, table: SlotTable) -> bool:
        """Whether it is the desk of this table, and knows all its layouts."""
        return self.table is table and self._layouts == len(table.layouts)

    def barred(self, shapes: ShapeTable) -> Ints:
        """`[2, k]` shapes and the nodes whose boards, even empty, have no legal set for them."""
        shapes.fit_words()
        of = (self.table.version, shapes.nodes.rows, shapes.serial[: shapes.rows].tobytes())
        if of != self._of:
            pairs = [np.zeros((2, 0), np.int64)]
            for kind, nodes, legal in _ruled_boards(self.table):
                rows = _hopeless(shapes, kind, legal, self.table)
                pairs.append(np.stack([np.repeat(rows, len(nodes)), np.tile(nodes, len(rows))]))
            found = np.concatenate(pairs, axis=1)
            self._of = of
            self._barred = np.ascontiguousarray(found[:, np.lexsort(found[::-1])], np.int64)
        return self._barred


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What a plan's starts are given, and what of it could not be had."""

    wanted: Matrix
    """[4, q] as in `gres.choose`."""
    status: Ints
    """[q]"""
    slot_ptr: Ints
    slot: Ints
    numa: Ints


def plan_with_devices(
    make: Callable[[Ints], Plan],
    shapes: ShapeTable,
    jobs: JobTable,
    running: RunningTable,
    slots: SlotTable,
    memory: Memory,
    now: int,
) -> Plan:
    """A plan of which every start has its devices: `slot_ptr`, `slot`, `numa`.

    `make` makes a pass for shapes barred from some nodes. While it works, devices of which no legal
    set is left are in the RunningTable under negative ids; afterwards the tables say what they did.
    Nodes of which no devices were told are counted only. O(rows) beside passes and choices.
    """
    if memory.desk is None or not memory.desk.serves(slots):
        memory.desk = DeviceDesk(slots)
    desk = memory.desk
    barred = desk.barred(shapes)
    made = make(barred)
    chosen = _choose(desk, made)
    idle: list[int] = []
    try:
        for _ in range(ROUNDS if (chosen.status < 0).any() else 0):
            for node, until, amount in list(_unusable(jobs, running, made, chosen, now)):
                idle.append(-1 - len(idle))
                running.add(idle[-1], until, [node], amount[None])
            made = make(barred)
            chosen = _choose(desk, made)
            if not (chosen.status < 0).any():
                break
    finally:
        for job_id in idle:
            running.remove(job_id)
    if (chosen.status < 0).any():
        made = _without(made, chosen)
        chosen = _choose(desk, made)
    return replace(made, slot_ptr=chosen.slot_ptr, slot=chosen.slot, numa=chosen.numa)


def _choose(desk: DeviceDesk, made: Plan) -> _Chosen:
    """Devices for all rows of a plan, in the order of its starts: one kernel call."""
    table = desk.table
    table.fit_columns()
    leaf = gres.leaf_amounts(made.amount, table.nodes.dims.parent)
    capacity = table.nodes.capacity[made.node, : made.amount.shape[1]]
    whole = (made.amount == capacity).all(axis=1)  # it gets all there is, whatever rules say
    leaf[whole] = 0
    row, kind = np.nonzero(leaf)
    told = (table.slots[KIND, made.node[row]] == kind[:, None]).any(axis=1)
    row, kind = row[told], kind[told]
    start = np.repeat(np.arange(made.starts), np.diff(made.start_ptr))
    wanted = np.array([start[row], made.node[row], kind, leaf[row, kind] * WHOLE], np.int64)
    choice = gres.choose(table, wanted, desk.boards, desk.bench)
    every, all_of = np.nonzero(table.slots[KIND, made.node[whole]] >= 0)
    rows = np.concatenate([np.repeat(row, np.diff(choice.ptr)), np.flatnonzero(whole)[every]])
    slot = np.concatenate([choice.slot, all_of])[np.argsort(rows, kind="stable")]
    counts = np.bincount(rows, minlength=len(made.node))
    slot_ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    numa = np.zeros(len(made.node), np.int64)
    where = np.repeat(made.node, counts)
    near = table.slots[NUMA, where, slot]
    np.bitwise_or.at(numa, np.repeat(np.arange(len(numa)), counts)[near >= 0], 1 << near[near >= 0])
    return _Chosen(wanted, choice.status, slot_ptr, slot.astype(np.int64, copy=False), numa)


def _unusable(
    jobs: JobTable, running: RunningTable, made: Plan, chosen: _Chosen, now: int
) -> Iterator[tuple[int, int, Ints]]:
    """Node, instant and amounts of the devices too many for each start without a legal set.

    Without them, one device less is free there than it wants, after all starts before it. Of
    several such starts that want the same devices the first one counts.
    """
    nodes = running.nodes
    dims, parent = made.amount.shape[1], nodes.dims.parent
    start_of = np.repeat(np.arange(made.starts), np.diff(made.start_ptr))
    seen: set[tuple[int, int]] = set()
    failed = np.flatnonzero((chosen.status < 0) & (chosen.status != GIVEN_BACK))
    for i in failed.tolist():
        start, node, kind, want = chosen.wanted[:, i].tolist()
        if (node, kind) in seen:
            continue
        seen.add((node, kind))
        before = np.flatnonzero((made.node == node) & (start_of < start))
        taken = gres.leaf_amounts(made.amount[before], parent)[:, kind]
        free = gres.leaf_amounts(nodes.free[[node], :dims], parent)[0, kind]
        amount = np.zeros(dims, np.int64)
        amount[kind] = free - taken.sum() - want // WHOLE + 1
        if parent[kind] >= 0:
            amount[parent[kind]] = amount[kind]
        here = (running.node == node) & (running.amount[:, kind] > 0)
        ends = [max(end, now + 1) for end in running.end[here].tolist()]
        ahead = made.start_job[start_of[before[taken > 0]]].tolist()
        ends += [now + int(jobs.duration[jobs.id == job][0]) for job in ahead]
        yield node, min(ends, default=END_MAX), amount


def _without(made: Plan, chosen: _Chosen) -> Plan:
    """A plan less the starts that have no devices: their records wait for resources."""
    failed = np.flatnonzero((chosen.status < 0) & (chosen.status != GIVEN_BACK))
    keep = np.ones(made.starts, bool)
    keep[chosen.wanted[I_START, failed]] = False
    rows = np.repeat(keep, np.diff(made.start_ptr))
    code, short = made.code.copy(), made.short.copy()
    planned, placed = made.planned.copy(), made.placed.copy()
    for i in failed.tolist():
        at = made.job == made.start_job[chosen.wanted[I_START, i]]
        code[at], short[at], planned[at] = VerdictCode.RESOURCES, chosen.wanted[I_KIND, i], -1
        placed[at] -= 1
    sizes = np.diff(made.start_ptr)[keep]
    return replace(
        made,
        start_job=made.start_job[keep],
        start_partition=made.start_partition[keep],
        start_ptr=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        node=made.node[rows],
        tasks=made.tasks[rows],
        component=made.component[rows],
        release=made.release[rows],
        amount=made.amount[rows],
        code=code,
        short=short,
        planned=planned,
        placed=placed,
    )


def _ruled_boards(table: SlotTable) -> Iterator[tuple[int, Ints, list[int]]]:
    """Kind, nodes and legal counts of devices, for boards that do not allow every count."""
    rows = table.slots.shape[1]
    kind, layout, place = (table.slots[layer] for layer in (KIND, LAYOUT, PLACE))
    ruled = [bool(own.counts or own.sets) for own in table.layouts]
    some = (kind >= 0) & (layout >= 0) & np.array([*ruled, False])[layout]
    for number in np.unique(kind[some]).tolist():
        mine = some & (kind == number)
        places = np.where(mine, np.int64(1) << place, 0).sum(axis=1)
        first = np.argmax(mine, axis=1)
        keys = np.stack([layout[np.arange(rows), first], places])[:, mine.any(axis=1)]
        nodes = np.flatnonzero(mine.any(axis=1)).astype(np.int64, copy=False)
        groups, which = np.unique(keys, axis=1, return_inverse=True)
        for group, (own, mask) in enumerate(groups.T.tolist()):
            legal = legal_counts(table.layouts[own], mask)
            if len(legal) <= mask.bit_count():
                yield number, nodes[which.reshape(-1) == group], legal


def legal_counts(layout: Layout, places: int) -> list[int]:
    """Numbers of devices, 0 among them, that a job may have of the places in a mask."""
    out = [0]
    for count in range(1, places.bit_count() + 1):
        listed = [mask for mask in layout.sets if mask.bit_count() == count]
        if (not layout.counts or count in layout.counts) and (
            not listed or any(mask & ~places == 0 for mask in listed)
        ):
            out.append(count)
    return out


def _hopeless(shapes: ShapeTable, kind: int, legal: list[int], table: SlotTable) -> Ints:
    """Shapes that always want a number of devices of a kind that is not legal.

    Those whose devices may be of several types are left to the choice. O(shapes x legal counts).
    """
    parent, s = np.array(shapes.nodes.dims.parent), shapes.rows
    total, asked = int(parent[kind]), kind
    if np.count_nonzero(parent == total) == 1 and not (table.slots[KIND] == total).any():
        asked = total if total >= 0 else kind
    fixed, per = shapes.node_need[:s, asked], shapes.task_need[:s, asked]
    wants = (shapes.exclusive[:s] == 0) & (fixed + per > 0)
    able = np.zeros(s, bool)
    for count in legal:
        tasks = np.where(per > 0, (count - fixed) // np.maximum(per, 1), 0)
        fits = fixed + np.maximum(tasks, 0) * per == count
        able |= fits & ((per == 0) | ((tasks >= 1) & (tasks <= shapes.task_cap[:s])))
    return np.flatnonzero(wants & ~able & (shapes.members[:s] == 0))


def take(
    running: RunningTable,
    slots: SlotTable,
    made: Plan,
    start: int,
    job_id: int,
    end: int,
) -> None:
    """Fold a start of a plan into both tables: its job holds amounts and devices until `end` (s)."""
    rows = slice(int(made.start_ptr[start]), int(made.start_ptr[start + 1]))
    running.add(job_id, end, made.node[rows], made.amount[rows])
    first, last = int(made.slot_ptr[rows.start]), int(made.slot_ptr[rows.stop])
    if last > first:
        counts = np.diff(made.slot_ptr[rows.start : rows.stop + 1])
        nodes = np.repeat(made.node[rows], counts)
        slots.add(job_id, nodes, made.slot[first:last], np.full(last - first, WHOLE))


def release(running: RunningTable, slots: SlotTable, job_id: int) -> None:
    """Fold the end of a job into both tables. The order of the two is of no account."""
    running.remove(job_id)
    slots.remove(job_id)


def agree(slots: SlotTable) -> bool:
    """Whether `nodes.free` counts, of every kind told of a node, what a new job may have of it.

    To be asked where all jobs hold whole devices. O(nodes x slots).
    """
    nodes = slots.nodes
    slots.fit_columns()
    n = nodes.rows
    leaf = gres.leaf_amounts(nodes.free[:n, : len(nodes.dims)], nodes.dims.parent)
    kind = slots.slots[KIND, :n]
    for r in np.unique(kind[kind >= 0]).tolist():
        good = (slots.slots[HEALTH, :n] == Health.HEALTHY) & (slots.slots[FREE, :n] >= WHOLE)
        here = (kind == r).any(axis=1)
        if (((kind == r) & good).sum(axis=1) != leaf[:, r])[here].any():
            return False
    return True
