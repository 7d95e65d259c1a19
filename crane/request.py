"""From options to a request: precedence, defaults, and what options must not contradict.

Command line over variables (`CSUB_*`, then `SBATCH_*`) over lines in the script (sbatch(1)).
"""

from __future__ import annotations

from crane import environment, memspec, signals, timespec
from crane.errors import CraneError, ErrorCode
from crane.jobspec import (
    UNLIMITED,
    ArraySpec,
    Component,
    Dependency,
    Gres,
    JobSpec,
    OpenMode,
)
from crane.options import CSUB, Parsed, merge, parse_environ
from crane.record import dataclass, field

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_ARGS = 10_000

TOOL_KEYS = frozenset(
    {"parsable", "wait", "dry_run", "json", "quiet", "help", "version", "wrap", "pty", "label"}
    | {"unbuffered", "overlap", "exact", "kill_on_bad_exit", "jobid", "rendezvous"}
)
"""Options that steer the command itself; they are in `Request.tool`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asked for, checked: the spec shared by equal jobs and what is this job's own."""

    spec: JobSpec
    name: str = ""
    args: tuple[str, ...] = ()
    array: ArraySpec | None = None
    dependency: Dependency | None = None
    wrap: str = ""
    """Command line to run instead of a script; empty: a script."""
    tool: dict[str, Any] = field(default_factory=dict)
    """Options of the command itself (TOOL_KEYS), only those given."""
    notices: tuple[str, ...] = ()
    """What to tell the user on standard error although the request is accepted."""

    def flag(self, key: str) -> bool:
        """Whether an option of the command itself was given and is on."""
        return bool(self.tool.get(key))


def gather(
    command_line: Parsed,
    environ: Mapping[str, str],
    directives: Parsed | None = None,
    tool: str = CSUB,
) -> Parsed:
    """All sources as one, by precedence; positionals and `tool` options of the command line."""
    return merge([directives or Parsed(), parse_environ(environ, tool), command_line])


def build(
    command_line: Parsed,
    environ: Mapping[str, str],
    directives: Parsed | None = None,
    *,
    tool: str = CSUB,
    work_dir: str,
    now_ns: int,
    submit_host: str = "",
    umask: int | None = None,
    script_name: str = "",
) -> Request:
    """The request of a command given in `work_dir`; `script_name` is the job's default name.

    Raises CONFLICT for options that contradict each other, and what `--begin` and `--deadline`
    raise now that the moment they count from is known.
    """
    merged = gather(command_line, environ, directives, tool)
    given: dict[str, Any] = {k: v for k, v in merged.options.items() if v is not None}
    notices = list(merged.notices)
    component = _component(given, notices)
    args = command_line.positionals[1:] if tool == CSUB else command_line.positionals
    if given.get("wrap") and command_line.positionals:
        raise _conflict("--wrap and a script exclude each other", "give one of them")
    if len(args) > MAX_ARGS:
        raise CraneError(ErrorCode.LIMIT_EXCEEDED, f"more than {MAX_ARGS} arguments")
    submitted = {"submit_dir": work_dir, "submit_host": submit_host, "umask": umask}
    spec = _spec(given, component, now_ns, submitted)
    return Request(
        spec=spec,
        name=given.get("job_name") or ("wrap" if given.get("wrap") else script_name),
        args=args,
        array=given.get("array"),
        dependency=given.get("dependency"),
        wrap=given.get("wrap", ""),
        tool={key: value for key, value in given.items() if key in TOOL_KEYS},
        notices=tuple(notices),
    )


def _conflict(message: str, hint: str = "") -> CraneError:
    return CraneError(ErrorCode.CONFLICT, message, hint)


def _spec(
    given: Mapping[str, Any], component: Component, now_ns: int, submitted: Mapping[str, Any]
) -> JobSpec:
    begin, deadline = (_instant(given, key, now_ns) for key in ("begin", "deadline"))
    limit, least = given.get("time_limit", 0), given.get("time_min", 0)
    if deadline and deadline <= max(begin, now_ns):
        raise _conflict("--deadline is not after the earliest start", "give a later deadline")
    if limit > 0 and (least > limit or least == UNLIMITED):
        raise _conflict("--time-min is longer than --time", "give a shorter --time-min")
    warning = given.get("signal")
    return JobSpec(
        components=(component,),
        partitions=given.get("partitions", ()),
        account=given.get("account", ""),
        qos=given.get("qos", ""),
        reservation=given.get("reservation", ""),
        licences=given.get("licences", ()),
        comment=given.get("comment", ""),
        wckey=given.get("wckey", ""),
        time_limit=limit,
        time_min=least,
        begin=begin,
        deadline=deadline,
        priority=given.get("priority", -1),
        nice=given.get("nice", 0),
        hold=given.get("hold", False),
        requeue=given.get("requeue"),
        work_dir=_absolute(given.get("work_dir", ""), submitted["submit_dir"]),
        stdin=given.get("stdin", ""),
        stdout=given.get("stdout", ""),
        stderr=given.get("stderr", ""),
        open_mode=given.get("open_mode", OpenMode.TRUNCATE),
        signal=signals.format_warning(warning) if warning else "",
        mail_type=given.get("mail_type", ""),
        mail_user=given.get("mail_user", ""),
        export=environment.validate(given.get("export", "ALL")),
        switches=given.get("switches", ""),
        extra=given.get("extra", ""),
        **submitted,
    )


def _instant(given: Mapping[str, Any], key: str, now_ns: int) -> int:
    return timespec.parse_when(given[key], now_ns) if key in given else 0


