"""From submission to the end: one node, gangs, outcomes, time limits, stale reports."""

from __future__ import annotations

import pytest

from crane.jobspec import BATCH_STEP, Gres
from crane.session import EndCause, JobReleased, StepStarted
from crane.states import JobState, Reason
from cranectld.core import commands as cmd


def test_a_job_runs_and_completes(s):
    job_id = s.submit()
    assert s.states(job_id) == "PD"
    assert s.start(job_id, "n2") == 1
    ((node, order),) = s.drain(s.LaunchStep)
    assert (node, order.key.job_id, order.addresses) == ("n2", job_id, ("n2.net",))
    s.started(job_id, "n2")
    assert s.states(job_id) == "R"
    s.now += 5 * s.NS
    s.ended(job_id, "n2")
    job = s.job(job_id)
    assert (job.state, job.exit_code, job.end_time) == (JobState.COMPLETED, 0, s.now)
    assert (job.cpu_us, job.memory_peak) == (1000, 2000)
    assert s.state.nodes["n2"].cpus_used == 0
    assert s.drain() == []


OUTCOMES = [
    ({"code": 3}, JobState.FAILED, Reason.NON_ZERO_EXIT_CODE, 3, 0),
    ({"signal": 11}, JobState.FAILED, Reason.RAISED_SIGNAL, 0, 11),
    ({"cause": EndCause.TIMEOUT, "signal": 15}, JobState.TIMEOUT, Reason.TIME_LIMIT, 0, 15),
    ({"cause": EndCause.OUT_OF_MEMORY}, JobState.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, 0, 0),
    ({"cause": EndCause.CANCELLED}, JobState.CANCELLED, Reason.CANCELLED, 0, 0),
    ({"cause": EndCause.LAUNCH_FAILED}, JobState.FAILED, Reason.JOB_LAUNCH_FAILURE, 1, 0),
]


@pytest.mark.parametrize(("given", "state", "reason", "code", "signal"), OUTCOMES)
def test_the_batch_scripts_end_decides_the_outcome(s, given, state, reason, code, signal):
    job_id = s.submit()
    s.run_through(job_id, **given)
    job = s.job(job_id)
    assert (job.state, job.reason, job.exit_code, job.signal) == (state, reason, code, signal)


def test_a_gang_holds_its_nodes_until_each_has_let_go(s):
    job_id = s.submit(components={"min_nodes": 3})
    assert s.start(job_id, "n1", "n2", "n3") == 1
    assert [node for node, _ in s.drain(s.LaunchStep)] == ["n1"]
    s.ended(job_id, "n1")
    assert s.states(job_id) == "CG"
    assert [(n, o.attempt) for n, o in s.drain(s.EndJob)] == [("n2", 1), ("n3", 1)]
    s.released(job_id, "n2")
    assert s.states(job_id) == "CG"
    s.released(job_id, "n3")
    assert s.states(job_id) == "CD"


def test_a_share_stays_while_the_batch_script_runs_elsewhere(s):
    job_id = s.submit(components={"min_nodes": 2})
    s.start(job_id, "n1", "n2")
    granted = s.do(cmd.CreateStep(s.ALICE, job_id, _request()))
    assert granted.nodes == ("n1", "n2")
    for node in ("n1", "n2"):
        s.report(node, s.end_report(job_id, step=0))
    assert list(s.job(job_id).run.holding) == ["n1", "n2"], (
        "released by a step's end is not the job's"
    )
    s.released(job_id, "n2")
    assert list(s.job(job_id).run.holding) == ["n1", "n2"]


def _request():
    from crane.jobspec import BlobRef
    from crane.session import StepRequest

    return StepRequest(argv=BlobRef(7, 0))


def test_reports_count_once_and_only_for_their_attempt(s):
    job_id = s.submit(components={"min_nodes": 2})
    s.start(job_id, "n1", "n2")
    started = StepStarted(s.key(job_id), s.now, 1)
    end = s.end_report(job_id, code=2)
    s.report("n1", started, started, end, end, JobReleased(job_id, 1), JobReleased(job_id, 1))
    seq = s.state.seq
    s.report("n1", started, end, JobReleased(job_id, 1))
    s.report("n2", JobReleased(job_id, 7), JobReleased(999, 1), started)
    s.report("nobody", JobReleased(job_id, 1))
    assert s.state.seq == seq
    s.released(job_id, "n2")
    assert s.job(job_id).state is JobState.FAILED
    assert s.job(job_id).cpu_us == 1000


