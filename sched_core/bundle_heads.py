"""Heterogeneous jobs that wait: when all their components fit, and what is promised to them."""

from __future__ import annotations

from sched_core.bundle_fit import first_member, fit_together
from sched_core.bundles import start_bundles
from sched_core.heads import close, held_first, last_start
from sched_core.jit import entry, inlined, kernel
from sched_core.licence_heads import with_licences
from sched_core.licencecheck import take_licences
from sched_core.timeline import earliest, sort_starts
from sched_core.verdict import NEVER, STARTED
from sched_core.views import (
    AHEAD,
    AVAIL,
    CODE,
    FAR,
    FOUND,
    FREE,
    HEAD_END,
    HEAD_NODE,
    HEAD_PART,
    HEAD_RECORD,
    HEAD_TIME,
    HEADS,
    HOLD_START,
    J_DEADLINE,
    J_DURATION,
    J_SHAPE,
    LICENCE_ANY,
    MEMBERS,
    NO_HEAD,
    PROMISE,
    ROW_NODE,
    ROW_ORDER,
    ROW_RELEASE,
    ROWS,
    RUN_END,
    RUN_NODE,
    SHORT,
    SPARE,
    STATE,
    TRIED,
    V_CODE,
    WIDE,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.waiting import may_lead, open_options, wait

PATIENCE = 64
"""Instants tried one by one; after them ever more releases are skipped between two tries."""


@entry
def judge_bundles(req: Requests) -> int:
    """Give every bundle the worst CODE of its components, with NEVER its SHORT. O(components)."""
    shapes = req.shapes
    count = 0
    for shape in range(req.needs.shape[1]):
        start = first_member(req, shape)
        for i in range(start, start + shapes[MEMBERS, shape]):
            member = req.listed[i]
            if i == start or shapes[CODE, member] > shapes[CODE, shape]:
                shapes[CODE, shape] = shapes[CODE, member]
                if shapes[CODE, member] == NEVER:
                    shapes[SHORT, shape] = shapes[SHORT, member]
        count += shapes[MEMBERS, shape] > 0
    return count


@kernel
def alone(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    shape: int,
    skip_held: bool,
    closed: int,
    now: int,
) -> int:
    """The latest of the earliest starts of the components, each by itself; FAR: one has none."""
    places = req.places
    options = scratch.options
    latest, start = now, first_member(req, shape)
    for i in range(start, start + req.shapes[MEMBERS, shape]):
        member, best = req.listed[i], FAR
        for option in range(places.shape[1]):
            place = places[member, option]
            if place >= 0 and not (closed >= 0 and options[closed, place % options.shape[1]] != 0):
                when = earliest(cluster, req, timeline, scratch, member, place, skip_held, now)
                best = min(best, when)
        latest = max(latest, best)
    return int(latest)


@kernel
def release(cluster: Cluster, timeline: Timeline, scratch: Scratch, at: int, now: int) -> int:
    """Add to AVAIL what is released at the next instants up to `at`; gives the next one after it.

    How far it came is kept in HEAD_RECORD and HEAD_PART beyond the heads. O(releases x R).
    """
    amounts = cluster.amounts
    releases = timeline.releases
    rows = timeline.rows
    counters = scratch.counters
    heads = scratch.heads
    spare = heads.shape[1] - 1
    i, k, after = heads[HEAD_RECORD, spare], heads[HEAD_PART, spare], FAR
    while i < releases.shape[1]:
        when = max(releases[RUN_END, i], now + 1)
        if when > at:
            after = when
            break
        node, row = releases[RUN_NODE, i], timeline.release_order[i]
        for r in range(amounts.shape[2]):
            amounts[AVAIL, node, r] += timeline.run_amount[row, r]
        i += 1
    while k < counters[ROWS]:
        row = rows[ROW_ORDER, k]
        if rows[ROW_RELEASE, row] > at:
            after = min(after, rows[ROW_RELEASE, row])
            break
        for r in range(amounts.shape[2]):
            amounts[AVAIL, rows[ROW_NODE, row], r] += timeline.row_amount[row, r]
        k += 1
    heads[HEAD_RECORD, spare] = i
    heads[HEAD_PART, spare] = k
    return int(after)


@kernel
def rewind(cluster: Cluster, scratch: Scratch) -> None:
    """Let AVAIL be what is free now, and `release` begin with the first release. O(nodes x R)."""
    amounts = cluster.amounts
    spare = scratch.heads.shape[1] - 1
    scratch.heads[HEAD_RECORD, spare] = 0
    scratch.heads[HEAD_PART, spare] = 0
    for node in range(amounts.shape[1]):
        for r in range(amounts.shape[2]):
            amounts[AVAIL, node, r] = amounts[FREE, node, r]


@kernel
def together(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    scratch: Scratch,
    shape: int,
    skip_held: bool,
    closed: int,
    since: int,
    now: int,
) -> int:
    """Earliest instant from `since` on at which all components fit if nothing else starts; or FAR.

    Not before each of them could start alone; never if they do not fit when all is released. Placed
    rows must be sorted. Leaves the placement in the rows from ROWS to TRIED, and AVAIL as it leaves
    things. `closed` as `fit_together`. FAR also for want of WIDE rows. After
    PATIENCE tries it may be a later instant than the first. O(releases + tries x nodes x R).
    """
    counters = scratch.counters
    when = alone(cluster, req, timeline, scratch, shape, skip_held, closed, now)
    when = max(when, since)
    wide = req.shapes[WIDE, shape]
    if when == FAR or timeline.rows.shape[1] - counters[ROWS] < wide:
        return FAR
    rewind(cluster, scratch)
    release(cluster, timeline, scratch, FAR - 1, now)
    if not fit_together(cluster, req, timeline, scratch, shape, skip_held, closed, False):
        return FAR
    rewind(cluster, scratch)
    tries, stride = 0, 1
    while True:
        after = release(cluster, timeline, scratch, when, now)
        if fit_together(cluster, req, timeline, scratch, shape, skip_held, closed, False):
            return int(when)
        tries += 1
        if tries > PATIENCE:
            stride = min(2 * stride, 1 << 20)
        for _ in range(stride):
            if after < FAR:
                when = after
                after = release(cluster, timeline, scratch, when, now)


@entry
def search_together(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    shape: int,
    duration: int,
    skip_held: int,
    closed: int,
    now: int,
) -> int:
    """As `together`, with its licences for a `duration` (s; 0: they are not looked at) as well."""
    since = now
    while True:
        when = together(cluster, req, timeline, scratch, shape, skip_held != 0, closed, since, now)
        since = with_licences(queue, shape, duration, when, now) if duration > 0 else when
        if since in (when, FAR):
            return int(since)


@inlined
def hold_together(cluster: Cluster, timeline: Timeline, scratch: Scratch, when: int) -> None:
    """Promise the nodes of the last placement, for `when`, to the last head.

    It becomes the head of all partitions it uses. O(rows x R).
    """
    nodes = cluster.nodes
    counters = scratch.counters
    options = scratch.options
    rows = timeline.rows
    end = scratch.heads[HEAD_END, counters[HEADS]]
    for k in range(counters[ROWS], counters[TRIED]):
        node, part = rows[ROW_NODE, k], rows[ROW_RELEASE, k] % options.shape[1]
        if nodes[HOLD_START, node] == FAR:
            nodes[HEAD_NODE, end] = node
            end += 1
        nodes[HOLD_START, node] = when
        for r in range(cluster.amounts.shape[2]):
            cluster.amounts[SPARE, node, r] = cluster.amounts[AVAIL, node, r]
        options[STATE, part] = 1
        options[PROMISE, part] = when
    scratch.heads[HEAD_END, counters[HEADS]] = end


@entry
def install_bundle(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    i: int,
    when: int,
    fifo: int,
    beside: int,
) -> None:
    """Make record `i` a head that starts at `when`, and write its verdict. As `heads.install`.

    FAR: it cannot be one; its open partitions wait with it nevertheless if it could run (`beside`,
    less than FAR) but for other heads. O(partitions x nodes).
    """
    parts = req.parts
    counters = scratch.counters
    options = scratch.options
    heads = scratch.heads
    shape = queue.jobs[J_SHAPE, queue.order[i]]
    vacant = open_options(req, scratch, shape)
    in_time = queue.jobs[J_DEADLINE, queue.order[i]] >= FAR
    req.shapes[NO_HEAD, shape] = when == FAR and in_time
    if when < FAR:
        head = counters[HEADS]
        queue.planned[i] = when
        heads[HEAD_RECORD, head] = queue.order[i]
        heads[HEAD_PART, head] = timeline.rows[ROW_RELEASE, counters[ROWS]]
        heads[HEAD_TIME, head] = when
        heads[HEAD_END, head + 1] = heads[HEAD_END, head]
        counters[HEADS] = head + 1
    if when < FAR and fifo == 0:
        hold_together(cluster, timeline, scratch, when)
        held_first(cluster, req, scratch)
    else:
        for option in range(parts.shape[1]):
            if parts[shape, option] >= 0:
                options[FOUND, parts[shape, option]] = min(when, beside)
        close(cluster, req, scratch, shape, fifo != 0)
    wait(req, queue, scratch, i, vacant - open_options(req, scratch, shape))
    for option in range(parts.shape[1]):
        if parts[shape, option] >= 0:
            options[AHEAD, parts[shape, option]] += 1


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
    """As `heads.lead`, for a record of several components."""
    row = int(queue.order[i])
    shape, duration = int(queue.jobs[J_SHAPE, row]), int(queue.jobs[J_DURATION, row])
    sort_starts(timeline, scratch.counters)
    views_of = (cluster, req, timeline, queue, scratch)
    beside = FAR
    when = search_together(*views_of, shape, duration, int(not fifo), STATE, now)
    if last_start(queue, row) < when < FAR:  # it would miss its deadline: it blocks nobody
        when = FAR
    elif when == FAR and not fifo:
        beside = search_together(*views_of, shape, 0, 0, STATE, now)
    elif not fifo and queue.licence_need[shape, LICENCE_ANY]:
        take_licences(queue, shape, when, when + duration, 1)
    install_bundle(*views_of, i, when, int(fifo), beside)


def decide(
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
    """Record `i`, of several components, has its turn: start what fits of it, or let it wait."""
    views_of = (cluster, req, timeline, queue, scratch)
    shape = int(queue.jobs[J_SHAPE, queue.order[i]])
    if not start_bundles(*views_of, i, now, int(fifo)):
        if may_lead(req, queue, scratch, shape, now):
            lead(*views_of, i, now, fifo=fifo)
            return
        wait(req, queue, scratch, i, 0)
    if queue.records[V_CODE, i] != STARTED:
        parts = req.parts[shape]
        scratch.options[AHEAD, parts[parts >= 0]] += 1
