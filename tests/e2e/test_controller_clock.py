"""The controller's time: it never goes back, and a clock that is set takes no node for lost."""

from __future__ import annotations

import asyncio
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from crane.states import NodeState
from cranectld.core.contact import ContactBook
from cranectld.core.state import Node, State
from cranectld.shell.clock import Clock

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


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-100, 100), st.integers(0, 50))))
def test_time_never_goes_back_and_meets_the_wall_clock_again(steps):
    hands = Hands()
    clock = hands.clock()
    before = clock.now()
    for jump, passed in steps:
        hands.wall += jump * NS
        hands.passes(passed * NS)
        now = clock.now()
        assert now >= max(before, hands.wall)
        before = now
    hands.passes(2 * max(before - hands.wall, 0) + 2)
    clock.now()
    hands.passes(1)
    assert clock.now() - hands.wall <= 1


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


def test_a_clock_set_forward_takes_no_node_for_lost(site, kit):
    async def run():
        async with site.daemon() as daemon:
            peer = kit.agent(daemon.port, site.key)
            try:
                await peer.hello()
                checked = daemon._timers._checked
                clock, wall = daemon._clock, time.time_ns
                clock._wall = lambda: wall() + 7_200 * NS
                while daemon._timers._checked < checked + 7_200 * NS:
                    await asyncio.sleep(0.02)
                await daemon.loop.settled()
                assert daemon.loop.state.nodes["n1"].state is NodeState.UP
            finally:
                await peer.close()

    asyncio.run(run())
