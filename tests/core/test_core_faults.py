"""Nodes that fall silent, come back, reboot or are declared absent; requeue and its limits."""

from __future__ import annotations

import pytest

from crane.config.model import Limits, Timeouts
from crane.session import EndCause
from crane.states import JobState, NodeState, Reason
from cranectld.core import commands as cmd
from cranectld.core import explain, query
from cranectld.core.contact import ContactBook


@pytest.fixture
def k(scenario):
    """A cluster whose agents kill on lost contact."""
    timeouts = Timeouts(lost_contact="kill", lease=60, kill_grace=5)
    return scenario(scenario.make_config(timeouts=timeouts))


def running(s, *nodes, **given):
    nodes = nodes or ("n1",)
    job_id = s.submit(components={"min_nodes": len(nodes)}, **given)
    assert s.start(job_id, *nodes) == 1
    s.started(job_id, nodes[0])
    s.drain()
    return job_id


def test_a_silent_node_is_down_and_its_jobs_are_in_doubt(s):
    job_id = running(s)
    s.silent("n1")
    node = s.state.nodes["n1"]
    assert (query.node_word(node), node.reason) == ("down", "Not responding")
    assert s.states(job_id) == "R"
    assert s.job(job_id).run.fences == {"n1": 0}
    s.wait(100_000)
    assert s.states(job_id) == "R", "nobody knows that its processes are dead"


def test_the_node_comes_back_with_its_job_and_the_job_is_adopted(s):
    job_id = running(s)
    s.silent("n1")
    s.register("n1", [s.key(job_id)])
    assert s.state.nodes["n1"].usable
    assert s.job(job_id).run.fences == {}
    assert s.drain(s.EndJob) == s.drain(s.LaunchStep) == []
    s.ended(job_id)
    assert s.states(job_id) == "CD"


@pytest.mark.parametrize(
    "changed",
    [
        {"boot": "other"},
        {"boot": "other", "host": ""},
        {"boot": "other", "host": "other"},
        {"boot": "other", "spool": "other"},
    ],
)
def test_the_node_comes_back_rebooted(s, changed):
    job_id = running(s)
    s.silent("n1")
    s.register("n1", **changed)
    job = s.job(job_id)
    assert (job.state, job.restarts, job.attempt) == (JobState.PENDING, 1, 1)
    assert s.start(job_id) == 1
    assert s.job(job_id).attempt == 2
    assert s.drain(s.LaunchStep)[-1][1].restarts == 1


def test_the_node_comes_back_without_a_step_that_ran(s):
    job_id = running(s, requeue=False)
    s.register("n1")
    assert (s.states(job_id), s.job(job_id).reason) == ("NF", Reason.NODE_FAIL)


def test_a_launch_that_never_arrived_is_sent_again(s):
    job_id = s.submit()
    s.start(job_id)
    (first,) = s.drain(s.LaunchStep)
    s.register("n1")
    orders = s.drain()
    assert first in orders
    s.register("n1", [s.key(job_id)])
    assert s.drain(s.LaunchStep) == [], "listed: it arrived"


def test_what_must_not_run_is_ended_on_registration(s):
    job_id = running(s)
    key = s.key(job_id)
    s.cancel(job_id)
    s.drain()
    s.register("n1", [key, key._replace(job_id=999), key._replace(attempt=9)])
    ended = [(o.job_id, o.attempt) for _, o in s.drain(s.EndJob)]
    assert sorted(ended) == [(job_id, 1), (job_id, 9), (999, 1)]


def test_the_fence_passes_and_the_job_runs_elsewhere(k):
    job_id = running(k)
    k.now += 30 * k.NS
    k.do(cmd.NodeSilent("n1", k.now - 30 * k.NS))
    k.wait(34)
    assert k.states(job_id) == "R"
    k.wait(2)
    assert k.states(job_id) == "PD"
    assert k.start(job_id, "n2") == 1
    k.register("n1", [k.key(job_id)._replace(attempt=1)])
    assert [(n, o.attempt) for n, o in k.drain(k.EndJob)] == [("n1", 1)]
    k.ended(job_id, "n2")
    assert k.states(job_id) == "CD"


