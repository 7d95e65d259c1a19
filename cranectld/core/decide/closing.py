"""Collecting how attempts end within one decision: shares let go, endings begun, ends reached.

Deciding must not change the state, yet several reports of one command build upon one another. This
is the overlay: what the decision has found so far, by job.
"""

from __future__ import annotations

from crane.states import JobState, Reason
from cranectld.core.apply_runs import outcome_of
from cranectld.core.events import (
    Event,
    JobEnd,
    JobEnding,
    JobsEnded,
    JobsEnding,
    ShareReleased,
    SharesReleased,
)
from cranectld.core.outcome import BatchEnd, job_end, node_failure
from cranectld.core.state import Job, Run, State


class Closing:
    """Events that end attempts, in the order in which they must be folded."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._gone: dict[int, dict[str, None]] = {}
        self._endings: dict[int, JobEnding] = {}
        self._batches: dict[int, BatchEnd] = {}
        self._looked_at: dict[int, Job] = {}
        self._shares: list[ShareReleased] = []
        self._ends: list[JobEnd] = []

    def holds(self, job: Job, run: Run, node: str) -> bool:
        """Whether the node still holds its share, as far as this decision knows."""
        return node in run.holding and node not in self._gone.get(job.job_id, ())

    def is_ending(self, job: Job, run: Run) -> bool:
        """Whether the attempt is being ended, or its batch script has ended."""
        if run.ending is not None or run.batch_end is not None:
            return True
        return job.job_id in self._endings or job.job_id in self._batches

    def batch_ended(self, job: Job, outcome: BatchEnd) -> None:
        """The batch script ended."""
        self._batches[job.job_id] = outcome
        self._looked_at[job.job_id] = job

    def released_with_step(self, job: Job, node: str) -> None:
        """The node lets go by the report of a step's end, which carries it."""
        self._gone.setdefault(job.job_id, {})[node] = None
        self._looked_at[job.job_id] = job

    def release(self, job: Job, run: Run, node: str) -> None:
        """The node lets go. If nothing was ending the attempt, it is lost with the node."""
        if not self.holds(job, run, node):
            return
        self._gone.setdefault(job.job_id, {})[node] = None
        self._looked_at[job.job_id] = job
        self._shares.append(ShareReleased(job.job_id, run.attempt, node))

    def lose(self, job: Job, run: Run, node: str) -> None:
        """The node and what ran on it are gone for certain: the attempt fails."""
        if not self.is_ending(job, run):
            self.end(job, node_failure(self._state, job, run))
        self.release(job, run, node)

    def end(self, job: Job, ending: JobEnding) -> None:
        """End the attempt, with this outcome."""
        self._endings[job.job_id] = ending
        self._looked_at[job.job_id] = job

    def cancel(self, job: Job, run: Run, by_uid: int) -> None:
        """End the attempt as cancelled; one that only was to be run again is not any more."""
        under_way = run.ending
        if under_way is not None and not under_way.requeue:
            return
        if under_way is None and run.batch_end is not None:
            return  # its script has ended: the outcome stands
        self.end(
            job,
            JobEnding(job.job_id, run.attempt, JobState.CANCELLED, Reason.CANCELLED, by_uid),
        )

    def end_waiting(self, job: Job, state: JobState, reason: Reason, by_uid: int = -1) -> None:
        """A waiting job ends without running."""
        self._ends.append(JobEnd(job.job_id, 0, state, reason, 0, 0, by_uid))

    def events(self) -> list[Event]:
        """What to log; those that carry nothing are left out."""
        endings: list[JobEnding] = []
        ends = list(self._ends)
        for job_id, job in self._looked_at.items():
            run = job.run
            assert run is not None
            gone = self._gone.get(job_id, {})
            ending = self._endings.get(job_id)
            if len(gone) < len(run.holding):
                if ending is not None:
                    endings.append(ending)
                continue
            batch = self._batches.get(job_id) or outcome_of(run)
            ends.append(job_end(self._state, job, run, ending or run.ending, batch))
        events: list[Event] = []
        if self._shares:
            events.append(SharesReleased(tuple(self._shares)))
        if endings:
            events.append(JobsEnding(tuple(endings)))
        if ends:
            events.append(JobsEnded(tuple(ends)))
        return events
