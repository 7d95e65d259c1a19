"""Folds events into a state and collects the rows of the read model they change.

Rows of what stays in the state are made once per transaction, from the last word; what leaves the
state (an array task that ended, a forgotten job) is taken down as it leaves.
"""

from __future__ import annotations

from typing import Any

from crane.jobspec import JobSpec
from crane.states import StepState
from cranectld.core import events as ev
from cranectld.core.apply import apply
from cranectld.core.state import Job, State
from cranectld.projector.rows import (
    Row,
    attempt_row,
    ended_task_row,
    job_row,
    step_row,
    task_index,
)


class Specs:
    """Ids of specs in the read model, by identity first: hashing a spec costs microseconds."""

    def __init__(self, bound: int = 65_536) -> None:
        self._bound = bound
        self._ids: dict[int, tuple[JobSpec, int]] = {}
        self.unknown: dict[int, JobSpec] = {}
        """Specs that have no id yet, under a provisional negative one."""

    def id_of(self, spec: JobSpec) -> int:
        """The id; negative: provisional, until the transaction gives it one."""
        found = self._ids.get(id(spec))
        if found is not None:
            return found[1]
        if len(self._ids) >= self._bound and not self.unknown:
            self._ids.clear()
        given = -1 - len(self.unknown)
        self.unknown[given] = spec
        self._ids[id(spec)] = (spec, given)
        return given

    def settle(self, ids: dict[int, int]) -> None:
        """The provisional ids became these."""
        for given, spec in self.unknown.items():
            self._ids[id(spec)] = (spec, ids[given])
        self.unknown.clear()


class Projection:
    """A state and the rows that changed since they were last taken."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.specs = Specs()
        self.attempts: dict[tuple[int, int], Row] = {}
        self.steps: dict[tuple[int, int, int], Row] = {}
        self._jobs: dict[int, Row] = {}
        self._changed: dict[int, None] = {}
        self.weight = 0
        """Events and rows since the last snapshot: what a restart would have to fold."""

    @property
    def pending(self) -> int:
        """Rows waiting to be written, about."""
        return len(self._changed) + len(self._jobs) + len(self.steps)

    def fold(self, logged: ev.Logged) -> None:
        """Apply an event and note what it changed."""
        event = logged.event
        before = len(self._changed)
        if isinstance(event, ev.JobsEnded):
            self._fold_ends(logged, event)
        elif isinstance(event, ev.JobsForgotten):
            self._forget(event.job_ids)
            apply(self.state, logged)
        else:
            apply(self.state, logged)
            for job_id in changed_jobs(event):
                self._changed[job_id] = None
            if isinstance(event, ev.StepsEnded):
                self._fold_steps(event)
        self.weight += 1 + abs(len(self._changed) - before)

    def seed(self) -> None:
        """Everything in the state is to be written: the log before it is not there any more."""
        self._changed.update(dict.fromkeys(self.state.jobs))

    def take_jobs(self) -> list[Row]:
        """Rows of jobs to write, and of the attempts they are in; empties the notes."""
        jobs = self.state.jobs
        for job_id in self._changed:
            job = jobs[job_id]
            self._jobs[job_id] = self._row(job)
            if job.run is not None:
                key = (job_id, job.run.attempt)
                self.attempts[key] = attempt_row(job, job.run, None, self.state.time)
        rows = list(self._jobs.values())
        self._jobs.clear()
        self._changed.clear()
        self.state.touched.clear()  # the planner's view is not kept here
        return rows

    def _row(self, job: Job) -> Row:
        return job_row(job, self._task(job), self.specs.id_of(job.submission.spec))

    def _task(self, job: Job) -> int:
        if not job.array_id:
            return -1
        return task_index(self.state.jobs[job.array_id], job.position)

    def _fold_ends(self, logged: ev.Logged, event: ev.JobsEnded) -> None:
        jobs = self.state.jobs
        ending = [(end, jobs[end.job_id], self._task(jobs[end.job_id])) for end in event.ends]
        apply(self.state, logged)
        for end, job, task in ending:
            run = job.last_run
            if run is not None and run.attempt == end.attempt:
                key = (end.job_id, run.attempt)
                self.attempts[key] = attempt_row(job, run, end, logged.time)
                for step in run.steps.values():
                    self.steps[(*key, step.step)] = step_row(end.job_id, run, step)
            if job.array_id:
                spec_id = self.specs.id_of(job.submission.spec)
                self._jobs[end.job_id] = ended_task_row(job, task, spec_id, end, logged.time)
                self._changed.pop(end.job_id, None)
                self._changed[job.array_id] = None
            else:
                self._changed[end.job_id] = None

    def _fold_steps(self, event: ev.StepsEnded) -> None:
        """Steps of `crun` are written as they end: the state keeps a limited number of them."""
        for end in event.ends:
            job_id, number, attempt = end.key
            run = self.state.jobs[job_id].run
            assert run is not None
            step = run.steps.get(number)
            if step is not None and number >= 0 and step.state is StepState.ENDED:
                self.steps[(job_id, attempt, number)] = step_row(job_id, run, step)

    def _forget(self, job_ids: tuple[int, ...]) -> None:
        for job_id in job_ids:
            if job_id in self._changed:
                self._jobs[job_id] = self._row(self.state.jobs[job_id])
                del self._changed[job_id]


def changed_jobs(event: Any) -> list[int]:
    """Jobs whose rows an event changes (ends and forgetting aside)."""
    match event:
        case ev.JobsSubmitted():
            return list(range(event.first_id, event.first_id + len(event.jobs)))
        case ev.TasksStarted():
            started = [start.job_id for start in event.starts]
            return started + [start.array_id for start in event.starts if start.array_id]
        case ev.JobsHeld() | ev.JobsReleased():
            return [target.job_id for target in event.targets]
        case ev.JobUpdated():
            return [event.job_id]
        case ev.JobsEnding():
            return [ending.job_id for ending in event.jobs]
        case ev.ArrayTasksCancelled():
            return [event.array_id]
        case ev.JobsRequeued():
            return [*event.job_ids, *(target.job_id for target in event.tasks)]
        case _:
            return []
