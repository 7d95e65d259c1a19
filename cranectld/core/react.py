"""react: the effects of an event, right after it was folded. Only for the live controller: a replay
must not send orders again. What gets lost is sent again when an agent registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crane.jobspec import BATCH_STEP
from crane.session import (
    ArrayPlace,
    EndCause,
    EndJob,
    LaunchStep,
    SetTimeLimit,
    StepKey,
)
from cranectld.core import events as ev
from cranectld.core.effects import Effect, ForgetOrders, Replan, SendOrder
from cranectld.core.state import Job, Run, State, Step

_REPLAN: list[Effect] = [Replan()]


def react(state: State, logged: ev.Logged) -> list[Effect]:
    """What the shell has to do once the event is durable."""
    reaction = _REACTIONS.get(type(logged.event))
    return reaction(state, logged.event) if reaction is not None else []


def _replan(_state: State, _event: ev.Event) -> list[Effect]:
    return _REPLAN


def launch_order(state: State, job: Job, run: Run, step: Step) -> LaunchStep:
    """The order that runs a step of a job's present attempt."""
    timeouts = state.config.timeouts
    nodes = state.nodes
    place = None
    if job.array_id:
        record = state.jobs[job.array_id].array
        assert record is not None
        place = ArrayPlace(job.array_id, record.places.index_at(job.position), record.spec)
    return LaunchStep(
        key=StepKey(job.job_id, step.step, run.attempt),
        uid=job.uid,
        gid=job.gid,
        user=job.user,
        submission=job.submission,
        shares=run.shares,
        addresses=tuple([nodes[share.node].address or share.node for share in run.shares]),
        partition=run.partition,
        start_time=run.start_time,
        end_time=run.end_limit,
        kill_grace=timeouts.kill_grace,
        array=place,
        restarts=job.restarts,
        request=step.request,
        layout=step.layout,
    )


def _tasks_started(state: State, event: ev.TasksStarted) -> list[Effect]:
    effects: list[Effect] = []
    for start in event.starts:
        job = state.jobs[start.job_id]
        run = job.run
        assert run is not None
        order = launch_order(state, job, run, run.steps[BATCH_STEP])
        effects.append(SendOrder(start.shares[0].node, order))
    return effects


def _step_created(state: State, event: ev.StepCreated) -> list[Effect]:
    job = state.jobs[event.key.job_id]
    assert job.run is not None
    order = launch_order(state, job, job.run, job.run.steps[event.key.step])
    return [SendOrder(node, order) for node in event.layout.nodes]


def _end_orders(job: Job, run: Run) -> list[Effect]:
    """Orders to the nodes that still hold a share to end what is left of the attempt."""
    order = EndJob(job.job_id, run.attempt, EndCause.CANCELLED)
    return [SendOrder(node, order) for node in run.holding]


def _jobs_ending(state: State, event: ev.JobsEnding) -> list[Effect]:
    effects: list[Effect] = []
    for ending in event.jobs:
        job = state.jobs[ending.job_id]
        assert job.run is not None
        effects += _end_orders(job, job.run)
    return effects


def _steps_ended(state: State, event: ev.StepsEnded) -> list[Effect]:
    """When the batch script has ended, so does all else of the job."""
    effects: list[Effect] = []
    for end in event.ends:
        if end.key.step == BATCH_STEP:
            job = state.jobs[end.key.job_id]
            run = job.run
            if run is not None and run.holding and run.ending is None:
                effects += _end_orders(job, run)
    return effects


def _job_updated(state: State, event: ev.JobUpdated) -> list[Effect]:
    job = state.jobs[event.job_id]
    run = job.run
    if run is None:
        return _REPLAN
    order = SetTimeLimit(job.job_id, run.attempt, run.end_limit)
    return [*(SendOrder(node, order) for node in run.holding), *_REPLAN]


def _node_registered(state: State, event: ev.NodeRegistered) -> list[Effect]:
    """Bring the agent in line: end what must not run, launch what never got there, and tell what
    may have changed while it was away.
    """
    given = event.registration
    name = given.node
    effects: list[Effect] = [ForgetOrders(name)]
    listed = dict.fromkeys(given.running)
    for job_id, attempt in dict.fromkeys((key.job_id, key.attempt) for key in given.running):
        job = state.jobs.get(job_id)
        run = job.run if job is not None else None
        if run is None or run.attempt != attempt or name not in run.holding:
            effects.append(SendOrder(name, EndJob(job_id, attempt, EndCause.CANCELLED)))
    for job_id in state.nodes[name].jobs:
        job = state.jobs[job_id]
        run = job.run
        assert run is not None
        if run.ending is not None or run.batch_end is not None:
            effects.append(SendOrder(name, EndJob(job_id, run.attempt, EndCause.CANCELLED)))
            continue
        for step in run.steps.values():
            key = StepKey(job_id, step.step, run.attempt)
            if name in step.waiting and key not in listed:
                effects.append(SendOrder(name, launch_order(state, job, run, step)))
        if run.limit_changed:
            effects.append(SendOrder(name, SetTimeLimit(job_id, run.attempt, run.end_limit)))
    return [*effects, *_REPLAN]


_REACTIONS: dict[type, Callable[[State, Any], list[Effect]]] = {
    ev.EpochStarted: _replan,
    ev.ConfigApplied: _replan,
    ev.JobsSubmitted: _replan,
    ev.JobsReleased: _replan,
    ev.JobUpdated: _job_updated,
    ev.TasksStarted: _tasks_started,
    ev.StepCreated: _step_created,
    ev.StepsEnded: _steps_ended,
    ev.SharesReleased: _replan,
    ev.JobsEnding: _jobs_ending,
    ev.JobsEnded: _replan,
    ev.ArrayTasksCancelled: _replan,
    ev.JobsRequeued: _replan,
    ev.NodeRegistered: _node_registered,
    ev.NodeChanged: _replan,
}
