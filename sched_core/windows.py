"""When could a node host a part of a job for all its duration: search, and a cache of the answers.

Within a pass what is free only falls where jobs are placed, so a start once found on a node bounds
all later answers for the same class of jobs; it is looked at again only when the node was touched
and the bound matters. Where promises are moved, nodes gain, and their entries begin anew.
"""

from __future__ import annotations

from sched_core.fit import has_features, hosts, in_partition, set_marks
from sched_core.jit import inlined, kernel
from sched_core.profile import locate, narrow
from sched_core.views import (
    CAPACITY,
    EXCLUSIVE,
    FAR,
    LIST_START,
    MARK,
    NODES,
    NREQUIRED,
    NTASKS,
    ORDER,
    PARENT,
    PER_NODE,
    PER_TASK,
    ROOM,
    TASK_CAP,
    USE,
    Cluster,
    Requests,
    Scratch,
)
from sched_core.views_conservative import (
    BLOCK,
    CACHED,
    CLOCK,
    COUNT,
    E_LAST,
    E_NODE,
    E_SEEN,
    E_START,
    E_TASKS,
    FIRST,
    FLOOR,
    FREED,
    LENGTH,
    MIXED,
    NOW,
    OWN,
    PLAIN,
    STEP,
    TOUCHED,
    VISITS,
    Profile,
    Windows,
)


@kernel
def aligned(when: int, now: int, step: int) -> int:
    """The first instant from `when` on at which a start may be planned: now, or a multiple. O(1)."""
    if when <= now:
        return now
    if step == 1:
        return when
    return (when + step - 1) // step * step


@kernel
def reach(
    cluster: Cluster,
    req: Requests,
    profile: Profile,
    shape: int,
    node: int,
    segment: int,
    end: int,
    mixed: bool,
) -> int:
    """Last segment looked at of a window that begins in `segment` and lasts until `end`.

    It hosts the shape throughout if ROOM then does; else the segment given is the first that the
    window cannot hold. O(segments in the window x R).
    """
    times = profile.times
    free = profile.free
    shapes = req.shapes
    needs = req.needs
    lead = needs[PER_NODE, shape, 0] + needs[PER_TASK, shape, 0]
    stop = profile.nodes[node, BLOCK] + profile.nodes[node, LENGTH]
    at, first = segment, True
    while free[0, at] >= lead:
        narrow(cluster, profile, node, at, first, mixed)
        first = False
        if (
            hosts(cluster.amounts, ROOM, node, shapes, needs, shape) == 0
            or at + 1 == stop
            or times[at + 1] >= end
        ):
            return at
        at += 1
    cluster.amounts[ROOM, node, 0] = free[0, at]
    return at


@kernel
def extend(
    cluster: Cluster,
    req: Requests,
    profile: Profile,
    shape: int,
    node: int,
    segment: int,
    duration: int,
    limit: int,
    mixed: bool,
) -> int:
    """Last start up to which the window whose last segment is given can slide without loss.

    Tasks that fit do not get fewer; beyond `limit` it is not looked. Narrows ROOM. FAR: for ever.
    O(segments x R).
    """
    times = profile.times
    free = profile.free
    shapes = req.shapes
    needs = req.needs
    lead = needs[PER_NODE, shape, 0] + needs[PER_TASK, shape, 0]
    stop = profile.nodes[node, BLOCK] + profile.nodes[node, LENGTH]
    tasks = hosts(cluster.amounts, ROOM, node, shapes, needs, shape)
    at = segment + 1
    while at < stop:
        last = times[at] - duration
        if last >= limit or free[0, at] < lead:
            return int(last)
        narrow(cluster, profile, node, at, False, mixed)
        if hosts(cluster.amounts, ROOM, node, shapes, needs, shape) < tasks:
            return int(last)
        at += 1
    return FAR


