"""FIFO and EASY on the profile: only the first of a partition that waits is planned ahead.

For passes beside reservations, where what is free does not only grow (`sched_core.backfill` plans all
others). A job fits where it fits from its start to its end, so shadow times heed what is reserved.
"""

from __future__ import annotations

from sched_core.bundles_conservative import hole_together
from sched_core.bundles_leading import block_nodes, lead_bundle
from sched_core.fit import choose, hosts
from sched_core.holes import candidates, is_single, sink
from sched_core.jit import entry, inlined, kernel
from sched_core.licence_holes import hole
from sched_core.licencecheck import licensed, take_licences
from sched_core.profile import locate, narrow
from sched_core.promises import have_room, occupy
from sched_core.timegates import latest_start
from sched_core.verdict import LICENSES, NOT_REACHED, PRIORITY, RESOURCES
from sched_core.views import (
    CAND_NODE,
    CAND_TASKS,
    CURSOR,
    FAR,
    FITTING,
    HIGH,
    HOLD_START,
    J_DURATION,
    J_SHAPE,
    LOW,
    MEMBERS,
    NODES,
    NREQUIRED,
    NTASKS,
    ORDER,
    PICK_NODE,
    PROMISE,
    READY,
    ROOM,
    V_CODE,
    WEIGHT,
    Cluster,
    Queue,
    Requests,
    Scratch,
    Timeline,
)
from sched_core.views import FOUND as SOONEST
from sched_core.views_conservative import (
    BLOCK,
    CACHED,
    COUNT,
    FIRST,
    FIRST_BLOCKS,
    FOUND,
    HELD_ROWS,
    HORIZON,
    ITEM,
    KEY,
    LEADS,
    LENGTH,
    NOW,
    OPTION,
    R_END,
    R_FIRST,
    R_LATEST,
    R_PART,
    R_SLOT,
    R_START,
    VISITS,
    Profile,
    Reservations,
    Windows,
)


@kernel
def able_since(
    cluster: Cluster, req: Requests, profile: Profile, shape: int, node: int, when: int
) -> int:
    """Since when a node that hosts a part of a shape at an instant has done so. O(segments x R²)."""
    base = profile.nodes[node, BLOCK]
    at = locate(profile.times, base, base + profile.nodes[node, LENGTH], when)
    while at > base:
        narrow(cluster, profile, node, at - 1, True, True)
        if hosts(cluster.amounts, ROOM, node, req.shapes, req.needs, shape) == 0:
            break
        at -= 1
    return int(profile.times[at])


