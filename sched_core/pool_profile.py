"""Free processors over time, as running and planned jobs leave them: a step function.

Segment k holds LEVEL from its AT to that of segment k + 1; the last segment ends at NEVER. Adjacent
segments differ in LEVEL, so that a search visits as few as there can be.
"""

from __future__ import annotations

from sched_core.jit import kernel
from sched_core.pool_views import AT, LEVEL, NEVER, SEGMENTS, Pool


@kernel
def clear_profile(pool: Pool, now: int, size: int) -> None:
    """Everything is free from `now` on. O(1)."""
    pool.profile[AT, 0] = now
    pool.profile[LEVEL, 0] = size
    pool.profile[AT, 1] = NEVER
    pool.counters[SEGMENTS] = 1


@kernel
def forget_past(pool: Pool, now: int) -> None:
    """Drop the segments that end by `now`. O(segments) if there are any, else O(1)."""
    profile = pool.profile
    count = pool.counters[SEGMENTS]
    gone = 0
    while profile[AT, gone + 1] <= now:
        gone += 1
    if gone == 0:
        return
    for k in range(gone, count + 1):
        profile[AT, k - gone] = profile[AT, k]
        profile[LEVEL, k - gone] = profile[LEVEL, k]
    pool.counters[SEGMENTS] = count - gone


@kernel
def breakpoint_at(pool: Pool, when: int) -> int:
    """Segment that begins at `when`, split off if there is none. O(segments behind it).

    `when` is not before the first segment.
    """
    profile = pool.profile
    low, high = 0, pool.counters[SEGMENTS]
    while low < high:
        middle = (low + high) // 2
        if profile[AT, middle] < when:
            low = middle + 1
        else:
            high = middle
    if profile[AT, low] != when:
        for k in range(pool.counters[SEGMENTS], low - 1, -1):
            profile[AT, k + 1] = profile[AT, k]
            profile[LEVEL, k + 1] = profile[LEVEL, k]
        profile[AT, low] = when
        profile[LEVEL, low] = profile[LEVEL, low - 1]
        pool.counters[SEGMENTS] += 1
    return low


@kernel
def join(pool: Pool, k: int) -> None:
    """Make one of segments k - 1 and k if they have the same level. O(segments behind)."""
    profile = pool.profile
    if k == 0 or profile[LEVEL, k - 1] != profile[LEVEL, k]:
        return
    for later in range(k, pool.counters[SEGMENTS]):
        profile[AT, later] = profile[AT, later + 1]
        profile[LEVEL, later] = profile[LEVEL, later + 1]
    pool.counters[SEGMENTS] -= 1


@kernel
def add_level(pool: Pool, begin: int, end: int, size: int) -> None:
    """`size` processors become free (below 0: taken) from `begin` to `end`. O(segments)."""
    if begin >= end:
        return
    profile = pool.profile
    first = breakpoint_at(pool, begin)
    last = breakpoint_at(pool, end)
    for k in range(first, last):
        profile[LEVEL, k] += size
    join(pool, last)
    join(pool, first)


@kernel
def earliest_hole(pool: Pool, now: int, limit: int, size: int, duration: int) -> int:
    """Earliest instant from `now` on, at most `limit`, with `size` free for `duration`.

    A job that is planned at `limit` may stay in the profile: it never stands in its own way, for
    what lies beyond its planned start is wide enough by its own share. O(segments before limit).
    """
    profile = pool.profile
    begin = now
    k = 0
    while profile[AT, k] < limit:
        if profile[LEVEL, k] < size:
            begin = profile[AT, k + 1]
        elif profile[AT, k + 1] - begin >= duration:
            return int(begin)
        k += 1
    return int(min(begin, limit))
