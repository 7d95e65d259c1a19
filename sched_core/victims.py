"""Who may be preempted, as kernels see it: candidates, what each releases where, and marks.

`v` counts candidate jobs, cheapest first; `a` their allocations, sorted by node, then candidate;
`n` nodes, `R` dimensions, `m` the most candidates on one node.
"""

from __future__ import annotations

from typing import NamedTuple

from sched_core.columns import Matrix, Vector
from sched_core.jit import kernel
from sched_core.names import CPU


class Victims(NamedTuple):
    """Candidates of one preemptor, and scratch."""

    rows: Matrix
    """[VICTIM_ROWS, a], see below."""
    amount: Matrix
    """[a, R] what each allocation holds."""
    node_start: Vector
    """[n + 1] allocations of node i: `node_start[i]` to `node_start[i + 1]`."""
    job_start: Vector
    """[v + 1] allocations of candidate i: so much of row R_OF_JOB."""
    jobs: Matrix
    """[JOB_ROWS, v], see below."""
    nodes: Matrix
    """[NODE_ROWS, n], see below."""
    search: Matrix
    """[SORTED + R, max(m, R)] scratch of the search on one node."""
    counters: Vector
    """[COUNTERS], see below."""


# Rows of `rows`.
R_VICTIM = 0
"""Candidate."""
R_NODE = 1
R_OF_JOB = 2
"""Places in these rows, sorted by candidate."""
VICTIM_ROWS = 3
# Rows of `jobs`.
COST = 0
"""Lost work (CPU-seconds) x ONE_VICTIM + 1: less work first, then fewer victims."""
KEEPS = 1
"""1: it is suspended, and gives its CPUs only."""
TAKEN = 2
"""1: a victim."""
FIRST_TRY = 3
"""TAKEN of the first of two ways to choose."""
JOB_ROWS = 4
ONE_VICTIM = 1 << 12
NO_LIMIT = 1 << 62
"""More than any cost."""
# Rows of `nodes`.
N_COST = 0
"""Of the cheapest candidates without which the node hosts N_TASKS; NO_LIMIT: of no use."""
N_TASKS = 1
NODE_ROWS = 2
# Rows of `search`.
ITEM = 0
"""Allocations of one node in the order in which they are tried."""
PLACE = 1
TAKE = 2
"""By place in ITEM: TAKEN_IN, LEFT_OUT or SKIPPED."""
BANNED = 3
"""By place: how many items left out are no worse."""
BEST = 4
"""By place: 1 if chosen."""
LEFT = 5
"""[R] what still lacks."""
LACKS = 6
"""[R] 1: lacked at first."""
SORTED = 7
"""R rows: places by cost per amount released; -1 padding."""
SKIPPED = 0
TAKEN_IN = 1
LEFT_OUT = 2
# Cells of `counters`.
VISITS = 0
CUT = 1
"""1: a search was given up for its budget."""
COUNTERS = 2


@kernel
def released(victims: Victims, item: int, dim: int) -> int:
    """What preempting the job of an allocation sets free there in one dimension. O(1)."""
    if dim != CPU and victims.jobs[KEEPS, victims.rows[R_VICTIM, item]] == 1:
        return 0
    return int(victims.amount[item, dim])
