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

from sched_core import views, views_conservative
from sched_core.columns import Ints
from sched_core.names import Dimensions
from sched_core.nodes import NodeTable
from sched_core.reservation_table import Kept
from sched_core.running import RunningTable


class Changes:
    """What is free later: `amount[i, :]` more (with a minus: less) on a node from an instant on."""

    def __init__(self) -> None:
        self._node: list[Ints] = []
        self._when: list[Ints] = []
        self._amount: list[Ints] = []

    def add(self, nodes: Ints, when: int, amounts: Ints) -> None:
        """So much more on each of some nodes from `when` (s) on."""
        self._node.append(nodes)
        self._when.append(np.full(len(nodes), when, np.int64))
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

    A total is bounded too by what its types and its devices without type can give.
    """
    out = np.maximum(np.minimum(kept, left), 0)
    for total in range(2, len(kept)):
        types = [r for r in range(total + 1, len(kept)) if dims.parent[r] == total]
        if types:
            plain = min(kept[total] - kept[types].sum(), left[total] - left[types].sum())
            out[total] = max(min(out[total], out[types].sum() + plain), 0)
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
    """What the pool of each reservation has on a node, over time."""

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
        self._inside: dict[int, list[Inside]] = {}
        for member in inside:
            self._inside.setdefault(member.node, []).append(member)
        self._windows: dict[int, list[tuple[int, int, int, Ints]]] = {}
        for rank, one in enumerate(kept):
            for node, amount in zip(one.node.tolist(), one.amount, strict=True):
                mine = self._windows.setdefault(node, [])
                mine += [(rank, start, end, amount) for start, end in one.instances]
        order = running.releases()
        order = order[np.argsort(running.node[order], kind="stable")]
        self._first = np.searchsorted(running.node[order], np.arange(nodes.rows + 1))
        self._end = np.maximum(running.end[order], now + 1)
        self._amount = running.amount[order, : len(nodes.dims)]

    def steps(self, rank: int, node: int) -> tuple[list[int], Ints]:
        """Instants, the first of them now, and what the pool has from each on.

        O((instances + allocations on the node)² x R).
        """
        runs = slice(int(self._first[node]), int(self._first[node + 1]))
        instants = {self._now, *self._end[runs].tolist()}
        for _, start, end, _ in self._windows[node]:
            instants |= {start, end}
        times = sorted(when for when in instants if when >= self._now)
        return times, np.stack([self._at(rank, node, runs, when) for when in times])

    def _at(self, rank: int, node: int, runs: slice, when: int) -> Ints:
        """What the pool has at an instant."""
        dims, one = self._nodes.dims, self._kept[rank]
        beyond = one.of.overrun and when >= one.spans[0][1]
        own = any(start <= when < end for start, end in one.spans)
        if not own and not beyond:
            return np.zeros(len(dims), np.int64)
        left = self._nodes.capacity[node, : len(dims)].copy()
        left -= self._amount[runs][self._end[runs] > when].sum(axis=0)
        members = [m for m in self._inside.get(node, ()) if m.start <= when < m.end]
        for member in members:
            left += member.given_back
        kept = left
        for other, start, end, amount in self._windows[node]:
            if start <= when < end and other == rank:
                kept = amount
            ahead = other < rank and not one.shares(self._kept[other])
            if start <= when < end and (beyond or ahead):
                left = left - amount
        if beyond:
            return left
        out = within(kept, left, dims)
        for member in members:
            if member.rank == rank or one.shares(self._kept[member.rank]):
                out = out - member.amount
        return out
