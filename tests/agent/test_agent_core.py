"""The agent's core, stimulus by stimulus: orders, ends, the outbox, older controllers, the lease."""

from __future__ import annotations

import pytest

from crane.jobspec import BATCH_STEP, JobSpec, Submission
from crane.session import (
    EndCause,
    EndJob,
    JobReleased,
    LaunchStep,
    NodeShare,
    Order,
    SetTimeLimit,
    SignalJob,
    StepEnded,
    StepKey,
    StepStarted,
)
from craned.core import lease, outbox
from craned.core.handle import handle
from craned.core.instructions import (
    Forget,
    Hangup,
    Instruction,
    Kill,
    Launch,
    Remember,
    ReportsWaiting,
    Send,
    SetLimit,
    Signal,
)
from craned.core.state import MAX_TOMBSTONES, AgentState
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
from craned.core.terms import LOST_CONTACT
from craned.core.verify import verify

S = 1_000_000_000
SUBMISSION = Submission(JobSpec())
SHARES = (NodeShare("n1", 1000),)


def launch(job: int, step: int = BATCH_STEP, attempt: int = 1, grace: int = 5) -> LaunchStep:
    return LaunchStep(
        StepKey(job, step, attempt), 1000, 1000, "ann", SUBMISSION, SHARES, ("n1",), "p", 0,
        kill_grace=grace,
    )  # fmt: skip


def exited(job: int, step: int = BATCH_STEP, attempt: int = 1, code: int = 0) -> StepEnded:
    return StepEnded(StepKey(job, step, attempt), EndCause.EXIT, exit_code=code)


class Agent:
    """An agent's core, and what it said to do."""

    def __init__(self, *, connected: bool = True, kill: bool = False) -> None:
        self.state = AgentState()
        self.now = 1000 * S
        self.stream = 0
        self.kill = kill
        if connected:
            self.connect()

    def tell(self, stimulus: Stimulus) -> list[Instruction]:
        instructions = handle(self.state, stimulus, self.now)
        verify(self.state)
        return instructions

    def connect(self, epoch: int = 1) -> list[Instruction]:
        self.stream += 1
        return self.tell(Connected(epoch, self.stream, 60 * S, self.kill, self.now))

    def order(self, *orders: Order) -> list[Instruction]:
        return self.tell(OrdersReceived(1, self.stream, orders))

    def report(self, *reports: StepStarted | StepEnded) -> list[Instruction]:
        return self.tell(LauncherReports(reports))

    def flush(self) -> list[object]:
        sent: list[object] = []
        for instruction in self.tell(Flush()):
            if isinstance(instruction, Send):
                assert instruction.stream == self.stream
                sent += [report for _, report in instruction.reports]
        return sent

    def acknowledge(self) -> list[Instruction]:
        return self.tell(Acknowledged(self.stream, self.state.next_seq - 1))


def test_a_batch_job_is_launched_reported_in_one_message_and_forgotten() -> None:
    agent = Agent()
    order = launch(1)

    assert agent.tell(OrdersReceived(1, 1, (order,), (b"#!/bin/sh\n",))) == [
        Launch(order, (b"#!/bin/sh\n",))
    ]
    assert agent.state.listed() == (order.key,)
    assert agent.report(StepStarted(order.key, 5, 42)) == [ReportsWaiting()]
    agent.report(exited(1, code=3))
    assert agent.flush() == [StepEnded(order.key, EndCause.EXIT, exit_code=3, released=True)], (
        "a start that is told together with its end is left out"
    )
    assert agent.acknowledge() == [Forget(order.key)]
    assert agent.state.listed() == ()
    assert agent.state.steps == 0


def test_a_start_is_told_when_the_end_is_not_known_yet() -> None:
    agent = Agent()
    agent.order(launch(1))
    agent.report(StepStarted(StepKey(1, -1, 1), 5, 42))
    assert agent.flush() == [StepStarted(StepKey(1, -1, 1), 5, 42)]
    agent.report(exited(1))
    assert len(agent.flush()) == 1


