"""ListJobs: which jobs are meant, in pages, made in slices so that nobody else waits for it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace

from crane.states import ENDED
from crane.v1 import control_pb2 as pb
from cranectld.core.arrays import Span, merged, spans_of
from cranectld.core.commands import SelectedId, Selector
from cranectld.core.query import has_filter, matches, task_state
from cranectld.core.state import Job, State
from cranectld.rpc.pace import Pace
from cranectld.rpc.requests import bad
from cranectld.rpc.views import JobViews

DEFAULT_PAGE = 1000
LARGEST_PAGE = 10_000


def page_size(asked: int) -> int:
    """Rows of a page."""
    return min(asked or DEFAULT_PAGE, LARGEST_PAGE)


def parse_token(token: str) -> tuple[int, int]:
    """Job id and array position after which the page begins. Raises BAD_REQUEST."""
    if not token:
        return 0, -1
    job_id, _, position = token.partition(":")
    if not (job_id.isascii() and job_id.isdigit() and len(token) < 32):
        raise bad(f"page token {token[:40]!r} is not of this query")
    if position and not (position.isascii() and position.isdigit()):
        raise bad(f"page token {token[:40]!r} is not of this query")
    return min(int(job_id), 2**32), int(position) if position else -1


class Listing:
    """One ListJobs request. Between slices the state moves on: each row is true when it is made."""

    def __init__(
        self, state: State, views: JobViews, selector: Selector, *, expand: bool = False
    ) -> None:
        """`expand`: a row for every task of an array instead of one for what has no row of its own."""
        self._state = state
        self._views = views
        self._selector = selector
        self._any_state = replace(selector, states=())
        self._expand = expand
        self._spans: dict[int, list[Span] | None] = {}
        some: dict[int, list[Span]] = {}
        for item in selector.ids:
            self._name(item, some)
        for job_id, spans in some.items():
            if job_id not in self._spans:
                self._spans[job_id] = merged(spans)

    def _name(self, item: SelectedId, some: dict[int, list[Span]]) -> None:
        """Take an id: a whole array also means its live tasks, which have ids of their own. Tasks
        named of an array are added to `some`.
        """
        job = self._state.jobs.get(item.job_id)
        if job is None or (item.ranges and job.array is None):
            return
        if job.array is None or not item.ranges:
            self._spans[item.job_id] = None
            if job.array is not None:
                self._spans |= dict.fromkeys(job.array.running.values())
        else:
            some.setdefault(item.job_id, []).extend(spans_of(job.array, item.ranges))

    async def page(self, token: str, size: int) -> tuple[list[pb.JobInfo], str]:
        """Rows by rising job id, at most `size`, and the token of the next page."""
        after, position = parse_token(token)
        selector, jobs = self._selector, self._state.jobs
        if selector.ids:
            ids = sorted(self._spans)
        elif has_filter(selector) or selector.everything:
            ids = sorted(jobs)
        else:
            return [], ""  # an empty selector selects nothing
        rows: list[pb.JobInfo] = []
        pace = Pace()
        for place in range(bisect_right(ids, after - 1 if position >= 0 else after), len(ids)):
            job = jobs.get(ids[place])
            if job is not None and matches(job, self._any_state):
                for at in self._rows(job, position if job.job_id == after else -1, rows):
                    if len(rows) >= size:
                        return rows, f"{job.job_id}:{at}" if at >= 0 else str(job.job_id)
                    if pace.due:
                        await pace.breathe()
            if pace.due:
                await pace.breathe()
        return rows, ""

    def _rows(self, job: Job, after: int, rows: list[pb.JobInfo]) -> Iterator[int]:
        """Add a job's rows; yields the position each step has reached, -1 after the job itself."""
        spans = self._spans.get(job.job_id)
        record = job.array
        if record is None or (spans is None and not self._expand):
            shown = record is None or record.pending or job.state in ENDED or record.ended
            if shown and matches(job, self._selector):
                rows.append(self._views.job(job))
            yield -1
            return
        for first, last in spans or [(0, record.count - 1)]:
            for position in range(max(first, after + 1), last + 1):
                self._task(job, position, rows, live=spans is not None)
                yield position

    def _task(self, job: Job, position: int, rows: list[pb.JobInfo], *, live: bool) -> None:
        """Add the row of one task, if its state matches; one that lives only where it was named."""
        record = job.array
        assert record is not None
        states = self._selector.states
        if position in record.running:
            task = self._state.jobs.get(record.running[position])
            if live and task is not None and (not states or task.state in states):
                rows.append(self._views.job(task))
        elif not states or task_state(job, position) in states:
            rows.append(self._views.task(job, position, record.places.index_at(position)))
