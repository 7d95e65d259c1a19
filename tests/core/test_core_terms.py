"""Fences go by what the agents were told; bounds on what arrays take; queues at their real cost."""

from __future__ import annotations

from dataclasses import replace
from heapq import heapify
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.arrayspec import indices
from crane.config.model import Limits, Timeouts
from crane.jobspec import NO_BLOB, ArraySpec, BlobRef
from crane.session import StepRequest
from cranectld.core import commands as cmd
from cranectld.core.arrays import new_record, spans_of
from cranectld.core.due import due_alarms
from cranectld.core.identity import CONTROLLER
from cranectld.core.query import matches


def reconfigure(s, **timeouts):
    old = s.state.config
    s.do(cmd.ApplyConfig(CONTROLLER, replace(old, timeouts=replace(old.timeouts, **timeouts))))


def cluster(scenario, **timeouts):
    return scenario(scenario.make_config(timeouts=Timeouts(**timeouts)))


def fence(s, job_id, node="n1"):
    return s.job(job_id).run.fences[node]


def running(s):
    job_id = s.submit(requeue=True)
    assert s.start(job_id, "n1") == 1
    return job_id


def test_no_fence_for_an_agent_that_was_told_to_keep_its_jobs(scenario):
    s = cluster(scenario, lost_contact="keep")
    job_id = running(s)
    # when the site changes its mind after the agent was told, and the agent falls silent
    reconfigure(s, lost_contact="kill")
    s.silent("n1")
    # then nobody knows when its processes are gone: the job must not be run again
    assert fence(s, job_id) == 0
    s.wait(10_000)
    assert s.states(job_id) == "R"


def test_a_shorter_lease_counts_from_when_the_agent_was_told(scenario):
    s = cluster(scenario, lost_contact="kill", lease=60, kill_grace=30)
    job_id = running(s)
    reconfigure(s, lease=10, kill_grace=5)
    s.silent("n1")
    assert fence(s, job_id) == s.now + 90 * s.NS
    # when it registers again its jobs still have the lease and the grace of their launch
    s.started(job_id)
    s.register("n1", [s.key(job_id)])
    s.silent("n1")
    assert fence(s, job_id) == s.now + 90 * s.NS
    # and when it registers with none of them, what is launched there from then on has the new ones
    s.register("n1")
    later = running(s)
    s.silent("n1")
    assert fence(s, later) == s.now + 15 * s.NS


def test_jobs_launched_under_keep_have_no_fence_however_often_their_agent_is_told_to_kill(scenario):
    s = cluster(scenario, lost_contact="keep")
    job_id = running(s)
    s.started(job_id)
    reconfigure(s, lost_contact="kill", lease=10, kill_grace=5)
    s.register("n1", [s.key(job_id)])
    s.silent("n1")
    assert fence(s, job_id) == 0
    s.register("n1")
    later = running(s)
    s.silent("n1")
    assert fence(s, later) == s.now + 15 * s.NS


def test_steps_that_follow_the_new_terms_have_the_fence_of_those(scenario):
    s = cluster(scenario, lost_contact="keep", kill_grace=30)
    job_id = running(s)
    s.started(job_id)
    reconfigure(s, lost_contact="kill", lease=10, kill_grace=5)
    s.register("n1", [s.key(job_id)])
    # when the agent says that every step there is held to a lease by now
    s.register("n1", [s.key(job_id)], held_lease=10.0)
    s.silent("n1")
    assert fence(s, job_id) == s.now + 40 * s.NS, "with the grace of its launch"
    # and when it is shortened once more, the longer one counts until they follow again
    s.register("n1", [s.key(job_id)], held_lease=10.0)
    reconfigure(s, lease=8)
    s.register("n1", [s.key(job_id)], held_lease=10.0)
    s.silent("n1")
    assert fence(s, job_id) == s.now + 40 * s.NS
    s.register("n1", [s.key(job_id)], held_lease=8.0)
    s.silent("n1")
    assert fence(s, job_id) == s.now + 38 * s.NS


def test_steps_held_to_a_lease_have_no_fence_once_they_may_be_kept(scenario):
    s = cluster(scenario, lost_contact="kill")
    job_id = running(s)
    s.started(job_id)
    reconfigure(s, lost_contact="keep")
    s.register("n1", [s.key(job_id)], held_lease=60.0)
    s.silent("n1")
    assert fence(s, job_id) == 0


