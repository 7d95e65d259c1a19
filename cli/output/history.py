"""Fields of `cacct` (sacct(1), --format), and its three layouts: table, `-p` and `-P`."""

from __future__ import annotations

from cli.output import jobs
from cli.output.times import elapsed, limit, when
from crane import hostlist
from crane.errors import CraneError, ErrorCode, did_you_mean, shown
from crane.gres import format_gres
from crane.memspec import format_cpus, format_mem
from crane.record import dataclass
from crane.selector import format_step
from crane.states import JobState
from crane.timespec import format_duration

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from crane.client.model import JobInfo, StepInfo

DEFAULT = "jobid,jobname,partition,account,alloccpus,state,exitcode"
BRIEF = "jobid,state,exitcode"
LONG = (
    "jobid,jobidraw,jobname,partition,account,user,reqcpus,alloccpus,reqmem,state,exitcode,"
    "submit,start,end,elapsed,totalcpu,maxrss,nodelist"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a job, or one of its steps."""

    job: JobInfo
    step: StepInfo | None
    now: int


@dataclass(frozen=True, slots=True)
class Column:
    """A field with the width it is shown in; negative: at the left."""

    title: str
    width: int
    text: Callable[[Row], str]


def state(row: Row) -> str:
    """`COMPLETED`, `CANCELLED by 1000`; a step's own, as far as it tells."""
    job, step = row.job, row.step
    if step is not None and job.ended and step.state.name == "ENDED":
        if step.signal and job.state is JobState.CANCELLED:
            return "CANCELLED"
        if job.state in {JobState.TIMEOUT, JobState.OUT_OF_MEMORY, JobState.NODE_FAIL}:
            return job.state.name if step.signal or step.exit_code else "COMPLETED"
        return "FAILED" if step.signal or step.exit_code else "COMPLETED"
    if step is not None and step.state.name == "ENDED":
        return "FAILED" if step.signal or step.exit_code else "COMPLETED"
    if step is not None and not job.ended:
        return "RUNNING"
    if job.state is JobState.CANCELLED:
        return f"CANCELLED by {job.cancelled_by}"
    return job.state.name


def _id(row: Row) -> str:
    if row.step is None:
        return row.job.shown_id
    return f"{row.job.shown_id}.{format_step(row.step.step)}"


def _raw(row: Row) -> str:
    tail = f".{format_step(row.step.step)}" if row.step is not None else ""
    return f"{row.job.job_id}{tail}"


def _name(row: Row) -> str:
    if row.step is None:
        return row.job.name
    return "batch" if row.step.step < 0 else row.step.name


def _code(row: Row) -> str:
    what = row.job if row.step is None else row.step
    return f"{what.exit_code}:{what.signal}"


def _derived(row: Row) -> str:
    codes = [(step.exit_code, step.signal) for step in row.job.steps if step.step >= 0]
    code, signal = max(codes, default=(0, 0))
    return f"{code}:{signal}"


def _peak(row: Row) -> str:
    peak = row.job.memory_peak if row.step is None else row.step.memory_peak
    return f"{-(-peak // 1024)}K" if peak and (row.step is not None or not row.job.steps) else ""


def _cpu(row: Row) -> str:
    total = (row.job if row.step is None else row.step).cpu_us
    seconds, rest = divmod(total, 1_000_000)
    return f"{format_duration(seconds, full=True)[-8:]}.{rest // 1000:03}"


def _nodes(row: Row) -> str:
    names = row.job.nodes if row.step is None or not row.step.nodes else row.step.nodes
    listed = hostlist.compress(sorted(names, key=hostlist.sort_key))
    return listed or "None assigned"


def _node_count(row: Row) -> str:
    if row.step is not None and row.step.nodes:
        return str(len(row.step.nodes))
    return str(jobs.node_count(row.job))


def _of_job(show: Callable[[JobInfo], str]) -> Callable[[Row], str]:
    """A field steps do not have."""
    return lambda row: show(row.job) if row.step is None else ""


def _start(row: Row) -> int:
    return (row.job if row.step is None else row.step).start_time


def _end(row: Row) -> str:
    if row.step is None:
        return when(row.job.end_time, "Unknown") if row.job.ended else "Unknown"
    return when(row.step.end_time, "Unknown")


def _elapsed(row: Row) -> int:
    return elapsed(row.job if row.step is None else row.step, row.now)


def _tres(row: Row) -> str:
    job = row.job
    if not job.allocation:
        return ""
    memory = sum(share.memory for share in job.allocation)
    parts = [f"cpu={format_cpus(jobs.cpus(job))}"]
    parts += [f"mem={format_mem(memory)}"] if memory else []
    parts.append(f"node={len(job.allocation)}")
    held = format_gres(jobs.held(job))
    parts += [
        f"gres/{item[: item.rindex(':')]}={item.rpartition(':')[2]}"
        for item in held.split(",")
        if item
    ]
    return ",".join(parts)


def _table() -> dict[str, Column]:
    rows = (
        Column("JobID", -12, _id),
        Column("JobIDRaw", -12, _raw),
        Column("JobName", 10, _name),
        Column("Partition", 10, _of_job(lambda job: job.partition)),
        Column("Account", 10, lambda row: row.job.spec.account),
        Column("User", 9, _of_job(lambda job: job.user)),
        Column("UID", 6, _of_job(lambda job: str(job.uid))),
        Column("GID", 6, _of_job(lambda job: str(job.gid))),
        Column("QOS", 10, _of_job(lambda job: job.spec.qos)),
        Column("AllocCPUS", 10, lambda row: format_cpus(jobs.cpus(row.job) if row.job.allocation else 0)),
        Column("NCPUS", 10, lambda row: format_cpus(jobs.cpus(row.job) if row.job.allocation else 0)),
        Column("ReqCPUS", 8, lambda row: format_cpus(jobs.task_count(row.job) * row.job.spec.components[0].cpus_per_task)),
        Column("ReqMem", 10, _of_job(jobs.memory)),
        Column("ReqTRES", 10, _of_job(lambda job: f"cpu={format_cpus(jobs.cpus(job))},node={jobs.node_count(job)}")),
        Column("AllocTRES", 10, _tres),
        Column("AllocNodes", 10, _node_count),
        Column("NNodes", 8, _node_count),
        Column("NTasks", 8, lambda row: str(row.step.ntasks) if row.step is not None else ""),
        Column("NodeList", 15, _nodes),
        Column("State", 10, state),
        Column("Reason", 22, _of_job(lambda job: job.reason.word)),
        Column("ExitCode", 8, _code),
        Column("DerivedExitCode", 15, _derived),
        Column("Submit", 19, lambda row: when(row.job.submit_time, "Unknown")),
        Column("Eligible", 19, lambda row: when(row.job.eligible_time, "Unknown")),
        Column("Start", 19, lambda row: when(_start(row), "Unknown")),
        Column("End", 19, _end),
        Column("Elapsed", 10, lambda row: format_duration(_elapsed(row), full=True)),
        Column("ElapsedRaw", 10, lambda row: str(_elapsed(row))),
        Column("CPUTimeRAW", 10, lambda row: str(_elapsed(row) * jobs.cpus(row.job) // 1000)),
        Column("CPUTime", 10, lambda row: format_duration(_elapsed(row) * jobs.cpus(row.job) // 1000, full=True)),
        Column("TotalCPU", 12, _cpu),
        Column("Timelimit", 10, _of_job(lambda job: limit(job.time_limit))),
        Column("TimelimitRaw", 12, _of_job(lambda job: str(job.time_limit // 60) if job.time_limit >= 0 else "UNLIMITED")),
        Column("MaxRSS", 10, _peak),
        Column("Priority", 10, _of_job(lambda job: str(job.priority))),
        Column("Restarts", 8, _of_job(lambda job: str(job.restarts))),
        Column("Comment", 14, _of_job(lambda job: job.spec.comment)),
        Column("WCKey", 10, _of_job(lambda job: job.spec.wckey)),
        Column("Reservation", 20, _of_job(lambda job: job.spec.reservation)),
        Column("Cluster", 10, lambda _: ""),
        Column("WorkDir", 20, _of_job(lambda job: job.spec.work_dir)),
        Column("SubmitLine", 20, _of_job(lambda job: " ".join((job.command, *job.args)))),
    )  # fmt: skip
    return {column.title.lower(): column for column in rows}


FIELDS = _table()
"""Fields by lower-case name."""


def columns(text: str) -> list[Column]:
    """Columns of a list like `jobid,state%20,nodelist%-30`. Raises BAD_FORMAT."""
    found: list[Column] = []
    for word in text.split(","):
        name, percent, width = word.strip().partition("%")
        column = FIELDS.get(name.lower())
        if column is None:
            raise CraneError(
                ErrorCode.BAD_FORMAT,
                f"unknown field {shown(name)}",
                did_you_mean(name, FIELDS) or "cacct --helpformat lists the fields",
            )
        size = width.removeprefix("-")
        if percent and not (size.isascii() and size.isdigit() and 0 < int(size[:6]) <= 4096):
            raise CraneError(
                ErrorCode.BAD_FORMAT, f"invalid width {shown(word)}", "write state%20 or state%-20"
            )
        found.append(Column(column.title, int(width), column.text) if percent else column)
    return found


def lines(
    chosen: Sequence[Column], rows: Iterable[Row], *, heading: bool, parsable: str
) -> Iterator[str]:
    """The lines of a table; `parsable`: empty, `p` (every field ends with `|`) or `P`."""
    if parsable:
        end = "|" if parsable == "p" else ""
        if heading:
            yield "|".join(column.title for column in chosen) + end
        for row in rows:
            yield "|".join(column.text(row) for column in chosen) + end
        return
    if heading:
        yield "".join(_cell(column.title, column.width) + " " for column in chosen)
        yield " ".join("-" * abs(column.width) for column in chosen) + " "
    for row in rows:
        yield "".join(_cell(column.text(row), column.width) + " " for column in chosen)


def _cell(text: str, width: int) -> str:
    """A value in its column; `+` says that it was cut."""
    size = abs(width)
    if len(text) > size:
        text = text[: size - 1] + "+"
    return text.ljust(size) if width < 0 else text.rjust(size)
