"""Folding configuration and what happens to nodes."""

from __future__ import annotations

import heapq

from crane.config.model import ClusterConfig, NodeConfig, Timeouts
from crane.states import NodeState
from cranectld.core import events as ev
from cranectld.core.commands import NodeAction
from cranectld.core.shares import class_of, fit_slots
from cranectld.core.state import Node, NodeClass, State
from cranectld.core.usage import settle

BY_CONTROLLER = "crane"
"""Who set a node's reason when it was the controller itself: what it sets it may also lift."""
NOT_RESPONDING = "Not responding"


def config_applied(state: State, event: ev.ConfigApplied, now: int) -> None:
    """Nodes and partitions are as configured from now on."""
    config = event.config
    half_life = state.config.priority.half_life
    if half_life != config.priority.half_life:
        settle(state, half_life, now)
    state.config = config
    member_of = memberships(config)
    nodes: dict[str, Node] = {}
    for node_config in config.nodes:
        node = state.nodes.get(node_config.name)
        nodes[node_config.name] = _configured(node, node_config, member_of)
        if node is not None:
            _terms_changed(node, config.timeouts)
    state.nodes = nodes
    state.partitions = {partition.name: partition for partition in config.partitions}
    defaults = [partition.name for partition in config.partitions if partition.default]
    state.default_partition = defaults[0] if defaults else ""
    count_classes(state)


def memberships(config: ClusterConfig) -> dict[str, tuple[str, ...]]:
    """Partitions by node name, in order of configuration."""
    found: dict[str, list[str]] = {}
    for partition in config.partitions:
        for name in partition.nodes:
            found.setdefault(name, []).append(partition.name)
    return {name: tuple(dict.fromkeys(names)) for name, names in found.items()}


def _configured(
    node: Node | None, config: NodeConfig, member_of: dict[str, tuple[str, ...]]
) -> Node:
    if node is None:
        node = Node(config=config)
    node.config = config
    node.partitions = member_of.get(config.name, ())
    node.cpus = config.cpus or node.inventory.cpus
    node.memory = config.memory or node.inventory.memory
    fit_slots(node)
    return node


def _terms_changed(node: Node, timeouts: Timeouts) -> None:
    """Its agent and jobs may go by the old terms or the new ones: the safer of each holds until it
    registers without a job, or says which ones all its jobs go by.
    """
    node.lease = max(node.lease, timeouts.lease)
    node.kill_grace = max(node.kill_grace, timeouts.kill_grace)
    node.kills = node.kills and timeouts.lost_contact == "kill"


def count_classes(state: State) -> None:
    """Derive the classes of nodes. O(nodes)."""
    classes = state.classes
    classes.clear()
    for node in state.nodes.values():
        kind = class_of(node)
        classes[kind] = classes.get(kind, 0) + 1


def node_registered(state: State, event: ev.NodeRegistered, now: int) -> None:
    """An agent is there: the node is up unless an operator or its inventory forbids it, and jobs
    that were in doubt because of its silence are adopted.
    """
    given = event.registration
    node = state.nodes[given.node]
    old_class = class_of(node)
    node.incarnation = given.incarnation
    node.boot_id = given.boot_id
    node.spool_id = given.spool_id
    node.host_id = given.host_id
    node.address = given.address
    node.inventory = given.inventory
    node.registered_time = now
    node.answering = True
    node.cpus = event.cpus
    node.memory = event.memory
    # Jobs that run there are held to the terms of their launch, by shims that may outlive the agent,
    # until it says to which others all of them are held by now (the grace stays that of the launch);
    # nor is it known that the agent has got our answer. With none there, what is launched comes after
    # that answer.
    if not node.jobs:
        node.lease, node.kill_grace, node.kills = 0.0, 0, True
    elif given.held_lease:
        node.lease, node.kills = given.held_lease, True
    _terms_changed(node, state.config.timeouts)
    if node.state in (NodeState.UNKNOWN, NodeState.DOWN) and not node.held_down:
        node.state = NodeState.UP
        if node.reason_by == BY_CONTROLLER and not node.drain:
            _explain(node, "", "", 0)
    if event.drain_reason:
        if not node.drain or node.reason_by == BY_CONTROLLER:
            _explain(node, event.drain_reason, BY_CONTROLLER, now)
        node.drain = True
    elif node.drain and node.reason_by == BY_CONTROLLER:
        node.drain = False
        _explain(node, "", "", 0)
    for job_id in node.jobs:
        run = state.jobs[job_id].run
        assert run is not None
        run.fences.pop(given.node, None)
    _move_class(state, old_class, class_of(node))


def _move_class(state: State, old: NodeClass, new: NodeClass) -> None:
    """Count a node under another class."""
    if old == new:
        return
    classes = state.classes
    classes[old] -= 1
    if not classes[old]:
        del classes[old]
    classes[new] = classes.get(new, 0) + 1


def _explain(node: Node, reason: str, by: str, now: int) -> None:
    node.reason = reason
    node.reason_by = by
    node.reason_time = now


def node_lost(state: State, event: ev.NodeLost, now: int) -> None:
    """A node stopped answering: its jobs are in doubt until it is back or its fence has passed."""
    node = state.nodes[event.node]
    lost_before = not node.answering
    node.answering = False
    node.last_heard = event.last_heard
    if not lost_before and node.state is not NodeState.FAIL and not node.held_down:
        node.state = NodeState.DOWN
        if not node.drain:
            _explain(node, NOT_RESPONDING, BY_CONTROLLER, now)
    for job_id in node.jobs:
        run = state.jobs[job_id].run
        assert run is not None
        run.fences[event.node] = event.fence
        if event.fence:
            heapq.heappush(state.alarms, (event.fence, job_id))


def node_changed(state: State, event: ev.NodeChanged, now: int) -> None:
    """An operator (or a check) changed a node."""
    node = state.nodes[event.node]
    if event.action == NodeAction.DRAIN:
        node.drain = True
    elif event.action == NodeAction.RESUME:
        node.drain = False
        node.held_down = False
        if node.answering:
            node.state = NodeState.UP
        else:
            node.state = NodeState.DOWN if node.registered_time else NodeState.UNKNOWN
        if node.state is NodeState.DOWN:
            _explain(node, NOT_RESPONDING, BY_CONTROLLER, now)
        else:
            _explain(node, "", "", 0)
        return
    elif event.action == NodeAction.ABSENT:
        node.state = NodeState.DOWN
        node.answering = False
    else:
        node.state = NodeState.FAIL if event.action == NodeAction.FAIL else NodeState.DOWN
        node.held_down = True
    _explain(node, event.reason, event.by, now)
