"""Heterogeneous jobs beside reservations, licences, deadlines and least time limits: what holds."""

from __future__ import annotations

import os
import random
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.reservations import Acl, Principal, Reservation
from sched_core.tables import Bundle, Request, Tables

EXAMPLES = int(os.environ.get("SCHED_EXAMPLES", "60"))
SEEDS = st.integers(0, 2**32)
KINDS = st.sampled_from(list(PolicyKind))
NOW, SOON, LATE = 1000, 1010, 1030
ANN = Principal("ann")


class Site:
    """Four nodes, two of them reserved from SOON to LATE, and a queue; whose records are members."""

    def __init__(self, seed: int, *, reserved: bool) -> None:
        rng = random.Random(seed)
        self.tables = t = Tables()
        for i in range(4):
            t.nodes.set(f"n{i}", cpu=4000, memory=9, partitions=("p", "q") if i % 2 else ("p",))
        t.licences.set("lic", 3)
        self.start = rng.choice([NOW, SOON])
        if reserved:
            one = Reservation("mine", self.start, LATE, ("n1", "n2"), Acl(users=frozenset({"ann"})))
            t.reservations.set(one)
        t.running.add(99, NOW + 8, [0], [[3000]])
        self.requests: dict[int, Request | Bundle] = {}
        self.members: set[int] = set()
        self.deadline: dict[int, int] = {}
        for job_id in range(rng.randint(2, 8)):
            self._add(rng, job_id, reserved)

    def _add(self, rng: random.Random, job_id: int, reserved: bool) -> None:
        t = self.tables
        parts = tuple(
            Request(
                (rng.choice("pq"), "p"),
                cpu_per_task=rng.choice([1000, 2000, 4000]),
                min_nodes=rng.choice([1, 1, 2]),
                licences=rng.choice([(), (), (("lic", 1),)]),
            )
            for _ in range(rng.choice([1, 2, 2, 3]))
        )
        self.requests[job_id] = Bundle(parts, rng.random() < 0.3) if len(parts) > 1 else parts[0]
        duration = rng.choice([5, 10, 20])
        more = {"deadline": NOW + rng.choice([12, 40])} if rng.random() < 0.3 else {}
        self.deadline[job_id] = more.get("deadline", 1 << 40)
        if rng.random() < 0.3:
            more["time_min"] = 3
        shape = t.shapes.intern(self.requests[job_id])
        t.jobs.add(
            job_id, shape, duration=duration, submit=job_id, count=rng.choice([1, 2]), **more
        )
        if reserved and rng.random() < 0.4:
            self.members.add(job_id)
            t.reservations.want(job_id, "mine", ANN)

    def plan(self, kind: PolicyKind) -> Plan:
        t = self.tables
        return plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind), NOW)


def check(site: Site, made: Plan) -> None:
    """All components or none, in time, within what there is, and where the job may be."""
    taken = np.zeros(4, np.int64)
    licences = 0
    for i, (first, end) in enumerate(pairwise(made.start_ptr.tolist())):
        job_id = int(made.start_job[i])
        request = site.requests[job_id]
        parts = request.components if isinstance(request, Bundle) else (request,)
        nodes, component = made.node[first:end], made.component[first:end]
        for number, part in enumerate(parts):
            assert np.count_nonzero(component == number) == part.min_nodes
            licences += sum(count for _, count in part.licences)
        assert len(component) == sum(part.min_nodes for part in parts)
        if isinstance(request, Bundle) and request.apart:
            assert len(set(nodes.tolist())) == len(nodes)
        np.add.at(taken, nodes, made.amount[first:end, 0])
        limit = int(made.start_limit[i])
        assert (made.release[first:end] == NOW + limit).all()
        assert NOW + limit <= site.deadline[job_id]
        if job_id in site.members:
            assert set(nodes.tolist()) <= {1, 2}
        elif NOW + limit > site.start and site.tables.reservations.matter(NOW):
            assert not set(nodes.tolist()) & {1, 2}
    assert (taken <= site.tables.nodes.free[:4, 0]).all()
    assert licences <= 3


@given(seed=SEEDS, kind=KINDS, reserved=st.booleans())
@settings(deadline=None, max_examples=EXAMPLES)
def test_starts_keep_to_all_that_bounds_them(seed: int, kind: PolicyKind, reserved: bool) -> None:
    site = Site(seed, reserved=reserved)
    check(site, site.plan(kind))


@given(seed=SEEDS, kind=KINDS, reserved=st.booleans())
@settings(deadline=None, max_examples=EXAMPLES)
def test_starts_and_promises_together_are_within_what_there_is(
    seed: int, kind: PolicyKind, reserved: bool
) -> None:
    site = Site(seed, reserved=reserved)
    made = site.plan(kind)
    held = [(0, NOW, NOW + 8, 3000)]
    starts = zip(made.node.tolist(), made.release.tolist(), made.amount[:, 0], strict=True)
    held += [(node, NOW, end, int(cpu)) for node, end, cpu in starts]
    some = len(made.head_amount) > 0
    duration = {job_id: int(d) for job_id, d in zip(*jobs_of(site), strict=True)}
    for i, (first, end) in enumerate(pairwise(made.head_ptr.tolist() if some else [0])):
        job_id, start = int(made.head_job[i]), int(made.head_start[i])
        assert start > NOW
        assert start + duration[job_id] <= site.deadline[job_id]
        request = site.requests[job_id]
        parts = request.components if isinstance(request, Bundle) else (request,)
        component = made.head_component[first:end].tolist()
        assert [component.count(n) for n in range(len(parts))] == [p.min_nodes for p in parts]
        rows = zip(made.head_node[first:end].tolist(), made.head_amount[first:end, 0], strict=True)
        held += [(node, start, start + duration[job_id], int(cpu)) for node, cpu in rows]
    for node, when in {(node, start) for node, start, _, _ in held}:
        now = [cpu for n, start, end, cpu in held if n == node and start <= when < end]
        assert sum(now) <= 4000


def jobs_of(site: Site) -> tuple[list[int], list[int]]:
    """Ids and durations of all records."""
    jobs = site.tables.jobs
    ids = list(site.requests)
    return ids, [int(jobs.duration[jobs.row(job_id)]) for job_id in ids]
