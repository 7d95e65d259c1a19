"""Whether all components of a heterogeneous job fit into what a layer of amounts holds."""

from __future__ import annotations

from sched_core.fit import REQUIRED, choose, fill_amount, hosts, may_host, set_marks
from sched_core.jit import kernel
from sched_core.views import (
    AMOUNT,
    APART,
    AVAIL,
    BLOCKED,
    CAND_NODE,
    CAND_TASKS,
    FAR,
    HIGH,
    HOLD_START,
    LIST_START,
    LOW,
    MARK,
    MEMBERS,
    NEXCLUDED,
    NODES,
    NREQUIRED,
    NTASKS,
    ORDER,
    PICK_NODE,
    PICK_TASKS,
    ROW_NODE,
    ROW_RELEASE,
    ROW_SCRATCH,
    ROW_TASKS,
    ROWS,
    STEPS,
    TASKS_EACH,
    TRIED,
    Cluster,
    Requests,
    Scratch,
    Timeline,
)


@kernel
def first_member(req: Requests, shape: int) -> int:
    """Where `listed` begins to name the components of a shape. O(1)."""
    shapes = req.shapes
    return int(shapes[LIST_START, shape] + shapes[NREQUIRED, shape] + shapes[NEXCLUDED, shape])


@kernel
def set_apart(
    cluster: Cluster, req: Requests, timeline: Timeline, shape: int, first: int, end: int, on: int
) -> None:
    """Mark (on=1) or unmark (on=0) the nodes of some rows, where components share none. O(rows).

    They then count as excluded; a component's own marks come and go with it, so mark before each.
    """
    if req.shapes[APART, shape]:
        for k in range(first, end):
            cluster.nodes[MARK, timeline.rows[ROW_NODE, k]] = on


@kernel
def candidates_then(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    shape: int,
    place: int,
    skip_held: bool,
    at_once: bool,
) -> int:
    """Write the nodes of a place that host a shape by AVAIL, required ones first.

    The others by row, or (`at_once`) by preference, none that is blocked. Gives their number, 0 if a
    required one cannot.
    O(nodes x R).
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    shapes = req.shapes
    start, required = shapes[LIST_START, shape], shapes[NREQUIRED, shape]
    found = 0
    set_marks(cluster, req, shape, 1)
    for i in range(-required, scratch.counters[NODES] if at_once else nodes.shape[1]):
        node = req.listed[start + required + i] if i < 0 else i
        if at_once and i >= 0:
            node = nodes[ORDER, i]
        if (
            nodes[MARK, node] == (0 if i >= 0 else REQUIRED)
            and not (skip_held and nodes[HOLD_START, node] < FAR)
            and not (at_once and nodes[BLOCKED, node])
            and may_host(cluster, req, shape, place, node)
        ):
            count = hosts(amounts, AVAIL, node, shapes, req.needs, shape)
            if count > 0:
                nodes[CAND_NODE, found] = node
                nodes[CAND_TASKS, found] = count
                found += 1
        if i == -1 and found < required:
            break
    set_marks(cluster, req, shape, 0)
    return found if found >= required else 0


@kernel
def fit_together(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    shape: int,
    skip_held: bool,
    closed: int,
    at_once: bool,
) -> bool:
    """Place all components by AVAIL, one after the other.

    Each on as few nodes as it needs, or (`at_once`) on as many as it may have; in no partition of
    which the row `closed` of `options` is not 0 (-1: in any). If they fit, AVAIL
    is what they leave, and rows from ROWS to TRIED say node, tasks, place (ROW_RELEASE), component
    (ROW_SCRATCH) and amounts; else AVAIL is as before. O(components x places x nodes x R).
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    shapes = req.shapes
    places = req.places
    options = scratch.options
    rows = timeline.rows
    at = before = scratch.counters[ROWS]
    start = first_member(req, shape)
    for i in range(shapes[MEMBERS, shape]):
        member, size, most = req.listed[start + i], 0, 0
        scratch.counters[STEPS] += nodes.shape[1]
        if shapes[LOW, member] <= shapes[HIGH, member]:
            most = shapes[HIGH, member]
            if shapes[NTASKS, member] == 0 and not at_once:
                most = shapes[LOW, member]
        for option in range(places.shape[1]):
            place = places[member, option]
            if place < 0 or size > 0:
                break
            if closed >= 0 and options[closed, place % options.shape[1]] != 0:
                continue
            set_apart(cluster, req, timeline, shape, before, at, 1)
            found = candidates_then(cluster, req, scratch, member, place, skip_held, at_once)
            size = choose(cluster, req, scratch, member, found, most)
            for k in range(size):
                node = nodes[PICK_NODE, k]
                fill_amount(cluster, req, member, node, nodes[PICK_TASKS, k], AVAIL)
                rows[ROW_NODE, at] = node
                rows[ROW_TASKS, at] = (
                    nodes[PICK_TASKS, k]
                    if shapes[NTASKS, member] > 0
                    else shapes[TASKS_EACH, member]
                )
                rows[ROW_RELEASE, at] = place
                rows[ROW_SCRATCH, at] = i
                for r in range(amounts.shape[2]):
                    amounts[AVAIL, node, r] -= cluster.dims[AMOUNT, r]
                    timeline.row_amount[at, r] = cluster.dims[AMOUNT, r]
                at += 1
        set_apart(cluster, req, timeline, shape, before, at, 0)
        if size == 0:
            for k in range(before, at):
                for r in range(amounts.shape[2]):
                    amounts[AVAIL, rows[ROW_NODE, k], r] += timeline.row_amount[k, r]
            return False
    scratch.counters[TRIED] = at
    return True
