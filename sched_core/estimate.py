"""Earliest possible starts of all waiting shapes, found together in one sweep over the releases.

What is free on a node after a release is the same whoever asks, so it is worked out once, while it
is at hand, and held against every shape that still waits and suits the node. One sweep for each
shape would visit the same nodes again and again, each time from far memory.
"""

from __future__ import annotations

from sched_core.columns import Cube, Vector
from sched_core.heads import search
from sched_core.jit import entry, inlined, kernel
from sched_core.timeline import next_release, sort_starts
from sched_core.views import (
    AVAIL,
    BEFORE,
    CAPACITY,
    EARLIEST,
    EXCLUSIVE,
    FAR,
    FEWEST,
    FITTING_NODES,
    FREE,
    HIGH,
    KIND,
    KIND_DONE,
    LOW,
    MEMBERS,
    NEAR,
    NEXCLUDED,
    NREQUIRED,
    NTASKS,
    PER_FIRST,
    ROW_NODE,
    ROW_ORDER,
    ROWS,
    RUN_END,
    RUN_KIND,
    RUN_NODE,
    SINK,
    STAMP,
    STEPS,
    SUIT_MASK,
    SUIT_SHIFT,
    SWEEP,
    WAITERS,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)

AHEAD_OF_USE = 32
"""Releases whose memory is fetched at once."""


@kernel
def countable(req: Requests, shape: int) -> bool:
    """Whether the number of nodes that host a task tells when a gang of a shape fits. O(1).

    It must be of one task a node, name none, lie on any switches, and not have to be in one of
    several places.
    """
    shapes = req.shapes
    places = req.places
    alone = places.shape[1] == 1 or places[shape, 1] < 0
    named = shapes[NREQUIRED, shape] + shapes[NEXCLUDED, shape] + shapes[MEMBERS, shape]
    anywhere = shapes[NEAR, shape] == 0 or shapes[NEAR, shape] >= FEWEST
    return bool(
        anywhere
        and shapes[NTASKS, shape] == 0
        and named == 0
        and (alone or shapes[LOW, shape] == 1)
    )


@inlined
def covers(amounts: Cube, have: Vector, node: int, req: Requests, shape: int) -> bool:
    """Whether amounts that a node has at some time suffice for a first task of a shape. O(R)."""
    needs = req.needs
    whole = req.shapes[EXCLUSIVE, shape]
    for r in range(amounts.shape[2]):
        need = needs[PER_FIRST, shape, r]
        if whole:
            need = max(need, amounts[CAPACITY, node, r])
        if need > 0 and have[r] < need:
            return False
    return True


@kernel
def offer(
    cluster: Cluster, req: Requests, scratch: Scratch, kind: int, node: int, when: int
) -> int:
    """Hold what a node has since a release (AVAIL; BEFORE it) against every open shape it suits.

    Shapes that have nodes enough now start at `when` and are open no more; gives how many. The
    nodes still lacking are counted in `missing`. O(shapes / 32 + open suited shapes x R).
    """
    amounts = cluster.amounts
    suited = req.suited
    missing = req.missing
    open_ = scratch.open
    before, now = cluster.dims[BEFORE], amounts[AVAIL, node]
    closed, looks = 0, 0
    for word in range(suited.shape[1]):
        bits = suited[kind, word] & open_[word]
        shape = word << SUIT_SHIFT
        while bits != 0:
            looks += bits & 1
            if (
                bits & 1
                and covers(amounts, now, node, req, shape)
                and not covers(amounts, before, node, req, shape)
            ):
                missing[shape] -= 1
                if missing[shape] == 0:
                    req.shapes[EARLIEST, shape] = when
                    open_[word] &= ~(1 << (shape & SUIT_MASK))
                    closed += 1
            bits >>= 1
            shape += 1
    scratch.counters[STEPS] += looks
    return closed


@inlined
def done_with(cluster: Cluster, req: Requests, scratch: Scratch, kind: int) -> bool:
    """Whether no open shape suits a kind of nodes: then none ever will in this sweep. O(1)."""
    kinds = cluster.kinds
    if kinds[KIND_DONE, kind] != scratch.counters[SWEEP]:
        for word in range(req.suited.shape[1]):
            if req.suited[kind, word] & scratch.open[word] != 0:
                return False
        kinds[KIND_DONE, kind] = scratch.counters[SWEEP]
    return True


