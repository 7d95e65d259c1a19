"""The way of a batch of jobs into the loop, kept cheap per job.

What jobs share is converted once: a spec per distinct message (remembered across requests by its
bytes), a blob per distinct content. A large request becomes several commands, so that no turn of the
loop lasts long.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from crane.config.model import Limits
from crane.errors import CraneError, ErrorCode
from crane.jobspec import NO_BLOB, BlobRef, Dependency, JobSpec, Submission
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from crane.wire.errors import to_wire
from cranectld.core.commands import PastJob, Rejected, SubmitJobs
from cranectld.core.identity import Principal
from cranectld.core.state import State
from cranectld.rpc.intake import Intake
from cranectld.rpc.pace import Pace
from cranectld.rpc.requests import array_of, bad, dependency_of, spec_of, text, within
from cranectld.shell.loop import Loop

JOBS_PER_COMMAND = 200
SPECS_REMEMBERED = 4096
LARGEST_REMEMBERED = 4096
"""Bytes of a spec's message."""
MAX_NAME = 4096
MAX_ARGS = 10_000
MAX_ARGS_BYTES = 1 << 20
DRY = BlobRef(1, 0)
"""Stands for any blob in a dry run, which stores none."""

PastLookup = Callable[[Sequence[tuple[int, int]]], Awaitable[tuple[PastJob, ...]]]


class Submitter:
    """Turns SubmitJobs requests into commands."""

    def __init__(self, loop: Loop, intake: Intake, past: PastLookup) -> None:
        """`past`: outcomes of (job, array index or -1) that have left memory."""
        self._loop = loop
        self._intake = intake
        self._past = past
        self._specs: OrderedDict[bytes, JobSpec] = OrderedDict()

    async def submit(self, caller: Principal, request: pb.SubmitJobsRequest) -> pb.SubmitJobsReply:
        """Submit; one result per job, in order. A malformed request changes nothing."""
        limits = self._loop.state.config.limits
        if not request.jobs:
            raise bad("the request has no jobs")
        if len(request.jobs) > limits.max_batch:
            raise CraneError(
                ErrorCode.LIMIT_EXCEEDED,
                f"{len(request.jobs)} jobs in one request; at most {limits.max_batch}",
                "send several requests",
            )
        pace = Pace()
        specs: list[JobSpec] = []
        for spec in request.specs:
            if pace.due:
                await pace.breathe()
            specs.append(self._spec(spec))
        blobs = list(request.blobs)  # each access to a message's field makes a copy
        _check(request, blobs, limits)
        if not request.dry_run:
            refs = await self._intake.take(blobs, pace)
        else:
            refs = [DRY] * len(blobs)
        jobs: list[Submission] = []
        commands: dict[str, str] = {}
        for message in request.jobs:
            if pace.due:
                await pace.breathe()
            jobs.append(_submission(message, specs, refs, commands))
        pending = [
            asyncio.ensure_future(self._decide(caller, tuple(part), request.dry_run))
            for part in (
                jobs[i : i + JOBS_PER_COMMAND] for i in range(0, len(jobs), JOBS_PER_COMMAND)
            )
        ]
        return await _results(request, pending)

    def _spec(self, message: types.JobSpec) -> JobSpec:
        body = message.SerializeToString()
        known = self._specs.get(body)
        if known is None:
            known = spec_of(message)
            if len(body) > LARGEST_REMEMBERED:
                return known
            self._specs[body] = known
            if len(self._specs) > SPECS_REMEMBERED:
                self._specs.popitem(last=False)
        return known

    async def _decide(
        self, caller: Principal, jobs: tuple[Submission, ...], dry_run: bool
    ) -> object:
        """Reply of one command, or the refusal of all its jobs."""
        missing = past_terms(self._loop.state, (job.dependency for job in jobs))
        past = await self._past(missing) if missing else ()
        try:
            return await self._loop.submit(SubmitJobs(caller, jobs, past, dry_run))
        except Rejected as refusal:
            return (refusal,) * len(jobs)