def test_an_end_without_a_start_report_is_enough(s):
    job_id = s.submit()
    s.start(job_id)
    s.ended(job_id)
    step = s.job(job_id).last_run.steps[BATCH_STEP]
    assert step.confirmed == {}
    assert s.states(job_id) == "CD"


def test_released_without_any_end_is_a_failure_of_the_node(s):
    job_id = s.submit(requeue=False)
    s.start(job_id)
    s.released(job_id, "n1")
    assert s.states(job_id) == "NF"


def test_time_limits_come_from_job_partition_and_deadline(s):
    plain, short = s.submit(), s.submit(partitions=("short",))
    limited = s.submit(time_limit=60)
    dead = s.submit(time_limit=600, deadline=s.now + 700 * s.NS)
    s.now += 100 * s.NS
    for job_id in (plain, short, limited, dead):
        s.start(job_id)
    left = [s.job(i).run.end_limit and (s.job(i).run.end_limit - s.now) // s.NS
            for i in (plain, short, limited, dead)]  # fmt: skip
    assert left == [0, 3600, 60, 600]
    s.ended(dead, cause=EndCause.TIMEOUT)
    assert s.states(dead) == "DL"


def test_a_job_that_cannot_meet_its_deadline_any_more_is_ended(s):
    job_id = s.submit(time_limit=60, deadline=s.now + 100 * s.NS)
    array = s.submit(time_limit=60, deadline=s.now + 100 * s.NS, array="0-3")
    s.start(array, times=2)
    s.wait(39)
    assert s.states(job_id, array) == "PD PD"
    s.wait(2)
    assert s.states(job_id, array) == "DL R"
    assert s.job(array).array.ended == {JobState.DEADLINE: 2}


def test_device_slots_are_granted_once_lowest_first(s):
    one, two, three = s.submit(3, components={"gres": (Gres("gpu", "a100", 1),)})
    for job_id in (one, two):
        assert s.start(job_id, slots=[("gpu", "a100", 1)]) == 1
    assert [s.job(i).run.shares[0].slots[0].indices for i in (one, two)] == [(0,), (1,)]
    assert s.start(three, slots=[("gpu", "a100", 1)]) == 0
    s.ended(one)
    assert s.start(three, slots=[("gpu", "", 1)]) == 1
    assert s.job(three).run.shares[0].slots[0].indices == (0,)


def test_ended_jobs_are_forgotten_after_a_while(s):
    first, second = s.submit(2)
    s.run_through(first)
    s.wait(200)
    s.run_through(second)
    s.wait(150)
    assert list(s.state.jobs) == [second]
    s.wait(200)
    assert s.state.jobs == {}
    assert s.state.live == 0


def test_a_plan_is_checked_against_the_present(s):
    ids = s.submit(6)
    assert [s.start(i) for i in ids] == [1, 1, 1, 1, 0, 0], "four CPUs"
    assert s.start(ids[0]) == 0, "runs already"
    s.ended(ids[0])
    exclusive = s.submit(components={"exclusive": True})
    assert s.start(exclusive) == 0
    assert s.start(exclusive, "n2", cpus=4000) == 1
    assert s.start(ids[4], "n2") == 0, "the node is another's"
    assert s.start(ids[4], "n9") == 0
    s.do(cmd.ChangeNodes(s.ROOT, ("n3",), "drain", "disk"))
    assert s.start(ids[4], "n3") == 0
    held = s.submit(hold=True)
    later = s.submit(begin=s.now + s.NS)
    assert (s.start(held), s.start(later)) == (0, 0)
    s.now += s.NS
    assert s.start(later) == 1


def test_starts_of_one_plan_see_each_other(s):
    ids = s.submit(6)
    share = _shares(4000)
    plan = cmd.CommitPlan(tuple(cmd.PlannedStart(i, share) for i in ids))
    assert s.do(plan) == 1


def _shares(cpus):
    from crane.session import NodeShare

    return (NodeShare("n1", cpus),)
