"""Placement: what fits on a node, which nodes a gang gets, what it takes there.

A shape either packs tasks (`ntasks > 0`) or puts one gang member on each node (`ntasks == 0`, and
then a node hosts 0 or 1 of it). `hosts` answers for both, so that all else is counting.
"""

from __future__ import annotations

from sched_core.columns import BITS, Cube, Matrix, Vector
from sched_core.jit import inlined, kernel
from sched_core.near import near
from sched_core.views import (
    AMOUNT,
    BEYOND_FROM,
    BLOCKED,
    CAND_NODE,
    CAND_TASKS,
    CAPACITY,
    CHOICE,
    CURSOR,
    CURSOR_BEYOND,
    EXCLUSIVE,
    FREE,
    HIGH,
    HOLD_START,
    KIND,
    LIST_START,
    LOW,
    MARK,
    NCLAUSES,
    NEAR,
    NEXCLUDED,
    NODES,
    NREQUIRED,
    NTASKS,
    ORDER,
    PARENT,
    PER_FIRST,
    PER_NODE,
    PER_TASK,
    PICK_NODE,
    PICK_TASKS,
    ROOM,
    SPARE,
    SUIT_MASK,
    SUIT_SHIFT,
    TASK_CAP,
    Cluster,
    Requests,
    Scratch,
)

EXCLUDED = 1
REQUIRED = 2