def test_a_repeated_order_never_launches_again() -> None:
    agent = Agent()
    agent.order(launch(1))
    key = StepKey(1, -1, 1)

    assert agent.order(launch(1)) == [], "while it is being launched"
    agent.report(StepStarted(key, 5))
    agent.flush()
    assert agent.order(launch(1)) == [ReportsWaiting()], "while it runs: told again"
    assert [type(report) for report in agent.flush()] == [StepStarted]
    agent.report(exited(1, code=7))
    first = agent.flush()
    agent.order(launch(1))
    assert agent.flush() == first, "when it has ended: told again"
    agent.acknowledge()
    agent.order(launch(1))
    (answer,) = agent.flush()
    assert isinstance(answer, StepEnded), "when it was forgotten: refused"
    assert (answer.cause, answer.released) == (EndCause.CANCELLED, True)


def test_a_new_attempt_is_launched_after_the_old_one_is_over() -> None:
    agent = Agent()
    agent.order(launch(1))
    agent.report(exited(1))
    agent.flush()
    agent.acknowledge()
    assert agent.order(launch(1, attempt=2)) == [Launch(launch(1, attempt=2), ())]
    assert agent.order(launch(1, attempt=1)) == [ReportsWaiting()], "the old one is refused"


def test_a_new_attempt_waits_for_the_last_process_of_the_old_one() -> None:
    agent = Agent()
    agent.order(launch(1))
    again = launch(1, attempt=2)
    assert agent.order(again) == [Kill(StepKey(1, -1, 1), 0, EndCause.CANCELLED)]
    assert agent.report(exited(1)) == [Launch(again, ()), ReportsWaiting()]


def test_a_new_attempt_that_waits_can_be_ended() -> None:
    agent = Agent()
    agent.order(launch(1))
    agent.order(launch(1, attempt=2))
    agent.order(EndJob(1, 2, EndCause.CANCELLED))
    (answer,) = agent.flush()
    assert isinstance(answer, StepEnded)
    assert answer.released
    assert agent.report(exited(1)) == [ReportsWaiting()], "and is not launched afterwards"


def test_ending_a_job_ends_every_step_once_and_answers_with_the_last() -> None:
    agent = Agent()
    agent.order(launch(1, grace=9), launch(1, step=0))
    end = EndJob(1, 1, EndCause.TIMEOUT)
    assert agent.order(end) == [
        Kill(StepKey(1, -1, 1), 9, EndCause.TIMEOUT),
        Kill(StepKey(1, 0, 1), 5, EndCause.TIMEOUT),
    ]
    assert agent.order(end) == []
    agent.order(launch(1, step=1))
    (refused,) = agent.flush()
    assert isinstance(refused, StepEnded)
    assert (refused.key.step, refused.released) == (1, False)
    agent.report(exited(1))
    assert agent.flush() == [], "the batch script's end waits for the rest"
    agent.report(exited(1, step=0))
    assert [report.released for report in agent.flush()] == [False, True]  # type: ignore[attr-defined]


def test_ending_an_unknown_attempt_is_answered_at_once_and_for_good() -> None:
    agent = Agent()
    agent.order(EndJob(5, 2, EndCause.CANCELLED))
    assert agent.flush() == [JobReleased(5, 2)]
    assert not any(isinstance(i, Launch) for i in agent.order(launch(5, attempt=2)))
    assert agent.order(launch(5, attempt=3))[0] == Launch(launch(5, attempt=3), ())


def test_ending_a_job_whose_steps_have_ended_here_releases_it() -> None:
    agent = Agent()
    agent.order(launch(1, step=0))
    agent.report(exited(1, step=0))
    (told,) = agent.flush()
    assert isinstance(told, StepEnded)
    assert not told.released, "the batch script runs elsewhere: more may come"
    agent.order(EndJob(1, 1, EndCause.EXIT))
    assert agent.flush() == [JobReleased(1, 1)]
    agent.acknowledge()
    assert agent.state.jobs == {}


