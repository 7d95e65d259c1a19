"""From the vocabulary to messages; `pb` is the module that has them.

That is `crane.wire.light` for one job, or the generated modules where many jobs are submitted: both
take the same keywords.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from crane.jobspec import ArraySpec, Component, Dependency, JobSpec

_SAME = (
    "account", "qos", "reservation", "comment", "wckey", "time_limit", "time_min", "begin",
    "deadline", "nice", "hold", "work_dir", "stdin", "stdout", "stderr", "signal", "mail_type",
    "mail_user", "submit_host", "export", "switches", "extra", "submit_dir",
)  # fmt: skip
_COMPONENT = (
    "min_nodes", "max_nodes", "ntasks", "ntasks_per_node", "cpus_per_task", "mem_per_node",
    "mem_per_cpu", "exclusive", "features", "cpus_given",
)  # fmt: skip


def spec(pb: Any, value: JobSpec) -> Any:
    """What jobs of one kind share."""
    return pb.JobSpec(
        components=[component(pb, part) for part in value.components],
        partitions=list(value.partitions),
        licences=[pb.Licence(name=name, count=count) for name, count in value.licences],
        open_mode=int(value.open_mode),
        priority=value.priority if value.priority >= 0 else None,
        requeue=value.requeue,
        umask=value.umask,
        **{name: getattr(value, name) for name in _SAME},
    )


def component(pb: Any, value: Component) -> Any:
    """Resources of one component."""
    return pb.Component(
        gres=[pb.Gres(name=item.name, type=item.type, count=item.count) for item in value.gres],
        nodelist=list(value.nodelist),
        exclude=list(value.exclude),
        **{name: getattr(value, name) for name in _COMPONENT},
    )


def array(pb: Any, value: ArraySpec | None) -> Any:
    """Indices of an array; None stays None."""
    if value is None:
        return None
    return pb.ArraySpec(ranges=ranges(pb, value.ranges), limit=value.limit)


def ranges(pb: Any, values: tuple[tuple[int, int, int], ...]) -> list[Any]:
    """Ranges of indices."""
    made = pb.ArraySpec.Range
    return [made(first=first, last=last, step=step) for first, last, step in values]


def dependency(pb: Any, value: Dependency | None) -> Any:
    """Conditions on other jobs; None stays None."""
    if value is None:
        return None
    term = pb.Dependency.Term
    terms = [
        term(kind=int(t.kind), job_id=t.job_id, task=t.task, delay=t.delay) for t in value.terms
    ]
    return pb.Dependency(terms=terms, any_of=value.any_of)
