"""Which jobs, tasks or steps a user means: `12`, `12_3`, `12_[1-5,8]`, `12+0`, `12.batch`, `12.0`."""

from __future__ import annotations

from crane import arrayspec
from crane.errors import CraneError, ErrorCode, shown
from crane.jobspec import BATCH_STEP
from crane.record import dataclass

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_JOB_ID = (1 << 32) - 2
MAX_SELECTORS = 10_000
MAX_TEXT = 1 << 20

EXTERN_STEP = -2
"""Step number of `12.extern`, the step Slurm shows for what runs outside any step."""

_STEP_WORDS = {"batch": BATCH_STEP, "extern": EXTERN_STEP}
_HINT = "write 12, 12_3, 12_[1-5], 12+0, 12.0 or 12.batch, several with commas"


@dataclass(frozen=True, slots=True)
class JobSelector:
    """One id as typed; what is not given selects everything below it."""

    job_id: int
    tasks: tuple[arrayspec.Range, ...] = ()
    """Array indices as `(first, last, step)` ranges; empty: the whole job or array."""
    component: int = -1
    """Component of a heterogeneous job (`12+0`); -1: all."""
    step: int | None = None
    """Step number, BATCH_STEP or EXTERN_STEP; None: the job itself."""


def _bad(text: str, why: str = "") -> CraneError:
    tail = f": {why}" if why else ""
    return CraneError(ErrorCode.BAD_SELECTOR, f"invalid job id {shown(text)}{tail}", _HINT)


def parse(text: str) -> tuple[JobSelector, ...]:
    """Selectors of a comma-separated list, in order, each once. Raises BAD_SELECTOR."""
    if len(text) > MAX_TEXT:
        raise _bad(text, f"longer than {MAX_TEXT} characters")
    parts = _split(text)
    if len(parts) > MAX_SELECTORS:
        raise _bad(text, f"more than {MAX_SELECTORS} ids")
    return tuple(dict.fromkeys(_one(part) for part in parts))


def parse_all(texts: Iterable[str]) -> tuple[JobSelector, ...]:
    """Selectors of several arguments (`ccancel 12 13,14`)."""
    return tuple(dict.fromkeys(found for text in texts for found in parse(text)))


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts: list[str] = []
    start, depth = 0, 0
    for place, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    parts.append(text[start:])
    return parts


def _one(text: str) -> JobSelector:
    job, dot, step_text = text.strip().partition(".")
    step = _step(text, step_text) if dot else None
    job, plus, component = job.partition("+")
    if plus and (not _number(component) or int(component) > 127):
        raise _bad(text, f"{shown(component)} is not a component")
    job_id, underscore, tasks = job.partition("_")
    if not _number(job_id) or not 0 < int(job_id) <= MAX_JOB_ID:
        raise _bad(text)
    if underscore and plus:
        raise _bad(text, "an array has no components")
    ranges = _tasks(text, tasks) if underscore else ()
    return JobSelector(int(job_id), ranges, int(component) if plus else -1, step)


def _step(text: str, step: str) -> int:
    if step in _STEP_WORDS:
        return _STEP_WORDS[step]
    if not _number(step):
        raise _bad(text, f"{shown(step)} is not a step")
    return int(step)


def _tasks(text: str, tasks: str) -> tuple[arrayspec.Range, ...]:
    """Ranges of `3`, `[1-5,8]`, `[3-9%2]` (as cqueue prints waiting tasks), `*` (all)."""
    if tasks in {"*", "[*]"}:
        return ()
    if tasks.startswith("[") and tasks.endswith("]"):
        body = tasks[1:-1].partition("%")[0]
    elif _number(tasks):
        body = tasks
    else:
        raise _bad(text, f"{shown(tasks)} is not an array index")
    try:
        return arrayspec.parse_ranges(body)
    except CraneError as error:
        raise _bad(text, error.message) from None


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def format_job_id(job_id: int, task: int = -1) -> str:
    """`12`, or `12_3` for an array task."""
    return f"{job_id}_{task}" if task >= 0 else str(job_id)


def format_step(step: int) -> str:
    """`0`, `batch` or `extern`."""
    for word, number in _STEP_WORDS.items():
        if number == step:
            return word
    return str(step)


def format_selector(selector: JobSelector) -> str:
    """The id as one would type it."""
    text = str(selector.job_id)
    if selector.tasks:
        ranges = arrayspec.format_ranges(selector.tasks)
        text += f"_{ranges}" if ranges.isdigit() else f"_[{ranges}]"
    if selector.component >= 0:
        text += f"+{selector.component}"
    return text if selector.step is None else f"{text}.{format_step(selector.step)}"
