"""The public face of the core: `plan` says what starts, what is promised and why the rest waits.

A pass is a few kernel calls, two for every head, and about twenty small numpy calls, whatever the
number of jobs; kernels run without the GIL. `plan` changes none of the tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sched_core import jit, views, views_conservative
from sched_core.alternatives import place_span
from sched_core.backfill import run_pass
from sched_core.codes import Placement
from sched_core.columns import Ints
from sched_core.heads import lead
from sched_core.licence_views import licence_columns
from sched_core.memory import NOBODY, Memory
from sched_core.plan_placement import emptiest_first, set_placement
from sched_core.plan_topology import add_switches, relaxed
from sched_core.report import LATEST, finish
from sched_core.survey import refresh
from sched_core.tables import (
    CPU,
    DURATION_MAX,
    JobTable,
    NodeTable,
    RunningTable,
    ShapeTable,
)
from sched_core.views import Cluster, Queue, Requests, Scratch, Timeline

if TYPE_CHECKING:
    from sched_core.plan_conservative import Promises, Ties
    from sched_core.slots import SlotTable
    from sched_core.switches import TopologyTable


class PolicyKind(IntEnum):
    """How the queue is scheduled; see `sched_core.backfill` and `sched_core.conservative`."""

    FIFO = 1
    EASY = 2
    CONSERVATIVE = 3
    """Compressing: what was promised by the pass before is kept or moved earlier."""
    CONSERVATIVE_REPLAN = 4
    """Promises are made anew in every pass."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Policy and bounds of a pass."""

    kind: PolicyKind = PolicyKind.EASY
    depth: int = 10_000
    """Open pending records looked at for a start; those behind are NOT_REACHED."""
    max_starts: int = 100_000
    """Starts, and rows beside one per node, of one pass; a later pass continues."""
    estimate_steps: int = 2_000_000
    """Node and release visits spent on estimates (about 10 to 20 ns each) of blocked shapes."""
    window: int = DURATION_MAX
    """Conservative: seconds from now within which starts are promised."""
    resolution: int = 1
    """Conservative: starts are promised for multiples of so many seconds."""
    placement: Placement = Placement.WEIGHT
    """Which nodes a start takes first. FIFO, EASY: judged anew for every start, which looks at all
    its candidates. Conservative: the order of nodes as the pass begins, SPREAD the emptiest first,
    any other the fullest."""
    placements: tuple[tuple[str, Placement], ...] = ()
    """By partition, where it is another (FIFO, EASY)."""
    fewest_switches: bool = False
    """Gangs take the nodes on the fewest leaf switches (with a TopologyTable), before placement."""
    visits: int = 50_000_000
    """Conservative: searches for a window of a node (about 50 to 100 ns each) after which further
    records are NOT_REACHED; what was promised to them stays."""


