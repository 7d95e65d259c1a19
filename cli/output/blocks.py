"""`Key=value` blocks of `ccontrol show`, in the keys of scontrol(1): one line, or indented lines."""

from __future__ import annotations

from cli.output import jobs, nodes
from cli.output.times import elapsed, limit, when
from crane import hostlist
from crane.gres import format_gres
from crane.jobspec import BATCH_STEP, UNLIMITED
from crane.memspec import format_cpus, format_mem
from crane.selector import format_step
from crane.states import JobState
from crane.timespec import format_duration

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crane.client.model import JobInfo, NodeInfo, PartitionInfo, StepInfo

Block = list[list[tuple[str, str]]]
"""Lines of key and value."""


def text(block: Block, *, one_line: bool) -> str:
    """The block as text; values with blanks stay as they are, as scontrol prints them."""
    lines = [" ".join(f"{key}={value}" for key, value in line) for line in block if line]
    return " ".join(lines) if one_line else "\n   ".join(lines) + "\n"


def _null(value: str) -> str:
    return value or "(null)"


def _hosts(names: tuple[str, ...]) -> str:
    return hostlist.compress(sorted(names, key=hostlist.sort_key))


def job(row: JobInfo, now: int) -> Block:
    """A job."""
    spec, part = row.spec, row.spec.components[0]
    array = []
    if row.array_job_id:
        array = [
            ("ArrayJobId", str(row.array_job_id)),
            ("ArrayTaskId", jobs.COLUMNS["K"][1](row, now)),
        ]
        if row.array is not None and row.array.limit:
            array.append(("ArrayTaskThrottle", str(row.array.limit)))
    reason = row.reason.word + (f" ({row.reason_text})" if row.reason_text else "")
    memory = "MinMemoryCPU" if part.mem_per_cpu else "MinMemoryNode"
    ended_well = row.ended and row.state is not JobState.CANCELLED
    return [
        [("JobId", str(row.job_id)), *array, ("JobName", row.name)],
        [("UserId", f"{row.user}({row.uid})"), ("GroupId", str(row.gid)), ("Priority", str(row.priority)),
         ("Nice", str(spec.nice)), ("Account", _null(spec.account)), ("QOS", _null(spec.qos)), ("WCKey", _null(spec.wckey))],
        [("JobState", row.state.name), ("Reason", reason), ("Dependency", jobs.COLUMNS["E"][1](row, now))],
        [("Requeue", {None: "default", True: "1", False: "0"}[spec.requeue]), ("Restarts", str(row.restarts)),
         ("Attempt", str(row.attempt)), ("BatchFlag", "1"), ("ExitCode", f"{row.exit_code}:{row.signal}")],
        [("RunTime", format_duration(elapsed(row, now), full=True)), ("TimeLimit", limit(row.time_limit)),
         ("TimeMin", limit(spec.time_min) if spec.time_min else "N/A")],
        [("SubmitTime", when(row.submit_time)), ("EligibleTime", when(row.eligible_time, "Unknown"))],
        [("StartTime", when(row.start_time or row.planned_start, "Unknown")),
         ("EndTime", when(row.end_time, "Unknown")), ("Deadline", when(spec.deadline))],
        [("Partition", row.partition or ",".join(spec.partitions)), ("SubmitHost", _null(spec.submit_host))],
        [("ReqNodeList", _null(_hosts(part.nodelist))), ("ExcNodeList", _null(_hosts(part.exclude)))],
        [("NodeList", _null(jobs.nodes(row)))],
        [("NumNodes", str(jobs.node_count(row))), ("NumCPUs", format_cpus(jobs.cpus(row))),
         ("NumTasks", str(jobs.task_count(row))), ("CPUs/Task", format_cpus(part.cpus_per_task))],
        [(memory, jobs.memory(row).rstrip("c")), ("Features", _null(part.features)),
         ("TresPerNode", _null(",".join(f"gres/{g}" for g in format_gres(part.gres).split(",") if g)))],
        [("OverSubscribe", "NO" if part.exclusive else "OK"), ("Licenses", jobs.COLUMNS["W"][1](row, now)),
         ("Reservation", _null(spec.reservation))],
        *([("Node", share.node), ("CPUs", format_cpus(share.cpus)), ("Mem", format_mem(share.memory)),
           *((f"{slot.name}:{slot.type or 'any'}", ",".join(map(str, slot.indices))) for slot in share.slots)]
          for share in row.allocation),
        [("Command", " ".join((_null(row.command), *row.args)))],
        [("WorkDir", spec.work_dir)],
        [("StdErr", row.stderr or row.stdout)],
        [("StdIn", spec.stdin or "/dev/null")],
        [("StdOut", row.stdout)],
        [("CPUTime", f"{row.cpu_us / 1e6:.3f}"), ("MaxMemory", str(row.memory_peak))] if ended_well else [],
        [("Comment", spec.comment)] if spec.comment else [],
        [("Extra", spec.extra)] if spec.extra else [],
        [("TaskStates", ",".join(f"{state.name}:{count}" for state, count in row.task_states.items()))]
        if row.task_states else [],
    ]  # fmt: skip


