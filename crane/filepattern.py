"""File name patterns of a job's input and output (sbatch(1), "filename pattern").

`%j %A %a %b %J %N %n %s %t %u %x %%`; a number after the `%` pads a numeric value with zeros
(`%4j`). A pattern with a backslash is taken literally, without the backslashes.
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, shown
from crane.jobspec import BATCH_STEP
from crane.record import dataclass
from crane.selector import format_step

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_PATTERN = "crane-%j.out"
DEFAULT_ARRAY_PATTERN = "crane-%A_%a.out"

MAX_LENGTH = 4_096
MAX_PADDING = 10
NO_TASK = 4_294_967_294
"""What `%a` gives outside an array (Slurm's NO_VAL)."""

_NUMERIC = "jAabJnst"
_LETTERS = frozenset(_NUMERIC + "Nux%")
_HINT = "use %j %A %a %b %J %N %n %s %t %u %x or %%"


@dataclass(frozen=True, slots=True)
class FileContext:
    """What the letters stand for."""

    job_id: int
    """Id of the job, or of the task's own job record (`%j`)."""
    array_job_id: int = 0
    """Id of the array; 0 outside one (`%A` is then the job's id)."""
    task: int = -1
    """Array index; -1 outside an array."""
    step: int = BATCH_STEP
    node: str = ""
    """Name of the node; `%N` is its first label."""
    node_index: int = 0
    rank: int = 0
    user: str = ""
    name: str = ""


def _bad(pattern: str, why: str, hint: str = _HINT) -> CraneError:
    message = f"invalid file name pattern {shown(pattern)}: {why}"
    return CraneError(ErrorCode.BAD_PATTERN, message, hint)


def validate(pattern: str) -> str:
    """The pattern itself if it is well formed; raises BAD_PATTERN."""
    if len(pattern) > MAX_LENGTH:
        raise _bad(pattern, f"longer than {MAX_LENGTH} characters", "")
    if any(char < " " or char == "\x7f" for char in pattern):
        raise _bad(pattern, "control characters", "remove them")
    for _ in _pieces(pattern):
        pass
    return pattern


def letters(pattern: str) -> frozenset[str]:
    """Letters the pattern uses: with `t` or `n` in it each task or node has a file of its own."""
    return frozenset(letter for letter, _, _ in _pieces(pattern) if letter)


def expand(pattern: str, context: FileContext) -> str:
    """The file name for one job, task and step. Raises BAD_PATTERN."""
    values = _values(context)
    out: list[str] = []
    for letter, width, literal in _pieces(pattern):
        if not letter:
            out.append(literal)
        elif letter in _NUMERIC:
            out.append(values[letter].zfill(width))
        else:
            out.append(values[letter])
    return "".join(out)


def default_pattern(*, array: bool) -> str:
    """Where output goes when the job does not say."""
    return DEFAULT_ARRAY_PATTERN if array else DEFAULT_PATTERN


def _pieces(pattern: str) -> Iterator[tuple[str, int, str]]:
    """Literal texts `("", 0, text)` and letters `(letter, width, "")` of a pattern."""
    if "\\" in pattern:
        yield "", 0, _without_backslashes(pattern)
        return
    literal, *rest = pattern.split("%")
    yield "", 0, literal
    place = 0
    while place < len(rest):
        piece = rest[place]
        if not piece:  # `%%`: the next piece is plain text
            if place + 1 >= len(rest):
                raise _bad(pattern, "a single '%' at the end")
            yield "%", 0, ""
            place += 1
            yield "", 0, rest[place]
            place += 1
            continue
        digits = piece[: len(piece) - len(piece.lstrip("0123456789"))]
        letter = piece[len(digits) : len(digits) + 1]
        if letter not in _LETTERS or letter == "%":
            raise _bad(pattern, f"unknown letter {shown('%' + digits + letter)}")
        if len(digits) > 4 or int(digits or 0) > MAX_PADDING:
            raise _bad(pattern, f"padding wider than {MAX_PADDING}")
        yield letter, int(digits or 0), ""
        yield "", 0, piece[len(digits) + 1 :]
        place += 1


def _without_backslashes(pattern: str) -> str:
    """Each backslash is dropped and the character after it kept, also a second backslash."""
    out: list[str] = []
    escaped = False
    for char in pattern:
        if char == "\\" and not escaped:
            escaped = True
            continue
        out.append(char)
        escaped = False
    return "".join(out)


def _values(context: FileContext) -> dict[str, str]:
    job = str(context.job_id)
    return {
        "%": "%",
        "j": job,
        "A": str(context.array_job_id or context.job_id),
        "a": str(context.task if context.task >= 0 else NO_TASK),
        "b": str(context.task % 10 if context.task >= 0 else NO_TASK % 10),
        # The batch step's `%J` is the plain id: scripts and dask-jobqueue count on it.
        "J": job if context.step == BATCH_STEP else f"{job}.{format_step(context.step)}",
        "N": context.node.partition(".")[0],
        "n": str(context.node_index),
        "s": format_step(context.step),
        "t": str(context.rank),
        "u": context.user.replace("/", "_"),
        # A slash in a job's name would otherwise name another directory.
        "x": context.name.replace("/", "_"),
    }
