"""How a job ends: from the batch script's end, a node's failure or a cancellation to a final state."""

from __future__ import annotations

from typing import NamedTuple

from crane.session import EndCause
from crane.states import JobState, Reason
from cranectld.core.events import JobEnd, JobEnding, StepEnd
from cranectld.core.state import Job, Run, State


class BatchEnd(NamedTuple):
    """What the batch script's end makes of the job, unless the job was being ended anyway."""

    state: JobState
    reason: Reason
    exit_code: int
    signal: int


class Again(NamedTuple):
    """Whether a failed attempt is repeated, and held."""

    requeue: bool
    hold: bool


def batch_end(end: StepEnd, job: Job, run: Run) -> BatchEnd:
    """Outcome of a batch script's end (sbatch(1) and squeue(1), JOB STATE CODES)."""
    cause = end.cause
    code, signal = end.exit_code, end.signal
    if cause is EndCause.EXIT:
        if signal:
            return BatchEnd(JobState.FAILED, Reason.RAISED_SIGNAL, code, signal)
        if code:
            return BatchEnd(JobState.FAILED, Reason.NON_ZERO_EXIT_CODE, code, 0)
        return BatchEnd(JobState.COMPLETED, Reason.NONE, 0, 0)
    if cause is EndCause.TIMEOUT:
        deadline = job.spec.deadline
        if deadline and run.end_limit == deadline:
            return BatchEnd(JobState.DEADLINE, Reason.TIME_LIMIT, code, signal)
        return BatchEnd(JobState.TIMEOUT, Reason.TIME_LIMIT, code, signal)
    if cause is EndCause.OUT_OF_MEMORY:
        return BatchEnd(JobState.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, code, signal)
    if cause is EndCause.CANCELLED:
        return BatchEnd(JobState.CANCELLED, Reason.CANCELLED, code, signal)
    if cause is EndCause.LAUNCH_FAILED:
        return BatchEnd(JobState.FAILED, Reason.JOB_LAUNCH_FAILURE, code or 1, signal)
    return BatchEnd(JobState.NODE_FAIL, Reason.NODE_FAIL, code, signal)


def after_node_failure(state: State, job: Job) -> Again:
    """Whether a job whose node failed is run again: its own word, or the cluster's; held when it
    has been requeued as often as the limits allow.
    """
    wanted = job.spec.requeue
    if wanted is None:
        wanted = state.config.job_requeue
    return Again(wanted, wanted and job.restarts >= state.config.limits.max_requeue)


def node_failure(state: State, job: Job, run: Run) -> JobEnding:
    """The ending of an attempt whose node failed."""
    again = after_node_failure(state, job)
    reason = Reason.JOB_HOLD_MAX_REQUEUE if again.hold else Reason.NODE_FAIL
    return JobEnding(
        job.job_id,
        run.attempt,
        JobState.NODE_FAIL,
        reason,
        requeue=again.requeue,
        hold=again.hold,
    )


def job_end(
    state: State, job: Job, run: Run, ending: JobEnding | None, batch: BatchEnd | None
) -> JobEnd:
    """How the attempt ended, now that no node holds a share: being ended counts most, then the
    batch script's own end; an attempt without either was lost with its node.
    """
    code, signal = (batch.exit_code, batch.signal) if batch is not None else (0, 0)
    if ending is None and (batch is None or batch.state is JobState.NODE_FAIL):
        ending = node_failure(state, job, run)
    if ending is None:
        assert batch is not None
        return JobEnd(job.job_id, run.attempt, batch.state, batch.reason, code, signal)
    return JobEnd(
        job.job_id,
        run.attempt,
        ending.state,
        ending.reason,
        code,
        signal,
        ending.by_uid,
        ending.requeue,
        ending.hold,
    )
