"""Instants and lengths of time as the tables show them (Slurm's forms)."""

from __future__ import annotations

from crane.jobspec import UNLIMITED
from crane.timespec import NS, format_duration, format_when

TYPE_CHECKING = False

if TYPE_CHECKING:
    from crane.client.model import JobInfo, StepInfo


def when(instant: int, unset: str = "N/A") -> str:
    """`2026-11-19T21:00:00`."""
    return format_when(instant, unset=unset)


def elapsed(job: JobInfo | StepInfo, now: int) -> int:
    """Seconds a job or step has run, up to its end or `now`."""
    if not job.start_time:
        return 0
    ended = job.state.name == "ENDED" or getattr(job, "ended", False)
    end = job.end_time if ended and job.end_time else now
    return max(0, (end - job.start_time) // NS)


def limit(seconds: int) -> str:
    """A time limit: `1:00:00`, `UNLIMITED`."""
    return format_duration(seconds)


def left(job: JobInfo, now: int) -> str:
    """What is left of the time limit."""
    if job.time_limit == UNLIMITED:
        return "UNLIMITED"
    return format_duration(max(0, job.time_limit - elapsed(job, now)))
