"""The first of a partition that waits: what it is promised (EASY), or what it blocks (FIFO)."""

from __future__ import annotations

from sched_core.fit import in_partition
from sched_core.jit import entry, inlined
from sched_core.licence_heads import sweep_until, with_licences
from sched_core.licencecheck import take_licences
from sched_core.names import CPU
from sched_core.timeline import earliest, promise, sort_starts
from sched_core.views import (
    AHEAD,
    BEST,
    BLOCKED,
    CAND_NODE,
    CURSOR,
    CURSOR_BEYOND,
    FAR,
    FOUND,
    FREE,
    HEAD_END,
    HEAD_PART,
    HEAD_RECORD,
    HEAD_TIME,
    HEADS,
    HOLD_START,
    J_DEADLINE,
    J_DURATION,
    J_PLAIN,
    J_SHAPE,
    J_TIME_MIN,
    LEAST_CPU,
    LICENCE_ANY,
    NO_HEAD,
    NODES,
    ORDER,
    PROMISE,
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


@entry
def search(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    shape: int,
    duration: int,
    only_open: int,
    skip_held: int,
    now: int,
) -> int:
    """Earliest start (s) of a gang in any of its places, if nothing else starts; FAR: never.

    `only_open`: in partitions where nobody waits; `skip_held`: on nodes that are promised to nobody.
    FOUND says it of each of its partitions, FAR also of those not asked, `counters[BEST]` in which
    place it is earliest; with `skip_held` the sweep is left as it is there and then. Placed rows must
    be sorted. Its licences are there as well, for its `duration` (s; 0: they are not looked at).
    O(places x (nodes + releases) x R).
    """
    parts = req.parts
    places = req.places
    options = scratch.options
    span = options.shape[1]
    for option in range(parts.shape[1]):
        if parts[shape, option] >= 0:
            options[FOUND, parts[shape, option]] = FAR
    best, best_part, last = FAR, -1, -1
    for option in range(places.shape[1] + 1):
        part = places[shape, option] if option < places.shape[1] else best_part
        if part < 0 or (only_open != 0 and options[STATE, part % span] != 0):
            continue
        if option == places.shape[1] and (skip_held == 0 or last == best_part):
            continue
        when = earliest(cluster, req, timeline, scratch, shape, part, skip_held != 0, now)
        if duration > 0:
            when = with_licences(queue, shape, duration, when, now)
        options[FOUND, part % span] = min(options[FOUND, part % span], when)
        last = part
        if when < best:
            best, best_part = when, part
    scratch.counters[BEST] = best_part
    return best


@inlined
def close(cluster: Cluster, req: Requests, scratch: Scratch, shape: int, fifo: bool) -> None:
    """Nobody else leads the open partitions where a gang that got no promise could run, FOUND says.

    Under FIFO all their nodes are blocked for those behind it. O(partitions x nodes).
    """
    nodes = cluster.nodes
    parts = req.parts
    options = scratch.options
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part < 0 or options[STATE, part] != 0 or options[FOUND, part] == FAR:
            continue
        options[STATE, part] = 2
        if not fifo:
            continue
        options[PROMISE, part] = options[FOUND, part]
        for i in range(scratch.counters[NODES]):
            if in_partition(cluster.partitions, nodes[ORDER, i], part):
                nodes[BLOCKED, nodes[ORDER, i]] = 1


@entry
def install(
    cluster: Cluster, req: Requests, queue: Queue, scratch: Scratch, i: int, when: int, fifo: int
) -> None:
    """Make record `i` a head, which a `search` has found to start at `when`, and write its verdict.

    Under EASY it is promised its nodes, under FIFO it blocks those of its partitions; FAR: it can
    be neither. O(partitions x nodes).
    """
    parts = req.parts
    counters = scratch.counters
    options = scratch.options
    heads = scratch.heads
    span = options.shape[1]
    shape = queue.jobs[J_SHAPE, queue.order[i]]
    vacant = open_options(req, scratch, shape)
    head, part = counters[HEADS], counters[BEST]
    in_time = queue.jobs[J_DEADLINE, queue.order[i]] >= FAR
    req.shapes[NO_HEAD, shape] = when == FAR and in_time
    if when < FAR:
        queue.planned[i] = when
        heads[HEAD_RECORD, head] = queue.order[i]
        heads[HEAD_PART, head] = part
        heads[HEAD_TIME, head] = when
        heads[HEAD_END, head + 1] = heads[HEAD_END, head]
        counters[HEADS] = head + 1
    if when < FAR and fifo == 0:
        promise(cluster, req, scratch, shape, head, when)
        options[STATE, part % span] = 1
        options[PROMISE, part % span] = when
        held_first(cluster, req, scratch)
    else:
        close(cluster, req, scratch, shape, fifo != 0)
    wait(req, queue, scratch, i, vacant - open_options(req, scratch, shape))
    for option in range(parts.shape[1]):
        if parts[shape, option] >= 0:
            options[AHEAD, parts[shape, option]] += 1


def last_start(queue: Queue, row: int) -> int:
    """The last instant from which a record's least limit still ends by its deadline."""
    jobs = queue.jobs
    deadline = int(jobs[J_DEADLINE, row])
    least = int(jobs[J_TIME_MIN, row] or jobs[J_DURATION, row])
    return FAR if jobs[J_PLAIN, row] or deadline >= FAR else deadline - least


def lead(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    i: int,
    now: int,
    *,
    fifo: bool,
) -> None:
    """Record `i` has its turn and does not fit: make it the head of its partitions, if it can be."""
    row = queue.order[i]
    shape, duration = int(queue.jobs[J_SHAPE, row]), int(queue.jobs[J_DURATION, row])
    sort_starts(timeline, scratch.counters)
    held = int(not fifo)
    when = search(cluster, req, timeline, queue, scratch, shape, duration, 1, held, now)
    latest = last_start(queue, int(row))
    found = scratch.options[FOUND]
    found[found > latest] = FAR
    if latest < when < FAR:  # it would miss its deadline: no promise, and it blocks nobody
        when = FAR
    elif when == FAR and not fifo:  # it may be in the way of a head that it can run at all
        search(cluster, req, timeline, queue, scratch, shape, 0, 1, 0, now)
    elif not fifo and queue.licence_need[shape, LICENCE_ANY]:
        part = int(scratch.counters[BEST])
        sweep_until(cluster, req, timeline, scratch, shape, part, now, when)
        take_licences(queue, shape, when, when + duration, 1)
    install(cluster, req, queue, scratch, i, when, int(fifo))
