"""Licences within a pass: what is free of each over time, and who takes of it.

Each licence has a profile, a step function as that of a pool: an instant and what is free from then
on until the next; the last step never ends. Running jobs give back at their planned end; starts and
promises of the pass take from their start to their planned end. `first_lack` asks whether a gang may
start, `licence_start` when it may, and `take_licences` books it.
"""

from __future__ import annotations

from sched_core.columns import Matrix
from sched_core.jit import entry, inlined, kernel
from sched_core.views import (
    FAR,
    LICENCE_ANY,
    LICENCE_AT,
    LICENCE_BLOCK,
    LICENCE_LEFT,
    LICENCE_LENGTH,
    Queue,
)


@inlined
def licensed(queue: Queue, shape: int) -> bool:
    """Whether a shape asks for licences. O(1): all that a pass without them pays."""
    return bool(queue.licence_need[shape, LICENCE_ANY] != 0)


@kernel
def short_of(queue: Queue, shape: int) -> int:
    """The first licence of which less is free now than a shape asks for; -1: none. O(licences)."""
    need = queue.licence_need
    for licence in range(need.shape[1] - 1):
        wanted = need[shape, 1 + licence]
        if wanted > 0:
            first = queue.licence_blocks[LICENCE_BLOCK, licence]
            if queue.licence_profile[LICENCE_LEFT, first] < wanted:
                return licence
    return -1


@entry
def first_lack(queue: Queue, shape: int, start: int, end: int) -> int:
    """First instant from `start`, before `end`, at which a licence is short; FAR: there is none.

    `start` is not before the profile. O(licences of the shape x steps).
    """
    need = queue.licence_need
    profile = queue.licence_profile
    blocks = queue.licence_blocks
    lack = FAR
    for licence in range(need.shape[1] - 1):
        wanted = need[shape, 1 + licence]
        if wanted == 0:
            continue
        at = step_at(profile, blocks, licence, start)
        stop = blocks[LICENCE_BLOCK, licence] + blocks[LICENCE_LENGTH, licence]
        while at < stop and profile[LICENCE_AT, at] < min(end, lack):
            if profile[LICENCE_LEFT, at] < wanted:
                lack = max(profile[LICENCE_AT, at], start)
                break
            at += 1
    return int(lack)


@kernel
def licence_start(queue: Queue, shape: int, since: int, duration: int, now: int, step: int) -> int:
    """First start from `since` on, `now` or a multiple of `step`, with enough for `duration`.

    FAR: there are not so many, ever. Invariant: no start between `since` and `when` is possible.
    O(licences of the shape x steps), times the holes that are too short.
    """
    when = since
    while when < FAR:
        if when > now and step > 1:
            when = (when + step - 1) // step * step
        lack = first_lack(queue, shape, when, when + duration)
        if lack == FAR:
            break
        when = lack_end(queue, shape, lack)
    return int(when)


@kernel
def lack_end(queue: Queue, shape: int, lack: int) -> int:
    """When those licences are enough again that are short at an instant; FAR: never. O(steps)."""
    need = queue.licence_need
    profile = queue.licence_profile
    blocks = queue.licence_blocks
    end = lack
    for licence in range(need.shape[1] - 1):
        wanted = need[shape, 1 + licence]
        if wanted == 0:
            continue
        at = step_at(profile, blocks, licence, lack)
        stop = blocks[LICENCE_BLOCK, licence] + blocks[LICENCE_LENGTH, licence]
        while at < stop and profile[LICENCE_LEFT, at] < wanted:
            at += 1
        if at == stop:
            return FAR
        end = max(end, profile[LICENCE_AT, at])
    return int(end)


@entry
def take_licences(queue: Queue, shape: int, start: int, end: int, sign: int) -> None:
    """A gang takes its licences from `start` to `end`, or (sign -1) gives them back. O(steps).

    Invariant: where `first_lack` found none, no step falls below 0.
    """
    need = queue.licence_need
    profile = queue.licence_profile
    blocks = queue.licence_blocks
    for licence in range(need.shape[1] - 1):
        wanted = need[shape, 1 + licence]
        if wanted > 0:
            first = cut_step(profile, blocks, licence, start)
            last = cut_step(profile, blocks, licence, end)
            for at in range(first, last):
                profile[LICENCE_LEFT, at] -= sign * wanted


@kernel
def step_at(profile: Matrix, blocks: Matrix, licence: int, when: int) -> int:
    """The step of a licence that holds an instant, which is not before the first. O(log steps)."""
    low = blocks[LICENCE_BLOCK, licence]
    high = low + blocks[LICENCE_LENGTH, licence]
    while high - low > 1:
        middle = (low + high) // 2
        if profile[LICENCE_AT, middle] <= when:
            low = middle
        else:
            high = middle
    return int(low)


@kernel
def cut_step(profile: Matrix, blocks: Matrix, licence: int, when: int) -> int:
    """The step that begins at an instant; made if there is none. O(steps behind it).

    The block has room: see `licence_views`.
    """
    at = step_at(profile, blocks, licence, when)
    if profile[LICENCE_AT, at] == when:
        return at
    stop = blocks[LICENCE_BLOCK, licence] + blocks[LICENCE_LENGTH, licence]
    for k in range(stop, at + 1, -1):
        profile[LICENCE_AT, k] = profile[LICENCE_AT, k - 1]
        profile[LICENCE_LEFT, k] = profile[LICENCE_LEFT, k - 1]
    profile[LICENCE_AT, at + 1] = when
    profile[LICENCE_LEFT, at + 1] = profile[LICENCE_LEFT, at]
    blocks[LICENCE_LENGTH, licence] += 1
    return at + 1
