"""Who may do what, selectors, holds, signals, updates."""

from __future__ import annotations

import pytest

from crane.session import SetTimeLimit
from crane.states import JobState
from cranectld.core import commands as cmd
from cranectld.core import query

COMMANDS = [
    cmd.CancelJobs,
    lambda who, what: cmd.CancelJobs(who, what, signal=10),
    cmd.HoldJobs,
    cmd.ReleaseJobs,
    cmd.RequeueJobs,
    lambda who, what: cmd.UpdateJobs(who, what, cmd.JobChanges(comment="mine")),
]


@pytest.mark.parametrize("make", COMMANDS)
def test_only_the_owner_and_operators_change_a_job(s, make):
    job_id = s.submit()
    seq = s.state.seq
    assert s.errors(s.do(make(s.BOB, s.select(job_id, 99)))) == ["NOT_PERMITTED", "UNKNOWN_JOB"]
    assert s.refused(make(s.BOB, cmd.Selector(users=("alice",)))) == "NOT_PERMITTED"
    assert s.do(make(s.BOB, cmd.Selector(everything=True))) == ()
    assert s.do(make(s.BOB, cmd.Selector(names=("job",)))) == ()
    assert s.state.seq == seq
    for who in (s.ALICE, s.OPERATOR, s.ROOT):
        assert "NOT_PERMITTED" not in s.errors(s.do(make(who, s.select(job_id))))


def test_what_only_operators_may(s, submission):
    config = cmd.ApplyConfig(s.ALICE, s.make_config())
    assert s.refused(config) == "NOT_PERMITTED"
    assert s.refused(cmd.ChangeNodes(s.ALICE, ("n1",), "drain", "x")) == "NOT_PERMITTED"
    for spec in ({"priority": 9}, {"nice": -1}):
        reply = s.do(cmd.SubmitJobs(s.ALICE, (submission(**spec),)))
        assert reply[0].code == "NOT_PERMITTED"
        assert isinstance(s.do(cmd.SubmitJobs(s.OPERATOR, (submission(**spec),)))[0], int)
    job_id = s.submit(nice=5)
    for changes in (cmd.JobChanges(priority=1), cmd.JobChanges(nice=4)):
        update = cmd.UpdateJobs(s.ALICE, s.select(job_id), changes)
        assert s.errors(s.do(update)) == ["NOT_PERMITTED"]
    s.do(cmd.UpdateJobs(s.OPERATOR, s.select(job_id), cmd.JobChanges(priority=7)))
    assert s.job(job_id).priority == 7
    s.do(cmd.UpdateJobs(s.ALICE, s.select(job_id), cmd.JobChanges(comment="kept")))
    assert s.job(job_id).priority == 7


def test_filters_select_live_jobs_that_meet_all_kinds(s):
    a = s.submit(name="a")
    b = s.submit(name="b")
    c = s.submit(name="a", who=s.BOB)
    array = s.submit(name="a", array="0-3")
    s.start(array, times=2)
    s.run_through(b, "n2")
    found = s.do(cmd.CancelJobs(s.ROOT, cmd.Selector(names=("a", "b"), users=("alice",))))
    assert [o.subject for o in found] == [str(a), str(array), f"{array}_0", f"{array}_1"]
    assert s.states(a, c) == "CA PD"
    only_running = cmd.Selector(states=(JobState.RUNNING,), everything=True)
    assert s.do(cmd.CancelJobs(s.ROOT, only_running)) == ()
    assert s.do(cmd.CancelJobs(s.ROOT, cmd.Selector())) == ()


def test_filters_on_nodes_and_partitions(s):
    a, b = s.submit(), s.submit(partitions=("short",))
    s.start(a, "n3")
    pick = lambda **kw: [j.job_id for j, _ in query.select(s.state, cmd.Selector(**kw))]  # noqa: E731
    assert pick(nodes=("n3",)) == [a]
    assert pick(partitions=("short",)) == [b]
    assert pick(everything=True) == [a, b]
    assert pick(ids=(cmd.SelectedId(b), cmd.SelectedId(77))) == [b]
    assert [j.job_id for j, _ in query.select(s.state, cmd.Selector(everything=True), a)] == [b]


def test_reading_arrays_by_index_and_expanded(s):
    array = s.submit(array="0-4")
    s.start(array)
    (task_id,) = s.job(array).array.running.values()
    rows = list(query.select(s.state, s.select((array, 0, 2))))
    assert [(j.job_id, p) for j, p in rows] == [(task_id, -1), (array, 1), (array, 2)]
    rows = list(query.select(s.state, cmd.Selector(everything=True), expand=True))
    assert [(j.job_id, p) for j, p in rows] == [
        (array, 1), (array, 2), (array, 3), (array, 4), (task_id, -1)
    ]  # fmt: skip
    assert query.count_states(s.state) == {JobState.PENDING: 4, JobState.RUNNING: 1}


