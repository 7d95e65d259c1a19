"""The description of a job as messages: JobSpec, Submission and their parts, NodeShare.

Each `x_to_wire` has its `x_from_wire`; the second takes what a stranger sent and raises CraneError
(BAD_VALUE) where a value of ours cannot stand for it. Whether a request makes sense is not asked here.
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode
from crane.jobspec import (
    NO_BLOB,
    ArraySpec,
    BlobRef,
    Component,
    Dependency,
    DependencyKind,
    DependencyTerm,
    Gres,
    JobSpec,
    OpenMode,
    Submission,
)
from crane.session import NodeShare, SlotShare
from crane.v1 import agent_pb2, control_pb2
from crane.v1 import types_pb2 as pb


def gres_to_wire(gres: Gres) -> pb.Gres:
    """One generic resource."""
    return pb.Gres(name=gres.name, type=gres.type, count=gres.count)


def gres_from_wire(message: pb.Gres) -> Gres:
    """One generic resource."""
    return Gres(message.name, message.type, message.count)


def array_to_wire(array: ArraySpec) -> pb.ArraySpec:
    """Ranges and limit."""
    message = pb.ArraySpec(limit=array.limit)
    for first, last, step in array.ranges:
        message.ranges.add(first=first, last=last, step=step)
    return message


def array_from_wire(message: pb.ArraySpec) -> ArraySpec:
    """Ranges and limit, as sent: sorted and disjoint is for the receiver to check."""
    return ArraySpec(tuple((r.first, r.last, r.step) for r in message.ranges), message.limit)


def dependency_to_wire(dependency: Dependency) -> pb.Dependency:
    """Terms, and how they are joined."""
    message = pb.Dependency(any_of=dependency.any_of)
    for term in dependency.terms:
        message.terms.add(
            kind=_DEPENDENCY_KINDS[term.kind], job_id=term.job_id, task=term.task, delay=term.delay
        )
    return message


def dependency_from_wire(message: pb.Dependency) -> Dependency:
    """Terms, and how they are joined. Raises BAD_VALUE for a kind this version does not know."""
    terms = tuple(
        DependencyTerm(_dependency_kind(t.kind), t.job_id, t.task, t.delay) for t in message.terms
    )
    return Dependency(terms, message.any_of)


def component_to_wire(component: Component) -> pb.Component:
    """Resources of one component."""
    return pb.Component(
        min_nodes=component.min_nodes,
        max_nodes=component.max_nodes,
        ntasks=component.ntasks,
        ntasks_per_node=component.ntasks_per_node,
        cpus_per_task=component.cpus_per_task,
        cpus_given=component.cpus_given,
        mem_per_node=component.mem_per_node,
        mem_per_cpu=component.mem_per_cpu,
        gres=[gres_to_wire(gres) for gres in component.gres],
        exclusive=component.exclusive,
        features=component.features,
        nodelist=component.nodelist,
        exclude=component.exclude,
    )


def component_from_wire(message: pb.Component) -> Component:
    """Resources of one component."""
    return Component(
        min_nodes=message.min_nodes,
        max_nodes=message.max_nodes,
        ntasks=message.ntasks,
        ntasks_per_node=message.ntasks_per_node,
        cpus_per_task=message.cpus_per_task,
        cpus_given=message.cpus_given,
        mem_per_node=message.mem_per_node,
        mem_per_cpu=message.mem_per_cpu,
        gres=tuple(gres_from_wire(gres) for gres in message.gres),
        exclusive=message.exclusive,
        features=message.features,
        nodelist=tuple(message.nodelist),
        exclude=tuple(message.exclude),
    )


_SAME = (
    "account", "qos", "reservation", "comment", "wckey", "time_limit", "time_min", "begin",
    "deadline", "nice", "hold", "work_dir", "stdin", "stdout", "stderr", "signal", "mail_type",
    "mail_user", "submit_host", "export", "switches", "extra", "submit_dir",
)  # fmt: skip
"""Fields of JobSpec that have the same name and form in the message."""

_OPEN_MODES = {
    OpenMode.TRUNCATE: pb.OPEN_MODE_TRUNCATE,
    OpenMode.APPEND: pb.OPEN_MODE_APPEND,
}
_DEPENDENCY_KINDS = {
    DependencyKind.AFTER: pb.DEPENDENCY_KIND_AFTER,
    DependencyKind.AFTER_ANY: pb.DEPENDENCY_KIND_AFTER_ANY,
    DependencyKind.AFTER_OK: pb.DEPENDENCY_KIND_AFTER_OK,
    DependencyKind.AFTER_NOT_OK: pb.DEPENDENCY_KIND_AFTER_NOT_OK,
    DependencyKind.AFTER_CORR: pb.DEPENDENCY_KIND_AFTER_CORR,
    DependencyKind.SINGLETON: pb.DEPENDENCY_KIND_SINGLETON,
}


def spec_to_wire(spec: JobSpec) -> pb.JobSpec:
    """Everything jobs of one kind share."""
    message = pb.JobSpec(
        components=[component_to_wire(component) for component in spec.components],
        partitions=spec.partitions,
        open_mode=open_mode_to_wire(spec.open_mode),
        **{name: getattr(spec, name) for name in _SAME},
    )
    for name, count in spec.licences:
        message.licences.add(name=name, count=count)
    if spec.priority >= 0:
        message.priority = spec.priority
    if spec.requeue is not None:
        message.requeue = spec.requeue
    if spec.umask is not None:
        message.umask = spec.umask
    return message


def spec_from_wire(message: pb.JobSpec) -> JobSpec:
    """Everything jobs of one kind share. Raises BAD_VALUE for an open mode that is none."""
    return JobSpec(
        components=tuple(component_from_wire(c) for c in message.components) or (Component(),),
        partitions=tuple(message.partitions),
        licences=tuple((licence.name, licence.count) for licence in message.licences),
        priority=message.priority if message.HasField("priority") else -1,
        requeue=message.requeue if message.HasField("requeue") else None,
        umask=umask_from_wire(message),
        open_mode=open_mode_from_wire(message.open_mode),
        **{name: getattr(message, name) for name in _SAME},
    )


def umask_from_wire(message: pb.JobSpec | agent_pb2.LaunchStep) -> int | None:
    """The submitter's umask; bits beyond the permissions count for nothing (umask(2))."""
    return message.umask & 0o777 if message.HasField("umask") else None


