"""What would make a waiting job start sooner: a shorter limit, fewer nodes, another partition.

Nothing is guessed: each change is made to the job's record, planned by a whole pass, and taken back.
What is offered either starts in that pass, or is promised a start in it and starts then or sooner, as
long as nobody comes before the job. Meant for a question about one job, not for every pass: up to some
twenty passes for each kind of change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from sched_core.codes import VerdictCode
from sched_core.plan import Plan, Policy, plan
from sched_core.tables import Bundle, Request, Tables

if TYPE_CHECKING:
    from sched_core.plan_conservative import Promises

LEAST_LIMIT = 60
"""Seconds; nobody is told to ask for less."""
MINUTE = 60


class RemedyKind(IntEnum):
    """What to change."""

    TIME_LIMIT = 1
    NODES = 2
    PARTITION = 3


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change, and the start it brings."""

    kind: RemedyKind
    limit: int = 0
    """TIME_LIMIT: seconds, the longest whole minutes that will do."""
    nodes: int = 0
    """NODES: the most that will do."""
    partition: str = ""
    start: int = 0
    """Instant (s): `now`, or the promise: the job starts then or sooner."""


def remedies(
    tables: Tables,
    policy: Policy,
    now: int,
    job_id: int,
    partitions: Sequence[str] = (),
    promises: Promises | None = None,
) -> tuple[Remedy, ...]:
    """Changes that would let a pending job start at `now`, or be promised an earlier start.

    `partitions`: those it may use besides its own, in the order to be tried. `promises`: those of
    the last conservative pass, which others keep. KeyError if the job does not wait. The tables are
    as before when this returns, also by an exception.
    """
    others = promises.without(np.array([job_id])) if promises is not None else None
    row = tables.jobs.row(job_id)
    request = tables.shapes.request(int(tables.jobs.shape[row]))
    limit = int(tables.jobs.duration[row])
    as_it_is = _start(_planned(tables, policy, now, promises), job_id, now)
    if as_it_is == now:
        return ()

    def with_limit(seconds: int) -> int:
        with _limit(tables, job_id, seconds):
            return _start(_planned(tables, policy, now, others), job_id, now)

    def with_request(changed: Request) -> int:
        with _request(tables, job_id, changed):
            return _start(_planned(tables, policy, now, others), job_id, now)

    found: list[Remedy] = []
    minutes = _most(
        LEAST_LIMIT // MINUTE, (limit - 1) // MINUTE, lambda m: with_limit(m * MINUTE) == now
    )
    if minutes:
        found.append(Remedy(RemedyKind.TIME_LIMIT, limit=minutes * MINUTE, start=now))
    if isinstance(request, Bundle):
        return tuple(found)
    if request.min_nodes > 1:
        nodes = _most(
            1, request.min_nodes - 1, lambda n: with_request(_narrower(request, n)) == now
        )
        if nodes:
            found.append(Remedy(RemedyKind.NODES, nodes=nodes, start=now))
    for name in partitions:
        if name in request.partitions:
            continue
        start = with_request(replace(request, partitions=(*request.partitions, name)))
        if start >= 0 and (start < as_it_is or as_it_is < 0):
            found.append(Remedy(RemedyKind.PARTITION, partition=name, start=start))
    return tuple(found)


def _planned(tables: Tables, policy: Policy, now: int, promises: Promises | None) -> Plan:
    parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
    return plan(*parts, policy, now, promises=promises)


def _start(made: Plan, job_id: int, now: int) -> int:
    """Start of a job by a plan: of its first task, or a promise to it; -1: neither.

    A head of one partition may still be overtaken by records ahead of it that wait in others, so
    only a promise to the first of all that wait counts.
    """
    at = int(np.flatnonzero(made.job == job_id)[0])
    if made.placed[at]:
        return now
    promised = made.head_start[made.head_job == job_id]
    if len(made.head_tasks):
        return int(promised[0]) if len(promised) else -1  # conservative: all of them are kept
    ahead = made.code[:at]
    first = np.all((ahead == VerdictCode.STARTED) | (ahead >= VerdictCode.DEPENDENCY))
    return int(promised[0]) if first and len(promised) else -1


def _most(low: int, high: int, will_do: Callable[[int], bool]) -> int:
    """The greatest number from low to high found to do, by halving; 0: none was found.

    What does for a number does for smaller ones nearly always; where it does not, less than the
    best is found, but never what does not do.
    """
    best = 0
    while low <= high:
        middle = (low + high) // 2
        if will_do(middle):
            best, low = middle, middle + 1
        else:
            high = middle - 1
    return best


def _narrower(request: Request, nodes: int) -> Request:
    most = min(request.max_nodes, nodes) if request.max_nodes else 0
    return replace(request, min_nodes=nodes, max_nodes=most)


@contextmanager
def _limit(tables: Tables, job_id: int, seconds: int) -> Iterator[None]:
    before = int(tables.jobs.duration[tables.jobs.row(job_id)])
    tables.jobs.update(job_id, duration=seconds)
    try:
        yield
    finally:
        tables.jobs.update(job_id, duration=before)


@contextmanager
def _request(tables: Tables, job_id: int, changed: Request) -> Iterator[None]:
    before = int(tables.jobs.shape[tables.jobs.row(job_id)])
    tables.shapes.retain(before)  # its row stays this request's while nobody else asks for it
    tables.jobs.set_shape(job_id, tables.shapes.intern(changed))
    try:
        yield
    finally:
        tables.jobs.set_shape(job_id, before)
        tables.shapes.release(before)
