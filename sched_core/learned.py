"""One pool of processors under `learned`: EASY with learnt runtimes (see `pool_learned`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sched_core import jit, pool_views
from sched_core import pool_learned as views
from sched_core.columns import Ints
from sched_core.pool import INSTANT_MAX, new_control
from sched_core.pool_learned import Learning, replay_learned
from sched_core.pool_views import Pool

THRESHOLD = 9 * views.THOUSAND
"""A job is promised a start once it is expected to be slowed down tenfold."""
ALWAYS = 0
"""The threshold under which there always is a promise while a job waits that does not fit."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A replay's schedule, and how its promises were kept."""

    start: Ints
    """[n] s; -1: not started (the replay was stopped)."""
    promises: int
    """Jobs that were promised a start."""
    broken: int
    """Of these, how many started later: none, if no job overran its estimate."""
    latest: int
    """Most seconds by which one did."""


def replay(
    submit: Ints,
    procs: Ints,
    estimate: Ints,
    run: Ints,
    user: Ints,
    *,
    processors: int,
    threshold: int = THRESHOLD,
    control: Ints | None = None,
) -> Learned:
    """Replay n jobs, given in any order; those submitted together keep theirs.

    `submit` (s, at least 0), `estimate` (the users' limits) and `run` (s, at least 1), `procs` (1
    to `processors`), `user` (any numbers): n each. `threshold` in thousandths of slowdown above 1.
    `control` as in `pool.replay`. Raises ValueError with the reason for anything else.
    """
    columns = [np.asarray(column, np.int64) for column in (submit, procs, estimate, run, user)]
    _check(columns, processors, threshold)
    turn = np.argsort(columns[0], kind="stable")
    columns = [column[turn] for column in columns]
    pool = _pool(columns, processors, control)
    learning = _learning(columns)
    jit.compile_kernels()
    replay_learned(pool, learning, threshold)
    start = np.empty(len(turn), np.int64)
    start[turn] = pool.jobs[pool_views.START]
    cells = learning.promise.tolist()
    return Learned(start, cells[views.MADE], cells[views.BROKEN], cells[views.LATEST])


def _check(columns: list[Ints], processors: int, threshold: int) -> None:
    submit, procs, estimate, run, _ = columns
    if len({column.shape for column in columns}) != 1 or submit.ndim != 1:
        raise ValueError("submit, procs, estimate, run and user must be vectors of one length")
    if processors < 1 or threshold < 0:
        raise ValueError("processors must be at least 1, and threshold at least 0")
    if not len(submit):
        return
    if procs.min() < 1 or procs.max() > processors:
        raise ValueError(f"every job must ask for 1 to {processors} processors")
    if submit.min() < 0 or estimate.min() < 1 or run.min() < 1:
        raise ValueError("submissions must be at least 0, estimates and runtimes at least 1 s")
    if float(submit.max()) + float(np.maximum(estimate, run).sum(dtype=float)) > INSTANT_MAX:
        raise ValueError("submissions and estimates are too large to be seconds")


def _pool(columns: list[Ints], processors: int, control: Ints | None) -> Pool:
    """The kernels' view of jobs in order of submission, nothing started."""
    count = len(columns[0])
    jobs = np.full((pool_views.JOB_COLUMNS, count), -1, np.int64)
    jobs[: pool_views.START] = columns[: pool_views.START]
    jobs[pool_views.RANK] = np.arange(count)
    counters = np.zeros(pool_views.COUNTERS, np.int64)
    counters[pool_views.FREE] = processors
    return Pool(
        jobs=jobs,
        queue=np.zeros((3, count), np.int64),
        running=np.zeros((pool_views.RUNNING_ROWS, min(count, processors) + 1), np.int64),
        profile=np.zeros((2, 0), np.int64),
        counters=counters,
        control=new_control() if control is None else control,
    )


def _learning(columns: list[Ints]) -> Learning:
    """Nothing learnt yet; users and kinds numbered."""
    _, procs, estimate, _, user = columns
    names, numbers = np.unique(user, return_inverse=True)
    kinds = np.stack([user, estimate, procs], axis=1)
    _, kind = np.unique(kinds, axis=0, return_inverse=True)
    traits = np.stack([numbers.reshape(-1), kind.reshape(-1)]).astype(np.int64)
    promise = np.zeros(views.PROMISE_CELLS, np.int64)
    promise[views.HEAD] = -1
    return Learning(
        traits=np.ascontiguousarray(traits),
        users=np.zeros((2, len(names)), np.int64),
        kinds=np.zeros((2, int(kind.max(initial=-1)) + 1), np.int64),
        promise=promise,
    )
