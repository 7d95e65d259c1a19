"""Folding how jobs end, are run again, and are forgotten."""

from __future__ import annotations

from crane.states import ENDED, JobState, Reason
from cranectld.core import arrays, dependency
from cranectld.core import events as ev
from cranectld.core.apply_runs import mark_completing
from cranectld.core.due import set_eligible, watch_deadline
from cranectld.core.shares import give_back
from cranectld.core.state import HOLD_NONE, HOLD_OPERATOR, HOLD_USER, Job, State

_MANY = 64
"""So many tasks are told to dependents one by one; more as one change."""


def jobs_ending(state: State, event: ev.JobsEnding, _now: int) -> None:
    """Attempts are being ended."""
    for ending in event.jobs:
        job = state.jobs[ending.job_id]
        assert job.run is not None
        job.run.ending = ending
        mark_completing(state, job)


def jobs_ended(state: State, event: ev.JobsEnded, now: int) -> None:
    """Jobs, tasks or attempts ended."""
    for end in event.ends:
        job = state.jobs[end.job_id]
        run = job.run
        state.touched[end.job_id] = None
        if run is not None:
            for name in list(run.holding):
                give_back(state, job, name, now)
            job.last_run = run
            job.run = None
            job.cpu_us += run.cpu_us
            job.memory_peak = max(job.memory_peak, run.memory_peak)
        if job.array_id:
            _task_ended(state, job, end, now)
        elif end.requeue:
            _wait_again(state, job, end, now)
        else:
            _job_ended(state, job, end, now)


def _hold_level(job: Job, by_uid: int) -> int:
    return HOLD_OPERATOR if by_uid >= 0 and by_uid != job.uid else HOLD_USER


def _wait_again(state: State, job: Job, end: ev.JobEnd, now: int) -> None:
    """The attempt is over, and the job waits for another."""
    job.state = JobState.PENDING
    job.restarts += 1
    job.start_time = 0
    set_eligible(state, job, now, now)
    job.reason = Reason.NONE
    if end.hold:
        job.hold = _hold_level(job, end.by_uid)
        if end.reason is Reason.JOB_HOLD_MAX_REQUEUE:
            job.reason = end.reason
    watch_deadline(state, job)
    _tell(state, job.job_id, -1, now)


def _job_ended(state: State, job: Job, end: ev.JobEnd, now: int) -> None:
    job.exit_code = end.exit_code
    job.signal = end.signal
    if end.state is JobState.CANCELLED:
        job.cancelled_by = end.by_uid
    _finish(state, job, end.state, end.reason, now)


def _finish(state: State, job: Job, final: JobState, reason: Reason, now: int) -> None:
    """A job or an array has ended for good."""
    assert job.state not in ENDED
    job.state = final
    job.reason = reason
    job.end_time = now
    state.live -= 1
    state.ended.append((now, job.job_id))
    if job.unmet:
        dependency.withdraw(state, job)
    if state.singletons:
        dependency.leave_singletons(state, job, now)
    _tell(state, job.job_id, -1, now)


def _tell(state: State, job_id: int, index: int, now: int) -> None:
    if state.dependents:
        dependency.notify(state, job_id, index, now)


def _task_ended(state: State, job: Job, end: ev.JobEnd, now: int) -> None:
    """A task's row goes; what is left of it is in the array's columns."""
    array = state.jobs[job.array_id]
    record = array.array
    assert record is not None
    del state.jobs[job.job_id]
    state.touched[array.job_id] = None
    array.cpu_us += job.cpu_us
    array.memory_peak = max(array.memory_peak, job.memory_peak)
    if end.requeue:
        level = _hold_level(job, end.by_uid) if end.hold else HOLD_NONE
        arrays.again(record, job.position, job.job_id, job.attempt, level)
        array.state = JobState.PENDING
        watch_deadline(state, array)
    else:
        code = -end.signal if end.signal else min(end.exit_code, 0x7FFF)
        arrays.end(record, job.position, end.state, code, now)
        array.exit_code = max(array.exit_code, end.exit_code)
        if end.state is JobState.CANCELLED:
            array.cancelled_by = end.by_uid
    if state.dependents:
        dependency.notify(state, array.job_id, arrays.task_index(array, job.position), now)
    _finish_array(state, array, now)


def _finish_array(state: State, array: Job, now: int) -> None:
    """The array's own record ends with the last of its tasks."""
    record = array.array
    assert record is not None
    if record.pending or array.state in ENDED:
        return
    if record.running:
        array.state = JobState.RUNNING
        return
    final = arrays.outcome(record)
    if final is JobState.CANCELLED:
        reason = Reason.CANCELLED
    elif final is JobState.FAILED:
        reason = Reason.NON_ZERO_EXIT_CODE
    else:
        reason = Reason.NONE
    _finish(state, array, final, reason, now)


def array_tasks_cancelled(state: State, event: ev.ArrayTasksCancelled, now: int) -> None:
    """Tasks that had not started ended without running."""
    array = state.jobs[event.array_id]
    record = array.array
    assert record is not None
    state.touched[event.array_id] = None
    for span in event.positions:
        arrays.end_unstarted(record, span, event.state, now)
    if event.state is JobState.CANCELLED:
        array.cancelled_by = event.by_uid
    _tell_tasks(state, array, event.positions, now)
    _finish_array(state, array, now)


def _tell_tasks(state: State, array: Job, spans: tuple[arrays.Span, ...], now: int) -> None:
    if array.job_id not in state.dependents:
        return
    if sum(last - first + 1 for first, last in spans) > _MANY:
        dependency.notify(state, array.job_id, dependency.MANY, now)
        return
    for first, last in spans:
        for position in range(first, last + 1):
            dependency.notify(state, array.job_id, arrays.task_index(array, position), now)


def jobs_requeued(state: State, event: ev.JobsRequeued, now: int) -> None:
    """Ended jobs and tasks wait again."""
    level = HOLD_OPERATOR if event.by_operator else HOLD_USER
    for job_id in event.job_ids:
        job = state.jobs[job_id]
        _live_again(state, job, now)
        job.restarts += 1
        job.exit_code = job.signal = 0
        if event.hold:
            job.hold = level
    for target in event.tasks:
        array = state.jobs[target.job_id]
        record = array.array
        assert record is not None
        for first, last in target.positions:
            for position in range(first, last + 1):
                arrays.revive(record, position, level if event.hold else HOLD_NONE)
        if array.state in ENDED:
            _live_again(state, array, now)
        else:
            watch_deadline(state, array)
        array.state = JobState.PENDING
        state.touched[target.job_id] = None
        _tell_tasks(state, array, target.positions, now)


def _live_again(state: State, job: Job, now: int) -> None:
    assert job.state in ENDED
    job.state = JobState.PENDING
    job.reason = Reason.NONE
    job.start_time = job.end_time = 0
    job.cancelled_by = -1
    set_eligible(state, job, now, now)
    state.live += 1
    state.touched[job.job_id] = None
    watch_deadline(state, job)
    if state.singletons:
        dependency.join_singletons(state, job)
    dependency.enrol_again(state, job, now)
    _tell(state, job.job_id, -1, now)


def jobs_forgotten(state: State, event: ev.JobsForgotten, _now: int) -> None:
    """Ended jobs leave memory."""
    for job_id in event.job_ids:
        job = state.jobs.pop(job_id)
        assert job.state in ENDED
        if job.array is not None:
            state.tasks -= job.array.count
        state.dependents.pop(job_id, None)
