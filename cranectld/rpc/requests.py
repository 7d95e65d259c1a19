"""Requests of `crane.v1` as commands of the core; whatever is malformed is a BAD_REQUEST."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from crane.errors import EXIT_USAGE, CraneError, ErrorCode
from crane.jobspec import BATCH_STEP, ArraySpec, Component, Dependency, JobSpec
from crane.states import JobState
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from crane.wire import jobspec as wire
from cranectld.core.commands import JobChanges, NodeAction, Rejected, SelectedId, Selector

M = TypeVar("M", bound=Message)
A = TypeVar("A")
B = TypeVar("B")

MAX_SELECTED = 10_000
"""Ids, or values of one filter, in a selector."""
SELECTED = (
    "ids", "users", "names", "partitions", "accounts", "qos", "states", "nodes", "reservations",
    "wckeys", "licences",
)  # fmt: skip
"""Fields of a selector with several values."""
MAX_RANGES = 100_000
"""Ranges of array indices in one request."""
MAX_TASKS = 10_000_000
MAX_NODES = 1_000_000
MAX_CPUS_PER_TASK = 10**9
MAX_MEMORY = 2**40
MAX_COUNT = 10**9
MAX_SECONDS = 10**10
MAX_INSTANT = 2**62
MAX_TEXT = 64 << 10
MAX_TERMS = 10_000
MAX_KINDS = 1_000
"""Licences, or generic resources, of one job."""
MAX_NAME = 256
"""Bounds on single values: what is beyond is a slip, and would overflow the planner's columns."""

_SPEC_TEXTS = (
    "account", "qos", "reservation", "comment", "wckey", "work_dir", "stdin", "stdout", "stderr",
    "signal", "mail_type", "mail_user", "submit_host", "export", "switches", "extra",
    "submit_dir",
)  # fmt: skip


def bad(message: str, hint: str = "") -> CraneError:
    """The error of a request that makes no sense."""
    return CraneError(ErrorCode.BAD_REQUEST, message, hint)


def parse(kind: type[M], body: bytes) -> M:
    """The message in `body`. Raises BAD_REQUEST: not protobuf, or text that is not UTF-8."""
    try:
        return kind.FromString(body)
    except DecodeError:
        raise bad(
            f"the request is no {kind.DESCRIPTOR.name}",
            "use the same version of the commands and the daemons",
        ) from None


def error_of(rejected: Rejected) -> CraneError:
    """A refusal of the core as the error that travels."""
    known = rejected.code in ErrorCode.__members__
    code = ErrorCode[rejected.code] if known else ErrorCode.INTERNAL
    return CraneError(code, rejected.message, rejected.hint)


def travelling(error: CraneError) -> CraneError:
    """The error with a code that `crane.v1` has: others are bad requests, or our own trouble."""
    if f"ERROR_CODE_{error.code.name}" in types.ErrorCode.keys():  # noqa: SIM118 - no dict
        return error
    code = ErrorCode.BAD_REQUEST if error.exit_status == EXIT_USAGE else ErrorCode.INTERNAL
    return CraneError(code, error.message, error.hint)


def within(what: str, value: int, most: int, least: int = 0) -> int:
    """`value`. Raises BAD_REQUEST outside `least`..`most`."""
    if not least <= value <= most:
        raise bad(f"{what} {value} is out of range ({least} to {most})")
    return value


def spec_of(message: types.JobSpec) -> JobSpec:
    """A job's spec, every figure within its bounds. Raises BAD_REQUEST."""
    spec = _decoded(wire.spec_from_wire, message)
    for component in spec.components:
        _check_component(component)
    within("components", len(spec.components), 128)
    within("kinds of licences", len(spec.licences), MAX_KINDS)
    within("partitions", len(spec.partitions), 1000)
    within("time limit", spec.time_limit, MAX_SECONDS, -1)
    within("minimum time", spec.time_min, MAX_SECONDS)
    within("begin", spec.begin, MAX_INSTANT)
    within("deadline", spec.deadline, MAX_INSTANT)
    for name, count in spec.licences:
        within(f"licences of {name[:60]!r}", count, MAX_COUNT)
    for name, _ in spec.licences:
        text("licence", name, MAX_NAME)
    for name in spec.partitions:
        text("partition", name, MAX_NAME)
    for field in _SPEC_TEXTS:
        text(field, getattr(spec, field))
    return spec


def text(what: str, value: str, most: int = MAX_TEXT) -> None:
    """Raises BAD_REQUEST for a text that is too long, or that no program could be given."""
    within(f"length of {what}", len(value), most)
    if "\0" in value:
        raise bad(f"{what} contains a NUL character", "remove it")


