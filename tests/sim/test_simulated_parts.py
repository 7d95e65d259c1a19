"""The simulated parts one by one: what clock, network, disk and scale promise."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.session import EndCause, StepKey
from cranectld.core.events import EpochStarted, Logged
from cranectld.sim.clock import Clock, Process, seconds
from cranectld.sim.disk import FakeLog, FakeSpool, fold
from cranectld.sim.network import Network, Stream, Weather
from cranectld.sim.scale import Scale

KEY = StepKey(1, -1, 1)


class Ear:
    """An end of a stream that remembers."""

    def __init__(self) -> None:
        self.process = Process()
        self.heard: list[object] = []
        self.over = False

    def received(self, stream: Stream, message: object) -> None:
        assert not self.over
        self.heard.append(message)

    def broken(self, stream: Stream) -> None:
        assert not self.over, "told once"
        self.over = True


def drain(clock: Clock) -> None:
    while clock.step():
        pass


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 50), max_size=30))
def test_events_happen_in_order_of_time_then_of_asking(delays: list[int]) -> None:
    clock, seen = Clock(), []
    for number, delay in enumerate(delays):
        clock.after(delay, lambda n, d: seen.append((d, n)), number, delay)
    drain(clock)
    assert seen == sorted((delay, number) for number, delay in enumerate(delays))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), lose=st.sampled_from([0.0, 0.1, 0.5]), cut=st.booleans())
def test_a_stream_keeps_order_and_loses_only_a_tail(seed: int, lose: float, cut: bool) -> None:
    clock = Clock()
    network = Network(clock, random.Random(seed))
    network.weather = Weather(slow=0.3, lose=lose)
    agent, controller = Ear(), Ear()
    stream = network.dial("n1", agent, controller)
    assert stream is not None
    for number in range(20):
        clock.after(seconds(number * 0.1), stream.to_controller, number)
    if cut:
        clock.after(seconds(0.7), network.cut, "n1", seconds(1))
    drain(clock)
    assert controller.heard == list(range(len(controller.heard)))
    assert len(controller.heard) == 20 or controller.over
    assert (agent.over, controller.over) in {(True, True), (False, False)}


def test_nobody_answers_through_a_partition_and_late_words_arrive_after_it() -> None:
    clock = Clock()
    network = Network(clock, random.Random(1))
    agent, controller = Ear(), Ear()
    stream = network.dial("n1", agent, controller)
    assert stream is not None
    network.cut("n1", seconds(2))
    stream.to_controller("late")
    assert network.dial("n1", agent, controller) is None
    clock_end = clock.now + seconds(2)
    while (time := clock.next_time()) is not None and time < clock_end:
        clock.step()
    assert controller.heard == []
    drain(clock)
    assert controller.heard == ["late"]


def rows(log: FakeLog, count: int, first: int = 1) -> None:
    for seq in range(first, first + count):
        log.write([Logged(seq, seq, EpochStarted(seq))], 1)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), synced=st.integers(0, 5), written=st.integers(0, 5))
def test_a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest(
    seed: int, synced: int, written: int
) -> None:
    log = FakeLog()
    rows(log, synced)
    log.sync()
    rows(log, written, synced + 1)
    kept = log.crash(random.Random(seed))
    state = log.recover(random.Random(seed))
    assert 0 <= kept <= written
    assert state.seq == state.epoch == synced + kept


def test_folding_a_row_twice_is_refused() -> None:
    log = FakeLog()
    rows(log, 1)
    log.sync()
    state = log.recover(random.Random(1))
    with pytest.raises(AssertionError, match="gap"):
        fold(state, log.rows[0])


def test_a_step_is_claimed_once_and_a_power_cut_takes_only_what_was_not_written_back() -> None:
    spool = FakeSpool("s")
    record = spool.claim(KEY, 1)
    assert record is not None
    assert spool.claim(KEY, 2) is None
    spool.sync()
    spool.power_cut(random.Random(1))
    spool.bury(5)
    assert record.end is not None
    assert record.end.cause is EndCause.LOST


def test_scale_runs_an_array_on_many_agents_to_its_end() -> None:
    scale = Scale(nodes=40, cpus=8, planner="naive", task_seconds=2)
    job_id = scale.submit_array(1000)
    scale.run_until_ended(job_id, 1000)
    assert scale.completed(job_id) == 1000
    assert scale.world.truth.count == 1000
    assert not scale.world.log.rows