@inlined
def open_shapes(req: Requests, scratch: Scratch, now: int) -> int:
    """Note which waiting shapes are estimated together, and how many nodes each lacks. O(shapes).

    Gives how many there are; those that lack none could start now if they were alone.
    """
    shapes = req.shapes
    open_ = scratch.open
    open_[:] = 0
    count = 0
    for i in range(scratch.counters[WAITERS]):
        shape = req.waiting[i]
        if countable(req, shape):
            lacks = shapes[LOW, shape] - req.fitting[shape, FITTING_NODES]
            shapes[EARLIEST, shape] = FAR
            if shapes[LOW, shape] <= shapes[HIGH, shape] and lacks <= 0:
                shapes[EARLIEST, shape] = now
            elif shapes[LOW, shape] <= shapes[HIGH, shape]:
                req.missing[shape] = lacks
                open_[shape >> SUIT_SHIFT] |= 1 << (shape & SUIT_MASK)
                count += 1
    return count


@kernel
def fetch(amounts: Cube, timeline: Timeline, first: int) -> int:
    """Read a word of all that the next few releases touch; the sum is of no meaning. O(1).

    Where they lie in memory is known, and reads that wait for nothing wait together: done one by
    one, each release would wait for three of them.
    """
    total = 0
    for i in range(first, min(first + AHEAD_OF_USE, timeline.releases.shape[1])):
        node = timeline.releases[RUN_NODE, i]
        total += timeline.run_amount[timeline.release_order[i], 0]
        total += amounts[FREE, node, 0] + amounts[AVAIL, node, 0]
    return total


@inlined
def set_apart(req: Requests, scratch: Scratch, give_up: bool) -> int:
    """List in `missing` the shapes that are estimated alone; gives how many. O(shapes).

    With `give_up`, those that are still open stay without an estimate.
    """
    count = 0
    for i in range(scratch.counters[WAITERS]):
        shape = req.waiting[i]
        if give_up and (scratch.open[shape >> SUIT_SHIFT] >> (shape & SUIT_MASK)) & 1:
            req.shapes[EARLIEST, shape] = -1
        if not countable(req, shape):
            req.missing[count] = shape
            count += 1
    return count


@entry
def sweep_together(
    cluster: Cluster, req: Requests, timeline: Timeline, scratch: Scratch, now: int, budget: int
) -> int:
    """Fill EARLIEST of all countable waiting shapes; -1 where `budget` visits did not suffice.

    Gives how many others there are; `missing` then begins with them.

    O(releases x (R + suited shapes that still wait x R)). Invariant: AVAIL of a node that this
    sweep has stamped is what is free there after all releases so far.
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    rows = timeline.rows
    counters = scratch.counters
    waiting = open_shapes(req, scratch, now)
    counters[STEPS] = 0
    counters[SWEEP] += 1
    i, k = 0, 0
    while waiting > 0 and counters[STEPS] < budget:
        when = next_release(timeline, i, k, counters[ROWS], now)
        counters[STEPS] += 1
        if when == FAR:
            waiting = 0  # the others never can
            break
        running = i < timeline.releases.shape[1] and (
            max(timeline.releases[RUN_END, i], now + 1) == when
        )
        if running:
            if i % AHEAD_OF_USE == 0:
                counters[SINK] += fetch(amounts, timeline, i)
            node, kind = timeline.releases[RUN_NODE, i], timeline.releases[RUN_KIND, i]
            row = timeline.release_order[i]
            i += 1
        else:
            row = rows[ROW_ORDER, k]
            node = rows[ROW_NODE, row]
            kind = nodes[KIND, node]
            k += 1
        if done_with(cluster, req, scratch, kind):
            continue
        layer = AVAIL if nodes[STAMP, node] == counters[SWEEP] else FREE
        nodes[STAMP, node] = counters[SWEEP]
        for r in range(amounts.shape[2]):
            cluster.dims[BEFORE, r] = amounts[layer, node, r]
            more = timeline.run_amount[row, r] if running else timeline.row_amount[row, r]
            amounts[AVAIL, node, r] = amounts[layer, node, r] + more
        waiting -= offer(cluster, req, scratch, kind, node, when)
    return set_apart(req, scratch, waiting > 0)


def estimate(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    now: int,
    budget: int,
) -> None:
    """Fill EARLIEST of the waiting shapes: when each could start after this pass if it were alone.

    -1: not known, for want of `budget` (visits of a release by a shape). Sorts the placed rows.
    """
    counters = scratch.counters
    if budget <= 0 or counters[WAITERS] == 0:
        return
    sort_starts(timeline, counters)
    alone = sweep_together(cluster, req, timeline, scratch, now, budget)
    for shape in req.missing[:alone].tolist():
        if counters[STEPS] >= budget:
            break
        if req.shapes[MEMBERS, shape] > 0:
            from sched_core.bundle_heads import search_together  # noqa: PLC0415  (see `plan`)

            when = search_together(cluster, req, timeline, queue, scratch, shape, 0, 0, -1, now)
        else:
            when = search(cluster, req, timeline, queue, scratch, shape, 0, 0, 0, now)
        req.shapes[EARLIEST, shape] = when
