"""Estimates of the planner: all that waits has one, and what came of earlier ones tells its worth."""

from __future__ import annotations

import pytest

from crane.config.model import SchedulerConfig
from cranectld.core import commands as cmd
from cranectld.shell import forecasting
from cranectld.shell.verdicts import Verdicts
from sched_core.forecast import FEW
from sched_core.names import Dimensions

pytestmark = pytest.mark.timeout(600)
HOUR = 3600


@pytest.fixture
def full(scenario, planning, monkeypatch):
    """One node, full for an hour, and its planner; every pass is followed by estimates."""
    monkeypatch.setattr(forecasting, "REST", -1.0)

    def make(policy="easy", depth=10_000):
        scheduler = SchedulerConfig(policy=policy, depth=depth)
        s = scenario(scenario.make_config(("n1",), scheduler=scheduler))
        planner = planning(s)
        whole(s)
        planner.make()
        return s, planner

    return make


def whole(s, limit=HOUR, **more):
    """A job that wants all of the node."""
    return s.submit(time_limit=limit, components={"cpus_per_task": 4000, "ntasks": 1}, **more)


def estimate(s, planner, job_id):
    """Start, earliest and latest start in seconds from the beginning."""
    found = planner.passes.forecasts.estimates.find(job_id)
    return found and tuple((value - s.START) // s.NS for value in found[:3])


def run_jobs(s, planner, seconds, count):
    """So many jobs, each foretold after the limit of the one before it, which ends early."""
    for _ in range(count):
        (running,) = [job.job_id for job in s.state.jobs.values() if job.run is not None]
        whole(s)
        planner.make()
        s.wait(seconds)
        s.ended(running)
        planner.make()


def test_every_job_has_an_estimate_also_behind_the_one_with_a_promise(full):
    s, planner = full()
    first, second, third = (whole(s) for _ in range(3))
    planner.make()
    starts = [estimate(s, planner, job)[0] for job in (first, second, third)]
    assert starts == [HOUR, 2 * HOUR, 3 * HOUR]
    # given a promise of which nothing is known yet, then it is the latest
    assert estimate(s, planner, first) == (HOUR, 0, HOUR)
    _, low, high = estimate(s, planner, second)
    assert low == 0
    assert high > 10 * HOUR


def test_what_is_held_ended_or_started_has_none(full):
    s, planner = full()
    first, second = whole(s), whole(s)
    planner.make()
    s.do(cmd.HoldJobs(s.ALICE, s.select(second)))
    s.ended(1)
    planner.make()
    assert s.states(first, second) == "R PD"
    assert estimate(s, planner, first) is estimate(s, planner, second) is None


def test_errors_are_recorded_when_jobs_start_and_narrow_the_interval(full):
    s, planner = full()
    figures = planner.passes.forecasts.figures
    assert "planner_forecast_starts" not in figures
    # given jobs that were promised a start after an hour and started after six minutes
    run_jobs(s, planner, 360, FEW)
    assert figures["planner_forecast_starts"] == FEW
    assert figures["planner_forecast_error_median_s"] == HOUR - 360
    assert figures["planner_forecast_error_p90_s"] == HOUR - 360
    now = (s.now - s.START) // s.NS
    waiting = whole(s)
    planner.make()
    start, low, high = estimate(s, planner, waiting)
    assert start == now + HOUR
    assert now + 300 < low <= now + 360  # quarters of an octave
    assert high == start  # a promise may be late only as often as promises were


def test_a_job_that_starts_at_once_tells_nothing_of_estimates(full):
    s, planner = full()
    s.ended(1)
    whole(s)
    planner.make()
    assert "planner_forecast_starts" not in planner.passes.forecasts.figures


def test_a_hold_makes_the_next_estimate_the_first(full):
    s, planner = full()
    job = whole(s)
    planner.make()
    s.do(cmd.HoldJobs(s.ALICE, s.select(job)))
    planner.make()
    s.wait(HOUR // 2)
    s.do(cmd.ReleaseJobs(s.ALICE, s.select(job)))
    planner.make()
    s.wait(HOUR // 2 - 60)
    s.ended(1)
    planner.make()
    # foretold at half time to wait half an hour, it did but for a minute
    assert planner.passes.forecasts.figures["planner_forecast_error_median_s"] == 60


def test_jobs_beyond_the_depth_have_an_estimate_once_errors_are_known(full):
    s, planner = full("fifo", depth=1)
    first, second = whole(s), whole(s)
    planner.make()
    assert estimate(s, planner, first)
    assert estimate(s, planner, second) is None
    table = planner.passes.forecasts._errors[0]
    table.counts[12, 48] = FEW  # as foretold
    planner.make()
    start, low, high = estimate(s, planner, second)
    assert low <= start == 2 * HOUR <= high


def test_tasks_of_an_array_are_estimated_one_after_the_other(full):
    s, planner = full()
    array = whole(s, array="0-2")
    planner.make()
    s.wait(60)
    s.ended(1)
    planner.make()
    assert planner.passes.forecasts.figures["planner_forecast_starts"] == 1
    planner.make()
    assert estimate(s, planner, array)[0] == 60 + HOUR


def test_verdicts_carry_start_and_interval_of_promises_as_the_pass_made_them(full):
    s, planner = full()
    first, second = whole(s), whole(s)
    planner.make()
    plan = planner.passes.make(s.now)
    verdicts = Verdicts(plan, Dimensions(), s.now, None, planner.passes.forecasts)
    found = verdicts.find(first)
    assert found.planned_start == found.latest == s.START + HOUR * s.NS
    assert found.earliest == s.now
    found = verdicts.find(second)
    assert found.planned_start == s.START + 2 * HOUR * s.NS
    assert found.earliest < found.planned_start < found.latest


def test_estimates_take_a_tenth_of_the_time_at_most(full, monkeypatch):
    s, planner = full()
    forecasts = planner.passes.forecasts
    monkeypatch.setattr(forecasting, "REST", 1e9)
    whole(s)
    planner.make()
    assert not forecasts.due
    late = whole(s)
    planner.make()
    assert forecasts.due
    assert estimate(s, planner, late) is None
