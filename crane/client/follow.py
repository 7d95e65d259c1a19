"""Following what happens: a stream of events that survives a restart, and waiting for jobs."""

from __future__ import annotations

import time

from crane.client import decode
from crane.client.connect import connect
from crane.client.model import JobEvent, JobInfo
from crane.client.selection import of_ids
from crane.client.transport import ConnectionLostError
from crane.errors import CraneError, ErrorCode
from crane.wire import light

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crane.client.client import Client
    from crane.client.model import Event

PATIENCE = 60.0
"""Seconds without a controller after which following gives up."""

_FIRST_PAUSE = 0.05
_LAST_PAUSE = 2.0


def follow(
    address: str, since_seq: int, job_ids: Sequence[int], *, from_start: bool, deadline: float
) -> Iterator[tuple[Event, ...]]:
    """Batches of events after `since_seq`; connects again by itself from the last one seen.

    `deadline` is on the monotonic clock (TIMED_OUT); infinity for none.
    """
    seq, silent_since, pause = since_seq, time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            for events, upto in _stream(address, seq, job_ids, from_start, deadline):
                seq = max(seq, upto)
                from_start = from_start and seq == 0
                silent_since, pause = time.monotonic(), _FIRST_PAUSE
                yield events
            raise ConnectionLostError(
                ErrorCode.CONTROLLER_UNREACHABLE, "the controller ended the stream"
            )
        except CraneError as error:
            if error.code is not ErrorCode.CONTROLLER_UNREACHABLE:
                raise
            now = time.monotonic()
            if now + pause > deadline:
                raise _timed_out() from None
            if now - silent_since > PATIENCE:
                raise
        time.sleep(pause)  # nobody listens: there is no event to wait for
        pause = min(2 * pause, _LAST_PAUSE)


def _stream(
    address: str, seq: int, job_ids: Sequence[int], from_start: bool, deadline: float
) -> Iterator[tuple[tuple[Event, ...], int]]:
    """One connection's worth of events, with the sequence each batch goes up to."""
    request = light.message("WatchEventsRequest")(
        since_seq=seq, job_ids=list(job_ids), from_start=from_start
    )
    transport = connect(address)
    try:
        left = None if deadline == float("inf") else max(deadline - time.monotonic(), 0.001)
        answers = transport.stream("WatchEvents", request.SerializeToString(), left)
        for body in answers:
            reply = light.message("WatchEventsReply").FromString(body)
            events = (decode.event(event) for event in reply.events)
            yield tuple(event for event in events if event is not None), reply.seq
            if time.monotonic() > deadline:
                raise _timed_out()
    finally:
        transport.close()


def _timed_out() -> CraneError:
    return CraneError(ErrorCode.TIMED_OUT, "the time to wait is over", "the jobs go on")


class Waiting:
    """Waits for jobs to end: one query, then events, then one query for what has ended."""

    def __init__(self, client: Client, job_ids: Sequence[int], timeout: float | None) -> None:
        self._client = client
        self._left: dict[int, int] = dict.fromkeys(job_ids, 0)
        """Job: how many of its tasks are known to be unfinished (0: ask)."""
        self._deadline = float("inf") if timeout is None else time.monotonic() + timeout
        self.ended: dict[int, JobInfo] = {}

    def run(self) -> dict[int, JobInfo]:
        """Final state of each job. Raises UNKNOWN_JOB, TIMED_OUT."""
        seq = self._ask(tuple(self._left))
        if not self._left:
            return self.ended
        stream = follow(
            self._client.address, seq, tuple(self._left), from_start=True, deadline=self._deadline
        )
        try:
            for events in stream:
                due = {job for event in events if (job := self._note(event))}
                if due:
                    self._ask_again(sorted(due))
                if not self._left:
                    break
        finally:
            stream.close()  # type: ignore[attr-defined]
        return self.ended

    def _note(self, event: Event) -> int:
        """Count one event; the job it may have ended, or 0."""
        if not isinstance(event, JobEvent):
            return 0
        job = event.job_id if event.job_id in self._left else event.array_job_id
        if job not in self._left:
            return 0
        if event.state.ended:
            self._left[job] -= 1
            return job if self._left[job] <= 0 else 0
        if event.state.name in {"PENDING", "REQUEUED"}:
            self._left[job] += 1  # run again: its end was not the last one
        return 0

    def _ask_again(self, job_ids: Sequence[int]) -> None:
        """Look jobs up while the controller may just be restarted."""
        silent_since, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                self._ask(job_ids)
            except CraneError as error:
                now = time.monotonic()
                over = now - silent_since > PATIENCE or now + pause > self._deadline
                if over or error.code is not ErrorCode.CONTROLLER_UNREACHABLE:
                    raise
            else:
                return
            time.sleep(pause)  # nobody listens: there is no event to wait for
            pause = min(2 * pause, _LAST_PAUSE)

    def _ask(self, job_ids: Sequence[int]) -> int:
        """Look the jobs up; note those that ended. The sequence the answer reflects."""
        rows, seq = self._client.rows(of_ids(job_ids))
        by_job: dict[int, list[JobInfo]] = {job: [] for job in job_ids}
        for row in rows:
            for job in {row.job_id, row.array_job_id} & by_job.keys():
                by_job[job].append(row)
        gone = [job for job, found in by_job.items() if not found]
        if gone:
            for row in self._client.history(of_ids(gone)):
                for job in {row.job_id, row.array_job_id} & set(gone):
                    by_job[job].append(row)
        for job, found in by_job.items():
            if not found:
                raise CraneError(
                    ErrorCode.UNKNOWN_JOB, f"there is no job {job}", "cacct lists past jobs"
                )
            unfinished = _unfinished(found)
            if unfinished:
                self._left[job] = unfinished
            else:
                del self._left[job]
                self.ended[job] = summary(job, found)
        return seq


def _unfinished(rows: Sequence[JobInfo]) -> int:
    """How many tasks of a job have not ended; a job that is no array is one task."""
    own = [row for row in rows if row.task_states]
    if own:
        return sum(n for state, n in own[0].task_states.items() if not state.ended)
    return sum(1 for row in rows if not row.ended)


def summary(job_id: int, rows: Sequence[JobInfo]) -> JobInfo:
    """The row that tells how a job ended: its own, or of an array the task that ended worst."""
    worst = max(rows, key=lambda row: (row.exit_status, row.job_id == job_id))
    own = [row for row in rows if row.job_id == job_id]
    return own[0] if own and own[0].exit_status == worst.exit_status else worst
