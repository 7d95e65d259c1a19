"""Usage for fair-share: charged when shares are given back, forgotten by half-lives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.config.model import PriorityConfig
from crane.record import replace
from cranectld.core import commands as cmd
from cranectld.core.fold import RequestCache, deltas, rebuild
from cranectld.core.usage import USAGE_MAX, present
from cranectld.shell.tables import PlannerTables
from cranectld.store.codec.state import decode_state, encode_state

HOUR = 3600
ALICE, BOB = ("", "alice"), ("", "bob")


@pytest.fixture
def charging(scenario):
    """Three nodes of a cluster that charges usage."""

    def make(half_life=0, kind="multifactor"):
        priority = PriorityConfig(kind=kind, fair_share=1000, half_life=half_life)
        return scenario(scenario.make_config(priority=priority))

    return make


def test_a_job_is_charged_for_the_cpus_it_held_until_it_gave_them_back(charging):
    s = charging()
    job = s.submit(account="physics")
    s.start(job, cpus=1500)
    s.wait(100)
    s.ended(job)
    assert s.state.usage == {("physics", "alice"): (1500 * 100, s.now // s.NS)}


def test_nodes_of_a_job_are_charged_each_until_it_is_released(charging):
    s = charging()
    job = s.submit()
    s.start(job, "n1", "n2", cpus=1000)
    s.wait(10)
    s.ended(job, "n1")
    assert s.state.usage[ALICE][0] == 1000 * 10
    s.wait(5)
    s.released(job, "n2")
    assert s.state.usage[ALICE][0] == 1000 * 10 + 1000 * 15


def test_usage_counts_half_after_a_half_life(charging):
    s = charging(half_life=HOUR)
    for who in (s.ALICE, s.BOB):
        job = s.submit(who=who)
        s.start(job)
        s.wait(1)
        s.ended(job)
    first = s.state.usage[ALICE][0]
    assert 990 <= first <= 1000
    s.wait(HOUR - 1)
    job = s.submit()
    s.start(job)
    s.ended(job)
    assert s.state.usage[ALICE][0] == first // 2
    assert s.state.usage[BOB][0] == first  # brought up to date when it is charged again


def test_another_half_life_holds_from_the_change_on(charging):
    s = charging(half_life=HOUR)
    job = s.submit()
    s.start(job)
    s.wait(10)
    s.ended(job)
    amount = s.state.usage[ALICE][0]
    s.wait(HOUR)
    priority = replace(s.config.priority, half_life=0)
    s.do(cmd.ApplyConfig(s.ROOT, replace(s.config, priority=priority)))
    assert s.state.usage[ALICE] == (amount // 2, s.now // s.NS)
    assert present(*s.state.usage[ALICE], s.now // s.NS + 99 * HOUR, 0) == amount // 2


def test_nothing_is_charged_where_priorities_are_basic(charging):
    s = charging(kind="basic")
    job = s.submit()
    s.start(job)
    s.wait(10)
    s.ended(job)
    assert s.state.usage == {}


def test_a_snapshot_keeps_usage_and_the_log_folds_to_it(charging):
    s = charging(half_life=HOUR)
    job = s.submit(account="physics")
    s.start(job)
    s.wait(10)
    s.ended(job)
    assert s.state.usage
    assert decode_state(encode_state(s.state)).usage == s.state.usage
    assert s.replayed() == s.state


def test_an_unknown_kind_of_priority_is_refused(charging):
    s = charging()
    config = replace(s.config, priority=PriorityConfig(kind="best"))
    assert s.refused(cmd.ApplyConfig(s.ROOT, config)) == cmd.Refusal.BAD_CONFIG


@given(st.integers(0, USAGE_MAX), st.integers(0, 10**10), st.integers(0, 10**6))
@settings(deadline=None)
def test_what_is_forgotten_never_comes_back(amount, later, half_life):
    found = present(amount, 0, later, half_life)
    assert 0 <= found <= amount
    if half_life and later == half_life:
        assert found == amount // 2


@given(st.integers(0, 1 << 32))
@settings(deadline=None, max_examples=25)
def test_the_planner_counts_as_the_state_does_whatever_happened(scenario, seed):
    """Usage kept by deltas equals usage begun from the whole state, but for roundings."""
    rng = random.Random(seed)
    priority = PriorityConfig(kind="multifactor", half_life=rng.choice((0, 60, HOUR)))
    s = scenario(scenario.make_config(priority=priority), strict=False)
    cache, tables, seen = RequestCache(), PlannerTables(), len(s.log)
    tables.apply(rebuild(s.state, cache), s.now)
    steps = 30
    for _ in range(steps):
        job = s.submit(who=rng.choice((s.ALICE, s.BOB)), account=rng.choice(("", "physics")))
        nodes = rng.sample(("n1", "n2", "n3"), rng.randint(1, 2))
        if not s.start(job, *nodes, cpus=rng.choice((500, 1000))):
            s.cancel(job, who=s.ROOT)
        running = [j for j in s.state.jobs.values() if j.run is not None]
        if running and rng.random() < 0.7:
            end = rng.choice(running)
            for node in list(end.run.holding):
                if end.run and rng.random() < 0.7:
                    s.released(end.job_id, node)
        tables.apply(deltas(s.state, s.log[seen:], cache), s.now + rng.randint(0, s.NS))
        s.wait(rng.choice((0, 0.3, 7, 100)))
        tables.apply(deltas(s.state, s.log[seen:], cache), s.now + rng.randint(0, s.NS))
        seen = len(s.log)
    fresh = PlannerTables()
    fresh.apply(rebuild(s.state, cache), s.now)
    now = s.now // s.NS
    kept, whole = tables.priorities.shares, fresh.priorities.shares
    names = [kept.names.text(row) for row in range(kept.rows)]
    for name in names:
        row = whole.row(name)
        counted = int(whole.usage(now)[row]) if row >= 0 else 0
        assert abs(int(kept.usage(now)[kept.row(name)]) - counted) <= 2 * steps
