"""Multifactor priorities of the planner: what they are made of, and in which order jobs then start."""

from __future__ import annotations

import pytest

from crane.config.model import PriorityConfig, SchedulerConfig
from crane.jobspec import Component
from crane.record import replace
from cranectld.core import commands as cmd
from cranectld.core.decide.resolve import BASE_PRIORITY
from cranectld.shell import prioritising

pytestmark = pytest.mark.timeout(600)
HOUR = 3600
DAY = 86_400


@pytest.fixture
def full(scenario, planning, monkeypatch):
    """One node, full, and its planner; all priorities are made anew for every pass."""
    monkeypatch.setattr(prioritising, "REST", -1.0)

    def make(policy="easy", **weights):
        priority = PriorityConfig(kind="multifactor", **weights)
        config = scenario.make_config(
            ("n1",), priority=priority, scheduler=SchedulerConfig(policy=policy)
        )
        s = scenario(config)
        planner = planning(s)
        whole(s, who=s.ROOT)
        planner.make()
        return s, planner

    return make


def whole(s, limit=HOUR, cpus=4000, **more):
    """A job that wants all of the node."""
    return s.submit(time_limit=limit, component=Component(cpus_per_task=cpus, ntasks=1), **more)


def order(planner):
    """Waiting jobs in queue order."""
    return [job for job, when in planner.make().items() if when]


def terms(planner, job_id):
    """What is added to the base of a job's priority."""
    found = dict(planner.passes.tables.priorities.explained(job_id))
    assert found.pop("base") == BASE_PRIORITY
    return found


def weight(planner, job_id):
    """Its priority less the base."""
    tables = planner.passes.tables.tables
    return int(tables.jobs.priority[tables.jobs.row(job_id)]) - BASE_PRIORITY


def test_without_weights_the_order_is_that_of_submission_and_nice(full):
    s, planner = full()
    first, second, third = whole(s), whole(s, nice=5), whole(s)
    assert order(planner) == [first, third, second]
    assert terms(planner, second)["nice"] == -5


def test_who_has_used_less_goes_first_and_running_jobs_count(full):
    s, planner = full(fair_share=1000)
    # given alice's job runs for an hour, when both wait, then bob goes first
    s.ended(1)
    running = whole(s)
    planner.make()
    assert s.states(running) == "R"
    s.wait(HOUR // 2)
    mine, his = whole(s), whole(s, who=s.BOB)
    assert order(planner) == [his, mine]
    assert terms(planner, his)["fair-share"] == 1000
    assert terms(planner, mine)["fair-share"] < 1000
    assert weight(planner, his) == sum(terms(planner, his).values())
    # given bob has used more, when both wait again, then alice does
    s.ended(running)
    planner.make()
    assert s.states(his) == "R"
    s.wait(HOUR)
    again = whole(s, who=s.BOB)
    assert order(planner) == [mine, again]


def test_usage_is_remembered_by_a_planner_that_begins_anew(full, planning):
    s, planner = full(fair_share=1000)
    s.ended(1)
    running = whole(s)
    planner.make()
    planner.make()
    s.wait(HOUR // 2)
    s.ended(running)
    whole(s, who=s.ROOT)
    planner.make()
    mine, his = whole(s), whole(s, who=s.BOB)
    assert order(planner) == [his, mine]
    assert order(planning(s)) == [his, mine]


def test_accounts_share_before_their_users_do(full):
    s, planner = full(fair_share=1000)
    s.ended(1)
    running = whole(s, account="busy")
    planner.make()
    s.wait(HOUR // 2)
    jobs = {
        (who.user, account): whole(s, who=who, account=account)
        for who in (s.ALICE, s.BOB)
        for account in ("busy", "idle")
    }
    assert s.states(running) == "R"
    found = order(planner)
    idle = [jobs["alice", "idle"], jobs["bob", "idle"]]
    assert sorted(found[:2]) == idle
    assert found[2:] == [jobs["bob", "busy"], jobs["alice", "busy"]]


def test_age_counts_from_when_a_job_could_start_up_to_its_bound(full):
    s, planner = full(age=1000, max_age=DAY)
    first = whole(s, limit=DAY)
    s.wait(DAY // 4)
    held = whole(s)
    s.do(cmd.HoldJobs(s.ALICE, s.select(held)))
    s.wait(DAY // 4)
    planner.make()
    assert terms(planner, first)["age"] == 500
    assert "age" not in terms(planner, held)
    s.wait(2 * DAY)
    planner.make()
    assert terms(planner, first)["age"] == 1000


def test_size_and_partition_give_their_points(full):
    s, planner = full(size=800, partition=400)
    config = s.config
    parts = (config.partitions[0], replace(config.partitions[1], priority=4))
    s.do(cmd.ApplyConfig(s.ROOT, replace(config, partitions=parts)))
    large, short = whole(s), whole(s, cpus=2000, partitions=("short",))
    either = whole(s, cpus=2000, partitions=("main", "short"))
    planner.make()
    assert terms(planner, large) == {"size": 800, "partition": 100}
    assert terms(planner, short) == terms(planner, either) == {"size": 600, "partition": 400}


def test_small_jobs_may_have_the_points_of_size(full):
    s, planner = full(size=800, small_first=True)
    large, small = whole(s), whole(s, cpus=1000)
    assert order(planner) == [small, large]


def test_an_operators_priority_replaces_the_sum(full):
    s, planner = full(size=800)
    first, second = whole(s), whole(s)
    s.do(cmd.UpdateJobs(s.OPERATOR, s.select(second), cmd.JobChanges(priority=200_000)))
    assert order(planner) == [second, first]
    assert weight(planner, second) == 100_000
    assert terms(planner, second) == {"size": 800, "operator": 99_200}


def test_changes_of_a_promised_job_are_told_from_priorities_made_anew(full):
    s, planner = full("conservative", age=1000)
    first, second = whole(s), whole(s)
    planner.make()
    s.wait(60)
    planner.make()
    assert not planner.freed
    # given one is changed in name only, then its promise stays; with a nice value it does not
    s.do(cmd.UpdateJobs(s.ALICE, s.select(first), cmd.JobChanges(name="other")))
    assert not planner.freed
    s.do(cmd.UpdateJobs(s.ALICE, s.select(first), cmd.JobChanges(nice=500)))
    assert planner.freed
    assert list(planner.make()) == [second, first]


def test_new_jobs_are_weighed_at_once_and_all_of_them_now_and_then(full, monkeypatch):
    s, planner = full(age=1000, max_age=DAY)
    first = whole(s)
    planner.make()
    monkeypatch.setattr(prioritising, "REST", 1e9)
    planner.make()
    s.wait(DAY // 2)
    second = whole(s, nice=20)
    assert order(planner) == [first, second]
    assert (weight(planner, first), weight(planner, second)) == (0, -20)
    # given a user nobody has heard of, then all are made anew
    third = whole(s, who=s.BOB)
    assert order(planner) == [first, third, second]
    assert weight(planner, first) == 500


def test_a_configuration_without_weights_goes_back_to_the_order_of_submission(full):
    s, planner = full(size=800)
    small, large = whole(s, cpus=1000), whole(s)
    assert order(planner) == [large, small]
    s.do(cmd.ApplyConfig(s.ROOT, replace(s.config, priority=PriorityConfig())))
    assert order(planner) == [small, large]
    assert planner.passes.ranks is None
