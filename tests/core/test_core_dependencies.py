"""Dependencies: every kind, on jobs, arrays and tasks, live, ended and long gone."""

from __future__ import annotations

import pytest

from crane.states import JobState, Reason
from cranectld.core import commands as cmd
from cranectld.core.eligibility import startable
from sched_core.codes import VerdictCode

OPEN, WAITS, NEVER = 0, VerdictCode.DEPENDENCY, VerdictCode.DEPENDENCY_NEVER_SATISFIED


def gate(s, job_id):
    return startable(s.state, s.job(job_id)).gate


def _nothing(s, job_id):
    pass


def _start(s, job_id):
    s.start(job_id)


def _complete(s, job_id):
    s.run_through(job_id)


def _fail(s, job_id):
    s.run_through(job_id, code=1)


def _cancel(s, job_id):
    s.cancel(job_id)


TABLE = [
    # kind       nothing start   complete fail   cancel
    ("after", (WAITS, OPEN, OPEN, OPEN, OPEN)),
    ("afterany", (WAITS, WAITS, OPEN, OPEN, OPEN)),
    ("afterok", (WAITS, WAITS, OPEN, NEVER, NEVER)),
    ("afternotok", (WAITS, WAITS, NEVER, OPEN, OPEN)),
    ("aftercorr", (WAITS, WAITS, OPEN, NEVER, NEVER)),
]
FATES = (_nothing, _start, _complete, _fail, _cancel)
CASES = [(kind, fate, gates[i]) for kind, gates in TABLE for i, fate in enumerate(FATES)]


@pytest.mark.parametrize(("kind", "fate", "expected"), CASES)
def test_a_dependency_on_a_job(s, kind, fate, expected):
    first = s.submit()
    second = s.submit(after=f"{kind}:{first}")
    fate(s, first)
    assert gate(s, second) == expected
    assert (s.job(second).reason is Reason.DEPENDENCY_NEVER_SATISFIED) == (expected == NEVER)
    assert s.start(second, "n2") == (expected == OPEN)


@pytest.mark.parametrize(("kind", "fate", "expected"), CASES)
def test_a_dependency_on_a_job_in_the_past_of_its_submission(s, kind, fate, expected):
    first = s.submit()
    fate(s, first)
    assert gate(s, s.submit(after=f"{kind}:{first}")) == expected


@pytest.mark.parametrize(("kind", "fate", "expected"), CASES)
def test_a_dependency_on_a_whole_array(s, kind, fate, expected):
    array = s.submit(array="0-1")
    second = s.submit(after=f"{kind}:{array}")
    if fate is _start:
        s.start(array)
        assert gate(s, second) == WAITS, "one task of two"
        s.start(array)
    elif fate is _cancel:
        s.cancel(array)
    elif fate is not _nothing:
        for code in (0, 1 if fate is _fail else 0):
            s.start(array)
            ((_, task_id),) = s.job(array).array.running.items()
            assert gate(s, second) == WAITS or kind == "after"
            s.ended(task_id, code=code)
    assert gate(s, second) == expected


@pytest.mark.parametrize(("kind", "fate", "expected"), CASES)
def test_a_dependency_on_one_task(s, kind, fate, expected):
    array = s.submit(array="5-9")
    second = s.submit(after=f"{kind}:{array}_5")
    if fate is _cancel:
        s.cancel((array, 5, 5))
    elif fate is not _nothing:
        s.start(array)
        if fate is not _start:
            s.ended(s.job(array).array.running[0], code=int(fate is _fail))
    assert gate(s, second) == expected


PAST = [
    ("afterok", JobState.COMPLETED, OPEN),
    ("afterok", JobState.FAILED, NEVER),
    ("afternotok", JobState.TIMEOUT, OPEN),
    ("afterany", JobState.CANCELLED, OPEN),
    ("aftercorr", JobState.COMPLETED, OPEN),
]


@pytest.mark.parametrize(("kind", "state", "expected"), PAST)
def test_a_dependency_on_a_job_that_has_left_memory(s, submission, kind, state, expected):
    past = (cmd.PastJob(77, -1, state, 0, s.START, s.START),)
    job = submission(after=f"{kind}:77")
    (job_id,) = s.do(cmd.SubmitJobs(s.ALICE, (job,), past))
    assert gate(s, job_id) == expected


