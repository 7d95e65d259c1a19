"""Conservative passes around their kernel: promises in, work arrays, promises out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sched_core import views, views_conservative
from sched_core.columns import Ints
from sched_core.conservative import run_conservative
from sched_core.leading import find_starts
from sched_core.profile import SLACK
from sched_core.report import LATEST, finish
from sched_core.views import FAR, Cluster, Queue, Requests, Scratch, Timeline
from sched_core.views_conservative import Profile, Reservations, Windows

if TYPE_CHECKING:
    from sched_core.plan import Plan

SEGMENTS_MAX = 1 << 22
"""Bound of the pool of segments beyond what running jobs need: 32 MiB for times and each dimension,
used only as far as it is filled. A pass that fills it says NOT_REACHED of what it could not place."""
ENTRIES_MAX = 1 << 22
"""Bound of the cache of windows (160 MiB if it is filled); beyond it, windows are searched anew."""
GROWTH = 8
"""Segments kept for each row placed: two cuts, in blocks that double and leave their old place."""


@dataclass(frozen=True, slots=True)
class Promises:
    """What a pass promised, as its successor needs it. Instants are seconds."""

    known: Ints
    """[k] ids of the records that it knew; others are new to the queue."""
    job: Ints
    """[h] those with a promise."""
    start: Ints
    """[h]"""
    partition: Ints
    """[h]"""
    ptr: Ints
    """[h+1]"""
    node: Ints
    tasks: Ints
    component: Ints
    amount: Ints
    """[rows, dimensions]"""
    freed: bool = True
    """Whether anything was given back since that pass: a job ended early, one that waited is gone,
    a node came. The textbook compresses then only: without, each promise is kept as it is."""

    @classmethod
    def of(cls, plan: Plan) -> Promises:
        """The promises of a plan, to be given to the next one when all its starts were accepted."""
        return cls(
            plan.job,
            plan.head_job,
            plan.head_start,
            plan.head_partition,
            plan.head_ptr,
            plan.head_node,
            plan.head_tasks,
            plan.head_component,
            plan.head_amount,
        )

    def without(self, jobs: Ints) -> Promises:
        """These, as if the last pass had not known some jobs.

        For those whose request or limit changed, and for those put before others by hand: their old
        promise says nothing, and they may take the place of what is behind them.
        """
        keep = np.isin(self.job, jobs, invert=True)
        ptr = np.concatenate(([0], np.cumsum(np.diff(self.ptr)[keep])))
        rows = np.repeat(keep, np.diff(self.ptr))
        return Promises(
            self.known[np.isin(self.known, jobs, invert=True)],
            self.job[keep],
            self.start[keep],
            self.partition[keep],
            ptr.astype(np.int64, copy=False),
            self.node[rows],
            self.tasks[rows],
            self.component[rows],
            self.amount[rows],
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """Bounds of a conservative pass: those of the policy."""

    now: int
    depth: int
    window: int
    resolution: int
    visits: int
    estimate_steps: int
    leads: int = 0
    """As LEADS: not conservative, but EASY or FIFO beside reservations."""


@dataclass(frozen=True, slots=True)
class Ties:
    """What reservations tie together, beside what is free when."""

    latest: Ints
    """[m] latest planned start of each record, in queue order."""
    first: Ints
    """[n] first link from each node; 0: none."""
    links: Ints
    """[links, LINK_COLUMNS]"""


def _places(ids: Ints, wanted: Ints) -> Ints:
    """Place of each wanted id among `ids`; -1: not there."""
    if len(ids) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    places = order[at]
    return np.where(ids[places] == wanted, places, -1).astype(np.int64, copy=False)


def _records(
    queue: Queue, ids: Ints, last: Promises | None, terms: Terms, options: int
) -> tuple[Ints, int]:
    """Columns of Reservations.records, and the number of slots."""
    order, jobs = queue.order, queue.jobs
    records = np.zeros((views_conservative.RESERVATION_COLUMNS, len(order)), np.int64)
    records[views_conservative.R_SLOT : views_conservative.R_PROMISED + 1] = -1
    records[[views_conservative.R_START, views_conservative.R_LATEST]] = FAR
    if last is not None:
        known = _places(ids, last.known)
        records[views_conservative.R_PROMISED, known[known >= 0]] = FAR
        places = _places(ids, last.job)
        some = np.flatnonzero(places >= 0)
        at = places[some]
        records[views_conservative.R_PROMISED, at] = last.start[some]
        records[views_conservative.R_PART, at] = last.partition[some]
        records[views_conservative.R_FIRST, at] = last.ptr[some]
        records[views_conservative.R_END, at] = last.ptr[some + 1]
    may = (jobs[views.J_GATE, order] == 0) & (jobs[views.J_BEGIN, order] <= terms.now)
    may &= jobs[views.J_COUNT, order] > 0
    duration, least = jobs[views.J_DURATION, order], jobs[views.J_TIME_MIN, order]
    least = np.where(least > 0, np.minimum(least, duration), duration)
    may &= terms.now + least <= jobs[views.J_DEADLINE, order]
    promised = records[views_conservative.R_PROMISED]
    planned = may & ((np.cumsum(may) <= terms.depth) | ((promised >= 0) & (promised < FAR)))
    rows = order[planned]
    keys = jobs[views.J_SHAPE, rows] << 41 | jobs[views.J_DURATION, rows]
    classes, inverse = np.unique(keys, return_inverse=True)
    records[views_conservative.R_SLOT, planned] = inverse * options
    return records, len(classes) * options


def _profile(
    timeline: Timeline, nodes: int, dims: int, rows: int, terms: Terms, ties: Ties | None
) -> Profile:
    releases = len(timeline.release_order)
    pool = nodes * SLACK + releases + min(GROWTH * rows, SEGMENTS_MAX)
    state = np.zeros(views_conservative.STATE_CELLS, np.int64)
    state[views_conservative.NOW] = terms.now
    state[views_conservative.HORIZON] = min(terms.now + terms.window, LATEST - 1)
    state[views_conservative.STEP] = max(terms.resolution, 1)
    state[views_conservative.BUDGET] = terms.visits
    columns = np.zeros((nodes, views_conservative.PROFILE_COLUMNS), np.int64)
    links = np.zeros((1, views_conservative.LINK_COLUMNS), np.int64)
    if ties is not None:
        columns[:, views_conservative.LINK] = ties.first
        links = ties.links
    return Profile(
        columns,
        np.empty(pool, np.int64),
        np.empty((dims, pool), np.int64),
        np.zeros(dims, np.int64),
        state,
        links,
    )


def _windows(slots: int, nodes: int, now: int) -> Windows:
    columns = np.zeros((views_conservative.SLOT_COLUMNS, max(slots, 1)), np.int64)
    columns[views_conservative.FIRST] = columns[views_conservative.FULL] = -1
    columns[views_conservative.FLOOR] = now
    columns[views_conservative.SLOT_SHAPE] = -1
    entries = max(min(slots * nodes, ENTRIES_MAX), nodes)
    return Windows(
        columns,
        np.empty((entries, views_conservative.ENTRY_COLUMNS), np.int64),
        np.zeros((3, nodes), np.int64),
    )


def plan_queue(
    cluster: Cluster,
    requests: Requests,
    timeline: Timeline,
    queue: Queue,
    scratch: Scratch,
    ids: Ints,
    last: Promises | None,
    terms: Terms,
    ties: Ties | None = None,
) -> Reservations:
    """Make a conservative pass; what it says is in the views, what it promises in the result.

    `ids` are the job ids of the records, `last` what they were promised (None: re-plan), `ties` what
    reservations have to do with it.
    """
    nodes, dims = cluster.nodes.shape[1], cluster.amounts.shape[2]
    records, slots = _records(queue, ids, last, terms, requests.places.shape[1])
    taken = len(last.node) if last is not None else 0
    planned = records[views_conservative.R_SLOT] >= 0
    shape = queue.jobs[views.J_SHAPE, queue.order[planned]]
    wide = np.minimum(requests.shapes[views.HIGH, shape], nodes)
    wide = np.maximum(wide, requests.shapes[views.WIDE, shape])
    rows = int(wide.sum())
    if terms.leads:
        widest = int(requests.shapes[views.WIDE].max(initial=nodes))
        rows = min(rows, widest * scratch.heads.shape[1])
    rows = taken + min(rows, SEGMENTS_MAX // 4)
    columns = np.zeros((views_conservative.HELD_ROW_COLUMNS, rows), np.int64)
    held = Reservations(records, columns, np.zeros((rows, dims), np.int64))
    if last is not None:
        held.rows[views_conservative.ROW_NODE, :taken] = last.node
        held.rows[views_conservative.ROW_TASKS, :taken] = last.tasks
        held.rows[views_conservative.HELD_COMPONENT, :taken] = last.component
        held.amount[:taken, : last.amount.shape[1]] = last.amount
    growth = rows + timeline.rows.shape[1]
    profile = _profile(timeline, nodes, dims, growth, terms, ties)
    profile.state[views_conservative.MONOTONE] = taken == 0
    profile.state[views_conservative.COMPRESS] = last is None or last.freed
    profile.state[views_conservative.HELD_ROWS] = taken
    profile.state[views_conservative.LEADS] = terms.leads
    if terms.leads:
        profile.state[views_conservative.HORIZON] = FAR - 1
    if ties is not None:
        records[views_conservative.R_LATEST] = ties.latest
    windows = _windows(slots, nodes, terms.now)
    views_of = (cluster, requests, timeline, queue, scratch)
    run_conservative(*views_of, profile, windows, held)
    if terms.leads:
        find_starts(*views_of, profile, windows, held, terms.estimate_steps)
    finish(*views_of, terms.now, terms.estimate_steps, kept=True)
    return held


def heads_of(queue: Queue, held: Reservations, ids: Ints, span: int) -> dict[str, Any]:
    """The promises in queue order, as columns of a Plan, and what became of those of the last pass.

    `span` as in `alternatives.place_span`.
    """
    records = held.records
    start, promised = records[views_conservative.R_START], records[views_conservative.R_PROMISED]
    some = np.flatnonzero(start < FAR)
    first = records[views_conservative.R_FIRST, some]
    sizes = records[views_conservative.R_END, some] - first
    ptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64, copy=False)
    rows = np.repeat(first - ptr[:-1], sizes) + np.arange(ptr[-1])
    had = (promised >= 0) & (promised < FAR) & (queue.records[views.V_PLACED] == 0)
    planned = queue.planned
    moved = np.where(planned >= 0, np.maximum(planned - promised, 0), -1)
    return {
        "head_job": ids[some],
        "head_partition": records[views_conservative.R_PART, some] % span,
        "head_start": np.where(start[some] < LATEST, start[some], -1),
        "head_ptr": ptr,
        "head_node": held.rows[views_conservative.ROW_NODE, rows],
        "head_tasks": held.rows[views_conservative.ROW_TASKS, rows],
        "head_component": held.rows[views_conservative.HELD_COMPONENT, rows],
        "head_amount": held.amount[rows],
        "moved": np.where(had, moved, 0),
        "moved_cause": records[views_conservative.R_CAUSE],
    }
