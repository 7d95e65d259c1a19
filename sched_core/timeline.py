"""Availability over time: when a shape could start first, and what is promised to a head job.

What is free only grows as running jobs are released, so the earliest start of a gang is found by
one sweep over the releases in order of time. The start so found for the head of the queue is its
*shadow time* (Lifka 1995; Mu'alem and Feitelson 2001). The classical "extra nodes" are, for several
resources on concrete nodes, what each promised node has left at the shadow time beside the promise.
"""

from __future__ import annotations

from sched_core.columns import Matrix, Vector
from sched_core.fit import choose, fill_amount, hosts, may_host, set_marks, suits
from sched_core.jit import entry, inlined, kernel
from sched_core.near import near
from sched_core.views import (
    ABLE,
    AMOUNT,
    AVAIL,
    BUCKET_BITS,
    BUCKETS,
    CAND_NODE,
    CAND_TASKS,
    ELIGIBLE,
    FAR,
    FEWEST,
    FITTING,
    FITTING_NODES,
    FREE,
    HEAD_END,
    HEAD_NODE,
    HIGH,
    HOLD_START,
    KIND,
    LIST_START,
    LOW,
    MARK,
    NEAR,
    NODES,
    NREQUIRED,
    NTASKS,
    ORDER,
    PER_FIRST,
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
    RUN_KIND,
    RUN_NODE,
    SORTED,
    SPARE,
    STAMP,
    STEPS,
    SUIT_MASK,
    SUIT_SHIFT,
    SWEEP,
    TASKS,
    WIDEST,
    Cluster,
    Requests,
    Scratch,
    Timeline,
)


@inlined
def merge(rows: Matrix, known: int, count: int) -> None:
    """Merge ROW_ORDER up to `known` with the rest up to `count`, both sorted, stably. O(count)."""
    left, right = known - 1, count - 1
    for i in range(known, count):
        rows[ROW_SCRATCH, i] = rows[ROW_ORDER, i]
    at = count - 1
    while right >= known and left >= 0:  # from the end: what is not moved need not be read
        old, new = rows[ROW_ORDER, left], rows[ROW_SCRATCH, right]
        if rows[ROW_RELEASE, old] > rows[ROW_RELEASE, new]:
            rows[ROW_ORDER, at] = old
            left -= 1
        else:
            rows[ROW_ORDER, at] = new
            right -= 1
        at -= 1
    while right >= known:
        rows[ROW_ORDER, at] = rows[ROW_SCRATCH, right]
        right -= 1
        at -= 1


@entry
def sort_starts(timeline: Timeline, counters: Vector) -> None:
    """Order the placed rows by release time, stably. O(k), and times the digits of time if new.

    Those of the last call (`counters[SORTED]`) are in order; the rest is sorted by digits of 11
    bits, least first, and merged with them. Invariant: `rows[ROW_ORDER, :count]` is a permutation
    with rising ROW_RELEASE.
    """
    rows = timeline.rows
    buckets = timeline.buckets
    known, count = counters[SORTED], counters[ROWS]
    low, high = FAR, 0
    for i in range(known, count):
        rows[ROW_ORDER, i] = i
        low = min(low, rows[ROW_RELEASE, i])
        high = max(high, rows[ROW_RELEASE, i])
    shift = 0
    while count > known and (high - low) >> shift > 0:
        buckets[:] = 0
        for i in range(known, count):
            digit = ((rows[ROW_RELEASE, i] - low) >> shift) & (BUCKETS - 1)
            buckets[digit + 1] += 1
        for digit in range(BUCKETS):
            buckets[digit + 1] += buckets[digit]
        for i in range(known, count):
            row = rows[ROW_ORDER, i]
            digit = ((rows[ROW_RELEASE, row] - low) >> shift) & (BUCKETS - 1)
            rows[ROW_SCRATCH, known + buckets[digit]] = row
            buckets[digit] += 1
        for i in range(known, count):
            rows[ROW_ORDER, i] = rows[ROW_SCRATCH, i]
        shift += BUCKET_BITS
    merge(rows, known, count)
    counters[SORTED] = count


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


