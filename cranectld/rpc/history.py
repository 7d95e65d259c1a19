"""ListHistory and the outcomes of old jobs: the projector's read model, never behind what was told.

The read model follows the log some milliseconds later. A query waits for it a moment; if it stays
behind (the projector is being restarted), what memory knows is put over it, so that a job that ended
is always found, recorded or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from crane.errors import CraneError, ErrorCode
from crane.jobspec import BATCH_STEP
from crane.states import ENDED
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from crane.wire import jobspec as wire
from cranectld.core.commands import PastJob, Selector
from cranectld.core.query import has_filter, matches
from cranectld.core.state import Job
from cranectld.projector.history import HistoryJob, HistoryPage, HistoryReader, PastStep
from cranectld.rpc.listing import page_size, parse_token
from cranectld.rpc.pace import Pace
from cranectld.rpc.requests import SELECTED, bad, within
from cranectld.rpc.views import JobViews, limit_of
from cranectld.rpc.waiting import Waiting
from cranectld.shell.clock import Clock
from cranectld.shell.loop import Loop
from cranectld.shell.planning import Planning

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds a query waits for the projector."""
LOOK_AGAIN = 0.02
MAX_INSTANT = 2**62
MAX_IDS = 400
"""Ids and ranges of them, or values of one filter, in one query: SQLite bounds an expression."""