def _nothing() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass decided. Instants are seconds; nodes, partitions, dimensions table numbers."""

    start_job: Ints
    """[k] job id of each start, in the order decided; a record with several tasks may repeat."""
    start_partition: Ints
    """[k] partition the start is in."""
    start_ptr: Ints
    """[k+1] rows of start i: `start_ptr[i]` to `start_ptr[i+1]`."""
    node: Ints
    """[rows] node of each row; the first row of a start is its first node."""
    tasks: Ints
    """[rows] tasks on that node."""
    release: Ints
    """[rows] when it is free again, by the time limit that the start was given; see `start_limit`."""
    component: Ints
    """[rows] which component of a heterogeneous job takes it; of other jobs 0."""
    amount: Ints
    """[rows, dimensions] taken there: CPU in thousandths, memory in MiB, generic resources."""
    head_job: Ints
    """[h] heads of partitions, in queue order."""
    head_partition: Ints
    head_start: Ints
    """[h] planned start: under EASY a promise that no start of this plan delays; -1: unknown (it
    hangs on a job without a limit). Conservative: heads are all records that were promised a start,
    and `head_tasks`, `head_amount` say what of each node."""
    head_ptr: Ints
    """[h+1]"""
    head_node: Ints
    """Nodes promised (EASY; none under FIFO)."""
    job: Ints
    """[m] every pending record, in queue order; what follows is aligned with it."""
    code: NDArray[np.int32]
    """[m] VerdictCode."""
    short: NDArray[np.int32]
    """[m] dimension that is short on most nodes (LIMIT: that the limit is on; -1: on the number of
    jobs. LICENSES: number of the licence); -1: none or not the reason."""
    matching: NDArray[np.int32]
    """[m] nodes that could host a part of it when empty, whatever their state."""
    usable: NDArray[np.int32]
    """[m] those of them that take jobs."""
    fitting: NDArray[np.int32]
    """[m] those of them that could host a part of it when it was looked at."""
    ahead: NDArray[np.int32]
    """[m] open records ahead of it in its first partition that stay pending."""
    planned: Ints
    """[m] planned start; for those without a promise an estimate; -1: unknown."""
    placed: NDArray[np.int32]
    """[m] tasks of it that start by this plan."""
    examined: int
    """Records looked at for a start."""
    now: int
    """Instant of the pass."""
    head_tasks: Ints
    """Tasks on each of `head_node` (conservative, or beside reservations; else empty)."""
    head_component: Ints
    """Component of a heterogeneous job that is promised each of `head_node` (as `head_tasks`)."""
    head_amount: Ints
    """[rows, dimensions] promised there (conservative, or beside reservations; else empty)."""
    moved: Ints
    """[m] seconds by which it is planned later than the last pass promised; -1: not any more."""
    moved_cause: Ints
    """[m] MoveCause, of a promise that could not be kept."""
    reserved: NDArray[np.int32]
    """[m] those of `usable` that could host a part of it but for reservations that it is not in; of
    a member, `matching` and `usable` count nodes of its reservation."""
    slot_ptr: Ints = field(default_factory=_nothing)
    """[rows+1] devices of row k: `slot_ptr[k]` to `slot_ptr[k+1]` (empty without a SlotTable)."""
    slot: Ints = field(default_factory=_nothing)
    """[devices] slots on the row's node, whole devices, kind after kind."""
    numa: Ints = field(default_factory=_nothing)
    """[rows] mask of the NUMA nodes of a row's devices, whose CPUs are local; 0: unknown, none."""

    @property
    def starts(self) -> int:
        """Number of starts."""
        return len(self.start_job)

    @property
    def start_limit(self) -> Ints:
        """`[k]` time limit (s) that each start is given. O(k).

        It is the record's own, or less where that lets it start now or end by its deadline; never
        less than its `time_min`.
        """
        return self.release[self.start_ptr[:-1]] - self.now


_MANY_ROWS = 1 << 22
"""Of allocations in one pass: from here on it is worth a look at the queue to know their bound."""


def _least_cpu(shapes: ShapeTable) -> int:
    """CPU of the least task that any request has, at least 1."""
    least = (shapes.node_need[:, CPU] + shapes.task_need[:, CPU])[: shapes.rows]
    least = least[shapes.users[: shapes.rows] > 0]
    return max(int(np.min(least, initial=1 << 60)), 1)


