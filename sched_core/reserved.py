"""A pass with reservations: the tables as it is to see them, and its plan in the owner's terms.

Tables are copied and completed (see `reserved_nodes`): rows for the pools of reservations that
somebody wants to be in, partitions of such rows, and for the members' records requests in those. The
pass itself knows of no reservation but for edges, in time, of what is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sched_core import views
from sched_core.codes import VerdictCode
from sched_core.columns import BITS, Ints
from sched_core.jobs import JobTable
from sched_core.nodes import NodeTable
from sched_core.plan_conservative import Promises, Ties
from sched_core.request import Bundle, Request
from sched_core.reservation_table import Kept
from sched_core.reserved_nodes import Changes, Inside, Links, Pools, settle_members, take
from sched_core.running import RunningTable
from sched_core.shapes import ShapeTable

if TYPE_CHECKING:
    from sched_core.plan import Plan

GATE = int(VerdictCode.RESERVATION)


def inner(name: str, reservation: str) -> str:
    """Name of a node, or a partition, within a reservation: no other has it."""
    return f"{name}\0{reservation}"


class Overlay:
    """Copies of the tables for one pass at `now`. The originals are only read.

    O(nodes x R + releases), a few numpy calls and for each instance, and for each node of a
    reservation with members that wait O((instances + allocations)² x R).
    """

    def __init__(
        self,
        nodes: NodeTable,
        shapes: ShapeTable,
        jobs: JobTable,
        running: RunningTable,
        now: int,
    ) -> None:
        self.now = now
        self.kept = jobs.reservations.kept(now)
        running.fit_columns()
        self._real = nodes
        self.nodes = nodes.overlaid()
        self.shapes = shapes.overlaid(self.nodes)
        self.jobs = jobs.overlaid(self.shapes)
        self._owner: list[int] = []
        self._part_of = list(range(len(nodes.partition_names)))
        self._member: dict[int, Kept] = {}
        self._links = Links()
        changes = Changes()
        take(self.kept, self.nodes, changes, now)
        inside = settle_members(self.kept, self.nodes, running, changes, now)
        wanted = self._admit(jobs)
        self._add_pools(running, inside, changes, wanted)
        self._enter_requests()
        self.running = running.overlaid(self.nodes, *changes.columns(len(nodes.dims)))

    def _admit(self, jobs: JobTable) -> set[int]:
        """Gate the records that no reservation is for; gives the ranks of those with members."""
        rank_of = {one.of.name: rank for rank, one in enumerate(self.kept)}
        wanted = set()
        for job_id, (name, _) in jobs.reservations.wanted().items():
            if job_id not in jobs:
                continue
            row = jobs.row(job_id)
            if name in rank_of and jobs.reservations.permits(job_id):
                wanted.add(rank_of[name])
                self._member[row] = self.kept[rank_of[name]]
            elif jobs.gate[row] == 0:
                self.jobs.gate[row] = GATE
                self.jobs.plain[row] = 0
        return wanted

    def _add_pools(
        self, running: RunningTable, inside: Sequence[Inside], changes: Changes, wanted: set[int]
    ) -> None:
        """Add a row for every node of every reservation that has members among the records."""
        if not wanted:
            return
        pools = Pools(self.kept, self._real, running, inside, self.now)
        rows_of: dict[int, list[tuple[Kept, int]]] = {}
        for rank in sorted(wanted):
            one, rows = self.kept[rank], self._add_rows(self.kept[rank])
            for node, row in zip(one.node.tolist(), rows.tolist(), strict=True):
                rows_of.setdefault(node, []).append((one, row))
            place, when, has = pools.steps(rank)
            first = np.flatnonzero(np.diff(place, prepend=-1))
            self.nodes.free[rows[place[first]], : has.shape[1]] = has[first]
            more = np.diff(has, axis=0, prepend=0)
            more[first] = 0
            some = np.flatnonzero(more.any(axis=1))
            changes.add(rows[place[some]], when[some], more[some])
        for node, tied in rows_of.items():
            self._links.tie(node, tied)

    def _add_rows(self, one: Kept) -> Ints:
        """Pools: like their nodes, in partitions of their own, with what is reserved for capacity."""
        nodes, real = self.nodes, self._real
        names = [inner(real.names.text(node), one.of.name) for node in one.node.tolist()]
        rows = np.array([nodes.names.number(name) for name in names], np.int64)
        self._owner += one.node.tolist()
        whole = (one.amount == real.capacity[one.node, : one.amount.shape[1]]).all(axis=1)
        belongs = []
        for part in range(len(real.partition_names)):
            has = (real.partitions[one.node, part // BITS] >> (part % BITS)) & 1 == 1
            if has.any():
                name = inner(real.partition_names.text(part), one.of.name)
                belongs.append((self._part(name, part), has))
                belongs.append((self._part(inner(name, ""), part), has & whole))
        nodes.fit_columns()
        for column in (nodes.features, nodes.use, nodes.weight, nodes.switch):
            column[rows] = column[one.node]
        nodes.capacity[rows, : one.amount.shape[1]] = one.amount
        for number, which in belongs:
            nodes.partitions[rows[which], number // BITS] |= 1 << (number % BITS)
        return rows

    def _part(self, name: str, part: int) -> int:
        """Number of a partition within a reservation, made from a real one."""
        number = self.nodes.partition_names.number(name)
        if number == len(self._part_of):
            self._part_of.append(part)
        return number

    def _enter_requests(self) -> None:
        """Let every member ask within its reservation."""
        made: dict[tuple[int, str], int] = {}
        for row, one in self._member.items():
            key = (int(self.jobs.shape[row]), one.of.name)
            if key not in made:
                request = self._within(self.shapes.request(key[0]), one.of.name)
                made[key] = self.shapes.intern(request)
                self.shapes.retain(made[key])
            self.jobs.shape[row] = made[key]

    def _within(self, request: Request | Bundle, name: str) -> Request | Bundle:
        """A request in terms of the pools, of all its components."""
        if isinstance(request, Bundle):
            inside = tuple(self._inside(part, name) for part in request.components)
            return replace(request, components=inside)
        return self._inside(request, name)

    def _inside(self, request: Request, name: str) -> Request:
        """A request in terms of the pools. Who wants a whole node gets none that is part reserved."""
        parts = []
        for part in request.partitions:
            inside = inner(part, name)
            inside = inner(inside, "") if request.exclusive else inside
            self._part(inside, self._real.partition_names.find(part))
            parts.append(inside)
        return replace(
            request,
            partitions=tuple(parts),
            required=tuple(inner(node, name) for node in request.required),
            excluded=tuple(inner(node, name) for node in request.excluded),
        )

    def promised(self, last: Promises | None) -> Promises | None:
        """Promises of the last pass in terms of the pools."""
        if last is None or not self._member:
            return last
        node, partition = last.node.copy(), last.partition.copy()
        names, parts = self.nodes.names, self.nodes.partition_names
        for i, job_id in enumerate(last.job.tolist()):
            one = self._member.get(self.jobs.row(job_id)) if job_id in self.jobs else None
            if one is None:
                continue
            asked = self.shapes.request(int(self.jobs.shape[self.jobs.row(job_id)]))
            request = asked.components[0] if isinstance(asked, Bundle) else asked
            part = inner(parts.text(int(partition[i])), one.of.name)
            partition[i] = max(parts.find(inner(part, "") if request.exclusive else part), 0)
            for k in range(int(last.ptr[i]), int(last.ptr[i + 1])):
                row = names.find(inner(names.text(int(node[k])), one.of.name))
                node[k] = row if row >= 0 else node[k]
        return replace(last, node=node, partition=partition)

    def ties(self, order: Ints) -> Ties:
        """What ties rows and records beside what is free when."""
        latest = np.full(len(self.jobs.id), views.FAR, np.int64)
        for row, one in self._member.items():
            latest[row] = one.latest
        first = np.zeros(self.nodes.rows, np.int64)
        for row, link in self._links.first.items():
            first[row] = link
        return Ties(latest[order], first, np.array(self._links.rows, np.int64))

    def told(
        self, made: Plan, order: Ints, cluster: views.Cluster, requests: views.Requests
    ) -> Plan:
        """A plan in terms of the owner's tables, with what reservations have to do with it."""
        owner = np.concatenate((np.arange(self._real.rows), np.array(self._owner, np.int64)))
        part_of = np.array(self._part_of, np.int64)
        code = made.code.copy()
        for place in np.flatnonzero(np.isin(order, list(self._member))).tolist():
            row = int(order[place])
            waits = code[place] in (VerdictCode.RESOURCES, VerdictCode.PRIORITY)
            if waits and not self._open(self._member[row], int(self.jobs.duration[row])):
                code[place] = GATE
        return replace(
            made,
            node=owner[made.node],
            head_node=owner[made.head_node],
            start_partition=part_of[made.start_partition],
            head_partition=part_of[made.head_partition],
            code=code,
            reserved=self._reserved(cluster, requests)[self.jobs.shape[order]].astype(np.int32),
        )

    def _open(self, one: Kept, duration: int) -> bool:
        """Whether an instance runs now, and a job of this duration fits into any."""
        now = self.now
        longest = max(end - max(start, now) for start, end in one.spans)
        return one.instances[0][0] <= now and (duration <= longest or one.of.overrun)

    def _reserved(self, cluster: views.Cluster, requests: views.Requests) -> Ints:
        """[s] usable nodes on which a part of each shape would fit, but for what is reserved now.

        O(shapes x kinds of reserved nodes x R).
        """
        dims = len(self._real.dims)
        n = self._real.rows
        taken = np.zeros((n, dims), np.int64)
        for one in self.kept:
            if one.instances[0][0] <= self.now:
                taken[one.node] += one.amount
        some = np.flatnonzero(taken.any(axis=1))
        out = np.zeros(requests.needs.shape[1], np.int64)
        if not len(some):
            return out
        left = self._real.capacity[some, :dims] - taken[some]
        shapes = requests.shapes[:, : len(out)]
        first = requests.needs[views.PER_FIRST]
        classes = np.concatenate((cluster.nodes[views.KIND, some][:, None], left), axis=1)
        found, which, count = np.unique(classes, axis=0, return_inverse=True, return_counts=True)
        which = which.reshape(-1)
        places = dict(zip(some.tolist(), which.tolist(), strict=True))
        excluded = []
        for s in np.flatnonzero(shapes[views.NEXCLUDED]).tolist():
            last = int(shapes[views.LIST_START : views.NREQUIRED + 1, s].sum())
            names = requests.listed[last : last + int(shapes[views.NEXCLUDED, s])].tolist()
            excluded += [(s, places[node]) for node in names if node in places]
        for i, (kind, *amounts) in enumerate(found.tolist()):
            suits = requests.suits[: len(out), kind >> views.SUIT_SHIFT] >> (kind & views.SUIT_MASK)
            short = ((first > 0) & (first > np.array(amounts))).any(axis=1)
            barred = (suits & 1 == 1) & (short | (shapes[views.EXCLUSIVE] != 0))
            out += count[i] * barred
            for s, same in excluded:
                out[s] -= same == i and barred[s]
        return out