def test_a_gang_ends_on_the_living_nodes_before_it_is_requeued(k):
    job_id = running(k, "n1", "n2", "n3")
    k.silent("n2")
    k.wait(66)
    assert k.states(job_id) == "CG"
    assert sorted(n for n, _ in k.drain(k.EndJob)) == ["n1", "n3"]
    k.ended(job_id, "n1", cause=EndCause.CANCELLED)
    k.released(job_id, "n3")
    assert k.states(job_id) == "PD"
    assert k.job(job_id).reason is Reason.NONE


def test_an_operator_says_the_host_is_off(s):
    job_id = running(s)
    assert s.errors(_operate(s, "n1", "absent")) == ["CONFLICT"], "it answers"
    s.silent("n1")
    assert s.errors(_operate(s, "n1", "absent")) == [""]
    assert s.states(job_id) == "PD"
    s.register("n1", boot="next")
    assert s.state.nodes["n1"].usable


def _operate(s, name, action, reason="", who=None):
    return s.do(cmd.ChangeNodes(who or s.ROOT, (name,), action, reason))


def test_a_node_set_down_ends_its_jobs_and_stays_down(s):
    job_id = running(s)
    _operate(s, "n1", "down", "fire")
    assert s.states(job_id) == "CG"
    assert len(s.drain(s.EndJob)) == 1
    s.ended(job_id, cause=EndCause.CANCELLED)
    assert s.states(job_id) == "PD"
    s.register("n1")
    assert query.node_word(s.state.nodes["n1"]) == "down"
    _operate(s, "n1", "resume")
    assert query.node_word(s.state.nodes["n1"]) == "idle"


def test_drain_and_fail_let_jobs_end(s):
    job_id = running(s)
    _operate(s, "n1", "drain", "disk")
    node = s.state.nodes["n1"]
    assert (query.node_word(node), node.reason, node.reason_by) == ("drng", "disk", "root")
    s.silent("n1")
    s.register("n1", [s.key(job_id)])
    assert node.drain, "an operator's drain outlives silence"
    s.ended(job_id)
    assert query.node_word(node) == "drain"
    _operate(s, "n1", "fail", "disk")
    assert query.node_word(node) == "fail"
    s.register("n1")
    assert node.state is NodeState.FAIL
    assert s.states(job_id) == "CD"


def test_an_inventory_that_falls_short_drains_the_node_until_it_is_whole(s):
    s.register("n1", memory=4096)
    node = s.state.nodes["n1"]
    assert node.reason == "memory: 4096 MiB found, 8192 configured"
    assert not node.usable
    s.register("n1")
    assert (node.usable, node.reason) == (True, "")


def test_requeues_are_limited(scenario):
    s = scenario(scenario.make_config(limits=Limits(max_requeue=2)))
    job_id = s.submit()
    for boot in range(3):
        s.start(job_id)
        s.register("n1", boot=f"b{boot}")
    job = s.job(job_id)
    assert (job.state, job.reason, job.restarts) == (
        JobState.PENDING, Reason.JOB_HOLD_MAX_REQUEUE, 3
    )  # fmt: skip
    assert s.start(job_id) == 0
    s.do(cmd.ReleaseJobs(s.ALICE, s.select(job_id)))
    assert s.start(job_id) == 1