@kernel
def last_able(
    cluster: Cluster,
    req: Requests,
    profile: Profile,
    windows: Windows,
    shape: int,
    when: int,
    found: int,
) -> None:
    """Order the candidates at an instant: those that became able last go first.

    So those that are free now stay free for others; on one pool of equal processors this leaves
    exactly the classical extra nodes. Required nodes stay in front. Of equals the last goes first.
    O(candidates x (segments x R² + log candidates)).
    """
    nodes = cluster.nodes
    heap = windows.heap
    keep = req.shapes[NREQUIRED, shape]
    size = found - keep
    for i in range(size):
        node = nodes[CAND_NODE, keep + i]
        nodes[READY, i] = node
        nodes[FITTING, i] = nodes[CAND_TASKS, keep + i]
        heap[ITEM, i] = i
        since = able_since(cluster, req, profile, shape, node, when) - profile.state[NOW]
        heap[KEY, i] = since * size + i
    for place in range(size // 2 - 1, -1, -1):
        sink(heap, place, size)
    for at in range(found - 1, keep - 1, -1):
        nodes[CAND_NODE, at] = nodes[READY, heap[ITEM, 0]]
        nodes[CAND_TASKS, at] = nodes[FITTING, heap[ITEM, 0]]
        size -= 1
        heap[ITEM, 0] = heap[ITEM, size]
        heap[KEY, 0] = heap[KEY, size]
        sink(heap, 0, size)


@kernel
def held_to_front(cluster: Cluster, req: Requests, scratch: Scratch, windows: Windows) -> None:
    """Bring promised nodes to the front of their weight, stably: short jobs use them up first.

    What was listed in another order is forgotten. O(nodes + shapes + slots).
    """
    nodes = cluster.nodes
    low, count = 0, scratch.counters[NODES]
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
    req.shapes[CURSOR, :] = 0
    windows.slots[FIRST, :] = -1


@inlined
def promise_first(
    cluster: Cluster,
    req: Requests,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    held: Reservations,
    i: int,
    when: int,
) -> bool:
    """Promise record `i` nodes for a start that the last search found; False: no room to note it."""
    nodes = cluster.nodes
    shapes = req.shapes
    records = held.records
    state = profile.state
    row = queue.order[i]
    shape, option = queue.jobs[J_SHAPE, row], state[OPTION]
    found = candidates(cluster, req, windows, records[R_SLOT, i] + option, shape)
    if not is_single(req, shape):
        last_able(cluster, req, profile, windows, shape, when, found)
    most = shapes[LOW, shape] if shapes[NTASKS, shape] == 0 else shapes[HIGH, shape]
    size = choose(cluster, req, scratch, shape, found, most)
    at = state[HELD_ROWS]
    if at + size > held.rows.shape[1] or not have_room(profile, nodes, PICK_NODE, 0, size):
        return False
    end = when + queue.jobs[J_DURATION, row]
    occupy(cluster, req, profile, held.rows, held.amount, at, shape, size, when, end)
    records[R_FIRST, i] = at
    records[R_END, i] = at + size
    state[HELD_ROWS] = at + size
    for k in range(size):
        nodes[HOLD_START, nodes[PICK_NODE, k]] = when
    if licensed(queue, shape):
        take_licences(queue, shape, when, end, 1)
    held_to_front(cluster, req, scratch, windows)
    state[CACHED] = 0
    return True


@inlined
def soonest_hole(
    cluster: Cluster,
    req: Requests,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    shape: int,
    duration: int,
    slot: int,
    limit: int,
) -> int:
    """Earliest start in places of partitions where nobody waits, up to `limit`; FAR: there is none.

    SOONEST says it of each partition, OPTION in which place; that one is searched last.
    """
    places = req.places
    options = scratch.options
    state = profile.state
    span = options.shape[1]
    best, last = FAR, -1
    options[SOONEST, :] = FAR
    for turn in range(places.shape[1] + 1):
        again = turn == places.shape[1]
        option = state[OPTION] if again else turn
        if again and (best == FAR or last == option):
            break
        part, until = places[shape, option], best if again else limit
        if part < 0 or options[PROMISE, part % span] < FAR:
            continue
        mine = slot + option
        when = hole(
            cluster, req, queue, scratch, profile, windows, mine, shape, part, duration, until
        )
        last = option
        options[SOONEST, part % span] = min(options[SOONEST, part % span], when)
        if when < best:
            best = when
            state[OPTION] = option
    return best


@kernel
def lead(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    held: Reservations,
    i: int,
) -> None:
    """Record `i`, which cannot start, is the first that waits of those partitions that have none.

    EASY: it is promised its earliest start over them, and is the first of that one then. FIFO: it
    blocks all of them, where it could run. A record without any start there blocks nobody.
    """
    parts = req.parts
    records = held.records
    state = profile.state
    options = scratch.options
    row = queue.order[i]
    shape, duration = queue.jobs[J_SHAPE, row], queue.jobs[J_DURATION, row]
    code, behind = queue.records[V_CODE, i], False
    if req.shapes[MEMBERS, shape] > 0:
        if lead_bundle(cluster, req, timeline, queue, scratch, profile, held, i):
            held_to_front(cluster, req, scratch, windows)
            state[CACHED] = 0
        return
    if code not in (RESOURCES, PRIORITY, LICENSES):
        return
    limit = min(state[HORIZON], records[R_LATEST, i], latest_start(queue, row))
    slot = records[R_SLOT, i]
    best = soonest_hole(
        cluster, req, queue, scratch, profile, windows, shape, duration, slot, limit
    )
    for option in range(parts.shape[1]):
        part = parts[shape, option]
        if part >= 0 and options[PROMISE, part] < FAR:
            behind = True
        elif part >= 0 and options[SOONEST, part] < FAR and state[LEADS] == FIRST_BLOCKS:
            options[PROMISE, part] = options[SOONEST, part]
            block_nodes(cluster, scratch, part)
    if code != LICENSES:
        queue.records[V_CODE, i] = PRIORITY if best == FAR and behind else RESOURCES
    if best == FAR:
        return
    place = req.places[shape, state[OPTION]]
    if state[LEADS] != FIRST_BLOCKS and not promise_first(
        cluster, req, queue, scratch, profile, windows, held, i, best
    ):
        queue.records[V_CODE, i] = NOT_REACHED
        return
    options[PROMISE, place % options.shape[1]] = best
    records[R_START, i] = best
    records[R_PART, i] = place
    queue.planned[i] = best


@entry
def find_starts(
    cluster: Cluster,
    req: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    held: Reservations,
    budget: int,
) -> None:
    """Plan those who wait without a promise: earliest start beside all that is placed and promised.

    Once for all records of a slot, within `budget` visits of a node. O(records + slots x sweep).
    """
    places = req.places
    slots = windows.slots
    records = queue.records
    state = profile.state
    slots[FOUND, :] = -1
    stop = state[VISITS] + budget
    for i in range(records.shape[1]):
        slot = held.records[R_SLOT, i]
        code = records[V_CODE, i]
        waits = code in (RESOURCES, PRIORITY, LICENSES)
        if not waits or slot < 0 or queue.planned[i] >= 0:
            continue
        if slots[FOUND, slot] < 0:
            if state[VISITS] >= stop:
                continue
            row = queue.order[i]
            shape, duration = queue.jobs[J_SHAPE, row], queue.jobs[J_DURATION, row]
            best, several = FAR, req.shapes[MEMBERS, shape] > 0
            if several:
                limit = min(state[HORIZON], held.records[R_LATEST, i])
                best = hole_together(
                    cluster,
                    req,
                    timeline,
                    queue,
                    scratch,
                    profile,
                    shape,
                    duration,
                    -1,
                    False,
                    limit,
                )
            for option in range(places.shape[1]):
                part = places[shape, option]
                if part < 0 or several:
                    break
                limit = min(best - 1, state[HORIZON], held.records[R_LATEST, i])
                when = hole(
                    cluster,
                    req,
                    queue,
                    scratch,
                    profile,
                    windows,
                    slot + option,
                    shape,
                    part,
                    duration,
                    limit,
                )
                best = min(best, when)
                state[VISITS] += slots[COUNT, slot + option]
            slots[FOUND, slot] = best
        queue.planned[i] = slots[FOUND, slot]