def test_a_step_done_elsewhere_leaves_room_for_the_next_step_but_not_for_itself() -> None:
    agent = Agent()
    agent.order(launch(1, step=0))
    agent.report(exited(1, step=0))
    agent.flush()
    agent.acknowledge()
    assert agent.order(launch(1, step=1)) == [Launch(launch(1, step=1), ())]
    agent.order(launch(1, step=0))
    (answer,) = agent.flush()
    assert isinstance(answer, StepEnded)
    assert not answer.released


def test_when_the_batch_script_ends_the_rest_of_the_job_is_ended_first() -> None:
    agent = Agent()
    agent.order(launch(1), launch(1, step=0))
    assert agent.report(exited(1, code=4)) == [Kill(StepKey(1, 0, 1), 5, EndCause.CANCELLED)]
    agent.report(exited(1, step=0))
    step, batch = agent.flush()
    assert isinstance(step, StepEnded)
    assert isinstance(batch, StepEnded)
    assert (step.key.step, step.released) == (0, False)
    assert (batch.key.step, batch.exit_code, batch.released) == (-1, 4, True)


def test_signals_and_limits_go_to_the_steps_they_name() -> None:
    agent = Agent()
    agent.order(launch(1), launch(1, step=0))
    batch, step = StepKey(1, -1, 1), StepKey(1, 0, 1)
    assert agent.order(SignalJob(1, 1, 10)) == [Signal(batch, 10, False), Signal(step, 10, False)]
    assert agent.order(SignalJob(1, 1, 10, step=0)) == [Signal(step, 10, False)]
    assert agent.order(SignalJob(1, 1, 10, batch_only=True)) == [Signal(batch, 10, True)]
    assert agent.order(SetTimeLimit(1, 1, 99)) == [SetLimit(batch, 99), SetLimit(step, 99)]
    assert agent.order(SignalJob(1, 2, 10)) == agent.order(SetTimeLimit(9, 1, 1)) == []


def test_nothing_is_lost_over_a_disconnection() -> None:
    agent = Agent()
    agent.order(launch(1), launch(2))
    agent.report(exited(1))
    sent = agent.flush()
    agent.tell(Disconnected(1))
    assert agent.report(exited(2)) == [], "no session, nothing to be said"
    assert agent.flush() == []
    agent.connect()
    resent = agent.flush()
    assert resent[:1] == sent
    assert len(resent) == 2
    assert agent.tell(Acknowledged(1, 99)) == [], "an answer in the old session is not obeyed"
    assert agent.acknowledge() == [Forget(StepKey(1, -1, 1)), Forget(StepKey(2, -1, 1))]


def test_orders_of_older_sessions_and_epochs_are_refused() -> None:
    agent = Agent()
    agent.connect(epoch=3)
    for epoch, stream in ((1, 1), (3, 1), (2, 2), (4, 2), (3, 3)):
        assert agent.tell(OrdersReceived(epoch, stream, (launch(1),))) == []
    (answer,) = agent.tell(Connected(2, 9, 60 * S, False, agent.now))
    assert isinstance(answer, Hangup)
    assert (agent.state.epoch, agent.state.stream) == (3, 2)
    agent.tell(Disconnected(2))
    assert agent.tell(OrdersReceived(3, 2, (launch(1),))) == []


def test_a_lease_that_runs_out_kills_where_that_is_wanted() -> None:
    agent = Agent(kill=True)
    agent.order(launch(1), launch(2))
    due = lease.next_due(agent.state)
    assert due == agent.now + 59 * S
    agent.now = due - 1
    assert agent.tell(Tick()) == []
    agent.now = due
    assert agent.tell(Tick()) == [
        Kill(StepKey(1, -1, 1), 5, EndCause.LOST),
        Kill(StepKey(2, -1, 1), 5, EndCause.LOST),
    ]
    assert agent.tell(Tick()) == []
    assert lease.next_due(agent.state) is None
    agent.order(launch(3))
    (refused,) = agent.flush()
    assert isinstance(refused, StepEnded)
    assert refused.cause is EndCause.LAUNCH_FAILED
    agent.report(StepEnded(StepKey(1, -1, 1), EndCause.LOST))
    (told,) = agent.flush()
    assert isinstance(told, StepEnded)
    assert (told.cause, told.message, told.released) == (EndCause.LOST, LOST_CONTACT, True)


