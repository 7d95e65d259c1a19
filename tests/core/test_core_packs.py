"""Packs of the store are needed as long as what they hold may be run, and no longer."""

from __future__ import annotations

import pytest

from crane.jobspec import BlobRef
from crane.session import StepRequest
from cranectld.core import commands as cmd
from cranectld.core.packs import live_packs

ARGV, ENVIRONMENT = BlobRef(7, 0), BlobRef(8, 3)


def create(s, job_id, **given):
    request = StepRequest(argv=ARGV, environment=ENVIRONMENT, overlap=True)
    return s.do(cmd.CreateStep(s.ALICE, job_id, request, **given))


@pytest.fixture
def gang(s):
    """A job on two nodes with a step on both."""
    job_id = s.submit(components={"min_nodes": 2}, requeue=True)
    s.start(job_id, "n1", "n2")
    create(s, job_id)
    return job_id


def test_a_steps_packs_are_needed_until_it_has_ended_on_every_node(s, gang):
    assert list(live_packs(s.state)) == [7, 8]
    s.report("n1", s.end_report(gang, step=0, released=False))
    assert list(live_packs(s.state)) == [7, 8], "the other node may still have to be told"
    s.report("n2", s.end_report(gang, step=0, released=False))
    assert list(live_packs(s.state)) == []
    assert s.states(gang) == "R"


def test_a_pack_that_two_steps_share_is_needed_until_both_have_ended(s, gang):
    create(s, gang)
    for step, left in ((0, [7, 8]), (1, [])):
        for node in ("n1", "n2"):
            s.report(node, s.end_report(gang, step=step, released=False))
        assert list(live_packs(s.state)) == left


def test_nothing_is_needed_of_steps_whose_job_has_ended(s, gang):
    s.ended(gang, "n1")
    assert list(live_packs(s.state)) == [7, 8], "it is not known to be gone on the other node"
    s.released(gang, "n2")
    assert s.states(gang) == "CD"
    assert list(live_packs(s.state)) == []


def test_nothing_is_needed_of_steps_that_were_lost_with_their_node(s, gang):
    s.silent("n2")
    s.do(cmd.ChangeNodes(s.ROOT, ("n2",), cmd.NodeAction.ABSENT))
    s.released(gang, "n1")
    assert s.job(gang).run is None
    assert s.job(gang).last_run is not None
    assert list(live_packs(s.state)) == []


def test_a_node_that_has_not_got_the_step_is_told_again_where_its_content_is(s, gang):
    s.drain()
    s.register("n2")
    ((node, order),) = s.drain(s.LaunchStep)
    assert (node, order.key) == ("n2", s.key(gang, 0))
    assert (order.request.argv, order.request.environment) == (ARGV, ENVIRONMENT)


def test_a_dry_run_makes_no_step(s, gang):
    before = s.state.seq
    granted = create(s, gang, dry_run=True)
    assert (granted.key.step, granted.nodes, s.state.seq) == (1, ("n1", "n2"), before)
    assert list(s.job(gang).run.steps) == [-1, 0]
