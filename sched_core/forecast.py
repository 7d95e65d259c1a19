"""Estimates of starts: a rough one for every record of the queue, and how far to trust any of them.

`fluid_starts` lets the queue flow: a record starts when what runs and what is ahead of it has
drained from its first partition, as if jobs could be cut and poured. It costs a few additions per
record, so that also records which no pass has looked at have an estimate. It knows nothing of gaps,
order and fragmentation; `ErrorTable` does, by what came of earlier estimates.
"""

from __future__ import annotations

import numpy as np

from sched_core.columns import BITS, Ints
from sched_core.tables import JobTable, NodeTable, NodeUse, RunningTable, ShapeTable

HORIZON = 30 * 86_400
"""Seconds that a job is taken to run at most: also one without a limit ends some day."""
SCALE = 1 << 20
"""Shares of a partition are in parts of this."""
FORGET = 4_096
"""Errors in a bucket from which on older ones count half as much, again and again."""
FEW = 20
"""Errors below which a bucket borrows those of its neighbours."""
_BINS_PER_OCTAVE = 4
_OCTAVES = 12
_BINS = 2 * _OCTAVES * _BINS_PER_OCTAVE + 1
_MIDDLE = _OCTAVES * _BINS_PER_OCTAVE
_BUCKETS = 32
_STEPS = np.array([1 << 16, 77_936, 92_682, 110_218], np.int64)
"""2 ** (i / 4) in 1/65536."""


def fluid_starts(
    nodes: NodeTable,
    shapes: ShapeTable,
    jobs: JobTable,
    running: RunningTable,
    order: Ints,
    now: int,
) -> Ints:
    """Estimated start (s) of each record of `order` ([m] rows of the JobTable, queue order).

    -1: closed by a gate, or nothing in its partition takes jobs. Work is counted in seconds of the
    whole partition, in the dimension of the record's own request that drains last.
    O(m x R + n x partitions x R).
    """
    parts = len(nodes.partition_names)
    starts = np.full(len(order), -1, np.int64)
    if not parts or not len(order):
        return starts
    member = _membership(nodes, parts)
    capacity, busy = _capacity(nodes, member), _busy(nodes, running, member, now)
    shape = jobs.shape[order]
    part = shapes.parts[shape, 0]
    share = _shares(shapes, capacity, member)
    is_open = (jobs.gate[order] == 0) & (capacity[part].sum(axis=1) > 0)
    lasting = np.where(is_open, np.minimum(jobs.duration[order], HORIZON) * jobs.count[order], 0)
    lasting = np.minimum(lasting, HORIZON * 64)  # an array is tried again, not poured as a whole
    for p in np.unique(part[is_open]).tolist():
        rows = np.flatnonzero(is_open & (part == p))
        drained = np.zeros(len(rows), np.int64)
        for r in np.flatnonzero(capacity[p]).tolist():
            work = share[shape[rows], r] * lasting[rows]
            ahead = np.cumsum(work) - work + int(busy[p, r]) * SCALE // int(capacity[p, r])
            drained = np.where(work > 0, np.maximum(drained, ahead), drained)
        starts[rows] = now + drained // SCALE
    return np.where(starts >= 0, np.maximum(starts, jobs.begin[order]), -1)