@kernel
def hosts(amounts: Cube, layer: int, node: int, shapes: Matrix, needs: Cube, shape: int) -> int:
    """Tasks of a shape that fit into what a layer of `amounts` holds for a node. O(R).

    Invariant: 0 <= result <= TASK_CAP, and PER_NODE + result x PER_TASK <= the layer in every
    dimension the shape asks for. An exclusive shape fits only where the layer is all the node has.
    """
    if shapes[EXCLUSIVE, shape]:
        for r in range(amounts.shape[2]):
            if amounts[layer, node, r] != amounts[CAPACITY, node, r]:
                return 0
    if shapes[NTASKS, shape] == 0:
        for r in range(amounts.shape[2]):
            if needs[PER_NODE, shape, r] > max(amounts[layer, node, r], 0):
                return 0
        return 1
    count = shapes[TASK_CAP, shape]
    for r in range(amounts.shape[2]):
        fixed = needs[PER_NODE, shape, r]
        per = needs[PER_TASK, shape, r]
        if fixed > 0 or per > 0:
            left = amounts[layer, node, r] - fixed
            if left < per or left < 0:
                return 0
            if per > 0:
                count = min(count, left // per)
    return int(count)


@kernel
def in_partition(partitions: Matrix, node: int, part: int) -> bool:
    """Whether a node is in a partition, or another place. O(1)."""
    return bool((partitions[node, part // BITS] >> (part % BITS)) & 1)


@kernel
def suits(table: Matrix, shape: int, kind: int) -> bool:
    """Whether an empty usable node of a kind, in any partition, hosts a part of a shape. O(1)."""
    return bool((table[shape, kind >> SUIT_SHIFT] >> (kind & SUIT_MASK)) & 1)


@kernel
def may_host(cluster: Cluster, req: Requests, shape: int, part: int, node: int) -> bool:
    """Whether a usable node is in a place and could host a part of a shape when empty. O(1).

    `part` must be one of its places: of the only one of most shapes, `suits` has told already.
    """
    places = req.places
    return suits(req.suits, shape, cluster.nodes[KIND, node]) and (
        places.shape[1] == 1 or places[shape, 1] < 0 or in_partition(cluster.partitions, node, part)
    )


@kernel
def has_features(features: Matrix, node: int, shapes: Matrix, clauses: Cube, shape: int) -> bool:
    """Whether a node satisfies any clause of a shape (no clause: no condition). O(clauses)."""
    if shapes[NCLAUSES, shape] == 0:
        return True
    for c in range(shapes[NCLAUSES, shape]):
        missing = 0
        for w in range(features.shape[1]):
            missing |= clauses[shape, c, w] & ~features[node, w]
        if missing == 0:
            return True
    return False


@kernel
def set_marks(cluster: Cluster, req: Requests, shape: int, on: int) -> None:
    """Mark (on=1) or unmark (on=0) the nodes a shape requires or excludes. O(length of lists)."""
    nodes = cluster.nodes
    shapes = req.shapes
    listed = req.listed
    start = shapes[LIST_START, shape]
    middle = start + shapes[NREQUIRED, shape]
    for i in range(start, middle):
        nodes[MARK, listed[i]] = REQUIRED * on
    for i in range(middle, middle + shapes[NEXCLUDED, shape]):
        nodes[MARK, listed[i]] = EXCLUDED * on


@kernel
def fill_room(amounts: Cube, dims: Matrix, node: int, beyond: bool) -> None:
    """Write into ROOM what a job may take on a node now (`beyond`: past the promise too). O(R²).

    Both instants bound it in every dimension. A total is bounded too by what its types and its
    devices without type can give at both instants: with one A100 free now and one V100 later, "any
    GPU" has none.
    """
    for r in range(amounts.shape[2]):
        amounts[ROOM, node, r] = amounts[FREE, node, r]
        if beyond:
            amounts[ROOM, node, r] = min(amounts[ROOM, node, r], amounts[SPARE, node, r])
    if not beyond:
        return
    for total in range(2, amounts.shape[2]):
        if dims[PARENT, total] < 0:
            now, later, typed = amounts[FREE, node, total], amounts[SPARE, node, total], 0
            for r in range(2, amounts.shape[2]):
                if dims[PARENT, r] == total:
                    now -= amounts[FREE, node, r]
                    later -= amounts[SPARE, node, r]
                    typed += amounts[ROOM, node, r]
            amounts[ROOM, node, total] = min(amounts[ROOM, node, total], typed + min(now, later))


@kernel
def widest_type(amounts: Cube, dims: Matrix, node: int, layer: int, total: int, want: int) -> int:
    """The type to take `want` more devices from: the scarcest that has them all, else the widest.

    -1 if no type has any left beside AMOUNT. Equals go by dimension. O(R).
    """
    best, have = -1, 0
    for r in range(total + 1, amounts.shape[2]):
        left = amounts[layer, node, r] - dims[AMOUNT, r]
        if dims[PARENT, r] == total and left > 0:
            better = left > have
            if have >= want:
                better = want <= left < have
            if better:
                best, have = r, left
    return best


@kernel
def settle(amounts: Cube, dims: Matrix, node: int, layer: int) -> None:
    """Decide which types the untyped part of AMOUNT takes from a layer of a node. O(R³), R small.

    Devices without a type go first. Invariant: afterwards total = types + devices without type, all
    within the layer. A total has a lower number than its types.
    """
    for total in range(2, amounts.shape[2]):
        want = dims[AMOUNT, total]
        if dims[PARENT, total] >= 0 or want == 0:
            continue
        plain = amounts[layer, node, total]
        for r in range(total + 1, amounts.shape[2]):
            if dims[PARENT, r] == total:
                want -= dims[AMOUNT, r]
                plain -= amounts[layer, node, r]
        want -= min(want, max(plain, 0))
        while want > 0:
            best = widest_type(amounts, dims, node, layer, total, want)
            if best < 0:
                break
            take = min(want, amounts[layer, node, best] - dims[AMOUNT, best])
            dims[AMOUNT, best] += take
            want -= take


@kernel
def fill_amount(
    cluster: Cluster, req: Requests, shape: int, node: int, tasks: int, layer: int
) -> None:
    """Write into AMOUNT what `tasks` of a shape take on a node. O(R³), R small.

    They may take what the layer holds. An exclusive shape takes all the node has.
    """
    amounts = cluster.amounts
    dims = cluster.dims
    shapes = req.shapes
    needs = req.needs
    for r in range(amounts.shape[2]):
        if shapes[EXCLUSIVE, shape]:
            dims[AMOUNT, r] = amounts[CAPACITY, node, r]
        else:
            dims[AMOUNT, r] = needs[PER_NODE, shape, r] + tasks * needs[PER_TASK, shape, r]
    if not shapes[EXCLUSIVE, shape]:
        settle(amounts, dims, node, layer)


@kernel
def hosts_now(cluster: Cluster, req: Requests, shape: int, node: int, end: int) -> int:
    """Tasks that fit on a node now and until `end` without breaking a promise there. O(R²)."""
    amounts = cluster.amounts
    nodes = cluster.nodes
    shapes = req.shapes
    needs = req.needs
    count = hosts(amounts, FREE, node, shapes, needs, shape)
    if count > 0 and end > nodes[HOLD_START, node]:
        fill_room(amounts, cluster.dims, node, True)
        return min(count, hosts(amounts, ROOM, node, shapes, needs, shape))
    return count


@inlined
def gather_required(
    cluster: Cluster, req: Requests, shape: int, part: int, end: int, heed: bool
) -> int:
    """Write the nodes a shape requires as the first candidates; gives how many can host it."""
    nodes = cluster.nodes
    shapes = req.shapes
    found, start = 0, shapes[LIST_START, shape]
    for i in range(start, start + shapes[NREQUIRED, shape]):
        node = req.listed[i]
        if (
            nodes[MARK, node] == REQUIRED
            and not (heed and nodes[BLOCKED, node])
            and may_host(cluster, req, shape, part, node)
        ):
            count = hosts_now(cluster, req, shape, node, end if heed else 0)
            if count > 0:
                nodes[CAND_NODE, found] = node
                nodes[CAND_TASKS, found] = count
                found += 1
    return found


@inlined
def gather(
    cluster: Cluster, req: Requests, scratch: Scratch, shape: int, part: int, end: int, heed: bool
) -> int:
    """Candidates of a shape in a place, now and until `end`, in order of preference.

    Writes CAND_NODE, CAND_TASKS, required nodes first; gives their number, 0 if a required one
    cannot. Stops as soon as they suffice, unless a policy chooses among all. With `heed`, promises and blocked nodes are respected and
    the shape's cursors move past nodes that cannot host it any more in this pass: what is free only
    falls, and a job that ends later is bound by more promises. Only for shapes of one place.
    O(nodes x R), O(1) amortised per placement of one-node shapes.
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    shapes = req.shapes
    needs = req.needs
    places = req.places
    counters = scratch.counters
    set_marks(cluster, req, shape, 1)
    found = gather_required(cluster, req, shape, part, end, heed)
    if found < shapes[NREQUIRED, shape]:
        set_marks(cluster, req, shape, 0)
        return 0
    total, ntasks = 0, shapes[NTASKS, shape]
    for i in range(found):
        total += nodes[CAND_TASKS, i]
    options = scratch.options
    chosen = heed and options[CHOICE, part % options.shape[1]] > 0
    every = chosen or shapes[NEAR, shape] > 0
    first, moving, moving_beyond = 0, False, False
    if heed and (places.shape[1] == 1 or places[shape, 1] < 0):
        if end < shapes[BEYOND_FROM, shape]:  # what kept longer jobs off may not keep this one off
            shapes[BEYOND_FROM, shape] = 0
            shapes[CURSOR_BEYOND, shape] = 0
        first = max(shapes[CURSOR, shape], shapes[CURSOR_BEYOND, shape])
        moving, moving_beyond = first == shapes[CURSOR, shape], True
    for i in range(first, counters[NODES]):
        if ntasks == 0 and found >= shapes[HIGH, shape] and not every:
            break
        if 0 < ntasks <= total and shapes[LOW, shape] <= found <= shapes[HIGH, shape] and not every:
            break
        node = nodes[ORDER, i]
        count = 0
        if (
            may_host(cluster, req, shape, part, node)
            and nodes[MARK, node] == 0
            and not (heed and nodes[BLOCKED, node])
        ):
            count = hosts(amounts, FREE, node, shapes, needs, shape)
        moving &= count == 0
        if moving:
            shapes[CURSOR, shape] = i + 1
        if count > 0 and heed and end > nodes[HOLD_START, node]:
            count = hosts_now(cluster, req, shape, node, end)
            if count == 0 and moving_beyond:
                shapes[BEYOND_FROM, shape] = max(shapes[BEYOND_FROM, shape], end)
        moving_beyond &= count == 0
        if moving_beyond:
            shapes[CURSOR_BEYOND, shape] = i + 1
        if count > 0:
            nodes[CAND_NODE, found] = node
            nodes[CAND_TASKS, found] = count
            total += count
            found += 1
    set_marks(cluster, req, shape, 0)
    return found


@kernel
def next_suited_node(nodes: Matrix, table: Matrix, shape: int, first: int, last: int) -> int:
    """The first place of ORDER, from `first` to before `last`, of a node that suits a shape.

    `last` if there is none. Few arrays, because most nodes passed over are none: see `passover`.
    """
    at = first
    while at < last:
        kind = nodes[KIND, nodes[ORDER, at]]
        if (table[shape, kind >> SUIT_SHIFT] >> (kind & SUIT_MASK)) & 1:
            break
        at += 1
    return at


@inlined
def first_fit(cluster: Cluster, req: Requests, scratch: Scratch, shape: int, end: int) -> int:
    """The first node in order that hosts a PLAIN shape now and until `end`; -1: none does.

    What `gather` and `choose` come to for such a shape, cursors included. O(1) amortised.
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    shapes = req.shapes
    needs = req.needs
    counters = scratch.counters
    if end < shapes[BEYOND_FROM, shape]:
        shapes[BEYOND_FROM, shape] = 0
        shapes[CURSOR_BEYOND, shape] = 0
    first = max(shapes[CURSOR, shape], shapes[CURSOR_BEYOND, shape])
    moving, found = first == shapes[CURSOR, shape], -1
    at = first
    while found < 0:
        at = next_suited_node(nodes, req.suits, shape, at, counters[NODES])
        if at == counters[NODES]:
            break
        node = nodes[ORDER, at]
        at += 1
        free = not nodes[BLOCKED, node]
        for r in range(amounts.shape[2] if free else 0):
            if amounts[FREE, node, r] < needs[PER_FIRST, shape, r] > 0:
                free = False
                break
        if free:
            if moving:
                shapes[CURSOR, shape] = at - 1
                moving = False
            if end <= nodes[HOLD_START, node] or hosts_now(cluster, req, shape, node, end) > 0:
                found = node
                at -= 1
            else:
                shapes[BEYOND_FROM, shape] = max(shapes[BEYOND_FROM, shape], end)
    if moving:
        shapes[CURSOR, shape] = at
    shapes[CURSOR_BEYOND, shape] = at
    return found


@kernel
def widest(nodes: Matrix, shapes: Matrix, histogram: Vector, shape: int, found: int) -> int:
    """Pick the HIGH candidates that host the most tasks, keeping required ones; gives the sum.

    Equals go by preference. O(candidates + tasks per node). Invariant: `histogram` is left zero.
    """
    keep, ntasks = shapes[NREQUIRED, shape], shapes[NTASKS, shape]
    quota, top = shapes[HIGH, shape] - keep, 0
    for i in range(keep, found):
        level = min(nodes[CAND_TASKS, i], ntasks)
        histogram[level] += 1
        top = max(top, level)
    level = top
    while level > 0 and histogram[level] < quota:
        quota -= histogram[level]
        level -= 1
    histogram[: top + 1] = 0
    picked, total = 0, 0
    for i in range(found):
        count = min(nodes[CAND_TASKS, i], ntasks)
        if i >= keep and (count < level or (count == level and quota == 0)):
            continue
        if i >= keep and count == level:
            quota -= 1
        nodes[PICK_NODE, picked] = nodes[CAND_NODE, i]
        nodes[PICK_TASKS, picked] = count
        total += count
        picked += 1
    return total


@kernel
def choose(
    cluster: Cluster, req: Requests, scratch: Scratch, shape: int, found: int, most: int
) -> int:
    """Choose a gang of at most `most` nodes from the candidates; gives its size, 0: there is none.

    All or nothing. Writes PICK_NODE and PICK_TASKS (each at least 1; they add up to `ntasks`,
    the first nodes filled first). Takes candidates in order; only where the bound on nodes then
    leaves too few tasks does it take the widest. A gang that is to lie close together is first of all
    chosen by switches (`near`). O(candidates).
    """
    nodes = cluster.nodes
    shapes = req.shapes
    found = near(cluster, req, scratch, shape, found, most)
    low, ntasks = shapes[LOW, shape], shapes[NTASKS, shape]
    if found < low or shapes[NREQUIRED, shape] > most or low > most:
        return 0
    size, total = 0, 0
    for i in range(min(found, most)):
        if ntasks > 0 and size >= low and size >= shapes[NREQUIRED, shape] and total >= ntasks:
            break
        nodes[PICK_NODE, size] = nodes[CAND_NODE, i]
        nodes[PICK_TASKS, size] = min(nodes[CAND_TASKS, i], ntasks) if ntasks > 0 else 1
        total += nodes[PICK_TASKS, size]
        size += 1
    if ntasks == 0:
        return size
    if total < ntasks:
        if found <= most or widest(nodes, shapes, scratch.histogram, shape, found) < ntasks:
            return 0
        size = most
    left = ntasks - size
    for i in range(size):
        extra = min(nodes[PICK_TASKS, i] - 1, left)
        nodes[PICK_TASKS, i] = 1 + extra
        left -= extra
    return size
