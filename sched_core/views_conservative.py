"""What the kernels of conservative backfilling are given beside `sched_core.views`.

The profile of a node is a short sorted list of *segments*: an instant and what is free from then
on, until the next segment; the last one never ends. Segments lie in one pool, those of a node side
by side in a block of it. `n` counts nodes, `m` pending records in queue order, `R` dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

from sched_core.columns import Matrix, Vector


class Profile(NamedTuple):
    """What is free when, beside all that runs and all that is promised."""

    nodes: Matrix
    """[n, columns], see below: those of a node lie together, for they are asked for together."""
    times: Vector
    """[pool] first instant of each segment."""
    free: Matrix
    """[R, pool] free in it; a search reads along the segments, most of all their CPU."""
    plain: Vector
    """[R] scratch: devices without a type that a window leaves, by total dimension."""
    state: Vector
    """Bounds and counters of the pass, see below."""
    links: Matrix
    """[links, columns]: rows that are of one node in part, see below; the first is none."""


# Columns of `Profile.nodes`.
BLOCK = 0
"""First segment of the node."""
LENGTH = 1
"""Segments of it."""
LIMIT = 2
"""Segments that its block holds."""
TOUCHED = 3
"""Clock of the last change."""
FREED = 4
"""Clock of the last change that gave something back."""
OWN = 5
"""1: what the record at hand was promised there is taken out."""
LINK = 6
"""First of the links from the node; 0: none."""
PROFILE_COLUMNS = 7

# Columns of `Profile.links`: what is taken of a row, between two instants, is taken of another too.
L_ROW = 0
"""The other."""
L_FROM = 1
L_TO = 2
L_NEXT = 3
"""Next link from the same row; 0: none."""
LINK_COLUMNS = 4

# Cells of `Profile.state`: bounds, then counters.
NOW = 0
HORIZON = 1
"""Latest planned start."""
STEP = 2
"""Planned starts after NOW are multiples of it."""
BUDGET = 3
"""Node visits after which no further record is planned."""
MONOTONE = 4
"""1: nothing is ever given back in this pass, so that equal jobs never start earlier than the one
before them."""
TAIL = 5
"""Segments of the pool in use."""
CLOCK = 6
EPOCH = 7
"""Clock of the last move of a promise."""
CACHED = 8
"""Entries in use."""
HELD_ROWS = 9
"""Rows of `Reservations` in use."""
VISITS = 10
LAST_HELD = 11
"""No record from here on holds a promise of the last pass."""
OPTION = 12
"""Which of its partitions the last search chose."""
LIFTED = 13
"""1: a promise is lifted for its own sake, so that more is free than for others."""
COMPRESS = 14
"""1: records are re-inserted although their promise holds."""
LEADS = 15
"""0: every record is promised a start; else only the first of each partition that waits, or (FIFO)
none is, and nobody passes it."""
STATE_CELLS = 16
FIRST_PROMISED = 1
FIRST_BLOCKS = 2


class Windows(NamedTuple):
    """Cache: for jobs of one shape, duration and partition, when each node could host a part.

    Such a class of jobs is a *slot*; it has an *entry* for each node that matches it.
    """

    slots: Matrix
    """[columns, slots], see below."""
    entries: Matrix
    """[pool, columns], see below."""
    heap: Matrix
    """[3, n] scratch of a sweep."""


# Columns of `Windows.slots`.
FIRST = 0
"""First entry; -1: not listed (any more)."""
COUNT = 1
FLOOR = 2
"""No job of the slot can start before."""
FULL = 3
"""EPOCH in which no start up to HORIZON was found; -1: none."""
MIXED = 4
"""1: wants devices of any type, which is no matter of one dimension alone."""
PLAIN = 5
"""1: a node hosts one part or none, and each segment can be judged by itself."""
SLOT_SHAPE = 6
SLOT_PART = 7
SLOT_DURATION = 8
"""What the jobs of the slot have in common; no shape (-1) until it is first searched."""
FOUND = 9
"""Earliest start of a job of the slot as the pass leaves things; -1: not looked for."""
SLOT_COLUMNS = 10

# Columns of `Windows.entries`.
E_NODE = 0
E_START = 1
"""First start (s) on the node that was found; no start is possible between the floor and it."""
E_LAST = 2
"""Starts from E_START to E_LAST are possible; less than E_START: E_START is but a bound."""
E_TASKS = 3
"""Tasks that it hosts then."""
E_SEEN = 4
"""Clock when this was found; -1: of no further use."""
ENTRY_COLUMNS = 5

# Rows of `Windows.heap`.
ITEM = 0
"""Binary heap of entry numbers (within the slot) by KEY."""
KEY = 1
"""By place in the heap: when the contribution of its entry changes."""
ACTIVE = 2
"""By entry: tasks that it contributes at the instant of the sweep."""


class Reservations(NamedTuple):
    """What is promised to pending records: at first by the last pass, in the end by this one."""

    records: Matrix
    """[columns, m], see below."""
    rows: Matrix
    """[2, k]: node, tasks."""
    amount: Matrix
    """[k, R]"""


# Columns of `Reservations.records`.
R_SLOT = 0
"""First slot (of its first partition) of records that may be planned; -1: for now only."""
R_PROMISED = 1
"""Start promised by the last pass; -1: it did not know the record; FAR: none was promised."""
R_START = 2
"""Start promised now; FAR: none."""
R_PART = 3
R_FIRST = 4
R_END = 5
"""Rows of the promise."""
R_CAUSE = 6
"""MoveCause, where the promise of the last pass could not be kept."""
R_LATEST = 7
"""No start of it may be planned later."""
RESERVATION_COLUMNS = 8
ROW_NODE = 0
ROW_TASKS = 1
HELD_COMPONENT = 2
HELD_ROW_COLUMNS = 3
