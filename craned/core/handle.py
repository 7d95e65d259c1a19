"""The agent's core: `handle(state, stimulus, now)` changes the state and says what to do.

No clock, no randomness, no I/O: `now` is an instant (ns) of a clock that never goes back, and what
the shell does of the instructions returns as stimuli. The simulator runs this very code.
"""

from __future__ import annotations

from crane.session import StepEnded
from craned.core import lease, lifecycle, outbox
from craned.core.instructions import Hangup, Instruction, ReportsWaiting
from craned.core.orders import obey
from craned.core.state import AgentState
from craned.core.stimuli import (
    Acknowledged,
    Adopted,
    Connected,
    Disconnected,
    Flush,
    Heard,
    LauncherReports,
    NotRemembered,
    OrdersReceived,
    Stimulus,
)


def handle(state: AgentState, stimulus: Stimulus, now: int) -> list[Instruction]:
    """What to do about a stimulus, in this order."""
    idle = not state.unsent
    instructions = _dispatch(state, stimulus, now)
    if state.connected and state.unsent and (idle or isinstance(stimulus, Flush | Connected)):
        instructions.append(ReportsWaiting())
    return instructions


def _dispatch(state: AgentState, stimulus: Stimulus, now: int) -> list[Instruction]:
    match stimulus:
        case LauncherReports():
            return _launcher_reports(state, stimulus)
        case Flush():
            return outbox.flush(state)
        case OrdersReceived():
            return _orders_received(state, stimulus, now)
        case Acknowledged():
            if stimulus.stream == state.stream and state.connected:
                return outbox.acknowledge(state, stimulus.seq)
            return []
        case Heard():
            if stimulus.stream != state.stream or not state.connected:
                return []
            return _heard(state, stimulus, now)
        case Connected():
            return _connected(state, stimulus, now)
        case Disconnected():
            if stimulus.stream == state.stream:
                state.connected = False
            return []
        case Adopted():
            return _adopted(state, stimulus)
        case NotRemembered():
            state.settled = lease.NEVER
            return []
        case _:
            return [*lease.expire(state, now), *lease.confirm(state, now)]


def _launcher_reports(state: AgentState, stimulus: LauncherReports) -> list[Instruction]:
    instructions: list[Instruction] = []
    for report in stimulus.reports:
        if isinstance(report, StepEnded):
            instructions += lifecycle.ended(state, report)
        else:
            instructions += lifecycle.started(state, report)
    return instructions


def _heard(state: AgentState, heard: Heard, now: int) -> list[Instruction]:
    instructions = lease.renew(state, min(heard.sent, now))
    if heard.lease and heard.lease != state.lease:
        lease.hold(state, heard.lease, state.kill, now)
        instructions.append(lease.remember(state))
    return instructions


def _orders_received(state: AgentState, stimulus: OrdersReceived, now: int) -> list[Instruction]:
    present = (state.epoch, state.stream) == (stimulus.epoch, stimulus.stream)
    if not present or not state.connected:
        return []  # of a session that is over: its controller will send again what it still wants
    instructions: list[Instruction] = []
    for order in stimulus.orders:
        instructions += obey(state, order, stimulus.blobs, now)
    return instructions


def _connected(state: AgentState, stimulus: Connected, now: int) -> list[Instruction]:
    if (stimulus.epoch, stimulus.stream) <= (state.epoch, state.stream):
        why = (
            f"session {stimulus.stream} of epoch {stimulus.epoch} is not newer than session "
            f"{state.stream} of epoch {state.epoch}: another controller has taken over"
        )
        return [Hangup(stimulus.stream, why)]
    instructions = lease.expire(state, now)
    state.epoch, state.stream, state.connected = stimulus.epoch, stimulus.stream, True
    lease.hold(state, stimulus.lease, stimulus.kill, now)
    if not state.jobs:
        state.claimed = state.lease  # what is launched comes under these terms
    lease.renew(state, min(stimulus.renewed, now))
    outbox.reopen(state)
    return [*instructions, lease.remember(state)]


def _adopted(state: AgentState, stimulus: Adopted) -> list[Instruction]:
    assert not state.jobs, "adoption comes first"
    if stimulus.contact is not None:
        contact = stimulus.contact
        state.epoch, state.lease, state.kill = contact.epoch, contact.lease, contact.kill
        state.renewed = state.remembered = contact.renewed
        state.settled = contact.settled
    elif stimulus.running:
        state.settled = lease.NEVER  # nobody knows what they go by
    instructions: list[Instruction] = []
    # Running ones first: an ended batch script is held until they have been ended.
    for running in stimulus.running:
        instructions += lifecycle.started(state, running)
    for end in stimulus.ended:
        instructions += lifecycle.ended(state, end)
    return instructions
