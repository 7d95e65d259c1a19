"""One pool of processors: a workload is replayed through an exact policy in one kernel call.

The textbook's machine: processors without names, jobs that ask for some of them. Batch semantics,
as a controller's: at one instant all ends, then all submissions, then one pass. For clairvoyance
give the runtimes as estimates. The kernels are in `pool_easy` and `pool_conservative`, their slow
twins in `oracle_pool` and `oracle_pool_conservative`.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from sched_core import jit, orders, pool_views
from sched_core.columns import Ints
from sched_core.pool_conservative import replay_planned
from sched_core.pool_easy import (
    BACKFILL,
    BY_RANK,
    BY_TURN,
    BY_UNICEP,
    BY_WFP3,
    PLAIN_FCFS,
    SHORTEST_BACKFILL,
    replay_queue,
)
from sched_core.pool_views import Pool

INSTANT_MAX = 1 << 50
"""Bound of submissions (s) and of the sum of all estimates: instants stay far below NEVER."""


class PoolPolicy(StrEnum):
    """How the queue is served; the names are those of the literature and of `csim`."""

    FCFS = "fcfs"
    EASY = "easy"
    EASY_SJBF = "easy-sjbf"
    CONSERVATIVE = "conservative"
    CONSERVATIVE_REPLAN = "conservative-replan"


PLANNING = (PoolPolicy.CONSERVATIVE, PoolPolicy.CONSERVATIVE_REPLAN)
"""Policies that plan a start for every job, in order of submission."""
_BEHIND_HEAD = {
    PoolPolicy.FCFS: PLAIN_FCFS,
    PoolPolicy.EASY: BACKFILL,
    PoolPolicy.EASY_SJBF: SHORTEST_BACKFILL,
}
_SORTING = {"fcfs": BY_TURN, "wfp3": BY_WFP3, "unicep": BY_UNICEP}


def new_control() -> Ints:
    """Cells shared with a replay in another thread: `[STARTED, STOP]` (see `replay`)."""
    return np.zeros(2, np.int64)


def replay(
    submit: Ints,
    procs: Ints,
    estimate: Ints,
    run: Ints,
    *,
    processors: int,
    policy: PoolPolicy,
    order: str = "fcfs",
    depth: int = 0,
    control: Ints | None = None,
) -> Ints:
    """Start (s) of each of n jobs, given in any order; those submitted together keep theirs.

    `submit` (s, at least 0), `estimate` and `run` (s, at least 1), `procs` (1 to `processors`): n
    each. `order` is one of `orders.ORDERS` and `depth` the jobs of the queue that a pass looks at
    (0: all), both for fcfs and the EASY policies. Runs without the GIL: another thread may read the
    jobs started so far in `control[0]`, and end the replay by setting `control[1]`; jobs that have
    not started then have start -1. Raises ValueError with the reason for anything else.

    Memory: about 200 bytes a job. Time: see the kernels.
    """
    columns = [np.asarray(column, np.int64) for column in (submit, procs, estimate, run)]
    _check(columns, processors, policy, order, depth)
    turn = np.argsort(columns[0], kind="stable")
    pool = _pool([column[turn] for column in columns], processors, order, control)
    jit.compile_kernels()
    if policy in PLANNING:
        replay_planned(pool, int(policy == PoolPolicy.CONSERVATIVE_REPLAN), processors)
    else:
        sorting = _SORTING.get(order, BY_RANK)
        replay_queue(pool, _BEHIND_HEAD[policy], sorting, depth or pool_views.NEVER)
    starts = np.empty(len(turn), np.int64)
    starts[turn] = pool.jobs[pool_views.START]
    return starts


def _check(
    columns: list[Ints], processors: int, policy: PoolPolicy, order: str, depth: int
) -> None:
    submit, procs, estimate, run = columns
    if len({column.shape for column in columns}) != 1 or submit.ndim != 1:
        raise ValueError("submit, procs, estimate and run must be vectors of one length")
    if processors < 1 or depth < 0:
        raise ValueError("processors must be at least 1, and depth at least 0")
    if order not in orders.ORDERS:
        raise ValueError(f"no queue order {order!r}; there are {', '.join(orders.ORDERS)}")
    if policy in PLANNING and (order != "fcfs" or depth):
        raise ValueError(f"{policy} plans in order of submission: it takes no order and no depth")
    if policy == PoolPolicy.EASY_SJBF and order in orders.TIME_DEPENDENT:
        raise ValueError(f"{policy} takes no order that changes with time, such as {order}")
    if not len(submit):
        return
    if procs.min() < 1 or procs.max() > processors:
        raise ValueError(f"every job must ask for 1 to {processors} processors")
    if submit.min() < 0 or estimate.min() < 1 or run.min() < 1:
        raise ValueError("submissions must be at least 0, estimates and runtimes at least 1 s")
    if float(submit.max()) + float(np.maximum(estimate, run).sum(dtype=float)) > INSTANT_MAX:
        raise ValueError("submissions and estimates are too large to be seconds")
    if policy in PLANNING and (run > estimate).any():
        raise ValueError(f"{policy} needs runtimes that do not exceed their estimates")


def _pool(columns: list[Ints], processors: int, order: str, control: Ints | None) -> Pool:
    """The kernels' view of jobs in order of submission, nothing started."""
    submit, procs, estimate = columns[: pool_views.RUN]
    count = len(submit)
    jobs = np.full((pool_views.JOB_COLUMNS, count), -1, np.int64)
    jobs[: pool_views.START] = columns
    jobs[pool_views.RANK] = orders.rank(order, submit, procs, estimate)
    jobs[pool_views.WEIGHT] = orders.weight(order, procs, estimate)
    counters = np.zeros(pool_views.COUNTERS, np.int64)
    counters[pool_views.FREE] = processors
    most = min(count, processors)
    return Pool(
        jobs=jobs,
        queue=np.zeros((3, count), np.int64),
        running=np.zeros((pool_views.RUNNING_ROWS, most + 1), np.int64),
        profile=np.zeros((2, 2 * count + 4), np.int64),
        counters=counters,
        control=new_control() if control is None else control,
    )
