"""Terms of the lease that change: the agent says when every step here goes by the new ones."""

from __future__ import annotations

from crane.session import StepKey, StepStarted
from craned.core import lease
from craned.core.handle import handle
from craned.core.instructions import Hangup, Instruction, Remember
from craned.core.state import AgentState, Attempt, Phase, Step
from craned.core.stimuli import (
    Adopted,
    Connected,
    Contact,
    Disconnected,
    Heard,
    NotRemembered,
    Stimulus,
    Tick,
)
from craned.core.terms import KEPT_LOOK

S = 1_000_000_000
KEEP = (60, False)
KEPT = KEPT_LOOK * 5 // 4 + lease.SLACK
"""Until all have looked who looked now and then before."""


class Agent:
    """The core between sessions, each of which has terms (lease in seconds, kill)."""

    def __init__(self, terms: tuple[int, bool], jobs: int = 1) -> None:
        self.state, self.now, self.stream = AgentState(), 1000 * S, 0
        self.register(*terms)
        for job in range(1, jobs + 1):
            key = StepKey(job, -1, 1)
            attempt = Attempt(job, 1, {-1: Step(key, Phase.RUNNING)})
            self.state.jobs[job] = {1: attempt}
            self.state.steps += 1

    def tell(self, stimulus: Stimulus) -> list[Instruction]:
        return handle(self.state, stimulus, self.now)

    def register(self, seconds: int, kill: bool) -> int:
        """What the new registration says that steps are held to, in seconds."""
        self.tell(Disconnected(self.stream))
        self.stream += 1
        said = lease.claim(self.state, self.now)
        told = self.tell(Connected(1, self.stream, seconds * S, kill, self.now))
        assert any(isinstance(what, Remember) for what in told)
        return said // S

    def renew(self) -> None:
        self.tell(Heard(self.stream, self.now))

    def next_hangup(self) -> int:
        """Nanoseconds until the agent registers again of its own accord, while it is renewed."""
        begun = self.now
        while not any(isinstance(what, Hangup) for what in self.tell(Tick())):
            due = lease.next_due(self.state)
            assert due is not None
            self.now = min(due, self.now + S)
            self.renew()
        return self.now - begun


def test_kept_steps_are_held_to_a_lease_when_their_shims_have_looked() -> None:
    agent = Agent(KEEP)
    assert agent.register(10, True) == 0
    assert agent.next_hangup() == KEPT
    assert agent.tell(Tick()) == [], "once is enough"
    assert agent.register(10, True) == 10
    assert lease.next_due(agent.state) == lease.expiry(agent.state), "no more of it"


def test_a_registration_in_between_is_too_early() -> None:
    agent = Agent(KEEP)
    agent.register(10, True)
    agent.now += KEPT // 2
    assert agent.register(10, True) == 0
    assert agent.next_hangup() == KEPT - KEPT // 2


def test_another_lease_counts_when_half_of_the_old_one_has_passed() -> None:
    agent = Agent((80, True))
    assert agent.register(10, True) == 80
    assert agent.next_hangup() == 51 * S
    assert agent.register(10, True) == 10


def test_terms_that_change_twice_wait_for_those_who_have_seen_neither() -> None:
    agent = Agent((80, True))
    agent.register(10, True)
    agent.now += S
    agent.register(20, True)
    assert agent.next_hangup() == 50 * S


def test_without_steps_there_is_nothing_to_wait_for() -> None:
    agent = Agent(KEEP, jobs=0)
    agent.register(10, True)
    assert lease.next_due(agent.state) == lease.expiry(agent.state)
    assert agent.register(10, True) == 10


def test_steps_that_are_kept_are_held_to_nothing() -> None:
    agent = Agent((60, True))
    agent.register(*KEEP)
    assert lease.next_due(agent.state) is None
    agent.now += 1000 * S
    assert agent.register(*KEEP) == 0


def test_a_lease_that_changes_within_a_session_is_a_change_too() -> None:
    agent = Agent((80, True))
    agent.register(80, True)
    told = agent.tell(Heard(agent.stream, agent.now, 20 * S))
    assert told == [Remember(Contact(1, 20 * S, True, agent.now, agent.now + 51 * S))]


def test_what_could_not_be_written_down_is_never_said_to_hold() -> None:
    agent = Agent(KEEP)
    agent.register(10, True)
    agent.tell(NotRemembered())
    agent.register(10, True)
    assert lease.next_due(agent.state) == lease.expiry(agent.state)
    agent.now += 1000 * S
    assert agent.register(10, True) == 0
    # but for steps that come after
    agent.state.jobs.clear()
    agent.register(20, True)
    assert agent.register(20, True) == 20


def test_a_restarted_agent_goes_on_waiting() -> None:
    running = (StepStarted(StepKey(1, -1, 1), 5),)
    for contact, wait in (
        (Contact(1, 10 * S, True, 1000 * S, 1007 * S), 7 * S),
        (None, None),
    ):
        agent = Agent(KEEP, jobs=0)
        agent.state = AgentState()
        agent.tell(Adopted(running, (), contact))
        assert agent.register(10, True) == 0
        if wait is None:
            assert lease.next_due(agent.state) == lease.expiry(agent.state)
        else:
            assert agent.next_hangup() == wait
            assert agent.register(10, True) == 10
