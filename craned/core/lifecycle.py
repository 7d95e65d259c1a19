"""The life of steps and attempts here: launching, ending, and when nothing is left.

Rules: an attempt is launched only when no older attempt of the job is alive here; when the batch
script ends, the rest of the attempt is ended first and its report says `released`; what an attempt's
last report says is final, nothing of it is launched afterwards.
"""

from __future__ import annotations

from dataclasses import replace

from crane.jobspec import BATCH_STEP
from crane.session import EndCause, StepEnded, StepKey, StepStarted
from craned.core import outbox
from craned.core.instructions import Instruction, Kill, Launch
from craned.core.state import AgentState, Attempt, Phase, Step
from craned.core.terms import LOST_CONTACT


def attempt_of(state: AgentState, key: StepKey) -> Attempt:
    """The step's attempt, known or new."""
    attempts = state.jobs.setdefault(key.job_id, {})
    attempt = attempts.get(key.attempt)
    if attempt is None:
        attempt = attempts[key.attempt] = Attempt(key.job_id, key.attempt)
    return attempt


def add_step(state: AgentState, step: Step) -> Attempt:
    """Answer for this step from now on."""
    attempt = attempt_of(state, step.key)
    assert step.key.step not in attempt.steps, step.key
    attempt.steps[step.key.step] = step
    state.steps += 1
    return attempt


def launch(state: AgentState, instruction: Launch) -> list[Instruction]:
    """Launch a new step, at once or when older attempts of its job are gone."""
    order = instruction.order
    step = Step(order.key, Phase.LAUNCHING, grace=order.kill_grace)
    add_step(state, step)
    older = _older_live(state, order.key)
    if not older:
        return [instruction]
    # Their controller believes them gone: they have had their time.
    step.phase, step.launch = Phase.WAITING, instruction
    killed: list[Instruction] = []
    for attempt in older:
        attempt.ending = True
        killed += end_steps(state, attempt, EndCause.CANCELLED, grace=0)
    return killed


def _older_live(state: AgentState, key: StepKey) -> list[Attempt]:
    attempts = state.jobs[key.job_id]
    if len(attempts) == 1:
        return []
    return [other for number, other in attempts.items() if number < key.attempt and other.live]


def started(state: AgentState, report: StepStarted) -> list[Instruction]:
    """A step's first process exists."""
    step = state.find(report.key)
    if step is None:
        if _over(state, report.key):
            return []
        step = Step(report.key, Phase.LAUNCHING)
        add_step(state, step)
    if step.phase is Phase.LAUNCHING:
        step.phase = Phase.RUNNING
        step.seq = outbox.post(state, report)
    elif step.phase is Phase.RUNNING and step.killed is not None:
        # Said again by a new launcher, which may not have had the order to end it.
        return [Kill(step.key, step.grace, step.killed)]
    return []


def _over(state: AgentState, key: StepKey) -> bool:
    return key in state.ended_steps or key.attempt <= state.ended_attempts.get(key.job_id, 0)


def ended(state: AgentState, report: StepEnded) -> list[Instruction]:
    """A step is over here: nothing of it is left."""
    key = report.key
    step = state.find(key)
    if step is None:
        if _over(state, key):
            return []
        step = Step(key, Phase.RUNNING)
        add_step(state, step)
    if not step.live:
        return []
    if report.cause is EndCause.LOST and step.killed is EndCause.LOST:
        report = replace(report, message=LOST_CONTACT)
    outbox.withdraw(state, step.seq)
    step.launch = None
    attempt = state.jobs[key.job_id][key.attempt]
    step.phase = Phase.ENDED
    instructions: list[Instruction] = []
    if key.step == BATCH_STEP:
        attempt.ending = True
        if attempt.live:
            step.phase, step.end = Phase.HELD, report
            return end_steps(state, attempt, EndCause.CANCELLED)
    if not attempt.live:
        instructions = _all_ended(state, attempt, step, report)
    else:
        step.seq = outbox.post(state, report)
    return instructions


def _all_ended(
    state: AgentState, attempt: Attempt, step: Step, report: StepEnded
) -> list[Instruction]:
    """The last live step of an attempt has ended: tell, and let a newer attempt start."""
    batch = attempt.steps.get(BATCH_STEP)
    if batch is not None and batch.end is not None:
        step.seq = outbox.post(state, report)
        step, report = batch, batch.end
        batch.end, batch.phase = None, Phase.ENDED
    if attempt.ending:
        report = _releasing(report)
        attempt.released = True
    step.seq = outbox.post(state, report)
    return _launch_waiting(state, attempt.job_id)


def _releasing(report: StepEnded) -> StepEnded:
    """The report as an attempt's last one; written out, since every job passes here."""
    return StepEnded(
        report.key,
        report.cause,
        report.exit_code,
        report.signal,
        report.message,
        report.start_time,
        report.end_time,
        report.cpu_us,
        report.memory_peak,
        released=True,
    )


def _launch_waiting(state: AgentState, job_id: int) -> list[Instruction]:
    attempts = state.jobs[job_id]
    if len(attempts) == 1:
        return []
    instructions: list[Instruction] = []
    for number in sorted(attempts):
        if not attempts[number].live:
            continue
        for step in attempts[number].steps.values():
            if step.launch is not None:
                instructions.append(step.launch)
                step.launch, step.phase = None, Phase.LAUNCHING
        break
    return instructions


def end_steps(
    state: AgentState, attempt: Attempt, cause: EndCause, grace: int | None = None
) -> list[Instruction]:
    """End every live step of an attempt that is not being ended yet; `grace` None: its own."""
    instructions: list[Instruction] = []
    waiting: list[Step] = []
    for step in attempt.steps.values():
        if not step.live:
            continue
        if step.phase is Phase.WAITING:
            waiting.append(step)
        elif step.killed is None or grace is not None:
            step.killed = step.killed or cause
            instructions.append(Kill(step.key, step.grace if grace is None else grace, cause))
    for step in waiting:
        why = "ended before it was launched"
        instructions += ended(state, StepEnded(step.key, cause, message=why))
    return instructions
