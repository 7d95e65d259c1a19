"""The planner's view of the state: rows for its tables, made of what events touched.

The planner keeps tables of its own as a second fold. `deltas` says, after a batch was applied, what
became of every job and node the batch touched; applied to tables they hold the same as tables built
from `rebuild(state)`, whatever the history was (tests/core/test_planner_fold.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from crane import features
from crane.config.model import PriorityConfig, SchedulerConfig
from crane.jobspec import UNLIMITED, Component, JobSpec
from cranectld.core.eligibility import startable
from cranectld.core.events import ConfigApplied, Logged, NodeChanged, NodeLost, NodeRegistered
from cranectld.core.state import Job, Node, State
from cranectld.core.usage import is_charged
from sched_core.names import GresAmount
from sched_core.request import Bundle, Request

NS = 1_000_000_000
NO_LIMIT = 1 << 40
"""Seconds: stands for a job or an instant without limit."""


class PendingRow(NamedTuple):
    """A pending record as the planner sees it; `duration` in seconds."""

    job_id: int
    request: Request | Bundle
    duration: int
    begin: int
    """Instant (ns) from which it may start."""
    priority: int
    gate: int
    tasks: int
    """How many of its tasks may start now (1, but for an array)."""
    user: str
    spec: JobSpec
    """For account, nice value and an operator's priority."""


class RunningRow(NamedTuple):
    """What a running job holds: per node its CPUs (thousandths), memory (MiB) and devices."""

    job_id: int
    end: int
    holds: tuple[tuple[str, int, int, tuple[GresAmount, ...]], ...]
    account: str
    user: str
    start: int
    """Instant (s)."""


class NodeRow(NamedTuple):
    """A node: what it has, where it belongs, whether it takes jobs."""

    name: str
    cpu: int
    memory: int
    gres: tuple[GresAmount, ...]
    partitions: tuple[str, ...]
    features: tuple[str, ...]
    usable: bool
    weight: int
    switch: str


class NotPending(NamedTuple):
    """No pending record of this job (any more)."""

    job_id: int


class NotRunning(NamedTuple):
    """Nothing is held by this job (any more)."""

    job_id: int


class UsageRow(NamedTuple):
    """What a user of an account counts as having used (thousandths of a CPU x s), as of when (s)."""

    account: str
    user: str
    amount: int
    as_of: int


class Instant(NamedTuple):
    """The rows that follow say what was changed then (s)."""

    time: int


class Reset(NamedTuple):
    """Forget everything: the rows that follow are the whole state."""


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """The policy and its bounds, as configured."""

    scheduler: SchedulerConfig
    priority: PriorityConfig = field(default_factory=PriorityConfig)
    tiers: tuple[tuple[str, int], ...] = ()
    """Partitions and their priorities."""


Delta = (
    PendingRow
    | RunningRow
    | NodeRow
    | NotPending
    | NotRunning
    | UsageRow
    | Instant
    | Reset
    | PolicyRow
)


class RequestCache:
    """Requests by spec: specs are interned, so most jobs cost one lookup by identity."""

    def __init__(self, bound: int = 65_536) -> None:
        self._bound = bound
        self._known: dict[int, tuple[JobSpec, Request | Bundle]] = {}

    def request(self, spec: JobSpec) -> Request | Bundle:
        """The request a spec stands for."""
        found = self._known.get(id(spec))
        if found is not None:
            return found[1]
        if len(self._known) >= self._bound:
            self._known.clear()
        made = request_of(spec)
        self._known[id(spec)] = (spec, made)  # holding the spec keeps its identity its own
        return made


def request_of(spec: JobSpec) -> Request | Bundle:
    """What the scheduling core places: all components of a resolved spec, at one start."""
    parts = tuple(_component(part, spec.partitions) for part in spec.components)
    if len(parts) > 1:
        return Bundle(parts)
    counts = features.parse(spec.components[0].features).counts
    return _counted(parts[0], counts) if counts else parts[0]


def _counted(whole: Request, counts: tuple[tuple[str, int], ...]) -> Request | Bundle:
    """`[rack1*2&rack2*4]`: so many nodes with each feature, and what is left of others, apart.

    Rows of a start are those of the job's nodes, whichever component they are of.
    """
    rest = whole.min_nodes - sum(count for _, count in counts)
    parts = [
        replace(
            whole,
            features=tuple((*names, name) for names in whole.features or ((),)),
            ntasks=0,
            min_nodes=count,
            max_nodes=count,
        )
        for name, count in counts
    ]
    if rest > 0:
        parts.append(replace(whole, ntasks=0, min_nodes=rest, max_nodes=rest))
    return Bundle(tuple(parts), apart=True) if len(parts) > 1 else parts[0]


