"""A job that a limit of its user, account or QoS keeps from starting says which limit it is."""

from __future__ import annotations

import pytest

from crane.states import Reason
from crane.v1 import control_pb2 as pb
from cranectld.core.explain import Survey, reason_for, sentence
from cranectld.rpc.explain import explain
from cranectld.rpc.waiting import Waiting
from cranectld.shell.verdicts import Verdicts
from sched_core.codes import VerdictCode

pytestmark = pytest.mark.timeout(600)


class Planned:
    """A planner that has made one pass: what the reply on a job asks of it."""

    def __init__(self, verdicts):
        self.verdict, self.terms = verdicts.find, verdicts.terms


@pytest.mark.parametrize(
    ("bound", "reason", "words"),
    [
        ({"jobs": 0}, Reason.ASSOCIATION_JOB_LIMIT, "the number of jobs"),
        ({"cpu": 500}, Reason.ASSOCIATION_RESOURCE_LIMIT, "cpu"),
    ],
)
def test_a_limit_is_named_by_what_it_is_on(s, planning, bound, reason, words):
    planner = planning(s)
    job = s.submit(time_limit=60)
    free = s.submit(time_limit=60, who=s.BOB)
    planner._catch_up()
    tables = planner.passes.tables.tables
    tables.jobs.set_limit(job, tables.limits.set("alice", **bound))
    plan = planner.passes.make(s.now)
    assert plan.start_job.tolist() == [free]
    verdicts = Verdicts(plan, tables.dims, s.now)
    waiting = Waiting(Planned(verdicts), s.now)
    reply = explain(s.state, waiting, pb.ExplainJobRequest(job_id=job, task=-1))
    assert Reason(reply.reason) is reason
    shut = {gate.name: gate.text for gate in reply.gates if not gate.open}
    assert shut == {"association": f"a limit on {words} is reached"}
    assert "lack" not in reply.text
    assert ("The limit is on cpu." in reply.text) == (words == "cpu")


def test_only_limits_are_told_apart_by_what_is_short(s):
    assert reason_for(VerdictCode.RESOURCES, "cpu") is Reason.RESOURCES
    job = s.job(s.submit())
    assert "Most lack cpu." in sentence(job, Reason.RESOURCES, Survey(1, 1, 0, "cpu"))
