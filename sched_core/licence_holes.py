"""Conservative: holes of the profiles of nodes and of licences at once.

Both have holes, so they are asked in turn until they agree.
"""

from __future__ import annotations

from sched_core.holes import earliest_hole
from sched_core.jit import kernel
from sched_core.licencecheck import first_lack, licence_start, licensed
from sched_core.views import FAR, Cluster, Queue, Requests, Scratch
from sched_core.views_conservative import (
    COUNT,
    E_SEEN,
    FIRST,
    FLOOR,
    MONOTONE,
    NOW,
    SLOT_SHAPE,
    STEP,
    Profile,
    Windows,
)


@kernel
def licensed_hole(
    cluster: Cluster,
    req: Requests,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    slot: int,
    shape: int,
    part: int,
    duration: int,
    limit: int,
) -> int:
    """As `earliest_hole`, with enough licences for all the duration.

    Invariant: no job of the slot starts before FLOOR, which so rises with what the licences allow;
    where promises may be moved only for this search, and then nothing found in it is kept.
    """
    slots = windows.slots
    state = profile.state
    floor = slots[FLOOR, slot]
    when = floor
    while True:
        when = licence_start(queue, shape, when, duration, state[NOW], state[STEP])
        if when > limit:
            when = FAR
            break
        slots[FLOOR, slot] = when
        when = earliest_hole(
            cluster, req, scratch, profile, windows, slot, shape, part, duration, limit
        )
        if when == FAR or first_lack(queue, shape, when, when + duration) == FAR:
            break
    if not state[MONOTONE] and slots[FLOOR, slot] > floor:
        slots[FLOOR, slot] = floor
        if slots[FIRST, slot] >= 0:
            for entry in range(slots[FIRST, slot], slots[FIRST, slot] + slots[COUNT, slot]):
                windows.entries[entry, E_SEEN] = -1
    slots[SLOT_SHAPE, slot] = -1  # others, who need no licences, learn nothing from it
    return int(when)


@kernel
def hole(
    cluster: Cluster,
    req: Requests,
    queue: Queue,
    scratch: Scratch,
    profile: Profile,
    windows: Windows,
    slot: int,
    shape: int,
    part: int,
    duration: int,
    limit: int,
) -> int:
    """As `earliest_hole`, with licences for a shape that asks for some."""
    if licensed(queue, shape):
        return licensed_hole(
            cluster, req, queue, scratch, profile, windows, slot, shape, part, duration, limit
        )
    return earliest_hole(
        cluster, req, scratch, profile, windows, slot, shape, part, duration, limit
    )
