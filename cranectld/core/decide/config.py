"""Putting a configuration in force: checked against what runs, refused as a whole or taken."""

from __future__ import annotations

from collections.abc import Iterable

from crane.config.model import POLICIES, PRIORITIES, ClusterConfig, NodeConfig, PartitionConfig
from crane.hostlist import compress
from crane.record import replace
from crane.states import ENDED
from cranectld.core import query
from cranectld.core.apply_nodes import BY_CONTROLLER
from cranectld.core.commands import ApplyConfig, NodeAction, Refusal, Rejected
from cranectld.core.decide.decision import Decision
from cranectld.core.decide.rights import need_operator
from cranectld.core.events import ConfigApplied, Event, NodeChanged
from cranectld.core.shares import slot_counts
from cranectld.core.state import Node, State


def apply_config(state: State, command: ApplyConfig, _now: int) -> Decision:
    """ApplyConfig. Reply: tuple[str, ...], what changes; NOT_PERMITTED, BAD_CONFIG, CONFLICT."""
    need_operator(state, command.principal, "change the configuration")
    config = _normalised(command.config)
    if config == state.config:
        return Decision((), ())
    _check(config)
    nodes = {node.name: node for node in config.nodes}
    _check_nodes_in_use(state, nodes)
    _check_partitions_in_use(state, config)
    events: list[Event] = [ConfigApplied(config)]
    for name, node_config in nodes.items():
        shortfall = _shortfall(state.nodes.get(name), node_config)
        if shortfall:
            events.append(NodeChanged(name, NodeAction.DRAIN, shortfall, BY_CONTROLLER))
    return Decision(tuple(events), tuple(_changes(state, config, nodes)))


def _normalised(config: ClusterConfig) -> ClusterConfig:
    """With a default partition, if there is only one."""
    partitions = config.partitions
    if len(partitions) == 1 and not partitions[0].default:
        return replace(config, partitions=(replace(partitions[0], default=True),))
    return config


def _bad(message: str, hint: str = "") -> Rejected:
    return Rejected(Refusal.BAD_CONFIG, message, hint)


def _check(config: ClusterConfig) -> None:
    for kind, names in (
        ("node", [node.name for node in config.nodes]),
        ("partition", [partition.name for partition in config.partitions]),
    ):
        repeated = _repeated(names)
        if repeated:
            raise _bad(f"{kind} {repeated} is configured twice")
    known = {node.name: None for node in config.nodes}
    for partition in config.partitions:
        missing = [name for name in partition.nodes if name not in known]
        if missing:
            raise _bad(
                f"partition {partition.name} names node {missing[0]}, which is not configured"
            )
    defaults = [partition.name for partition in config.partitions if partition.default]
    if len(defaults) > 1:
        raise _bad(f"partitions {defaults[0]} and {defaults[1]} are both the default")
    if config.timeouts.lost_contact not in {"keep", "kill"}:
        raise _bad(f"lost_contact is {config.timeouts.lost_contact!r}", "keep or kill")
    if config.scheduler.policy not in POLICIES:
        raise _bad(f"policy is {config.scheduler.policy!r}", f"one of {', '.join(POLICIES)}")
    if config.priority.kind not in PRIORITIES:
        raise _bad(f"priority is {config.priority.kind!r}", f"one of {', '.join(PRIORITIES)}")


def _repeated(names: Iterable[str]) -> str:
    seen: dict[str, None] = {}
    for name in names:
        if name in seen:
            return name
        seen[name] = None
    return ""


def _check_nodes_in_use(state: State, nodes: dict[str, NodeConfig]) -> None:
    """Nodes with jobs must stay, and keep what the jobs hold."""
    for name, node in state.nodes.items():
        if not node.jobs:
            continue
        new = nodes.get(name)
        if new is None:
            raise _conflict(name, f"still has {len(node.jobs)} job(s): it cannot be removed")
        cpus = new.cpus or node.inventory.cpus
        memory = new.memory or node.inventory.memory
        if cpus < node.cpus_used or memory < node.memory_used:
            raise _conflict(name, "has more CPUs or memory in use than it would have")
        counts = slot_counts(new)
        for key, places in node.slots_used.items():
            if any(places[counts.get(key, 0) :]):
                raise _conflict(name, f"has slots of {key[0]} in use that it would not have")


def _conflict(name: str, why: str) -> Rejected:
    return Rejected(
        Refusal.CONFLICT,
        f"node {name} {why}",
        f'ccontrol update node {name} state=drain reason="..." and wait until it is empty',
    )


def _check_partitions_in_use(state: State, config: ClusterConfig) -> None:
    """A partition that jobs in the queue use must stay."""
    kept = {partition.name: None for partition in config.partitions}
    removed = {name: 0 for name in state.partitions if name not in kept}
    if not removed:
        return
    for job in state.jobs.values():
        if job.state in ENDED:
            continue
        for name in query.partitions_of(job):
            if name in removed:
                removed[name] += 1
    for name, count in removed.items():
        if count:
            raise Rejected(
                Refusal.CONFLICT,
                f"partition {name} still has {count} job(s): it cannot be removed",
                "set it to down (up = false) and wait until it is empty, or move the jobs",
            )


def _shortfall(node: Node | None, config: NodeConfig) -> str:
    """What a registered node lacks of a promise that was raised."""
    if node is None or not node.registered_time or node.drain:
        return ""
    found, old = node.inventory, node.config
    if config.cpus > max(found.cpus, old.cpus):
        return f"CPUs: {found.cpus / 1000:g} found, {config.cpus / 1000:g} configured"
    if config.memory > max(found.memory, old.memory):
        return f"memory: {found.memory} MiB found, {config.memory} configured"
    return ""


def _changes(state: State, config: ClusterConfig, nodes: dict[str, NodeConfig]) -> list[str]:
    """What changes, in words."""
    old_nodes = {name: node.config for name, node in state.nodes.items()}
    new_parts = {partition.name: partition for partition in config.partitions}
    found = _compare("node", old_nodes, nodes)
    found += _compare("partition", state.partitions, new_parts)
    old = state.config
    for field in (
        "name",
        "scheduler",
        "priority",
        "timeouts",
        "limits",
        "operators",
        "job_requeue",
    ):
        if getattr(old, field) != getattr(config, field):
            found.append(f"{field} changed")
    return found


def _compare(
    kind: str,
    old: dict[str, NodeConfig] | dict[str, PartitionConfig],
    new: dict[str, NodeConfig] | dict[str, PartitionConfig],
) -> list[str]:
    added = [name for name in new if name not in old]
    removed = [name for name in old if name not in new]
    changed = [name for name in new if name in old and new[name] != old[name]]
    lists = (("added", added), ("removed", removed), ("changed", changed))
    return [f"{kind}s {verb}: {compress(names)}" for verb, names in lists if names]
