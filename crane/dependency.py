"""Dependencies between jobs as users write them (sbatch(1), --dependency).

`afterok:12:13,after:4+5`: all of the conditions; `afterany:3_4?afternotok:5`: any of them.
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, did_you_mean, shown
from crane.jobspec import Dependency, DependencyKind, DependencyTerm

MAX_TERMS = 1_024
MAX_JOB_ID = (1 << 32) - 2
MAX_TASK = (1 << 31) - 2
MAX_DELAY = 366 * 86_400
"""Longest delay of `after:job+minutes`, in seconds."""

WORDS = {
    "after": DependencyKind.AFTER,
    "afterany": DependencyKind.AFTER_ANY,
    "afterok": DependencyKind.AFTER_OK,
    "afternotok": DependencyKind.AFTER_NOT_OK,
    "aftercorr": DependencyKind.AFTER_CORR,
    "singleton": DependencyKind.SINGLETON,
}
_WORD_OF = {kind: word for word, kind in WORDS.items()}
_HINT = "write afterok:12:13,after:14+5 (all of them) or afterok:12?afternotok:13 (any of them)"


def _bad(text: str, why: str, hint: str = _HINT) -> CraneError:
    return CraneError(ErrorCode.BAD_DEPENDENCY, f"invalid dependency {shown(text)}: {why}", hint)


def parse(text: str) -> Dependency:
    """Conditions of a `--dependency` text; repeated ones count once. Raises BAD_DEPENDENCY."""
    any_of = "?" in text
    if any_of and "," in text:
        raise _bad(text, "',' (all of) and '?' (any of) cannot be mixed")
    if text.count(":") + text.count("," if not any_of else "?") > MAX_TERMS:
        raise CraneError(
            ErrorCode.BAD_DEPENDENCY,
            f"a job may depend on at most {MAX_TERMS} conditions",
            "make it depend on a job that collects them",
        )
    terms: dict[DependencyTerm, None] = {}
    for item in text.split("?" if any_of else ","):
        terms |= dict.fromkeys(_item(item, text))
    return Dependency(tuple(terms), any_of and len(terms) > 1)


def _item(item: str, text: str) -> list[DependencyTerm]:
    """Terms of one `kind:job:job` item."""
    word, colon, jobs = item.partition(":")
    kind = WORDS.get(word.lower())
    if kind is None:
        raise _bad(text, f"unknown kind {shown(word)}", did_you_mean(word, WORDS) or _HINT)
    if kind is DependencyKind.SINGLETON:
        if colon:
            raise _bad(text, "singleton takes no job")
        return [DependencyTerm(kind)]
    if not jobs:
        raise _bad(text, f"{word} names no job")
    return [_term(kind, job, text) for job in jobs.split(":")]


def _term(kind: DependencyKind, job: str, text: str) -> DependencyTerm:
    """One `12`, `12_3` or, for `after`, `12+5`."""
    name, plus, minutes = job.partition("+")
    job_id, underscore, task = name.partition("_")
    if underscore and task == "*":  # the whole array, which is what the plain id means
        underscore = ""
    if not _number(job_id, MAX_JOB_ID) or int(job_id) == 0:
        raise _bad(text, f"{shown(job)} is not a job")
    if underscore and not _number(task, MAX_TASK):
        raise _bad(text, f"{shown(task)} is not an array index")
    if plus and kind is not DependencyKind.AFTER:
        raise _bad(text, "only 'after' takes a delay")
    if plus and not _number(minutes, MAX_DELAY // 60):
        raise _bad(text, f"the delay {shown(minutes)} is not a number of minutes within a year")
    delay = int(minutes) * 60 if plus else 0
    return DependencyTerm(kind, int(job_id), int(task) if underscore else -1, delay)


def _number(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most


def format_dependency(dependency: Dependency | None) -> str:
    """The text of a dependency; neighbouring terms of one kind share its word. Empty for none."""
    if dependency is None:
        return ""
    groups: list[str] = []
    previous: DependencyKind | None = None
    for term in dependency.terms:
        if term.kind is DependencyKind.SINGLETON:
            groups.append("singleton")
        elif term.kind is previous and not dependency.any_of:
            groups[-1] += f":{_job(term)}"
        else:
            groups.append(f"{_WORD_OF[term.kind]}:{_job(term)}")
        previous = term.kind
    return ("?" if dependency.any_of else ",").join(groups)


def _job(term: DependencyTerm) -> str:
    task = f"_{term.task}" if term.task >= 0 else ""
    return f"{term.job_id}{task}" + (f"+{term.delay // 60}" if term.delay else "")