def _component(part: Component, partitions: tuple[str, ...]) -> Request:
    wanted = features.parse(part.features)
    return Request(
        partitions=partitions,
        cpu_per_task=part.cpus_per_task,
        memory_per_task=-(-part.mem_per_cpu * part.cpus_per_task // 1000),
        memory_per_node=part.mem_per_node,
        gres_per_node=tuple((gres.name, gres.type, gres.count) for gres in part.gres),
        ntasks=part.ntasks,
        ntasks_per_node=part.ntasks_per_node,
        min_nodes=part.min_nodes,
        max_nodes=part.max_nodes,
        exclusive=part.exclusive,
        features=wanted.every,
        alternatives=wanted.same,
        required=part.nodelist,
        excluded=part.exclude,
    )


def deltas(state: State, batch: Sequence[Logged], cache: RequestCache) -> list[Delta]:
    """What changed for the planner; drains `state.touched`."""
    touched = list(state.touched)
    state.touched.clear()
    nodes: dict[str, None] = {}
    for logged in batch:
        event = logged.event
        if isinstance(event, ConfigApplied):
            return rebuild(state, cache)
        if isinstance(event, NodeRegistered):
            nodes[event.registration.node] = None
        elif isinstance(event, NodeLost | NodeChanged):
            nodes[event.node] = None
    out: list[Delta] = [node_row(state.nodes[name]) for name in nodes]
    if touched and is_charged(state):
        out.append(Instant(state.time // NS))
    for job_id in touched:
        job = state.jobs.get(job_id)
        pending = pending_row(state, job, cache) if job is not None else None
        running = running_row(job) if job is not None else None
        out.append(NotRunning(job_id) if running is None else running)
        out.append(NotPending(job_id) if pending is None else pending)
    return out


def rebuild(state: State, cache: RequestCache) -> list[Delta]:
    """The whole state as rows."""
    state.touched.clear()
    out: list[Delta] = [Reset(), Instant(state.time // NS), policy_row(state)]
    if is_charged(state):
        out += [UsageRow(*user, *used) for user, used in state.usage.items()]
    out += [node_row(node) for node in state.nodes.values()]
    for job in state.jobs.values():
        running = running_row(job)
        if running is not None:
            out.append(running)
        pending = pending_row(state, job, cache)
        if pending is not None:
            out.append(pending)
    return out


def pending_row(state: State, job: Job, cache: RequestCache) -> PendingRow | None:
    """The record of a job that waits, or of an array with tasks that do."""
    verdict = startable(state, job)
    if verdict is None:
        return None
    limit = job.spec.time_limit
    return PendingRow(
        job_id=job.job_id,
        request=cache.request(job.spec),
        duration=NO_LIMIT if limit in (UNLIMITED, 0) else limit,
        begin=job.eligible_time,
        priority=job.priority,
        gate=verdict.gate,
        tasks=verdict.count,
        user=job.user,
        spec=job.spec,
    )


def running_row(job: Job) -> RunningRow | None:
    """What a job holds on the nodes that have not let go yet."""
    run = job.run
    if run is None or not run.holding:
        return None
    return RunningRow(
        job_id=job.job_id,
        end=-(-run.end_limit // NS) if run.end_limit else NO_LIMIT,
        holds=tuple(
            (
                share.node,
                share.cpus,
                share.memory,
                tuple((slot.name, slot.type, len(slot.indices)) for slot in share.slots),
            )
            for share in run.shares
            if share.node in run.holding
        ),
        account=job.spec.account,
        user=job.user,
        start=run.start_time // NS,
    )


def policy_row(state: State) -> PolicyRow:
    """What passes go by."""
    config = state.config
    tiers = tuple((partition.name, partition.priority) for partition in state.partitions.values())
    return PolicyRow(config.scheduler, config.priority, tiers)


def node_row(node: Node) -> NodeRow:
    """A node as the planner sees it."""
    config = node.config
    return NodeRow(
        name=config.name,
        cpu=node.cpus,
        memory=node.memory,
        gres=tuple((gres.name, gres.type, gres.count) for gres in config.gres),
        partitions=node.partitions,
        features=config.features,
        usable=node.usable,
        weight=config.weight,
        switch=config.switch,
    )
