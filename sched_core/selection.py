"""Which jobs to preempt for one gang: candidates are given back one by one until none is idle.

Whatever victims are chosen, the last pass over them (`thin`) drops every one without which the gang
still fits, the dearest first; so no victim is in vain, on whichever nodes the gang may land.
"""

from __future__ import annotations

from sched_core.columns import Matrix, Vector
from sched_core.cover import cover
from sched_core.fit import choose, fill_amount, gather, hosts, set_marks
from sched_core.jit import entry, inlined, kernel
from sched_core.timeline import enough, reach
from sched_core.victims import (
    BEST,
    COST,
    FIRST_TRY,
    ITEM,
    LEFT,
    N_COST,
    N_TASKS,
    NO_LIMIT,
    R_NODE,
    R_OF_JOB,
    R_VICTIM,
    TAKEN,
    VISITS,
    Victims,
    released,
)
from sched_core.views import (
    ABLE,
    AMOUNT,
    AVAIL,
    CAPACITY,
    ELIGIBLE,
    EXCLUSIVE,
    FITTING,
    FREE,
    HIGH,
    NODES,
    NREQUIRED,
    NTASKS,
    ORDER,
    PER_NODE,
    PER_TASK,
    PICK_NODE,
    PICK_TASKS,
    REQUIRED_ABLE,
    REQUIRED_TASKS,
    SWEEP,
    TASKS,
    WIDEST,
    Cluster,
    Requests,
    Scratch,
)

IMPOSSIBLE = 0
FITS = 1
POSSIBLE = 2


@inlined
def recount(req: Requests, scratch: Scratch, shape: int, required: bool, old: int, new: int) -> int:
    """Tell the tally (see `timeline.enough`) that a node hosts `new` tasks, more or fewer. O(1)."""
    shapes = req.shapes
    histogram = scratch.histogram
    counters = scratch.counters
    ntasks = shapes[NTASKS, shape]
    before, after = min(old, ntasks), min(new, ntasks)
    turned = int(new > 0) - int(old > 0)
    counters[ABLE] += turned
    counters[TASKS] += after - before
    if required:
        counters[REQUIRED_ABLE] += turned
        counters[REQUIRED_TASKS] += after - before
    elif shapes[HIGH, shape] < ntasks:
        if before > 0:
            histogram[before] -= 1
        if after > 0:
            histogram[after] += 1
        counters[WIDEST] = max(counters[WIDEST], after)
    return turned


