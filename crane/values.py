"""Parsers of single option values: from the text a user wrote to the value a request holds.

Each takes the text and raises CraneError; the option's name is put in front by the caller.
"""

from __future__ import annotations

from crane import arrayspec, dependency, features, filepattern, gres, hostlist, memspec, timespec
from crane.errors import CraneError, ErrorCode, did_you_mean, shown
from crane.jobspec import UNLIMITED, ArraySpec, Dependency, Gres, OpenMode

MAX_NAME = 1_024
MAX_TEXT = 4_096
MAX_WRAP = 1 << 20
MAX_NODES = 1_000_000
MAX_TASKS = 100_000_000
MAX_NICE = 2_147_483_645
MAX_LIST = 256

MAIL_TYPES = (
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT",
    "TIME_LIMIT", "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS",
)  # fmt: skip


def bad(text: str, why: str, hint: str = "") -> CraneError:
    """A BAD_VALUE error that shows the text."""
    return CraneError(ErrorCode.BAD_VALUE, f"invalid value {shown(text)}: {why}", hint)


def number(text: str, low: int, high: int) -> int:
    """A whole number within bounds."""
    sign = text[:1] in {"-", "+"}
    digits = text[sign:]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
        raise bad(text, "not a whole number")
    value = int(text)
    if not low <= value <= high:
        raise bad(text, f"not between {low} and {high}")
    return value


def tasks(text: str) -> int:
    """A number of tasks, at least one."""
    return number(text, 1, MAX_TASKS)


def nodes(text: str) -> tuple[int, int]:
    """`4` or `2-4` nodes, as least and most; `1k` is 1024 as in sbatch(1)."""
    low, dash, high = text.partition("-")
    least = _node_count(low, text)
    most = _node_count(high, text) if dash else least
    if most < least:
        raise bad(text, "the range runs backwards", f"write {high}-{low}")
    return least, most


def _node_count(part: str, text: str) -> int:
    if part[-1:] in {"k", "K"}:
        part = str(number(part[:-1], 1, MAX_NODES // 1024) * 1024)
    try:
        return number(part, 1, MAX_NODES)
    except CraneError:
        hint = "write 4 or 2-4"
        raise bad(text, f"not a number of nodes up to {MAX_NODES}", hint) from None


def cpus(text: str) -> int:
    """Thousandths of a CPU."""
    return memspec.parse_cpus(text)


def memory(text: str) -> int:
    """MiB; 0 is all of the node's."""
    return memspec.parse_mem(text)


def duration(text: str) -> int:
    """Seconds or UNLIMITED; a limit of 0 is none, as in sbatch(1)."""
    return timespec.parse_duration(text) or UNLIMITED


def array(text: str) -> ArraySpec:
    """An array of tasks."""
    return arrayspec.parse(text)


def after(text: str) -> Dependency:
    """Dependencies."""
    return dependency.parse(text)


def resources(text: str) -> tuple[Gres, ...]:
    """Generic resources per node."""
    return gres.parse(text)


def gpus(text: str) -> tuple[Gres, ...]:
    """GPUs, `2` or `a100:2`."""
    return gres.parse_gpus(text)


def constraint(text: str) -> str:
    """A feature expression in its normal form."""
    return features.normalise(text)


def hosts(text: str) -> tuple[str, ...]:
    """Names of nodes, each once."""
    return tuple(dict.fromkeys(hostlist.expand(text)))


def pattern(text: str) -> str:
    """A file name pattern."""
    return filepattern.validate(text)


def text(value: str) -> str:
    """One line of free text."""
    return _line(value, MAX_TEXT)


def name(value: str) -> str:
    """A name: one line, not too long."""
    return _line(value, MAX_NAME)


def path(value: str) -> str:
    """A path."""
    return _line(value, MAX_TEXT)


def _line(value: str, limit: int) -> str:
    if len(value) > limit:
        raise bad(value, f"longer than {limit} characters")
    if any(char < " " or char == "\x7f" for char in value):
        raise bad(value, "control characters", "give one line of plain text")
    return value


def wrapped(value: str) -> str:
    """A command line for the shell; may have several lines."""
    if "\0" in value or len(value) > MAX_WRAP:
        raise bad(value, f"a NUL character, or longer than {MAX_WRAP} characters")
    return value


def words(value: str) -> tuple[str, ...]:
    """A comma-separated list of names, each once."""
    found = tuple(dict.fromkeys(value.split(",")))
    if len(found) > MAX_LIST:
        raise bad(value, f"more than {MAX_LIST} names")
    if not all(found):
        raise bad(value, "an empty name between commas")
    return tuple(name(word) for word in found)


def licences(value: str) -> tuple[tuple[str, int], ...]:
    """`matlab:2,ansys`: name and count, sorted."""
    if "|" in value:
        raise bad(value, "alternatives ('|') are not supported", "write a:1,b:2")
    counts: dict[str, int] = {}
    for item in words(value):
        word, _, amount = item.replace("=", ":").partition(":")
        if not word or word in counts:
            raise bad(value, "each licence needs a name, once", "write a:1,b:2")
        counts[word] = number(amount or "1", 1, MAX_TASKS)
    return tuple(sorted(counts.items()))


def open_mode(value: str) -> OpenMode:
    """`append` or `truncate`, or their first letters."""
    for mode in OpenMode:
        if value and mode.name.lower().startswith(value.lower()):
            return mode
    raise bad(value, "not an open mode", "write append or truncate")


def mail_type(value: str) -> str:
    """Events to send mail about, in upper case."""
    found = words(value.upper())
    for word in found:
        if word not in MAIL_TYPES:
            raise bad(word, "unknown mail type", did_you_mean(word, MAIL_TYPES))
    return ",".join(found)


def nice(value: str) -> int:
    """An adjustment of the priority; 100 if no value is given."""
    return number(value or "100", -MAX_NICE, MAX_NICE)


def priority(value: str) -> int:
    """An absolute priority."""
    return number(value, 0, (1 << 32) - 2)


def exclusive(value: str) -> bool:
    """`--exclusive`: whole nodes; Slurm's `user` and `mcs` sharing are not supported."""
    if value:
        raise bad(value, "only whole-node use is supported", "write --exclusive")
    return True


def bit(value: str) -> bool:
    """`0` or `1`; 1 if no value is given."""
    return bool(number(value or "1", 0, 1))


def rendezvous(value: str) -> str:
    """Whose variables to set for the tasks to find each other."""
    if value != "torch":
        raise bad(value, "unknown rendezvous", "write torch")
    return value


def when(text: str) -> str:
    """A date or time; kept as text until the moment it counts from is known."""
    timespec.parse_when(text, 0)
    return text
