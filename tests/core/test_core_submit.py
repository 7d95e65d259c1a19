"""Submission: what is filled in, and every refusal with its code and numbers."""

from __future__ import annotations

import pytest

from crane.config.model import Limits, PartitionConfig
from crane.jobspec import ArraySpec, Component, Gres, JobSpec, Submission
from crane.states import Reason
from cranectld.core import commands as cmd
from cranectld.core.explain import REASONS, Survey, gates, reason_of, sentence
from sched_core.codes import VerdictCode


def ask(s, given, who=None, **fields):
    """The reply to one submission."""
    job = given if isinstance(given, Submission) else Submission(given, **fields)
    (reply,) = s.do(cmd.SubmitJobs(who or s.ALICE, (job,)))
    return reply


def part(**given):
    return JobSpec(components=(Component(**given),))


BAD = [
    (part(cpus_per_task=0), "BAD_REQUEST", "more than 0 CPUs"),
    (part(min_nodes=-1), "BAD_REQUEST", "numbers of nodes"),
    (part(min_nodes=3, max_nodes=2), "BAD_REQUEST", "no such number"),
    (part(mem_per_node=1, mem_per_cpu=1), "BAD_REQUEST", "per node and per CPU"),
    (part(gres=(Gres("gpu", "", 0),)), "BAD_REQUEST", "cannot be asked for"),
    (JobSpec(components=(Component(), Component())), "BAD_REQUEST", "2 components"),
    (JobSpec(time_limit=-5), "BAD_TIME", "out of range"),
    (JobSpec(time_limit=60, time_min=90), "BAD_TIME", "longer"),
    (JobSpec(comment="x" * 5000), "LIMIT_EXCEEDED", "comment"),
    (JobSpec(partitions=("man",)), "UNKNOWN_PARTITION", "man"),
    (part(nodelist=("n9",)), "UNKNOWN_NODE", "n9"),
    (part(exclude=("m1",)), "UNKNOWN_NODE", "m1"),
    (part(features="gold"), "UNSATISFIABLE", "no node has the feature gold"),
    (part(features="a&&b"), "BAD_REQUEST", "invalid feature expression"),
    (part(min_nodes=4), "UNSATISFIABLE", "4 node(s) with 1 CPU(s) each; partition main has 3"),
    (part(cpus_per_task=5000), "UNSATISFIABLE", "largest figures of a node there: 4 CPU(s)"),
    (part(mem_per_node=9000), "UNSATISFIABLE", "9000 MiB"),
    (part(mem_per_cpu=9000), "UNSATISFIABLE", "9000 MiB"),
    (part(gres=(Gres("gpu", "a100", 3),)), "UNSATISFIABLE", "3 gpu:a100"),
    (part(gres=(Gres("npu", "", 1),)), "UNSATISFIABLE", "0 npu"),
    (part(ntasks=13), "UNSATISFIABLE", "have room for 12"),
    (part(ntasks=9, max_nodes=2), "UNSATISFIABLE", "2 node(s) of partition main have room for 8"),
    (part(ntasks=4, ntasks_per_node=1), "UNSATISFIABLE", "room for 3"),
    (part(features="ib", min_nodes=2), "UNSATISFIABLE", "has 1 such"),
    (part(exclude=("n1", "n2", "n3")), "UNSATISFIABLE", "no node left"),
    (part(nodelist=("n1",), exclude=("n1",)), "UNSATISFIABLE", "n1"),
    (JobSpec(partitions=("short",), time_limit=9999), "UNSATISFIABLE", "at most 3600 s"),
    (JobSpec(partitions=("short",), components=(Component(nodelist=("n2",)),)), "UNSATISFIABLE",
     "n2"),
    (JobSpec(partitions=("short",), time_limit=-1), "UNSATISFIABLE", "no time limit"),
    (JobSpec(time_limit=600, deadline=1_700_000_100 * 10**9), "BAD_TIME", "deadline"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "code", "text"), BAD)
def test_bad_requests_are_refused_one_by_one(s, spec, code, text):
    seq = s.state.seq
    refusal = ask(s, spec)
    assert isinstance(refusal, cmd.Rejected), refusal
    assert (refusal.code, text in refusal.message) == (code, True), refusal.message
    assert s.state.seq == seq


BAD_OWN = [
    ({"name": "x" * 2000}, "LIMIT_EXCEEDED"),
    ({"args": ("a",) * 10_001}, "LIMIT_EXCEEDED"),
    ({"array": ArraySpec(())}, "BAD_ARRAY"),
    ({"array": ArraySpec(((5, 1, 1),))}, "BAD_ARRAY"),
    ({"array": ArraySpec(((0, 5, 1), (3, 9, 1)))}, "BAD_ARRAY"),
    ({"array": ArraySpec(((0, 5, 0),))}, "BAD_ARRAY"),
    ({"array": ArraySpec(((0, 2_000_000, 1),))}, "LIMIT_EXCEEDED"),
]


@pytest.mark.parametrize(("fields", "code"), BAD_OWN)
def test_what_is_a_jobs_own_is_checked(s, fields, code):
    assert ask(s, JobSpec(), **fields).code == code


def test_one_bad_job_does_not_spoil_the_batch(s, submission):
    jobs = (submission(), submission(partitions=("x",)), submission(name="b"))
    first, refused, third = s.do(cmd.SubmitJobs(s.ALICE, jobs))
    assert (third, refused.code) == (first + 1, "UNKNOWN_PARTITION")
    assert list(s.state.jobs) == [first, third]