def _membership(nodes: NodeTable, parts: int) -> Ints:
    """[n, partitions] 1 where a node of the partition takes jobs."""
    part = np.arange(parts)
    bits = (nodes.partitions[: nodes.rows, part // BITS] >> (part % BITS)) & 1
    usable: Ints = bits * (nodes.use[: nodes.rows] == NodeUse.USABLE)[:, None]
    return usable


def _capacity(nodes: NodeTable, member: Ints) -> Ints:
    """[partitions, R]"""
    dims = len(nodes.dims)
    total: Ints = member.T @ nodes.capacity[: nodes.rows, :dims]
    return total


def _busy(nodes: NodeTable, running: RunningTable, member: Ints, now: int) -> Ints:
    """[partitions, R] amount x seconds still held by running jobs."""
    running.fit_columns()
    dims = len(nodes.dims)
    live = running.releases()
    left = np.clip(running.end[live] - now, 1, HORIZON)
    held = np.zeros((nodes.rows, dims), np.int64)
    np.add.at(held, running.node[live], running.amount[live, :dims] * left[:, None])
    total: Ints = member.T @ held
    return total


def _shares(shapes: ShapeTable, capacity: Ints, member: Ints) -> Ints:
    """[s, R] part of its first partition that a gang of the shape takes, in 1/SCALE, at most all."""
    s, dims = shapes.rows, capacity.shape[1]
    low, tasks = shapes.low[:s, None], shapes.ntasks[:s, None]
    need = shapes.node_need[:s, :dims] * low + shapes.task_need[:s, :dims] * tasks
    part = shapes.parts[:s, 0]
    whole = capacity[part] * low // np.maximum(member.sum(axis=0)[part], 1)[:, None]
    need = np.where(shapes.exclusive[:s, None] != 0, whole, need)
    most = np.maximum(capacity[part], 1)
    shares: Ints = np.minimum(need * SCALE // most, SCALE)
    return shares


class ErrorTable:
    """What came of earlier estimates: how often a wait was so many times the one foretold.

    `counts[b, k]`: errors of waits foretold in bucket b (octaves of seconds) whose actual wait was
    about 2 ** ((k - middle) / 4) times as long. Bounded in size; old errors fade.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Ints = np.zeros((_BUCKETS, _BINS), np.int64)

    def record(self, foretold: Ints, actual: Ints) -> None:
        """Waits (s, at least 0) as foretold and as they were, aligned. O(number of them)."""
        assert foretold.shape == actual.shape
        assert (foretold >= 0).all()
        assert (actual >= 0).all()
        np.add.at(self.counts, (_bucket(foretold), _bin(foretold, actual)), 1)
        full = self.counts.sum(axis=1) > FORGET
        self.counts[full] //= 2

    def interval(self, foretold: Ints, low: int = 10, high: int = 90) -> tuple[Ints, Ints]:
        """Waits (s) between which, by earlier errors, `high - low` percent of waits fall.

        Without enough errors around a bucket all of them are asked; without any the interval is
        from nothing to sixteen times the wait foretold.
        """
        assert 0 <= low < high <= 100
        bounds = np.array([self._bounds(b, low, high) for b in range(_BUCKETS)], np.int64)
        mine = bounds[_bucket(foretold)]
        return _times(foretold, mine[:, 0]), _times(foretold, mine[:, 1] + 1)

    def _bounds(self, bucket: int, low: int, high: int) -> tuple[int, int]:
        """Bins that hold the percentiles for a bucket."""
        counts = self.counts[bucket]
        if counts.sum() < FEW:
            counts = self.counts[max(0, bucket - 1) : bucket + 2].sum(axis=0)
        if counts.sum() < FEW:
            counts = self.counts.sum(axis=0)
        total = int(counts.sum())
        if total < FEW:
            return 0, _MIDDLE + 4 * _BINS_PER_OCTAVE
        upto = np.cumsum(counts)
        first = int(np.searchsorted(upto, total * low // 100, side="right"))
        last = int(np.searchsorted(upto, -(-total * high // 100), side="left"))
        return first, min(last, _BINS - 1)


def _bucket(foretold: Ints) -> Ints:
    octave = np.frexp((foretold + 1).astype(np.float64))[1]
    bucket: Ints = np.minimum(octave, _BUCKETS - 1).astype(np.int64)
    return bucket


def _bin(foretold: Ints, actual: Ints) -> Ints:
    """Bin of (actual + 1) / (foretold + 1): its quarter octave, rounded down."""
    edges = np.array([_factor(k) for k in range(_BINS)], np.float64)
    ratio = (actual + 1) / (foretold + 1)
    found: Ints = np.searchsorted(edges, ratio * (1 + 1e-12), side="right") - 1
    return np.clip(found, 0, _BINS - 1).astype(np.int64)


def _factor(k: int) -> float:
    """Lower edge of bin k."""
    octave, step = divmod(k - _MIDDLE, _BINS_PER_OCTAVE)
    return float(_STEPS[step]) / 65_536 * 2.0**octave


def _times(foretold: Ints, bins: Ints) -> Ints:
    """Waits that the lower edges of `bins` stand for; the lowest bin reaches down to nothing."""
    factors = np.array([0.0, *(_factor(k) for k in range(1, _BINS + 1))])
    wait: Ints = np.maximum((foretold + 1) * factors[bins] - 1, 0).astype(np.int64)
    return wait
