"""`learned` on one pool: every start equals the definition's, and no promise is ever broken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sched_core.learned import ALWAYS, THRESHOLD, Learned, replay
from sched_core.oracle_learned import UserJob, learned_schedule

PROCESSORS = 6
THRESHOLDS = [ALWAYS, 500, 2000, THRESHOLD]


def run_kernel(jobs: list[UserJob], threshold: int) -> Learned:
    columns = np.array(
        [(j.submit, j.processors, j.estimate, j.runtime, j.user) for j in jobs], np.int64
    ).T
    submit, procs, estimate, run, user = columns.reshape(5, -1)
    return replay(submit, procs, estimate, run, user, processors=PROCESSORS, threshold=threshold)


@st.composite
def workloads(draw: st.DrawFn, overrun: int = 0) -> list[UserJob]:
    jobs = []
    for _ in range(draw(st.integers(0, 16))):
        # Few limits, so that kinds repeat; runtimes that differ, so that there is much to learn.
        estimate = draw(st.sampled_from([5, 60, 200, 900]))
        runtime = draw(st.integers(1, estimate + overrun))
        submit, size = draw(st.integers(0, 300)), draw(st.integers(1, PROCESSORS))
        jobs.append(UserJob(submit, size, estimate, runtime, draw(st.integers(1, 3))))
    return sorted(jobs, key=lambda job: job.submit)


TOGETHER = [UserJob(0, 1, 60, 9, 1), UserJob(3, 1, 60, 6, 1), *[UserJob(4, 6, 60, 5, 1)] * 2]
"""Two jobs of one kind end together: the order in which they are learnt from matters."""


@given(jobs=workloads(), threshold=st.sampled_from(THRESHOLDS))
@example(jobs=TOGETHER, threshold=ALWAYS)
@settings(deadline=None, max_examples=150)
def test_every_start_is_the_definitions_and_no_promise_is_broken(
    jobs: list[UserJob], threshold: int
) -> None:
    found = run_kernel(jobs, threshold)
    starts, promises = learned_schedule(jobs, PROCESSORS, threshold)
    assert found.start.tolist() == starts
    assert found.promises == len(promises)
    assert found.broken == 0
    assert all(starts[i] <= when for i, when in promises.items())


@given(jobs=workloads(overrun=300), threshold=st.sampled_from(THRESHOLDS))
@settings(deadline=None, max_examples=100)
def test_promises_broken_by_jobs_past_their_limits_are_counted(
    jobs: list[UserJob], threshold: int
) -> None:
    found = run_kernel(jobs, threshold)
    starts, promises = learned_schedule(jobs, PROCESSORS, threshold)
    late = [starts[i] - when for i, when in promises.items() if starts[i] > when]
    assert found.start.tolist() == starts
    assert (found.broken, found.latest) == (len(late), max(late, default=0))


@given(jobs=workloads(), threshold=st.sampled_from(THRESHOLDS))
@settings(deadline=None, max_examples=60)
def test_the_pool_is_never_oversubscribed(jobs: list[UserJob], threshold: int) -> None:
    starts = run_kernel(jobs, threshold).start.tolist()
    for now in starts:
        running = [j for j, begun in zip(jobs, starts, strict=True) if begun <= now]
        begun = {id(j): b for j, b in zip(jobs, starts, strict=True)}
        sizes = [j.processors for j in running if begun[id(j)] + j.runtime > now]
        assert sum(sizes) <= PROCESSORS
    assert all(begun >= job.submit for job, begun in zip(jobs, starts, strict=True))


def test_what_runs_on_teaches_nothing_but_that_it_is_longer() -> None:
    """The future of a running job is not known: schedules agree until runtimes can tell."""
    long = [UserJob(0, 3, 900, 800, 1), UserJob(1, 5, 900, 20, 1), UserJob(2, 3, 60, 30, 1)]
    short = [UserJob(0, 3, 900, 500, 1), *long[1:]]
    for threshold in THRESHOLDS:
        a, b = run_kernel(long, threshold).start, run_kernel(short, threshold).start
        assert a[2] == b[2] == 2


def test_a_user_whose_jobs_prove_short_goes_first() -> None:
    """Same limits and sizes; user 2's jobs have ended early before."""
    history = [UserJob(0, 1, 900, 850, 1), UserJob(0, 1, 900, 10, 2)]
    both = [
        UserJob(1000, 6, 900, 100, 3),
        UserJob(1001, 6, 900, 850, 1),
        UserJob(1002, 6, 900, 10, 2),
    ]
    start = run_kernel([*history, *both], THRESHOLD).start
    assert start[4] < start[3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"procs": [7]}, "1 to 6 processors"),
        ({"run": [0]}, "at least 1 s"),
        ({"user": [1, 2]}, "one length"),
        ({"threshold": -1}, "threshold"),
        ({"estimate": [1 << 55]}, "too large"),
    ],
)
def test_bad_workloads_are_refused(change: dict[str, object], message: str) -> None:
    given_: dict[str, object] = {
        "submit": [0],
        "procs": [1],
        "estimate": [9],
        "run": [9],
        "user": [1],
    } | change
    columns = {k: np.array(c, np.int64) for k, c in given_.items() if k != "threshold"}
    threshold = change.get("threshold", THRESHOLD)
    assert isinstance(threshold, int)
    with pytest.raises(ValueError, match=message):
        replay(**columns, processors=PROCESSORS, threshold=threshold)
