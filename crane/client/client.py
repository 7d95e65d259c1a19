"""`Client`: what users' own programs and the commands ask of the controller."""

from __future__ import annotations

import os

from crane.client import batch, decode, encode
from crane.client.connect import connect
from crane.client.newjob import NewJob, describe
from crane.client.selection import EVERYTHING, Selection, of_ids, to_message
from crane.client.transport import ConnectionLostError, error_of
from crane.errors import CraneError, ErrorCode
from crane.wire import light

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Any, Literal

    from crane.client import model
    from crane.client.transport import Transport
    from crane.selector import JobSelector

    Jobs = Selection | Iterable[int | str | JobSelector]
    NodeAction = Literal["drain", "resume", "down", "fail", "absent"]

_NODE_ACTIONS = {"drain": 1, "resume": 2, "down": 3, "fail": 4, "absent": 5}


class Client:
    """A connection to the controller, made when it is first needed.

    Not to be shared between threads. Every method raises CraneError: what the controller refused,
    or CONTROLLER_UNREACHABLE and TIMED_OUT.
    """

    def __init__(self, address: str = "") -> None:
        """`address`: a socket's path or HOST:PORT; empty: as crane.client.connect finds it."""
        self.address = address
        self.answered_at = 0
        """The controller's clock (ns) at its last answer to `jobs` or `nodes`."""
        self._transport: Transport | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the next request connects again."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    # Submitting.

    def submit(self, script: str = "", **options: Any) -> int:
        """Submit one job and return its id: `submit("job.sh", time=10, args=["x"])`,
        `submit(command=["prog", "-v"], ntasks=4)`; see crane.client.newjob.describe.
        """
        return self.submit_job(describe(script, **options))

    def submit_job(self, job: NewJob, *, dry_run: bool = False) -> int:
        """Submit one described job; `dry_run` only asks whether it would be accepted (id 0)."""
        filled = batch.Batch(light)
        filled.add(job)
        body = self._changing("SubmitJobs", filled.encoded(dry_run=dry_run))
        (result,) = self._decode("SubmitJobsReply", body).results
        error = error_of(result.error)
        if error is not None:
            raise error
        number: int = result.job_id
        return number

    def submit_many(self, jobs: Iterable[NewJob]) -> Iterator[int | CraneError]:
        """Submit many jobs: the id of each, or why it was refused, in order.

        Jobs travel in batches of up to 1,000, what they share once per batch, several batches under
        way at a time. The iterator has to be run to its end for all of them to be submitted.
        """
        from crane.client.generated import messages  # noqa: PLC0415 - 40 ms, worth it from here on

        pb = messages()
        bodies = (filled.encoded() for filled in batch.batches(pb, jobs))
        for body in self._connected().pipeline("SubmitJobs", bodies):
            for result in pb.SubmitJobsReply.FromString(body).results:
                yield error_of(result.error) or result.job_id

    # Changing.

    def cancel(
        self, jobs: Jobs, *, signal: int = 0, batch_only: bool = False
    ) -> tuple[model.Change, ...]:
        """Cancel jobs, tasks or steps (SIGTERM, grace, SIGKILL), or send a signal and no more."""
        return self._change(
            "CancelJobs",
            light.message("CancelJobsRequest")(
                selector=to_message(light, _selection(jobs)), signal=signal, batch_only=batch_only
            ),
        )

    def hold(self, jobs: Jobs) -> tuple[model.Change, ...]:
        """Keep pending jobs from starting."""
        return self._change_jobs(jobs, hold=light.message("ChangeJobsRequest.Hold")())

    def release(self, jobs: Jobs) -> tuple[model.Change, ...]:
        """Undo a hold."""
        return self._change_jobs(jobs, release=light.message("ChangeJobsRequest.Release")())

    def requeue(self, jobs: Jobs, *, hold: bool = False) -> tuple[model.Change, ...]:
        """End what runs of the jobs and queue them again (`hold`: held)."""
        return self._change_jobs(
            jobs, requeue=light.message("ChangeJobsRequest.Requeue")(hold=hold)
        )

    def update(self, jobs: Jobs, **fields: Any) -> tuple[model.Change, ...]:
        """Change pending (some fields also of running) jobs: priority, nice, time_limit (seconds),
        name, comment, partition, account, qos, begin and deadline (ns), requeue, features,
        array_limit, wckey, reservation, extra, dependency (crane.jobspec.Dependency).
        """
        if "dependency" in fields:
            fields["dependency"] = encode.dependency(light, fields["dependency"])
        return self._change_jobs(jobs, update=light.message("ChangeJobsRequest.Update")(**fields))

    def change_nodes(
        self, names: Sequence[str], action: NodeAction, reason: str = ""
    ) -> tuple[model.Change, ...]:
        """Drain nodes, resume them, set them down or failed, or confirm that they are off."""
        request = light.message("ChangeNodesRequest")(
            names=list(names), action=_NODE_ACTIONS[action], reason=reason
        )
        return self._change("ChangeNodes", request)

    def reconfigure(self) -> tuple[str, ...]:
        """Have the controller read its configuration file again; what changed, in words."""
        reply = self._ask("Reconfigure", light.message("ReconfigureRequest")(), "ReconfigureReply")
        error = error_of(reply.error)
        if error is not None:
            raise error
        return tuple(reply.changes)

    # Asking.

    def jobs(
        self,
        selection: Jobs = EVERYTHING,
        *,
        expand_arrays: bool = False,
        steps: bool = False,
        page_size: int = 0,
    ) -> Iterator[model.JobInfo]:
        """Jobs the controller has in memory: waiting, running, and ended a short while ago."""
        pages = self._pages(
            "ListJobs", selection, page_size, expand_arrays=expand_arrays, steps=steps
        )
        for reply in pages:
            self.answered_at = reply.now
            yield from decode.jobs(reply.jobs)

    def rows(self, selection: Jobs) -> tuple[list[model.JobInfo], int]:
        """All matching jobs and the log's sequence that the first page of the answer reflects."""
        rows: list[model.JobInfo] = []
        seq = 0
        for reply in self._pages("ListJobs", selection, 0):
            seq = seq or reply.seq
            rows += decode.jobs(reply.jobs)
        return rows, seq

    def job(self, job: int | str) -> model.JobInfo:
        """One job, with its steps; of the past too. Raises UNKNOWN_JOB."""
        for source in (self.jobs, self.history):
            for found in source(of_ids([job]), steps=True):
                return found
        raise CraneError(ErrorCode.UNKNOWN_JOB, f"there is no job {job}", "cacct lists past jobs")

    def history(
        self,
        selection: Jobs = EVERYTHING,
        *,
        since: int = 0,
        until: int = 0,
        steps: bool = False,
        page_size: int = 0,
    ) -> Iterator[model.JobInfo]:
        """Jobs from the accounting tables, also long past ones; `since` and `until` in ns."""
        pages = self._pages(
            "ListHistory", selection, page_size, since=since, until=until, steps=steps
        )
        for reply in pages:
            yield from decode.jobs(reply.jobs)

    def explain(self, job: int, task: int = -1, *, sooner: bool = False) -> model.Explanation:
        """Why a job waits."""
        request = light.message("ExplainJobRequest")(job_id=job, task=task, sooner=sooner)
        return decode.explanation(self._ask("ExplainJob", request, "ExplainJobReply"))

    def nodes(
        self, names: Sequence[str] = (), partitions: Sequence[str] = ()
    ) -> tuple[model.NodeInfo, ...]:
        """Nodes; all of them if nothing is named."""
        request = light.message("ListNodesRequest")(names=list(names), partitions=list(partitions))
        reply = self._ask("ListNodes", request, "ListNodesReply")
        self.answered_at = reply.now
        return tuple(decode.node(node) for node in reply.nodes)

    def partitions(self, names: Sequence[str] = ()) -> tuple[model.PartitionInfo, ...]:
        """Partitions; all of them if nothing is named."""
        request = light.message("ListPartitionsRequest")(names=list(names))
        reply = self._ask("ListPartitions", request, "ListPartitionsReply")
        return tuple(decode.partition(partition) for partition in reply.partitions)

    def status(self) -> model.Status:
        """The controller's own state, figures and effective configuration."""
        request = light.message("GetStatusRequest")()
        return decode.status(self._ask("GetStatus", request, "GetStatusReply"))

    # Following.

    def events(
        self,
        since_seq: int = 0,
        jobs: Sequence[int] = (),
        *,
        from_start: bool = False,
        timeout: float | None = None,
    ) -> Iterator[model.Event]:
        """What happens after `since_seq` (0: from now on, or with `from_start` from the oldest
        event kept). The iterator connects again by itself and goes on where it was; `event.seq` is
        what to give to resume in another process. `timeout` seconds end it with TIMED_OUT.
        """
        import time  # noqa: PLC0415 - queries need none

        from crane.client.follow import follow  # noqa: PLC0415

        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        batches = follow(self.address, since_seq, jobs, from_start=from_start, deadline=deadline)
        for events in batches:
            yield from events

    def wait(self, jobs: Iterable[int], timeout: float | None = None) -> dict[int, model.JobInfo]:
        """Wait for jobs to end; how each ended (of an array, its worst task).

        Told by events, not by asking again and again. Raises TIMED_OUT, UNKNOWN_JOB.
        """
        from crane.client.follow import Waiting  # noqa: PLC0415 - most programs do not wait

        return Waiting(self, tuple(dict.fromkeys(jobs)), timeout).run()

    # Inside.

    def _connected(self) -> Transport:
        if self._transport is None:
            self._transport = connect(self.address, os.environ)
        return self._transport

    def _reading(self, method: str, body: bytes) -> bytes:
        """A request that changes nothing: asked again if the controller was restarted meanwhile."""
        fresh = self._transport is None
        try:
            return self._connected().call(method, body)
        except ConnectionLostError:
            self.close()
            if fresh:
                raise
            return self._connected().call(method, body)

    def _changing(self, method: str, body: bytes) -> bytes:
        """A request that changes something: never sent twice."""
        try:
            return self._connected().call(method, body)
        except ConnectionLostError as error:
            self.close()
            error.hint = "it may have been carried out or not: look before trying again (cqueue)"
            raise

    def _decode(self, name: str, body: bytes) -> Any:
        try:
            return light.message(name).FromString(body)
        except light.DecodeError as error:
            raise CraneError(
                ErrorCode.PROTOCOL,
                f"the controller's answer is no {name}: {error}",
                "use the same version of the commands and the daemons",
            ) from None

    def _ask(self, method: str, request: Any, reply: str) -> Any:
        return self._decode(reply, self._reading(method, request.SerializeToString()))

    def _change(self, method: str, request: Any) -> tuple[model.Change, ...]:
        body = self._changing(method, request.SerializeToString())
        return decode.changes(self._decode("ChangeReply", body))

    def _change_jobs(self, jobs: Jobs, **change: Any) -> tuple[model.Change, ...]:
        selector = to_message(light, _selection(jobs))
        request = light.message("ChangeJobsRequest")(selector=selector, **change)
        return self._change("ChangeJobs", request)

    def _pages(self, method: str, jobs: Jobs, page_size: int, **more: Any) -> Iterator[Any]:
        selector = to_message(light, _selection(jobs))
        token = ""
        while True:
            request = light.message(f"{method}Request")(
                selector=selector, page_size=page_size, page_token=token, **more
            )
            reply = self._ask(method, request, f"{method}Reply")
            yield reply
            token = reply.next_page_token
            if not token:
                return


def _selection(jobs: Jobs) -> Selection:
    return jobs if isinstance(jobs, Selection) else of_ids(jobs)