def test_a_dependency_on_nothing_is_refused(s, submission):
    array = s.submit(array="0-3")
    jobs = tuple(
        submission(after=text)
        for text in (
            f"afterok:{array}_4",
            "afterok:99",
            f"afterok:{array + 1}",
            f"afterok:{array}_3",
        )
    )
    reply = s.do(cmd.SubmitJobs(s.ALICE, jobs))
    assert [getattr(r, "code", "ok") for r in reply] == ["BAD_DEPENDENCY"] * 3 + ["ok"]
    plain = s.submit()
    assert s.do(cmd.SubmitJobs(s.ALICE, (submission(after=f"afterok:{plain}_0"),)))[0].code == (
        "BAD_DEPENDENCY"
    )


def test_all_of_and_any_of(s):
    a, b = s.submit(2)
    both = s.submit(after=f"afterok:{a}:{b}")
    either = s.submit(after=f"afterok:{a}?afterok:{b}")
    _fail(s, a)
    assert (gate(s, both), gate(s, either)) == (NEVER, WAITS)
    _complete(s, b)
    assert (gate(s, both), gate(s, either)) == (NEVER, OPEN)
    c, d = s.submit(2)
    hopeless = s.submit(after=f"afterok:{c}?afternotok:{d}")
    _fail(s, c)
    _complete(s, d)
    assert gate(s, hopeless) == NEVER


def test_after_counts_its_delay_from_the_start(s):
    first = s.submit()
    second = s.submit(after=f"after:{first}+2")
    s.now += 7 * s.NS
    s.start(first)
    assert gate(s, second) == OPEN
    assert s.job(second).eligible_time == s.now + 120 * s.NS
    assert s.start(second, "n2") == 0
    s.now += 120 * s.NS
    assert s.start(second, "n2") == 1


def test_a_requeued_job_gives_hope_again(s):
    first = s.submit()
    second = s.submit(after=f"afterok:{first}")
    _fail(s, first)
    assert gate(s, second) == NEVER
    s.do(cmd.RequeueJobs(s.ALICE, s.select(first)))
    assert gate(s, second) == WAITS
    _complete(s, first)
    assert gate(s, second) == OPEN


def test_forgetting_a_job_leaves_what_it_came_to(s):
    first = s.submit()
    never, ok = s.submit(after=f"afterok:{first}"), s.submit(after=f"afternotok:{first}")
    _fail(s, first)
    s.wait(400)
    assert first not in s.state.jobs
    assert (gate(s, never), gate(s, ok)) == (NEVER, OPEN)
    s.cancel(never)
    assert s.state.dependents == {}


def run_task(s, array, code=0):
    """Start the next task of an array and end it."""
    s.start(array)
    task_id = list(s.job(array).array.running.values())[-1]
    s.ended(task_id, code=code)


def test_aftercorr_frees_task_by_task(s):
    first = s.submit(array="0-3")
    second = s.submit(array="0-3", after=f"aftercorr:{first}")
    assert (gate(s, second), s.start(second)) == (WAITS, 0)
    run_task(s, first)
    run_task(s, first, code=1)
    assert startable(s.state, s.job(second)).count == 1
    assert s.start(second, times=3) == 1
    assert list(s.job(second).array.running) == [0]
    run_task(s, first)
    run_task(s, first)
    assert startable(s.state, s.job(second)).count == 2
    assert s.start(second, times=3) == 2
    assert gate(s, second) == NEVER, "what is left is the counterpart of the task that failed"
    assert s.job(second).unmet is None


def test_aftercorr_on_an_array_that_has_ended(s):
    first = s.submit(array="1,3,5")
    for code in (0, 1, 0):
        run_task(s, first, code)
    second = s.submit(array="1-5:2", after=f"aftercorr:{first}")
    assert startable(s.state, s.job(second)).count == 2


