"""Acting on what is due: fences of lost nodes, deadlines, and ended jobs to forget."""

from __future__ import annotations

from crane.states import ENDED, JobState, Reason
from cranectld.core import query
from cranectld.core.commands import Tick
from cranectld.core.decide.closing import Closing
from cranectld.core.decide.decision import Decision
from cranectld.core.due import NS, due_alarms, latest_start, waits
from cranectld.core.events import ArrayTasksCancelled, Event, JobsForgotten
from cranectld.core.state import Job, State

FORGET_AT_ONCE = 1_000
"""Jobs forgotten by one Tick: what is left is due at once again, after others had their turn."""


def tick(state: State, _command: Tick, now: int) -> Decision:
    """Tick. Reply: None."""
    closing = Closing(state)
    deadlines: list[Event] = []
    due = due_alarms(state.alarms, now)
    for job_id in dict.fromkeys(job_id for _, job_id in sorted(due)):
        job = state.jobs.get(job_id)
        if job is not None:
            _pass_fences(closing, job, now)
            _pass_deadline(closing, job, now, deadlines)
    events = closing.events() + deadlines
    forgotten = _to_forget(state, now)
    if forgotten:
        events.append(JobsForgotten(tuple(forgotten)))
    return Decision(tuple(events))


def _pass_fences(closing: Closing, job: Job, now: int) -> None:
    run = job.run
    if run is None:
        return
    for node, fence in run.fences.items():
        if 0 < fence <= now:
            closing.lose(job, run, node)


def _pass_deadline(closing: Closing, job: Job, now: int, events: list[Event]) -> None:
    latest = latest_start(job.spec)
    if not waits(job) or not latest or latest > now:
        return
    if job.array is None:
        closing.end_waiting(job, JobState.DEADLINE, Reason.TIME_LIMIT)
    else:
        spans = tuple(query.unstarted_spans(job))
        events.append(ArrayTasksCancelled(job.job_id, spans, -1, JobState.DEADLINE))


def _to_forget(state: State, now: int) -> list[int]:
    """Ended jobs older than `min_job_age`, oldest first."""
    before = now - state.config.timeouts.min_job_age * NS
    found: dict[int, None] = {}
    for ended_at, job_id in state.ended:
        if ended_at > before or len(found) == FORGET_AT_ONCE:
            break
        job = state.jobs.get(job_id)
        if job is not None and job.state in ENDED and job.end_time == ended_at:
            found[job_id] = None
    return list(found)
