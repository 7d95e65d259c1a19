"""One scheduling pass: FIFO or EASY backfilling over the queue in order of priority.

FIFO. A record that could run and does not fit blocks its partitions, and every node of them, for
all records behind it, also those of overlapping partitions (the rule of Slurm's main scheduler).

EASY (Lifka 1995). The first record of a partition that does not fit is the partition's *head*: its
shadow time is computed and concrete nodes are promised to it then. Others may start now if on every
promised node they touch they end by then, equality allowed, or take no more than is left there
beside the promise. With one partition this is the textbook's single reservation. With several,
every partition has its head, in queue order; promises never share a node, and a head that finds
none without one waits without a promise, as does its partition. A record that no usable node could
host, or that is over a limit, blocks nobody. What fails once for a shape fails for all later jobs of it that run as long.
"""

from __future__ import annotations

from sched_core.fit import choose, fill_amount, fill_room, gather, in_partition
from sched_core.jit import entry, inlined
from sched_core.limitcheck import charge, over_limit
from sched_core.report import finish
from sched_core.timeline import earliest, promise, sort_starts
from sched_core.verdict import (
    ARRAY_LIMIT,
    BEGIN_TIME,
    LIMIT,
    NOT_REACHED,
    PRIORITY,
    RESOURCES,
    STARTED,
    survey,
)
from sched_core.views import (
    AHEAD,
    AMOUNT,
    BLOCKED,
    CAND_NODE,
    CODE,
    CURSOR,
    CURSOR_BEYOND,
    EXAMINED,
    FAIL_FROM,
    FAR,
    FITTING_NOW,
    FREE,
    HEAD_END,
    HEAD_PART,
    HEAD_RECORD,
    HEAD_TIME,
    HEADS,
    HIGH,
    HOLD_START,
    J_BEGIN,
    J_COUNT,
    J_DURATION,
    J_GATE,
    J_LIMIT,
    J_SHAPE,
    LOW,
    NO_HEAD,
    NODES,
    NTASKS,
    ORDER,
    PICK_NODE,
    PICK_TASKS,
    PROMISE,
    ROOM,
    ROW_NODE,
    ROW_RELEASE,
    ROW_TASKS,
    ROWS,
    SPARE,
    START_END,
    START_PART,
    START_RECORD,
    STARTS,
    STATE,
    TASKS_EACH,
    V_AHEAD,
    V_CODE,
    V_PLACED,
    V_PLANNED,
    V_SHORT,
    WEIGHT,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)


