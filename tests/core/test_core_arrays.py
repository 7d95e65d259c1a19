"""Arrays: columns, limits, ranges, requeue of tasks, the array's own end."""

from __future__ import annotations

from array import array as column

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.arrayspec import indices, normalise
from crane.jobspec import ArraySpec
from crane.states import JobState, Reason
from cranectld.core import arrays, query
from cranectld.core import commands as cmd
from cranectld.core.eligibility import startable
from sched_core.codes import VerdictCode


def test_tasks_start_in_order_under_ids_of_their_own(s):
    array = s.submit(array="10-13")
    assert s.start(array, times=3) == 3
    launches = [order for _, order in s.drain(s.LaunchStep)]
    assert [(o.key.job_id, o.array.index) for o in launches] == [
        (array + 1, 10), (array + 2, 11), (array + 3, 12)
    ]  # fmt: skip
    assert query.subject(s.state, s.job(array + 2)) == f"{array}_11"
    s.ended(array + 2, code=4)
    assert array + 2 not in s.state.jobs
    record = s.job(array).array
    assert (record.state[1], record.exit[1], record.end_time[1]) == (JobState.FAILED, 4, s.now)


def test_the_limit_holds_and_can_be_changed(s):
    array = s.submit(array="0-9%2")
    assert s.start(array, times=5) == 2
    assert startable(s.state, s.job(array)).gate == VerdictCode.ARRAY_LIMIT
    s.ended(s.job(array).array.running[0])
    assert s.start(array, times=5) == 1
    s.do(cmd.UpdateJobs(s.ALICE, s.select(array), cmd.JobChanges(array_limit=4)))
    assert s.start(array, times=5) == 2


def test_an_array_ends_with_its_last_task_as_the_worst_of_them(s):
    array = s.submit(array="0-2")
    s.start(array, times=3)
    tasks = list(s.job(array).array.running.values())
    assert s.states(array) == "R"
    for task_id, code in zip(tasks, (0, 9, 0), strict=True):
        s.ended(task_id, code=code)
    job = s.job(array)
    assert (job.state, job.exit_code, job.end_time) == (JobState.FAILED, 9, s.now)
    assert s.state.live == 0


def test_cancelling_ranges_and_the_whole(s):
    array = s.submit(array="0-9")
    s.start(array, times=2)
    one, two = s.job(array).array.running.values()
    assert s.errors(s.cancel((array, 1, 4))) == [""]
    assert s.states(one, two) == "R CG"
    record = s.job(array).array
    assert record.ended == {JobState.CANCELLED: 3}
    assert s.errors(s.cancel((array, 2, 3), (array, 50, 60))) == ["CONFLICT", "UNKNOWN_JOB"]
    s.released(two, "n1")
    s.cancel(array)
    assert s.states(array) == "R"
    s.released(one, "n1")
    assert s.states(array) == "CA"
    assert s.job(array).array.ended == {JobState.CANCELLED: 10}


def test_tasks_can_be_held_one_by_one(s):
    array = s.submit(array="0-3")
    hold = cmd.HoldJobs(s.ALICE, s.select((array, 0, 1)))
    assert s.errors(s.do(hold)) == [""]
    s.do(cmd.HoldJobs(s.OPERATOR, s.select((array, 1, 1))))
    assert s.start(array, times=4) == 2
    assert list(s.job(array).array.running) == [2, 3]
    assert query.task_reason(s.job(array), 0) is Reason.JOB_HELD_USER
    assert query.task_reason(s.job(array), 1) is Reason.JOB_HELD_ADMIN
    release = cmd.ReleaseJobs(s.ALICE, s.select(array))
    assert s.errors(s.do(release)) == ["NOT_PERMITTED"]
    assert s.errors(s.do(cmd.ReleaseJobs(s.ALICE, s.select((array, 0, 0))))) == [""]
    s.do(cmd.ReleaseJobs(s.OPERATOR, s.select(array)))
    assert s.start(array, times=4) == 2


