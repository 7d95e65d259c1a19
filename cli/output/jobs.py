"""Columns of the queue: what each letter of `cqueue -o` shows (squeue(1), --format)."""

from __future__ import annotations

from cli.output.times import elapsed, left, limit, when
from crane import hostlist
from crane.gres import format_gres
from crane.jobspec import Gres
from crane.memspec import format_cpus, format_mem
from crane.states import JobState, Reason
from crane.timespec import format_duration

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable

    from crane.client.model import JobInfo

DEFAULT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
LONG = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
START = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %39I %R"

_WAITING = (JobState.PENDING, JobState.REQUEUED)


def nodes(job: JobInfo) -> str:
    """The nodes it holds as a list in brackets."""
    return hostlist.compress(sorted(job.nodes, key=hostlist.sort_key))


def node_count(job: JobInfo) -> int:
    """How many nodes it holds, or will need at least."""
    if job.allocation:
        return len(job.allocation)
    part = job.spec.components[0]
    if part.min_nodes:
        return part.min_nodes
    if part.ntasks and part.ntasks_per_node:
        return -(-part.ntasks // part.ntasks_per_node)
    return 1


def task_count(job: JobInfo) -> int:
    """How many tasks it asks for."""
    part = job.spec.components[0]
    return part.ntasks or node_count(job) * max(part.ntasks_per_node, 1)


def cpus(job: JobInfo) -> int:
    """CPUs (thousandths) it holds, or asks for."""
    if job.allocation:
        return sum(share.cpus for share in job.allocation)
    return task_count(job) * job.spec.components[0].cpus_per_task


def memory(job: JobInfo) -> str:
    """Memory asked for, per node or per CPU (`2Gc`)."""
    part = job.spec.components[0]
    if part.mem_per_cpu:
        return format_mem(part.mem_per_cpu) + "c"
    return format_mem(part.mem_per_node)


def reason(job: JobInfo) -> str:
    """Slurm's word for why it waits or how it ended."""
    return job.reason.word


def nodes_or_reason(job: JobInfo) -> str:
    """Nodes of a job that has some, else the reason in parentheses."""
    if job.state in _WAITING or not job.allocation:
        return f"({reason(job)})" if job.reason is not Reason.NONE or not job.ended else ""
    return nodes(job)


def gres(job: JobInfo) -> str:
    """Generic resources per node."""
    found = format_gres(job.spec.components[0].gres)
    return ",".join(f"gres/{item}" for item in found.split(",")) if found else "N/A"


def held(job: JobInfo) -> tuple[Gres, ...]:
    """Device slots it holds on all nodes together."""
    total: dict[tuple[str, str], int] = {}
    for share in job.allocation:
        for slot in share.slots:
            key = (slot.name, slot.type)
            total[key] = total.get(key, 0) + len(slot.indices)
    return tuple(Gres(name, kind, count) for (name, kind), count in sorted(total.items()))


def _start(job: JobInfo) -> str:
    return when(job.start_time or job.planned_start)


def _start_between(job: JobInfo) -> str:
    if job.start_time or not job.planned_latest:
        return "N/A"
    return f"{when(job.planned_earliest)}/{when(job.planned_latest)}"


def _group(job: JobInfo) -> str:
    import grp

    try:
        return grp.getgrgid(job.gid).gr_name
    except KeyError:
        return str(job.gid)


def _dependency(job: JobInfo) -> str:
    from crane.dependency import format_dependency

    return format_dependency(job.dependency)


def _index(job: JobInfo) -> str:
    if job.array is not None and job.array_task < 0:
        from crane.arrayspec import format_array

        return format_array(job.array)
    return str(job.array_task) if job.array_task >= 0 else "N/A"


def _hosts(names: tuple[str, ...]) -> str:
    return hostlist.compress(sorted(names, key=hostlist.sort_key))


COLUMNS: dict[str, tuple[str, Callable[[JobInfo, int], str]]] = {
    "a": ("ACCOUNT", lambda job, _: job.spec.account or "(null)"),
    "A": ("JOBID", lambda job, _: str(job.job_id)),
    "b": ("TRES_PER_NODE", lambda job, _: gres(job)),
    "B": ("EXEC_HOST", lambda job, _: job.allocation[0].node if job.allocation else "n/a"),
    "c": ("MIN_CPUS", lambda job, _: format_cpus(job.spec.components[0].cpus_per_task)),
    "C": ("CPUS", lambda job, _: format_cpus(cpus(job))),
    "D": ("NODES", lambda job, _: str(node_count(job))),
    "e": ("END_TIME", lambda job, _: when(job.end_time)),
    "E": ("DEPENDENCY", lambda job, _: _dependency(job) or "(null)"),
    "f": ("FEATURES", lambda job, _: job.spec.components[0].features or "(null)"),
    "F": ("ARRAY_JOB_ID", lambda job, _: str(job.array_job_id or job.job_id)),
    "g": ("GROUP", lambda job, _: _group(job)),
    "G": ("GROUP", lambda job, _: str(job.gid)),
    "h": ("OVER_SUBSCRIBE", lambda job, _: "NO" if job.spec.components[0].exclusive else "OK"),
    "i": ("JOBID", lambda job, _: job.shown_id),
    "I": ("START_BETWEEN", lambda job, _: _start_between(job)),
    "j": ("NAME", lambda job, _: job.name),
    "k": ("COMMENT", lambda job, _: job.spec.comment or "(null)"),
    "K": ("ARRAY_TASK_ID", lambda job, _: _index(job)),
    "l": ("TIME_LIMIT", lambda job, _: limit(job.time_limit)),
    "L": ("TIME_LEFT", left),
    "m": ("MIN_MEMORY", lambda job, _: memory(job)),
    "M": ("TIME", lambda job, now: format_duration(elapsed(job, now))),
    "n": ("REQ_NODES", lambda job, _: _hosts(job.spec.components[0].nodelist)),
    "N": ("NODELIST", lambda job, _: nodes(job)),
    "o": ("COMMAND", lambda job, _: " ".join((job.command or "(null)", *job.args))),
    "p": ("PRIORITY", lambda job, _: f"{min(max(job.priority, 0) / (1 << 32), 1):.14f}"),
    "P": ("PARTITION", lambda job, _: job.partition or ",".join(job.spec.partitions)),
    "q": ("QOS", lambda job, _: job.spec.qos or "(null)"),
    "Q": ("PRIORITY", lambda job, _: str(job.priority)),
    "r": ("REASON", lambda job, _: reason(job)),
    "R": ("NODELIST(REASON)", lambda job, _: nodes_or_reason(job)),
    "S": ("START_TIME", lambda job, _: _start(job)),
    "t": ("ST", lambda job, _: job.state.code),
    "T": ("STATE", lambda job, _: job.state.name),
    "u": ("USER", lambda job, _: job.user),
    "U": ("USER", lambda job, _: str(job.uid)),
    "v": ("RESERVATION", lambda job, _: job.spec.reservation or "(null)"),
    "V": ("SUBMIT_TIME", lambda job, _: when(job.submit_time)),
    "w": ("WCKEY", lambda job, _: job.spec.wckey or "(null)"),
    "W": ("LICENSES", lambda job, _: ",".join(f"{n}:{c}" for n, c in job.spec.licences) or "(null)"),
    "x": ("EXC_NODES", lambda job, _: _hosts(job.spec.components[0].exclude)),
    "y": ("NICE", lambda job, _: str(job.spec.nice)),
    "Y": ("SCHEDNODES", lambda *_: "(null)"),
    "Z": ("WORK_DIR", lambda job, _: job.spec.work_dir),
}  # fmt: skip
"""Letter: heading, and the text for a job at an instant (ns)."""

TITLES = {letter: title for letter, (title, _) in COLUMNS.items()}


def cells(job: JobInfo, now: int) -> Callable[[str], str]:
    """Text of each letter for one job."""
    return lambda letter: COLUMNS[letter][1](job, now)


SORT_KEYS: dict[str, Callable[[JobInfo], object]] = {
    "i": lambda job: (job.array_job_id or job.job_id, job.array_task, job.job_id),
    "A": lambda job: job.job_id,
    "j": lambda job: job.name,
    "u": lambda job: job.user,
    "P": lambda job: job.partition,
    "t": lambda job: job.state,
    "T": lambda job: job.state,
    "p": lambda job: job.priority,
    "Q": lambda job: job.priority,
    "S": lambda job: job.start_time or job.planned_start or 1 << 63,
    "V": lambda job: job.submit_time,
    "e": lambda job: job.end_time,
    "l": lambda job: job.time_limit if job.time_limit >= 0 else 1 << 62,
    "D": node_count,
    "C": cpus,
    "N": nodes,
    "a": lambda job: job.spec.account,
    "q": lambda job: job.spec.qos,
    "M": lambda job: -job.start_time,
}
"""Letters one can sort by, with the key."""
