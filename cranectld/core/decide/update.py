"""Changing jobs that wait, and a few things of jobs that run."""

from __future__ import annotations

from typing import Any

from crane import features
from crane.errors import CraneError
from crane.jobspec import UNLIMITED, Dependency, JobSpec
from crane.record import replace
from crane.states import ENDED
from cranectld.core.apply_jobs import past_map
from cranectld.core.commands import JobChanges, Refusal, Rejected, UpdateJobs
from cranectld.core.decide.decision import Decision
from cranectld.core.decide.dependencies import check_no_circle, normalise
from cranectld.core.decide.resolve import MAX_LIMIT, bad, priority_of, resolve
from cranectld.core.decide.rights import is_operator, not_permitted
from cranectld.core.decide.selecting import Choice, Part, choose, outcomes
from cranectld.core.decide.submit import MAX_NAME
from cranectld.core.due import NS
from cranectld.core.events import Event, JobUpdated
from cranectld.core.state import Job, State

_WHILE_RUNNING = ("time_limit", "name", "comment", "wckey", "extra", "requeue")
"""What can change of a job that runs."""
_SPEC_FIELDS = [
    "priority",
    "nice",
    "time_limit",
    "comment",
    "account",
    "qos",
    "begin",
    "deadline",
    "requeue",
    "wckey",
    "reservation",
    "extra",
]


def update_jobs(state: State, command: UpdateJobs, now: int) -> Decision:
    """UpdateJobs. Reply: tuple[Outcome, ...]."""
    given = _given(command.changes)
    if not given:
        raise bad("nothing to change was given")
    choices = choose(state, command.selector, command.principal)
    events: list[Event] = []
    errors: dict[str, Rejected] = {}
    for choice in choices:
        try:
            events += _update_choice(state, command, choice, given, now)
        except Rejected as refusal:
            errors[choice.subject] = refusal
    return Decision(tuple(events), outcomes(choices, errors))


def _given(changes: JobChanges) -> list[str]:
    return [name for name in JobChanges.__slots__ if getattr(changes, name) is not None]


def _update_choice(
    state: State, command: UpdateJobs, choice: Choice, given: list[str], now: int
) -> list[Event]:
    """The events for one subject: all of it changes, or it is refused."""
    events: list[Event] = []
    for part in choice.parts:
        job = part.job
        if part.spans is not None and not part.whole:
            raise Rejected(
                Refusal.CONFLICT,
                f"{choice.subject}: tasks of an array that wait share its description",
                f"update the array {job.job_id}",
            )
        if job.state in ENDED:
            raise Rejected(
                Refusal.CONFLICT,
                f"job {choice.subject} has ended ({job.state.name})",
                "only jobs that wait or run can be changed",
            )
        if job.run is not None:
            events += _update_running(state, command, choice, part, given)
        else:
            events.append(_update_waiting(state, command, job, given, now))
    return events


def _update_running(
    state: State, command: UpdateJobs, choice: Choice, part: Part, given: list[str]
) -> list[Event]:
    changes, job = command.changes, part.job
    assert job.run is not None
    refused = [name for name in given if name not in _WHILE_RUNNING]
    if refused:
        if len(choice.parts) > 1:
            return []  # of a whole array: it changes for the tasks that wait
        raise Rejected(
            Refusal.CONFLICT,
            f"job {choice.subject} runs: its {refused[0]} cannot change any more",
            f"of a running job one can change {', '.join(_WHILE_RUNNING)}",
        )
    end_limit = job.run.end_limit
    if changes.time_limit is not None:
        end_limit = _new_end(state, command, job)
    spec = _changed(job.spec, changes, given)
    return [_event(job, spec, changes, job.priority, job.submission.dependency, end_limit)]