class History:
    """Queries run in a thread of their own."""

    def __init__(
        self,
        loop: Loop,
        state_dir: str,
        planner: Planning | None,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        """`wake`: tells the projector to look at the log now."""
        self._loop = loop
        self._planner = planner
        self._clock = clock
        self._wake = wake
        self._reader = HistoryReader(state_dir)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history-reader")

    def close(self) -> None:
        """Release the read model."""
        self._thread.shutdown(wait=True)
        self._reader.close()

    async def past(self, wanted: Sequence[tuple[int, int]]) -> tuple[PastJob, ...]:
        """Outcomes of jobs (and array tasks by index; -1: the whole) that have left memory."""
        seq = self._loop.durable_seq
        await self._catch_up(seq)
        reader = self._reader

        def look() -> list[PastJob | None]:
            return [reader.outcome(job_id, task) for job_id, task in wanted]

        found = await self._run(look)
        if None in found and await self._run(reader.seq) < seq:
            raise CraneError(
                ErrorCode.UNAVAILABLE,
                "the records of ended jobs are behind: it is not known yet how a job ended that"
                " another is to depend on",
                "try again in a moment",
            )
        return tuple(outcome for outcome in found if outcome is not None)

    async def page(self, selector: Selector, request: pb.ListHistoryRequest) -> pb.ListHistoryReply:
        """One page, by rising job id."""
        within("since", request.since, MAX_INSTANT)
        within("until", request.until, MAX_INSTANT)
        ranges = sum(max(len(item.ranges), 1) for item in selector.ids)
        within("ids and ranges in one query of the history", ranges, MAX_IDS)
        for name in SELECTED[1:]:
            within(f"{name} in one query of the history", len(getattr(selector, name)), MAX_IDS)
        after, _ = parse_token(request.page_token)
        if not (selector.ids or selector.everything or has_filter(selector)):
            raise bad("the request selects nothing", "give ids, a filter, or ask for all")
        size = page_size(request.page_size)
        seq = self._loop.state.seq
        await self._loop.settled()
        await self._catch_up(seq)

        def look() -> HistoryPage:
            return self._reader.query(
                selector, request.since, request.until, size, str(after), attempts=True
            )

        page = await self._run(look)
        specs: dict[int, types.JobSpec] = {}
        pace = Pace()
        rows: dict[int, pb.JobInfo] = {}
        for job in page.jobs:
            rows[job.job_id] = job_info(job, specs, steps=request.steps)
            if pace.due:
                await pace.breathe()
        if page.seq < seq:
            last = page.jobs[-1].job_id if page.next_token else 2**32
            await self._overlay(rows, selector, request, (after, last))
        ids = sorted(rows)
        token = page.next_token
        if len(ids) > size:
            ids = ids[:size]
            token = str(ids[-1])
        jobs = [rows[job_id] for job_id in ids]
        return pb.ListHistoryReply(jobs=jobs, next_page_token=token, seq=max(seq, page.seq))

    async def _overlay(
        self,
        rows: dict[int, pb.JobInfo],
        selector: Selector,
        request: pb.ListHistoryRequest,
        between: tuple[int, int],
    ) -> None:
        """Put what memory knows over the rows with ids above the first and up to the second."""
        state = self._loop.state
        views = JobViews(state, Waiting(self._planner, self._clock.now()), steps=request.steps)
        ids = {item.job_id for item in selector.ids}
        pace = Pace()
        for job in list(state.jobs.values()):
            if between[0] < job.job_id <= between[1]:
                named = not ids or job.job_id in ids or job.array_id in ids
                if named and matches(job, selector) and _overlaps(job, request):
                    rows[job.job_id] = views.job(job)
                else:
                    rows.pop(job.job_id, None)
            if pace.due:
                await pace.breathe()

    async def _catch_up(self, seq: int) -> None:
        """Wait until the read model has seen event `seq`, but not for long."""
        aio = asyncio.get_running_loop()
        deadline = aio.time() + PATIENCE
        while await self._run(self._reader.seq) < seq and aio.time() < deadline:
            self._wake()
            await asyncio.sleep(LOOK_AGAIN)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _overlaps(job: Job, request: pb.ListHistoryRequest) -> bool:
    """Whether the job was in some state between the request's instants."""
    ended = job.state in ENDED
    if request.since and ended and job.end_time < request.since:
        return False
    return not request.until or job.submit_time <= request.until


def job_info(job: HistoryJob, specs: dict[int, types.JobSpec], *, steps: bool) -> pb.JobInfo:
    """A recorded job. `specs`: those already converted, by identity."""
    spec = job.spec
    if id(spec) not in specs:
        specs[id(spec)] = wire.spec_to_wire(spec)
    is_array = job.submission.array is not None and job.task < 0
    info = pb.JobInfo(
        job_id=job.job_id,
        array_job_id=job.job_id if is_array else job.array_id,
        array_task=job.task,
        name=job.submission.name,
        user=job.user,
        uid=job.uid,
        gid=job.gid,
        spec=specs[id(spec)],
        state=types.JobState.ValueType(job.state),
        reason=types.Reason.ValueType(job.reason),
        priority=job.priority,
        submit_time=job.submit_time,
        eligible_time=job.eligible_time,
        start_time=job.start_time,
        end_time=job.end_time,
        exit_code=job.exit_code,
        signal=job.signal,
        attempt=job.attempt,
        restarts=job.restarts,
        args=job.submission.args,
        command=job.submission.command,
        cpu_us=job.cpu_us,
        memory_peak=job.memory_peak,
        cancelled_by=max(job.cancelled_by, 0),
        partition=job.partition,
        time_limit=limit_of(spec, job.start_time),
        task_states={state.value: count for state, count in job.task_states},
    )
    if job.submission.dependency is not None:
        info.dependency.CopyFrom(wire.dependency_to_wire(job.submission.dependency))
    if job.attempts:
        last = job.attempts[-1]
        info.allocation.extend(wire.share_to_wire(share) for share in last.shares)
        if job.state in ENDED:
            said = [step.message for step in last.steps if step.step == BATCH_STEP]
            info.reason_text = said[0] if said else ""
        if steps:
            info.steps.extend(_step(step) for step in last.steps)
    return info


def _step(step: PastStep) -> pb.StepInfo:
    return pb.StepInfo(
        step=step.step,
        state=types.StepState.ValueType(step.state),
        name=step.name,
        start_time=step.start_time,
        end_time=step.end_time,
        exit_code=step.exit_code,
        signal=step.signal,
        nodes=step.nodes,
        ntasks=step.ntasks,
        cpu_us=step.cpu_us,
        memory_peak=step.memory_peak,
    )
