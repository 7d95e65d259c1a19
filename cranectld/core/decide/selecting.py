"""From a selector to what a command acts on: jobs, live tasks, and unstarted tasks of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crane.arrayspec import format_ranges
from crane.states import ENDED, JobState
from cranectld.core import arrays, query
from cranectld.core.arrays import Span
from cranectld.core.commands import Outcome, Refusal, Rejected, SelectedId, Selector
from cranectld.core.decide.rights import foreign_job, is_operator, may_change
from cranectld.core.identity import Principal
from cranectld.core.state import Job, State


@dataclass(slots=True)
class Part:
    """Something a command acts on: a job, a live task, or tasks of an array without a row."""

    job: Job
    spans: tuple[Span, ...] | None = None
    """Positions in an array's record, of tasks that do not run; None: the job itself."""
    whole: bool = True
    """All such tasks of the array, and the record itself."""
    step: int | None = None


@dataclass(slots=True)
class Choice:
    """One subject of the reply and what it stands for, or why nothing is done."""

    subject: str
    parts: list[Part]
    error: Rejected | None = None
    by_id: bool = True


def choose(state: State, selector: Selector, principal: Principal) -> list[Choice]:
    """What a change acts on, by subject.

    Ids that do not exist or are another's give an error each. Filters select only what the caller
    may change; naming another user by filter raises NOT_PERMITTED.
    """
    limit = state.config.limits.max_batch
    if len(selector.ids) > limit:
        raise Rejected(
            Refusal.LIMIT_EXCEEDED,
            f"{len(selector.ids)} ids in one command, the limit is {limit}",
            "split the command, or select by a filter",
        )
    if not is_operator(state, principal):
        others = [user for user in selector.users if user != principal.user]
        if others:
            raise Rejected(
                Refusal.NOT_PERMITTED,
                f"user {principal.user} may not change jobs of user {others[0]}",
                "only their owner or an operator can",
            )
    if selector.ids:
        return [_by_id(state, item, selector, principal) for item in selector.ids]
    if not query.has_filter(selector) and not selector.everything:
        return []
    return list(_by_filter(state, selector, principal))


def _by_id(state: State, item: SelectedId, selector: Selector, who: Principal) -> Choice:
    subject = _name(item)
    job = state.jobs.get(item.job_id)
    if job is None:
        return Choice(subject, [], _unknown(subject))
    if not may_change(state, who, job):
        return Choice(subject, [], foreign_job(who, subject, job))
    record = job.array
    if record is None:
        if item.ranges:
            return Choice(subject, [], _unknown(subject, f"job {job.job_id} is not an array"))
        parts = [Part(job, step=item.step)] if query.matches(job, selector) else []
        return Choice(subject, parts)
    if not item.ranges:
        return Choice(subject, _array_parts(state, job, selector, item.step))
    spans = arrays.spans_of(record, item.ranges)
    if not spans:
        return Choice(subject, [], _unknown(subject, "the array has no such task"))
    live = [state.jobs[i] for p, i in record.running.items() if _within(p, spans)]
    parts = [Part(task, step=item.step) for task in live if query.matches(task, selector)]
    if not live or sum(b - a + 1 for a, b in spans) > len(live):
        parts.append(Part(job, tuple(spans), whole=False, step=item.step))
    return Choice(subject, parts)


def _within(position: int, spans: list[Span]) -> bool:
    return any(first <= position <= last for first, last in spans)


def _array_parts(state: State, job: Job, selector: Selector, step: int | None = None) -> list[Part]:
    record = job.array
    assert record is not None
    parts: list[Part] = []
    if query.matches(job, selector) and (
        record.pending or job.state in ENDED or not record.running
    ):
        parts.append(Part(job, ((0, record.count - 1),), step=step))
    for task_id in record.running.values():
        task = state.jobs[task_id]
        if query.matches(task, selector):
            parts.append(Part(task, step=step))
    return parts


def _by_filter(state: State, selector: Selector, who: Principal) -> Iterator[Choice]:
    for job in state.jobs.values():
        if job.state in ENDED or not may_change(state, who, job):
            continue
        if not query.matches(job, selector):
            continue
        if job.array is None:
            yield Choice(query.subject(state, job), [Part(job)], by_id=False)
        elif job.array.pending and _wants_pending(selector):
            part = Part(job, ((0, job.array.count - 1),))
            yield Choice(str(job.job_id), [part], by_id=False)


def _wants_pending(selector: Selector) -> bool:
    return not selector.states or JobState.PENDING in selector.states


def _name(item: SelectedId) -> str:
    text = str(item.job_id)
    if item.ranges:
        ranges = format_ranges(item.ranges)
        text += f"_{ranges}" if ranges.isdigit() else f"_[{ranges}]"
    return text


def _unknown(subject: str, why: str = "") -> Rejected:
    return Rejected(
        Refusal.UNKNOWN_JOB,
        f"there is no job {subject}" + (f": {why}" if why else ""),
        "cqueue lists the jobs in the queue, cacct those that ended",
    )


def outcomes(choices: list[Choice], errors: dict[str, Rejected]) -> tuple[Outcome, ...]:
    """The reply: one outcome per subject."""
    return tuple(
        Outcome(choice.subject, choice.error or errors.get(choice.subject)) for choice in choices
    )
