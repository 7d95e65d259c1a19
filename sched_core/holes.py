"""The earliest hole for a gang: the first instant at which enough nodes have a window at once."""

from __future__ import annotations

from sched_core.columns import Matrix
from sched_core.jit import inlined, kernel
from sched_core.near import near
from sched_core.timeline import count_node, enough
from sched_core.views import (
    ABLE,
    CAND_NODE,
    CAND_TASKS,
    EXCLUSIVE,
    FAR,
    FEWEST,
    HIGH,
    LOW,
    NCLAUSES,
    NEAR,
    NEXCLUDED,
    NREQUIRED,
    NTASKS,
    PER_NODE,
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
    MONOTONE,
    NOW,
    OWN,
    PLAIN,
    SLOT_DURATION,
    SLOT_PART,
    SLOT_SHAPE,
    STEP,
    Profile,
    Windows,
)
from sched_core.windows import aligned, freshen, list_nodes


@kernel
def sink(heap: Matrix, place: int, size: int) -> None:
    """Restore the heap order below a place whose key grew. O(log size)."""
    item, key = heap[ITEM, place], heap[KEY, place]
    child = 2 * place + 1
    while child < size:
        if child + 1 < size and heap[KEY, child + 1] < heap[KEY, child]:
            child += 1
        if heap[KEY, child] >= key:
            break
        heap[ITEM, place] = heap[ITEM, child]
        heap[KEY, place] = heap[KEY, child]
        place = child
        child = 2 * place + 1
    heap[ITEM, place] = item
    heap[KEY, place] = key


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
def reset(profile: Profile, windows: Windows, entry: int) -> bool:
    """Whether an entry says nothing any more, for its node has gained since. O(1)."""
    node = windows.entries[entry, E_NODE]
    gained = windows.entries[entry, E_SEEN] < profile.nodes[node, FREED]
    return bool(gained or profile.nodes[node, OWN] != 0)


@inlined
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
) -> int:
    """What an entry contributes at an instant, told to the tally; gives when that changes next.

    Where promises may be moved, an entry whose first window is over is of no use afterwards.
    """
    slots = windows.slots
    entries = windows.entries
    counters = scratch.counters
    state = profile.state
    entry = slots[FIRST, slot] + item
    active = windows.heap[ACTIVE, item]
    freshen(cluster, req, profile, windows, entry, shape, duration, when, limit, slot)
    tasks, key = 0, entries[entry, E_START]
    if key <= when:
        tasks = entries[entry, E_TASKS]
        key = entries[entry, E_LAST] + 1
        key = FAR if key > limit else aligned(key, state[NOW], state[STEP])
    if active > 0 and not state[MONOTONE]:
        entries[entry, E_SEEN] = -1
    required = item < req.shapes[NREQUIRED, shape]
    if not slots[PLAIN, slot]:
        contribute(req, scratch, shape, required, active, tasks)
    elif tasks != active:
        counters[ABLE] += tasks - active
        counters[REQUIRED_ABLE] += required * (tasks - active)
    windows.heap[ACTIVE, item] = tasks
    return int(key)


@kernel
def is_single(req: Requests, shape: int) -> bool:
    """Whether a gang is any one node. O(1)."""
    shapes = req.shapes
    return bool(
        shapes[NTASKS, shape] == 0 and shapes[HIGH, shape] == 1 and shapes[NREQUIRED, shape] == 0
    )


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
        nodes[CAND_NODE, 0] = entries[base + windows.heap[ITEM, 0], E_NODE]
        nodes[CAND_TASKS, 0] = 1
        return 1
    for item in range(slots[COUNT, slot]):
        if windows.heap[ACTIVE, item] > 0:
            nodes[CAND_NODE, found] = entries[base + item, E_NODE]
            nodes[CAND_TASKS, found] = windows.heap[ACTIVE, item]
            found += 1
    return found


