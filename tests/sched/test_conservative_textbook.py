"""One pool of processors: starts of conservative backfilling equal the textbook's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.oracle_pool import PoolJob
from sched_core.oracle_textbook import conservative_schedule
from sched_core.plan import Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.tables import Request, Tables

PROCESSORS = 8


@st.composite
def pool_jobs(draw: st.DrawFn) -> list[PoolJob]:
    jobs = []
    for _ in range(draw(st.integers(1, 14))):
        estimate = draw(st.integers(1, 12))
        runtime = draw(st.integers(1, estimate))
        size = draw(st.integers(1, PROCESSORS))
        jobs.append(PoolJob(draw(st.integers(0, 12)), size, estimate, runtime))
    return jobs


def replay(jobs: list[PoolJob], kind: PolicyKind, nodes: int) -> list[int]:
    """Run the core event by event: all ends, then all submissions, then one pass."""
    tables = Tables()
    for i in range(nodes):
        cpu = PROCESSORS // nodes * 1000
        tables.nodes.set(f"n{i}", cpu=cpu, memory=0, partitions=("pool",))
    starts = [-1] * len(jobs)
    queue = sorted(range(len(jobs)), key=lambda i: (jobs[i].submit, i))
    rank = {i: place for place, i in enumerate(queue)}
    ends: dict[int, int] = {}
    last: Promises | None = None
    due: list[int] = []
    while queue or ends or len(tables.jobs):
        now = min([*ends.values(), *due, *(jobs[i].submit for i in queue[:1])])
        ended = [i for i, end in ends.items() if end <= now]
        for i in ended:
            tables.running.remove(i)
            del ends[i]
        while queue and jobs[queue[0]].submit <= now:
            i = queue.pop(0)
            size = jobs[i].processors
            single = Request(partitions=("pool",), cpu_per_node=size * 1000, min_nodes=1)
            many = Request(partitions=("pool",), cpu_per_task=1000, min_nodes=size)
            shape = tables.shapes.intern(single if nodes == 1 else many)
            tables.jobs.add(i, shape, duration=jobs[i].estimate, submit=rank[i])
        parts = (tables.nodes, tables.shapes, tables.jobs, tables.running)
        if last is not None:
            last = replace(last, freed=bool(ended))
        made = plan(*parts, Policy(kind=kind), now, promises=last)
        last, due = Promises.of(made), made.head_start.tolist()
        for k, i in enumerate(made.start_job.tolist()):
            rows = slice(int(made.start_ptr[k]), int(made.start_ptr[k + 1]))
            tables.jobs.remove(i)
            tables.running.add(i, now + jobs[i].estimate, made.node[rows], made.amount[rows])
            starts[i] = now
            ends[i] = now + jobs[i].runtime
    return starts


@pytest.mark.parametrize("compress", [True, False])
@given(jobs=pool_jobs())
@settings(deadline=None, max_examples=60)
def test_conservative_on_one_node_equals_the_textbook(compress: bool, jobs: list[PoolJob]) -> None:
    kind = PolicyKind.CONSERVATIVE if compress else PolicyKind.CONSERVATIVE_REPLAN
    assert replay(jobs, kind, 1) == conservative_schedule(jobs, PROCESSORS, compress)