def _most_rows(
    nodes: NodeTable, shapes: ShapeTable, jobs: JobTable, order: Ints, least_cpu: int
) -> int:
    """One more than the allocations that a pass can make: by the CPUs that are free, or the queue.

    So the bound is never what stops a pass. The first takes O(nodes + shapes) and is enough unless some request is for next to no CPU, or the cluster very large.
    """
    free = np.maximum(nodes.free[: nodes.rows, CPU], 0)
    bound = int((free // least_cpu).sum())
    if bound > _MANY_ROWS:
        widths = np.minimum(shapes.high, nodes.rows)
        for row in shapes.bundles:
            widths[row] = widths[shapes.components(row)].sum()
        widths = widths[jobs.shape[order]]
        bound = min(bound, int((jobs.count[order] * widths).sum()))
    return bound + 1


def _demand(shapes: ShapeTable) -> Ints:
    """What a start of each shape counts against limits: one job, and what it asks for at least."""
    s, dims = shapes.rows, len(shapes.nodes.dims)
    out = np.ones((s, 1 + dims), np.int64)
    out[:, 1:] = shapes.node_need[:s, :dims] * shapes.low[:s, None]
    out[:, 1:] += shapes.task_need[:s, :dims] * shapes.ntasks[:s, None]
    for row in shapes.bundles:
        out[row, 1:] = out[shapes.components(row), 1:].sum(axis=0)
    return out


def _timeline(
    nodes: NodeTable, running: RunningTable, requests: Requests, memory: Memory, starts: int
) -> Timeline:
    """What runs, and room for so many starts, and for one gang or heterogeneous job more."""
    rows = starts + max(nodes.rows, int(requests.shapes[views.WIDE].max(initial=0)))
    return views.Timeline(
        release_order=running.releases(),
        running=running.columns,
        run_amount=running.amount,
        rows=np.zeros((views.ROW_COLUMNS, rows), np.int64),
        row_amount=np.empty((rows, len(nodes.dims)), np.int64),
        releases=memory.releases(running),
        buckets=np.empty(views.BUCKETS + 1, np.int64),
    )


def _scratch(nodes: NodeTable, shapes: ShapeTable, present: int, suited_words: int) -> Scratch:
    parts = len(nodes.partition_names)
    options = np.zeros((5, place_span(nodes.partitions)), np.int64)
    options[views.PROMISE] = views.FAR
    counters = np.zeros(views.COUNTERS, np.int64)
    counters[views.NODES] = present
    histogram = np.zeros(shapes.histogram_size(), np.int64)
    words = np.zeros(suited_words, np.int64)
    heads = np.zeros((4, parts + 1), np.int64)
    return views.Scratch(histogram, words, counters, options, heads, np.zeros(1, np.int64))


def plan(
    nodes: NodeTable,
    shapes: ShapeTable,
    jobs: JobTable,
    running: RunningTable,
    policy: Policy,
    now: int,
    *,
    promises: Promises | None = None,
    memory: Memory | None = None,
    slots: SlotTable | None = None,
    topology: TopologyTable | None = None,
) -> Plan:
    """One scheduling pass over the tables at `now` (s).

    `promises` are those of the last pass, which CONSERVATIVE keeps (others do not look). `memory`
    makes the next pass over the same tables cheaper, and no plan another (no use is made of it while
    there are reservations to heed). With `slots` every start gets its devices, and none starts that
    no legal set of devices is free for (`plan_devices`). With `topology` gangs lie on as few switches
    as they ask for (`plan_topology`). Nothing may change the tables meanwhile. The first call of a
    process compiles or loads the
    kernels unless `sched_core.warmup.warmup()` has done so.
    """
    memory = memory if memory is not None else Memory()
    make = partial(_make, nodes, shapes, jobs, running, policy, now, promises, memory, topology)
    if slots is None:
        return make(NOBODY)
    from sched_core.plan_devices import plan_with_devices  # noqa: PLC0415  (kernels of its own)

    return plan_with_devices(make, shapes, jobs, running, slots, memory, now)


def _make(
    nodes: NodeTable,
    shapes: ShapeTable,
    jobs: JobTable,
    running: RunningTable,
    policy: Policy,
    now: int,
    promises: Promises | None,
    memory: Memory,
    topology: TopologyTable | None,
    barred: Ints,
) -> Plan:
    """One pass, for shapes from which some nodes are `barred` (see `Memory.bind`)."""
    ward = None
    if jobs.reservations.matter(now):
        from sched_core.reserved import Overlay  # noqa: PLC0415  (most have no reservation)

        ward = Overlay(nodes, shapes, jobs, running, now)
        nodes, shapes, jobs, running = ward.nodes, ward.shapes, ward.jobs, ward.running
        memory, promises = Memory(), ward.promised(promises)
    if shapes.bundles:  # kernels of their own: who has no such jobs does not wait for them
        from sched_core import bundle_heads  # noqa: PLC0415
    jit.compile_kernels()
    order = jobs.order()
    least_cpu = _least_cpu(shapes)
    bound = _most_rows(nodes, shapes, jobs, order, least_cpu)
    running.fit_columns()
    cluster, requests = memory.bind(nodes, shapes, barred)
    starts = min(policy.max_starts, bound)
    timeline = _timeline(nodes, running, requests, memory, starts)
    start_rows = np.zeros((3, starts + 1), np.int64)
    limits = (_demand(shapes), jobs.limits.left(), jobs.limits.chain())
    records = np.empty((views.RECORD_COLUMNS, len(order)), np.int32)
    planned = np.empty(len(order), np.int64)
    promising = int(policy.kind >= PolicyKind.CONSERVATIVE or ward is not None)
    licences = licence_columns(shapes, jobs, order, now, promising)
    columns = relaxed(jobs, now) if topology is not None else jobs.columns
    queue = views.Queue(order, columns, records, planned, start_rows, *limits, *licences)
    scratch = _scratch(nodes, shapes, int(np.count_nonzero(nodes.use)), requests.suited.shape[1])
    refresh(cluster, requests, scratch, memory.fresh, memory.changed, memory.anew)
    scratch.counters[views.LEAST_CPU] = least_cpu
    if shapes.bundles:
        bundle_heads.judge_bundles(requests)
    if topology is not None:
        cluster, scratch = add_switches(
            cluster, requests, scratch, shapes, topology, policy.fewest_switches
        )
    if policy.kind >= PolicyKind.CONSERVATIVE or ward is not None:
        if policy.placement == Placement.SPREAD:
            emptiest_first(cluster, int(scratch.counters[views.NODES]))
        ties = ward.ties(order) if ward is not None else None
        made = _conservative(
            jobs, cluster, requests, timeline, queue, scratch, policy, now, promises, ties
        )
        return made if ward is None else ward.told(made, order, cluster, requests)
    if policy.placement or policy.placements:
        waiting = np.bincount(jobs.shape[order], minlength=shapes.rows)
        chosen = (policy.placement, policy.placements)
        set_placement(nodes, requests, scratch, waiting, *chosen)
    fifo = policy.kind == PolicyKind.FIFO
    views_of = (cluster, requests, timeline, queue, scratch)
    scratch.counters[views.DEPTH] = policy.depth
    at = run_pass(*views_of, int(fifo), now, 0)
    while at < len(order):
        if requests.shapes[views.MEMBERS, queue.jobs[views.J_SHAPE, order[at]]] > 0:
            bundle_heads.decide(*views_of, at, now, fifo=fifo)
        else:
            lead(*views_of, at, now, fifo=fifo)
        at = run_pass(*views_of, int(fifo), now, at + 1)
    finish(*views_of, now, policy.estimate_steps, kept=False)
    return _plan(jobs, memory.ids(jobs, order), cluster, timeline, queue, scratch, now)


def _conservative(
    jobs: JobTable,
    cluster: Cluster,
    requests: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    policy: Policy,
    now: int,
    promises: Promises | None,
    ties: Ties | None,
) -> Plan:
    # Not above: who does not ask for this policy need not wait for its kernels to be compiled.
    from sched_core import plan_conservative as conservative  # noqa: PLC0415

    jit.compile_kernels()
    queue.records[:] = 0
    queue.records[views.V_SHORT] = -1
    queue.planned[:] = -1
    last = promises if policy.kind == PolicyKind.CONSERVATIVE else None
    ids = jobs.id[queue.order]
    bounds = (policy.depth, policy.window, policy.resolution, policy.visits, policy.estimate_steps)
    terms = conservative.Terms(now, *bounds)
    if policy.kind < PolicyKind.CONSERVATIVE:
        leads = views_conservative.FIRST_BLOCKS
        if policy.kind == PolicyKind.EASY:
            leads = views_conservative.FIRST_PROMISED
        terms = replace(terms, window=DURATION_MAX, resolution=1, leads=leads)
    held = conservative.plan_queue(
        cluster, requests, timeline, queue, scratch, ids, last, terms, ties
    )
    made = _plan(jobs, ids, cluster, timeline, queue, scratch, now)
    span = scratch.options.shape[1]
    return replace(made, **conservative.heads_of(queue, held, ids, span))


def _plan(
    jobs: JobTable,
    ids: Ints,
    cluster: Cluster,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    now: int,
) -> Plan:
    """What the kernel wrote, cut to length and with job ids."""
    span = scratch.options.shape[1]
    started, rows, heads, examined = scratch.counters[views.STARTS : views.EXAMINED + 1].tolist()
    starts, records = queue.starts, queue.records
    head = scratch.heads[:, :heads]
    head_ptr = scratch.heads[views.HEAD_END, : heads + 1]
    known = head[views.HEAD_TIME] < LATEST
    return Plan(
        start_job=jobs.id[starts[views.START_RECORD, :started]],
        start_partition=starts[views.START_PART, :started] % span,
        start_ptr=starts[views.START_END, : started + 1],
        node=timeline.rows[views.ROW_NODE, :rows],
        tasks=timeline.rows[views.ROW_TASKS, :rows],
        release=timeline.rows[views.ROW_RELEASE, :rows],
        component=timeline.rows[views.ROW_COMPONENT, :rows],
        amount=timeline.row_amount[:rows],
        head_job=jobs.id[head[views.HEAD_RECORD]],
        head_partition=head[views.HEAD_PART] % span,
        head_start=np.where(known, head[views.HEAD_TIME], -1),
        head_ptr=head_ptr,
        head_node=cluster.nodes[views.HEAD_NODE, : head_ptr[-1]].copy(),
        job=ids,
        code=records[views.V_CODE],
        short=records[views.V_SHORT],
        matching=records[views.V_MATCHING],
        usable=records[views.V_USABLE],
        fitting=records[views.V_FITTING],
        ahead=records[views.V_AHEAD],
        planned=queue.planned,
        placed=records[views.V_PLACED],
        examined=examined,
        now=now,
        head_tasks=np.empty(0, np.int64),
        head_component=np.empty(0, np.int64),
        head_amount=np.empty((0, timeline.row_amount.shape[1]), np.int64),
        moved=np.zeros(len(queue.order), np.int64),
        moved_cause=np.zeros(len(queue.order), np.int64),
        reserved=np.zeros(len(queue.order), np.int32),
    )