def test_requeue_on_request(s):
    job_id = running(s)
    assert s.errors(s.do(cmd.RequeueJobs(s.ALICE, s.select(job_id)))) == [""]
    s.ended(job_id, cause=EndCause.CANCELLED, signal=15)
    assert (s.states(job_id), s.job(job_id).restarts) == ("PD", 1)
    assert s.errors(s.do(cmd.RequeueJobs(s.ALICE, s.select(job_id)))) == ["CONFLICT"]
    s.run_through(job_id)
    s.do(cmd.RequeueJobs(s.OPERATOR, s.select(job_id), hold=True))
    assert (s.states(job_id), s.start(job_id)) == ("PD", 0)


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "running"])
def test_an_operators_requeue_and_hold_is_his_hold_and_the_owners_his_own(s, ended):
    for who, reason in ((s.OPERATOR, "JobHeldAdmin"), (s.ALICE, "JobHeldUser")):
        job_id = running(s)
        if ended:
            s.ended(job_id)
        assert s.errors(s.do(cmd.RequeueJobs(who, s.select(job_id), hold=True))) == [""]
        if not ended:
            s.ended(job_id, cause=EndCause.CANCELLED, signal=15)
        job = s.job(job_id)
        assert explain.reason_of(s.state, job, s.now).word == reason
        refused = "" if who is s.ALICE else "NOT_PERMITTED"
        assert s.errors(s.do(cmd.ReleaseJobs(s.ALICE, s.select(job_id)))) == [refused]
        s.do(cmd.ReleaseJobs(s.OPERATOR, s.select(job_id)))
        s.cancel(job_id)


def test_an_operator_holds_the_ended_task_of_an_array_that_he_requeues(s):
    array = s.submit(array="0-1")
    s.start(array, times=2)
    for task_id in list(s.job(array).array.running.values()):
        s.ended(task_id)
    s.do(cmd.RequeueJobs(s.OPERATOR, s.select((array, 0, 0)), hold=True))
    s.do(cmd.RequeueJobs(s.ALICE, s.select((array, 1, 1)), hold=True))
    reasons = [query.task_reason(s.job(array), position).word for position in (0, 1)]
    assert reasons == ["JobHeldAdmin", "JobHeldUser"]


def test_an_operator_requeues_his_own_jobs_and_others_in_one_go(s):
    ids = [running(s), running(s, who=s.OPERATOR)]
    for job_id in ids:
        s.ended(job_id)
    s.do(cmd.RequeueJobs(s.OPERATOR, s.select(*ids), hold=True))
    reasons = [explain.reason_of(s.state, s.job(job_id), s.now).word for job_id in ids]
    assert reasons == ["JobHeldAdmin", "JobHeldUser"]


def test_cancelling_wins_over_requeuing(s):
    job_id = running(s)
    s.do(cmd.RequeueJobs(s.ALICE, s.select(job_id)))
    s.cancel(job_id)
    s.released(job_id, "n1")
    assert s.states(job_id) == "CA"
    assert s.job(job_id).cancelled_by == 1001


def test_late_news_of_silence_changes_nothing(s):
    heard = s.now
    s.now += s.NS
    s.register("n1")
    seq = s.state.seq
    s.do(cmd.NodeSilent("n1", heard))
    s.do(cmd.NodeSilent("n9", heard))
    assert s.state.seq == seq


def test_a_lost_node_makes_no_steps(s):
    from crane.jobspec import BlobRef
    from crane.session import StepRequest

    job_id = running(s, "n1", "n2")
    s.silent("n2")
    create = cmd.CreateStep(s.ALICE, job_id, StepRequest(argv=BlobRef(7, 0)))
    assert s.refused(create) == "CONFLICT"


def test_the_contact_book(s):
    book = ContactBook(s.state, s.now)
    second = s.NS
    book.heard("n1", s.now + second)
    assert book.late(s.now + 31 * second) == []
    assert [late.node for late in book.late(s.now + 32 * second)] == ["n1"]
    assert book.late(s.now + 60 * second) == []
    book.heard("n1", s.now + 60 * second)
    late = book.late(s.now + 61 * second)
    assert [x.node for x in late] == ["n2", "n3"], "after a start, a full lease is granted"
    assert late[0].last_heard == s.now
    assert book.last_heard("n1") == s.now + 60 * second