def test_aftercorr_on_two_arrays_needs_both(s):
    a, b = s.submit(array="0-2"), s.submit(array="0-2")
    both = s.submit(array="0-2", after=f"aftercorr:{a}:{b}")
    either = s.submit(array="0-2", after=f"aftercorr:{a}?aftercorr:{b}")
    run_task(s, a)
    assert (gate(s, both), startable(s.state, s.job(either)).count) == (WAITS, 1)
    run_task(s, b)
    assert startable(s.state, s.job(both)).count == 1
    s.cancel(a)
    run_task(s, b)
    assert startable(s.state, s.job(both)).count == 1
    assert startable(s.state, s.job(either)).count == 2


def test_aftercorr_needs_the_same_indices(s, submission):
    first = s.submit(array="0-3")
    job = submission(array="2-5", after=f"aftercorr:{first}")
    assert s.do(cmd.SubmitJobs(s.ALICE, (job,)))[0].code == "BAD_DEPENDENCY"


def test_aftercorr_follows_a_cancelled_range_and_a_requeue(s):
    first = s.submit(array="0-199")
    second = s.submit(array="0-199", after=f"aftercorr:{first}")
    s.cancel((first, 0, 99))
    run_task(s, first)
    assert startable(s.state, s.job(second)).count == 1
    s.cancel((first, 101, 199))
    assert s.states(first) == "CA"
    assert s.start(second) == 1
    assert gate(s, second) == NEVER
    s.do(cmd.RequeueJobs(s.ALICE, s.select((first, 0, 1))))
    assert s.states(first) == "PD"


def test_singleton_lets_one_of_a_name_run(s):
    plain = s.submit(name="nightly")
    one, two = s.submit(2, name="nightly", after="singleton")
    other = s.submit(name="nightly", after="singleton", who=s.BOB)
    free = s.submit(name="weekly", after="singleton")
    assert [gate(s, i) for i in (one, two, other, free)] == [WAITS, WAITS, OPEN, OPEN]
    _complete(s, plain)
    assert [gate(s, i) for i in (one, two)] == [OPEN, WAITS]
    s.start(one)
    assert gate(s, two) == WAITS
    s.ended(one, code=1)
    assert gate(s, two) == OPEN


def test_singleton_follows_names(s):
    one = s.submit(name="a")
    two = s.submit(name="a", after="singleton")
    s.do(cmd.UpdateJobs(s.ALICE, s.select(one), cmd.JobChanges(name="b")))
    assert gate(s, two) == OPEN
    s.cancel(one, two)
    assert s.state.singletons == {}


def test_a_singleton_that_is_renamed_waits_for_its_new_name(s):
    s.submit(name="a")
    s.submit(name="b")
    moved = s.submit(name="a", after="singleton")
    for name, expected in (("b", WAITS), ("c", OPEN), ("a", OPEN)):
        s.do(cmd.UpdateJobs(s.ALICE, s.select(moved), cmd.JobChanges(name=name)))
        assert gate(s, moved) == expected, name


def test_a_dependency_on_the_own_id_of_a_task_is_one_on_the_task(s):
    array = s.submit(array="4-5")
    s.start(array)
    raw = s.job(array).array.running[0]
    second = s.submit(after=f"afterok:{raw}")
    assert s.job(second).submission.dependency.terms[0].task == 4
    s.ended(raw)
    assert gate(s, second) == OPEN


def test_dependencies_can_be_changed_but_not_into_a_circle(s):
    a, b = s.submit(2)
    c = s.submit(after=f"afterok:{a}")

    def change(job_id, text):
        from crane.dependency import parse
        from crane.jobspec import Dependency

        given = parse(text) if text else Dependency(())
        changes = cmd.JobChanges(dependency=given)
        return s.errors(s.do(cmd.UpdateJobs(s.ALICE, s.select(job_id), changes)))

    assert change(a, f"afterok:{c}") == ["BAD_DEPENDENCY"]
    assert change(a, f"afterok:{a}") == ["BAD_DEPENDENCY"]
    assert change(c, f"afterok:{b}") == [""]
    _complete(s, b)
    assert gate(s, c) == OPEN
    assert change(c, f"afterok:{a}") == [""]
    assert gate(s, c) == WAITS
    assert change(c, "") == [""]
    assert gate(s, c) == OPEN