def past_terms(state: State, dependencies: Iterable[Dependency | None]) -> list[tuple[int, int]]:
    """Jobs, and array indices of them (-1: all), that memory no longer holds."""
    wanted: dict[tuple[int, int], None] = {}
    for dependency in dependencies:
        if dependency is None:
            continue
        for term in dependency.terms:
            if 0 < term.job_id < state.next_job_id and term.job_id not in state.jobs:
                wanted[term.job_id, term.task] = None
    return list(wanted)


def _check(request: pb.SubmitJobsRequest, blobs: Sequence[bytes], limits: Limits) -> None:
    """Indices and sizes. Raises BAD_REQUEST, SCRIPT_TOO_LARGE or LIMIT_EXCEEDED."""
    sizes = [0, *map(len, blobs)]
    specs = len(request.specs)
    for job in request.jobs:
        if job.spec >= specs:
            raise bad(f"spec {job.spec} of {specs}")
        if max(job.script, job.environment) >= len(sizes):
            raise bad(f"blob {max(job.script, job.environment)} of {len(sizes) - 1}")
        if sizes[job.script] > limits.max_script:
            raise CraneError(
                ErrorCode.SCRIPT_TOO_LARGE,
                f"the script has {sizes[job.script]} bytes; at most {limits.max_script}",
                "put data into files, and let the script read them",
            )
        if sizes[job.environment] > limits.max_environment:
            raise CraneError(
                ErrorCode.LIMIT_EXCEEDED,
                f"the environment has {sizes[job.environment]} bytes; "
                f"at most {limits.max_environment}",
                "export only what the job needs (--export)",
            )
        text("the job's name", job.name, MAX_NAME)
        text("the command", job.command, MAX_NAME)
        if job.args:
            within("arguments", len(job.args), MAX_ARGS)
            text("the arguments", "".join(job.args), MAX_ARGS_BYTES)


def _submission(
    message: pb.SubmitJobsRequest.Submission,
    specs: Sequence[JobSpec],
    refs: Sequence[BlobRef],
    commands: dict[str, str],
) -> Submission:
    """One job; `commands`: those of the request so far, so that equal ones are one object."""
    script, environment = message.script, message.environment
    return Submission(
        spec=specs[message.spec],
        name=message.name,
        script=refs[script - 1] if script else NO_BLOB,
        environment=refs[environment - 1] if environment else NO_BLOB,
        args=tuple(message.args),
        dependency=dependency_of(message.dependency) if message.HasField("dependency") else None,
        array=array_of(message.array) if message.HasField("array") else None,
        command=commands.setdefault(message.command, message.command),
    )


async def _results(
    request: pb.SubmitJobsRequest, pending: Sequence[asyncio.Future[object]]
) -> pb.SubmitJobsReply:
    """The reply; if part of a request could not be taken at all, those jobs carry the error."""
    reply = pb.SubmitJobsReply()
    answers = await asyncio.gather(*pending, return_exceptions=True)
    if isinstance(answers[0], BaseException) and all(
        isinstance(answer, BaseException) for answer in answers
    ):
        raise answers[0]
    for place, answer in enumerate(answers):
        if isinstance(answer, CraneError):
            rest = len(request.jobs) - place * JOBS_PER_COMMAND
            outcomes: Sequence[object] = (answer,) * min(rest, JOBS_PER_COMMAND)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            assert isinstance(answer, tuple)
            outcomes = answer
        for outcome in outcomes:
            if isinstance(outcome, int):
                reply.results.add(job_id=outcome)
            else:
                assert isinstance(outcome, Rejected | CraneError)
                code = outcome.code.name if isinstance(outcome, CraneError) else outcome.code
                reply.results.add(error=to_wire(code, outcome.message, outcome.hint))
    return reply
