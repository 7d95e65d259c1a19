"""What the kernels of one pool of processors are given: a few matrices and their rows.

Instants and durations are int64 seconds, sizes are processors. `n` counts jobs, in the order of
their submission (that order is the queue's, unless an order plug-in says otherwise). Every job's
`RUN` and `ESTIMATE` are at least 1 and its `PROCS` are 1 to the size of the pool.
"""

from __future__ import annotations

from typing import NamedTuple

from sched_core.columns import Matrix, Vector
from sched_core.views import FAR

NEVER = FAR
"""An instant that never comes."""


class Pool(NamedTuple):
    """A whole replay: the workload, what is found of it, and the state at one instant."""

    jobs: Matrix
    """[columns, n], see below."""
    queue: Matrix
    """[3, n]: BY_ORDER, BY_ESTIMATE, MERGED."""
    running: Matrix
    """[5, most running jobs], see below."""
    profile: Matrix
    """[2, breakpoints]: AT, LEVEL. Only the conservative policies use more than one."""
    counters: Vector
    """[COUNTERS], see below."""
    control: Vector
    """[2]: STARTED, written here and read by another thread; STOP, the other way round."""


# Columns of `jobs`.
SUBMIT = 0
PROCS = 1
ESTIMATE = 2
RUN = 3
START = 4
"""Found: when it starts; -1: not yet."""
PLANNED = 5
"""Conservative: when it is planned to start."""
RANK = 6
"""Place in the queue among all jobs, for orders that do not change with time."""
WEIGHT = 7
"""What a time-dependent order divides the wait by (`sched_core.orders`)."""
JOB_COLUMNS = 8

# Rows of `queue`: waiting jobs.
BY_ORDER = 0
"""From `counters[FIRST]` to `counters[LAST]`, first in the queue first."""
BY_ESTIMATE = 1
"""`counters[SORTED]` of them, shortest estimate first, ties in queue order (EASY-SJBF)."""
MERGED = 2
"""Scratch of a merge sort."""

# Rows of `running`.
RELEASE = 0
"""Estimated ends, rising; `counters[RUNNING]` of them."""
RELEASED = 1
"""Processors of the job at the same place, and the job."""
HOLDER = 2
HEAP_END = 3
"""Binary heap of real ends; HEAP_JOB: whose."""
HEAP_JOB = 4
RUNNING_ROWS = 5

# Rows of `profile`: free processors from AT to the next AT; the last AT is NEVER.
AT = 0
LEVEL = 1

# Counters.
FREE = 0
"""Processors free now."""
FIRST = 1
LAST = 2
SORTED = 3
RUNNING = 4
HEAP = 5
ARRIVED = 6
"""Jobs submitted so far."""
SHADOW = 7
"""Of the head found by the last pass; NEVER: no head."""
EXTRA = 8
"""Processors left beside the head at its shadow time."""
SEGMENTS = 9
"""Segments of the profile; one breakpoint more than these is in use."""
NEXT_PLANNED = 10
"""Earliest planned start of a waiting job."""
UNSETTLED = 11
"""Jobs that the last compression moved."""
COUNTERS = 12

# Cells of `control`.
STARTED = 0
STOP = 1
