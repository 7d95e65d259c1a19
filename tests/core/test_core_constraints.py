"""`--constraint=[rack1|rack2]`: accepted, refused, handed to the planner, and checked at the start."""

from __future__ import annotations

import pytest

from crane.jobspec import Component, JobSpec
from crane.record import replace
from cranectld.core import commands as cmd
from cranectld.core.fold import request_of
from sched_core.request import Bundle, Request

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
        ("rack1*2", 1, "BAD_REQUEST", "a count outside of brackets"),
        ("[rack1*1&rack2*2]", 2, "BAD_REQUEST", "need 3 nodes or more"),
        ("[rack1*2&rack2*1]", 0, "UNSATISFIABLE", "partition main has 1 such node(s)"),
        ("ib&[rack2*2&rack1*1]", 0, "UNSATISFIABLE", "partition main has 2 such node(s)"),
        ("[rack1*1&gold*2]", 0, "UNSATISFIABLE", "no node has the feature gold"),
    ],
)
def test_what_no_rack_could_host_or_nobody_can_read_is_refused(
    racks, submission, features, nodes, refusal, says
):
    reply = ask(racks, submission, features, nodes)
    assert reply.code == refusal
    assert says in reply.message


def test_all_components_of_a_job_go_to_the_planner_as_one() -> None:
    parts = (Component(min_nodes=2), Component(ntasks=3, cpus_per_task=2000))
    made = request_of(JobSpec(components=parts, partitions=("main",)))
    first = Request(("main",), cpu_per_task=1000, min_nodes=2)
    assert made == Bundle((first, Request(("main",), cpu_per_task=2000, ntasks=3)))


def test_counts_of_features_become_components_that_share_no_node(racks, submission):
    job_id = ask(racks, submission, "[rack1*1&rack2*1]", 3)
    spec = racks.job(job_id).spec
    assert (spec.components[0].min_nodes, spec.components[0].max_nodes) == (3, 3)
    made = request_of(spec)
    assert isinstance(made, Bundle)
    assert made.apart
    assert [part.features for part in made.components] == [(("rack1",),), (("rack2",),), ()]
    assert [(part.min_nodes, part.max_nodes) for part in made.components] == [(1, 1)] * 3
    assert racks.start(job_id, "n2", "n3", "n1") == 1
    job_id = ask(racks, submission, "[rack2*1]", 2)
    made = request_of(racks.job(job_id).spec)
    assert [part.features for part in made.components] == [(("rack2",),), ()]
    assert racks.start(job_id, "n1") == 0
    assert racks.start(job_id, "n1", "n2") == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ntasks": 5}, "5 tasks on 2 nodes"),
        ({"min_nodes": 2, "max_nodes": 3}, "how many is to be certain"),
        ({"nodelist": ("n1",)}, "a node list and counts of features"),
    ],
)
def test_what_counts_of_features_do_not_go_with(racks, submission, given, says):
    given = submission(components={"features": "[rack1*1&rack2*1]", **given})
    (reply,) = racks.do(cmd.SubmitJobs(racks.ALICE, (given,)))
    assert reply.code == "BAD_REQUEST"
    assert says in reply.message


def test_a_plan_that_mixes_racks_is_not_carried_out(racks, submission):
    job_id = ask(racks, submission, "[rack1|rack2]", 2)
    assert racks.start(job_id, "n1", "n2") == 0
    assert racks.start(job_id, "n2", "n3") == 1
