"""What the launcher reports, in the words of the session."""

from __future__ import annotations

from crane.session import EndCause, StepEnded, StepKey, StepStarted
from craned.exec.protocol import Cause, Exited, Report, Started

MAX_MESSAGE = 1_000
"""Characters of a message that goes to the controller."""

_END_CAUSES = {
    Cause.EXIT: EndCause.EXIT,
    Cause.TIMEOUT: EndCause.TIMEOUT,
    Cause.OUT_OF_MEMORY: EndCause.OUT_OF_MEMORY,
    Cause.CANCELLED: EndCause.CANCELLED,
    Cause.LOST: EndCause.LOST,
    Cause.PREEMPTED: EndCause.CANCELLED,
    Cause.DEADLINE: EndCause.CANCELLED,
}
KILL_CAUSES = {
    EndCause.EXIT: Cause.CANCELLED,
    EndCause.TIMEOUT: Cause.TIMEOUT,
    EndCause.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    EndCause.CANCELLED: Cause.CANCELLED,
    EndCause.LAUNCH_FAILED: Cause.CANCELLED,
    EndCause.LOST: Cause.LOST,
}
"""What a step that is ended for this cause is to be reported with."""


def outcome(report: Report, now: int) -> StepStarted | StepEnded:
    """The session's report; `now` stands in for instants the launcher does not know."""
    key = StepKey(*report.key)
    if isinstance(report, Started):
        return StepStarted(key, report.time_ns or now, report.pid)
    if isinstance(report, Exited):
        return StepEnded(
            key,
            _END_CAUSES[report.cause],
            report.exit_code,
            report.signal,
            report.message[:MAX_MESSAGE],
            report.start_ns,
            report.end_ns,
            report.cpu_us,
            report.peak_bytes,
        )
    return StepEnded(
        key,
        EndCause.LAUNCH_FAILED,
        message=report.message[:MAX_MESSAGE],
        start_time=now,
        end_time=now,
    )