@inlined
def fits(cluster: Cluster, req: Requests, profile: Profile, shape: int, node: int, at: int) -> bool:
    """Whether a segment leaves what one part of a shape takes (PLAIN only). O(R), often O(1)."""
    free = profile.free
    needs = req.needs
    if req.shapes[EXCLUSIVE, shape]:
        for r in range(free.shape[0]):
            if free[r, at] != cluster.amounts[CAPACITY, node, r]:
                return False
    for r in range(free.shape[0]):
        need = needs[PER_NODE, shape, r]
        if need > 0 and free[r, at] < need:
            return False
    return True


@inlined
def find_plain(
    cluster: Cluster,
    req: Requests,
    profile: Profile,
    windows: Windows,
    entry: int,
    shape: int,
    duration: int,
    since: int,
    limit: int,
) -> None:
    """As `find_window`, for PLAIN slots: the first run of segments that fit and last long enough.

    O(segments x R).
    """
    times = profile.times
    entries = windows.entries
    now, step = profile.state[NOW], profile.state[STEP]
    node = entries[entry, E_NODE]
    base = profile.nodes[node, BLOCK]
    stop = base + profile.nodes[node, LENGTH]
    start = aligned(since, now, step)
    at = locate(times, base, stop, start)
    profile.state[VISITS] += 1
    entries[entry, E_LAST] = -1
    while start <= limit:
        if fits(cluster, req, profile, shape, node, at):
            at += 1
            if at < stop and times[at] < start + duration:
                continue
            last = FAR
            while at < stop and last == FAR:
                if times[at] - duration >= limit or not fits(
                    cluster, req, profile, shape, node, at
                ):
                    last = times[at] - duration
                at += 1
            entries[entry, E_LAST] = last
            entries[entry, E_TASKS] = 1
            break
        at += 1
        if at >= stop:
            start = FAR
            break
        start = aligned(times[at], now, step)
        while at + 1 < stop and times[at + 1] <= start:
            at += 1
    entries[entry, E_START] = start


@kernel
def find_window(
    cluster: Cluster,
    req: Requests,
    profile: Profile,
    windows: Windows,
    entry: int,
    shape: int,
    duration: int,
    since: int,
    limit: int,
    mixed: bool,
) -> None:
    """Write the first window on an entry's node that starts from `since` to `limit`.

    Without one E_START becomes a bound beyond `limit`, FAR if none can ever start. What fits at a
    start but not until its end cannot start at any later instant of the same stretch, so starts are
    tried at `since` and where a segment begins. O(segments x R), with `mixed` segments².
    """
    times = profile.times
    entries = windows.entries
    shapes = req.shapes
    now, step = profile.state[NOW], profile.state[STEP]
    node = entries[entry, E_NODE]
    base = profile.nodes[node, BLOCK]
    stop = base + profile.nodes[node, LENGTH]
    start = aligned(since, now, step)
    at = locate(times, base, stop, start)
    profile.state[VISITS] += 1
    entries[entry, E_LAST] = -1
    while start <= limit:
        end = reach(cluster, req, profile, shape, node, at, start + duration, mixed)
        tasks = hosts(cluster.amounts, ROOM, node, shapes, req.needs, shape)
        if tasks > 0:
            last = extend(cluster, req, profile, shape, node, end, duration, limit, mixed)
            if tasks < shapes[TASK_CAP, shape] and at + 1 < stop:
                last = min(last, times[at + 1] - 1)
            entries[entry, E_START] = start
            entries[entry, E_LAST] = last
            entries[entry, E_TASKS] = tasks
            return
        if mixed and end > at:
            end = at  # each segment may do alone
        at = end + 1
        if at >= stop:
            start = FAR
            break
        start = aligned(times[at], now, step)
        while at + 1 < stop and times[at + 1] <= start:
            at += 1
    entries[entry, E_START] = start


