"""Folding what happens to attempts while they run: starts, steps, released shares."""

from __future__ import annotations

from crane.jobspec import BATCH_STEP
from crane.session import NodeShare
from crane.states import JobState, StepState
from cranectld.core import arrays, dependency
from cranectld.core import events as ev
from cranectld.core.outcome import BatchEnd, batch_end
from cranectld.core.shares import give_back, take
from cranectld.core.state import Job, Run, State, Step

MAX_ENDED_STEPS = 1_000
"""Steps of one attempt kept after they ended; the read model keeps all."""


def tasks_started(state: State, event: ev.TasksStarted, now: int) -> None:
    """Attempts start. O(nodes) each."""
    touched, jobs = state.touched, state.jobs
    for start in event.starts:
        if start.array_id:
            job = _task_row(state, start, now)
            touched[start.array_id] = None
        else:
            job = jobs[start.job_id]
        touched[start.job_id] = None
        job.state = JobState.RUNNING
        job.attempt = start.attempt
        job.start_time = now
        job.run = Run(
            attempt=start.attempt,
            start_time=now,
            end_limit=start.end_limit,
            partition=start.partition,
            shares=start.shares,
            holding=_take_all(state, job, start.shares),
            steps={BATCH_STEP: _batch_step(start.shares[0].node)},
        )
        if state.dependents:
            _tell_start(state, job, now)


def _task_row(state: State, start: ev.TaskStart, now: int) -> Job:
    """The row of an array task, which exists while it runs."""
    array = state.jobs[start.array_id]
    record = array.array
    assert record is not None
    restarts = record.attempts.get(start.position, 0)
    arrays.start(record, start.position, start.job_id, now)
    array.start_time = array.start_time or now
    if not record.pending:
        array.state = JobState.RUNNING
    job = Job(
        start.job_id,
        array.uid,
        array.gid,
        array.user,
        array.submission,
        array.submit_time,
        array.priority,
    )
    job.eligible_time = array.eligible_time
    job.array_id = start.array_id
    job.position = start.position
    job.restarts = restarts
    state.jobs[start.job_id] = job
    state.next_job_id = max(state.next_job_id, start.job_id + 1)
    return job


def _take_all(state: State, job: Job, shares: tuple[NodeShare, ...]) -> dict[str, None]:
    exclusive = job.submission.spec.components[0].exclusive
    nodes = state.nodes
    for share in shares:
        take(nodes[share.node], job, share, exclusive=exclusive)
    return {share.node: None for share in shares}


def _batch_step(node: str) -> Step:
    return Step(BATCH_STEP, StepState.STARTING, "batch", waiting={node: None})


def _tell_start(state: State, job: Job, now: int) -> None:
    if job.array_id:
        array = state.jobs[job.array_id]
        dependency.notify(state, job.array_id, arrays.task_index(array, job.position), now)
    else:
        dependency.notify(state, job.job_id, -1, now)


def steps_running(state: State, event: ev.StepsRunning, _now: int) -> None:
    """Agents confirmed the first processes of steps."""
    for started in event.steps:
        run = state.jobs[started.key.job_id].run
        assert run is not None
        step = run.steps[started.key.step]
        step.confirmed[started.node] = None
        step.state = StepState.RUNNING
        if not step.start_time:
            step.start_time = started.time


def step_created(state: State, event: ev.StepCreated, _now: int) -> None:
    """`crun` made a step."""
    run = state.jobs[event.key.job_id].run
    assert run is not None
    number = event.key.step
    run.steps[number] = Step(
        number,
        StepState.STARTING,
        event.request.name,
        layout=event.layout,
        request=event.request,
        waiting=dict.fromkeys(event.layout.nodes),
    )
    run.next_step = number + 1
    if len(run.steps) > MAX_ENDED_STEPS:
        _drop_ended_step(run)


def _drop_ended_step(run: Run) -> None:
    for number, step in run.steps.items():
        if step.state is StepState.ENDED and number != BATCH_STEP:
            del run.steps[number]
            return


def steps_ended(state: State, event: ev.StepsEnded, now: int) -> None:
    """Steps ended on nodes; `released` frees the share there."""
    for end in event.ends:
        job = state.jobs[end.key.job_id]
        run = job.run
        assert run is not None
        step = run.steps[end.key.step]
        _count_end(run, step, end)
        if end.key.step == BATCH_STEP:
            run.batch_end = batch_end(end, job, run)
            mark_completing(state, job)
        if end.released:
            _let_go(state, job, run, end.node, now)


def outcome_of(run: Run) -> BatchEnd | None:
    """The batch script's outcome, if it has ended."""
    return BatchEnd(*run.batch_end) if run.batch_end is not None else None


def _count_end(run: Run, step: Step, end: ev.StepEnd) -> None:
    """One node's part of a step is over: sums of what it used, the greatest exit code."""
    del step.waiting[end.node]
    step.cpu_us += end.cpu_us
    run.cpu_us += end.cpu_us
    step.memory_peak = max(step.memory_peak, end.memory_peak)
    run.memory_peak = max(run.memory_peak, end.memory_peak)
    step.exit_code = max(step.exit_code, end.exit_code)
    step.signal = max(step.signal, end.signal)
    if end.message and not step.message:
        step.message = end.message
    if end.start_time and not 0 < step.start_time <= end.start_time:
        step.start_time = end.start_time
    step.end_time = max(step.end_time, end.end_time)
    if not step.waiting:
        step.state = StepState.ENDED
        step.request = None  # what it ran is of no more use: the store may forget it


def mark_completing(state: State, job: Job) -> None:
    """The job's end has begun."""
    job.state = JobState.COMPLETING
    if job.array_id:
        record = state.jobs[job.array_id].array
        assert record is not None
        record.state[job.position] = JobState.COMPLETING


def shares_released(state: State, event: ev.SharesReleased, now: int) -> None:
    """Nodes have nothing left of attempts."""
    for share in event.shares:
        job = state.jobs[share.job_id]
        run = job.run
        assert run is not None
        _let_go(state, job, run, share.node, now)


def _let_go(state: State, job: Job, run: Run, node: str, now: int) -> None:
    """Nothing of the attempt is left on the node: steps still expected there ended with it."""
    give_back(state, job, node, now)
    state.touched[job.job_id] = None
    for step in run.steps.values():
        if node in step.waiting:
            del step.waiting[node]
            if not step.waiting:
                step.state = StepState.ENDED
                step.end_time = step.end_time or now
                step.request = None