@kernel
def suffices(
    cluster: Cluster, req: Requests, scratch: Scratch, windows: Windows, slot: int, shape: int
) -> bool:
    """Whether the nodes in the tally host the gang, on as few switches as it asks for. See `near`."""
    if not enough(req, scratch, shape):
        return False
    if req.shapes[NEAR, shape] == 0 or req.shapes[NEAR, shape] >= FEWEST:
        return True
    found = candidates(cluster, req, windows, slot, shape)
    return bool(near(cluster, req, scratch, shape, found, req.shapes[HIGH, shape]) > 0)


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
    next ones; first all entries have their turn for the floor, then those whose event comes next,
    by a heap whose keys may be bounds. O(entries + events x (log entries + segments x R)).
    """
    slots = windows.slots
    entries = windows.entries
    heap = windows.heap
    counters = scratch.counters
    counters[ABLE : WIDEST + 1] = 0
    low = req.shapes[LOW, shape]
    when, found = slots[FLOOR, slot], False
    base, count = slots[FIRST, slot], slots[COUNT, slot]
    upcoming, size = 0, 0
    while True:
        first = upcoming < count
        if first:
            item = upcoming
            upcoming += 1
            heap[ACTIVE, item] = 0
            start = entries[base + item, E_START]
            if start > when and (
                profile.state[MONOTONE] or not reset(profile, windows, base + item)
            ):
                if start <= limit:
                    heap[ITEM, size] = item
                    heap[KEY, size] = start
                    size += 1
                continue
        else:
            if size == 0 or heap[KEY, 0] > when or upcoming == count:
                found = counters[ABLE] >= low and suffices(
                    cluster, req, scratch, windows, slot, shape
                )
                if found or size == 0:
                    break
                if upcoming == count:
                    upcoming += 1
                    for place in range(size // 2 - 1, -1, -1):
                        sink(heap, place, size)
                when = heap[KEY, 0]
            item = heap[ITEM, 0]
        key = turn(
            cluster, req, scratch, profile, windows, slot, item, shape, duration, when, limit
        )
        place = size if first else 0
        if key <= limit:
            heap[ITEM, place] = item
            heap[KEY, place] = key
            size += first
        elif not first:
            size -= 1
            heap[ITEM, 0] = heap[ITEM, size]
            heap[KEY, 0] = heap[KEY, size]
        if not first and size > 0:
            sink(heap, 0, size)
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
    for item in range(slots[COUNT, slot]):
        entry = base + item
        if entries[entry, E_START] >= best and (
            profile.state[MONOTONE] or not reset(profile, windows, entry)
        ):
            continue
        freshen(cluster, req, profile, windows, entry, shape, duration, floor, best - 1, slot)
        if max(entries[entry, E_START], floor) < best:
            best = max(entries[entry, E_START], floor)
            windows.heap[ITEM, 0] = item
            if best == floor:
                break
    return best if best <= limit else FAR


@kernel
def asks_less(req: Requests, windows: Windows, one: int, other: int) -> bool:
    """Whether wherever a gang of the `other` slot fits, one of slot `one` does. O(R).

    The test is sufficient only: same partition, no condition on nodes, nothing more of anything.
    """
    slots = windows.slots
    shapes = req.shapes
    needs = req.needs
    a, b = slots[SLOT_SHAPE, one], slots[SLOT_SHAPE, other]
    if (
        slots[SLOT_PART, one] != slots[SLOT_PART, other]
        or slots[SLOT_DURATION, one] > slots[SLOT_DURATION, other]
        or shapes[LOW, a] > shapes[LOW, b]
        or needs[PER_NODE, a, 0] > needs[PER_NODE, b, 0]
    ):
        return False
    if a == b:
        return True
    if (
        shapes[NTASKS, a] + shapes[NTASKS, b] + shapes[NCLAUSES, a] > 0
        or shapes[NREQUIRED, a] + shapes[NEXCLUDED, a] > 0
        or 0 < shapes[NEAR, a] < FEWEST
        or shapes[EXCLUSIVE, a] > shapes[EXCLUSIVE, b]
        or shapes[LOW, a] > shapes[HIGH, a]
    ):
        return False
    less = True
    for r in range(1, needs.shape[2]):
        less &= needs[PER_NODE, a, r] <= needs[PER_NODE, b, r]
    return less


@inlined
def learn(req: Requests, profile: Profile, windows: Windows, slot: int) -> None:
    """Raise FLOOR and FULL of a slot to those of slots that ask for less. O(slots x R).

    What has no start for less has none for more, and no earlier one.
    """
    slots = windows.slots
    state = profile.state
    for one in range(slots.shape[1]):
        if slots[SLOT_SHAPE, one] < 0 or one == slot:
            continue
        fuller = slots[FULL, one] == state[EPOCH] and slots[FULL, slot] != state[EPOCH]
        if (fuller or slots[FLOOR, one] > slots[FLOOR, slot]) and asks_less(
            req, windows, one, slot
        ):
            slots[FLOOR, slot] = max(slots[FLOOR, one], slots[FLOOR, slot])
            if fuller:
                slots[FULL, slot] = state[EPOCH]
                return


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
    slots[SLOT_SHAPE, slot] = shape
    slots[SLOT_PART, slot] = part
    slots[SLOT_DURATION, slot] = duration
    if slots[FULL, slot] != state[EPOCH]:
        learn(req, profile, windows, slot)
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
