"""Submitting jobs: per distinct spec the checks, per job next to nothing."""

from __future__ import annotations

from typing import NamedTuple

from crane import arrayspec
from crane.arrayspec import MAX_INDEX
from crane.config.model import Limits
from crane.jobspec import ArraySpec, JobSpec, Submission
from cranectld.core.apply_jobs import past_map, with_spec
from cranectld.core.commands import PastJob, Refusal, Rejected, SubmitJobs
from cranectld.core.decide.decision import Decision
from cranectld.core.decide.dependencies import normalise
from cranectld.core.decide.resolve import priority_of, resolve
from cranectld.core.events import JobsSubmitted
from cranectld.core.identity import Principal
from cranectld.core.state import State

MAX_NAME = 1_024
MAX_ARGS = 10_000
MAX_ARG_CHARS = 1 << 20
MAX_JOB_ID = (1 << 32) - 2


class _Kind(NamedTuple):
    """What holds for all jobs of one spec."""

    spec: JobSpec
    priority: int


class _Specs:
    """Distinct specs of a batch: found by identity first, because hashing one takes a while."""

    def __init__(self, state: State, principal: Principal, now: int) -> None:
        self._state = state
        self._principal = principal
        self._now = now
        self._by_id: dict[int, _Kind | Rejected] = {}
        self._by_value: dict[JobSpec, _Kind | Rejected] = {}

    def kind(self, spec: JobSpec) -> _Kind | Rejected:
        """The spec resolved, or why it is refused. The caller keeps `spec` alive meanwhile."""
        found = self._by_id.get(id(spec))
        if found is None:
            found = self._by_value.get(spec)
            if found is None:
                found = self._by_value[spec] = self._resolve(spec)
            self._by_id[id(spec)] = found
        return found

    def _resolve(self, spec: JobSpec) -> _Kind | Rejected:
        state = self._state
        try:
            resolved = resolve(state, spec, self._principal, self._now)
        except Rejected as refusal:
            return refusal
        resolved = state.specs.get(resolved, resolved)
        return _Kind(resolved, priority_of(state, resolved, self._now))


def submit_jobs(state: State, command: SubmitJobs, now: int) -> Decision:
    """SubmitJobs. Reply: tuple[int | Rejected, ...]; accepted jobs get consecutive ids."""
    limits = state.config.limits
    if len(command.jobs) > limits.max_batch:
        raise Rejected(
            Refusal.LIMIT_EXCEEDED,
            f"{len(command.jobs)} jobs in one batch, the limit is {limits.max_batch}",
            "send them in several batches",
        )
    specs = _Specs(state, command.principal, now)
    past = past_map(command.past)
    room = min(limits.max_jobs - state.live, MAX_JOB_ID - state.next_job_id)
    next_id = state.next_job_id
    accepted: list[Submission] = []
    priorities: list[int] = []
    replies: list[int | Rejected] = []
    depends = False
    tasks = state.tasks
    for given in command.jobs:
        kind = specs.kind(given.spec)
        if isinstance(kind, Rejected):
            replies.append(kind)
            continue
        kept = given if kind.spec is given.spec else with_spec(given, kind.spec)
        if len(accepted) >= room or given.array or given.dependency or given.args or given.name:
            try:
                kept = _check_own(state, kept, past, len(accepted), room)
                if kept.array is not None:
                    tasks = _more_tasks(tasks, kept.array, limits)
            except Rejected as refusal:
                replies.append(refusal)
                continue
            depends = depends or kept.dependency is not None
        replies.append(next_id + len(accepted))
        accepted.append(kept)
        priorities.append(kind.priority)
    reply = tuple(replies)
    if command.dry_run or not accepted:
        return Decision((), reply)
    who = command.principal
    event = JobsSubmitted(
        first_id=next_id,
        uid=who.uid,
        gid=who.gid,
        user=who.user,
        jobs=tuple(accepted),
        priorities=tuple(priorities),
        past=command.past if depends else (),
    )
    return Decision((event,), reply)


def _check_own(
    state: State,
    job: Submission,
    past: dict[tuple[int, int], PastJob],
    accepted: int,
    room: int,
) -> Submission:
    """Check what is a job's own; gives it with its dependency in the form the state keeps."""
    limits = state.config.limits
    if accepted >= room:
        raise Rejected(
            Refusal.LIMIT_EXCEEDED,
            f"{state.live + accepted} jobs are in the queue, the limit is {limits.max_jobs}",
            "wait until some have ended, or use job arrays: an array counts once",
        )
    if len(job.name) > MAX_NAME:
        raise Rejected(Refusal.LIMIT_EXCEEDED, f"the name is longer than {MAX_NAME} characters")
    if job.args and (len(job.args) > MAX_ARGS or sum(map(len, job.args)) > MAX_ARG_CHARS):
        raise Rejected(
            Refusal.LIMIT_EXCEEDED,
            f"more than {MAX_ARGS} arguments or {MAX_ARG_CHARS} characters of them",
            "put them into a file",
        )
    if job.array is not None:
        check_array(job.array, limits)
    if job.dependency is None:
        return job
    kept = normalise(state, job.dependency, job.array, past)
    if kept == job.dependency:
        return job
    return Submission(
        job.spec, job.name, job.script, job.environment, job.args, kept, job.array, job.command
    )


def _more_tasks(tasks: int, spec: ArraySpec, limits: Limits) -> int:
    """Array tasks in memory with these; LIMIT_EXCEEDED if there is no room for their columns."""
    tasks += arrayspec.count(spec)
    if tasks > limits.max_array_tasks:
        raise Rejected(
            Refusal.LIMIT_EXCEEDED,
            f"with it arrays would have {tasks} tasks, the limit is {limits.max_array_tasks}",
            "wait until some arrays have ended, or submit fewer tasks",
        )
    return tasks


def check_array(spec: ArraySpec, limits: Limits) -> None:
    """Raise BAD_ARRAY or LIMIT_EXCEEDED for indices that are malformed or too many."""
    before = -1
    for first, last, step in spec.ranges:
        if not before < first <= last <= MAX_INDEX or step < 1:
            raise Rejected(
                Refusal.BAD_ARRAY,
                f"array indices {first}-{last}:{step} are out of range or out of order",
                "give sorted ranges that do not overlap",
            )
        before = last
    if not spec.ranges or spec.limit < 0:
        raise Rejected(Refusal.BAD_ARRAY, "an array needs indices, and a limit of 0 or more")
    count = arrayspec.count(spec)
    if count > limits.max_array_size:
        raise Rejected(
            Refusal.LIMIT_EXCEEDED,
            f"an array of {count} tasks, the limit is {limits.max_array_size}",
            "split it into several arrays",
        )
