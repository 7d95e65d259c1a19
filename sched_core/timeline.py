"""Availability over time: when a shape could start first, and what is promised to a head job.

What is free only grows as running jobs are released, so the earliest start of a gang is found by
one sweep over the releases in order of time. The start so found for the head of the queue is its
*shadow time* (Lifka 1995; Mu'alem and Feitelson 2001). The classical "extra nodes" are, for several
resources on concrete nodes, what each promised node has left at the shadow time beside the promise.
"""

from __future__ import annotations

from sched_core.fit import choose, fill_amount, has_features, hosts, in_partition, set_marks
from sched_core.jit import inlined, kernel
from sched_core.views import (
    ABLE,
    AMOUNT,
    AVAIL,
    CAND_NODE,
    CAND_TASKS,
    ELIGIBLE,
    FAR,
    FITTING,
    FREE,
    HEAD_END,
    HEAD_NODE,
    HEADS,
    HIGH,
    HOLD_START,
    LIST_START,
    LOW,
    MARK,
    NODES,
    NREQUIRED,
    NTASKS,
    ORDER,
    PICK_NODE,
    PICK_TASKS,
    READY,
    REQUIRED_ABLE,
    REQUIRED_TASKS,
    ROW_NODE,
    ROW_ORDER,
    ROW_RELEASE,
    ROW_SCRATCH,
    ROWS,
    RUN_END,
    RUN_NODE,
    SPARE,
    STEPS,
    TASKS,
    USE,
    WIDEST,
    Cluster,
    Requests,
    Scratch,
    Timeline,
)


@kernel
def sort_starts(timeline: Timeline, count: int) -> None:
    """Order the first `count` placed rows by release time, stably (bottom-up merge). O(k log k).

    Invariant: `rows[ROW_ORDER, :count]` is a permutation with rising ROW_RELEASE.
    """
    rows = timeline.rows
    for i in range(count):
        rows[ROW_ORDER, i] = i
    width = 1
    while width < count:
        for low in range(0, count, 2 * width):
            middle, high = min(low + width, count), min(low + 2 * width, count)
            left, right = low, middle
            for k in range(low, high):
                a = rows[ROW_ORDER, left] if left < middle else -1
                b = rows[ROW_ORDER, right] if right < high else -1
                if b < 0 or (a >= 0 and rows[ROW_RELEASE, a] <= rows[ROW_RELEASE, b]):
                    rows[ROW_SCRATCH, k] = a
                    left += 1
                else:
                    rows[ROW_SCRATCH, k] = b
                    right += 1
        for k in range(count):
            rows[ROW_ORDER, k] = rows[ROW_SCRATCH, k]
        width *= 2


@kernel
def enough(req: Requests, scratch: Scratch, shape: int) -> bool:
    """Whether the nodes in the tally can host the gang. O(1), O(tasks per node) if bounded.

    The tally is ABLE to WIDEST in `counters`; `histogram[t]` counts nodes, not required, that host
    `t` tasks (only where HIGH bounds the gang).
    """
    shapes = req.shapes
    histogram = scratch.histogram
    counters = scratch.counters
    if counters[REQUIRED_ABLE] < shapes[NREQUIRED, shape] or counters[ABLE] < shapes[LOW, shape]:
        return False
    if shapes[LOW, shape] > shapes[HIGH, shape] or shapes[NREQUIRED, shape] > shapes[HIGH, shape]:
        return False
    ntasks = shapes[NTASKS, shape]
    if ntasks == 0 or counters[TASKS] < ntasks:
        return bool(ntasks == 0)
    if counters[ABLE] <= shapes[HIGH, shape] or shapes[HIGH, shape] == ntasks:
        return True
    total, left, level = (
        counters[REQUIRED_TASKS],
        shapes[HIGH, shape] - shapes[NREQUIRED, shape],
        counters[WIDEST],
    )
    while left > 0 and level > 0:
        take = min(left, histogram[level])
        total += take * level
        left -= take
        level -= 1
    return bool(total >= ntasks)


@kernel
def count_node(
    req: Requests, scratch: Scratch, shape: int, required: bool, old: int, new: int
) -> None:
    """Tell the tally that a node now hosts `new` tasks instead of `old`. O(1). See `enough`."""
    shapes = req.shapes
    histogram = scratch.histogram
    counters = scratch.counters
    ntasks = shapes[NTASKS, shape]
    before, after = min(old, ntasks), min(new, ntasks)
    if old == 0:
        counters[ABLE] += 1
        counters[REQUIRED_ABLE] += required
    counters[TASKS] += after - before
    if required:
        counters[REQUIRED_TASKS] += after - before
    elif shapes[HIGH, shape] < ntasks:
        if before > 0:
            histogram[before] -= 1
        histogram[after] += 1
        counters[WIDEST] = max(counters[WIDEST], after)


