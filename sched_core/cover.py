"""The cheapest victims on one node: exact, by branch and bound.

A node lacks something in a few dimensions; every candidate on it releases something and costs
something. Wanted is the set of least cost that releases all that lacks (a covering knapsack in
several dimensions). Candidates are tried in order of cost per amount, taking before leaving, so the
first set found is the greedy one. A branch is left when even fractions of the remaining candidates
would cost as much as the best set known (the bound of Dantzig 1957, in each dimension), and no
candidate is taken once one that releases no less for no more was left out.
"""

from __future__ import annotations

from sched_core.jit import inlined, kernel
from sched_core.victims import (
    BANNED,
    BEST,
    COST,
    CUT,
    ITEM,
    LACKS,
    LEFT,
    LEFT_OUT,
    NO_LIMIT,
    PLACE,
    R_VICTIM,
    SKIPPED,
    SORTED,
    TAKE,
    TAKEN_IN,
    VISITS,
    Victims,
    released,
)


@kernel
def sort_by_ratio(victims: Victims, count: int, dim: int, width: int) -> int:
    """Write into row SORTED + dim the places of items by cost per amount released in a dimension.

    Gives how many release any of it. Insertion sort, O(count²), stable: candidates of one node are
    few.
    """
    search = victims.search
    found = 0
    for place in range(count):
        item = search[ITEM, place]
        amount = released(victims, item, dim)
        if amount <= 0:
            continue
        ratio = victims.jobs[COST, victims.rows[R_VICTIM, item]] / amount
        at = found
        while at > 0:
            other = search[ITEM, search[SORTED + dim, at - 1]]
            cost = victims.jobs[COST, victims.rows[R_VICTIM, other]]
            if cost / released(victims, other, dim) <= ratio:
                break
            search[SORTED + dim, at] = search[SORTED + dim, at - 1]
            at -= 1
        search[SORTED + dim, at] = place
        found += 1
    for at in range(found, width):
        search[SORTED + dim, at] = -1
    return found


@kernel
def bound(victims: Victims, depth: int, count: int, limit: int) -> int:
    """Least that items from place `depth` on must cost to cover LEFT; `limit` if they cannot.

    The greatest over the dimensions of the fractional optimum, rounded down. O(R x count).
    """
    search = victims.search
    most = 0
    for dim in range(victims.amount.shape[1]):
        left, sum_ = search[LEFT, dim], 0
        if left <= 0:
            continue
        for at in range(count):
            place = search[SORTED + dim, at]
            if place < 0 or left <= 0 or sum_ >= limit:
                break
            victims.counters[VISITS] += 1
            if place < depth or search[BANNED, place] > 0:
                continue
            item = search[ITEM, place]
            amount = released(victims, item, dim)
            cost = victims.jobs[COST, victims.rows[R_VICTIM, item]]
            if amount > left:
                cost = int(cost * (left / amount) * (1.0 - 1e-9))
            sum_ += cost
            left -= amount
        if left > 0:
            return limit
        most = max(most, sum_)
    return most


@kernel
def ban(victims: Victims, left_out: int, count: int, sign: int) -> None:
    """Ban (`sign` 1) or admit again (-1) the later items that one left out makes pointless.

    These cost no less and release no more wherever something lacked. O(count x R).
    """
    search = victims.search
    other = search[ITEM, left_out]
    cost = victims.jobs[COST, victims.rows[R_VICTIM, other]]
    victims.counters[VISITS] += count - left_out
    for place in range(left_out + 1, count):
        item = search[ITEM, place]
        pointless = victims.jobs[COST, victims.rows[R_VICTIM, item]] >= cost
        for dim in range(victims.amount.shape[1]):
            if search[LACKS, dim] and released(victims, item, dim) > released(victims, other, dim):
                pointless = False
                break
        if pointless:
            search[BANNED, place] += sign


@inlined
def begin_cover(victims: Victims, node: int) -> int:
    """Order the candidates of a node as they are tried: by the dimension that lacks most of them.

    Writes ITEM and, for every dimension that lacks, SORTED; gives their number.
    """
    search = victims.search
    first = victims.node_start[node]
    count, main, share = int(victims.node_start[node + 1] - first), -1, -1.0
    for place in range(count):
        search[ITEM, place] = first + place
        search[BANNED, place] = 0
    for dim in range(victims.amount.shape[1]):
        search[LACKS, dim] = search[LEFT, dim] > 0
        if search[LACKS, dim]:
            total = 0
            for place in range(count):
                total += released(victims, search[ITEM, place], dim)
            if total > 0 and search[LEFT, dim] / total > share:
                main, share = dim, search[LEFT, dim] / total
    if main < 0:
        return count
    found = sort_by_ratio(victims, count, main, count)
    for place in range(count):
        search[PLACE, place] = -1
    for at in range(found):
        search[PLACE, search[SORTED + main, at]] = at
    for place in range(count):  # those that release nothing of it come last
        if search[PLACE, place] < 0:
            search[PLACE, place] = found
            found += 1
    for place in range(count):
        search[ITEM, search[PLACE, place]] = first + place
    return count


@kernel
def put(victims: Victims, place: int, sign: int) -> int:
    """Take an item (`sign` 1) or give it back (-1): LEFT and TAKE follow; gives its cost. O(R)."""
    search = victims.search
    item = search[ITEM, place]
    for dim in range(victims.amount.shape[1]):
        search[LEFT, dim] -= sign * released(victims, item, dim)
    search[TAKE, place] = TAKEN_IN if sign > 0 else LEFT_OUT
    return int(victims.jobs[COST, victims.rows[R_VICTIM, item]])


@inlined
def covered(victims: Victims) -> bool:
    """Whether nothing lacks any more. O(R)."""
    most = 0
    for dim in range(victims.amount.shape[1]):
        most = max(most, victims.search[LEFT, dim])
    return most == 0


@kernel
def cover(victims: Victims, node: int, limit: int, budget: int) -> int:
    """Cost of the cheapest candidates of a node that release what lacks; `limit` if none is below.

    What lacks is in LEFT [R], which is restored. The set is marked in BEST by place in ITEM.
    O(2^candidates) at worst, but once VISITS is at `budget` the best set found so far counts, and
    CUT says so. Without `limit` the first branch covers, so some set is found if any does.
    """
    search = victims.search
    count = begin_cover(victims, node)
    for dim in range(victims.amount.shape[1]):
        if search[LEFT, dim] > 0:
            sort_by_ratio(victims, count, dim, count)
    best, total, depth = limit, 0, 0
    while depth >= 0:
        if victims.counters[VISITS] >= budget and best < NO_LIMIT:
            victims.counters[CUT] = 1
        elif covered(victims):
            if total < best:
                best = total
                for place in range(count):
                    search[BEST, place] = place < depth and search[TAKE, place] == TAKEN_IN
        elif depth < count and total + bound(victims, depth, count, best - total) < best:
            if search[BANNED, depth] > 0:
                search[TAKE, depth] = SKIPPED
            else:
                total += put(victims, depth, 1)
            depth += 1
            continue
        depth -= 1
        while depth >= 0 and search[TAKE, depth] != TAKEN_IN:
            if search[TAKE, depth] == LEFT_OUT:
                ban(victims, depth, count, -1)
            depth -= 1
        if depth >= 0:
            total -= put(victims, depth, -1)
            ban(victims, depth, count, 1)
            depth += 1
    return best
