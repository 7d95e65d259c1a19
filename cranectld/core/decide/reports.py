"""Taking an agent's reports: each counts once, and only for the attempt it is about."""

from __future__ import annotations

from crane.jobspec import BATCH_STEP
from crane.session import JobReleased, Report, StepEnded, StepKey, StepStarted
from cranectld.core.commands import TakeReports
from cranectld.core.decide.closing import Closing
from cranectld.core.decide.decision import Decision
from cranectld.core.events import Event, StepEnd, StepRunning, StepsEnded, StepsRunning
from cranectld.core.outcome import batch_end
from cranectld.core.state import Job, Run, State


class _Reports:
    """What the reports of one command have come to so far."""

    def __init__(self, state: State, node: str) -> None:
        self._state = state
        self._node = node
        self._closing = Closing(state)
        self._started: dict[StepKey, StepRunning] = {}
        self._ended: dict[StepKey, StepEnd] = {}

    def take(self, report: Report) -> None:
        """One report; what is stale, repeated or of an unknown step changes nothing."""
        if isinstance(report, StepEnded):
            self._step_ended(report)
        elif isinstance(report, StepStarted):
            self._step_started(report)
        else:
            self._released(report)

    def _attempt(self, job_id: int, attempt: int) -> tuple[Job, Run] | None:
        """The job, if this attempt of it runs and this node holds a share."""
        job = self._state.jobs.get(job_id)
        run = job.run if job is not None else None
        if job is None or run is None or run.attempt != attempt:
            return None
        return (job, run) if self._closing.holds(job, run, self._node) else None

    def _step_started(self, report: StepStarted) -> None:
        key = report.key
        found = self._attempt(key.job_id, key.attempt)
        step = found[1].steps.get(key.step) if found is not None else None
        if step is None or self._node not in step.waiting or self._node in step.confirmed:
            return
        if key not in self._ended and key not in self._started:
            self._started[key] = StepRunning(key, self._node, report.time, report.pid)

    def _step_ended(self, report: StepEnded) -> None:
        key = report.key
        found = self._attempt(key.job_id, key.attempt)
        if found is None:
            return
        job, run = found
        step = run.steps.get(key.step)
        if step is None or self._node not in step.waiting or key in self._ended:
            if report.released and self._closing.is_ending(job, run):
                self._closing.release(job, run, self._node)
            return
        is_batch = key.step == BATCH_STEP
        # While the batch script runs elsewhere, the job keeps its share on a node without steps.
        released = report.released and (is_batch or self._closing.is_ending(job, run))
        end = StepEnd(
            key,
            self._node,
            report.cause,
            report.exit_code,
            report.signal,
            report.message,
            report.start_time,
            report.end_time,
            report.cpu_us,
            report.memory_peak,
            released,
        )
        self._ended[key] = end
        if is_batch:
            self._closing.batch_ended(job, batch_end(end, job, run))
        if released:
            self._closing.released_with_step(job, self._node)

    def _released(self, report: JobReleased) -> None:
        found = self._attempt(report.job_id, report.attempt)
        if found is None:
            return
        job, run = found
        batch = run.steps[BATCH_STEP]
        expected = self._node in batch.waiting
        if expected or self._closing.is_ending(job, run):
            self._closing.lose(job, run, self._node)

    def events(self) -> tuple[Event, ...]:
        """What to log."""
        events: list[Event] = []
        if self._started:
            events.append(StepsRunning(tuple(self._started.values())))
        if self._ended:
            events.append(StepsEnded(tuple(self._ended.values())))
        return (*events, *self._closing.events())


def take_reports(state: State, command: TakeReports, _now: int) -> Decision:
    """TakeReports. Reply: None; of an unknown node nothing is taken."""
    if command.node not in state.nodes:
        return Decision()
    reports = _Reports(state, command.node)
    for report in command.reports:
        reports.take(report)
    return Decision(reports.events())