def test_kill_taken_back_leaves_no_fence(scenario):
    s = cluster(scenario, lost_contact="kill")
    job_id = running(s)
    reconfigure(s, lost_contact="keep")
    reconfigure(s, lost_contact="kill")
    s.silent("n1")
    assert fence(s, job_id) == 0, "it may have been told to keep them meanwhile"


def test_arrays_have_a_bound_together_until_they_are_forgotten(scenario):
    s = scenario(scenario.make_config(limits=Limits(max_array_tasks=10)))
    first = s.submit(array="0-7")
    assert s.submit(array="0-2").code == cmd.Refusal.LIMIT_EXCEEDED
    both = s.submit(2, array="0-1")
    assert both[0] == first + 1
    assert both[1].code == cmd.Refusal.LIMIT_EXCEEDED, "those of one batch count together"
    s.cancel(first)
    assert s.submit(array="0-2").code == cmd.Refusal.LIMIT_EXCEEDED, "its columns are still there"
    s.wait(s.state.config.timeouts.min_job_age + 1)
    assert isinstance(s.submit(array="0-2"), int)


@pytest.mark.parametrize("limit", [10**10, 101 * 366 * 86_400])
def test_no_time_limit_beyond_all_bounds_for_a_running_job(s, limit):
    job_id = running(s)
    changes = cmd.JobChanges(time_limit=limit)
    reply = s.do(cmd.UpdateJobs(s.ROOT, cmd.Selector(ids=(cmd.SelectedId(job_id),)), changes))
    assert reply[0].error.code == cmd.Refusal.BAD_TIME


def test_jobs_are_selected_by_reservation_wckey_and_licence(s):
    job = s.job(s.submit(reservation="maint", wckey="w1", licences=(("matlab", 2),)))
    for filters in ({"reservations": ("maint",)}, {"wckeys": ("w1",)}, {"licences": ("matlab",)}):
        assert matches(job, cmd.Selector(**filters))
        (name,) = filters
        assert not matches(job, cmd.Selector(**{name: ("other",)}))


def test_memory_per_cpu_times_cpus_stays_within_bounds(s):
    refusal = s.submit(components={"cpus_per_task": 1 << 30, "mem_per_cpu": 1 << 40})
    assert refusal.code == cmd.Refusal.BAD_REQUEST


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 99))), st.integers(0, 9))
def test_due_alarms_are_all_those_up_to_now(heap, now):
    heapify(heap)
    assert sorted(due_alarms(heap, now)) == sorted(entry for entry in heap if entry[0] <= now)


@st.composite
def ranges(draw):
    out, low = [], 0
    for _ in range(draw(st.integers(0, 6))):
        first = low + draw(st.integers(0, 5))
        last = first + draw(st.integers(0, 12))
        out.append((first, last, draw(st.integers(1, 4))))
        low = last + 1
    return tuple(out)


@settings(deadline=None, max_examples=300)
@given(ranges().filter(bool), ranges())
def test_spans_of_ranges_are_the_positions_of_their_indices(own, given_ranges):
    spec = ArraySpec(own)
    places = list(indices(spec))
    wanted = dict.fromkeys(i for item in given_ranges for i in indices(ArraySpec((item,))))
    expected = [position for position, index in enumerate(places) if index in wanted]
    found = spans_of(new_record(spec, len(places)), given_ranges)
    assert [p for first, last in found for p in range(first, last + 1)] == expected
    assert all(a[1] + 1 < b[0] for a, b in pairwise(found))


@pytest.mark.parametrize(
    "spoil",
    [
        {"argv": NO_BLOB},
        {"name": "a\0b"},
        {"work_dir": "/" * 5_000},
        {"ticket": b"x" * 5_000},
        {"nodelist": ("n1",) * 100_000},
    ],
)
def test_steps_carry_nothing_that_could_not_be_run_or_kept(s, spoil):
    job_id = running(s)
    request = StepRequest(**{"argv": BlobRef(2, 0), **spoil})
    assert s.refused(cmd.CreateStep(s.ALICE, job_id, request)) == cmd.Refusal.BAD_REQUEST
