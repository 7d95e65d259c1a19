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

from sched_core.heads import become_head, block, remember
from sched_core.jit import entry, inlined
from sched_core.limitcheck import charge, over_limit
from sched_core.passover import pass_over
from sched_core.placing import fits_now, try_start
from sched_core.report import finish
from sched_core.verdict import (
    LIMIT,
    NOT_REACHED,
    PRIORITY,
    RESOURCES,
    STARTED,
)
from sched_core.views import (
    AHEAD,
    CODE,
    EXAMINED,
    FAIL_FROM,
    FAR,
    FITTING_NODES,
    J_COUNT,
    J_DURATION,
    J_LIMIT,
    J_PLAIN,
    J_SHAPE,
    LOW,
    NO_HEAD,
    NODES,
    ROWS,
    SETTLED,
    STARTS,
    STATE,
    V_AHEAD,
    V_CODE,
    V_PLACED,
    V_SHORT,
    WAITERS,
    WAITING,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)


@inlined
def prepare(req: Requests) -> None:
    """Note the shapes of which no gang can start, for want of nodes now or ever. O(shapes)."""
    shapes = req.shapes
    for shape in range(req.needs.shape[1]):
        if shapes[CODE, shape] > 0:
            shapes[SETTLED, shape] = shapes[CODE, shape]
        if shapes[CODE, shape] > 0 or req.fitting[shape, FITTING_NODES] < shapes[LOW, shape]:
            shapes[FAIL_FROM, shape] = 0


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
    counters = scratch.counters
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
    duration = queue.jobs[J_DURATION, row]
    if shapes[FAIL_FROM, shape] > duration:
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
        queue.planned[i] = when
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        vacant -= part >= 0 and scratch.options[STATE, part] == 0
    if when == FAR and shapes[WAITING, shape] == 0:
        shapes[WAITING, shape] = 1
        req.waiting[counters[WAITERS]] = shape
        counters[WAITERS] += 1
    first = vacant > 0 or not behind
    leads = when < FAR or (first and shapes[FAIL_FROM, shape] == 0)
    queue.records[V_CODE, i] = RESOURCES if leads else PRIORITY
    if not first:  # all its partitions have someone waiting, and will until the pass ends
        shapes[SETTLED, shape] = PRIORITY


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
) -> bool:
    """Decide about record `i` of the queue: start what fits of it, write its verdict code.

    Gives whether the pass has room for more starts. A limit is looked at again before each task.
    """
    records = queue.records
    counters = scratch.counters
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
    duration = queue.jobs[J_DURATION, row]
    limit = queue.jobs[J_LIMIT, row]
    while records[V_PLACED, i] < queue.jobs[J_COUNT, row]:
        room = timeline.rows.shape[1] - counters[ROWS] >= counters[NODES]
        if not room or counters[STARTS] >= queue.starts.shape[1] - 1:
            records[V_CODE, i] = NOT_REACHED
            return False
        if limit >= 0:
            over = over_limit(queue, shape, limit)
            if over >= 0:
                records[V_CODE, i] = LIMIT
                records[V_SHORT, i] = over - 1
                return True
        end = now + duration
        if req.shapes[FAIL_FROM, shape] <= duration or not try_start(
            cluster, req, timeline, queue, scratch, shape, row, now, end, fifo
        ):
            refuse(cluster, req, timeline, queue, scratch, i, now, fifo)
            return True
        records[V_PLACED, i] += 1
        if limit >= 0:
            charge(queue, shape, limit)
    records[V_CODE, i] = STARTED
    return True


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
    jobs = queue.jobs
    records = queue.records
    counters = scratch.counters
    options = scratch.options
    prepare(req)
    i, looked_at = 0, depth
    while True:
        if i < records.shape[1]:
            shape = jobs[J_SHAPE, queue.order[i]]
            simple = jobs[J_PLAIN, queue.order[i]] and req.shapes[SETTLED, shape] < 0
        if i == records.shape[1] or not simple or counters[EXAMINED] >= looked_at:
            i = pass_over(queue, req.shapes, parts, options, counters, i, now, looked_at)
        if i == records.shape[1]:
            break
        shape = jobs[J_SHAPE, queue.order[i]]
        records[V_AHEAD, i] = options[AHEAD, parts[shape, 0]]
        queue.planned[i] = -1
        records[V_PLACED, i] = 0
        counters[EXAMINED] += 1
        if not consider(cluster, req, timeline, queue, scratch, i, now, fifo != 0):
            looked_at = 0
        if records[V_CODE, i] != STARTED:
            for option in range(parts.shape[1]):
                if parts[shape, option] >= 0:
                    options[AHEAD, parts[shape, option]] += 1
        i += 1
    finish(cluster, req, timeline, queue, scratch, now, budget, False)
    return int(counters[STARTS])
