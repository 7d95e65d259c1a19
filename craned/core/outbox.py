"""The outbox: reports in order, kept until the controller has logged them."""

from __future__ import annotations

from crane.session import Report, StepEnded, StepKey
from craned.core.instructions import Forget, Instruction, Send
from craned.core.state import MAX_SEND, MAX_TOMBSTONES, AgentState, Attempt, Phase


def post(state: AgentState, report: Report) -> int:
    """Put a report into the outbox; its number."""
    seq = state.next_seq
    state.next_seq = seq + 1
    state.unsent[seq] = report
    return seq


def withdraw(state: AgentState, seq: int) -> None:
    """Take back a report that a newer one replaces, if it has not been sent."""
    state.unsent.pop(seq, None)


def flush(state: AgentState) -> list[Instruction]:
    """Send what waits, at most MAX_SEND reports of it."""
    if not state.connected or not state.unsent:
        return []
    if len(state.unsent) <= MAX_SEND:
        batch = tuple(state.unsent.items())
        state.sent.update(state.unsent)
        state.unsent = {}
    else:
        batch = tuple(item for item, _ in zip(state.unsent.items(), range(MAX_SEND), strict=False))
        for seq, report in batch:
            state.sent[seq] = report
            del state.unsent[seq]
    return [Send(state.stream, batch)]


def reopen(state: AgentState) -> None:
    """A new session: everything not acknowledged is to be sent (again)."""
    if state.sent:
        state.unsent = state.sent | state.unsent
        state.sent = {}


def acknowledge(state: AgentState, seq: int) -> list[Instruction]:
    """Reports up to `seq` are logged: drop them, and forget the steps whose end they told."""
    done = []
    for number, report in state.sent.items():
        if number > seq:
            break
        done.append((number, report))
    instructions: list[Instruction] = []
    for number, report in done:
        del state.sent[number]
        if isinstance(report, StepEnded) and _settled(state, report.key, number):
            instructions.append(Forget(report.key))
    return instructions


def _settled(state: AgentState, key: StepKey, seq: int) -> bool:
    """Drop the step whose end was report `seq`; False if it was refused or reported anew."""
    attempts = state.jobs.get(key.job_id)
    attempt = attempts.get(key.attempt) if attempts is not None else None
    step = attempt.steps.get(key.step) if attempt is not None else None
    if attempts is None or attempt is None or step is None:
        return False
    if step.seq != seq or step.phase is not Phase.ENDED:
        return False
    del attempt.steps[key.step]
    state.steps -= 1
    if not attempt.released:
        bury_step(state, key)
    if not attempt.steps:
        if attempt.released:
            bury(state, attempt)
        del attempts[key.attempt]
        if not attempts:
            del state.jobs[key.job_id]
    return True


def bury(state: AgentState, attempt: Attempt) -> None:
    """Remember that an attempt is over here."""
    newest = max(attempt.attempt, state.ended_attempts.pop(attempt.job_id, 0))
    state.ended_attempts[attempt.job_id] = newest
    if len(state.ended_attempts) > MAX_TOMBSTONES:
        del state.ended_attempts[next(iter(state.ended_attempts))]


def bury_step(state: AgentState, key: StepKey) -> None:
    """Remember that a step is over here."""
    state.ended_steps[key] = None
    if len(state.ended_steps) > MAX_TOMBSTONES:
        del state.ended_steps[next(iter(state.ended_steps))]
