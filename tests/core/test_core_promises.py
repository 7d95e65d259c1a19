"""Conservative passes over the fold of events: promises are kept, and what moves one is told."""

from __future__ import annotations

import pytest

from crane.config.model import SchedulerConfig
from crane.record import replace
from cranectld.core import commands as cmd
from cranectld.core.explain import MOVES
from sched_core.codes import MoveCause

pytestmark = pytest.mark.timeout(600)
HOUR = 3600


@pytest.fixture
def full(scenario, planning):
    """One node, full for an hour under the conservative policy, and its planner."""

    def make(policy="conservative", **bounds):
        scheduler = SchedulerConfig(policy=policy, **bounds)
        s = scenario(scenario.make_config(("n1",), scheduler=scheduler))
        planner = planning(s)
        running = s.submit(time_limit=HOUR, components={"cpus_per_task": 4000, "ntasks": 1})
        planner.make()
        assert s.states(running) == "R"
        return s, planner

    return make


def whole(s, limit=HOUR, **more):
    """A job that wants all of the node."""
    return s.submit(time_limit=limit, components={"cpus_per_task": 4000, "ntasks": 1}, **more)


def test_every_job_is_promised_a_start_and_keeps_it_until_something_is_given_back(full):
    s, planner = full()
    first, second, third = (whole(s) for _ in range(3))
    assert planner.make() == {first: HOUR, second: 2 * HOUR, third: 3 * HOUR}
    # given nothing but time, when passes are made, then they promise the same
    s.wait(60)
    assert not planner.freed
    assert planner.make() == {first: HOUR, second: 2 * HOUR, third: 3 * HOUR}
    # given one who waits gives up, when a pass is made, then those behind move up
    s.cancel(second)
    assert planner.freed
    assert planner.make() == {first: HOUR, third: 2 * HOUR}
    assert planner.move(third) is None


def test_a_start_gives_nothing_back_and_an_early_end_does(full):
    s, planner = full()
    first, second = whole(s), whole(s)
    planner.make()
    s.wait(60)
    s.ended(1)
    assert planner.make() == {first: 60, second: 60 + HOUR}
    assert s.states(first) == "R"
    assert not planner.freed
    assert planner.make() == {second: 60 + HOUR}


def test_a_job_put_before_others_moves_their_promises_and_they_are_told(full):
    s, planner = full()
    first, second = whole(s), whole(s)
    planner.make()
    urgent = whole(s, who=s.OPERATOR, nice=-10)
    # then only the promise in its way moves
    assert planner.make() == {urgent: HOUR, second: 2 * HOUR, first: 3 * HOUR}
    assert planner.move(first) == (HOUR, MoveCause.AHEAD)
    assert planner.move(second) is planner.move(urgent) is None
    # given one so long that all are in its way, then the first promise to each is what counts
    whole(s, limit=4 * HOUR, who=s.OPERATOR, nice=-20)
    assert planner.make()[first] > 4 * HOUR
    causes = {job: planner.move(job) for job in (urgent, first, second)}
    ahead = MoveCause.AHEAD
    assert causes == {urgent: (HOUR, ahead), first: (HOUR, ahead), second: (2 * HOUR, ahead)}
    # given one that goes, then nothing is left of its story
    s.cancel(first)
    planner.make()
    assert planner.move(first) is None
    assert planner.move(second) == (2 * HOUR, ahead)


def test_an_operator_who_raises_a_waiting_job_has_it_planned_as_new(full):
    s, planner = full()
    first, second = whole(s), whole(s)
    planner.make()
    s.do(cmd.UpdateJobs(s.OPERATOR, s.select(second), cmd.JobChanges(priority=200_000)))
    assert planner.make() == {second: HOUR, first: 2 * HOUR}
    assert planner.move(first) == (HOUR, MoveCause.AHEAD)