def open_mode_to_wire(mode: OpenMode) -> pb.OpenMode.ValueType:
    """How output files are opened."""
    return _OPEN_MODES[mode]


def open_mode_from_wire(number: int) -> OpenMode:
    """How output files are opened; not said: truncated. Raises BAD_VALUE."""
    if number == pb.OPEN_MODE_UNSPECIFIED:
        return OpenMode.TRUNCATE
    try:
        return OpenMode(number)
    except ValueError:
        raise _unknown("open mode", number) from None


def _dependency_kind(number: int) -> DependencyKind:
    try:
        return DependencyKind(number)
    except ValueError:
        raise _unknown("kind of dependency", number) from None


def _unknown(what: str, number: int) -> CraneError:
    return CraneError(
        ErrorCode.BAD_VALUE,
        f"{what} {number} is not known here",
        "use the same version of the commands and the daemons",
    )


def submission_to_wire(
    submission: Submission, spec: int, script: int = 0, environment: int = 0
) -> control_pb2.SubmitJobsRequest.Submission:
    """One job of a batch; `spec` indexes the batch's specs, the blobs are 1 + index (0: none)."""
    message = control_pb2.SubmitJobsRequest.Submission(
        spec=spec,
        name=submission.name,
        script=script,
        environment=environment,
        args=submission.args,
        command=submission.command,
    )
    if submission.dependency is not None:
        message.dependency.CopyFrom(dependency_to_wire(submission.dependency))
    if submission.array is not None:
        message.array.CopyFrom(array_to_wire(submission.array))
    return message


def submission_from_wire(
    message: control_pb2.SubmitJobsRequest.Submission,
    spec: JobSpec,
    script: BlobRef = NO_BLOB,
    environment: BlobRef = NO_BLOB,
) -> Submission:
    """One job of a batch with the spec and blobs its indices stand for. Raises BAD_VALUE."""
    return Submission(
        spec=spec,
        name=message.name,
        script=script,
        environment=environment,
        args=tuple(message.args),
        dependency=(
            dependency_from_wire(message.dependency) if message.HasField("dependency") else None
        ),
        array=array_from_wire(message.array) if message.HasField("array") else None,
        command=message.command,
    )


def share_to_wire(share: NodeShare) -> control_pb2.NodeShare:
    """What a job holds on one node."""
    message = control_pb2.NodeShare(
        node=share.node, cpus=share.cpus, memory=share.memory, tasks=share.tasks
    )
    for slots in share.slots:
        message.slots.add(name=slots.name, type=slots.type, indices=slots.indices)
    return message


def share_from_wire(message: control_pb2.NodeShare) -> NodeShare:
    """What a job holds on one node."""
    slots = (
        tuple(SlotShare(s.name, s.type, tuple(s.indices)) for s in message.slots)
        if message.slots
        else ()
    )
    return NodeShare(message.node, message.cpus, message.memory, slots, message.tasks)
