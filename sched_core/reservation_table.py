"""ReservationTable: the reservations there are, and which pending jobs want to be in which."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, takewhile

import numpy as np

from sched_core.columns import Ints
from sched_core.names import Dimensions
from sched_core.nodes import NodeTable, NodeUse
from sched_core.reservations import DAY, INSTANT_MAX, Principal, Reservation, meet

RESERVATIONS_MAX = 4096
HORIZON = 14 * DAY
"""Instances are looked at so far ahead (s), and always the next one: recurring ones beyond it keep
no job from being promised a start there until they come nearer."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a reservation keeps, on nodes that exist."""

    of: Reservation
    node: Ints
    """[k] rows."""
    amount: Ints
    """[k, R] on each of them; types of devices are settled."""
    instances: tuple[tuple[int, int], ...]
    """Start and end (s), rising, none of them over."""

    def shares(self, other: Kept) -> bool:
        """Whether both are for the members of both, where they keep the same at the same time."""
        return self.of.overlap or other.of.overlap

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Those of its instances that members may be planned in.

        Where they may run on only the first: what ends it is no edge for them, and so they are kept
        from starting later by an instant (`latest`) instead.
        """
        return self.instances[:1] if self.of.overrun else self.instances

    @property
    def latest(self) -> int:
        """Last second (s) in which a member may start."""
        return self.spans[-1][1] - 1


class ReservationTable:
    """Reservations by name, in the order in which they were made, and who wants to be in them.

    A fold of the administrators' changes. Operations are O(1) but for `set`, which compares a new
    reservation with all others on its nodes.
    """

    def __init__(self, nodes: NodeTable) -> None:
        self.nodes = nodes
        self._made: dict[str, Reservation] = {}
        self._wanted: dict[int, tuple[str, Principal]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def __contains__(self, name: str) -> bool:
        return name in self._made

    def get(self, name: str) -> Reservation | None:
        """The reservation of a name."""
        return self._made.get(name)

    def set(self, reservation: Reservation) -> None:
        """Make a reservation, or put it in the place of the one of its name.

        Raises ValueError, and changes nothing, if it names a node that nobody knows, asks for more
        than a node has, or for what another one has at some time, unless one of both is for
        maintenance or says that it may overlap. O(reservations x nodes of it).
        """
        if reservation.name not in self._made and len(self._made) >= RESERVATIONS_MAX:
            raise ValueError(f"there are {RESERVATIONS_MAX} reservations already; remove some")
        self._check(reservation)
        self._made[reservation.name] = reservation

    def remove(self, name: str) -> None:
        """Forget a reservation: its nodes are for all again. KeyError if there is none."""
        del self._made[name]

    def want(self, job_id: int, name: str, who: Principal) -> None:
        """A pending job is to run in a reservation, if there is one and it may; nowhere else."""
        self._wanted[job_id] = (name, who)

    def forget(self, job_id: int) -> None:
        """A pending job is gone, or does not want to be in a reservation any more."""
        self._wanted.pop(job_id, None)

    def wanted(self) -> dict[int, tuple[str, Principal]]:
        """By job id, the reservation that it named and whose it is. Not to be changed."""
        return self._wanted

    def permits(self, job_id: int) -> bool:
        """Whether there is the reservation that a pending job named, and it may use it."""
        name, who = self._wanted[job_id]
        reservation = self._made.get(name)
        return (
            reservation is not None and not reservation.maintenance and reservation.acl.permits(who)
        )

    def matter(self, now: int) -> bool:
        """Whether a pass at `now` has to heed any. O(reservations)."""
        return bool(self._wanted) or any(
            next(made.instances(now, INSTANT_MAX), None) for made in self._made.values()
        )

    def kept(self, now: int) -> list[Kept]:
        """What is kept from `now` on: maintenance first, then by the order in which it was made.

        O(reservations² + reservations x nodes of them).
        """
        out: list[Kept] = []
        for made in sorted(self._made.values(), key=lambda r: not r.maintenance):
            coming = made.instances(now, INSTANT_MAX)
            instances = tuple(takewhile(lambda one: one[0] < now + HORIZON, coming))
            instances = instances or tuple(islice(made.instances(now, INSTANT_MAX), 1))
            if instances:
                rows = self._rows(made)
                out.append(Kept(made, rows, self._amount(made, rows, out), instances))
        return out

    def _rows(self, made: Reservation) -> Ints:
        found = [self.nodes.names.find(name) for name in made.nodes]
        rows = np.array([row for row in found if row >= 0], np.int64)
        present = np.flatnonzero(self.nodes.use[rows] != NodeUse.ABSENT)
        return rows[present]

    def _amount(self, made: Reservation, rows: Ints, others: list[Kept]) -> Ints:
        """What it keeps on its nodes beside what those made before keep there at the same time."""
        dims = self.nodes.dims
        wanted = np.array(dims.vector(made.cpu, made.memory, made.gres), np.int64)
        self.nodes.fit_columns()
        capacity: Ints = self.nodes.capacity[rows, : len(dims)]
        if made.whole:
            return capacity
        wanted = wanted[: len(dims)]
        left = self._left(made, rows, others)
        scarce = np.flatnonzero((left < wanted).any(axis=1))
        have = left
        have[scarce] = capacity[scarce]
        out = np.minimum(wanted, have)
        for total in np.flatnonzero(wanted[2:]) + 2:
            types = [r for r in range(len(dims)) if dims.parent[r] == total]
            for i in range(len(rows)) if types else ():
                settle(out[i], have[i], int(total), dims)
        return out

    def _left(self, made: Reservation, rows: Ints, others: list[Kept]) -> Ints:
        """What nodes have beside all others that are at the same time and not for maintenance."""
        left = self.nodes.capacity[rows, : len(self.nodes.dims)].copy()
        for other in others:
            if not other.of.maintenance and other.of is not made and meet(made, other.of):
                _, mine, theirs = np.intersect1d(rows, other.node, return_indices=True)
                left[mine] -= other.amount[theirs]
        return left

    def _check(self, made: Reservation) -> None:
        said = f"reservation {made.name}"
        for name in made.nodes:
            row = self.nodes.names.find(name)
            if row < 0 or self.nodes.use[row] == NodeUse.ABSENT:
                raise ValueError(f"{said}: there is no node {name}; name nodes of this cluster")
        rows = self._rows(made)
        dims = self.nodes.dims
        asked = np.array(dims.vector(made.cpu, made.memory, made.gres), np.int64)
        self.nodes.fit_columns()
        capacity = self.nodes.capacity[rows, : len(asked)]
        if (capacity < asked).any():
            row, dim = np.argwhere(capacity < asked)[0].tolist()
            raise ValueError(
                f"{said}: {made.nodes[row]} has {capacity[row, dim]} of {dims.name(dim)},"
                f" less than {asked[dim]}; reserve what every node has, or other nodes"
            )
        if made.maintenance or made.overlap:
            return
        others = [
            other
            for other in self.kept(0)
            if other.of.name != made.name and not other.of.overlap and not other.of.maintenance
        ]
        mine = self._amount(made, rows, others) if not made.whole else capacity[:, : len(dims)]
        short = (self._left(made, rows, others) < mine).any(axis=1)
        if short.any():
            node = made.nodes[int(np.argmax(short))]
            raise ValueError(
                f"{said}: on {node} others keep too much at the same time; choose other nodes or"
                " times, or let it overlap"
            )

    def content(self) -> dict[str, object]:
        """Logical content: reservations in order, and wishes by job id."""
        return {"made": list(self._made.values()), "wanted": dict(self._wanted)}

    def equals(self, other: ReservationTable) -> bool:
        """Whether both tables hold the same."""
        return self.content() == other.content()


def settle(amount: Ints, have: Ints, total: int, dims: Dimensions) -> None:
    """Decide which types the untyped part of an amount takes, as placement does for jobs.

    Devices without a type go first, then the scarcest type that has all that is missing, else the
    widest. O(types²).
    """
    types = [r for r in range(len(dims)) if dims.parent[r] == total]
    missing = int(amount[total] - amount[types].sum())
    missing -= min(missing, max(int(have[total] - have[types].sum()), 0))
    while missing > 0:
        left = {r: int(have[r] - amount[r]) for r in types}
        able = [r for r in types if left[r] >= missing]
        best = min(able, key=left.__getitem__) if able else max(types, key=left.__getitem__)
        take = min(missing, left[best])
        if take <= 0:
            return
        amount[best] += take
        missing -= take
