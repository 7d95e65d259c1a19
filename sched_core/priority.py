"""Multifactor priority of all pending jobs at once: weights times factors in 0..1, minus nice.

What users of Slurm's multifactor plugin know: priority = site + age + association + fair-share +
job size + partition + QoS + sum of TRES - nice, every factor times its weight. Factors are integers
in steps of 2^-30, every term is rounded down for itself, so the terms of a job add up exactly to
its priority (`explain`) on every machine. All but age depends on a job only through its shape,
association, partition and QoS: those terms are made once per table row, and a job costs eight
additions. Kernel and callers hold no tables: columns in, a column out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sched_core import jit
from sched_core.columns import Ints, Matrix, Vector
from sched_core.fairshare import FACTOR_BITS, ONE
from sched_core.jit import entry, inlined
from sched_core.nodes import NodeTable, NodeUse
from sched_core.shapes import ShapeTable

WEIGHT_MAX = (1 << 32) - 1
PRIORITY_MIN = 1
"""0 is left to mean "held"."""
PRIORITY_MAX = (1 << 32) - 1
"""Sums outside PRIORITY_MIN..PRIORITY_MAX are cut off there."""
BIAS_MAX = 1 << 40
"""Bound of |nice| and |site|."""

# Rows of the jobs' matrix.
SHAPE = 0
ASSOCIATION = 1
PARTITION = 2
QOS = 3
"""Table rows; -1: none, and then its terms are 0."""
ELIGIBLE = 4
"""Instant (s) since when it could start; -1: it cannot yet, and does not age."""
NICE = 5
SITE = 6
PINNED = 7
"""A priority set by an operator, which replaces the sum; -1: none."""
JOB_COLUMNS = 8


class Terms(NamedTuple):
    """Weight times factor, by table row: what `terms` makes."""

    shape: Matrix
    """[1 + D, s] job size, then one row per weighted dimension."""
    association: Matrix
    """[2, a] association, fair-share."""
    partition: Vector
    """[p]"""
    qos: Vector
    """[q]"""
    age: int
    """Weight of age."""
    max_age: int
    """Seconds, at least 1."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights, 0 to WEIGHT_MAX each. Raises ValueError for others, or for a `max_age` below 1 s."""

    age: int = 0
    association: int = 0
    fairshare: int = 0
    size: int = 0
    partition: int = 0
    qos: int = 0
    tres: tuple[tuple[str, int], ...] = ()
    """Dimension names (`cpu`, `memory`, `gres/gpu`, ...) and their weights."""
    max_age: int = 7 * 86400
    """Seconds after which the age factor is 1."""
    small_first: bool = False
    """Small jobs have the greater size factor."""

    def __post_init__(self) -> None:
        named = [self.age, self.association, self.fairshare, self.size, self.partition, self.qos]
        for weight in named + [weight for _, weight in self.tres]:
            if not 0 <= weight <= WEIGHT_MAX:
                raise ValueError(f"a weight is 0..{WEIGHT_MAX}, not {weight}")
        if not 1 <= self.max_age <= WEIGHT_MAX:
            raise ValueError(f"the age that counts fully is 1..{WEIGHT_MAX} s, not {self.max_age}")


@dataclass(frozen=True, slots=True)
class Factors:
    """Factors by table row, 0..ONE each."""

    association: Ints
    """[a] see `relative`."""
    fairshare: Ints
    """[a] see `sched_core.fairshare`."""
    partition: Ints
    """[p]"""
    qos: Ints
    """[q]"""
    size: Ints
    """[s] see `size_factors`."""
    tres: Ints
    """[D, s] of the dimensions that have weights, in their order; see `tres_factors`."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The terms of chosen jobs: `[k]` each; all but `tres` add up to `priority`, `adjusted` too."""

    age: Ints
    association: Ints
    fairshare: Ints
    size: Ints
    partition: Ints
    qos: Ints
    tres: Ints
    """[D, k] by weighted dimension; `tres.sum(axis=0)` is one of the summands."""
    site: Ints
    nice: Ints
    """Minus what was asked for."""
    adjusted: Ints
    """What cutting off at the bounds, or an operator's own priority, adds."""
    priority: Ints


def relative(values: Ints) -> Ints:
    """Factors from configured numbers (0 to WEIGHT_MAX): each over the greatest. O(n)."""
    return values * ONE // max(int(values.max(initial=0)), 1)


def parts(amount: Ints, whole: Ints | int) -> Ints:
    """Factors `amount / whole`, cut off at ONE; 0 where the whole is none. Exact to 2^-30."""
    whole = np.asarray(whole, np.int64)
    shift = np.maximum(np.frexp(whole.astype(np.float64))[1].astype(np.int64) - 32, 0)
    taken = np.clip(amount, 0, whole) >> shift
    found: Ints = taken * ONE // np.maximum(whole >> shift, 1)
    return np.minimum(found, ONE)


def asked(shapes: ShapeTable) -> tuple[Ints, Ints]:
    """Least nodes [s], and amounts [s, R] in all, that each shape asks for."""
    count = shapes.rows
    low, ntasks = shapes.low[:count], shapes.ntasks[:count]
    amounts = shapes.node_need[:count] * low[:, None] + shapes.task_need[:count] * ntasks[:, None]
    return low, amounts


