"""The earliest hole for a gang: the first instant at which enough nodes have a window at once."""

from __future__ import annotations

from sched_core.columns import Matrix
from sched_core.jit import kernel
from sched_core.timeline import count_node, enough
from sched_core.views import (
    ABLE,
    CAND_NODE,
    CAND_TASKS,
    FAR,
    HIGH,
    NREQUIRED,
    NTASKS,
    REQUIRED_ABLE,
    REQUIRED_TASKS,
    TASKS,
    WIDEST,
    Cluster,
    Requests,
    Scratch,
)
from sched_core.views_conservative import (
    ACTIVE,
    COUNT,
    E_LAST,
    E_NODE,
    E_SEEN,
    E_START,
    E_TASKS,
    EPOCH,
    FIRST,
    FLOOR,
    FREED,
    FULL,
    HORIZON,
    ITEM,
    KEY,
    LIFTED,
    MIXED,
    MONOTONE,
    NOW,
    OWN,
    STEP,
    Profile,
    Windows,
)
from sched_core.windows import aligned, freshen, list_nodes


@kernel
def sink(heap: Matrix, place: int, size: int) -> None:
    """Restore the heap order below a place whose key grew. O(log size)."""
    item = heap[ITEM, place]
    key = heap[KEY, item]
    child = 2 * place + 1
    while child < size:
        if child + 1 < size and (heap[KEY, heap[ITEM, child + 1]] < heap[KEY, heap[ITEM, child]]):
            child += 1
        if heap[KEY, heap[ITEM, child]] >= key:
            break
        heap[ITEM, place] = heap[ITEM, child]
        place = child
        child = 2 * place + 1
    heap[ITEM, place] = item


@kernel
def contribute(
    req: Requests, scratch: Scratch, shape: int, required: bool, old: int, new: int
) -> None:
    """Tell the tally that a node now hosts `new` tasks instead of `old`. O(1). See `enough`."""
    counters = scratch.counters
    if new > 0:
        count_node(req, scratch, shape, required, old, new)
    elif old > 0:
        ntasks = req.shapes[NTASKS, shape]
        before = min(old, ntasks)
        counters[ABLE] -= 1
        counters[TASKS] -= before
        if required:
            counters[REQUIRED_ABLE] -= 1
            counters[REQUIRED_TASKS] -= before
        elif req.shapes[HIGH, shape] < ntasks:
            scratch.histogram[before] -= 1


@kernel
def turn(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    slot: int,
    item: int,
    shape: int,
    duration: int,
    when: int,
    limit: int,
) -> None:
    """What an entry contributes at an instant, told to the tally; KEY: when that changes next.

    Where promises may be moved, an entry whose first window is over is of no use afterwards.
    """
    slots = windows.slots
    entries = windows.entries
    heap = windows.heap
    state = profile.state
    entry = slots[FIRST, slot] + item
    over = heap[ACTIVE, item] > 0
    freshen(
        cluster,
        req,
        profile,
        windows,
        entry,
        shape,
        duration,
        when,
        limit,
        slots[MIXED, slot] != 0,
    )
    tasks, key = 0, entries[E_START, entry]
    if key <= when:
        tasks = entries[E_TASKS, entry]
        key = entries[E_LAST, entry] + 1
        key = FAR if key > limit else aligned(key, state[NOW], state[STEP])
    if over and not state[MONOTONE]:
        entries[E_SEEN, entry] = -1
    required = item < req.shapes[NREQUIRED, shape]
    contribute(req, scratch, shape, required, heap[ACTIVE, item], tasks)
    heap[ACTIVE, item] = tasks
    heap[KEY, item] = key


@kernel
def reset(profile: Profile, windows: Windows, entry: int) -> bool:
    """Whether an entry says nothing any more, for its node has gained since. O(1)."""
    node = windows.entries[E_NODE, entry]
    gained = windows.entries[E_SEEN, entry] < profile.nodes[FREED, node]
    return bool(gained or profile.nodes[OWN, node] != 0)


