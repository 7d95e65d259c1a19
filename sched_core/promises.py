"""Gangs on the profile: place one, and keep, lift and put back what is promised to a record."""

from __future__ import annotations

from sched_core.codes import MoveCause
from sched_core.columns import Matrix
from sched_core.fit import fill_amount, has_features, in_partition, set_marks
from sched_core.jit import inlined, kernel
from sched_core.licencecheck import first_lack, licensed, take_licences
from sched_core.profile import locate, mark, reserve_room, room_over, shift
from sched_core.views import (
    AMOUNT,
    FAR,
    J_DURATION,
    J_SHAPE,
    MARK,
    NTASKS,
    PARENT,
    PICK_NODE,
    PICK_TASKS,
    ROOM,
    TASKS_EACH,
    USE,
    Cluster,
    Queue,
    Requests,
)
from sched_core.views_conservative import (
    BLOCK,
    CLOCK,
    EPOCH,
    L_NEXT,
    L_ROW,
    LENGTH,
    LIFTED,
    LINK,
    OWN,
    R_CAUSE,
    R_END,
    R_FIRST,
    R_PART,
    R_START,
    ROW_NODE,
    ROW_TASKS,
    Profile,
    Reservations,
)

KEPT = int(MoveCause.KEPT)
BY_NODE = int(MoveCause.NODE)
BY_RUNNING = int(MoveCause.RUNNING)
EXCLUDED = 1


@kernel
def have_room(profile: Profile, rows: Matrix, row: int, first: int, end: int) -> bool:
    """Whether the pool holds all that placing on the nodes in some rows of a matrix needs.

    Two more segments for each of them, and for each link from them. O(rows + links).
    """
    links = profile.links
    holds = True
    for i in range(first, end):
        node = rows[row, i]
        holds &= reserve_room(profile, node, 2)
        link, more = profile.nodes[node, LINK], 0
        while link > 0:
            more += 2
            link = links[link, L_NEXT]
        link = profile.nodes[node, LINK]
        while link > 0:
            holds &= reserve_room(profile, links[link, L_ROW], more)
            link = links[link, L_NEXT]
    return holds


@kernel
def occupy(
    cluster: Cluster,
    req: Requests,
    profile: Profile,
    rows: Matrix,
    row_amount: Matrix,
    at: int,
    shape: int,
    size: int,
    start: int,
    end: int,
) -> None:
    """Place the chosen gang from `start` to `end`: take it from the profile, write its rows at `at`.

    Needs `have_room`. Invariant: no segment falls below 0 in a dimension taken.
    O(nodes of the gang x segments x R²).
    """
    nodes = cluster.nodes
    dims = cluster.dims
    for i in range(size):
        node = nodes[PICK_NODE, i]
        room_over(cluster, profile, node, start, end)
        fill_amount(cluster, req, shape, node, nodes[PICK_TASKS, i], ROOM)
        shift(cluster, profile, node, start, end, -1)
        mark(profile, node, False)
        rows[ROW_NODE, at + i] = node
        rows[ROW_TASKS, at + i] = (
            nodes[PICK_TASKS, i] if req.shapes[NTASKS, shape] > 0 else req.shapes[TASKS_EACH, shape]
        )
        for r in range(row_amount.shape[1]):
            row_amount[at + i, r] = dims[AMOUNT, r]


@kernel
def lift(
    cluster: Cluster, queue: Queue, profile: Profile, held: Reservations, i: int, sign: int
) -> None:
    """Take the promise of record `i` out of the profile (sign 1), or put it back (-1).

    Its licences too. Nothing is marked: after both the profile is as before. O(rows x segments x R).
    """
    records = held.records
    row = queue.order[i]
    start = records[R_START, i]
    end = start + queue.jobs[J_DURATION, row]
    if licensed(queue, queue.jobs[J_SHAPE, row]):
        take_licences(queue, queue.jobs[J_SHAPE, row], start, end, -sign)
    for k in range(records[R_FIRST, i], records[R_END, i]):
        for r in range(held.amount.shape[1]):
            cluster.dims[AMOUNT, r] = held.amount[k, r]
        shift(cluster, profile, held.rows[ROW_NODE, k], start, end, sign)