def size_factors(nodes: NodeTable, shapes: ShapeTable, *, small_first: bool = False) -> Ints:
    """[s] mean of a shape's parts of all nodes and of all CPUs (`small_first`: what it leaves)."""
    present = nodes.use[: nodes.rows] != NodeUse.ABSENT
    count, amounts = asked(shapes)
    cpus = int(nodes.capacity[: nodes.rows][present, 0].sum())
    part = (parts(count, int(present.sum())) + parts(amounts[:, 0], cpus)) >> 1
    return ONE - part if small_first else part


def tres_factors(nodes: NodeTable, shapes: ShapeTable, names: tuple[str, ...]) -> Ints:
    """[D, s] parts of the cluster that shapes ask for, in named dimensions (unknown ones: 0)."""
    _, amounts = asked(shapes)
    totals = nodes.capacity[: nodes.rows].sum(axis=0)
    known = {nodes.dims.name(r): r for r in range(len(nodes.dims))}
    found = np.zeros((len(names), shapes.rows), np.int64)
    for i, name in enumerate(names):
        if name in known:
            found[i] = parts(amounts[:, known[name]], int(totals[known[name]]))
    return found


def terms(weights: Weights, factors: Factors) -> Terms:
    """Weight times factor for every row of every table, rounded down. O(rows)."""
    tres = [weight for _, weight in weights.tres]
    assert factors.tres.shape[0] == len(tres)
    shape = np.vstack([factors.size[None, :], factors.tres])
    owner = np.vstack([factors.association, factors.fairshare])
    return Terms(
        shape=shape * np.array([weights.size, *tres])[:, None] >> FACTOR_BITS,
        association=owner * np.array([[weights.association], [weights.fairshare]]) >> FACTOR_BITS,
        partition=factors.partition * weights.partition >> FACTOR_BITS,
        qos=factors.qos * weights.qos >> FACTOR_BITS,
        age=weights.age,
        max_age=weights.max_age,
    )


@inlined
def age_term(eligible: int, weight: int, max_age: int, now: int) -> int:
    """What waiting since `eligible` is worth. O(1), inside int64 for every legal input."""
    if eligible < 0 or eligible >= now:
        return 0
    return int(weight * (min(now - eligible, max_age) * ONE // max_age) >> FACTOR_BITS)


@entry
def weigh(jobs: Matrix, given: Terms, shape_sum: Vector, now: int, out: Vector) -> int:
    """Write the priority of every job into `out` [j]; gives their number. O(jobs).

    Invariant: PRIORITY_MIN <= out <= PRIORITY_MAX, or `out` is the pinned priority; sums stay below
    2^42. `shape_sum` [s] is the sum over the rows of `given.shape`.
    """
    for j in range(jobs.shape[1]):
        if jobs[PINNED, j] >= 0:
            out[j] = jobs[PINNED, j]
            continue
        total = jobs[SITE, j] - jobs[NICE, j]
        total += age_term(jobs[ELIGIBLE, j], given.age, given.max_age, now)
        row = jobs[SHAPE, j]
        if row >= 0:
            total += shape_sum[row]
        row = jobs[ASSOCIATION, j]
        if row >= 0:
            total += given.association[0, row] + given.association[1, row]
        row = jobs[PARTITION, j]
        if row >= 0:
            total += given.partition[row]
        row = jobs[QOS, j]
        if row >= 0:
            total += given.qos[row]
        out[j] = min(max(total, PRIORITY_MIN), PRIORITY_MAX)
    return int(jobs.shape[1])


def prioritise(jobs: Ints, given: Terms, now: int) -> Ints:
    """[j] priorities at `now` (s) of the jobs in `jobs` [JOB_COLUMNS, j]. One kernel call.

    A job that names several partitions is given the one with the greatest term in PARTITION.
    |NICE| and |SITE| are at most BIAS_MAX. The jobs' matrix is not changed.
    """
    jit.compile_kernels()
    out = np.empty(jobs.shape[1], np.int64)
    weigh(jobs, given, given.shape.sum(axis=0), now, out)
    return out


def explain(jobs: Ints, given: Terms, now: int, chosen: Ints) -> Breakdown:
    """The terms of the jobs in columns `chosen` [k] at `now` (s). O(k) in numpy, no kernel."""
    some = jobs[:, chosen]

    def term(column: Ints, rows: Ints) -> Ints:
        none = np.zeros((*column.shape[:-1], 1), np.int64)
        found: Ints = np.concatenate([column, none], axis=-1)[..., rows]  # -1: the last
        return found

    waited = np.clip(now - some[ELIGIBLE], 0, given.max_age) * (some[ELIGIBLE] >= 0)
    shape = term(given.shape, some[SHAPE])
    owner = term(given.association, some[ASSOCIATION])
    summands = (
        given.age * (waited * ONE // given.max_age) >> FACTOR_BITS,
        owner[0],
        owner[1],
        shape[0],
        term(given.partition, some[PARTITION]),
        term(given.qos, some[QOS]),
    )
    site, nice = some[SITE], -some[NICE]
    total = sum(summands, shape[1:].sum(axis=0) + site + nice)
    cut = np.clip(total, PRIORITY_MIN, PRIORITY_MAX)
    priority = np.where(some[PINNED] >= 0, some[PINNED], cut)
    return Breakdown(*summands, shape[1:], site, nice, priority - total, priority)
