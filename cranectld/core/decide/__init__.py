"""decide: what follows from a command in the present state. Never mutates it; raises Rejected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cranectld.core import commands as cmd
from cranectld.core.decide import (
    cancel,
    config,
    fences,
    hold,
    nodes,
    plan,
    reports,
    steps,
    submit,
    tick,
    update,
)
from cranectld.core.decide.decision import Decision
from cranectld.core.state import State

__all__ = ["Decision", "decide"]

_DECIDERS: dict[type, Callable[[State, Any, int], Decision]] = {
    cmd.StartEpoch: fences.start_epoch,
    cmd.ApplyConfig: config.apply_config,
    cmd.SubmitJobs: submit.submit_jobs,
    cmd.CancelJobs: cancel.cancel_jobs,
    cmd.HoldJobs: hold.hold_jobs,
    cmd.ReleaseJobs: hold.release_jobs,
    cmd.RequeueJobs: hold.requeue_jobs,
    cmd.UpdateJobs: update.update_jobs,
    cmd.ChangeNodes: nodes.change_nodes,
    cmd.CommitPlan: plan.commit_plan,
    cmd.RegisterNode: nodes.register_node,
    cmd.NodeSilent: nodes.node_silent,
    cmd.TakeReports: reports.take_reports,
    cmd.CreateStep: steps.create_step,
    cmd.SignalStep: cancel.signal_step,
    cmd.Tick: tick.tick,
    cmd.ClockStepped: fences.clock_stepped,
}


def decide(state: State, command: cmd.Command, now: int) -> Decision:
    """Events, reply and stateless effects of a command at `now` (ns, not before `state.time`).

    Raises Rejected, with a stable code and what to do, when nothing of it is done.
    """
    return _DECIDERS[type(command)](state, command, now)
