"""The first of a partition that waits: what it is promised (EASY), or what it blocks (FIFO)."""

from __future__ import annotations

from sched_core.fit import in_partition
from sched_core.jit import entry, inlined
from sched_core.names import CPU
from sched_core.timeline import earliest, promise, sort_starts
from sched_core.views import (
    AHEAD,
    BLOCKED,
    CAND_NODE,
    CURSOR,
    CURSOR_BEYOND,
    FAR,
    FREE,
    HEAD_END,
    HEAD_PART,
    HEAD_RECORD,
    HEAD_TIME,
    HEADS,
    HOLD_START,
    J_SHAPE,
    LEAST_CPU,
    NO_HEAD,
    NODES,
    ORDER,
    PROMISE,
    ROWS,
    STATE,
    WEIGHT,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.waiting import open_options, wait


@inlined
def held_first(cluster: Cluster, req: Requests, scratch: Scratch) -> None:
    """Bring promised nodes to the front of their weight, stably, and reset the cursors.

    Short jobs then use up nodes that long ones cannot have. Nodes on which nothing fits any more in
    this pass are left out, lest every shape passes over them again. O(nodes + shapes).
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    shapes = req.shapes
    counters = scratch.counters
    count, low = 0, 0
    for i in range(counters[NODES]):
        node = nodes[ORDER, i]
        if amounts[FREE, node, CPU] >= counters[LEAST_CPU]:
            nodes[ORDER, count] = node
            count += 1
    counters[NODES] = count
    while low < count:
        high = low
        while high < count and (
            nodes[WEIGHT, nodes[ORDER, high]] == nodes[WEIGHT, nodes[ORDER, low]]
        ):
            high += 1
        at = low
        for held in range(1, -1, -1):
            for i in range(low, high):
                if (nodes[HOLD_START, nodes[ORDER, i]] < FAR) == (held == 1):
                    nodes[CAND_NODE, at] = nodes[ORDER, i]
                    at += 1
        for i in range(low, high):
            nodes[ORDER, i] = nodes[CAND_NODE, i]
        low = high
    shapes[CURSOR, :] = 0
    shapes[CURSOR_BEYOND, :] = 0


@inlined
def become_head(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    shape: int,
    row: int,
    now: int,
) -> int:
    """EASY: promise a failing gang its nodes if a partition of it has no head; its shadow time.

    FAR if it got no promise. O(partitions x (nodes + releases) x R).
    """
    parts = req.parts
    counters = scratch.counters
    options = scratch.options
    heads = scratch.heads
    best, best_part, last, vacant = FAR, -1, -1, False
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part < 0 or options[STATE, part] != 0:
            continue
        if not vacant:
            sort_starts(timeline, counters[ROWS])
            vacant = True
        when = earliest(cluster, req, timeline, scratch, shape, part, True, now)
        last = part
        if when < best:
            best, best_part = when, part
    if not vacant:
        return FAR
    if best == FAR:
        for option in range(parts.shape[1]):
            part = parts[shape, option]
            if part >= 0 and options[STATE, part] == 0:
                when = earliest(cluster, req, timeline, scratch, shape, part, False, now)
                if when < FAR:
                    options[STATE, part] = 2
        return FAR
    if last != best_part:
        earliest(cluster, req, timeline, scratch, shape, best_part, True, now)
    promise(cluster, req, scratch, shape, best)
    head = counters[HEADS]
    heads[HEAD_RECORD, head] = row
    heads[HEAD_PART, head] = best_part
    heads[HEAD_TIME, head] = best
    counters[HEADS] = head + 1
    options[STATE, best_part] = 1
    options[PROMISE, best_part] = best
    held_first(cluster, req, scratch)
    return best


@inlined
def block(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    shape: int,
    row: int,
    now: int,
) -> int:
    """FIFO: a failing gang blocks its open partitions, where it could run, and all their nodes.

    Gives its earliest start, FAR if it could run in none of them. O(partitions x nodes).
    """
    nodes = cluster.nodes
    partitions = cluster.partitions
    parts = req.parts
    counters = scratch.counters
    options = scratch.options
    heads = scratch.heads
    best, best_part = FAR, -1
    sort_starts(timeline, counters[ROWS])
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part < 0 or options[STATE, part] != 0:
            continue
        when = earliest(cluster, req, timeline, scratch, shape, part, False, now)
        if when == FAR:
            continue
        options[STATE, part] = 2
        options[PROMISE, part] = when
        for i in range(counters[NODES]):
            if in_partition(partitions, nodes[ORDER, i], part):
                nodes[BLOCKED, nodes[ORDER, i]] = 1
        if when < best:
            best, best_part = when, part
    if best == FAR:
        return FAR
    head = counters[HEADS]
    heads[HEAD_RECORD, head] = row
    heads[HEAD_PART, head] = best_part
    heads[HEAD_TIME, head] = best
    heads[HEAD_END, head + 1] = heads[HEAD_END, head]
    counters[HEADS] = head + 1
    return best


@entry
def lead(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    i: int,
    now: int,
    fifo: int,
) -> None:
    """Make record `i`, whose turn it is and which does not fit, a head if it can be; its verdict.

    Under EASY it is promised its nodes, under FIFO it blocks those of its partitions.
    """
    parts = req.parts
    options = scratch.options
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
    vacant = open_options(req, scratch, shape)
    if fifo != 0:
        when = block(cluster, req, timeline, scratch, shape, row, now)
    else:
        when = become_head(cluster, req, timeline, scratch, shape, row, now)
    req.shapes[NO_HEAD, shape] = when == FAR
    if when < FAR:
        queue.planned[i] = when
    wait(req, queue, scratch, i, vacant - open_options(req, scratch, shape))
    for option in range(parts.shape[1]):
        if parts[shape, option] >= 0:
            options[AHEAD, parts[shape, option]] += 1
