"""Random histories of an agent: whatever happens in whatever order, its promises hold.

A launcher and a controller are played by the test: the launcher keeps what is alive and what its
spool says, the controller what it asked for and what it was told.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from crane.jobspec import BATCH_STEP, JobSpec, Submission
from crane.session import (
    EndCause,
    EndJob,
    JobReleased,
    LaunchStep,
    NodeShare,
    Order,
    SignalJob,
    StepEnded,
    StepKey,
    StepStarted,
)
from craned.core.handle import handle
from craned.core.instructions import Forget, Instruction, Kill, Launch, Remember, Send
from craned.core.lease import next_due
from craned.core.state import AgentState
from craned.core.stimuli import (
    Acknowledged,
    Adopted,
    Connected,
    Contact,
    Disconnected,
    Flush,
    Heard,
    LauncherReports,
    OrdersReceived,
    Stimulus,
    Tick,
)
from craned.core.verify import verify

S = 1_000_000_000
SUBMISSION = Submission(JobSpec())


class World:
    """An agent's core between a launcher that never lies and a controller that repeats itself."""

    def __init__(self, *, kill: bool) -> None:
        self.state = AgentState()
        self.kill = kill
        self.now = 1000 * S
        self.stream = 0
        self.connected = False
        self.alive: dict[StepKey, None] = {}
        self.spool: dict[StepKey, StepEnded | None] = {}
        self.told: dict[StepKey, int] = {}
        """Key -> number of the newest report of its end that was sent in this session."""
        self.launched: dict[StepKey, int] = {}
        self.released: dict[tuple[int, int], None] = {}
        self.contact: Contact | None = None
        self.high = 0

    def tell(self, stimulus: Stimulus) -> None:
        instructions = handle(self.state, stimulus, self.now)
        verify(self.state)
        for instruction in instructions:
            self.perform(instruction)

    def perform(self, instruction: Instruction) -> None:
        match instruction:
            case Launch(order=order):
                key = order.key
                self.launched[key] = self.launched.get(key, 0) + 1
                assert self.launched[key] == 1, f"{key} was launched twice"
                assert (key.job_id, key.attempt) not in self.released, f"{key} after its release"
                assert not any(
                    other.job_id == key.job_id and other.attempt != key.attempt
                    for other in self.alive
                ), f"{key} beside another attempt"
                self.alive[key] = None
                self.spool[key] = None
            case Kill(key=key):
                assert key in self.launched
            case Send(stream=stream, reports=reports):
                assert stream == self.stream
                assert self.connected
                for seq, report in reports:
                    self.take(seq, report)
            case Forget(key=key):
                # One that was ended while it waited to be launched has no record.
                ended = self.spool.pop(key) if key in self.launched else True
                assert ended is not None, f"{key} has not ended"
            case Remember(contact=contact):
                self.contact = contact
            case _:
                pass

    def take(self, seq: int, report: object) -> None:
        assert seq > self.high, "numbers ascend within a session"
        self.high = seq
        if isinstance(report, JobReleased):
            self.release(report.job_id, report.attempt)
        elif isinstance(report, StepEnded):
            assert report.key not in self.alive, "told to have ended, and alive"
            self.told[report.key] = seq
            if report.released:
                self.release(report.key.job_id, report.key.attempt)

    def release(self, job_id: int, attempt: int) -> None:
        assert not any((k.job_id, k.attempt) == (job_id, attempt) for k in self.alive)
        self.released[job_id, attempt] = None

    # --- what may happen ---------------------------------------------------------------------------

    def connect(self, _: int) -> None:
        self.stream += 1
        self.connected, self.high = True, 0
        self.tell(Connected(1, self.stream, 60 * S, self.kill, self.now))

    def disconnect(self, _: int) -> None:
        self.connected = False
        self.tell(Disconnected(self.stream))

    def order(self, order: Order) -> None:
        self.tell(OrdersReceived(1, self.stream, (order,)))

    def launch(self, pick: int) -> None:
        key = StepKey(1 + pick % 3, pick // 3 % 3 - 1, 1 + pick // 9 % 2)
        share = (NodeShare("n1", 1000),)
        self.order(LaunchStep(key, 0, 0, "root", SUBMISSION, share, ("n1",), "p", 0))

    def end_job(self, pick: int) -> None:
        self.order(EndJob(1 + pick % 3, 1 + pick // 3 % 2, EndCause.CANCELLED))

    def signal(self, pick: int) -> None:
        self.order(SignalJob(1 + pick % 3, 1, 10, batch_only=bool(pick % 2)))

    def start(self, pick: int) -> None:
        if self.alive:
            key = list(self.alive)[pick % len(self.alive)]
            self.tell(LauncherReports((StepStarted(key, self.now, 1),)))

    def exit(self, pick: int) -> None:
        if self.alive:
            key = list(self.alive)[pick % len(self.alive)]
            del self.alive[key]
            end = self.spool[key] = StepEnded(key, EndCause.EXIT, exit_code=pick % 3)
            self.tell(LauncherReports((end,)))

    def flush(self, _: int) -> None:
        self.tell(Flush())

    def acknowledge(self, pick: int) -> None:
        if self.connected:
            self.tell(Acknowledged(self.stream, self.high - pick % 3))

    def wait(self, pick: int) -> None:
        self.now += pick * S
        due = next_due(self.state)
        self.tell(Tick())
        if due is not None and due <= self.now:
            assert self.state.lost

    def heard(self, _: int) -> None:
        self.tell(Heard(self.stream, self.now))

    def restart(self, _: int) -> None:
        """The agent is killed; a new one reads the spool. The controller ends what it released."""
        self.connected = False
        self.state = AgentState()
        running = tuple(StepStarted(key, 0, 1) for key in self.alive)
        ended = tuple(end for end in self.spool.values() if end is not None)
        self.tell(Adopted(running, ended, self.contact))


ACTIONS = (
    World.connect, World.disconnect, World.launch, World.launch, World.launch, World.end_job,
    World.signal, World.start, World.exit, World.exit, World.flush, World.acknowledge, World.wait,
    World.heard,
)  # fmt: skip
HISTORIES = st.lists(st.tuples(st.integers(0, len(ACTIONS) - 1), st.integers(0, 40)), max_size=60)


def settle(world: World) -> None:
    """Faults are over: everything alive ends, is told and acknowledged."""
    world.connect(0)
    while world.alive:
        world.exit(0)
    while world.state.unsent:
        world.flush(0)
    world.acknowledge(0)
    assert not world.alive
    assert world.state.listed() == ()
    assert world.state.jobs == {}
    assert world.state.first_report() == 0
    assert world.spool == {}, "every record was forgotten"
    assert all(key in world.told for key in world.launched), "every step's end was told"


@settings(deadline=None, max_examples=150)
@given(HISTORIES, st.booleans())
def test_no_history_runs_a_step_twice_or_loses_its_end(
    history: list[tuple[int, int]], kill: bool
) -> None:
    world = World(kill=kill)
    world.tell(Adopted())
    world.connect(0)
    for action, pick in history:
        ACTIONS[action](world, pick)
    settle(world)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(HISTORIES, st.just(0)), max_size=3), HISTORIES)
def test_restarts_change_nothing_but_what_was_only_said(
    lives: list[tuple[list[tuple[int, int]], int]], last: list[tuple[int, int]]
) -> None:
    world = World(kill=False)
    world.tell(Adopted())
    world.connect(0)
    for history, _ in lives:
        for action, pick in history:
            ACTIONS[action](world, pick)
        # Ends that were acknowledged are the controller's; it asks for these steps no more.
        world.restart(0)
        world.launched = dict.fromkeys(world.spool, 1)
        world.released = {}
        world.connect(0)
    for action, pick in last:
        ACTIONS[action](world, pick)
    settle(world)


def test_long_histories() -> None:
    for seed in range(200):
        picks = random.Random(seed)
        world = World(kill=seed % 2 == 0)
        world.tell(Adopted())
        world.connect(0)
        for _ in range(80):
            picks.choice(ACTIONS)(world, picks.randrange(41))
        settle(world)


def test_the_batch_step_is_minus_one() -> None:
    assert BATCH_STEP == -1, "the histories above count on it"
