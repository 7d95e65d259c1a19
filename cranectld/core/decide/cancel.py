"""Cancelling jobs, and sending signals to them."""

from __future__ import annotations

from crane.jobspec import BATCH_STEP
from crane.session import SignalJob
from crane.states import ENDED, JobState, Reason
from cranectld.core import query
from cranectld.core.commands import CancelJobs, Refusal, Rejected, SignalStep
from cranectld.core.decide.closing import Closing
from cranectld.core.decide.decision import NOTHING, Decision
from cranectld.core.decide.rights import foreign_job, may_change
from cranectld.core.decide.selecting import Choice, Part, choose, outcomes
from cranectld.core.effects import Effect, SendOrder
from cranectld.core.events import ArrayTasksCancelled, Event
from cranectld.core.state import Job, State

MAX_SIGNAL = 64
KILL = 9


def cancel_jobs(state: State, command: CancelJobs, _now: int) -> Decision:
    """CancelJobs. Reply: tuple[Outcome, ...]."""
    if not 0 <= command.signal <= MAX_SIGNAL:
        raise Rejected(Refusal.BAD_REQUEST, f"there is no signal {command.signal}")
    choices = choose(state, command.selector, command.principal)
    if command.signal or command.batch_only:
        return _signal(choices, command)
    return _cancel(state, choices, command.principal.uid)


def _cancel(state: State, choices: list[Choice], by_uid: int) -> Decision:
    closing = Closing(state)
    waiting: dict[int, None] = {}
    cancelled: list[Event] = []
    effects: list[Effect] = []
    errors: dict[str, Rejected] = {}
    for choice in choices:
        done = 0
        for part in choice.parts:
            if part.step is not None:
                sent = _signal_part(part, KILL, batch_only=False)
                effects += sent
                done += bool(sent)
            elif part.spans is not None:
                done += _cancel_tasks(part, by_uid, cancelled)
            elif part.job.run is not None:
                closing.cancel(part.job, part.job.run, by_uid)
                done += 1
            elif part.job.state is JobState.PENDING:
                if part.job.job_id not in waiting:
                    waiting[part.job.job_id] = None
                    closing.end_waiting(part.job, JobState.CANCELLED, Reason.CANCELLED, by_uid)
                done += 1
        if not done and choice.error is None and choice.by_id and choice.parts:
            errors[choice.subject] = _over(choice)
    events = [*closing.events(), *cancelled]
    return Decision(tuple(events), outcomes(choices, errors), tuple(effects))


def _cancel_tasks(part: Part, by_uid: int, events: list[Event]) -> bool:
    """Cancel the unstarted tasks among a part; whether there were any."""
    spans = unstarted_among(part)
    if spans:
        events.append(ArrayTasksCancelled(part.job.job_id, tuple(spans), by_uid))
    return bool(spans)


def unstarted_among(part: Part) -> list[tuple[int, int]]:
    """Spans of a part cut to the tasks that have not started."""
    assert part.spans is not None
    found = []
    free = query.unstarted_spans(part.job)
    if part.whole:
        return free
    for first, last in part.spans:
        for low, high in free:
            if low <= last and first <= high:
                found.append((max(low, first), min(high, last)))
    return found


def _over(choice: Choice) -> Rejected:
    job = choice.parts[0].job
    what = (
        f"has already ended ({job.state.name})" if job.state in ENDED else "has no such task left"
    )
    return Rejected(Refusal.CONFLICT, f"job {choice.subject} {what}", "cacct shows how it ended")


def _signal(choices: list[Choice], command: CancelJobs) -> Decision:
    effects: list[Effect] = []
    errors: dict[str, Rejected] = {}
    for choice in choices:
        sent: list[Effect] = []
        for part in choice.parts:
            sent += _signal_part(part, command.signal or KILL, batch_only=command.batch_only)
        effects += sent
        if not sent and choice.error is None and choice.by_id:
            errors[choice.subject] = Rejected(
                Refusal.CONFLICT,
                f"job {choice.subject} is not running: nothing to signal",
                "without --signal, ccancel ends jobs that wait too",
            )
    return Decision((), outcomes(choices, errors), tuple(effects))


def _signal_part(part: Part, signal: int, *, batch_only: bool) -> list[Effect]:
    run = part.job.run
    if run is None or part.spans is not None:
        return []
    if part.step is not None:
        return _signal_step(part.job, part.step, signal)
    if batch_only:
        order = SignalJob(part.job.job_id, run.attempt, signal, BATCH_STEP, batch_only=True)
        return [SendOrder(run.shares[0].node, order)]
    order = SignalJob(part.job.job_id, run.attempt, signal)
    return [SendOrder(node, order) for node in run.holding]


def _signal_step(job: Job, number: int, signal: int) -> list[Effect]:
    """Orders to the nodes on which a step still runs."""
    run = job.run
    step = run.steps.get(number) if run is not None else None
    if run is None or step is None:
        return []
    order = SignalJob(job.job_id, run.attempt, signal, number)
    return [SendOrder(node, order) for node in step.waiting]


def signal_step(state: State, command: SignalStep, _now: int) -> Decision:
    """SignalStep. Reply: None; UNKNOWN_JOB, UNKNOWN_STEP, NOT_PERMITTED."""
    job = state.jobs.get(command.job_id)
    if job is None or job.run is None:
        raise Rejected(Refusal.UNKNOWN_JOB, f"job {command.job_id} is not running")
    if not may_change(state, command.principal, job):
        raise foreign_job(command.principal, str(command.job_id), job)
    if not 1 <= command.signal <= MAX_SIGNAL:
        raise Rejected(Refusal.BAD_REQUEST, f"there is no signal {command.signal}")
    if command.step not in job.run.steps:
        raise Rejected(
            Refusal.UNKNOWN_STEP,
            f"job {command.job_id} has no step {command.step}",
            "ccontrol show step lists them",
        )
    effects = _signal_step(job, command.step, command.signal)
    return Decision(effects=tuple(effects)) if effects else NOTHING