def test_a_dry_run_decides_and_changes_nothing(s, submission):
    seq = s.state.seq
    jobs = (submission(), submission(partitions=("x",)))
    reply = s.do(cmd.SubmitJobs(s.ALICE, jobs, dry_run=True))
    assert (reply[0], reply[1].code) == (s.state.next_job_id, "UNKNOWN_PARTITION")
    assert s.state.seq == seq


def test_limits_of_batch_and_queue(scenario, submission):
    s = scenario(scenario.make_config(limits=Limits(max_jobs=3, max_batch=4)))
    assert s.refused(cmd.SubmitJobs(s.ALICE, (submission(),) * 5)) == "LIMIT_EXCEEDED"
    reply = s.do(cmd.SubmitJobs(s.ALICE, (submission(),) * 4))
    assert [getattr(r, "code", "ok") for r in reply] == ["ok"] * 3 + ["LIMIT_EXCEEDED"]
    ids = cmd.Selector(ids=(cmd.SelectedId(1),) * 5)
    assert s.refused(cmd.CancelJobs(s.ALICE, ids)) == "LIMIT_EXCEEDED"


def test_defaults_come_from_the_configuration(scenario):
    nodes = ("n1", "n2")
    partitions = (
        PartitionConfig("a", nodes, max_time=7200, default_time=600, default_mem_per_cpu=512),
        PartitionConfig("b", nodes, default=True, max_time=60),
        PartitionConfig("c", nodes, allow_accounts=("physics",), max_nodes=1),
    )
    s = scenario(scenario.make_config(nodes=nodes, partitions=partitions))
    assert s.job(s.submit()).spec.time_limit == 60
    spec = s.job(s.submit(partitions=("a", "b"))).spec
    assert (spec.partitions, spec.time_limit) == (("a",), 600), "b admits no 600 s"
    assert spec.components[0].mem_per_cpu == 512
    assert s.job(s.submit(partitions=("b", "a"), time_limit=60)).spec.partitions == ("b", "a")
    assert ask(s, JobSpec(partitions=("c",))).code == "NOT_PERMITTED"
    wide = JobSpec(partitions=("c",), account="physics", components=(Component(min_nodes=2),))
    assert "allows 1" in ask(s, wide).message
    assert isinstance(ask(s, JobSpec(partitions=("c",), account="physics")), int)


def test_nodes_of_unknown_size_may_fit(scenario):
    from crane.config.model import NodeConfig

    config = scenario.make_config()
    config = scenario.make_config(nodes=("n1",))
    unknown = (NodeConfig(name="n1"),)
    from dataclasses import replace

    s = scenario(replace(config, nodes=unknown), up=False)
    assert isinstance(ask(s, part(cpus_per_task=64_000)), int)
    s.register("n1")
    assert ask(s, part(cpus_per_task=64_000)).code == "UNSATISFIABLE"


def test_equal_specs_are_one_object(s):
    a, b = s.submit(), s.submit()
    assert s.job(a).spec is s.job(b).spec


def test_priorities(scenario):
    from crane.config.model import SchedulerConfig

    s = scenario()
    plain, nice = s.submit(), s.submit(nice=100)
    assert s.job(plain).priority - s.job(nice).priority == 100
    assert s.job(s.submit(who=s.ROOT, priority=5)).priority == 5
    aged = scenario(scenario.make_config(scheduler=SchedulerConfig(weight_age=1000)))
    first = aged.submit()
    aged.now += 86_400 * aged.NS
    second = aged.submit()
    assert aged.job(first).priority - aged.job(second).priority == 1000


def test_every_verdict_has_a_reason_and_every_reason_a_sentence(s):
    assert list(REASONS) == list(VerdictCode)
    job = s.job(s.submit(components={"min_nodes": 2}))
    for reason in [*REASONS.values(), Reason.ASSOCIATION_RESOURCE_LIMIT]:
        assert sentence(job, reason)
    text = sentence(job, Reason.RESOURCES, Survey(3, 2, 1, "cpu", 4))
    assert "3 nodes could host it, 2 of them take jobs, 1 has enough free now; it wants 2" in text
    assert "lack cpu" in text
    assert "4 jobs are ahead" in text


def test_gates_say_what_is_shut(s):
    first = s.submit()
    job_id = s.submit(after=f"afterok:{first}", begin=s.now + 90 * s.NS, hold=True)
    array = s.submit(array="0-3%1")
    s.start(array)
    shut = {g.name: g.text for g in gates(s.state, s.job(job_id), s.now) if not g.open}
    assert list(shut) == ["hold", "dependency", "begin"]
    assert shut["dependency"] == f"waits for afterok:{first}"
    assert shut["begin"] == "it may start in 90 s"
    assert reason_of(s.state, s.job(job_id), s.now) is Reason.JOB_HELD_USER
    shut = [g.text for g in gates(s.state, s.job(array), s.now) if not g.open]
    assert shut == ["1 tasks run, 1 may run at once"]
    assert reason_of(s.state, s.job(array), s.now) is Reason.JOB_ARRAY_TASK_LIMIT
    s.do(cmd.ReleaseJobs(s.ALICE, s.select(job_id)))
    s.run_through(first)
    assert reason_of(s.state, s.job(job_id), s.now) is Reason.BEGIN_TIME
    assert reason_of(s.state, s.job(first), s.now) is None