@kernel
def shift(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    victims: Victims,
    shape: int,
    victim: int,
    sign: int,
) -> None:
    """Preempt a candidate (`sign` 1) or leave it alone again (-1): AVAIL and the tally follow.

    O(nodes of the job x R).
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    for i in range(victims.job_start[victim], victims.job_start[victim + 1]):
        item = victims.rows[R_OF_JOB, i]
        node = victims.rows[R_NODE, item]
        for r in range(amounts.shape[2]):
            amounts[AVAIL, node, r] += sign * released(victims, item, r)
        if nodes[ELIGIBLE, node] > 0:
            old = nodes[FITTING, node]
            new = hosts(amounts, AVAIL, node, req.shapes, req.needs, shape)
            if new != old:
                nodes[FITTING, node] = new
                recount(req, scratch, shape, nodes[ELIGIBLE, node] == 2, old, new)
    victims.jobs[TAKEN, victim] = sign > 0


@kernel
def thin(cluster: Cluster, req: Requests, scratch: Scratch, victims: Victims, shape: int) -> int:
    """Drop every victim without which the gang still fits, dearest first; gives the cost left.

    Invariant: afterwards the gang fits, and without any one victim it does not: what is dropped
    later only takes more away. O(allocations x R).
    """
    jobs = victims.jobs
    total = 0
    for victim in range(jobs.shape[1] - 1, -1, -1):
        if jobs[TAKEN, victim] == 1:
            shift(cluster, req, scratch, victims, shape, victim, -1)
            if not enough(req, scratch, shape):
                shift(cluster, req, scratch, victims, shape, victim, 1)
                total += jobs[COST, victim]
    return total


@kernel
def set_lack(
    cluster: Cluster, req: Requests, victims: Victims, shape: int, node: int, tasks: int
) -> None:
    """Write into LEFT what a node lacks to host `tasks` of a shape. O(R)."""
    amounts = cluster.amounts
    needs = req.needs
    for r in range(amounts.shape[2]):
        need = needs[PER_NODE, shape, r] + tasks * needs[PER_TASK, shape, r]
        if req.shapes[EXCLUSIVE, shape]:
            need = amounts[CAPACITY, node, r]
        elif need == 0:
            need = amounts[FREE, node, r]
        victims.search[LEFT, r] = need - amounts[FREE, node, r]


@inlined
def price(
    cluster: Cluster, req: Requests, scratch: Scratch, victims: Victims, shape: int, budget: int
) -> int:
    """Fill N_COST and N_TASKS of every node that could host a part; all candidates are preempted.

    A gang of one node needs the cheapest only: dearer ones are cut off at its cost.
    """
    nodes = cluster.nodes
    shapes = req.shapes
    goal, best = max(shapes[NTASKS, shape], 1), NO_LIMIT
    for i in range(scratch.counters[NODES]):
        node = nodes[ORDER, i]
        victims.nodes[N_COST, node] = NO_LIMIT
        tasks = min(nodes[FITTING, node], goal)
        victims.nodes[N_TASKS, node] = tasks
        if nodes[ELIGIBLE, node] == 0 or tasks == 0:
            continue
        if shapes[HIGH, shape] == 1 and tasks < goal:
            continue
        if hosts(cluster.amounts, FREE, node, shapes, req.needs, shape) >= tasks:
            victims.nodes[N_COST, node] = 0
            continue
        set_lack(cluster, req, victims, shape, node, tasks)
        share = victims.counters[VISITS] + budget // 8
        cost = cover(victims, node, best, min(budget, share))
        victims.nodes[N_COST, node] = cost if cost < best else NO_LIMIT
        if shapes[HIGH, shape] == 1 and shapes[NREQUIRED, shape] == 0:
            best = min(best, cost)
    return best


@inlined
def begin(cluster: Cluster, req: Requests, scratch: Scratch, shape: int, part: int) -> None:
    """Find the eligible nodes, all of them, and tally what fits on them now. O(nodes x R)."""
    nodes = cluster.nodes
    counters = scratch.counters
    counters[ABLE : WIDEST + 1] = 0
    counters[SWEEP] += 1
    set_marks(cluster, req, shape, 1)
    for i in range(counters[NODES]):
        node = nodes[ORDER, i]
        if reach(cluster, req, scratch, shape, part, False, node):
            new = hosts(cluster.amounts, AVAIL, node, req.shapes, req.needs, shape)
            nodes[FITTING, node] = new
            recount(req, scratch, shape, nodes[ELIGIBLE, node] == 2, 0, new)
    set_marks(cluster, req, shape, 0)


@entry
def survey_victims(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    victims: Victims,
    shape: int,
    part: int,
    budget: int,
) -> int:
    """Whether a gang fits in a partition as things are (FITS), or by preempting (POSSIBLE).

    If POSSIBLE every node is priced, and no candidate is taken. O(nodes x R + allocations x R),
    plus searches on nodes within `budget` visits.
    """
    begin(cluster, req, scratch, shape, part)
    if enough(req, scratch, shape):
        return FITS
    for victim in range(victims.jobs.shape[1]):
        shift(cluster, req, scratch, victims, shape, victim, 1)
    if not enough(req, scratch, shape):
        scratch.histogram[: scratch.counters[WIDEST] + 1] = 0
        return IMPOSSIBLE
    price(cluster, req, scratch, victims, shape, budget)
    for victim in range(victims.jobs.shape[1]):
        shift(cluster, req, scratch, victims, shape, victim, -1)
    return POSSIBLE


@inlined
def take_by_node(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    victims: Victims,
    shape: int,
    order: Vector,
    budget: int,
) -> None:
    """Clear nodes in order, each of its cheapest set, until the gang fits."""
    for i in range(order.shape[0]):
        if enough(req, scratch, shape):
            break
        node = order[i]
        tasks = victims.nodes[N_TASKS, node]
        if cluster.nodes[FITTING, node] >= tasks:
            continue
        set_lack(cluster, req, victims, shape, node, tasks)
        share = victims.counters[VISITS] + budget // 8
        cover(victims, node, NO_LIMIT, max(budget, share))
        for place in range(victims.node_start[node + 1] - victims.node_start[node]):
            if victims.search[BEST, place] == 1:
                victim = victims.rows[R_VICTIM, victims.search[ITEM, place]]
                if victims.jobs[TAKEN, victim] == 0:
                    shift(cluster, req, scratch, victims, shape, victim, 1)


@entry
def select(
    cluster: Cluster,
    req: Requests,
    scratch: Scratch,
    victims: Victims,
    shape: int,
    part: int,
    order: Vector,
    budget: int,
    amount: Matrix,
) -> int:
    """Mark the victims (TAKEN) and place the gang; gives its nodes: PICK_NODE, PICK_TASKS, amount.

    To be called after `survey_victims` said FITS (then nothing is preempted) or POSSIBLE, with the
    priced nodes in `order`. A gang of several nodes is tried a second way, by leaving alone the
    dearest of all candidates, and the cheaper result counts. O(allocations x R + nodes x R).
    """
    amounts = cluster.amounts
    jobs = victims.jobs
    take_by_node(cluster, req, scratch, victims, shape, order, budget)
    first = thin(cluster, req, scratch, victims, shape)
    if req.shapes[HIGH, shape] > 1 and first > 0:
        for victim in range(jobs.shape[1]):
            jobs[FIRST_TRY, victim] = jobs[TAKEN, victim]
            if jobs[TAKEN, victim] == 0:
                shift(cluster, req, scratch, victims, shape, victim, 1)
        if first <= thin(cluster, req, scratch, victims, shape):
            for victim in range(jobs.shape[1]):
                sign = jobs[FIRST_TRY, victim] - jobs[TAKEN, victim]
                if sign != 0:
                    shift(cluster, req, scratch, victims, shape, victim, sign)
    scratch.histogram[: scratch.counters[WIDEST] + 1] = 0
    for i in range(scratch.counters[NODES]):
        node = cluster.nodes[ORDER, i]
        for r in range(amounts.shape[2]):
            amounts[FREE, node, r] = amounts[AVAIL, node, r]
    found = gather(cluster, req, scratch, shape, part, 0, False)
    size = choose(cluster, req, scratch, shape, found, req.shapes[HIGH, shape])
    for i in range(size):
        node, tasks = cluster.nodes[PICK_NODE, i], cluster.nodes[PICK_TASKS, i]
        fill_amount(cluster, req, shape, node, tasks, FREE)
        for r in range(amounts.shape[2]):
            amount[i, r] = cluster.dims[AMOUNT, r]
    return int(size)
