"""From messages to the client's values; of `crane.wire.light` or of the generated modules alike.

A number a newer daemon knows and we do not (a state, a reason) reads as the nearest thing we have:
UNKNOWN, NONE, PENDING; a query should not fail because of it.
"""

from __future__ import annotations

from _operator import attrgetter, itemgetter  # without the underscore: a file more to read

from crane.client import model
from crane.client.transport import error_of
from crane.jobspec import (
    UNLIMITED,
    ArraySpec,
    Component,
    Dependency,
    DependencyKind,
    DependencyTerm,
    Gres,
    JobSpec,
    OpenMode,
)
from crane.states import JobState, NodeState, Reason, StepState

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from enum import IntEnum
    from typing import Any, TypeVar

    from crane.wire import light

    E = TypeVar("E", bound=IntEnum)

_SPEC = (
    "account", "qos", "reservation", "comment", "wckey", "time_limit", "time_min", "begin",
    "deadline", "nice", "hold", "work_dir", "stdin", "stdout", "stderr", "signal", "mail_type",
    "mail_user", "submit_host", "export", "switches", "extra", "submit_dir",
)  # fmt: skip
_COMPONENT = (
    "min_nodes", "max_nodes", "ntasks", "ntasks_per_node", "cpus_per_task", "mem_per_node",
    "mem_per_cpu", "exclusive", "features", "cpus_given",
)  # fmt: skip
_JOB = (
    "job_id", "array_job_id", "array_task", "name", "user", "uid", "gid", "reason_text", "priority",
    "submit_time", "eligible_time", "start_time", "end_time", "planned_start",
    "planned_earliest", "planned_latest", "exit_code", "signal", "attempt", "restarts", "command", "cpu_us", "memory_peak", "cancelled_by",
    "partition", "stdout", "stderr",
)  # fmt: skip
_STEP = (
    "step", "name", "start_time", "end_time", "exit_code", "signal", "ntasks", "cpu_us",
    "memory_peak",
)  # fmt: skip
_NODE = (
    "name", "address", "drain", "shown_state", "reason", "reason_by", "reason_time", "cpus",
    "cpus_alloc", "memory", "memory_alloc", "weight", "version", "boot_time", "registered_time",
    "last_contact", "cgroup", "os", "connected",
)  # fmt: skip
_PARTITION = ("name", "default", "up", "max_time", "default_time", "max_nodes", "priority", "cpus")
_EXPLANATION = (
    "nodes_matching", "nodes_usable", "nodes_fitting_now", "nodes_wanted", "short_of",
    "jobs_ahead", "planned_start", "planned_earliest", "planned_latest", "pass_time", "text",
    "sooner_known", "promised_start", "moved_cause",
)  # fmt: skip
_STATUS = (
    "cluster", "version", "epoch", "seq", "durable_seq", "start_time", "pid", "planner_ready",
    "config_file", "nodes_connected",
)  # fmt: skip


def _pick(message: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(message, name) for name in names}


_job_fields = attrgetter(*_JOB)
_MADE = (
    "state", "reason", "spec", "array", "allocation", "steps", "args", "dependency", "time_limit",
    "task_states",
)  # fmt: skip
_in_order = itemgetter(*map((*_JOB, *_MADE).index, model.JobInfo.__match_args__))
"""Values of _JOB and _MADE as JobInfo's arguments: giving forty by name costs more than the rest."""
_states = {int(member): member for member in JobState}
_reasons = {int(member): member for member in Reason}


def _member(kind: type[E], number: int, other: E) -> E:
    try:
        return kind(number)
    except ValueError:
        return other


def state(number: int) -> JobState:
    """A job's state."""
    return _states.get(number, JobState.PENDING)


def reason(number: int) -> Reason:
    """A reason."""
    return _reasons.get(number, Reason.NONE)


def node_state(number: int) -> NodeState:
    """A node's state."""
    return _member(NodeState, number, NodeState.UNKNOWN)


def gres(messages: Any) -> tuple[Gres, ...]:
    """Generic resources."""
    return tuple(Gres(item.name, item.type, item.count) for item in messages)


def array(message: Any) -> ArraySpec:
    """Indices of an array."""
    return ArraySpec(tuple((r.first, r.last, r.step) for r in message.ranges), message.limit)


def dependency(message: Any) -> Dependency:
    """Conditions on other jobs."""
    terms = tuple(
        DependencyTerm(
            _member(DependencyKind, t.kind, DependencyKind.AFTER), t.job_id, t.task, t.delay
        )
        for t in message.terms
    )
    return Dependency(terms, message.any_of)


def component(message: Any) -> Component:
    """Resources of one component."""
    return Component(
        gres=gres(message.gres),
        nodelist=tuple(message.nodelist),
        exclude=tuple(message.exclude),
        **_pick(message, _COMPONENT),
    )


