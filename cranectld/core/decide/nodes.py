"""Nodes come, fall silent, and are operated."""

from __future__ import annotations

from collections.abc import Callable

from crane.hostlist import compress
from crane.session import Registration, StepKey
from crane.states import NodeState
from cranectld.core.apply_nodes import BY_CONTROLLER
from cranectld.core.commands import (
    ChangeNodes,
    NodeAction,
    NodeSilent,
    Outcome,
    Refusal,
    RegisterNode,
    Rejected,
)
from cranectld.core.decide.closing import Closing
from cranectld.core.decide.decision import NOTHING, Decision
from cranectld.core.decide.fences import fence_after
from cranectld.core.decide.hosts import check_host, is_same_agent
from cranectld.core.decide.rights import need_operator
from cranectld.core.events import Event, NodeChanged, NodeLost, NodeRegistered
from cranectld.core.outcome import node_failure
from cranectld.core.shares import slot_counts
from cranectld.core.state import Job, Node, Run, State

MAX_REASON = 1_024
_ACTIONS = (
    NodeAction.DRAIN,
    NodeAction.RESUME,
    NodeAction.DOWN,
    NodeAction.FAIL,
    NodeAction.ABSENT,
)
_NEED_REASON = (NodeAction.DRAIN, NodeAction.DOWN, NodeAction.FAIL)


def register_node(state: State, command: RegisterNode, _now: int) -> Decision:
    """RegisterNode. Reply: None; UNKNOWN_NODE, CONFLICT (`check_host`).

    Attempts that cannot be alive there any more end first, so that what is left when the node is up
    are those to adopt or to launch again.
    """
    given = command.registration
    node = state.nodes.get(given.node)
    if node is None:
        raise Rejected(
            Refusal.UNKNOWN_NODE,
            f"node {given.node} is not in the configuration",
            "add it under [[nodes]] and run: ccontrol reconfigure",
        )
    check_host(node, given)
    closing = Closing(state)
    same_agent = is_same_agent(node, given)
    listed = dict.fromkeys(given.running)
    for job_id in node.jobs:
        job = state.jobs[job_id]
        run = job.run
        assert run is not None
        if not same_agent or _has_lost_step(job, run, given.node, listed):
            closing.lose(job, run, given.node)
    event = _registered(node, given, same_agent=same_agent)
    return Decision((*closing.events(), event))


def _has_lost_step(job: Job, run: Run, node: str, listed: dict[StepKey, None]) -> bool:
    """Whether a step that did run there is not known there any more."""
    return any(
        node in step.confirmed
        and node in step.waiting
        and StepKey(job.job_id, step.step, run.attempt) not in listed
        for step in run.steps.values()
    )


def _registered(node: Node, given: Registration, *, same_agent: bool) -> NodeRegistered:
    """The event, with what the node's capacity is from now on."""
    config, found = node.config, given.inventory
    problems = list(found.problems)
    if config.cpus and found.cpus < config.cpus:
        problems.append(f"CPUs: {found.cpus / 1000:g} found, {config.cpus / 1000:g} configured")
    if config.memory and found.memory < config.memory:
        problems.append(f"memory: {found.memory} MiB found, {config.memory} configured")
    counts = {(device.name, device.type): device.count for device in found.devices}
    for key, count in slot_counts(config).items():
        if key in counts and counts[key] < count:
            problems.append(
                f"{':'.join(filter(None, key))}: {counts[key]} found, {count} configured"
            )
    cpus, memory = config.cpus or found.cpus, config.memory or found.memory
    if same_agent and (cpus < node.cpus_used or memory < node.memory_used):
        problems.append("less is there than its jobs hold")
        cpus, memory = max(cpus, node.cpus_used), max(memory, node.memory_used)
    return NodeRegistered(given, cpus, memory, "; ".join(problems)[:MAX_REASON])


def node_silent(state: State, command: NodeSilent, _now: int) -> Decision:
    """NodeSilent. Reply: None. Nothing follows if it has registered since, or is lost already."""
    node = state.nodes.get(command.node)
    if node is None or not node.answering or command.last_heard < node.registered_time:
        return NOTHING
    fence = fence_after(node, command.last_heard)
    return Decision((NodeLost(command.node, command.last_heard, fence),))


def change_nodes(state: State, command: ChangeNodes, _now: int) -> Decision:
    """ChangeNodes. Reply: tuple[Outcome, ...], one per name; NOT_PERMITTED, BAD_REQUEST."""
    who, action = command.principal, command.action
    need_operator(state, who, "change nodes")
    if action not in _ACTIONS:
        raise Rejected(
            Refusal.BAD_REQUEST, f"unknown action {action!r}", f"one of {', '.join(_ACTIONS)}"
        )
    if action in _NEED_REASON and not command.reason.strip():
        raise Rejected(
            Refusal.BAD_REQUEST,
            f"setting {compress(command.names[:8])} to {action} needs a reason",
            'say why: reason="..."; others will see it',
        )
    closing = Closing(state)
    changes: list[Event] = []
    results: list[Outcome] = []
    for name in dict.fromkeys(command.names):
        node = state.nodes.get(name)
        error = _refusal(node, name, action)
        results.append(Outcome(name, error))
        if node is None or error is not None:
            continue
        end = _END_JOBS.get(action)
        if end is not None:
            for job_id in node.jobs:
                job = state.jobs[job_id]
                assert job.run is not None
                end(closing, state, job, job.run, name)
        reason = command.reason[:MAX_REASON] or ("absent" if action == NodeAction.ABSENT else "")
        changes.append(NodeChanged(name, action, reason, who.user or BY_CONTROLLER))
    return Decision((*closing.events(), *changes), tuple(results))


def _refusal(node: Node | None, name: str, action: str) -> Rejected | None:
    if node is None:
        return Rejected(
            Refusal.UNKNOWN_NODE, f"there is no node {name}", "cinfo -N lists the nodes"
        )
    if action == NodeAction.ABSENT and node.answering:
        return Rejected(
            Refusal.CONFLICT,
            f"node {name} answers: it is not absent",
            "wait until it is down, or set it to down",
        )
    if action == NodeAction.RESUME and node.state is NodeState.UP and not node.drain:
        return Rejected(Refusal.CONFLICT, f"node {name} is in service already")
    return None


def _end_alive(closing: Closing, state: State, job: Job, run: Run, _node: str) -> None:
    """The node is taken down while its agent may answer: the job is ended there in order."""
    if not closing.is_ending(job, run):
        closing.end(job, node_failure(state, job, run))


def _end_gone(closing: Closing, _state: State, job: Job, run: Run, node: str) -> None:
    """No process of the node is alive: its share is free at once."""
    closing.lose(job, run, node)


_END_JOBS: dict[str, Callable[[Closing, State, Job, Run, str], None]] = {
    NodeAction.DOWN: _end_alive,
    NodeAction.ABSENT: _end_gone,
}