@inlined
def commit(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    shape: int,
    part: int,
    row: int,
    size: int,
    now: int,
    end: int,
) -> None:
    """Place the chosen gang: take its amounts, write its rows. O(nodes of the gang x R²).

    Invariant: FREE and, beyond a promise, SPARE stay at least 0 in every dimension taken.
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    dims = cluster.dims
    shapes = req.shapes
    rows = timeline.rows
    row_amount = timeline.row_amount
    starts = queue.starts
    counters = scratch.counters
    start, at = counters[STARTS], counters[ROWS]
    for i in range(size):
        node = nodes[PICK_NODE, i]
        beyond = end > nodes[HOLD_START, node]
        fill_room(cluster, node, beyond)
        fill_amount(cluster, req, shape, node, nodes[PICK_TASKS, i], ROOM)
        for r in range(amounts.shape[2]):
            amounts[FREE, node, r] -= dims[AMOUNT, r]
            row_amount[at, r] = dims[AMOUNT, r]
            if beyond:
                amounts[SPARE, node, r] -= dims[AMOUNT, r]
        rows[ROW_NODE, at] = node
        rows[ROW_RELEASE, at] = max(end, now + 1)
        rows[ROW_TASKS, at] = (
            nodes[PICK_TASKS, i] if shapes[NTASKS, shape] > 0 else shapes[TASKS_EACH, shape]
        )
        at += 1
    starts[START_RECORD, start] = row
    starts[START_PART, start] = part
    starts[START_END, start + 1] = at
    counters[STARTS] = start + 1
    counters[ROWS] = at


@inlined
def try_start(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    shape: int,
    row: int,
    now: int,
    end: int,
    fifo: bool,
) -> bool:
    """Start one gang in the first of its partitions where it fits. O(partitions x nodes x R)."""
    shapes = req.shapes
    parts = req.parts
    options = scratch.options
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part < 0:
            break
        if fifo and options[STATE, part] > 0:
            continue
        found = gather(cluster, req, scratch, shape, part, end, True)
        size = choose(cluster, req, scratch, shape, found, shapes[HIGH, shape])
        if size > 0:
            commit(cluster, req, timeline, queue, scratch, shape, part, row, size, now, end)
            return True
    return False


@inlined
def fits_now(cluster: Cluster, req: Requests, scratch: Scratch, shape: int) -> bool:
    """Whether a gang would fit if no promise and no blocked head stood in its way."""
    shapes = req.shapes
    parts = req.parts
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part >= 0:
            found = gather(cluster, req, scratch, shape, part, 0, False)
            if choose(cluster, req, scratch, shape, found, shapes[HIGH, shape]) > 0:
                return True
    return False


@inlined
def held_first(cluster: Cluster, req: Requests, scratch: Scratch) -> None:
    """Bring promised nodes to the front of their weight, stably, and reset the cursors.

    Short jobs then use up nodes that long ones cannot have. O(nodes + shapes).
    """
    nodes = cluster.nodes
    shapes = req.shapes
    counters = scratch.counters
    count, low = counters[NODES], 0
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


@inlined
def remember(req: Requests, scratch: Scratch, shape: int, fits: bool, now: int, end: int) -> None:
    """Note that a shape failed for jobs that end at `end`: what else fails with it. O(heads).

    Without room now every job of it fails. Else it failed for promises that begin before `end`, and
    so does every job that runs beyond the last of these.
    """
    shapes = req.shapes
    counters = scratch.counters
    heads = scratch.heads
    if not fits:
        shapes[FAIL_FROM, shape] = 0
        return
    last = now
    for head in range(counters[HEADS]):
        if heads[HEAD_TIME, head] < end:
            last = max(last, heads[HEAD_TIME, head])
    shapes[FAIL_FROM, shape] = min(shapes[FAIL_FROM, shape], last - now + 1)


@inlined
def refuse(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    i: int,
    now: int,
    fifo: bool,
) -> None:
    """Record `i` cannot start all its tasks: write why; if its turn has come, make it a head.

    It waits for resources if it is the first of a partition that could run there and does not fit;
    behind such a one it waits for its turn, whether or not it would fit.
    """
    shapes = req.shapes
    parts = req.parts
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
    duration = queue.jobs[J_DURATION, row]
    if survey(cluster, req, scratch, shape) > 0:
        shapes[FAIL_FROM, shape] = 0
        queue.records[V_CODE, i] = shapes[CODE, shape]
        return
    if shapes[FAIL_FROM, shape] > duration:
        fits = shapes[FITTING_NOW, shape] >= shapes[LOW, shape]
        if fits:
            fits = fits_now(cluster, req, scratch, shape)
        remember(req, scratch, shape, fits, now, now + duration)
    vacant, behind = 0, False
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part >= 0:
            vacant += scratch.options[STATE, part] == 0
            behind |= scratch.options[STATE, part] != 0
    when = FAR
    if vacant > 0 and shapes[NO_HEAD, shape] == 0:
        if fifo:
            when = block(cluster, req, timeline, scratch, shape, row, now)
        else:
            when = become_head(cluster, req, timeline, scratch, shape, row, now)
        shapes[NO_HEAD, shape] = when == FAR
    if when < FAR:
        queue.records[V_PLANNED, i] = when
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        vacant -= part >= 0 and scratch.options[STATE, part] == 0
    first = vacant > 0 or not behind
    leads = when < FAR or (first and shapes[FAIL_FROM, shape] == 0)
    queue.records[V_CODE, i] = RESOURCES if leads else PRIORITY


@inlined
def consider(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    i: int,
    now: int,
    fifo: bool,
) -> None:
    """Decide about record `i` of the queue: start what fits of it, write its verdict code."""
    records = queue.records
    counters = scratch.counters
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
    duration = queue.jobs[J_DURATION, row]
    end = now + duration
    limit = queue.jobs[J_LIMIT, row]
    while records[V_PLACED, i] < queue.jobs[J_COUNT, row]:
        room = timeline.rows.shape[1] - counters[ROWS] >= counters[NODES]
        if not room or counters[STARTS] >= queue.starts.shape[1] - 1:
            records[V_CODE, i] = NOT_REACHED
            return
        if limit >= 0:
            over = over_limit(queue, shape, limit)
            if over >= 0:
                records[V_CODE, i] = LIMIT
                records[V_SHORT, i] = over - 1
                return
        if req.shapes[FAIL_FROM, shape] <= duration or not try_start(
            cluster, req, timeline, queue, scratch, shape, row, now, end, fifo
        ):
            refuse(cluster, req, timeline, queue, scratch, i, now, fifo)
            return
        records[V_PLACED, i] += 1
        if limit >= 0:
            charge(queue, shape, limit)
    records[V_CODE, i] = STARTED


@entry
def run_pass(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    fifo: int,
    now: int,
    depth: int,
    budget: int,
) -> int:
    """A whole pass; gives the number of starts. All it says is in `queue`, `timeline`, `scratch`.

    Invariants: what starts fits now in every dimension; a gang starts as a whole; no start delays a
    promise. O(shapes x nodes + placements + records), plus O(nodes + releases) for every head and
    for every estimate within `budget` visits.
    """
    parts = req.parts
    order = queue.order
    jobs = queue.jobs
    records = queue.records
    counters = scratch.counters
    options = scratch.options
    for i in range(records.shape[1]):
        row = order[i]
        shape = jobs[J_SHAPE, row]
        records[V_AHEAD, i] = options[AHEAD, parts[shape, 0]]
        if jobs[J_GATE, row] != 0:
            records[V_CODE, i] = jobs[J_GATE, row]
            continue
        if jobs[J_BEGIN, row] > now:
            records[V_CODE, i] = BEGIN_TIME
            records[V_PLANNED, i] = jobs[J_BEGIN, row]
            continue
        if jobs[J_COUNT, row] == 0:
            records[V_CODE, i] = ARRAY_LIMIT
            continue
        if counters[EXAMINED] >= depth:
            records[V_CODE, i] = NOT_REACHED
        else:
            counters[EXAMINED] += 1
            consider(cluster, req, timeline, queue, scratch, i, now, fifo != 0)
        if records[V_CODE, i] != STARTED:
            for option in range(parts.shape[1]):
                part = parts[shape, option]
                if part >= 0:
                    options[AHEAD, part] += 1
    finish(cluster, req, timeline, queue, scratch, now, budget)
    return int(counters[STARTS])
