"""Preemption: the running jobs to end, so that a job that cannot start really starts.

Candidates are running jobs with terms (`RunningTable.set_terms`) of a tier below the preemptor's
whose exempt time is over. Wanted are victims such that the gang fits as a whole on concrete nodes,
of the least lost work, then the fewest.

What is promised. Victims are found exactly where any exist; without any one of them the gang would
not fit. For a job of one node, and for a gang of one task a node where every candidate is on one
node, the lost work is the least possible, unless the search was cut short (`exact` tells). For
other gangs, the least is a set cover problem: the better of two ways is taken, clearing nodes from
the cheapest per task on, and leaving alone the dearest candidates first.

The nodes are those free when the pass's own starts are in the tables: call it after recording them,
and record the victims (`RunningTable.protect`) before asking for the next preemptor. Promises to
other heads are not looked at: the preemptor's tier is above theirs, or it should not ask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sched_core import jit, victims, views
from sched_core.alternatives import place_span, places
from sched_core.columns import Ints
from sched_core.memory import Memory
from sched_core.plan import _scratch
from sched_core.selection import IMPOSSIBLE, POSSIBLE, select, survey_victims
from sched_core.survey import refresh
from sched_core.tables import NodeTable, RunningTable, ShapeTable
from sched_core.terms import PreemptMode, RunningTerms
from sched_core.victims import Victims
from sched_core.views import Cluster, Requests


@dataclass(frozen=True, slots=True)
class PreemptPolicy:
    """Bounds of one search."""

    visits: int = 20_000_000
    """Candidates looked at (some ns each) in searches for the cheapest; greedy beyond."""


@dataclass(frozen=True, slots=True)
class Preemption:
    """Victims, and where the preemptor then starts. Without victims it fits as things are."""

    victims: Ints
    """[v] job ids, ascending."""
    mode: Ints
    """[v] `PreemptMode` of each."""
    grace: Ints
    """[v] seconds each is given to end; 0 if it is suspended."""
    nodes: Ints
    """[k] node rows of the preemptor, the first one first."""
    tasks: Ints
    """[k] its tasks there."""
    amount: Ints
    """[k, dimensions] what it takes there."""
    partition: int
    lost_work: int
    """CPU-seconds, each job's rounded up."""
    start: int
    """Instant (s) at which the last victim's grace is over, if none ends sooner."""
    exact: bool
    """Whether no other victims would lose less work."""


def plan_preemption(
    nodes: NodeTable,
    shapes: ShapeTable,
    running: RunningTable,
    shape: int,
    tier: int,
    policy: PreemptPolicy,
    now: int,
) -> Preemption | None:
    """Victims for one job of a `shape` (row) and preemption `tier`, at `now` (s); None: impossible.

    All places of the shape are tried; the least lost work counts, then the first place.
    Changes no table. About thirty numpy calls and three kernels per partition; O(nodes x R +
    running allocations x R), plus searches within `policy.visits`.
    """
    chosen = candidates(running.terms, tier, now)
    return preempt_among(nodes, shapes, running, shape, chosen, policy, now, Memory())


def preempt_among(
    nodes: NodeTable,
    shapes: ShapeTable,
    running: RunningTable,
    shape: int,
    chosen: Ints,
    policy: PreemptPolicy,
    now: int,
    memory: Memory,
) -> Preemption | None:
    """The same for candidates given as rows of the terms, cheapest first."""
    jit.compile_kernels()
    best: Preemption | None = None
    span = place_span(nodes.partitions)
    where = places(shapes.parts[[shape]], shapes.choices[[shape]], span)
    for part in where[0].tolist():
        if part >= 0:
            found = _in_partition(nodes, shapes, running, chosen, shape, part, policy, now, memory)
            if found and (best is None or _rank(found) < _rank(best)):
                best = found
    return best


def _rank(found: Preemption) -> tuple[int, int]:
    return found.lost_work, len(found.victims)


def candidates(terms: RunningTerms, tier: int, now: int) -> Ints:
    """Rows of the terms that a preemptor of `tier` may take at `now` (s), cheapest first.

    Equal ones: lower tier, then the later since, then the job id. O(jobs with terms x log).
    """
    return cheapest_first(terms, terms.columns[terms.TIER, : terms.rows] < tier, now)


def cheapest_first(terms: RunningTerms, may: NDArray[np.bool_], now: int) -> Ints:
    """Rows of those terms that `may[rows]` says and that are not exempt any more, cheapest first."""
    c = terms.columns[:, : terms.rows]
    rows = np.flatnonzero(may & (c[terms.ID] >= 0) & (c[terms.PROTECTED] <= now))
    lost = terms.lost_work(now)[rows]
    keys = (c[terms.ID, rows], -c[terms.SINCE, rows], c[terms.TIER, rows], lost)
    return rows[np.lexsort(keys)].astype(np.int64, copy=False)


