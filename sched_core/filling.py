"""Records beyond the depth: they start where they fit now beside every promise, or are left alone."""

from __future__ import annotations

from sched_core.fit import choose, hosts, set_marks
from sched_core.jit import inlined
from sched_core.licencecheck import first_lack, licensed
from sched_core.outcome import explain, is_over, start_gang
from sched_core.promises import have_room
from sched_core.verdict import NOT_REACHED, STARTED
from sched_core.views import (
    BLOCKED,
    CAND_NODE,
    CAND_TASKS,
    CURSOR,
    FAIL_FROM,
    FAR,
    FREE,
    HIGH,
    J_COUNT,
    J_DURATION,
    J_SHAPE,
    LIST_START,
    LOW,
    MARK,
    NEAR,
    NODES,
    NREQUIRED,
    NTASKS,
    ORDER,
    PICK_NODE,
    ROOM,
    ROWS,
    STARTS,
    V_CODE,
    V_PLACED,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.views_conservative import (
    BLOCK,
    NOW,
    Profile,
)
from sched_core.windows import any_type, may_host, reach


@inlined
def gather_now(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    profile: Profile,
    shape: int,
    part: int,
    duration: int,
) -> int:
    """Candidates of a shape that can host it from now to its end, beside every promise.

    Writes CAND_NODE, CAND_TASKS by preference, required nodes first; 0 if one of those cannot. The
    shape's cursor moves past nodes on which nothing is free for it now; only for shapes of one
    place. O(nodes x segments x R).
    """
    nodes = cluster.nodes
    shapes = req.shapes
    amounts = cluster.amounts
    now = profile.state[NOW]
    start, required = shapes[LIST_START, shape], shapes[NREQUIRED, shape]
    moving = req.places.shape[1] == 1 or req.places[shape, 1] < 0
    first = shapes[CURSOR, shape] if moving else 0
    mixed = any_type(cluster, req, shape)
    every = shapes[NEAR, shape] > 0
    found, total = 0, 0
    set_marks(cluster, req, shape, 1)
    for i in range(first - required, scratch.counters[NODES]):
        if shapes[NTASKS, shape] == 0 and found >= shapes[HIGH, shape] and not every:
            break
        if (not every and 0 < shapes[NTASKS, shape] <= total) and (
            shapes[LOW, shape] <= found <= shapes[HIGH, shape]
        ):
            break
        node = nodes[ORDER, i] if i >= first else req.listed[start + required + i - first]
        count = 0
        if nodes[MARK, node] == (2 if i < first else 0) and (
            nodes[BLOCKED, node] == 0 and hosts(amounts, FREE, node, shapes, req.needs, shape) > 0
        ):
            count = may_host(cluster, req, shape, part, node)
        if i >= first:
            moving &= count == 0
            shapes[CURSOR, shape] = i + 1 if moving else shapes[CURSOR, shape]
        if count > 0:
            base = profile.nodes[node, BLOCK]
            reach(cluster, req, profile, shape, node, base, now + duration, mixed)
            count = hosts(amounts, ROOM, node, shapes, req.needs, shape)
        if count > 0:
            nodes[CAND_NODE, found] = node
            nodes[CAND_TASKS, found] = count
            total += count
            found += 1
        elif i < first:
            found = 0
            break
    set_marks(cluster, req, shape, 0)
    return found


@inlined
def try_now(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    i: int,
) -> None:
    """Start what fits now of a record beyond the depth, beside all that is promised.

    What fails once for a shape fails for all later jobs of it that run as long.
    """
    shapes = req.shapes
    places = req.places
    counters = scratch.counters
    row = queue.order[i]
    shape, duration = queue.jobs[J_SHAPE, row], queue.jobs[J_DURATION, row]
    now = profile.state[NOW]
    while queue.records[V_PLACED, i] < queue.jobs[J_COUNT, row]:
        if is_over(queue, i):
            return
        size = 0
        lacks = licensed(queue, shape) and first_lack(queue, shape, now, now + duration) < FAR
        for option in range(places.shape[1]):
            part = places[shape, option]
            if part < 0 or size > 0 or lacks or shapes[FAIL_FROM, shape] <= duration:
                break
            found = gather_now(cluster, req, scratch, profile, shape, part, duration)
            size = choose(cluster, req, scratch, shape, found, shapes[HIGH, shape])
            if size == 0:
                continue
            if (
                counters[STARTS] >= queue.starts.shape[1] - 1
                or counters[ROWS] + size > timeline.rows.shape[1]
                or not have_room(profile, cluster.nodes, PICK_NODE, 0, size)
            ):
                queue.records[V_CODE, i] = NOT_REACHED
                return
            start_gang(cluster, req, timeline, queue, scratch, profile, i, part, size, duration)
        if size == 0:
            if not lacks:
                shapes[FAIL_FROM, shape] = min(shapes[FAIL_FROM, shape], duration)
            explain(req, queue, scratch, i)
            return
    queue.records[V_CODE, i] = STARTED
