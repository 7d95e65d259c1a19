"""Steps inside a job, and configurations put in force."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crane.config.model import NodeConfig, PartitionConfig, Timeouts
from crane.jobspec import BlobRef, Gres
from crane.session import StepRequest
from crane.states import StepState
from cranectld.core import commands as cmd
from cranectld.core import query

DATE = BlobRef(7, 0)


def create(s, job_id, who=None, **given):
    return s.do(cmd.CreateStep(who or s.ALICE, job_id, StepRequest(argv=DATE, **given)))


def refused(s, job_id, who=None, **given):
    return s.refused(cmd.CreateStep(who or s.ALICE, job_id, StepRequest(argv=DATE, **given)))


@pytest.fixture
def gang(s):
    """A job on three nodes with 4 tasks of one CPU on each, its batch script running."""
    job_id = s.submit(components={"ntasks": 12})
    assert s.start(job_id, "n1", "n2", "n3", cpus=4000, tasks=4) == 1
    s.drain()
    return job_id


LAYOUTS = [
    ({}, ("n1", "n2", "n3"), (4, 4, 4)),
    ({"ntasks": 5}, ("n1", "n2", "n3"), (3, 1, 1)),
    ({"ntasks": 2}, ("n1", "n2"), (1, 1)),
    ({"min_nodes": 1}, ("n1",), (4,)),
    ({"min_nodes": 2, "ntasks": 6}, ("n1", "n2"), (4, 2)),
    ({"ntasks_per_node": 2}, ("n1", "n2", "n3"), (2, 2, 2)),
    ({"ntasks": 6, "ntasks_per_node": 2}, ("n1", "n2", "n3"), (2, 2, 2)),
    ({"cpus_per_task": 2000, "ntasks": 6}, ("n1", "n2", "n3"), (2, 2, 2)),
    ({"nodelist": ("n3", "n2")}, ("n2", "n3"), (4, 4)),
    ({"exclude": ("n2",), "ntasks": 8}, ("n1", "n3"), (4, 4)),
]


@pytest.mark.parametrize(("given", "nodes", "tasks"), LAYOUTS)
def test_layouts(s, gang, given, nodes, tasks):
    granted = create(s, gang, **given)
    assert (granted.nodes, granted.tasks_per_node) == (nodes, tasks)
    assert [node for node, _ in s.drain(s.LaunchStep)] == list(nodes)
    assert granted.key.step == 0


REFUSED = [
    ({"ntasks": 13}, "UNSATISFIABLE"),
    ({"min_nodes": 4}, "UNSATISFIABLE"),
    ({"cpus_per_task": 5000}, "UNSATISFIABLE"),
    ({"nodelist": ("n9",)}, "UNKNOWN_NODE"),
    ({"exclude": ("n9",)}, "UNKNOWN_NODE"),
    ({"exclude": ("x" * 1_000_000,)}, "UNKNOWN_NODE"),
    ({"exclude": ("n1", "n1")}, "BAD_REQUEST"),
    ({"nodelist": ("n2", "n2")}, "BAD_REQUEST"),
    ({"exclude": ("n1",) * 60_000}, "BAD_REQUEST"),
    ({"nodelist": ("n1",), "exclude": ("n1",)}, "BAD_REQUEST"),
    ({"exclude": ("n1", "n2", "n3")}, "BAD_REQUEST"),
    ({"ntasks": -1}, "BAD_REQUEST"),
    ({"ticket": b"a\0"}, "BAD_REQUEST"),
    ({"ticket": b"\xff"}, "BAD_REQUEST"),
    ({"ticket": b"a" * 257}, "BAD_REQUEST"),
    ({"stdin_mode": "\u00b2"}, "BAD_REQUEST"),
    ({"stdin_mode": "9" * 50}, "BAD_REQUEST"),
    ({"stdin_mode": "some"}, "BAD_REQUEST"),
]


@pytest.mark.parametrize(("given", "code"), REFUSED)
def test_layouts_that_cannot_be(s, gang, given, code):
    assert refused(s, gang, **given) == code


@pytest.mark.parametrize("mode", ["", "all", "none", "0", "1048576"])
def test_standard_input_goes_to_all_to_none_or_to_a_rank(s, gang, mode):
    assert create(s, gang, stdin_mode=mode, ticket=b"0123abcd").key.step == 0


def test_steps_are_the_owners_and_need_a_running_job(s, gang):
    assert refused(s, gang, who=s.ROOT) == "NOT_PERMITTED"
    assert refused(s, 999) == "UNKNOWN_JOB"
    waiting = s.submit()
    assert refused(s, waiting) == "CONFLICT"
    assert s.refused(cmd.CreateStep(s.ALICE, gang, StepRequest())) == "BAD_REQUEST"
    s.cancel(gang)
    assert refused(s, gang) == "CONFLICT"


def test_steps_do_not_share_cpus_unless_they_overlap(s, gang):
    create(s, gang, ntasks=4, min_nodes=1)
    assert refused(s, gang) == "CONFLICT"
    assert create(s, gang, overlap=True).key.step == 1
    assert create(s, gang, nodelist=("n2", "n3")).key.step == 2
    for step in (0, 2):
        for node in s.job(gang).run.steps[step].layout.nodes:
            s.report(node, s.end_report(gang, step=step, code=step, released=False))
    steps = s.job(gang).run.steps
    assert [steps[i].state for i in (0, 1, 2)] == [
        StepState.ENDED, StepState.STARTING, StepState.ENDED
    ]  # fmt: skip
    assert steps[2].exit_code == 2
    assert create(s, gang).key.step == 3


def test_a_step_that_never_arrived_is_sent_again(s, gang):
    granted = create(s, gang, nodelist=("n2",))
    s.drain()
    s.register("n2")
    assert [o.key for _, o in s.drain(s.LaunchStep)] == [granted.key]


def test_a_step_can_be_cancelled_alone(s, gang):
    create(s, gang, nodelist=("n2",))
    s.drain()
    selector = cmd.Selector(ids=(cmd.SelectedId(gang, step=0),))
    assert s.errors(s.do(cmd.CancelJobs(s.ALICE, selector))) == [""]
    assert [(n, o.step, o.signal) for n, o in s.drain(s.SignalJob)] == [("n2", 0, 9)]
    assert s.states(gang) == "R"


# --- configuration -------------------------------------------------------------------------------


def put(s, config):
    return s.do(cmd.ApplyConfig(s.ROOT, config))


def node(name, **given):
    return NodeConfig(
        name, **{"cpus": 4000, "memory": 8192, "gres": (Gres("gpu", "a100", 2),), **given}
    )


def test_the_reply_says_what_changes(s):
    old = s.state.config
    assert put(s, old) == ()
    nodes = (replace(old.nodes[0], weight=5), old.nodes[1], node("n7"))
    partitions = (PartitionConfig("main", ("n1", "n2", "n7"), default=True),)
    new = replace(old, nodes=nodes, partitions=partitions, timeouts=Timeouts(node=9))
    assert put(s, new) == (
        "nodes added: n7", "nodes removed: n3", "nodes changed: n1",
        "partitions removed: short", "partitions changed: main", "timeouts changed",
    )  # fmt: skip
    assert query.node_word(s.state.nodes["n7"]) == "unknown"
    assert s.state.nodes["n2"].usable
    assert s.state.nodes["n7"].partitions == ("main",)


def test_a_single_partition_is_the_default(s):
    put(s, replace(s.state.config, partitions=(PartitionConfig("only", ("n1",)),)))
    assert s.state.default_partition == "only"


def test_what_is_in_use_must_stay(s):
    config = s.state.config
    job_id = s.submit(components={"gres": (Gres("gpu", "a100", 2),)}, partitions=("short",))
    s.start(job_id, cpus=3000, slots=[("gpu", "a100", 2)])
    rest = config.nodes[1:]
    parts = (PartitionConfig("main", ("n2",), default=True), PartitionConfig("short", ("n2",)))

    def refused(*nodes, partitions=parts):
        return s.refused(
            cmd.ApplyConfig(s.ROOT, replace(config, nodes=nodes, partitions=partitions))
        )

    assert refused(*rest) == "CONFLICT"
    assert refused(node("n1", cpus=2000), *rest) == "CONFLICT"
    assert refused(node("n1", gres=(Gres("gpu", "a100", 1),)), *rest) == "CONFLICT"
    assert refused(*config.nodes, partitions=parts[:1]) == "CONFLICT"
    s.ended(job_id)
    put(s, replace(config, nodes=rest, partitions=parts[:1]))
    assert list(s.state.nodes) == ["n2", "n3"]


BAD = [
    {"nodes": (node("n1"), node("n1"))},
    {"partitions": (PartitionConfig("a"), PartitionConfig("a"))},
    {"partitions": (PartitionConfig("a", ("n9",)),)},
    {"partitions": (PartitionConfig("a", default=True), PartitionConfig("b", default=True))},
    {"timeouts": Timeouts(lost_contact="perhaps")},
]


@pytest.mark.parametrize("changes", BAD)
def test_configurations_that_contradict_themselves(s, changes):
    assert s.refused(cmd.ApplyConfig(s.ROOT, replace(s.state.config, **changes))) == "BAD_CONFIG"


def test_a_promise_the_host_does_not_keep_drains_the_node(s):
    config = s.state.config
    put(s, replace(config, nodes=(node("n1", cpus=8000), *config.nodes[1:])))
    assert s.state.nodes["n1"].reason == "CPUs: 4 found, 8 configured"
    assert not s.state.nodes["n1"].usable


def test_nodes_are_operated_one_by_one(s):
    change = cmd.ChangeNodes(s.ROOT, ("n1", "n9", "n1"), "drain", "disk")
    assert s.errors(s.do(change)) == ["", "UNKNOWN_NODE"]
    assert s.refused(cmd.ChangeNodes(s.ROOT, ("n1",), "down")) == "BAD_REQUEST"
    assert s.refused(cmd.ChangeNodes(s.ROOT, ("n1",), "explode", "x")) == "BAD_REQUEST"
    assert s.errors(s.do(cmd.ChangeNodes(s.ROOT, ("n1", "n2"), "resume"))) == ["", "CONFLICT"]
    assert s.refused(cmd.RegisterNode(s.registration("n9"))) == "UNKNOWN_NODE"
    for count, word in ((1000, "mixed"), (4000, "alloc")):
        job_id = s.submit()
        s.start(job_id, "n2", cpus=count)
        assert query.node_word(s.state.nodes["n2"]) == word
        s.ended(job_id, "n2")


def test_a_partition_that_is_down_starts_nothing(s):
    job_id = s.submit()
    config = s.state.config
    parts = (replace(config.partitions[0], up=False), *config.partitions[1:])
    put(s, replace(config, partitions=parts))
    assert s.start(job_id) == 0
    put(s, config)
    assert s.start(job_id) == 1