def step(row: JobInfo, found: StepInfo) -> Block:
    """A step of a job."""
    name = "batch" if found.step == BATCH_STEP else found.name
    return [
        [("StepId", f"{row.shown_id}.{format_step(found.step)}"), ("UserId", str(row.uid)),
         ("StartTime", when(found.start_time, "Unknown")), ("TimeLimit", limit(row.time_limit))],
        [("State", found.state.name), ("Partition", row.partition), ("NodeList", _null(_hosts(found.nodes)))],
        [("Nodes", str(len(found.nodes))), ("Tasks", str(found.ntasks)), ("Name", name)],
        [("ExitCode", f"{found.exit_code}:{found.signal}"), ("MaxMemory", str(found.memory_peak))],
    ]  # fmt: skip


def _tres(cpus: int, memory: int, gres: str) -> str:
    parts = [f"cpu={format_cpus(cpus)}"] if cpus else []
    parts += [f"mem={format_mem(memory)}"] if memory else []
    parts += [
        f"gres/{item.rpartition(':')[0]}={item.rpartition(':')[2]}"
        for item in gres.split(",")
        if item
    ]
    return ",".join(parts)


def node(row: NodeInfo) -> Block:
    """A node."""
    state = (
        nodes.long_state(row)
        .upper()
        .replace("DRAINING", "MIXED+DRAIN")
        .replace("DRAINED", "IDLE+DRAIN")
    )
    gres, held = format_gres(row.gres), format_gres(row.gres_alloc)
    reason = []
    if row.reason:
        reason = [("Reason", f"{row.reason} [{row.reason_by}@{when(row.reason_time)}]")]
    return [
        [("NodeName", row.name), ("NodeAddr", row.address or row.name), ("NodeHostName", row.name),
         ("Version", _null(row.version))],
        [("State", state), ("Weight", str(row.weight)), ("Connected", "yes" if row.connected else "no")],
        [("CPUAlloc", format_cpus(row.cpus_alloc)), ("CPUTot", format_cpus(row.cpus)),
         ("RealMemory", str(row.memory)), ("AllocMem", str(row.memory_alloc))],
        [("AvailableFeatures", _null(",".join(row.features))), ("ActiveFeatures", _null(",".join(row.features)))],
        [("Gres", _null(gres)), ("GresUsed", _null(held))],
        [("Partitions", ",".join(row.partitions))],
        [("BootTime", when(row.boot_time, "None")), ("CranedStartTime", when(row.registered_time, "None")),
         ("LastContact", when(row.last_contact, "None"))],
        [("OS", _null(row.os)), ("Cgroup", _null(row.cgroup))],
        [("CfgTRES", _tres(row.cpus, row.memory, gres)), ("AllocTRES", _tres(row.cpus_alloc, row.memory_alloc, held))],
        [("Jobs", ",".join(map(str, row.jobs)))] if row.jobs else [],
        reason,
    ]  # fmt: skip


def partition(row: PartitionInfo) -> Block:
    """A partition."""

    def span(seconds: int) -> str:
        return "UNLIMITED" if seconds == UNLIMITED else format_duration(seconds, full=True)

    accounts = ",".join(row.allow_accounts) or "ALL"
    return [
        [("PartitionName", row.name)],
        [("AllowGroups", "ALL"), ("AllowAccounts", accounts), ("AllowQos", "ALL")],
        [("Default", "YES" if row.default else "NO"), ("DefaultTime", span(row.default_time)),
         ("MaxTime", span(row.max_time)), ("MaxNodes", str(row.max_nodes or "UNLIMITED"))],
        [("Nodes", _null(_hosts(row.nodes)))],
        [("PriorityTier", str(row.priority)), ("State", "UP" if row.up else "DOWN")],
        [("TotalCPUs", format_cpus(row.cpus)), ("TotalNodes", str(len(row.nodes)))],
    ]  # fmt: skip


def all_text(blocks: Iterator[Block], *, one_line: bool) -> Iterator[str]:
    """Blocks with an empty line between them, or one line each."""
    for block in blocks:
        yield text(block, one_line=one_line) + "\n"
