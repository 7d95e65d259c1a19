"""Could the configured nodes, all of them empty and up, ever host a request? Pure arithmetic.

Nodes count by class (`state.classes`), so that it costs O(classes), not O(nodes). A node whose
capacity is not known yet (it never registered, and nothing is promised) may fit.
"""

from __future__ import annotations

from dataclasses import dataclass

from crane import features
from crane.config.model import PartitionConfig
from crane.jobspec import Component, Gres, JobSpec
from crane.record import replace
from cranectld.core.shares import class_of
from cranectld.core.state import NodeClass, State

MANY = 1 << 20
"""Tasks that a node of unknown size might host."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many nodes a request needs."""

    low: int
    high: int


def bounds(part: Component) -> Bounds:
    """Fewest and most nodes of a component (the same rule as `sched_core.request`)."""
    low = max(part.min_nodes, 1)
    if part.ntasks:
        low = max(min(low, part.ntasks), len(part.nodelist))
        high = min(part.max_nodes or part.min_nodes or part.ntasks, part.ntasks)
        return Bounds(low, max(high, len(part.nodelist)))
    low = max(low, len(part.nodelist))
    return Bounds(low, part.max_nodes or low)


def tasks_on(kind: NodeClass, part: Component) -> int:
    """Tasks of the component that an empty node of this class could host."""
    for gres in part.gres:
        have = sum(
            count
            for name, slot_type, count in kind.slots
            if name == gres.name and (not gres.type or slot_type == gres.type)
        )
        if have < gres.count:
            return 0
    room = MANY
    if kind.cpus:
        room = min(room, kind.cpus // part.cpus_per_task)
    if kind.memory:
        if part.mem_per_node > kind.memory:
            return 0
        per_task = -(-part.mem_per_cpu * part.cpus_per_task // 1000)
        if per_task:
            room = min(room, kind.memory // per_task)
    each = part.ntasks_per_node or (0 if part.ntasks else 1)
    if not part.ntasks:
        return each if room >= each else 0
    return min(room, each) if each else room


def shortfall(state: State, spec: JobSpec) -> str:
    """Why no set of nodes of any of the spec's partitions could ever host it; empty: one could."""
    part = spec.components[0]
    reasons = []
    for name in spec.partitions:
        constraint = features.parse(part.features)
        for wanted in constraint.choices():
            reason = _short_in(state, state.partitions[name], part, wanted)
            for feature, count in constraint.counts:
                if not reason:
                    some = replace(part, ntasks=0, min_nodes=count, max_nodes=count)
                    both = tuple((*names, feature) for names in wanted or ((),))
                    reason = _short_in(state, state.partitions[name], some, both)
            if not reason:
                return ""
            reasons.append(reason)
    return reasons[0]


def _short_in(
    state: State, partition: PartitionConfig, part: Component, wanted: features.Alternatives
) -> str:
    need = bounds(part)
    where = f"partition {partition.name}"
    if partition.max_nodes and need.low > partition.max_nodes:
        return f"it needs {need.low} nodes, {where} allows {partition.max_nodes}"
    if need.high < need.low:
        return f"it needs at least {need.low} nodes and allows at most {need.high}"
    counts = _members(state, partition, part)
    suited = {kind: n for kind, n in counts.items() if features.has(kind.features, wanted)}
    if not suited:
        return _no_nodes(where, part, counts)
    fitting = {kind: tasks_on(kind, part) for kind in suited}
    for node_name in part.nodelist:
        node = state.nodes[node_name]
        if node_name in part.exclude or not fitting.get(class_of(node)):
            return f"node {node_name} of its node list cannot host a task of it in {where}"
    able = sum(n for kind, n in suited.items() if fitting[kind])
    if able < need.low:
        return _too_few(where, part, need.low, able, suited)
    if part.ntasks:
        room = _room(state, part, suited, fitting, need.high)
        if room < part.ntasks:
            return (
                f"it asks for {part.ntasks} tasks of {_cpus(part.cpus_per_task)}; "
                f"{need.high} node(s) of {where} have room for {room}"
            )
    return ""


def _members(state: State, partition: PartitionConfig, part: Component) -> dict[NodeClass, int]:
    """Nodes of the partition by class, without excluded ones."""
    counts = {k: n for k, n in state.classes.items() if partition.name in k.partitions}
    for name in dict.fromkeys(part.exclude):
        kind = class_of(state.nodes[name])
        if kind in counts:
            counts[kind] -= 1
    return {kind: n for kind, n in counts.items() if n > 0}


def _room(
    state: State,
    part: Component,
    suited: dict[NodeClass, int],
    fitting: dict[NodeClass, int],
    high: int,
) -> int:
    """Most tasks that `high` nodes can host, those of the node list among them."""
    left = dict(suited)
    total = 0
    for name in part.nodelist:
        kind = class_of(state.nodes[name])
        left[kind] -= 1
        total += fitting[kind]
    high -= len(part.nodelist)
    for kind in sorted(left, key=lambda k: -fitting[k]):
        used = min(left[kind], high)
        total += used * fitting[kind]
        high -= used
    return total


def _cpus(thousandths: int) -> str:
    return f"{thousandths / 1000:g} CPU(s)"


def _gres(gres: Gres, count: int) -> str:
    return f"{count} {gres.name}" + (f":{gres.type}" if gres.type else "")


def _no_nodes(where: str, part: Component, counts: dict[NodeClass, int]) -> str:
    if not counts:
        return f"{where} has no node left for it" if part.exclude else f"{where} has no nodes"
    return f"none of the {sum(counts.values())} node(s) of {where} has the features {part.features}"


def _too_few(where: str, part: Component, low: int, able: int, suited: dict[NodeClass, int]) -> str:
    """The request of one node beside the largest there is."""
    tasks = part.ntasks_per_node if part.ntasks_per_node and not part.ntasks else 1
    wants = [_cpus(tasks * part.cpus_per_task)]
    memory = part.mem_per_node or -(-tasks * part.mem_per_cpu * part.cpus_per_task // 1000)
    if memory:
        wants.append(f"{memory} MiB")
    wants += [_gres(gres, gres.count) for gres in part.gres]
    largest = [_cpus(max(kind.cpus for kind in suited)), f"{max(k.memory for k in suited)} MiB"]
    for gres in part.gres:
        most = max(
            sum(n for name, kind, n in k.slots if name == gres.name and gres.type in ("", kind))
            for k in suited
        )
        largest.append(_gres(gres, most))
    return (
        f"it asks for {low} node(s) with {', '.join(wants)} each; {where} has {able} such node(s) "
        f"(largest figures of a node there: {', '.join(largest)})"
    )
