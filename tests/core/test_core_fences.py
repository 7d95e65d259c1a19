"""Fences are never nearer than they were in true time, whatever happens to controller and clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crane.config.model import Timeouts
from cranectld.core import commands as cmd
from cranectld.core import query
from cranectld.core.identity import CONTROLLER

KILL = Timeouts(lost_contact="kill", lease=60, kill_grace=5)


@pytest.fixture
def k(scenario):
    """Three nodes that kill on lost contact: fences are 65 s after the last word."""
    return scenario(scenario.make_config(timeouts=KILL))


def lost(k, *nodes):
    """A job on these nodes, the first of which falls silent."""
    job_id = k.submit(requeue=True)
    assert k.start(job_id, *nodes) == 1
    k.silent(nodes[0])
    return job_id


def fences(k, job_id):
    return {node: (at - k.now) // k.NS for node, at in k.job(job_id).run.fences.items()}


def step(k, seconds):
    k.do(cmd.ClockStepped(seconds * k.NS))
    k.now += seconds * k.NS


def test_a_step_of_the_clock_moves_fences_along(k):
    job_id = lost(k, "n1", "n2")
    k.wait(20)
    step(k, 3600)
    k.do(cmd.Tick())
    assert fences(k, job_id) == {"n1": 45}
    k.wait(44)
    assert k.states(job_id) == "R"
    k.wait(1)
    assert k.states(job_id) == "CG"
    assert k.replayed() == k.state


def test_a_step_before_the_silence_is_known_changes_nothing_either(k):
    job_id = k.submit()
    k.start(job_id, "n1")
    step(k, 3600)
    k.wait(30)
    k.do(cmd.NodeSilent("n1", k.now - 30 * k.NS))
    assert fences(k, job_id) == {"n1": 35}


def test_a_step_says_nothing_where_nothing_waits_for_a_fence(k, scenario):
    job_id = k.submit()
    k.start(job_id, "n1")
    before = k.state.seq
    step(k, 3600)
    assert k.state.seq == before
    keeps = scenario()
    job_id = lost(keeps, "n1")
    before = keeps.state.seq
    step(keeps, 3600)
    assert (keeps.state.seq, fences(keeps, job_id)["n1"] < 0) == (before, True), "0: no fence"


def test_a_controller_that_starts_grants_full_leases_anew(k):
    job_id = lost(k, "n1")
    k.wait(60)
    k.do(cmd.StartEpoch())
    assert fences(k, job_id) == {"n1": 65}
    k.wait(64)
    assert k.states(job_id) == "R"
    k.wait(1)
    assert k.states(job_id) == "PD"
    assert k.replayed() == k.state


def test_a_fence_granted_anew_counts_with_the_longest_lease(k):
    job_id = lost(k, "n1")
    longer = replace(KILL, lease=100)
    k.do(cmd.ApplyConfig(CONTROLLER, replace(k.state.config, timeouts=longer)))
    k.do(cmd.StartEpoch())
    assert fences(k, job_id) == {"n1": 105}


def test_a_moved_fence_is_no_news_of_the_node(k):
    lost(k, "n1")
    node = k.state.nodes["n1"]
    k.do(cmd.ChangeNodes(k.ROOT, ("n1",), "drain", "disk"))
    since = node.reason_time
    step(k, 3600)
    k.do(cmd.StartEpoch())
    assert (node.reason, node.reason_time) == ("disk", since)
    assert query.node_word(node).startswith("down")


def test_a_node_that_is_back_has_no_fence_to_move(k):
    job_id = lost(k, "n1")
    k.register("n1", [k.key(job_id)])
    step(k, 3600)
    k.do(cmd.StartEpoch())
    assert fences(k, job_id) == {}
    k.wait(200)
    assert k.states(job_id) == "R"