def _in_partition(
    nodes: NodeTable,
    shapes: ShapeTable,
    running: RunningTable,
    chosen: Ints,
    shape: int,
    part: int,
    policy: PreemptPolicy,
    now: int,
    memory: Memory,
) -> Preemption | None:
    running.fit_columns()
    cluster, requests = memory.bind(nodes, shapes)
    scratch = _scratch(nodes, shapes, int(np.count_nonzero(nodes.use)), requests.suited.shape[1])
    refresh(cluster, requests, scratch, memory.fresh, memory.changed, memory.anew)
    view = _victims(nodes, running, chosen, now)
    state = survey_victims(cluster, requests, scratch, view, shape, part, policy.visits)
    if state == IMPOSSIBLE:
        return None
    order = np.zeros(0, np.int64)
    if state == POSSIBLE:
        order = _cheapest_first(cluster, view, nodes.rows)
    amount = np.zeros((nodes.rows, len(nodes.dims)), np.int64)
    size = select(cluster, requests, scratch, view, shape, part, order, policy.visits, amount)
    taken = chosen[view.jobs[victims.TAKEN] == 1]
    terms = running.terms.columns[:, taken]
    by_id = np.argsort(terms[RunningTerms.ID], kind="stable")
    grace = terms[RunningTerms.GRACE] * (terms[RunningTerms.MODE] != PreemptMode.SUSPEND)
    return Preemption(
        victims=terms[RunningTerms.ID][by_id],
        mode=terms[RunningTerms.MODE][by_id],
        grace=grace[by_id],
        nodes=cluster.nodes[views.PICK_NODE, :size].copy(),
        tasks=cluster.nodes[views.PICK_TASKS, :size].copy(),
        amount=amount[:size],
        partition=part % scratch.options.shape[1],
        lost_work=int(running.terms.lost_work(now)[taken].sum()),
        start=now + int(grace.max(initial=0)),
        exact=_exact(requests, view, shape, len(taken)),
    )


def _exact(requests: Requests, view: Victims, shape: int, taken: int) -> bool:
    """Whether the way the victims were chosen finds the least lost work: see the module."""
    high, ntasks = requests.shapes[[views.HIGH, views.NTASKS], shape].tolist()
    single = int(np.diff(view.job_start).max(initial=0)) <= 1
    searched = view.counters[victims.CUT] == 0
    return taken == 0 or bool(searched and (high == 1 or (ntasks == 0 and single)))


def _victims(nodes: NodeTable, running: RunningTable, chosen: Ints, now: int) -> Victims:
    """Candidates as the kernels want them. O(running allocations), a few numpy calls."""
    terms = running.terms
    dims = len(nodes.dims)
    place = np.full(terms.rows + 1, -1, np.int64)  # the last: allocations without terms
    place[chosen] = np.arange(len(chosen))
    known = min(len(terms.row), len(running.node))
    candidate = place[terms.row[:known]]
    source = np.flatnonzero((running.node[:known] >= 0) & (candidate >= 0))
    order = np.lexsort((candidate[source], running.node[source]))
    source = source[order]
    rows = np.empty((victims.VICTIM_ROWS, len(source)), np.int64)
    rows[victims.R_VICTIM] = candidate[source]
    rows[victims.R_NODE] = running.node[source]
    rows[victims.R_OF_JOB] = np.argsort(rows[victims.R_VICTIM], kind="stable")
    jobs = np.zeros((victims.JOB_ROWS, len(chosen)), np.int64)
    jobs[victims.COST] = terms.lost_work(now)[chosen] * victims.ONE_VICTIM + 1
    jobs[victims.KEEPS] = terms.columns[terms.MODE, chosen] == PreemptMode.SUSPEND
    node_start = _starts(rows[victims.R_NODE], nodes.rows)
    width = max(int(np.diff(node_start).max(initial=0)), dims)
    return Victims(
        rows=rows,
        amount=np.ascontiguousarray(running.amount[source, :dims]),
        node_start=node_start,
        job_start=_starts(rows[victims.R_VICTIM], len(chosen)),
        jobs=jobs,
        nodes=np.zeros((victims.NODE_ROWS, nodes.rows), np.int64),
        search=np.zeros((victims.SORTED + dims, width), np.int64),
        counters=np.zeros(victims.COUNTERS, np.int64),
    )


def _starts(numbers: Ints, count: int) -> Ints:
    """Where the runs of 0, 1, 2 ... begin in these numbers once sorted; [count + 1]."""
    sizes = np.bincount(numbers, minlength=count)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _cheapest_first(cluster: Cluster, view: Victims, rows: int) -> Ints:
    """Nodes of use: those the shape requires, then by cost per task, then by preference."""
    tasks = view.nodes[victims.N_TASKS]
    useful = (view.nodes[victims.N_COST] < victims.NO_LIMIT) & (tasks > 0)
    useful &= cluster.nodes[views.ELIGIBLE] > 0
    present = np.count_nonzero(cluster.nodes[views.USE])
    preference = np.zeros(rows, np.int64)
    preference[cluster.nodes[views.ORDER, :present]] = np.arange(present)
    found = np.flatnonzero(useful)
    ratio = view.nodes[victims.N_COST, found] / tasks[found]
    wanted = cluster.nodes[views.ELIGIBLE, found] == 2
    order: Ints = found[np.lexsort((preference[found], ratio, ~wanted))].astype(np.int64)
    return order
