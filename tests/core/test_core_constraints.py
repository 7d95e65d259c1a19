"""`--constraint=[rack1|rack2]`: accepted, refused, handed to the planner, and checked at the start."""

from __future__ import annotations

import pytest

from crane.record import replace
from cranectld.core import commands as cmd
from cranectld.core.fold import request_of

FEATURES = {"n1": ("rack1", "ib"), "n2": ("rack2", "ib"), "n3": ("rack2",)}


@pytest.fixture
def racks(scenario):
    base = scenario.make_config()
    nodes = tuple(replace(node, features=FEATURES[node.name]) for node in base.nodes)
    return scenario(replace(base, nodes=nodes))


def ask(s, submission, features, nodes):
    given = submission(components={"features": features, "min_nodes": nodes})
    (reply,) = s.do(cmd.SubmitJobs(s.ALICE, (given,)))
    return reply


def test_a_job_within_one_rack_is_accepted_and_its_request_says_so(racks, submission):
    job_id = ask(racks, submission, "[rack1|rack2]", 2)
    request = request_of(racks.job(job_id).spec)
    assert request.alternatives == (("rack1",), ("rack2",))
    assert request.features == ()
    job_id = ask(racks, submission, "ib&[rack1|rack2]", 1)
    assert request_of(racks.job(job_id).spec).features == (("ib",),)


@pytest.mark.parametrize(
    ("features", "nodes", "refusal", "says"),
    [
        ("[rack1|rack2]", 3, "UNSATISFIABLE", "partition main has 1 such node(s)"),
        ("ib&[rack1|rack2]", 2, "UNSATISFIABLE", "partition main has 1 such node(s)"),
        ("[rack3|rack4]", 1, "UNSATISFIABLE", "no node has the feature rack3"),
        ("[rack1|rack2", 1, "BAD_REQUEST", "a '[' without its ']'"),
        ("[rack1|rack2]|ib", 1, "BAD_REQUEST", "brackets beside '|'"),
        ("[rack1*2]", 1, "BAD_REQUEST", "counts per feature"),
    ],
)
def test_what_no_rack_could_host_or_nobody_can_read_is_refused(
    racks, submission, features, nodes, refusal, says
):
    reply = ask(racks, submission, features, nodes)
    assert reply.code == refusal
    assert says in reply.message


def test_a_plan_that_mixes_racks_is_not_carried_out(racks, submission):
    job_id = ask(racks, submission, "[rack1|rack2]", 2)
    assert racks.start(job_id, "n1", "n2") == 0
    assert racks.start(job_id, "n2", "n3") == 1
