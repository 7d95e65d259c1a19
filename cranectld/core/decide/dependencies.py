"""Checking the dependencies of a submission, and bringing them into the form the state keeps."""

from __future__ import annotations

from collections.abc import Mapping

from crane import arrayspec
from crane.jobspec import ArraySpec, Dependency, DependencyKind, DependencyTerm
from crane.states import ENDED
from cranectld.core import arrays
from cranectld.core.commands import PastJob, Refusal, Rejected
from cranectld.core.state import Job, State

MAX_TERMS = 1_024
MAX_DELAY = 366 * 86_400
MAX_VISITS = 100_000
"""Jobs looked at when a changed dependency is checked for a circle."""


def normalise(
    state: State,
    given: Dependency,
    array: ArraySpec | None,
    past: Mapping[tuple[int, int], PastJob],
) -> Dependency | None:
    """The dependency as it is kept; None for one without terms. Raises BAD_DEPENDENCY.

    A term on the job id of an array's task becomes one on the task; `aftercorr` where one of the two
    is no array means `afterok`.
    """
    if not given.terms:
        return None
    if len(given.terms) > MAX_TERMS:
        raise _bad(f"{len(given.terms)} conditions, at most {MAX_TERMS} are allowed")
    terms = tuple(dict.fromkeys(_term(state, term, array, past) for term in given.terms))
    return Dependency(terms, given.any_of and len(terms) > 1)


def _bad(why: str, hint: str = "") -> Rejected:
    return Rejected(Refusal.BAD_DEPENDENCY, f"bad dependency: {why}", hint)


def _term(
    state: State,
    term: DependencyTerm,
    array: ArraySpec | None,
    past: Mapping[tuple[int, int], PastJob],
) -> DependencyTerm:
    kind, task, job_id = term.kind, term.task, term.job_id
    if kind is DependencyKind.SINGLETON:
        return DependencyTerm(kind)
    if not 0 <= term.delay <= MAX_DELAY:
        raise _bad(f"a delay of {term.delay} s is out of range")
    other = state.jobs.get(job_id)
    if other is None:
        if (job_id, task) not in past and (job_id, -1) not in past:
            raise _bad(f"there is no job {job_id}", "it must have been submitted before")
        if kind is DependencyKind.AFTER_CORR:
            kind = DependencyKind.AFTER_OK
        return DependencyTerm(kind, job_id, task, term.delay)
    if other.array_id and task < 0:
        job_id, position = other.array_id, other.position
        other = state.jobs[job_id]
        task = arrays.task_index(other, position)
    if task >= 0 and (other.array is None or other.array.places.position_of(task) is None):
        raise _bad(f"job {job_id} has no task {task}")
    if kind is DependencyKind.AFTER_CORR:
        if array is None or other.array is None or task >= 0:
            kind = DependencyKind.AFTER_OK
        else:
            _check_counterparts(other, array)
    return DependencyTerm(kind, job_id, task, term.delay)


def _check_counterparts(other: Job, array: ArraySpec) -> None:
    """Every task must have one of the same index to wait for."""
    record = other.array
    assert record is not None
    if record.spec.ranges == array.ranges:
        return
    shared = sum(b - a + 1 for a, b in arrays.spans_of(record, array.ranges))
    count = arrayspec.count(array)
    if shared < count:
        raise _bad(
            f"aftercorr: {count - shared} of {count} tasks have no task of the same index in "
            f"array {other.job_id}",
            "give both arrays the same indices",
        )


def check_no_circle(state: State, job: Job, dependency: Dependency) -> None:
    """Refuse a changed dependency by which a job would wait for itself. Raises BAD_DEPENDENCY."""
    own = job.array_id or job.job_id
    waiting = [term.job_id for term in dependency.terms]
    seen: dict[int, None] = {}
    while waiting and len(seen) < MAX_VISITS:
        job_id = waiting.pop()
        if job_id == own:
            raise _bad(f"job {own} would wait for itself")
        other = state.jobs.get(job_id)
        if job_id in seen or other is None or other.state in ENDED:
            continue
        seen[job_id] = None
        if other.unmet and other.submission.dependency is not None:
            terms = other.submission.dependency.terms
            waiting += [terms[i].job_id for i in other.unmet]
