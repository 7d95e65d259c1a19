"""One scheduling pass: FIFO or EASY backfilling over the queue in order of priority.

FIFO. A record that could run and does not fit blocks its partitions, and every node of them, for
all records behind it, also those of overlapping partitions (the rule of Slurm's main scheduler).

EASY (Lifka 1995). The first record of a partition that does not fit is the partition's *head*: its
shadow time is computed and concrete nodes are promised to it then. Others may start now if on every
promised node they touch they end by then, equality allowed, or take no more than is left there
beside the promise. With one partition this is the textbook's single reservation. With several,
every partition has its head, in queue order; promises never share a node, and a head that finds
none without one waits without a promise, as does its partition. A record that no usable node could
host, that is over a limit, or that wants more licences than there are, blocks nobody. One that
waits for licences is a head like any other, and theirs are promised to it beside its nodes. What
fails once for a shape fails for all later jobs of it that run as long.
"""

from __future__ import annotations

from sched_core.fit import first_fit
from sched_core.jit import entry, inlined
from sched_core.licencecheck import first_lack, licensed, take_licences
from sched_core.limitcheck import charge, over_limit
from sched_core.passover import pass_over
from sched_core.placing import commit_simple, start_gang
from sched_core.timegates import longest_limit, shorter_limit
from sched_core.verdict import LIMIT, NOT_REACHED, STARTED
from sched_core.views import (
    AHEAD,
    CODE,
    DEPTH,
    EXAMINED,
    FAIL_FROM,
    FAR,
    FITTING_NODES,
    HOLD_START,
    J_COUNT,
    J_LIMIT,
    J_PLAIN,
    J_SHAPE,
    LOW,
    MEMBERS,
    NODES,
    PLAIN,
    ROWS,
    SETTLED,
    SIMPLE,
    STARTS,
    STATE,
    V_AHEAD,
    V_CODE,
    V_PLACED,
    V_SHORT,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.waiting import may_lead, wait


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
def start_tasks(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    i: int,
    now: int,
    fifo: bool,
) -> bool:
    """Start what fits of record `i`; whether nothing is left to be decided about it.

    If not, it cannot start all its tasks. A limit is looked at again before each task. A start is
    given the longest time limit that the record may have and for which it fits. The usual job, of
    one task and for no node in particular, is started without a call.
    """
    shapes = req.shapes
    records = queue.records
    counters = scratch.counters
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
    limit = queue.jobs[J_LIMIT, row]
    usual = shapes[SIMPLE, shape] != 0 and shapes[PLAIN, shape] != 0
    while records[V_PLACED, i] < queue.jobs[J_COUNT, row]:
        room = timeline.rows.shape[1] - counters[ROWS] >= counters[NODES]
        if not room or counters[STARTS] >= queue.starts.shape[1] - 1:
            records[V_CODE, i] = NOT_REACHED
            counters[DEPTH] = 0
            return True
        if limit >= 0:
            over = over_limit(queue, shape, limit)
            if over >= 0:
                records[V_CODE, i] = LIMIT
                records[V_SHORT, i] = over - 1
                return True
        known = shapes[FAIL_FROM, shape]
        length, started = longest_limit(queue, row, now), False
        while length > 0 and not started:
            end, lack, node = now + length, FAR, -1
            fails = shapes[FAIL_FROM, shape] <= length
            if not fails and licensed(queue, shape):
                lack = first_lack(queue, shape, now, end)
            blocked = fifo and scratch.options[STATE, req.parts[shape, 0]] > 0
            if usual and lack == FAR and not fails and not blocked:
                node = first_fit(cluster, req, scratch, shape, end)
            if node >= 0 and end <= cluster.nodes[HOLD_START, node]:
                commit_simple(cluster, req, timeline, queue, scratch, shape, row, node, end)
                started = True
            elif not fails:
                started = start_gang(
                    cluster, req, timeline, queue, scratch, shape, row, now, end, fifo, lack
                )
            if not started:
                length = shorter_limit(req, queue, shape, row)
        if not started:
            return False
        shapes[FAIL_FROM, shape] = known  # what longer limits failed for was before this start
        records[V_PLACED, i] += 1
        if limit >= 0:
            charge(queue, shape, limit)
        if licensed(queue, shape):
            take_licences(queue, shape, now, now + length, 1)
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
    first: int,
) -> int:
    """A pass from place `first` of the queue on; gives the place of the next to be made a head.

    `sched_core.heads.lead` does that, then the pass goes on behind it; so it does where a heterogeneous
    job has its turn (`bundle_heads.decide`). At the end of the queue it is over. All it says is in `queue`, `timeline`, `scratch`. Invariants: what starts fits now in every
    dimension; a gang starts as a whole; no start delays a promise. O(shapes x nodes + placements +
    records). Finding heads is kept out because it is rare and would be compiled twice.
    """
    parts = req.parts
    jobs = queue.jobs
    records = queue.records
    counters = scratch.counters
    options = scratch.options
    if first == 0:
        prepare(req)
    i = first
    while True:
        if i < records.shape[1]:
            shape = jobs[J_SHAPE, queue.order[i]]
            simple = jobs[J_PLAIN, queue.order[i]] and req.shapes[SETTLED, shape] < 0
        if i == records.shape[1] or not simple or counters[EXAMINED] >= counters[DEPTH]:
            i = pass_over(queue, req.shapes, parts, options, counters, i, now)
        if i == records.shape[1]:
            break
        shape = jobs[J_SHAPE, queue.order[i]]
        records[V_AHEAD, i] = options[AHEAD, parts[shape, 0]]
        queue.planned[i] = -1
        records[V_PLACED, i] = 0
        counters[EXAMINED] += 1
        if req.shapes[MEMBERS, shape] > 0:
            break
        if not start_tasks(cluster, req, timeline, queue, scratch, i, now, fifo != 0):
            if may_lead(req, queue, scratch, shape, now):
                break
            wait(req, queue, scratch, i, 0)
        if records[V_CODE, i] != STARTED:
            for option in range(parts.shape[1]):
                if parts[shape, option] >= 0:
                    options[AHEAD, parts[shape, option]] += 1
        i += 1
    return i
