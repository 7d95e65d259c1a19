"""What reservations leave of nodes over time, for others and for their members.

For all others a node has less from the start of an instance to its end: that much is *taken* at the
start, as a release with a minus, and released at the end. What is reserved becomes a row of its own,
the *pool* of the reservation on the node, which has something to give from start to end only. So a
pass plans members and others alike, and nobody can cross an edge.

Where running jobs hold what is reserved the pool has so much less, until they end. What members hold
is of the pool, as long as the instance lasts, and of the node afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sched_core import views, views_conservative
from sched_core.columns import Ints
from sched_core.names import Dimensions
from sched_core.nodes import NodeTable
from sched_core.reservation_table import Kept
from sched_core.running import RunningTable

KEY = 42
"""Bits of an instant in a key: a place is above them."""


class Changes:
    """What is free later: `amount[i, :]` more (with a minus: less) on a node from an instant on."""

    def __init__(self) -> None:
        self._node: list[Ints] = []
        self._when: list[Ints] = []
        self._amount: list[Ints] = []

    def add(self, nodes: Ints, when: Ints | int, amounts: Ints) -> None:
        """So much more on each of some nodes from `when` (s) on."""
        self._node.append(nodes)
        self._when.append(np.broadcast_to(np.asarray(when, np.int64), len(nodes)))
        self._amount.append(amounts)

    def columns(self, dims: int) -> tuple[Ints, Ints, Ints]:
        """Nodes, instants and amounts of all."""
        if not self._node:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, dims), np.int64)
        return (
            np.concatenate(self._node),
            np.concatenate(self._when),
            np.concatenate(self._amount),
        )


@dataclass(frozen=True, slots=True)
class Inside:
    """What a member holds of what is reserved on a node, from `start` to `end` (s)."""

    rank: int
    """Place of its reservation in the list of those kept."""
    node: int
    start: int
    end: int
    amount: Ints
    given_back: Ints
    """So much of it the reservation has kept: what the member holds beyond is not of it."""


def take(kept: Sequence[Kept], nodes: NodeTable, changes: Changes, now: int) -> None:
    """Take what is reserved from `nodes.free` and, in the future, from what will be. O(instances)."""
    dims = len(nodes.dims)
    for one in kept:
        for start, end in one.instances:
            if start <= now:
                nodes.free[one.node, :dims] -= one.amount
            else:
                changes.add(one.node, start, -one.amount)
            changes.add(one.node, end, one.amount)


def settle_members(
    kept: Sequence[Kept], nodes: NodeTable, running: RunningTable, changes: Changes, now: int
) -> list[Inside]:
    """Count what running members hold as part of what is reserved, not beside it.

    A member that runs past its limit is taken to end at `now + 1`. O(members x nodes x instances).
    """
    dims = len(nodes.dims)
    rank_of = {one.of.name: rank for rank, one in enumerate(kept) if not one.of.maintenance}
    places = {
        rank: {node: i for i, node in enumerate(kept[rank].node.tolist())}
        for rank in rank_of.values()
    }
    out: list[Inside] = []
    given: dict[tuple[int, int, int], Ints] = {}
    for job_id, name in running.reserved.items():
        rank = rank_of.get(name, -1)
        for row in running.rows_of(job_id) if rank >= 0 else ():
            node, end = int(running.node[row]), max(int(running.end[row]), now + 1)
            place = places[rank].get(node, -1)
            held = running.amount[row, :dims]
            for start, stop in kept[rank].instances if place >= 0 else ():
                since, until = max(start, now), min(stop, end)
                if since >= until:
                    continue
                before = given.setdefault((rank, node, start), np.zeros(dims, np.int64))
                back = np.minimum(held, kept[rank].amount[place] - before)
                before += back
                where = np.array([node], np.int64)
                if since == now:
                    nodes.free[node, :dims] += back
                else:
                    changes.add(where, since, back[None])
                changes.add(where, until, -back[None])
                out.append(Inside(rank, node, since, until, held, back))
    return out


def within(kept: Ints, left: Ints, dims: Dimensions) -> Ints:
    """What there is of what is kept where so much is left: the lesser of both, at least 0.

    `[..., R]` each. A total is bounded too by what its types and its devices without type can give.
    """
    out: Ints = np.maximum(np.minimum(kept, left), 0)
    for total in range(2, len(dims)):
        types = [r for r in range(total + 1, len(dims)) if dims.parent[r] == total]
        if types:
            plain = [side[..., total] - side[..., types].sum(axis=-1) for side in (kept, left)]
            some = out[..., types].sum(axis=-1) + np.minimum(*plain)
            out[..., total] = np.maximum(np.minimum(out[..., total], some), 0)
    return out


class Links:
    """Which rows of a node give of the same, and when: see `views_conservative.Profile.links`."""

    def __init__(self) -> None:
        self.rows = [[0] * views_conservative.LINK_COLUMNS]
        self.first: dict[int, int] = {}

    def add(self, row: int, other: int, start: int, end: int) -> None:
        """What is taken of a row from `start` to `end` (s) is taken of another one too."""
        if start < end:
            self.rows.append([other, start, end, self.first.get(row, 0)])
            self.first[row] = len(self.rows) - 1

    def tie(self, node: int, pools: Sequence[tuple[Kept, int]]) -> None:
        """Link a node and the pools there are on it. O(pools² x instances²).

        After its end a pool whose members may run on is the node; and those that overlap are one,
        while both last.
        """
        for one, row in pools:
            end = one.latest + 1 if one.of.overrun else views.FAR
            self.add(row, node, end, views.FAR)
            self.add(node, row, end, views.FAR)
            for other, twin in pools:
                if other is one:
                    continue
                if other.of.overrun:
                    self.add(row, twin, max(end, other.latest + 1), views.FAR)
                for start, stop in one.spans if one.shares(other) else ():
                    for since, until in other.spans:
                        self.add(row, twin, max(start, since), min(stop, until))


class Pools:
    """What the pools of reservations have over time."""

    def __init__(
        self,
        kept: Sequence[Kept],
        nodes: NodeTable,
        running: RunningTable,
        inside: Sequence[Inside],
        now: int,
    ) -> None:
        self._kept = kept
        self._nodes = nodes
        self._now = now
        self._inside = inside
        order = running.releases()
        self._node = running.node[order]
        self._end = np.maximum(running.end[order], now + 1)
        self._amount = running.amount[order, : len(nodes.dims)]

    def steps(self, rank: int) -> tuple[Ints, Ints, Ints]:
        """What the pools of a reservation have from some instants on: the first of each is now.

        Places in its list of nodes, rising, instants, and amounts. O((nodes x instances + their
        allocations) x R), in numpy calls for each instance of what is on these nodes.
        """
        dims, one = self._nodes.dims, self._kept[rank]
        where = np.full(self._nodes.rows, -1, np.int64)
        where[one.node] = np.arange(len(one.node))
        place, when, left = self._running(where, self._windows(where), len(one.node))
        held = np.zeros_like(left)
        first = np.searchsorted(place, np.arange(len(one.node) + 1))
        for member in self._inside:
            i = int(where[member.node])
            if i >= 0:
                of = slice(int(first[i]), int(first[i + 1]))
                then = first[i] + np.flatnonzero(during(when[of], ((member.start, member.end),)))
                left[then] += member.given_back
                if member.rank == rank or one.shares(self._kept[member.rank]):
                    held[then] += member.amount
        own = during(when, one.spans)
        beyond = (when > one.latest) & one.of.overrun
        kept = one.amount[place]
        for other, twin in enumerate(self._kept):
            amount = np.zeros((len(one.node), len(dims)), np.int64)
            amount[where[twin.node[where[twin.node] >= 0]]] = twin.amount[where[twin.node] >= 0]
            ahead = other < rank and not one.shares(twin)
            taken = during(when, twin.instances) & (beyond | ahead)
            left[taken] -= amount[place[taken]]
        out = within(kept, left, dims) - held
        out[~own] = 0
        out[beyond] = left[beyond]
        return place, when, out

    def _windows(self, where: Ints) -> Ints:
        """Keys (place and instant) of all starts and ends on the nodes of a reservation."""
        edges = [np.zeros(0, np.int64)]
        for twin in self._kept:
            places = where[twin.node]
            places = places[places >= 0]
            edges += [places << KEY | edge for instance in twin.instances for edge in instance]
        return np.concatenate(edges)

    def _running(self, where: Ints, edges: Ints, count: int) -> tuple[Ints, Ints, Ints]:
        """Instants at which anything changes on each node, and what running jobs leave then."""
        mine = np.flatnonzero(where[self._node] >= 0)
        keys = where[self._node[mine]] << KEY | self._end[mine]
        order = np.argsort(keys, kind="stable")
        mine, keys = mine[order], keys[order]
        starts = np.arange(count, dtype=np.int64) << KEY
        flat = np.unique(np.concatenate((starts | self._now, edges, keys)))
        place, when = flat >> KEY, flat & ((1 << KEY) - 1)
        coming = when >= self._now
        place, when, flat = place[coming], when[coming], flat[coming]
        ended = np.zeros((len(mine) + 1, self._amount.shape[1]), np.int64)
        np.cumsum(self._amount[mine], axis=0, out=ended[1:])
        last = np.searchsorted(keys, starts | ((1 << KEY) - 1), side="right")[place]
        alive = ended[last] - ended[np.searchsorted(keys, flat, side="right")]
        row = np.flatnonzero(where >= 0)
        nodes = np.empty(count, np.int64)
        nodes[where[row]] = row
        left: Ints = self._nodes.capacity[nodes[place], : alive.shape[1]] - alive
        return place, when, left


def during(when: Ints, spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which of some instants are in any of some spans."""
    out = np.zeros(len(when), bool)
    for start, end in spans:
        out |= (start <= when) & (when < end)
    return out
