"""Holding, releasing and requeuing jobs."""

from __future__ import annotations

from crane.states import ENDED, JobState, Reason
from cranectld.core import arrays, query
from cranectld.core.arrays import Span
from cranectld.core.commands import HoldJobs, Refusal, Rejected, ReleaseJobs, RequeueJobs
from cranectld.core.decide.cancel import unstarted_among
from cranectld.core.decide.closing import Closing
from cranectld.core.decide.decision import Decision
from cranectld.core.decide.rights import is_operator, not_permitted
from cranectld.core.decide.selecting import Part, choose, outcomes
from cranectld.core.events import (
    Event,
    JobEnding,
    JobsHeld,
    JobsReleased,
    JobsRequeued,
    Target,
)
from cranectld.core.state import HOLD_NONE, HOLD_OPERATOR, Job, State


def hold_jobs(state: State, command: HoldJobs, _now: int) -> Decision:
    """HoldJobs. An operator's hold of another's job can only be lifted by an operator."""
    who = command.principal
    choices = choose(state, command.selector, who)
    errors: dict[str, Rejected] = {}
    own: dict[Target, None] = {}
    foreign: dict[Target, None] = {}
    for choice in choices:
        held = 0
        for part in choice.parts:
            target = _waiting_target(part)
            if target is not None:
                (own if part.job.uid == who.uid else foreign)[target] = None
                held += 1
        if not held and choice.error is None and choice.by_id and choice.parts:
            errors[choice.subject] = _not_pending(choice.subject, "held")
    events = []
    if own:
        events.append(JobsHeld(tuple(own), by_operator=False))
    if foreign:
        events.append(JobsHeld(tuple(foreign), by_operator=True))
    return Decision(tuple(events), outcomes(choices, errors))


def _waiting_target(part: Part) -> Target | None:
    """What of a part waits to be started."""
    job = part.job
    if part.spans is None:
        return Target(job.job_id) if job.state is JobState.PENDING else None
    spans = unstarted_among(part)
    if not spans:
        return None
    return Target(job.job_id) if part.whole else Target(job.job_id, tuple(spans))


def _not_pending(subject: str, what: str) -> Rejected:
    return Rejected(
        Refusal.CONFLICT,
        f"job {subject} does not wait: it cannot be {what}",
        "only jobs that have not started can",
    )


def release_jobs(state: State, command: ReleaseJobs, _now: int) -> Decision:
    """ReleaseJobs. Nothing to lift is no error."""
    who = command.principal
    choices = choose(state, command.selector, who)
    errors: dict[str, Rejected] = {}
    targets: dict[Target, None] = {}
    some: dict[int, list[Span]] = {}
    for choice in choices:
        for part in choice.parts:
            target = _waiting_target(part)
            if target is None:
                if choice.by_id and len(choice.parts) == 1:
                    errors[choice.subject] = _not_pending(choice.subject, "released")
            elif not _is_held(part):
                continue
            elif _held_by_operator(part) and not is_operator(state, who):
                errors[choice.subject] = not_permitted(
                    who, f"release job {choice.subject}: an operator holds it"
                )
            elif not part.whole and part.job.hold != HOLD_NONE:
                some.setdefault(part.job.job_id, []).extend(target.positions)
            else:
                targets[target] = None
    events: list[Event] = [JobsReleased(tuple(targets))] if targets else []
    for job_id, spans in some.items():
        if Target(job_id) not in targets:
            events += _release_some(state.jobs[job_id], spans)
    return Decision(tuple(events), outcomes(choices, errors))


def _release_some(job: Job, spans: list[Span]) -> list[Event]:
    """Lift the hold of some tasks of an array that is held as a whole: the others keep theirs."""
    rest = query.unstarted_spans(job)
    for first, last in spans:
        cut = []
        for low, high in rest:
            if low < first:
                cut.append((low, min(high, first - 1)))
            if high > last:
                cut.append((max(low, last + 1), high))
        rest = cut
    events: list[Event] = [JobsReleased((Target(job.job_id),))]
    if rest:
        kept = Target(job.job_id, tuple(rest))
        events.append(JobsHeld((kept,), by_operator=job.hold == HOLD_OPERATOR))
    return events


def _is_held(part: Part) -> bool:
    record = part.job.array
    if part.spans is None or record is None:
        return part.job.hold != HOLD_NONE
    if part.job.hold != HOLD_NONE:
        return True
    return arrays.any_held(record, part.spans)


def _held_by_operator(part: Part) -> bool:
    record = part.job.array
    if part.spans is None or record is None:
        return part.job.hold == HOLD_OPERATOR
    if part.job.hold == HOLD_OPERATOR:
        return True
    return arrays.held_by_operator(record, part.spans)


def requeue_jobs(state: State, command: RequeueJobs, _now: int) -> Decision:
    """RequeueJobs. Running attempts are ended first; ended jobs still in memory wait again.

    Held by an operator, another's job is held as by HoldJobs: its owner cannot release it.
    """
    who = command.principal
    choices = choose(state, command.selector, who)
    closing = Closing(state)
    errors: dict[str, Rejected] = {}
    again: dict[bool, dict[int, None]] = {True: {}, False: {}}
    tasks: dict[bool, dict[Target, None]] = {True: {}, False: {}}
    for choice in choices:
        done = 0
        for part in choice.parts:
            job = part.job
            own = job.uid == who.uid
            if part.spans is not None:
                spans = _ended_among(part)
                if spans:
                    tasks[own][Target(job.job_id, tuple(spans))] = None
                done += bool(spans)
            elif job.run is not None:
                run = job.run
                if run.ending is None or run.ending.state is not JobState.CANCELLED:
                    closing.end(
                        job,
                        JobEnding(
                            job.job_id,
                            run.attempt,
                            JobState.REQUEUED,
                            Reason.NONE,
                            who.uid,
                            requeue=True,
                            hold=command.hold,
                        ),
                    )
                    done += 1
            elif job.state in ENDED:
                again[own][job.job_id] = None
                done += 1
        if not done and choice.error is None and choice.by_id and choice.parts:
            errors[choice.subject] = Rejected(
                Refusal.CONFLICT,
                f"job {choice.subject} waits to be started already, or is being cancelled",
                "only jobs that run or have ended can be requeued",
            )
    events: list[Event] = closing.events()
    for own in (True, False):
        if again[own] or tasks[own]:
            ids, some = tuple(again[own]), tuple(tasks[own])
            events.append(JobsRequeued(ids, command.hold, some, by_operator=not own))
    return Decision(tuple(events), outcomes(choices, errors))


def _ended_among(part: Part) -> list[tuple[int, int]]:
    """Positions of a part's tasks that have ended."""
    record = part.job.array
    assert part.spans is not None
    assert record is not None
    found = [
        (position, position)
        for first, last in part.spans
        for position in range(first, last + 1)
        if position not in record.running and query.task_state(part.job, position) in ENDED
    ]
    return arrays.merged(found)
