"""The controller's time: a wall clock that is set shortens neither silences nor fences."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.states import JobState, NodeState
from cranectld.core.commands import Tick
from cranectld.core.contact import ContactBook
from cranectld.core.identity import Principal
from cranectld.core.state import Node, State
from cranectld.shell.clock import Clock

ALICE = Principal(1001, 1001, "alice")
NS = 1_000_000_000


class Hands:
    """A wall clock that can be set, beside one that cannot."""

    def __init__(self):
        self.wall, self.steady = 1_000 * NS, 0

    def passes(self, ns):
        self.wall += ns
        self.steady += ns

    def clock(self, last=0):
        return Clock(last, lambda: self.wall, lambda: self.steady)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(-100, 100), st.integers(0, 50), st.booleans())))
def test_time_passes_as_it_does_and_meets_the_wall_clock_again(steps):
    hands = Hands()
    clock = hands.clock()
    before = clock.now()
    for jump, passed, followed in steps:
        hands.wall += jump * NS
        hands.passes(passed * NS)
        now = clock.now()
        # never more than has passed, and never less than half of it, however the clock is set
        assert passed * NS // 2 <= now - before <= passed * NS
        assert clock.ahead() == max(hands.wall - now, 0)
        if followed:
            by = clock.ahead()
            clock.follow(by)
            assert clock.now() == now + by
        before = clock.now()
    hands.passes(2 * max(before - hands.wall, 0) + 2)
    now = clock.now()
    assert now + clock.ahead() == max(now, hands.wall)
    assert now <= hands.wall


def test_time_goes_on_while_the_host_sleeps():
    hands = Hands()
    clock = hands.clock()
    first = clock.now()
    hands.passes(3_600 * NS)  # both clocks count it
    assert (clock.now() - first, clock.ahead()) == (3_600 * NS, 0)


def test_a_controller_starts_at_the_wall_clock_but_not_before_its_log():
    hands = Hands()
    assert hands.clock().now() == hands.wall
    assert hands.clock(last=hands.wall + 5).now() == hands.wall + 5


def test_time_goes_on_while_the_wall_clock_is_behind():
    hands = Hands()
    clock = hands.clock(last=5_000 * NS)
    first = clock.now()
    hands.passes(60 * NS)
    assert clock.now() - first == 30 * NS


def test_an_excuse_grants_everyone_a_full_time_anew(site):
    state = State(nodes={"n1": Node(config=None, answering=True)})
    book = ContactBook(state, 0)
    book.heard("n1", 1)
    later = 3_600 * NS
    book.excuse(later)
    assert book.late(later + 30 * NS) == []
    assert [silent.node for silent in book.late(later + 61 * NS)] == ["n1"]


def test_a_step_changes_no_silence():
    state = State(nodes={"n1": Node(config=None, answering=True), "n2": Node(config=None)})
    timeouts = state.config.timeouts
    book = ContactBook(state, 0)
    book.heard("n2", 20 * NS)
    book.stepped(3_600 * NS)
    limit = 3_600 * NS + 20 * NS + int(timeouts.node * NS)
    assert book.late(limit) == []
    assert [(silent.node, silent.last_heard) for silent in book.late(limit + 1)] == [
        ("n2", 3_620 * NS)
    ]
    # who was granted a full lease by the start still is
    start = 3_600 * NS + int(max(timeouts.node, timeouts.lease) * NS)
    assert [silent.node for silent in book.late(start)] == []
    assert [silent.node for silent in book.late(start + 1)] == ["n1"]


def set_forward(daemon, seconds):
    """Set the controller's wall clock; gives where event time is then."""
    wall = daemon._clock._wall
    daemon._clock._wall = lambda: wall() + seconds * NS
    return daemon._clock.now() + seconds * NS


async def followed(daemon, instant):
    while daemon._clock.now() < instant:
        await asyncio.sleep(0.02)


def test_a_clock_set_forward_takes_no_node_for_lost(site, kit):
    async def run():
        async with site.daemon() as daemon:
            peer = kit.agent(daemon.port, site.key)
            try:
                await peer.hello()
                await followed(daemon, set_forward(daemon, 7_200))
                daemon._timers._look_who_is_late()
                await daemon.loop.settled()
                assert daemon.loop.state.nodes["n1"].state is NodeState.UP
                assert daemon._contacts.last_heard("n1") > daemon._clock.now() - 60 * NS
            finally:
                await peer.close()

    asyncio.run(run())


def test_a_clock_set_forward_brings_no_fence_nearer_and_begin_times_do_come(site, kit):
    terms = 'heartbeat = 0.1\nnode = 0.3\nlease = 1000\nlost_contact = "kill"'
    site.write(f"[timeouts]\n{terms}\n")

    async def run():
        async with site.daemon() as daemon:
            state = daemon.loop.state
            peer = kit.agent(daemon.port, site.key)
            await peer.hello()
            await daemon.control.call("SubmitJobs", ALICE, kit.jobs("a").SerializeToString())
            assert await daemon.loop.submit(kit.start(1)) == 1
            await peer.close()
            while not state.jobs[1].run.fences:
                await asyncio.sleep(0.02)
            fence = state.jobs[1].run.fences["n1"]
            # when the wall clock is set beyond the fence
            await followed(daemon, set_forward(daemon, 7_200))
            await daemon.loop.submit(Tick())
            # then the fence is as far away as before, and a begin time of the wall clock has come
            assert state.jobs[1].run.fences["n1"] == pytest.approx(fence + 7_200 * NS, abs=NS)
            assert state.jobs[1].state is JobState.RUNNING
            assert abs(daemon._clock.now() - daemon._clock._wall()) < NS

    asyncio.run(run())