@kernel
def count_nodes(
    req: Requests, scratch: Scratch, shape: int, required: bool, fits: int, count: int
) -> None:
    """Tell the tally of `count` nodes (1 if required) that each host `fits` tasks. O(1)."""
    shapes = req.shapes
    counters = scratch.counters
    tasks = min(fits, shapes[NTASKS, shape])
    counters[ABLE] += count
    counters[TASKS] += count * tasks
    if required:
        counters[REQUIRED_ABLE] += 1
        counters[REQUIRED_TASKS] += tasks
    elif shapes[HIGH, shape] < shapes[NTASKS, shape]:
        scratch.histogram[tasks] += count
        counters[WIDEST] = max(counters[WIDEST], tasks)


@inlined
def reach(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    shape: int,
    part: int,
    skip_held: bool,
    node: int,
) -> bool:
    """Whether a sweep may use a node; at its first touch AVAIL is what is free now. O(1), O(R).

    Marks must be set.
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    if nodes[STAMP, node] != scratch.counters[SWEEP]:
        nodes[STAMP, node] = scratch.counters[SWEEP]
        nodes[FITTING, node] = 0
        nodes[ELIGIBLE, node] = 0
        if (
            nodes[MARK, node] != 1
            and not (skip_held and nodes[HOLD_START, node] < FAR)
            and may_host(cluster, req, shape, part, node)
        ):
            nodes[ELIGIBLE, node] = 1 + (nodes[MARK, node] == 2)
            for r in range(amounts.shape[2]):
                amounts[AVAIL, node, r] = amounts[FREE, node, r]
    return bool(nodes[ELIGIBLE, node] > 0)


@inlined
def notice(cluster: Cluster, req: Requests, scratch: Scratch, shape: int, node: int) -> None:
    """Count what fits on a node that a sweep may use, now that AVAIL has risen there. O(R)."""
    amounts = cluster.amounts
    nodes = cluster.nodes
    counters = scratch.counters
    for r in range(amounts.shape[2]):
        if amounts[AVAIL, node, r] < req.needs[PER_FIRST, shape, r] > 0:
            return
    old = nodes[FITTING, node]
    new = hosts(amounts, AVAIL, node, req.shapes, req.needs, shape)
    if new > old:
        nodes[FITTING, node] = new
        if old == 0:
            nodes[READY, counters[ABLE]] = node
        count_node(req, scratch, shape, nodes[ELIGIBLE, node] == 2, old, new)


@kernel
def next_suited(releases: Matrix, table: Matrix, shape: int, first: int) -> int:
    """The first release, from `first` on, on a node of a kind that suits a shape. O(releases)."""
    i = first
    while i < releases.shape[1] and not (
        (table[shape, releases[RUN_KIND, i] >> SUIT_SHIFT] >> (releases[RUN_KIND, i] & SUIT_MASK))
        & 1
    ):
        i += 1
    return i


@inlined
def next_release(timeline: Timeline, i: int, k: int, placed: int, now: int) -> int:
    """Instant of the next release: of running allocation `i` or of placed row `k`; FAR: none.

    A running job past its end is taken to release at `now + 1`.
    """
    when = FAR
    if i < timeline.releases.shape[1]:
        when = max(timeline.releases[RUN_END, i], now + 1)
    if k < placed:
        when = min(when, timeline.rows[ROW_RELEASE, timeline.rows[ROW_ORDER, k]])
    return when


@kernel
def list_ready(cluster: Cluster, req: Requests, scratch: Scratch, shape: int) -> int:
    """Write what a sweep found as candidates: required nodes, then those that became able last."""
    nodes = cluster.nodes
    shapes = req.shapes
    found = 0
    for i in range(shapes[LIST_START, shape], shapes[LIST_START, shape] + shapes[NREQUIRED, shape]):
        nodes[CAND_NODE, found] = req.listed[i]
        nodes[CAND_TASKS, found] = nodes[FITTING, req.listed[i]]
        found += 1
    for i in range(scratch.counters[ABLE] - 1, -1, -1):
        node = nodes[READY, i]
        if nodes[ELIGIBLE, node] == 1:
            nodes[CAND_NODE, found] = node
            nodes[CAND_TASKS, found] = nodes[FITTING, node]
            found += 1
    return found


@kernel
def close_by(cluster: Cluster, req: Requests, scratch: Scratch, shape: int) -> bool:
    """Whether nodes that suffice do so on as few switches as the shape asks for. See `near`."""
    if req.shapes[NEAR, shape] == 0 or req.shapes[NEAR, shape] >= FEWEST:
        return True
    found = list_ready(cluster, req, scratch, shape)
    return bool(near(cluster, req, scratch, shape, found, req.shapes[HIGH, shape]) > 0)


@inlined
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

    Nodes are looked at as they are now, then at each release; at first none if none was free before,
    because what is free only falls during a pass. Jobs placed in this pass release at their
    ROW_RELEASE, which must be sorted (`sort_starts`). Leaves AVAIL, FITTING and the first
    `counters[ABLE]` of READY as they are at that instant, all releases at it included.
    O(nodes + releases + releases on suitable nodes x R).
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    releases = timeline.releases
    counters = scratch.counters
    set_marks(cluster, req, shape, 1)
    counters[ABLE : WIDEST + 1] = 0
    counters[SWEEP] += 1
    first = counters[NODES] if req.fitting[shape, FITTING_NODES] > 0 else 0
    when, at, looked = now, now, -1
    j, i, k = 0, 0, 0
    while True:
        if j == first:
            i = next_suited(releases, req.suits, shape, i)
            at = next_release(timeline, i, k, counters[ROWS], now)
        if at > when:
            if (
                counters[ABLE] >= req.shapes[LOW, shape]
                and counters[ABLE] + counters[TASKS] != looked
                and enough(req, scratch, shape)
            ):
                looked = counters[ABLE] + counters[TASKS]
                if close_by(cluster, req, scratch, shape):
                    break
            when = at
            if when == FAR:
                break
        row, running = -1, False
        if j < first:
            node = nodes[ORDER, j]
            j += 1
        elif i < releases.shape[1] and max(releases[RUN_END, i], now + 1) == at:
            node, row, running = releases[RUN_NODE, i], timeline.release_order[i], True
            i += 1
        else:
            row = timeline.rows[ROW_ORDER, k]
            node = timeline.rows[ROW_NODE, row]
            k += 1
        if suits(req.suits, shape, nodes[KIND, node]) and reach(
            cluster, req, scratch, shape, part, skip_held, node
        ):
            for r in range(amounts.shape[2] if row >= 0 else 0):
                more = timeline.run_amount[row, r] if running else timeline.row_amount[row, r]
                amounts[AVAIL, node, r] += more
            notice(cluster, req, scratch, shape, node)
    set_marks(cluster, req, shape, 0)
    scratch.histogram[: counters[WIDEST] + 1] = 0
    counters[STEPS] += first + i + k
    return when


@inlined
def promise(
    cluster: Cluster, req: Requests, scratch: Scratch, shape: int, head: int, when: int
) -> None:
    """Hold concrete nodes for a gang at `when`, found by the last `earliest`, as those of a head.

    Takes the nodes that become able last, so that those free now stay free for others; on one pool
    of equal processors this leaves exactly the classical extra nodes. O(nodes x R²).
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    dims = cluster.dims
    shapes = req.shapes
    heads = scratch.heads
    found = list_ready(cluster, req, scratch, shape)
    most = shapes[LOW, shape] if shapes[NTASKS, shape] == 0 else shapes[HIGH, shape]
    size = choose(cluster, req, scratch, shape, found, most)
    base = heads[HEAD_END, head]
    for i in range(size):
        node = nodes[PICK_NODE, i]
        fill_amount(cluster, req, shape, node, nodes[PICK_TASKS, i], AVAIL)
        for r in range(amounts.shape[2]):
            amounts[SPARE, node, r] = amounts[AVAIL, node, r] - dims[AMOUNT, r]
        nodes[HOLD_START, node] = when
        nodes[HEAD_NODE, base + i] = node
    heads[HEAD_END, head + 1] = base + size
