"""What is due when: deadlines, fences of lost nodes, and the forgetting of ended jobs."""

from __future__ import annotations

import heapq

from crane.jobspec import JobSpec
from crane.states import ENDED, JobState
from cranectld.core.state import Job, State

NS = 1_000_000_000


def next_due(state: State) -> int | None:
    """Instant (ns) of the next thing `Tick` would act on; None: nothing is foreseen. O(1)."""
    due = state.alarms[0][0] if state.alarms else None
    if state.ended:
        forget = state.ended[0][0] + state.config.timeouts.min_job_age * NS
        due = forget if due is None else min(due, forget)
    return due


def due_alarms(heap: list[tuple[int, int]], now: int) -> list[tuple[int, int]]:
    """Entries up to `now` of a heap that must not change. O(as many as there are)."""
    found: list[tuple[int, int]] = []
    places = [0]
    while places:
        place = places.pop()
        if place < len(heap) and heap[place][0] <= now:
            found.append(heap[place])
            places += (2 * place + 1, 2 * place + 2)
    return found


def next_begin(state: State, now: int) -> int | None:
    """Instant after `now` at which the next waiting job becomes eligible; a pass is worthwhile then.
    O(1), but O(jobs with a begin time) right after one has passed.
    """
    if state.begins and state.begins[0][0] > now:
        return state.begins[0][0]
    return min((instant for instant, _ in state.begins if instant > now), default=None)


def latest_start(spec: JobSpec) -> int:
    """Instant after which the job cannot end before its deadline; 0: no deadline."""
    if not spec.deadline:
        return 0
    least = spec.time_min or max(spec.time_limit, 0)
    return spec.deadline - least * NS


def set_eligible(state: State, job: Job, instant: int, now: int) -> None:
    """A waiting job may start from this instant, or from its begin time if that is later."""
    job.eligible_time = max(instant, job.spec.begin)
    if job.eligible_time > now:
        heapq.heappush(state.begins, (job.eligible_time, job.job_id))


def watch_deadline(state: State, job: Job) -> None:
    """Have a waiting job looked at when its deadline cannot be met any more."""
    if job.spec.deadline:
        heapq.heappush(state.alarms, (latest_start(job.spec), job.job_id))


def waits(job: Job) -> bool:
    """Whether the job, or a task of it, waits to be started."""
    return job.array.pending > 0 if job.array is not None else job.state is JobState.PENDING


def prune(state: State) -> None:
    """Drop what is stale from the front of the queues, so that `next_due` needs not look further."""
    alarms, jobs = state.alarms, state.jobs
    while alarms and not _alarm_holds(jobs.get(alarms[0][1]), alarms[0][0]):
        heapq.heappop(alarms)
    begins = state.begins
    while begins and begins[0][0] <= state.time:
        heapq.heappop(begins)
    ended = state.ended
    while ended:
        job = jobs.get(ended[0][1])
        if job is not None and job.state in ENDED and job.end_time == ended[0][0]:
            break
        ended.popleft()


def _alarm_holds(job: Job | None, instant: int) -> bool:
    if job is None:
        return False
    if job.run is not None and instant in job.run.fences.values():
        return True
    return waits(job) and latest_start(job.spec) == instant
