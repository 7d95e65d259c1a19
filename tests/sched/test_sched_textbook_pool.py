"""One pool of processors: the general pass starts what the textbook says, for FCFS and EASY."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sched_core import pool
from sched_core.oracle_pool import PoolJob, pool_schedule
from sched_core.plan import Policy, PolicyKind, plan
from sched_core.pool import PoolPolicy
from sched_core.tables import Request, Tables

PROCESSORS = 8


@st.composite
def pool_jobs(draw: st.DrawFn) -> list[PoolJob]:
    jobs = []
    for _ in range(draw(st.integers(1, 14))):
        estimate = draw(st.integers(1, 12))
        # Shorter than, equal to and (unlike in real traces) longer than the estimate.
        runtime = draw(st.integers(1, estimate + 3))
        size = draw(st.integers(1, PROCESSORS))
        jobs.append(PoolJob(draw(st.integers(0, 12)), size, estimate, runtime))
    return jobs


def replay(jobs: list[PoolJob], kind: PolicyKind, nodes: int) -> tuple[list[int], dict[int, int]]:
    """Run the core event by event: all ends, then all submissions, then one pass.

    Gives the start of each job, and the first promise made to each that was ever head.
    """
    tables = Tables()
    for i in range(nodes):
        cpu = PROCESSORS // nodes * 1000
        tables.nodes.set(f"n{i}", cpu=cpu, memory=0, partitions=("pool",))
    starts, promises = [-1] * len(jobs), dict[int, int]()
    queue = sorted(range(len(jobs)), key=lambda i: (jobs[i].submit, i))
    rank = {i: place for place, i in enumerate(queue)}
    ends: dict[int, int] = {}
    while queue or ends:
        now = min([*ends.values(), *(jobs[i].submit for i in queue[:1])])
        for i in [i for i, end in ends.items() if end <= now]:
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
        made = plan(*parts, Policy(kind=kind), now)
        for head, when in zip(made.head_job.tolist(), made.head_start.tolist(), strict=True):
            promises.setdefault(head, when)
        for k, i in enumerate(made.start_job.tolist()):
            rows = slice(int(made.start_ptr[k]), int(made.start_ptr[k + 1]))
            tables.jobs.remove(i)
            tables.running.add(i, now + jobs[i].estimate, made.node[rows], made.amount[rows])
            starts[i] = now
            ends[i] = now + jobs[i].runtime
    return starts, promises


SHORT_BEHIND_LONG = [
    PoolJob(0, 1, 1, 1),
    PoolJob(0, 1, 1, 1),
    PoolJob(0, 4, 1, 1),
    PoolJob(1, 3, 2, 1),
    PoolJob(0, 3, 1, 1),
    PoolJob(0, 1, 1, 1),
    PoolJob(0, 1, 1, 1),
    PoolJob(1, 3, 1, 1),
    PoolJob(0, 6, 1, 1),
]
"""A short job behind a long one of the same shape that the promise keeps off the only node."""


@given(jobs=pool_jobs())
@example(jobs=SHORT_BEHIND_LONG)
@settings(deadline=None, max_examples=60)
def test_easy_on_one_node_equals_the_textbook(jobs: list[PoolJob]) -> None:
    assert replay(jobs, PolicyKind.EASY, 1)[0] == pool_schedule(jobs, PROCESSORS, "easy")


@given(jobs=pool_jobs())
@settings(deadline=None, max_examples=60)
def test_easy_on_single_processor_nodes_equals_the_textbook(jobs: list[PoolJob]) -> None:
    assert replay(jobs, PolicyKind.EASY, PROCESSORS)[0] == pool_schedule(jobs, PROCESSORS, "easy")


@given(jobs=pool_jobs())
@settings(deadline=None, max_examples=40)
def test_fifo_equals_the_textbook(jobs: list[PoolJob]) -> None:
    assert replay(jobs, PolicyKind.FIFO, 1)[0] == pool_schedule(jobs, PROCESSORS, "fcfs")


@given(jobs=pool_jobs(), nodes=st.sampled_from([1, PROCESSORS]), fifo=st.booleans())
@settings(deadline=None, max_examples=80)
def test_the_general_pass_equals_the_kernels_of_a_pool(
    jobs: list[PoolJob], nodes: int, fifo: bool
) -> None:
    columns = np.array([(j.submit, j.processors, j.estimate, j.runtime) for j in jobs]).T
    policy = PoolPolicy.FCFS if fifo else PoolPolicy.EASY
    kernel = pool.replay(*columns, processors=PROCESSORS, policy=policy)
    kind = PolicyKind.FIFO if fifo else PolicyKind.EASY
    assert replay(jobs, kind, nodes)[0] == kernel.tolist()


@given(jobs=pool_jobs(), nodes=st.sampled_from([1, 2, 8]))
@settings(deadline=None, max_examples=60)
def test_with_honest_estimates_every_promise_is_kept(jobs: list[PoolJob], nodes: int) -> None:
    honest = [PoolJob(j.submit, j.processors, j.estimate, min(j.runtime, j.estimate)) for j in jobs]
    if nodes == 2:
        honest = [PoolJob(j.submit, 1 + j.processors // 8, j.estimate, j.runtime) for j in honest]
    starts, promises = replay(honest, PolicyKind.EASY, nodes)
    assert all(starts[i] <= when for i, when in promises.items())