def test_a_change_of_the_time_limit_makes_a_promise_anew(full):
    s, planner = full()
    first, second = whole(s), whole(s)
    planner.make()
    s.do(cmd.UpdateJobs(s.ALICE, s.select(first), cmd.JobChanges(time_limit=HOUR // 2)))
    assert planner.make() == {first: HOUR, second: HOUR + HOUR // 2}


def test_a_hold_gives_the_promise_back_and_a_release_waits_behind_it(full):
    s, planner = full()
    first, second = whole(s), whole(s)
    planner.make()
    s.do(cmd.HoldJobs(s.ALICE, s.select(first)))
    assert planner.make() == {first: -1, second: HOUR}
    s.do(cmd.ReleaseJobs(s.ALICE, s.select(first)))
    assert planner.make() == {first: 2 * HOUR, second: HOUR}
    assert planner.move(second) is None


def test_starts_that_were_not_taken_are_planned_as_new(full):
    s, planner = full()
    first, second = whole(s), whole(s)
    planner.make()
    s.ended(1)
    # given a plan whose start is refused, then the next one proposes it again
    assert planner.make(commit=False)[first] == 0
    assert s.states(first, second) == "PD PD"
    assert planner.make()[first] == 0
    assert s.states(first, second) == "R PD"


def test_jobs_of_an_array_are_promised_one_at_a_time(full):
    s, planner = full()
    array = whole(s, array="0-2")
    assert planner.make() == {array: HOUR}
    s.ended(1)
    assert planner.make() == {array: HOUR}
    assert s.states(array) == "PD"
    assert len(s.job(array).array.running) == 1


def test_a_new_configuration_plans_anew(full):
    s, planner = full()
    first = whole(s)
    planner.make()
    planner._catch_up()
    assert planner.passes.tables.standing.promises() is not None
    s.do(cmd.ApplyConfig(s.ROOT, replace(s.config, name="other")))
    planner._catch_up()
    assert planner.passes.tables.standing.promises() is None
    assert planner.make() == {first: HOUR}


def test_window_and_grid_are_as_configured(full):
    s, planner = full(window=2 * HOUR, resolution=HOUR // 2 + 7)
    first, second = whole(s), whole(s)
    planned = planner.make()
    start = planned[first] + s.START // s.NS
    assert start % (HOUR // 2 + 7) == 0
    assert start >= HOUR
    assert planned[second] == -1  # beyond the window: no promise, and no estimate
    # given a coarse grid, then there is a pass when the grid has a point, though nothing ends
    plan = planner.passes.make(s.now)
    due = planner.passes.next_due(plan, s.now)
    assert due % ((HOUR // 2 + 7) * s.NS) == 0
    assert 0 < due - s.now <= (HOUR // 2 + 7) * s.NS


def test_what_would_start_sooner_leaves_the_promises_of_others_alone(full):
    s, planner = full()
    s.do(cmd.UpdateJobs(s.ALICE, s.select(1), cmd.JobChanges(time_limit=HOUR)))
    narrow = s.submit(time_limit=HOUR, components={"cpus_per_task": 1000, "ntasks": 1})
    first = whole(s)
    assert planner.make() == {narrow: HOUR, first: 2 * HOUR}
    s.ended(1)
    # given room beside the one that started, until the one that waits for all of the node
    planner.make()
    last = s.submit(time_limit=2 * HOUR, components={"cpus_per_task": 1000, "ntasks": 1})
    planner.make()
    found = planner.passes.sooner(last, (), s.now)
    assert [(remedy.kind.name, remedy.limit) for remedy in found] == [("TIME_LIMIT", HOUR)]
    assert planner.passes.sooner(first, (), s.now) == ()
    assert planner.passes.sooner(99, (), s.now) == ()


def test_replanning_keeps_nothing(full):
    s, planner = full("conservative-replan")
    first = whole(s)
    planner.make()
    whole(s, who=s.OPERATOR, nice=-10)
    assert planner.make()[first] == 2 * HOUR
    assert planner.move(first) is None


@pytest.mark.parametrize("policy", ["fifo", "easy"])
def test_other_policies_keep_no_promises(full, policy):
    s, planner = full(policy)
    whole(s)
    planner.make()
    planner._catch_up()
    assert planner.passes.tables.standing.promises() is None


def test_an_unknown_policy_is_refused(scenario):
    s = scenario()
    config = replace(s.config, scheduler=SchedulerConfig(policy="best"))
    assert s.refused(cmd.ApplyConfig(s.ROOT, config)) == cmd.Refusal.BAD_CONFIG


def test_every_cause_has_words():
    assert MOVES.keys() == set(MoveCause)