def test_signals_are_orders_and_change_nothing(s):
    job_id, waiting = s.submit(2)
    s.start(job_id, "n2")
    s.drain()
    seq = s.state.seq
    assert s.errors(s.cancel(job_id, waiting, signal=10)) == ["", "CONFLICT"]
    s.do(cmd.CancelJobs(s.ALICE, s.select(job_id), signal=12, batch_only=True))
    s.do(cmd.SignalStep(s.ALICE, job_id, -1, 15))
    sent = [(n, o.signal, o.step) for n, o in s.drain(s.SignalJob)]
    assert sent == [("n2", 10, None), ("n2", 12, -1), ("n2", 15, -1)]
    assert s.state.seq == seq
    assert s.refused(cmd.SignalStep(s.ALICE, job_id, 4, 15)) == "UNKNOWN_STEP"
    assert s.refused(cmd.SignalStep(s.BOB, job_id, -1, 15)) == "NOT_PERMITTED"
    assert s.refused(cmd.SignalStep(s.ALICE, waiting, -1, 15)) == "UNKNOWN_JOB"
    assert s.refused(cmd.CancelJobs(s.ALICE, s.select(job_id), signal=99)) == "BAD_REQUEST"


def test_cancelling_waiting_running_and_ended_jobs(s):
    waiting, running, ended = s.submit(3)
    s.run_through(ended)
    s.start(running)
    s.drain()
    assert s.errors(s.cancel(waiting, running, ended)) == ["", "", "CONFLICT"]
    assert s.states(waiting, running, ended) == "CA CG CD"
    assert [o.job_id for _, o in s.drain(s.EndJob)] == [running]
    assert s.errors(s.cancel(running)) == [""]
    assert s.drain() == []
    s.ended(running, signal=15)
    job = s.job(running)
    assert (job.state, job.signal, job.cancelled_by) == (JobState.CANCELLED, 15, 1001)


def test_an_operators_hold_is_lifted_by_operators_only(s):
    job_id = s.submit()
    s.do(cmd.HoldJobs(s.OPERATOR, s.select(job_id)))
    assert s.errors(s.do(cmd.HoldJobs(s.ALICE, s.select(job_id)))) == [""]
    release = cmd.ReleaseJobs(s.ALICE, s.select(job_id))
    assert s.errors(s.do(release)) == ["NOT_PERMITTED"]
    assert s.start(job_id) == 0
    s.do(cmd.ReleaseJobs(s.OPERATOR, s.select(job_id)))
    assert s.start(job_id) == 1
    assert s.errors(s.do(release)) == ["CONFLICT"]
    assert s.errors(s.do(cmd.HoldJobs(s.ALICE, s.select(job_id)))) == ["CONFLICT"]


def update(s, job_id, who=None, **changes):
    command = cmd.UpdateJobs(who or s.ALICE, s.select(job_id), cmd.JobChanges(**changes))
    (code,) = s.errors(s.do(command))
    return code


def test_updating_a_waiting_job(s):
    job_id = s.submit()
    assert update(s, job_id, partition="short", comment="hi", name="new") == ""
    job = s.job(job_id)
    assert (job.spec.partitions, job.spec.comment, job.submission.name) == (("short",), "hi", "new")
    assert update(s, job_id, time_limit=7200) == "UNSATISFIABLE"
    assert update(s, job_id, partition="nope") == "UNKNOWN_PARTITION"
    assert update(s, job_id, features="gold") == "UNSATISFIABLE"
    assert update(s, job_id, features="a&") == "BAD_REQUEST"
    assert update(s, job_id, array_limit=2) == "BAD_REQUEST"
    assert s.job(job_id).spec.time_limit == 3600
    assert update(s, job_id, features="ib", begin=s.now + 9 * s.NS) == ""
    assert s.start(job_id) == 0
    assert update(s, job_id, begin=0) == ""
    assert s.start(job_id) == 1


def test_updating_a_running_job(s):
    job_id = s.submit(time_limit=600)
    s.start(job_id)
    s.register("n1", [s.key(job_id)])
    assert s.drain(SetTimeLimit) == []
    assert update(s, job_id, partition="short") == "CONFLICT"
    assert update(s, job_id, time_limit=700) == "NOT_PERMITTED"
    assert update(s, job_id, time_limit=300, comment="less") == ""
    ((node, order),) = s.drain(SetTimeLimit)
    assert (node, order.end_time) == ("n1", s.now + 300 * s.NS)
    s.register("n1", [s.key(job_id)])  # it may have missed that
    assert s.drain(SetTimeLimit) == [(node, order)]
    assert update(s, job_id, who=s.OPERATOR, time_limit=-1) == ""
    assert s.job(job_id).run.end_limit == 0
    s.ended(job_id)
    assert update(s, job_id, comment="late") == "CONFLICT"
    assert s.refused(cmd.UpdateJobs(s.ALICE, s.select(job_id), cmd.JobChanges())) == "BAD_REQUEST"