@inlined
def freshen(
    cluster: Cluster,
    req: Requests,
    profile: Profile,
    windows: Windows,
    entry: int,
    shape: int,
    duration: int,
    since: int,
    limit: int,
    slot: int,
) -> None:
    """Make an entry say what holds from `since` on: nothing is done if it still does. O(1) then.

    Invariant: afterwards E_START is a start on the node, or lies beyond `limit`.
    """
    entries = windows.entries
    columns = profile.nodes
    node = entries[entry, E_NODE]
    seen = entries[entry, E_SEEN]
    begin = since
    if columns[node, OWN] == 0 and seen >= columns[node, FREED]:
        if (
            seen >= columns[node, TOUCHED]
            and since <= entries[entry, E_LAST]
            and entries[entry, E_START] <= entries[entry, E_LAST]
        ):
            return
        begin = max(since, entries[entry, E_START])
        if begin > limit:
            return
    if windows.slots[PLAIN, slot]:
        find_plain(cluster, req, profile, windows, entry, shape, duration, begin, limit)
    else:
        mixed = windows.slots[MIXED, slot] != 0
        find_window(cluster, req, profile, windows, entry, shape, duration, begin, limit, mixed)
    entries[entry, E_SEEN] = -1 if columns[node, OWN] else profile.state[CLOCK]


@kernel
def any_type(cluster: Cluster, req: Requests, shape: int) -> bool:
    """Whether a shape asks for more of a total than of its types, on nodes that have types. O(R²)."""
    dims = cluster.dims
    needs = req.needs
    for total in range(2, dims.shape[1]):
        wanted = needs[PER_NODE, shape, total] + needs[PER_TASK, shape, total]
        typed = 0
        for r in range(total + 1, dims.shape[1]):
            if dims[PARENT, r] == total:
                wanted -= needs[PER_NODE, shape, r] + needs[PER_TASK, shape, r]
                typed += 1
        if dims[PARENT, total] < 0 and typed > 0 and wanted > 0:
            return True
    return False


@kernel
def may_host(cluster: Cluster, req: Requests, shape: int, part: int, node: int) -> bool:
    """Whether a usable node of a partition can host a part of a shape when empty. O(clauses + R)."""
    return (
        cluster.nodes[USE, node] == 1
        and in_partition(cluster.partitions, node, part)
        and has_features(cluster.features, node, req.shapes, req.clauses, shape)
        and hosts(cluster.amounts, CAPACITY, node, req.shapes, req.needs, shape) > 0
    )


@kernel
def list_nodes(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    slot: int,
    shape: int,
    part: int,
) -> None:
    """Give a slot its entries: required nodes, then the others by preference. O(nodes x R).

    A slot that lacks a required node gets none. Where the pool is used up, all other slots lose theirs; each is listed again when needed.
    """
    nodes = cluster.nodes
    shapes = req.shapes
    slots = windows.slots
    entries = windows.entries
    state = profile.state
    if state[CACHED] + nodes.shape[1] > entries.shape[0]:
        slots[FIRST, :] = -1
        state[CACHED] = 0
    set_marks(cluster, req, shape, 1)
    at = state[CACHED]
    start = shapes[LIST_START, shape]
    required, listed = shapes[NREQUIRED, shape], 0
    for i in range(-required, scratch.counters[NODES]):
        node = nodes[ORDER, i] if i >= 0 else req.listed[start + required + i]
        wanted = 2 if i < 0 else 0
        if nodes[MARK, node] == wanted and may_host(cluster, req, shape, part, node):
            entries[at, E_NODE] = node
            entries[at, E_START] = slots[FLOOR, slot]
            entries[at, E_LAST] = -1
            entries[at, E_TASKS] = 0
            entries[at, E_SEEN] = state[CLOCK]
            at += 1
            listed += i < 0
    set_marks(cluster, req, shape, 0)
    slots[FIRST, slot] = state[CACHED]
    slots[COUNT, slot] = at - state[CACHED]
    if listed < required:
        slots[COUNT, slot] = 0
    slots[MIXED, slot] = any_type(cluster, req, shape)
    slots[PLAIN, slot] = shapes[NTASKS, shape] == 0 and not slots[MIXED, slot]
    state[CACHED] = at
    state[VISITS] += scratch.counters[NODES]
