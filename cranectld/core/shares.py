"""What jobs hold on nodes: taking and giving back shares, device slots included."""

from __future__ import annotations

from collections.abc import Iterable

from crane.config.model import NodeConfig
from crane.session import NodeShare, SlotShare
from cranectld.core.state import Job, Node, NodeClass, State
from cranectld.core.usage import charge

SlotKey = tuple[str, str]
"""Name and type of device slots; the type may be empty."""


def slot_counts(config: NodeConfig) -> dict[SlotKey, int]:
    """Device slots a node has, as configured (`gres` counts those of `devices` too)."""
    counts: dict[SlotKey, int] = {}
    for gres in config.gres:
        key = (gres.name, gres.type)
        counts[key] = counts.get(key, 0) + gres.count
    return counts


def fit_slots(node: Node) -> None:
    """Give the node a place for each configured slot; places in use are never taken away."""
    counts = slot_counts(node.config)
    for key, places in list(node.slots_used.items()):
        if key not in counts and not any(places):
            del node.slots_used[key]
    for key, count in counts.items():
        places = node.slots_used.setdefault(key, [])
        places.extend([0] * (count - len(places)))
        while len(places) > count and not places[-1]:
            places.pop()


def class_of(node: Node) -> NodeClass:
    """What requests can tell of the node."""
    slots = tuple((name, kind, count) for (name, kind), count in slot_counts(node.config).items())
    config = node.config
    return NodeClass(node.cpus, node.memory, slots, config.features, node.partitions)


def take(node: Node, job: Job, share: NodeShare, *, exclusive: bool) -> None:
    """The job holds the share from now on."""
    job_id = job.job_id
    assert job_id not in node.jobs
    node.jobs[job_id] = None
    node.cpus_used += share.cpus
    node.memory_used += share.memory
    for slot in share.slots:
        places = node.slots_used[slot.name, slot.type]
        for index in slot.indices:
            assert places[index] == 0
            places[index] = job_id
    if exclusive:
        node.exclusive = job_id


def give_back(state: State, job: Job, name: str, now: int) -> bool:
    """The job holds nothing on this node any more; False if it did not."""
    run = job.run
    if run is None or name not in run.holding:
        return False
    del run.holding[name]
    run.fences.pop(name, None)
    node = state.nodes[name]
    share = share_on(run.shares, name)
    charge(state, job, share, run.start_time, now)
    del node.jobs[job.job_id]
    node.cpus_used -= share.cpus
    node.memory_used -= share.memory
    for slot in share.slots:
        places = node.slots_used[slot.name, slot.type]
        for index in slot.indices:
            places[index] = 0
    if node.exclusive == job.job_id:
        node.exclusive = 0
    return True


def share_on(shares: tuple[NodeShare, ...], name: str) -> NodeShare:
    """The share on this node. O(nodes of the job)."""
    for share in shares:
        if share.node == name:
            return share
    raise KeyError(name)


def pick_slots(
    places: dict[SlotKey, list[int]], wanted: Iterable[tuple[str, str, int]], job_id: int
) -> tuple[SlotShare, ...] | None:
    """Take the lowest free slots in `places` (changed) for a job; None if they do not suffice.

    A request without a type takes slots without a type, and others where there are none.
    """
    taken: list[SlotShare] = []
    for name, kind, count in wanted:
        keys = [(name, kind)]
        if not kind:
            keys += [key for key in places if key[0] == name and key[1]]
        left = count
        for key in keys:
            free = [i for i, user in enumerate(places.get(key, ())) if not user][:left]
            if free:
                left -= len(free)
                for i in free:
                    places[key][i] = job_id
                taken.append(SlotShare(name, key[1], tuple(free)))
        if left:
            return None
    return _joined(taken)


def _joined(taken: list[SlotShare]) -> tuple[SlotShare, ...]:
    """One share per type, indices ascending."""
    found: dict[SlotKey, list[int]] = {}
    for slot in taken:
        found.setdefault((slot.name, slot.type), []).extend(slot.indices)
    return tuple(SlotShare(*key, tuple(sorted(indices))) for key, indices in found.items())
