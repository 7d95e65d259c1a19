"""Checking a request and filling in what the configuration decides: partitions, limits, memory."""

from __future__ import annotations

from crane import features
from crane.config.model import PartitionConfig
from crane.errors import CraneError, did_you_mean
from crane.jobspec import UNLIMITED, Component, JobSpec
from crane.record import replace
from cranectld.core.commands import Refusal, Rejected
from cranectld.core.decide.rights import is_operator, not_permitted
from cranectld.core.due import NS, latest_start
from cranectld.core.feasible import shortfall
from cranectld.core.identity import Principal
from cranectld.core.state import State

BASE_PRIORITY = 100_000
"""Priority of a job to which nothing is added: nice values then stay visible."""
AGE_ORIGIN = 1_577_836_800
"""2020-01-01 (s since the epoch), from which age points count."""
MAX_TEXT = 4_096
MAX_EXTRA = 65_536
MAX_COUNT = 1 << 20
MAX_KINDS = 64
"""Generic resources, or licences, that one job may ask for."""
MAX_AMOUNT = 1 << 40
MAX_NICE = 1 << 31
MAX_LIMIT = 100 * 366 * 86_400


def resolve(state: State, spec: JobSpec, principal: Principal, now: int) -> JobSpec:
    """The spec with partition, time limit and memory filled in. Raises Rejected."""
    _check_form(spec)
    if not is_operator(state, principal):
        if spec.priority >= 0:
            raise not_permitted(principal, "set a job's priority")
        if spec.nice < 0:
            raise not_permitted(principal, "ask for a negative nice value")
    part = spec.components[0]
    _check_nodes(state, part)
    _check_features(state, part.features)
    part = _counted(part)
    partitions = _partitions(state, spec)
    limit = spec.time_limit or partitions[0].default_time or partitions[0].max_time
    partitions = _within_time(partitions, limit)
    if part.mem_per_node == 0 and part.mem_per_cpu == 0 and partitions[0].default_mem_per_cpu:
        part = replace(part, mem_per_cpu=partitions[0].default_mem_per_cpu)
    names = tuple(partition.name for partition in partitions)
    resolved = spec
    if (names, limit, part) != (spec.partitions, spec.time_limit, spec.components[0]):
        resolved = replace(spec, partitions=names, time_limit=limit, components=(part,))
    _check_deadline(resolved, now)
    reason = shortfall(state, resolved)
    if reason:
        raise Rejected(
            Refusal.UNSATISFIABLE,
            f"no nodes could ever run this job: {reason}",
            "ask for less, or for another partition (cinfo shows what there is)",
        )
    return resolved