@inlined
def begin_sweep(
    cluster: Cluster, req: Requests, scratch: Scratch, shape: int, part: int, skip_held: bool
) -> int:
    """Copy what is free, find the eligible nodes and count what fits now. O(nodes x R)."""
    amounts = cluster.amounts
    nodes = cluster.nodes
    partitions = cluster.partitions
    features = cluster.features
    shapes = req.shapes
    needs = req.needs
    clauses = req.clauses
    counters = scratch.counters
    counters[ABLE : WIDEST + 1] = 0
    found = 0
    set_marks(cluster, req, shape, 1)
    for i in range(counters[NODES]):
        node = nodes[ORDER, i]
        for r in range(amounts.shape[2]):
            amounts[AVAIL, node, r] = amounts[FREE, node, r]
        nodes[ELIGIBLE, node] = 0
        nodes[FITTING, node] = 0
        if (
            nodes[USE, node] == 1
            and nodes[MARK, node] != 1
            and not (skip_held and nodes[HOLD_START, node] < FAR)
            and in_partition(partitions, node, part)
            and has_features(features, node, shapes, clauses, shape)
        ):
            nodes[ELIGIBLE, node] = 1 + (nodes[MARK, node] == 2)
            count = hosts(amounts, AVAIL, node, shapes, needs, shape)
            if count > 0:
                nodes[FITTING, node] = count
                nodes[READY, found] = node
                found += 1
                count_node(req, scratch, shape, nodes[ELIGIBLE, node] == 2, 0, count)
    set_marks(cluster, req, shape, 0)
    counters[STEPS] += counters[NODES]
    return found


@kernel
def earliest(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    shape: int,
    part: int,
    skip_held: bool,
    now: int,
) -> int:
    """Earliest instant (s) at which a gang fits in a partition if nothing else starts; FAR: never.

    A running job past its end is taken to release at `now + 1`. Jobs placed in this pass release at
    their ROW_RELEASE, which must be sorted (`sort_starts`). Leaves AVAIL, FITTING and the first
    `counters[ABLE]` of READY as they are at that instant, all releases at it included.
    O(nodes x R + releases x R).
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    shapes = req.shapes
    needs = req.needs
    release_order = timeline.release_order
    running = timeline.running
    run_amount = timeline.run_amount
    rows = timeline.rows
    row_amount = timeline.row_amount
    histogram = scratch.histogram
    counters = scratch.counters
    found = begin_sweep(cluster, req, scratch, shape, part, skip_held)
    when = now
    i, k = 0, 0
    released, placed = release_order.shape[0], counters[ROWS]
    while not enough(req, scratch, shape):
        when = FAR
        if i < released:
            when = max(running[RUN_END, release_order[i]], now + 1)
        if k < placed:
            when = min(when, rows[ROW_RELEASE, rows[ROW_ORDER, k]])
        if when == FAR:
            break
        while True:
            if i < released and max(running[RUN_END, release_order[i]], now + 1) == when:
                row = release_order[i]
                node = running[RUN_NODE, row]
                for r in range(amounts.shape[2]):
                    amounts[AVAIL, node, r] += run_amount[row, r]
                i += 1
            elif k < placed and rows[ROW_RELEASE, rows[ROW_ORDER, k]] == when:
                row = rows[ROW_ORDER, k]
                node = rows[ROW_NODE, row]
                for r in range(amounts.shape[2]):
                    amounts[AVAIL, node, r] += row_amount[row, r]
                k += 1
            else:
                break
            if nodes[ELIGIBLE, node] > 0:
                old = nodes[FITTING, node]
                new = hosts(amounts, AVAIL, node, shapes, needs, shape)
                if new > old:
                    nodes[FITTING, node] = new
                    count_node(req, scratch, shape, nodes[ELIGIBLE, node] == 2, old, new)
                    if old == 0:
                        nodes[READY, found] = node
                        found += 1
    histogram[: counters[WIDEST] + 1] = 0
    counters[STEPS] += i + k
    return when


@kernel
def promise(cluster: Cluster, req: Requests, scratch: Scratch, shape: int, when: int) -> int:
    """Hold concrete nodes for a gang at `when`, found by the last `earliest`; gives their number.

    Takes the nodes that become able last, so that those free now stay free for others; on one pool
    of equal processors this leaves exactly the classical extra nodes. O(nodes x R²).
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    dims = cluster.dims
    shapes = req.shapes
    listed = req.listed
    counters = scratch.counters
    heads = scratch.heads
    found = 0
    for i in range(shapes[LIST_START, shape], shapes[LIST_START, shape] + shapes[NREQUIRED, shape]):
        nodes[CAND_NODE, found] = listed[i]
        nodes[CAND_TASKS, found] = nodes[FITTING, listed[i]]
        found += 1
    for i in range(counters[ABLE] - 1, -1, -1):
        node = nodes[READY, i]
        if nodes[ELIGIBLE, node] == 1:
            nodes[CAND_NODE, found] = node
            nodes[CAND_TASKS, found] = nodes[FITTING, node]
            found += 1
    most = shapes[LOW, shape] if shapes[NTASKS, shape] == 0 else shapes[HIGH, shape]
    size = choose(cluster, req, scratch, shape, found, most)
    head = counters[HEADS]
    base = heads[HEAD_END, head]
    for i in range(size):
        node = nodes[PICK_NODE, i]
        fill_amount(cluster, req, shape, node, nodes[PICK_TASKS, i], AVAIL)
        for r in range(amounts.shape[2]):
            amounts[SPARE, node, r] = amounts[AVAIL, node, r] - dims[AMOUNT, r]
        nodes[HOLD_START, node] = when
        nodes[HEAD_NODE, base + i] = node
    heads[HEAD_END, head + 1] = base + size
    return size
