"""A job runs twice where a node is believed that it was rebooted: who may register while jobs hold it."""

from __future__ import annotations

import pytest

from crane.config.model import Timeouts
from cranectld.core import commands as cmd
from cranectld.core.decide import hosts

DOUBTFUL = {
    "same boot, another spool": {"spool": "other"},
    "same boot, another spool and host": {"spool": "other", "host": "other"},
    "another host": {"boot": "other", "spool": "other", "host": "other"},
    "nobody knows which host": {"boot": "other", "spool": "other", "host": ""},
}


@pytest.fixture(params=DOUBTFUL.values(), ids=DOUBTFUL)
def doubtful(request):
    """Identities that prove nothing of what was started on the node before."""
    return request.param


def running(s):
    job_id = s.submit()
    assert s.start(job_id) == 1
    s.started(job_id)
    s.drain()
    return job_id


def test_where_jobs_may_be_alive_no_other_identity_registers(s, doubtful):
    job_id, seq = running(s), s.state.seq
    with pytest.raises(cmd.Rejected) as refused:
        s.register("n1", **doubtful)
    assert refused.value.code == "CONFLICT"
    assert f"job {job_id} may be alive" in refused.value.message
    assert "ccontrol update NodeName=n1 State=absent" in refused.value.hint
    assert (s.state.seq, s.states(job_id), s.drain()) == (seq, "R", [])
    # and whose node it is comes back to its job
    s.silent("n1")
    s.register("n1", [s.key(job_id)])
    assert (s.job(job_id).run.fences, s.drain(s.EndJob)) == ({}, [])


def test_a_launch_that_may_have_arrived_counts_as_alive(s, doubtful):
    job_id = s.submit()
    s.start(job_id)
    assert s.refused(cmd.RegisterNode(s.registration("n1", **doubtful))) == "CONFLICT"


def test_an_operator_who_knows_better_lets_it_register(s, doubtful):
    job_id = running(s)
    s.silent("n1")
    assert s.refused(cmd.RegisterNode(s.registration("n1", **doubtful))) == "CONFLICT"
    s.do(cmd.ChangeNodes(s.ROOT, ("n1",), "absent"))
    assert s.states(job_id) == "PD"
    s.register("n1", **doubtful)
    assert s.state.nodes["n1"].usable


def test_after_the_fence_it_registers(scenario, doubtful):
    timeouts = Timeouts(lost_contact="kill", lease=60, kill_grace=5)
    s = scenario(scenario.make_config(timeouts=timeouts))
    job_id = running(s)
    s.silent("n1")
    s.wait(64)
    assert s.refused(cmd.RegisterNode(s.registration("n1", **doubtful))) == "CONFLICT"
    s.wait(1)
    assert s.states(job_id) == "PD"
    s.register("n1", **doubtful)
    assert s.state.nodes["n1"].usable


def test_a_node_without_jobs_changes_as_it_likes(s, doubtful):
    job_id = running(s)
    s.ended(job_id)
    s.register("n1", **doubtful)
    node, given = s.state.nodes["n1"], s.registration("n1", **doubtful)
    assert (node.boot_id, node.spool_id, node.host_id) == (
        given.boot_id, given.spool_id, given.host_id
    )  # fmt: skip


def test_many_jobs_are_named_in_part(s, monkeypatch):
    monkeypatch.setattr(hosts, "_JOBS_NAMED", 2)
    assert [running(s) for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(cmd.Rejected, match="job 1, 2 and 2 more may be alive"):
        s.register("n1", spool="other")