def _new_end(state: State, command: UpdateJobs, job: Job) -> int:
    """When a running job's new time limit expires; only operators may give it more time."""
    run, limit = job.run, command.changes.time_limit
    assert run is not None
    assert limit is not None
    if limit < UNLIMITED or limit == 0 or limit > MAX_LIMIT:
        raise Rejected(Refusal.BAD_TIME, f"a time limit of {limit} s is out of range")
    end = 0 if limit == UNLIMITED else run.start_time + limit * NS
    if job.spec.deadline:
        end = min(end, job.spec.deadline) if end else job.spec.deadline
    longer = run.end_limit and (end == 0 or end > run.end_limit)
    if longer and not is_operator(state, command.principal):
        raise not_permitted(command.principal, "give a running job more time")
    return end


def _update_waiting(
    state: State, command: UpdateJobs, job: Job, given: list[str], now: int
) -> JobUpdated:
    changes, who = command.changes, command.principal
    old = job.submission
    if not is_operator(state, who):
        if changes.priority is not None:
            raise not_permitted(who, "set a job's priority")
        if changes.nice is not None and changes.nice < old.spec.nice:
            raise not_permitted(who, "lower a job's nice value")
    if changes.array_limit is not None and (job.array is None or changes.array_limit < 0):
        raise bad(f"job {job.job_id} is not an array, or the limit is negative")
    asked = _changed(old.spec, changes, given)
    if changes.partition is not None and changes.time_limit is None:
        asked = _without_default_limit(state, old.spec, asked)
    # What an operator granted stays: it is not asked for again by the owner's change.
    judged = asked
    if not is_operator(state, who):
        judged = replace(asked, priority=-1, nice=max(asked.nice, 0))
    judged = resolve(state, judged, who, now)
    spec = replace(judged, priority=asked.priority, nice=asked.nice)
    if any(name in given for name in ("priority", "nice", "partition")):
        priority = priority_of(state, spec, job.submit_time)
    else:
        priority = job.priority
    dependency = old.dependency
    if changes.dependency is not None:
        past = past_map(command.past)
        dependency = normalise(state, changes.dependency, old.array, past)
        if dependency is not None:
            check_no_circle(state, job, dependency)
    return _event(job, spec, changes, priority, dependency, 0, command)


def _without_default_limit(state: State, old: JobSpec, asked: JobSpec) -> JobSpec:
    """A limit that was the old partition's default gives way to the new partition's."""
    partition = state.partitions.get(old.partitions[0])
    if partition is not None and old.time_limit == (partition.default_time or partition.max_time):
        return replace(asked, time_limit=0)
    return asked


def _event(
    job: Job,
    spec: JobSpec,
    changes: JobChanges,
    priority: int,
    dependency: Dependency | None,
    end_limit: int,
    command: UpdateJobs | None = None,
) -> JobUpdated:
    old = job.submission
    name = old.name if changes.name is None else changes.name
    if len(name) > MAX_NAME:
        raise Rejected(Refusal.LIMIT_EXCEEDED, f"the name is longer than {MAX_NAME} characters")
    limit = old.array.limit if old.array is not None else 0
    return JobUpdated(
        job_id=job.job_id,
        spec=spec,
        name=name,
        priority=priority,
        dependency=dependency,
        array_limit=limit if changes.array_limit is None else changes.array_limit,
        end_limit=end_limit,
        past=command.past if command is not None else (),
    )


def _changed(spec: JobSpec, changes: JobChanges, given: list[str]) -> JobSpec:
    """The spec with what is given of it changed."""
    values: dict[str, Any] = {n: getattr(changes, n) for n in given if n in _SPEC_FIELDS}
    if changes.partition is not None:
        values["partitions"] = tuple(filter(None, changes.partition.split(",")))
    if changes.features is not None:
        try:
            expression = features.normalise(changes.features)
        except CraneError as error:
            raise bad(error.message, error.hint) from None
        part = replace(spec.components[0], features=expression)
        values["components"] = (part,)
    return replace(spec, **values) if values else spec