def test_a_requeued_task_keeps_its_id_and_counts_attempts(s):
    array = s.submit(array="0-1")
    s.start(array)
    (task_id,) = s.job(array).array.running.values()
    assert s.errors(s.do(cmd.RequeueJobs(s.ALICE, s.select((array, 0, 0))))) == [""]
    assert s.drain(s.EndJob)[0][1].job_id == task_id
    s.released(task_id, "n1")
    assert task_id not in s.state.jobs
    assert s.start(array, times=2) == 2
    task = s.job(task_id)
    assert (task.position, task.attempt, task.restarts) == (0, 2, 1)


def test_ended_tasks_can_run_again(s):
    array = s.submit(array="0-2")
    s.start(array, times=3)
    for task_id in list(s.job(array).array.running.values()):
        s.ended(task_id, code=1)
    assert s.errors(s.do(cmd.RequeueJobs(s.ALICE, s.select((array, 1, 1))))) == [""]
    assert s.states(array) == "PD"
    assert s.start(array, times=3) == 1
    s.ended(s.job(array).array.running[1])
    assert s.job(array).array.ended == {JobState.FAILED: 2, JobState.COMPLETED: 1}


def test_a_task_that_runs_again_is_bound_by_the_deadline(s):
    array = s.submit(array="0-1", time_limit=10, deadline=s.now + 100 * s.NS)
    s.start(array, times=2)
    s.ended(s.job(array).array.running[0])
    s.do(cmd.RequeueJobs(s.ALICE, s.select((array, 0, 0))))
    s.wait(91)
    assert s.job(array).array.ended == {JobState.DEADLINE: 1}


def test_a_million_tasks_cost_columns(s):
    s.strict = False
    array = s.submit(array="0-999999")
    s.do(cmd.HoldJobs(s.ALICE, s.select((array, 10, 999999))))
    assert s.start(array, times=4) == 4
    assert startable(s.state, s.job(array)).count == 6
    s.cancel((array, 4, 999999))
    assert s.job(array).array.pending == 0


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_columns_behave_like_a_list_of_tasks(data):
    count = data.draw(st.integers(1, 12))
    record = arrays.new_record(ArraySpec(((0, count - 1, 1),)), count)
    twin = ["free"] * count
    for _ in range(data.draw(st.integers(0, 12))):
        first = data.draw(st.integers(0, count - 1))
        last = data.draw(st.integers(first, count - 1))
        action = data.draw(st.sampled_from(["hold", "release", "end", "start"]))
        span = range(first, last + 1)
        if action == "start":
            position = arrays.next_free(record, first)
            expected = [p for p in range(first, count) if twin[p] == "free"]
            assert position == (expected[0] if expected else -1)
            if position >= 0:
                arrays.start(record, position, 100 + position, 1)
                twin[position] = "run"
        elif action == "end":
            arrays.end_unstarted(record, (first, last), JobState.CANCELLED, 5)
            twin = [
                "over" if p in span and t in ("free", "held") else t for p, t in enumerate(twin)
            ]
        else:
            act, old, new = {
                "hold": (lambda r, x: arrays.hold(r, x, 1), "free", "held"),
                "release": (arrays.release, "held", "free"),
            }[action]
            act(record, (first, last))
            twin = [new if p in span and t == old else t for p, t in enumerate(twin)]
        assert record.free == twin.count("free")
        assert record.held == twin.count("held")
        assert record.pending == twin.count("free") + twin.count("held")
        assert record.end_time == column("q", [5 if t == "over" else 0 for t in twin])
        assert not any(t == "free" for t in twin[: record.cursor])


ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 30), st.integers(1, 7)).map(
        lambda t: (t[0], t[0] + t[1], t[2])
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=150)
@given(ranges, ranges)
def test_positions_of_index_ranges(of_array, named):
    spec = ArraySpec(normalise(of_array))
    all_indices = list(indices(spec))
    record = arrays.new_record(spec, len(all_indices))
    wanted = {i for first, last, step in named for i in range(first, last + 1, step)}
    found = [p for a, b in arrays.spans_of(record, named) for p in range(a, b + 1)]
    assert found == [p for p, index in enumerate(all_indices) if index in wanted]


@pytest.mark.parametrize("text", ["0-3", "1,5,9", "2-20:3"])
def test_unstarted_spans(s, text):
    array = s.submit(array=text)
    assert s.start(array, times=2) == 2
    count = s.job(array).array.count
    assert query.unstarted_spans(s.job(array)) == [(2, count - 1)]
