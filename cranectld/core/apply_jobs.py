"""Folding submission, hold, release and update of jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from crane import arrayspec
from crane.jobspec import DependencyKind, JobSpec, Submission
from crane.states import Reason
from cranectld.core import arrays, dependency
from cranectld.core import events as ev
from cranectld.core.commands import PastJob
from cranectld.core.due import set_eligible, watch_deadline
from cranectld.core.state import HOLD_NONE, HOLD_OPERATOR, HOLD_USER, Job, State

MAX_SPECS = 4_096
"""Interned specs: beyond, interning begins anew (jobs keep theirs), which bounds what is kept."""


def intern(state: State, spec: JobSpec) -> JobSpec:
    """The one object for this spec."""
    known = state.specs.get(spec)
    if known is None:
        if len(state.specs) >= MAX_SPECS:
            state.specs.clear()
        state.specs[spec] = known = spec
    return known


def with_spec(old: Submission, spec: JobSpec) -> Submission:
    """The submission with another spec (`dataclasses.replace` is ten times slower)."""
    return Submission(
        spec,
        old.name,
        old.script,
        old.environment,
        old.args,
        old.dependency,
        old.array,
        old.command,
    )


def jobs_submitted(state: State, event: ev.JobsSubmitted, now: int) -> None:
    """New jobs wait. O(1) each, O(tasks) in C for arrays."""
    interned: dict[int, JobSpec] = {}
    jobs, touched, singletons = state.jobs, state.touched, state.singletons
    uid, gid, user = event.uid, event.gid, event.user
    _track_singletons(state, event)
    job_id = event.first_id
    for submission, priority in zip(event.jobs, event.priorities, strict=True):
        given = submission.spec
        spec = interned.get(id(given))
        if spec is None:
            spec = interned[id(given)] = intern(state, given)
        kept = submission if spec is given else with_spec(submission, spec)
        job = Job(job_id, uid, gid, user, kept, now, priority)
        job.eligible_time = now
        jobs[job_id] = job
        touched[job_id] = None
        if singletons:
            dependency.join_singletons(state, job)
        if (
            spec.begin
            or spec.hold
            or spec.deadline
            or kept.array is not None
            or kept.dependency is not None
        ):
            _submit_special(state, job, event.past, now)
        job_id += 1
    state.live += len(event.jobs)
    state.next_job_id = max(state.next_job_id, job_id)


def _track_singletons(state: State, event: ev.JobsSubmitted) -> None:
    keys = {
        (event.uid, job.name): None
        for job in event.jobs
        if job.dependency is not None and wants_singleton(job)
    }
    if keys:
        dependency.track_singletons(state, keys)


def wants_singleton(submission: Submission) -> bool:
    """Whether a term of the dependency is `singleton`."""
    given = submission.dependency
    return given is not None and any(t.kind is DependencyKind.SINGLETON for t in given.terms)


def _submit_special(state: State, job: Job, past: Iterable[PastJob], now: int) -> None:
    submission = job.submission
    spec = submission.spec
    if spec.hold:
        job.hold = HOLD_USER
    if spec.begin > now:
        set_eligible(state, job, now, now)
    watch_deadline(state, job)
    if submission.array is not None:
        job.array = arrays.new_record(submission.array, arrayspec.count(submission.array))
        state.tasks += job.array.count
    if submission.dependency is not None:
        dependency.enrol(state, job, past_map(past), now)


def past_map(past: Iterable[PastJob]) -> dict[tuple[int, int], PastJob]:
    """Outcomes by job and task."""
    return {(record.job_id, record.task): record for record in past}


def jobs_held(state: State, event: ev.JobsHeld, _now: int) -> None:
    """Pending jobs or tasks are held; an operator's hold stays the stronger one."""
    level = HOLD_OPERATOR if event.by_operator else HOLD_USER
    for target in event.targets:
        job = state.jobs[target.job_id]
        state.touched[target.job_id] = None
        if target.positions:
            assert job.array is not None
            for span in target.positions:
                arrays.hold(job.array, span, level)
        else:
            job.hold = max(job.hold, level)


def jobs_released(state: State, event: ev.JobsReleased, _now: int) -> None:
    """Holds are lifted: of the named tasks, or of the job and all its tasks."""
    for target in event.targets:
        job = state.jobs[target.job_id]
        state.touched[target.job_id] = None
        if target.positions:
            assert job.array is not None
            for span in target.positions:
                arrays.release(job.array, span)
            continue
        job.hold = HOLD_NONE
        if job.reason is Reason.JOB_HOLD_MAX_REQUEUE:
            job.reason = Reason.NONE
        if job.array is not None:
            arrays.release(job.array, (0, job.array.count - 1))


def job_updated(state: State, event: ev.JobUpdated, now: int) -> None:
    """A job's description changed."""
    job = state.jobs[event.job_id]
    state.touched[event.job_id] = None
    old = job.submission
    renamed = event.name != old.name
    if renamed and not job.array_id:
        dependency.leave_singletons(state, job, now)
    if event.dependency != old.dependency:
        dependency.withdraw(state, job)
    job.submission = replace(
        old,
        spec=intern(state, event.spec),
        name=event.name,
        dependency=event.dependency,
        array=None if old.array is None else replace(old.array, limit=event.array_limit),
    )
    job.priority = event.priority
    if job.array is not None and job.submission.array is not None:
        job.array.spec = job.submission.array
    if renamed and not job.array_id:
        dependency.rename_singleton(state, job, now)
    if job.run is not None:
        job.run.limit_changed |= job.run.end_limit != event.end_limit
        job.run.end_limit = event.end_limit
        return
    _reconsider(state, job, old, event, now)


def _reconsider(state: State, job: Job, old: Submission, event: ev.JobUpdated, now: int) -> None:
    """What begin, deadline and dependency of a waiting job now come to."""
    spec = job.spec
    if spec.begin != old.spec.begin or event.dependency != old.dependency:
        set_eligible(state, job, job.submit_time, now)
    watch_deadline(state, job)
    if event.dependency != old.dependency:
        if wants_singleton(job.submission):
            dependency.track_singletons(state, {dependency.singleton_key(job): None})
            dependency.join_singletons(state, job)
        if job.reason is Reason.DEPENDENCY_NEVER_SATISFIED:
            job.reason = Reason.NONE
        dependency.free_tasks(job)
        dependency.enrol(state, job, past_map(event.past), now)
