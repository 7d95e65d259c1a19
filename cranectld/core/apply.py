"""apply: fold one event into the state. Never fails, never decides, consults nothing but the event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cranectld.core import apply_ends, apply_jobs, apply_nodes, apply_runs
from cranectld.core import events as ev
from cranectld.core.due import prune
from cranectld.core.state import State

Fold = Callable[[State, Any, int], None]


def _epoch_started(state: State, event: ev.EpochStarted, _now: int) -> None:
    state.epoch = event.epoch


_FOLDS: dict[type, Fold] = {
    ev.EpochStarted: _epoch_started,
    ev.ConfigApplied: apply_nodes.config_applied,
    ev.JobsSubmitted: apply_jobs.jobs_submitted,
    ev.JobsHeld: apply_jobs.jobs_held,
    ev.JobsReleased: apply_jobs.jobs_released,
    ev.JobUpdated: apply_jobs.job_updated,
    ev.TasksStarted: apply_runs.tasks_started,
    ev.StepsRunning: apply_runs.steps_running,
    ev.StepCreated: apply_runs.step_created,
    ev.StepsEnded: apply_runs.steps_ended,
    ev.SharesReleased: apply_runs.shares_released,
    ev.JobsEnding: apply_ends.jobs_ending,
    ev.JobsEnded: apply_ends.jobs_ended,
    ev.ArrayTasksCancelled: apply_ends.array_tasks_cancelled,
    ev.JobsRequeued: apply_ends.jobs_requeued,
    ev.JobsForgotten: apply_ends.jobs_forgotten,
    ev.NodeRegistered: apply_nodes.node_registered,
    ev.NodeLost: apply_nodes.node_lost,
    ev.NodeChanged: apply_nodes.node_changed,
}


def apply(state: State, logged: ev.Logged) -> None:
    """Fold an event; its `seq` is the next one, its `time` not before the last.

    An event type that is not known raises KeyError: a newer log must not be half understood.
    """
    assert logged.seq == state.seq + 1
    assert logged.time >= state.time
    event = logged.event
    _FOLDS[type(event)](state, event, logged.time)
    state.seq = logged.seq
    state.time = logged.time
    prune(state)
