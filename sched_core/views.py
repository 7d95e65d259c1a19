"""What kernels are given: a few matrices in named tuples, and the numbers of their rows.

Few and wide on purpose. Passing many small arrays makes a kernel slow to compile: the same pass
took 76 s with 75 arrays. So columns of one length are rows of one matrix, with a constant each.
Every array is int64, but for the verdicts, and C-contiguous. `n` counts nodes, `s` shapes, `m` pending records in queue
order, `j` record rows, `a` allocations, `p` partitions, `k` placed rows, `R` dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

from sched_core.columns import Cube, Matrix, Narrow, Vector

FAR = 1 << 60
"""An instant that never comes."""


class Cluster(NamedTuple):
    """Nodes and scratch per node; what a pass changes here are copies."""

    amounts: Cube
    """[layers, n, R], see below."""
    nodes: Matrix
    """[columns, n], see below."""
    partitions: Matrix
    """[n, words] bits of partitions, then of the other places."""
    features: Matrix
    """[n, words]"""
    dims: Matrix
    """[columns, R], see below."""
    kinds: Matrix
    """[3, kinds]: KIND_NODE, KIND_COUNT, KIND_DONE; see `sched_core.kinds`."""
    fabric: Matrix
    """[10, switches + 2]: the tree of switches, then scratch, as a `gangs.Site` has them."""


# Layers of `amounts`.
CAPACITY = 0
FREE = 1
"""Free now; falls as jobs are placed."""
SPARE = 2
"""Left at HOLD_START beside the promise, for jobs that run beyond it."""
AVAIL = 3
"""Free at the instant a sweep has reached."""
ROOM = 4
"""What one job may take, scratch."""
SEEN = 5
"""What was free when FITTING_NODES and what is short were last counted."""
LAYERS = 6

# Columns of `nodes`.
USE = 0
WEIGHT = 1
ORDER = 2
"""Rows in order of preference; `counters[NODES]` of them."""
HOLD_START = 3
"""When a promised gang takes its part of the node; FAR: no promise on it."""
BLOCKED = 4
"""1: behind a blocked head (FIFO)."""
MARK = 5
"""1: excluded by the shape at hand, 2: required by it."""
ELIGIBLE = 6
"""1: the sweep at hand may use it, 2: must."""
FITTING = 7
"""Tasks that fit at the instant a sweep has reached."""
READY = 8
"""Nodes in the order in which they became able to host a task."""
CAND_NODE = 9
CAND_TASKS = 10
"""Candidates in order of preference, required ones first."""
PICK_NODE = 11
PICK_TASKS = 12
"""What `choose` chose."""
HEAD_NODE = 13
"""Promised nodes, head after head."""
KIND = 14
STAMP = 15
"""The sweep for which AVAIL, ELIGIBLE and FITTING hold."""
SCORE = 16
"""Lower first: what a placement policy makes of a candidate."""
TASKS_THERE = 17
"""CAND_TASKS by node, while candidates are sorted."""
SPARE_ORDER = 18
LEAF = 19
"""Leaf switch."""
SITE = 20
"""Six columns of candidates and the gang, as a `gangs.Site` has them, its `order` and `spare`."""
SITE_ORDER = 26
SITE_SPARE = 27
NODE_COLUMNS = 28

KIND_NODE = 0
"""A node of the kind."""
KIND_COUNT = 1
"""Nodes of the kind."""
KIND_DONE = 2
"""The sweep that needs no more nodes of the kind."""

# Columns of `dims`.
PARENT = 0
"""Total dimension of a typed one, else -1."""
AMOUNT = 1
"""What is about to be taken."""
SHORT_ON = 2
"""Nodes on which the dimension is short."""
BEFORE = 3
"""Free on a node just before the release at hand."""
DIM_COLUMNS = 4


class Requests(NamedTuple):
    """Shapes, and scratch per shape."""

    shapes: Matrix
    """[columns, s], see below."""
    needs: Cube
    """[3, s, R]: PER_NODE, PER_TASK, PER_FIRST."""
    parts: Matrix
    """[s, longest] partition numbers, -1 padding."""
    places: Matrix
    """[s, most] where gangs are looked for: partitions, or parts of them (`alternatives`)."""
    clauses: Cube
    """[s, most, words] features."""
    listed: Vector
    """Node rows: of each shape the required, then the excluded; then shapes: see MEMBERS."""
    suits: Matrix
    """[s, words] kinds, usable ones, of which an empty node hosts a part of the shape."""
    suited: Matrix
    """[kinds, words] the same the other way round: shapes."""
    waiting: Vector
    """[s] shapes with a record that waits and was promised nothing, in the order of the queue;
    `counters[WAITERS]` of them."""
    missing: Vector
    """[s] nodes that a gang lacks; scratch."""
    fitting: Matrix
    """[s, 1 + R]: nodes that fit what is SEEN (FITTING_NODES); of the other suitable ones, those on
    which each dimension is short."""


SUIT_SHIFT = 5
SUIT_MASK = 31
"""Words of `suits` and `suited` hold 32 bits each."""
FITTING_NODES = 0


PER_NODE = 0
PER_TASK = 1
PER_FIRST = 2
"""What a node with a first task takes."""

# Columns of `shapes`: those of the ShapeTable, then scratch.
NTASKS = 0
TASK_CAP = 1
TASKS_EACH = 2
LOW = 3
HIGH = 4
EXCLUSIVE = 5
NCLAUSES = 6
LIST_START = 7
NREQUIRED = 8
NEXCLUDED = 9
SHAPE_COLUMNS = 10
CURSOR = 10
"""Places in ORDER before which nothing is free for the shape."""
FAIL_FROM = 11
"""Jobs of the shape that run this long (s) or longer cannot start; FAR: not known to."""
CODE = 12
"""0, or the VerdictCode of a shape that usable nodes cannot host, however empty they are."""
EARLIEST = 13
"""-1 not estimated; else earliest start ignoring other pending jobs."""
MATCHING = 14
"""Nodes that host a part of it when empty."""
USABLE = 15
"""Those of them that take jobs."""
FITTING_NOW = 16
"""Those of them that host a part of it now, after all starts."""
SHORT = 17
"""Dimension that is short on most nodes: now, or (NEVER) always; -1: none."""
NO_HEAD = 18
"""1: no record of the shape can become a head any more in this pass."""
CURSOR_BEYOND = 19
"""Places in ORDER before which nothing is left, promises heeded, for jobs that end at BEYOND_FROM
or later."""
BEYOND_FROM = 20
SETTLED = 21
"""-1; else the VerdictCode of every further record of the shape that cannot start."""
SIMPLE = 22
"""1: one task on one node of one partition, no node named."""
PLAIN = 23
"""1: what it takes on a node hangs on nothing (not on types of devices, not on the node)."""
WAITING = 24
"""1: among those that `waiting` names."""
TURN_SHORT = 25
TURN_PLANNED = 26
"""Verdict of the records of the shape that wait for their turn."""
POPULAR = 27
"""Shapes by which fragmentation is measured; `counters[POPULARS]` of them."""
POPULAR_WEIGHT = 28
"""Their records that wait."""
NEAR = 29
"""Most leaf switches of a gang; FEWEST: as few as can be; 0: nodes by preference."""
FEWEST = 1 << 30
MEMBERS = 30
"""Components of a heterogeneous job, whose shapes `listed` names after its nodes; 0: no such job."""
WIDE = 31
"""Nodes that all of them together may take; 0: no such job."""
APART = 32
"""1: no node serves two of them."""
SHAPE_ROWS = 33


class Timeline(NamedTuple):
    """What will be released: running allocations, and what this pass placed."""

    release_order: Vector
    """[a] rows by rising end."""
    running: Matrix
    """[2, a rows]: RUN_NODE, RUN_END."""
    run_amount: Matrix
    """[a rows, R]"""
    rows: Matrix
    """[6, k], see below."""
    row_amount: Matrix
    """[k, R]"""
    releases: Matrix
    """[3, a] RUN_NODE, RUN_END and RUN_KIND in `release_order`."""
    buckets: Vector
    """[BUCKETS + 1] scratch."""


RUN_NODE = 0
RUN_END = 1
RUN_KIND = 2
"""Kind of the node."""
ROW_NODE = 0
ROW_TASKS = 1
ROW_RELEASE = 2
ROW_ORDER = 3
"""Placed rows by rising release."""
ROW_SCRATCH = 4
ROW_COMPONENT = 5
"""Which component of a heterogeneous job it is of, else 0."""
ROW_COLUMNS = 6
BUCKET_BITS = 11
BUCKETS = 2048


class Queue(NamedTuple):
    """Pending records, and what the pass says of them."""

    order: Vector
    """[m] record rows, first in the queue first."""
    jobs: Matrix
    """[columns, j]: those of the JobTable."""
    records: Narrow
    """[7, m] verdicts."""
    planned: Vector
    """[m] planned start (s); -1: unknown."""
    starts: Matrix
    """[3, starts + 1]"""
    demand: Matrix
    """[s, 1 + R] what a start counts against limits: jobs, then amounts."""
    limit_left: Matrix
    """[l, 1 + R] what may still start; falls as jobs are placed."""
    limit_chain: Matrix
    """[4, l]: CHAIN_FIRST, CHAIN_ABOVE (-1: none), CHAIN_LOW, CHAIN_HIGH."""
    licence_need: Matrix
    """[s, 1 + licences]: LICENCE_ANY, then the count of each."""
    licence_profile: Matrix
    """[2, steps]: LICENCE_AT, LICENCE_LEFT; a step lasts until the next one of its licence."""
    licence_blocks: Matrix
    """[2, licences]: LICENCE_BLOCK, LICENCE_LENGTH."""


J_SHAPE = 1
J_DURATION = 4
J_BEGIN = 5
J_GATE = 6
J_COUNT = 7
J_LIMIT = 8
J_PLAIN = 9
J_DEADLINE = 10
"""Instant (s) by which it has to have ended; FAR: none."""
J_TIME_MIN = 11
"""Least limit (s) that it may be started with; 0 or more than its duration: that."""
CHAIN_FIRST = 0
"""From a row up, itself included, the first that bounds anything."""
CHAIN_ABOVE = 1
"""From such a row up, the next that does."""
CHAIN_LOW = 2
CHAIN_HIGH = 3
"""Columns outside of LOW to HIGH (excluded) bound nothing in the row."""
LICENCE_ANY = 0
"""1: the shape asks for some."""
LICENCE_AT = 0
LICENCE_LEFT = 1
"""Free from then on; less than 0 where totals fell below what is in use."""
LICENCE_BLOCK = 0
"""First step of the licence."""
LICENCE_LENGTH = 1
V_CODE = 0
V_SHORT = 1
V_MATCHING = 2
V_USABLE = 3
V_FITTING = 4
V_AHEAD = 5
V_PLACED = 6
RECORD_COLUMNS = 7
START_RECORD = 0
START_PART = 1
START_END = 2
"""Rows of start i: from `[START_END, i]` to `[START_END, i + 1]`."""


class Scratch(NamedTuple):
    """What belongs to no table."""

    histogram: Vector
    """[most tasks of a bounded gang + 1] zero between uses."""
    open: Vector
    """[words] shapes that an estimate is still looked for, as `suited` numbers them."""
    counters: Vector
    """[COUNTERS], see below."""
    options: Matrix
    """[5, span of places]: STATE, PROMISE, AHEAD, FOUND, CHOICE of partitions."""
    heads: Matrix
    """[4, partitions + 1]"""
    keys: Vector
    """[most of nodes and switches] scratch of sorts by switch."""


STATE = 0
"""0 open; 1 the partition's head holds a promise; 2 it got none, or FIFO: blocked."""
PROMISE = 1
"""Planned start of the head; FAR: none."""
AHEAD = 2
"""Records seen that stay pending."""
FOUND = 3
"""Earliest start there of the gang last searched for; FAR: never."""
CHOICE = 4
"""Placement of the partition's starts (`codes.Placement`); 0: in the order of preference."""
HEAD_RECORD = 0
HEAD_PART = 1
HEAD_TIME = 2
HEAD_END = 3
# The tally of a sweep or survey: nodes that host a task, their tasks (each at most NTASKS),
# required nodes that do, their tasks, the widest of the others (counted in `histogram`).
ABLE = 0
TASKS = 1
REQUIRED_ABLE = 2
REQUIRED_TASKS = 3
WIDEST = 4
STEPS = 5
"""Work done for estimates, in node and release visits."""
STARTS = 6
ROWS = 7
HEADS = 8
EXAMINED = 9
NODES = 10
SWEEP = 11
"""Number of the last sweep."""
WAITERS = 12
LEAST_CPU = 13
"""Less than this is of no use to any shape (thousandths)."""
SINK = 14
"""Written, never read."""
DEPTH = 15
"""Records that may be looked at for a start; 0 once there is no room for more starts."""
BEST = 16
"""Partition that the last search found to be the earliest."""
POPULARS = 17
SORTED = 18
"""Placed rows that ROW_ORDER has in order."""
TRIED = 19
"""End of the rows that the last joint placement wrote beyond ROWS."""
COUNTERS = 20