def priority_of(state: State, spec: JobSpec, submit_time: int) -> int:
    """Priority of a resolved job: an operator's, or computed; higher goes first.

    Every job ages by the same points per day, so their order never changes: earlier jobs get their
    lead as a constant, counted from AGE_ORIGIN, and nothing needs to be recomputed.
    """
    if spec.priority >= 0:
        return spec.priority
    scheduler = state.config.scheduler
    value = BASE_PRIORITY - spec.nice
    if scheduler.weight_partition:
        value += scheduler.weight_partition * state.partitions[spec.partitions[0]].priority
    if scheduler.weight_age:
        value -= scheduler.weight_age * (submit_time // NS - AGE_ORIGIN) // 86_400
    return value


def bad(message: str, hint: str = "") -> Rejected:
    """The refusal of a malformed request."""
    return Rejected(Refusal.BAD_REQUEST, message, hint)


def _check_form(spec: JobSpec) -> None:
    """What no configuration could make right."""
    if len(spec.components) != 1:
        raise bad(
            f"a job of {len(spec.components)} components was asked for, one is supported",
            "submit the components as jobs of their own",
        )
    part = spec.components[0]
    counts = (part.min_nodes, part.max_nodes, part.ntasks, part.ntasks_per_node)
    if any(not 0 <= count <= MAX_COUNT for count in counts):
        raise bad(f"numbers of nodes and tasks must be 0 to {MAX_COUNT}, not {counts}")
    if part.max_nodes and part.min_nodes > part.max_nodes:
        raise bad(f"at least {part.min_nodes} and at most {part.max_nodes} nodes: no such number")
    if not 0 < part.cpus_per_task <= MAX_AMOUNT:
        raise bad(f"a task needs more than 0 CPUs, not {part.cpus_per_task}/1000")
    if not (0 <= part.mem_per_node <= MAX_AMOUNT and 0 <= part.mem_per_cpu <= MAX_AMOUNT):
        raise bad("memory must not be negative")
    if part.mem_per_cpu * part.cpus_per_task // 1000 > MAX_AMOUNT:
        raise bad("memory per CPU and CPUs per task make more than any node could have")
    if part.mem_per_node and part.mem_per_cpu:
        raise bad("memory is given per node and per CPU", "give one of them")
    if len(part.gres) > MAX_KINDS or len(spec.licences) > MAX_KINDS:
        raise bad(f"more than {MAX_KINDS} kinds of resources or licences")
    for gres in part.gres:
        if not gres.name or not 0 < gres.count <= MAX_COUNT:
            raise bad(f"{gres.count} of {gres.name or 'an unnamed resource'} cannot be asked for")
    limits = (spec.time_limit, spec.time_min)
    if spec.time_limit < UNLIMITED or spec.time_min < 0 or max(limits) > MAX_LIMIT:
        raise Rejected(Refusal.BAD_TIME, f"time limits {limits} are out of range")
    if spec.time_limit > 0 and spec.time_min > spec.time_limit:
        raise Rejected(Refusal.BAD_TIME, "the least time is longer than the time limit")
    if not -MAX_NICE <= spec.nice <= MAX_NICE or not -1 <= spec.priority <= MAX_AMOUNT:
        raise bad("nice or priority is out of range")
    if min(spec.begin, spec.deadline) < 0:
        raise Rejected(Refusal.BAD_TIME, "begin and deadline must be instants")
    _check_texts(spec)


_TEXTS = [
    "account",
    "qos",
    "reservation",
    "comment",
    "wckey",
    "work_dir",
    "stdin",
    "stdout",
    "stderr",
    "signal",
    "mail_type",
    "mail_user",
    "submit_host",
    "export",
    "switches",
]


def _check_texts(spec: JobSpec) -> None:
    for field in _TEXTS:
        if len(getattr(spec, field)) > MAX_TEXT:
            raise Rejected(Refusal.LIMIT_EXCEEDED, f"{field} is longer than {MAX_TEXT} characters")
    if len(spec.extra) > MAX_EXTRA:
        raise Rejected(Refusal.LIMIT_EXCEEDED, f"extra is longer than {MAX_EXTRA} characters")


def _check_nodes(state: State, part: Component) -> None:
    named = (*part.nodelist, *part.exclude)
    if len(named) > len(state.nodes) and len(dict.fromkeys(named)) < len(named):
        raise bad("nodes are named more than once", "name each node once")
    for name in named:
        if name not in state.nodes:
            raise Rejected(
                Refusal.UNKNOWN_NODE,
                f"there is no node {name}",
                did_you_mean(name, state.nodes) or "cinfo -N lists the nodes",
            )


def _check_features(state: State, expression: str) -> None:
    if not expression:
        return
    try:
        wanted = features.parse(expression)
    except CraneError as error:
        raise bad(error.message, error.hint) from None
    known = {name: None for kind in state.classes for name in kind.features}
    ways = [names for choice in wanted.choices() for names in choice]
    missing = [name for names in ways for name in names if name not in known]
    counted = [name for name, _ in wanted.counts if name not in known]
    if counted:
        missing, ways = counted, []
    if missing and all(any(name in missing for name in names) for names in ways):
        raise Rejected(
            Refusal.UNSATISFIABLE,
            f"no node has the feature {missing[0]}",
            did_you_mean(missing[0], known) or "cinfo -o '%N %f' shows the features of nodes",
        )


def _counted(part: Component) -> Component:
    """A component whose counts of features say how many nodes it has. Raises BAD_REQUEST."""
    wanted = features.parse(part.features)
    if not wanted.counts:
        return part
    nodes = max(part.min_nodes, wanted.counted())
    if (part.max_nodes and part.max_nodes != nodes) or 0 < part.min_nodes < wanted.counted():
        raise bad(
            f"the counts of {part.features} need {wanted.counted()} nodes or more, and how many is "
            "to be certain",
            f"use --nodes={nodes}",
        )
    if part.ntasks not in (0, nodes * (part.ntasks_per_node or 1)):
        raise bad(
            f"{part.ntasks} tasks on {nodes} nodes: with counts of features all have as many",
            "use --ntasks-per-node instead of --ntasks",
        )
    if part.nodelist:
        raise bad("a node list and counts of features", "use one of them")
    return replace(part, min_nodes=nodes, max_nodes=nodes)


def _partitions(state: State, spec: JobSpec) -> list[PartitionConfig]:
    """The partitions asked for, or the default one."""
    names = spec.partitions or (state.default_partition,)
    if names == ("",):
        raise Rejected(
            Refusal.UNKNOWN_PARTITION,
            "no partition was given, and there is no default one",
            "name one with --partition; cinfo lists them",
        )
    found = []
    for name in dict.fromkeys(names):
        partition = state.partitions.get(name)
        if partition is None:
            raise Rejected(
                Refusal.UNKNOWN_PARTITION,
                f"there is no partition {name}",
                did_you_mean(name, state.partitions) or "cinfo lists the partitions",
            )
        allowed = partition.allow_accounts
        if allowed and spec.account not in allowed:
            raise Rejected(
                Refusal.NOT_PERMITTED,
                f"partition {name} does not admit account {spec.account or '(none)'}",
                f"it admits {', '.join(allowed[:8])}",
            )
        found.append(partition)
    return found


def _within_time(partitions: list[PartitionConfig], limit: int) -> list[PartitionConfig]:
    """Those of the partitions that admit the time limit (s, or UNLIMITED)."""
    found = [
        partition
        for partition in partitions
        if partition.max_time == UNLIMITED or 0 < limit <= partition.max_time
    ]
    if not found:
        asked = "no time limit" if limit == UNLIMITED else f"{limit} s"
        longest = max(partition.max_time for partition in partitions)
        raise Rejected(
            Refusal.UNSATISFIABLE,
            f"the job asks for {asked}; partition {partitions[0].name} allows at most {longest} s",
            "give a shorter --time, or another partition",
        )
    return found


def _check_deadline(spec: JobSpec, now: int) -> None:
    if spec.deadline and latest_start(spec) < max(now, spec.begin):
        raise Rejected(
            Refusal.BAD_TIME,
            "the job cannot end before its deadline, even if it started at once",
            "give a later --deadline or a shorter --time",
        )