@kernel
def own(profile: Profile, held: Reservations, i: int, on: int) -> None:
    """Say whether the promise of record `i` is lifted for its own sake. O(rows + links)."""
    profile.state[LIFTED] = on
    for k in range(held.records[R_FIRST, i], held.records[R_END, i]):
        node = held.rows[ROW_NODE, k]
        profile.nodes[node, OWN] = on
        link = profile.nodes[node, LINK]
        while link > 0:
            profile.nodes[profile.links[link, L_ROW], OWN] = on
            link = profile.links[link, L_NEXT]


@kernel
def mark_rows(profile: Profile, held: Reservations, i: int, freed: bool) -> None:
    """Mark the nodes of the promise of record `i`. O(rows)."""
    for k in range(held.records[R_FIRST, i], held.records[R_END, i]):
        mark(profile, held.rows[ROW_NODE, k], freed)


@kernel
def forget(profile: Profile, held: Reservations, i: int) -> None:
    """The promise of record `i`, lifted, is given up: others may have what it held. O(rows)."""
    mark_rows(profile, held, i, True)
    held.records[R_START, i] = FAR
    profile.state[EPOCH] = profile.state[CLOCK]


@inlined
def is_free(
    cluster: Cluster, profile: Profile, held: Reservations, k: int, start: int, end: int
) -> bool:
    """Whether a node leaves what row `k` holds, from `start` to `end`. O(segments x R²)."""
    times = profile.times
    free = profile.free
    dims = cluster.dims
    amount = held.amount
    node = held.rows[ROW_NODE, k]
    base = profile.nodes[node, BLOCK]
    stop = base + profile.nodes[node, LENGTH]
    at = locate(times, base, stop, start)
    while at < stop and (times[at] < end):
        for r in range(amount.shape[1]):
            if amount[k, r] > 0 and free[r, at] < amount[k, r]:
                return False
            if r >= 2 and amount[k, r] > 0 and dims[PARENT, r] < 0:
                plain = free[r, at] - amount[k, r]
                for kind in range(r + 1, amount.shape[1]):
                    if dims[PARENT, kind] == r:
                        plain -= free[kind, at] - amount[k, kind]
                if plain < 0:
                    return False
        at += 1
    return True


@kernel
def place_of(
    cluster: Cluster, req: Requests, queue: Queue, held: Reservations, i: int, span: int
) -> int:
    """The place of a promise that says its partition: the first of the shape's with all its nodes.

    If none has, any of them: then `admit` finds the promise broken. O(places x rows).
    """
    places = req.places
    records = held.records
    shape = queue.jobs[J_SHAPE, queue.order[i]]
    place = part = records[R_PART, i]
    for option in range(places.shape[1]):
        if places[shape, option] >= 0 and places[shape, option] % span == part:
            place = places[shape, option]
            inside = True
            for k in range(records[R_FIRST, i], records[R_END, i]):
                inside &= in_partition(cluster.partitions, held.rows[ROW_NODE, k], place)
            if inside:
                break
    return int(place)


@kernel
def admit(
    cluster: Cluster,
    req: Requests,
    queue: Queue,
    profile: Profile,
    held: Reservations,
    i: int,
    cause: int,
) -> bool:
    """Put the promise of record `i` into the profile if it can still be kept.

    Else R_START becomes FAR and R_CAUSE says why: its nodes, or `cause`. O(rows x segments x R²).
    """
    nodes = cluster.nodes
    records = held.records
    row = queue.order[i]
    shape = queue.jobs[J_SHAPE, row]
    start, part = records[R_START, i], records[R_PART, i]
    end = start + queue.jobs[J_DURATION, row]
    why = KEPT
    set_marks(cluster, req, shape, 1)
    for k in range(records[R_FIRST, i], records[R_END, i]):
        node = held.rows[ROW_NODE, k]
        if (
            nodes[USE, node] != 1
            or nodes[MARK, node] == EXCLUDED
            or not in_partition(cluster.partitions, node, part)
            or not has_features(cluster.features, node, req.shapes, req.clauses, shape)
        ):
            why = BY_NODE
        elif why == KEPT and not is_free(cluster, profile, held, k, start, end):
            why = cause
    set_marks(cluster, req, shape, 0)
    if why == KEPT and licensed(queue, shape) and first_lack(queue, shape, start, end) < FAR:
        why = cause
    fits = have_room(profile, held.rows, ROW_NODE, records[R_FIRST, i], records[R_END, i])
    if why == KEPT and fits:
        lift(cluster, queue, profile, held, i, -1)
        mark_rows(profile, held, i, False)
        return True
    records[R_START, i] = FAR
    records[R_CAUSE, i] = why if why != KEPT else cause
    return False
