"""What becomes of each order. All are idempotent, keyed by (job, step, attempt)."""

from __future__ import annotations

from crane.jobspec import BATCH_STEP
from crane.session import (
    EndCause,
    EndJob,
    JobReleased,
    LaunchStep,
    Order,
    SetTimeLimit,
    SignalJob,
    StepEnded,
    StepStarted,
)
from craned.core import lease, outbox
from craned.core.instructions import Instruction, Launch, SetLimit, Signal
from craned.core.lifecycle import end_steps, launch
from craned.core.state import MAX_STEPS, AgentState, Attempt, Phase, Step


def obey(state: AgentState, order: Order, blobs: tuple[bytes, ...], now: int) -> list[Instruction]:
    """Instructions that carry out an order of the present session."""
    if isinstance(order, LaunchStep):
        return _launch_step(state, order, blobs, now)
    if isinstance(order, EndJob):
        return _end_job(state, order)
    attempt = state.jobs.get(order.job_id, {}).get(order.attempt)
    if attempt is None:
        return []
    if isinstance(order, SignalJob):
        return _signal_job(attempt, order)
    return _set_time_limit(attempt, order)


def _launch_step(
    state: AgentState, order: LaunchStep, blobs: tuple[bytes, ...], now: int
) -> list[Instruction]:
    key = order.key
    attempts = state.jobs.get(key.job_id)
    if attempts is not None:
        attempt = attempts.get(key.attempt)
        step = attempt.steps.get(key.step) if attempt is not None else None
        if step is not None:
            return _repeat(state, step, now)
    refusal = _refusal(state, order, attempts, now)
    if refusal is None:
        return launch(state, Launch(order, blobs))
    cause, why = refusal
    attempt = attempts.get(key.attempt) if attempts is not None else None
    over = key.attempt <= state.ended_attempts.get(key.job_id, 0)
    if attempt is not None:
        released = attempt.ending and not attempt.live
    else:
        released = over or key.step == BATCH_STEP
        if released:
            outbox.bury(state, Attempt(key.job_id, key.attempt))
    # The answer says that the step has ended: it stays true, whatever makes room for it later.
    outbox.bury_step(state, key)
    message = f"not launched: {why}"
    outbox.post(state, StepEnded(key, cause, 0, 0, message, now, now, released=released))
    return []


def _refusal(
    state: AgentState, order: LaunchStep, attempts: dict[int, Attempt] | None, now: int
) -> tuple[EndCause, str] | None:
    """Why a step that this host does not answer for is not launched; None: it is."""
    key = order.key
    if key.attempt <= state.ended_attempts.get(key.job_id, 0):
        return EndCause.CANCELLED, "this attempt of the job is over here"
    if key in state.ended_steps:
        return EndCause.CANCELLED, "the step has ended and was reported"
    if attempts is not None:
        if max(attempts) > key.attempt:
            return EndCause.CANCELLED, "a newer attempt of the job is here"
        if key.attempt in attempts and attempts[key.attempt].ending:
            return EndCause.CANCELLED, "the job is being ended here"
    if state.steps >= MAX_STEPS:
        return EndCause.LAUNCH_FAILED, f"this agent answers for {MAX_STEPS} steps already"
    if lease.expired(state, now):
        # The controller may have given the job to another node by now.
        return EndCause.LAUNCH_FAILED, "the lease has run out"
    return None


def _repeat(state: AgentState, step: Step, now: int) -> list[Instruction]:
    """Answer an order that was carried out before with what is known of its step."""
    if step.phase is Phase.ENDED:
        report = state.sent.pop(step.seq, None)
        if report is not None:
            step.seq = outbox.post(state, report)
    elif step.phase in {Phase.RUNNING, Phase.HELD} and step.seq not in state.unsent:
        state.sent.pop(step.seq, None)
        step.seq = outbox.post(state, StepStarted(step.key, now))
    return []


def _end_job(state: AgentState, order: EndJob) -> list[Instruction]:
    attempt = state.jobs.get(order.job_id, {}).get(order.attempt)
    if attempt is None:
        outbox.bury(state, Attempt(order.job_id, order.attempt))
        outbox.post(state, JobReleased(order.job_id, order.attempt))
        return []
    attempt.ending = True
    if attempt.live:
        return end_steps(state, attempt, order.cause)
    if not attempt.released:
        attempt.released = True
        outbox.post(state, JobReleased(order.job_id, order.attempt))
    return []


def _signal_job(attempt: Attempt, order: SignalJob) -> list[Instruction]:
    only = BATCH_STEP if order.batch_only else order.step
    return [
        Signal(step.key, order.signal, order.batch_only)
        for number, step in attempt.steps.items()
        if step.phase in {Phase.LAUNCHING, Phase.RUNNING} and only in {None, number}
    ]


def _set_time_limit(attempt: Attempt, order: SetTimeLimit) -> list[Instruction]:
    return [
        SetLimit(step.key, order.end_time)
        for step in attempt.steps.values()
        if step.phase in {Phase.LAUNCHING, Phase.RUNNING}
    ]
