"""Heterogeneous jobs in FIFO and EASY passes on the profile, beside reservations."""

from __future__ import annotations

from sched_core.bundles_conservative import book_rows, hold_later, hole_together
from sched_core.fit import in_partition
from sched_core.jit import kernel
from sched_core.promises import have_room
from sched_core.timegates import latest_start
from sched_core.verdict import LICENSES, NOT_REACHED, PRIORITY, RESOURCES
from sched_core.views import (
    BLOCKED,
    FAR,
    FOUND,
    HOLD_START,
    J_DURATION,
    J_SHAPE,
    NODES,
    ORDER,
    PROMISE,
    ROW_NODE,
    ROW_RELEASE,
    ROWS,
    TRIED,
    V_CODE,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.views_conservative import (
    FIRST_BLOCKS,
    HELD_ROWS,
    HORIZON,
    LEADS,
    R_LATEST,
    R_PART,
    R_START,
    Profile,
    Reservations,
)


@kernel
def block_nodes(cluster: Cluster, scratch: Scratch, part: int) -> None:
    """FIFO: no node of a partition is for anybody behind its first that waits. O(nodes)."""
    nodes = cluster.nodes
    for k in range(scratch.counters[NODES]):
        if in_partition(cluster.partitions, nodes[ORDER, k], part):
            nodes[BLOCKED, nodes[ORDER, k]] = 1


@kernel
def lead_bundle(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    held: Reservations,
    i: int,
) -> bool:
    """As `leading.lead`, for a record of several components; whether it was promised nodes.

    EASY: it is the first of all partitions in which it was promised some.
    """
    nodes = cluster.nodes
    parts = req.parts
    options = scratch.options
    state = profile.state
    row = queue.order[i]
    shape, duration = queue.jobs[J_SHAPE, row], queue.jobs[J_DURATION, row]
    code, behind = queue.records[V_CODE, i], False
    if code not in (RESOURCES, PRIORITY, LICENSES):
        return False
    for option in range(parts.shape[1]):
        if parts[shape, option] >= 0:
            taken = options[PROMISE, parts[shape, option]] < FAR
            options[FOUND, parts[shape, option]] = taken
            behind |= taken
    limit = min(state[HORIZON], held.records[R_LATEST, i], latest_start(queue, row))
    when = hole_together(
        cluster, req, timeline, queue, scratch, profile, shape, duration, FOUND, False, limit
    )
    if code != LICENSES:
        queue.records[V_CODE, i] = PRIORITY if when == FAR and behind else RESOURCES
    if when == FAR:
        return False
    first, last = scratch.counters[ROWS], scratch.counters[TRIED]
    blocks = state[LEADS] == FIRST_BLOCKS
    if when < 0 or not (
        blocks
        or (
            state[HELD_ROWS] + last - first <= held.rows.shape[1]
            and have_room(profile, timeline.rows, ROW_NODE, first, last)
        )
    ):
        queue.records[V_CODE, i] = NOT_REACHED
        return False
    queue.planned[i] = when
    if blocks:
        held.records[R_START, i] = when
        held.records[R_PART, i] = timeline.rows[ROW_RELEASE, first]
        for option in range(parts.shape[1]):
            part = parts[shape, option]
            if part >= 0 and options[FOUND, part] == 0:
                options[PROMISE, part] = when
                block_nodes(cluster, scratch, part)
        return False
    book_rows(cluster, timeline, queue, scratch, profile, shape, when, when + duration)
    hold_later(timeline, scratch, profile, held, i, when)
    for k in range(first, last):
        nodes[HOLD_START, timeline.rows[ROW_NODE, k]] = when
        options[PROMISE, timeline.rows[ROW_RELEASE, k] % options.shape[1]] = when
    return True