def _check_component(component: Component) -> None:
    within("nodes", component.min_nodes, MAX_NODES)
    within("nodes", component.max_nodes, MAX_NODES)
    within("tasks", component.ntasks, MAX_TASKS)
    within("tasks per node", component.ntasks_per_node, MAX_TASKS)
    within("CPUs per task (thousandths)", component.cpus_per_task, MAX_CPUS_PER_TASK)
    within("memory per node", component.mem_per_node, MAX_MEMORY)
    within("memory per CPU", component.mem_per_cpu, MAX_MEMORY)
    within("kinds of generic resources", len(component.gres), MAX_KINDS)
    for gres in component.gres:
        text("resource", gres.name, MAX_NAME)
        text("type of resource", gres.type, MAX_NAME)
        within(f"count of {gres.name[:60]!r}", gres.count, MAX_COUNT, 1)
    within("length of features", len(component.features), MAX_TEXT)
    within("named nodes", len(component.nodelist) + len(component.exclude), MAX_NODES)


def dependency_of(message: types.Dependency) -> Dependency:
    """A dependency. Raises BAD_REQUEST."""
    within("terms of a dependency", len(message.terms), MAX_TERMS)
    dependency = _decoded(wire.dependency_from_wire, message)
    for term in dependency.terms:
        within("array index", term.task, 2**32, -1)
        within("delay", term.delay, MAX_SECONDS)
    return dependency


def array_of(message: types.ArraySpec) -> ArraySpec:
    """An array's indices: sorted and disjoint. Raises BAD_REQUEST."""
    array = wire.array_from_wire(message)
    if not array.ranges:
        raise bad("an array without indices")
    _check_ranges(array.ranges)
    return array


def _check_ranges(ranges: Sequence[tuple[int, int, int]]) -> None:
    within("ranges of array indices", len(ranges), MAX_RANGES)
    before = -1
    for first, last, step in ranges:
        if not before < first <= last or step < 1:
            raise bad(
                f"array range {first}-{last}:{step} is malformed or out of order",
                "ranges are sorted and disjoint",
            )
        before = last


def selector_of(message: pb.JobSelector) -> Selector:
    """Which jobs are meant. Raises BAD_REQUEST: unknown state, too many values."""
    for name in SELECTED:
        within(f"{name} in one selector", len(getattr(message, name)), MAX_SELECTED)
    within("ranges in one selector", sum(len(item.tasks) for item in message.ids), MAX_RANGES)
    return Selector(
        ids=tuple(_selected(item) for item in message.ids),
        users=tuple(message.users),
        names=tuple(message.names),
        partitions=tuple(message.partitions),
        accounts=tuple(message.accounts),
        qos=tuple(message.qos),
        states=tuple(state_of(number) for number in message.states),
        nodes=tuple(message.nodes),
        reservations=tuple(message.reservations),
        wckeys=tuple(message.wckeys),
        licences=tuple(message.licences),
        everything=message.all,
    )


def _selected(item: pb.JobSelector.Id) -> SelectedId:
    ranges = tuple((r.first, r.last, r.step or 1) for r in item.tasks)
    _check_ranges(ranges)
    step = item.step if item.HasField("step") else None
    if step is not None:
        within("step", step, 2**31 - 1, BATCH_STEP - 1)
    return SelectedId(item.job_id, ranges, step)


def state_of(number: int) -> JobState:
    """A job's state. Raises BAD_REQUEST."""
    try:
        return JobState(number)
    except ValueError:
        raise bad(f"job state {number} is not known here") from None


def changes_of(message: pb.ChangeJobsRequest.Update) -> JobChanges:
    """What `ccontrol update job` changes. Raises BAD_REQUEST."""
    found = {
        field.name: getattr(message, field.name)
        for field, _ in message.ListFields()
        if field.name != "dependency"
    }
    for field_name, value in found.items():
        if isinstance(value, str):
            text(field_name, value)
        elif field_name == "time_limit":
            within("time limit", value, MAX_SECONDS, -1)
        else:
            within(field_name, value, MAX_INSTANT, -MAX_COUNT)
    has_dependency = message.HasField("dependency")
    dependency = dependency_of(message.dependency) if has_dependency else None
    return JobChanges(**found, dependency=dependency)


_ACTIONS = {
    pb.ChangeNodesRequest.ACTION_DRAIN: NodeAction.DRAIN,
    pb.ChangeNodesRequest.ACTION_RESUME: NodeAction.RESUME,
    pb.ChangeNodesRequest.ACTION_DOWN: NodeAction.DOWN,
    pb.ChangeNodesRequest.ACTION_FAIL: NodeAction.FAIL,
    pb.ChangeNodesRequest.ACTION_ABSENT: NodeAction.ABSENT,
}


def action_of(number: pb.ChangeNodesRequest.Action.ValueType) -> str:
    """What to do with nodes. Raises BAD_REQUEST."""
    if number not in _ACTIONS:
        raise bad(f"node action {number} is not known here")
    return _ACTIONS[number]


def texts(what: str, values: Iterable[str], most: int = MAX_SELECTED) -> tuple[str, ...]:
    """A list of names. Raises BAD_REQUEST if there are too many."""
    found = tuple(values)
    within(what, len(found), most)
    return found


def _decoded(convert: Callable[[A], B], message: A) -> B:
    try:
        return convert(message)
    except CraneError as error:
        raise bad(error.message, error.hint) from None
