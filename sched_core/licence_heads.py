"""FIFO and EASY: starts for which there have to be nodes and licences at once.

What is free on nodes only grows in a sweep over the releases, so the first instant at which both
suffice is the first, from the nodes' own on, at which the licences do.
"""

from __future__ import annotations

from sched_core.fit import set_marks, suits
from sched_core.jit import entry, inlined
from sched_core.licencecheck import licence_start, licensed
from sched_core.timeline import earliest, next_suited, notice, reach
from sched_core.views import (
    AVAIL,
    EARLIEST,
    FAR,
    KIND,
    ROW_NODE,
    ROW_ORDER,
    ROW_RELEASE,
    ROWS,
    RUN_END,
    RUN_NODE,
    WAITERS,
    WIDEST,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)


@inlined
def with_licences(queue: Queue, shape: int, duration: int, when: int, now: int) -> int:
    """The first start from `when` on for which the licences of a shape suffice as well. O(1) without."""
    if licensed(queue, shape) and when < FAR:
        return licence_start(queue, shape, when, duration, now, 1)
    return when


@entry
def sweep_until(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    shape: int,
    part: int,
    now: int,
    until: int,
) -> None:
    """As `earliest` beside promises, and further: AVAIL, READY as they are at `until`.

    For `promise`: who waits for licences longer than for nodes has more of these to choose from.
    O(nodes + releases x R).
    """
    amounts = cluster.amounts
    releases = timeline.releases
    rows = timeline.rows
    counters = scratch.counters
    since = earliest(cluster, req, timeline, scratch, shape, part, True, now)
    set_marks(cluster, req, shape, 1)
    i = next_suited(releases, req.suits, shape, 0)
    k = 0
    while True:
        when = FAR
        running = i < releases.shape[1]
        if running:
            when = max(releases[RUN_END, i], now + 1)
        if k < counters[ROWS] and rows[ROW_RELEASE, rows[ROW_ORDER, k]] < when:
            running = False
            when = rows[ROW_RELEASE, rows[ROW_ORDER, k]]
        if when > until:
            break
        row = timeline.release_order[i] if running else rows[ROW_ORDER, k]
        node = releases[RUN_NODE, i] if running else rows[ROW_NODE, row]
        if (
            when > since
            and suits(req.suits, shape, cluster.nodes[KIND, node])
            and reach(cluster, req, scratch, shape, part, True, node)
        ):
            for r in range(amounts.shape[2]):
                more = timeline.run_amount[row, r] if running else timeline.row_amount[row, r]
                amounts[AVAIL, node, r] += more
            notice(cluster, req, scratch, shape, node)
        if running:
            i = next_suited(releases, req.suits, shape, i + 1)
        else:
            k += 1
    set_marks(cluster, req, shape, 0)
    scratch.histogram[: counters[WIDEST] + 1] = 0


@entry
def postpone(req: Requests, queue: Queue, scratch: Scratch, now: int) -> None:
    """Let the estimate of every waiting shape be one at which its licences suffice. O(shapes x steps).

    For an instant only, since a shape has no duration: a lower bound, as the estimate is anyway.
    """
    shapes = req.shapes
    for i in range(scratch.counters[WAITERS]):
        shape = req.waiting[i]
        if licensed(queue, shape) and 0 <= shapes[EARLIEST, shape] < FAR:
            shapes[EARLIEST, shape] = licence_start(
                queue, shape, shapes[EARLIEST, shape], 1, now, 1
            )