def _absolute(path: str, base: str) -> str:
    """`path` under `base` unless it is absolute; symbolic links are left to the node."""
    if not path or path.startswith("/"):
        return path or base
    return f"{base.rstrip('/')}/{path}"


def _component(given: Mapping[str, Any], notices: list[str]) -> Component:
    """Resources, with the rules between nodes, tasks, memory and GPUs applied."""
    least, most = _nodes(given, notices)
    tasks, per_node = given.get("ntasks", 0), given.get("ntasks_per_node", 0)
    if tasks and per_node and most and tasks > per_node * most:
        raise _conflict(
            f"{tasks} tasks do not fit on {most} nodes with {per_node} tasks each",
            "raise --nodes or --ntasks-per-node",
        )
    memory = given.get("mem_per_node")
    if memory == 0 and not given.get("exclusive"):
        raise _conflict(
            "--mem=0 (all memory of the node) needs the whole node",
            "add --exclusive, or say how much memory the job needs",
        )
    if given.get("mem_per_cpu") == 0:
        raise _conflict("--mem-per-cpu=0 has no meaning", "use --exclusive --mem=0")
    gres = _gres(given, least, most, tasks, per_node)
    if "mem_per_gpu" in given:
        memory = _memory_of_gpus(given["mem_per_gpu"], gres)
    return Component(
        min_nodes=least,
        max_nodes=most,
        ntasks=tasks,
        ntasks_per_node=per_node,
        cpus_per_task=given.get("cpus_per_task", 1000),
        cpus_given="cpus_per_task" in given,
        mem_per_node=memory or 0,
        mem_per_cpu=given.get("mem_per_cpu", 0),
        gres=gres,
        exclusive=given.get("exclusive", False),
        features=given.get("features", ""),
        nodelist=given.get("nodelist", ()),
        exclude=given.get("exclude", ()),
    )


def _nodes(given: Mapping[str, Any], notices: list[str]) -> tuple[int, int]:
    """Least and most nodes; never more than tasks, never fewer than named nodes."""
    least, most = given.get("nodes", (0, 0))
    tasks = given.get("ntasks", 0)
    named, excluded = given.get("nodelist", ()), given.get("exclude", ())
    if tasks and least > tasks:
        # As sbatch does: a node without a task would only stand idle.
        notices.append(f"{tasks} tasks cannot use {least} nodes: taking {tasks} nodes")
        least = tasks
    if tasks and most > tasks:
        most = tasks
    both = sorted(set(named) & set(excluded))
    if both:
        raise _conflict(f"node {both[0]} is both in --nodelist and in --exclude")
    if named:
        if most and len(named) > most:
            raise _conflict(
                f"--nodelist names {len(named)} nodes, and the job takes at most {most}",
                "raise --nodes, or name fewer nodes",
            )
        if tasks and len(named) > tasks:
            raise _conflict(
                f"--nodelist names {len(named)} nodes for {tasks} tasks", "raise --ntasks"
            )
        least = max(least, len(named))
    return least, most


def _gres(
    given: Mapping[str, Any], least: int, most: int, tasks: int, per_node: int
) -> tuple[Gres, ...]:
    """Generic resources per node, GPUs of whatever option included."""
    found: tuple[Gres, ...] = given.get("gres", ())
    gpus: tuple[Gres, ...] = given.get("gpus_per_node", ())
    if given.get("gpus_per_task"):
        on_node = per_node or _share(tasks or max(least, 1), least, most, "--gpus-per-task")
        gpus = tuple(Gres(g.name, g.type, g.count * on_node) for g in given["gpus_per_task"])
    elif given.get("gpus"):
        if tasks > 1 and least == 0:
            raise _spread("--gpus")
        gpus = tuple(
            Gres(g.name, g.type, _share(g.count, least, most, "--gpus")) for g in given["gpus"]
        )
    if gpus and any(item.name == gpus[0].name for item in found):
        raise _conflict(
            f"{gpus[0].name} is asked for by --gres and by a --gpus option", "use one of them"
        )
    return tuple(sorted(found + gpus, key=lambda item: (item.name, item.type)))


def _memory_of_gpus(each: int, gres: tuple[Gres, ...]) -> int:
    """MiB per node of `--mem-per-gpu`: so much for each GPU that the job has there."""
    gpus = sum(item.count for item in gres if item.name == "gpu")
    if not gpus:
        raise _conflict("--mem-per-gpu without GPUs", "ask for GPUs too, or use --mem")
    if each == 0:
        raise _conflict("--mem-per-gpu=0 has no meaning", "use --exclusive --mem=0")
    if each * gpus > memspec.MAX_MIB:
        raise CraneError(
            ErrorCode.BAD_MEMORY, f"--mem-per-gpu: {gpus} GPUs make more than any node could have"
        )
    return each * gpus


def _share(amount: int, least: int, most: int, option: str) -> int:
    """What one of the job's nodes gets of `amount`; the number of nodes must be certain."""
    nodes = max(least, 1)
    if amount == 1 and nodes == 1 and most <= 1:
        return 1
    if nodes != most and not (least == 0 and option == "--gpus"):
        raise _spread(option)
    if amount % nodes:
        raise _conflict(
            f"{option}: {amount} cannot be shared evenly by {nodes} nodes",
            "use --gpus-per-node or another number of nodes",
        )
    return amount // nodes


def _spread(option: str) -> CraneError:
    return _conflict(
        f"{option} needs to know how many nodes the job has",
        "add --nodes, or use --gpus-per-node (with --ntasks-per-node)",
    )
