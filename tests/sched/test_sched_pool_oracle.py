"""One pool of processors: every policy's kernel equals its slow twin, job by job."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.oracle_pool import PoolJob, pool_schedule
from sched_core.oracle_pool_conservative import conservative_schedule
from sched_core.orders import ORDERS, TIME_DEPENDENT
from sched_core.pool import PLANNING, PoolPolicy, new_control, replay

PROCESSORS = 8
QUEUED = [policy for policy in PoolPolicy if policy not in PLANNING]


@st.composite
def pool_jobs(draw: st.DrawFn, overrun: int = 0, most: int = 24) -> list[PoolJob]:
    """Small numbers, so that ties abound; jobs end early, at their estimate, or overrun it."""
    sizes = st.integers(1, PROCESSORS)
    job = st.builds(
        lambda submit, size, estimate, short: PoolJob(
            submit, size, estimate, max(1, estimate + overrun - short)
        ),
        st.integers(0, 20),
        sizes,
        st.integers(1, 9),
        st.integers(0, 9),
    )
    return draw(st.lists(job, min_size=1, max_size=most))


def starts(jobs: list[PoolJob], policy: PoolPolicy, **options: object) -> list[int]:
    columns = np.array([(j.submit, j.processors, j.estimate, j.runtime) for j in jobs]).T
    found = replay(*columns, processors=PROCESSORS, policy=policy, **options)  # type: ignore[arg-type]
    return found.tolist()


@given(jobs=pool_jobs(overrun=2), policy=st.sampled_from(QUEUED))
@settings(deadline=None, max_examples=300)
def test_queue_policies_equal_the_textbook(jobs: list[PoolJob], policy: PoolPolicy) -> None:
    assert starts(jobs, policy) == pool_schedule(jobs, PROCESSORS, policy)


@given(jobs=pool_jobs(), replan=st.booleans())
@settings(deadline=None, max_examples=300)
def test_conservative_policies_equal_the_textbook(jobs: list[PoolJob], replan: bool) -> None:
    policy = PoolPolicy.CONSERVATIVE_REPLAN if replan else PoolPolicy.CONSERVATIVE
    assert starts(jobs, policy) == conservative_schedule(jobs, PROCESSORS, replan=replan)


@given(
    jobs=pool_jobs(overrun=1),
    policy=st.sampled_from(QUEUED),
    order=st.sampled_from(ORDERS),
    depth=st.integers(0, 4),
)
@settings(deadline=None, max_examples=400)
def test_orders_and_depth_equal_the_textbook(
    jobs: list[PoolJob], policy: PoolPolicy, order: str, depth: int
) -> None:
    if policy == PoolPolicy.EASY_SJBF and order in TIME_DEPENDENT:
        order = "saf"
    found = starts(jobs, policy, order=order, depth=depth)
    assert found == pool_schedule(jobs, PROCESSORS, policy, order, depth)


@given(jobs=pool_jobs(), policy=st.sampled_from(list(PoolPolicy)))
@settings(deadline=None, max_examples=100)
def test_no_instant_holds_more_than_the_pool(jobs: list[PoolJob], policy: PoolPolicy) -> None:
    found = starts(jobs, policy)
    for now in found:
        running = [
            j.processors for j, s in zip(jobs, found, strict=True) if s <= now < s + j.runtime
        ]
        assert sum(running) <= PROCESSORS
    assert all(s >= j.submit for j, s in zip(jobs, found, strict=True))


def test_nothing_to_replay_gives_nothing() -> None:
    none = np.zeros(0, np.int64)
    for policy in PoolPolicy:
        assert replay(none, none, none, none, processors=1, policy=policy).tolist() == []


def test_a_replay_can_be_stopped_and_counts_its_starts() -> None:
    one = np.ones(5, np.int64)
    for policy in PoolPolicy:
        control = new_control()
        replay(one, one, one, one, processors=2, policy=policy, control=control)
        assert control[0] == 5
        control = new_control()
        control[1] = 1
        stopped = replay(one, one, one, one, processors=2, policy=policy, control=control)
        assert stopped.tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({1: 9}, {}, "1 to 8 processors"),
        ({1: 0}, {}, "1 to 8 processors"),
        ({0: -1}, {}, "at least 0"),
        ({2: 0}, {}, "at least 1 s"),
        ({3: 0}, {}, "at least 1 s"),
        ({2: 1 << 52}, {}, "too large"),
        ({}, {"order": "lifo"}, "no queue order 'lifo'"),
        ({}, {"depth": -1}, "depth"),
        ({3: 9}, {"policy": PoolPolicy.CONSERVATIVE}, "do not exceed"),
        ({}, {"policy": PoolPolicy.CONSERVATIVE, "order": "sjf"}, "takes no order"),
        ({}, {"policy": PoolPolicy.EASY_SJBF, "order": "wfp3"}, "such as wfp3"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    change: dict[int, int], options: dict[str, object], words: str
) -> None:
    columns = [np.array([value]) for value in (0, 1, 5, 5)]
    for column, value in change.items():
        columns[column] = np.array([value])
    arguments = {"processors": PROCESSORS, "policy": PoolPolicy.EASY} | options
    with pytest.raises(ValueError, match=words):
        replay(*columns, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one length"):
        replay(*columns[:3], np.ones(2), processors=1, policy=PoolPolicy.EASY)  # type: ignore[arg-type]