def spec(message: Any) -> JobSpec:
    """What jobs of one kind share."""
    return JobSpec(
        components=tuple(component(part) for part in message.components) or (Component(),),
        partitions=tuple(message.partitions),
        licences=tuple((item.name, item.count) for item in message.licences),
        priority=message.priority if message.HasField("priority") else -1,
        requeue=message.requeue if message.HasField("requeue") else None,
        umask=message.umask if message.HasField("umask") else None,
        open_mode=_member(OpenMode, message.open_mode, OpenMode.TRUNCATE),
        **_pick(message, _SPEC),
    )


def _share(message: Any) -> model.ShareInfo:
    slots = tuple(model.SlotInfo(s.name, s.type, tuple(s.indices)) for s in message.slots)
    return model.ShareInfo(message.node, message.cpus, message.memory, slots, message.tasks)


def _step(message: Any) -> model.StepInfo:
    return model.StepInfo(
        state=_member(StepState, message.state, StepState.STARTING),
        nodes=tuple(message.nodes),
        **_pick(message, _STEP),
    )


def jobs(messages: Sequence[light.Message]) -> list[model.JobInfo]:
    """The jobs of one answer: parts that are one object there, many jobs share here too."""
    known: dict[int, Any] = {}
    return [
        job(
            message,
            _once(known, spec, message.spec),
            tuple([_once(known, _share, share) for share in message.allocation]),
        )
        for message in messages
    ]


def _once(known: dict[int, Any], made: Callable[[Any], Any], part: light.Message) -> Any:
    """What `part` becomes; `known` by the identity of parts, all of which live meanwhile."""
    found = known.get(id(part))
    if found is None:
        found = known[id(part)] = made(part)
    return found


def job(
    message: Any, described: JobSpec | None = None, held: tuple[model.ShareInfo, ...] | None = None
) -> model.JobInfo:
    """A job; its description and what it holds may have been decoded already."""
    values = (
        *_job_fields(message),
        state(message.state),
        reason(message.reason),
        spec(message.spec) if described is None else described,
        array(message.array) if message.HasField("array") else None,
        tuple(map(_share, message.allocation)) if held is None else held,
        tuple(map(_step, message.steps)) if message.steps else (),
        tuple(message.args),
        dependency(message.dependency) if message.HasField("dependency") else None,
        message.time_limit or UNLIMITED,
        {state(key): count for key, count in sorted(message.task_states.items())},
    )
    return model.JobInfo(*_in_order(values))


def node(message: Any) -> model.NodeInfo:
    """A node."""
    return model.NodeInfo(
        state=node_state(message.state),
        gres=gres(message.gres),
        gres_alloc=gres(message.gres_alloc),
        features=tuple(message.features),
        partitions=tuple(message.partitions),
        jobs=tuple(message.jobs),
        **_pick(message, _NODE),
    )


def partition(message: Any) -> model.PartitionInfo:
    """A partition."""
    return model.PartitionInfo(
        nodes=tuple(message.nodes),
        allow_accounts=tuple(message.allow_accounts),
        **_pick(message, _PARTITION),
    )


def explanation(message: Any) -> model.Explanation:
    """Why a job waits."""
    return model.Explanation(
        job=job(message.job),
        reason=reason(message.reason),
        gates=tuple(model.Gate(gate.name, gate.open, gate.text) for gate in message.gates),
        priority_terms=tuple((term.name, term.value) for term in message.priority_terms),
        remedies=tuple(
            model.Remedy(found.time_limit, found.nodes, found.partition, found.start)
            for found in message.remedies
        ),
        **_pick(message, _EXPLANATION),
    )


def changes(message: Any) -> tuple[model.Change, ...]:
    """What became of each thing that was to be changed."""
    return tuple(model.Change(item.subject, error_of(item.error)) for item in message.results)


def event(message: Any) -> model.Event | None:
    """One event; None for a kind this version does not know."""
    if message.HasField("job"):
        what = message.job
        return model.JobEvent(
            message.seq, message.time, what.job_id, state(what.state), what.array_job_id,
            what.array_task, reason(what.reason), what.exit_code, what.signal, what.attempt,
            max(what.count, 1),
        )  # fmt: skip
    if message.HasField("node"):
        what = message.node
        changed = node_state(what.state)
        return model.NodeEvent(
            message.seq, message.time, what.node, changed, what.drain, what.reason
        )
    return None


def status(message: Any) -> model.Status:
    """The controller's own state."""
    return model.Status(
        figures=dict(sorted(message.figures.items())),
        jobs={state(key): count for key, count in sorted(message.jobs.items())},
        config=dict(sorted(message.config.items())),
        **_pick(message, _STATUS),
    )