def test_a_lease_that_runs_out_changes_nothing_where_jobs_are_kept() -> None:
    agent = Agent(kill=False)
    agent.order(launch(1))
    agent.now += 1000 * S
    assert agent.tell(Tick()) == []
    assert agent.order(launch(2)) == [Launch(launch(2), ())]


def test_the_lease_runs_from_what_the_controller_has_heard() -> None:
    agent = Agent(kill=True)
    start = agent.now
    agent.now += 30 * S
    assert agent.tell(Heard(1, start + 10 * S)) == [
        Remember(Contact(1, 60 * S, True, start + 10 * S, settled=start))
    ]
    assert agent.tell(Heard(1, start + 11 * S)) == [], "the disk follows at a distance"
    assert agent.tell(Heard(1, start + 5 * S)) == []
    assert agent.tell(Heard(7, start + 29 * S)) == [], "another session says nothing"
    assert lease.next_due(agent.state) == start + 70 * S


def test_a_restarted_agent_answers_for_what_it_found() -> None:
    agent = Agent(connected=False)
    running, over = StepKey(1, -1, 1), StepKey(2, -1, 3)
    contact = Contact(4, 60 * S, True, agent.now - 50 * S)
    agent.tell(Adopted((StepStarted(running, 5, 42),), (StepEnded(over, EndCause.EXIT),), contact))
    assert agent.state.listed() == (running, over)
    assert lease.next_due(agent.state) == agent.now + 9 * S, "the lease did not stop meanwhile"
    assert isinstance(agent.tell(Connected(3, 1, S, False, 0))[0], Hangup)
    agent.tell(Connected(5, 1, 60 * S, True, agent.now))
    agent.stream = 1
    assert [type(report) for report in agent.flush()] == [StepStarted, StepEnded]
    assert agent.tell(OrdersReceived(5, 1, (launch(1), launch(2, attempt=3)))) == [ReportsWaiting()]
    assert agent.report(exited(1)) == []


def test_a_restarted_agent_ends_what_a_batch_script_left_behind() -> None:
    agent = Agent(connected=False)
    left, batch = StepKey(1, 0, 1), StepKey(1, -1, 1)
    instructions = agent.tell(Adopted((StepStarted(left, 5),), (StepEnded(batch, EndCause.EXIT),)))
    assert instructions == [Kill(left, 5, EndCause.CANCELLED)]


def test_a_late_word_about_a_forgotten_step_is_nothing_new() -> None:
    agent = Agent()
    agent.order(launch(1))
    agent.report(exited(1))
    agent.flush()
    agent.acknowledge()
    assert agent.report(StepStarted(StepKey(1, -1, 1), 1), exited(1)) == []


def test_an_outage_of_the_controller_is_told_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_SEND", 10)
    agent = Agent()
    agent.order(*(launch(job) for job in range(1, 26)))
    agent.tell(Disconnected(1))
    agent.report(*(exited(job) for job in range(1, 26)))
    agent.connect()
    sizes = []
    while sent := agent.flush():
        sizes.append(len(sent))
    assert sizes == [10, 10, 5]
    assert len(agent.acknowledge()) == 25


def test_what_is_remembered_is_bounded() -> None:
    agent = Agent()
    extra = 50
    for job in range(1, MAX_TOMBSTONES + extra):
        handle(agent.state, OrdersReceived(1, 1, (EndJob(job, 1, EndCause.EXIT),)), agent.now)
        if job % 5000 == 0:
            agent.flush()
            agent.acknowledge()
    verify(agent.state)
    assert len(agent.state.ended_attempts) == MAX_TOMBSTONES
