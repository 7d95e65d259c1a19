"""Which of the submitter's environment a job gets (sbatch(1), --export)."""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, shown

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

_JOB_VARIABLES = (
    "ARRAY_", "CLUSTER_NAME", "CPUS_", "CPU_BIND", "DISTRIBUTION", "EXPORT_ENV", "GET_USER_ENV",
    "GPUS", "GTIDS", "HET_", "JOB", "LAUNCH_", "LOCALID", "MASTER_", "MEM_", "NNODES", "NODEID",
    "NODELIST", "NODE_ALIASES", "NPROCS", "NTASKS", "PRIO_PROCESS", "PROCID", "RESTART_COUNT",
    "SRUN_", "STEP", "SUBMIT_", "TASK", "THREADS_PER_CORE", "TOPOLOGY_", "TRES_PER_TASK",
    "TIMELIMIT", "ATTEMPT", "UMASK",
)  # fmt: skip
"""Beginnings, after CRANE_ or SLURM_, of what the scheduler sets inside a job.

Everything else of those prefixes is the user's (CRANE_HOME, SLURM_TIME_FORMAT) and is kept.
"""

UMASK_NAMES = ("CRANE_UMASK", "SLURM_UMASK")
"""In octal: the mask of the submitter in a job, of the `crun` in a step (srun(1))."""

_HINT = "write ALL, NONE, or a list like ALL,NAME,NAME=value"


def is_job_variable(name: str) -> bool:
    """Whether the variable describes a job, so that a job submitted from within must not see it."""
    if name == "SLURMD_NODENAME":
        return True
    prefix, _, rest = name.partition("_")
    return prefix in {"CRANE", "SLURM"} and rest.startswith(_JOB_VARIABLES)


def validate(policy: str) -> str:
    """The policy itself if it is well formed; raises BAD_EXPORT."""
    _items(policy)
    return policy


def exported(policy: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment a job starts with, before the scheduler adds its own variables.

    `ALL` (or nothing) is everything, `NONE` or `NIL` nothing, a list only what it names and sets;
    `ALL` in a list is everything besides. Variables of an enclosing job are dropped unless named.
    Raises BAD_EXPORT.
    """
    everything, names, assigned = _items(policy)
    found: dict[str, str] = {}
    if everything:
        found = {name: text for name, text in environ.items() if not is_job_variable(name)}
    found |= {name: environ[name] for name in names if name in environ}
    return found | assigned


def _items(policy: str) -> tuple[bool, list[str], dict[str, str]]:
    """Whether everything is exported, the names, and the assignments of a policy."""
    if not policy:
        return True, [], {}
    everything = False
    names: list[str] = []
    assigned: dict[str, str] = {}
    items = _split(policy)
    for item in items:
        name, equals, text = item.partition("=")
        if not equals and name.upper() == "ALL":
            everything = True
        elif not equals and name.upper() in {"NONE", "NIL"}:
            if len(items) > 1:
                raise _bad(policy, f"{name} stands alone")
        elif not name or any(char <= " " or char == "\x7f" for char in name):
            raise _bad(policy, f"{shown(item)} is not a name of a variable")
        elif "\0" in text:
            raise _bad(policy, f"a NUL character in the value of {shown(name)}")
        elif equals:
            assigned[name] = text
        else:
            names.append(name)
    return everything, names, assigned


def _split(policy: str) -> list[str]:
    """Split at commas; quotes keep the commas of a value together and are removed."""
    items: list[str] = []
    current: list[str] = []
    quote = ""
    for char in policy:
        if quote:
            if char == quote:
                quote = ""
            else:
                current.append(char)
        elif char in "'\"":
            quote = char
        elif char == ",":
            items.append("".join(current))
            current = []
        else:
            current.append(char)
    if quote:
        raise _bad(policy, "a quote is not closed")
    items.append("".join(current))
    return items


def _bad(policy: str, why: str) -> CraneError:
    return CraneError(ErrorCode.BAD_EXPORT, f"invalid --export {shown(policy)}: {why}", _HINT)