@kernel
def sweep(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    slot: int,
    shape: int,
    duration: int,
    limit: int,
) -> int:
    """First instant up to `limit` at which the tally of a slot suffices, FAR if there is none.

    Leaves in ACTIVE what every entry contributes then. Events are ends of windows and starts of
    next ones, kept in a heap whose keys may be bounds: an entry is looked at when its turn comes.
    O(entries + events x (log entries + segments x R)).
    """
    slots = windows.slots
    entries = windows.entries
    heap = windows.heap
    counters = scratch.counters
    counters[ABLE : WIDEST + 1] = 0
    when = slots[FLOOR, slot]
    base, size = slots[FIRST, slot], 0
    for item in range(slots[COUNT, slot]):
        heap[ACTIVE, item] = 0
        heap[KEY, item] = when
        if entries[E_START, base + item] <= when or reset(profile, windows, base + item):
            turn(cluster, req, scratch, profile, windows, slot, item, shape, duration, when, limit)
        else:
            heap[KEY, item] = entries[E_START, base + item]
        if heap[KEY, item] <= limit:
            heap[ITEM, size] = item
            size += 1
    found = enough(req, scratch, shape)
    if not found:
        for place in range(size // 2 - 1, -1, -1):
            sink(heap, place, size)
    while not found and size > 0:
        when = heap[KEY, heap[ITEM, 0]]
        while size > 0 and heap[KEY, heap[ITEM, 0]] == when:
            item = heap[ITEM, 0]
            turn(cluster, req, scratch, profile, windows, slot, item, shape, duration, when, limit)
            if heap[KEY, item] > limit:
                size -= 1
                heap[ITEM, 0] = heap[ITEM, size]
            if size > 0:
                sink(heap, 0, size)
        found = enough(req, scratch, shape)
    scratch.histogram[: counters[WIDEST] + 1] = 0
    return when if found else FAR


@kernel
def one_node(
    cluster: Cluster,
    req: Requests,
    profile: Profile,
    windows: Windows,
    slot: int,
    shape: int,
    duration: int,
    limit: int,
) -> int:
    """The same for a gang of one node: least start of all entries, the first one by preference.

    Leaves that entry as the first ITEM. Looks only at entries whose bound is below the best so far.
    O(entries + entries looked at x segments x R).
    """
    slots = windows.slots
    entries = windows.entries
    floor = slots[FLOOR, slot]
    base, best = slots[FIRST, slot], limit + 1
    mixed = slots[MIXED, slot] != 0
    for item in range(slots[COUNT, slot]):
        entry = base + item
        if entries[E_START, entry] >= best and not reset(profile, windows, entry):
            continue
        freshen(cluster, req, profile, windows, entry, shape, duration, floor, best - 1, mixed)
        if max(entries[E_START, entry], floor) < best:
            best = max(entries[E_START, entry], floor)
            windows.heap[ITEM, 0] = item
            if best == floor:
                break
    return best if best <= limit else FAR


@kernel
def is_single(req: Requests, shape: int) -> bool:
    """Whether a gang is any one node. O(1)."""
    shapes = req.shapes
    return bool(
        shapes[NTASKS, shape] == 0 and shapes[HIGH, shape] == 1 and shapes[NREQUIRED, shape] == 0
    )


@kernel
def earliest_hole(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    slot: int,
    shape: int,
    part: int,
    duration: int,
    limit: int,
) -> int:
    """Earliest start (s) of a gang in a partition, beside all that is placed; FAR: none to `limit`.

    Complexity: `sweep`, `one_node`; O(1) where the slot is known to have no start.
    """
    slots = windows.slots
    state = profile.state
    known = slots[FULL, slot] == state[EPOCH] and limit <= state[HORIZON]
    if limit < slots[FLOOR, slot] or (known and state[LIFTED] == 0):
        return FAR
    if slots[FIRST, slot] < 0:
        list_nodes(cluster, req, scratch, profile, windows, slot, shape, part)
    if is_single(req, shape):
        when = one_node(cluster, req, profile, windows, slot, shape, duration, limit)
    else:
        when = sweep(cluster, req, scratch, profile, windows, slot, shape, duration, limit)
    if when < FAR and state[MONOTONE]:
        slots[FLOOR, slot] = when
    if when == FAR and limit >= state[HORIZON]:
        slots[FULL, slot] = state[EPOCH]
    return when


@kernel
def candidates(cluster: Cluster, req: Requests, windows: Windows, slot: int, shape: int) -> int:
    """Candidates at the start that the last `earliest_hole` found; gives their number. O(entries).

    Writes CAND_NODE and CAND_TASKS by preference, required nodes first.
    """
    nodes = cluster.nodes
    slots = windows.slots
    entries = windows.entries
    base, found = slots[FIRST, slot], 0
    if is_single(req, shape):
        nodes[CAND_NODE, 0] = entries[E_NODE, base + windows.heap[ITEM, 0]]
        nodes[CAND_TASKS, 0] = 1
        return 1
    for item in range(slots[COUNT, slot]):
        if windows.heap[ACTIVE, item] > 0:
            nodes[CAND_NODE, found] = entries[E_NODE, base + item]
            nodes[CAND_TASKS, found] = windows.heap[ACTIVE, item]
            found += 1
    return found
