"""Reading the state: which jobs a selector means, how arrays and nodes look from outside."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from crane.selector import format_job_id
from crane.states import JobState, NodeState, Reason
from cranectld.core import arrays
from cranectld.core.arrays import Span
from cranectld.core.commands import SelectedId, Selector
from cranectld.core.state import (
    TASK_HELD,
    TASK_HELD_OPERATOR,
    TASK_NEVER,
    TASK_WAITS,
    UNSTARTED,
    Job,
    Node,
    State,
)

WHOLE = -1
"""In place of a position: the job itself, or an array's own record."""

Selected = tuple[Job, int]
"""A job or a live task with WHOLE, or an array's record with the position of one of its tasks."""


def subject(state: State, job: Job, position: int = WHOLE) -> str:
    """The id a user knows the job by: `12`, `12_3`."""
    if job.array_id:
        array = state.jobs[job.array_id]
        return format_job_id(job.array_id, arrays.task_index(array, job.position))
    if position != WHOLE:
        return format_job_id(job.job_id, arrays.task_index(job, position))
    return str(job.job_id)


def select(
    state: State, selector: Selector, after: int = 0, *, expand: bool = False
) -> Iterator[Selected]:
    """Jobs a selector means, by rising job id above `after`; everybody may see them.

    An array is its own record (which stands for its unstarted tasks and the ended ones) and a row
    for each live task; `expand` gives a row per unstarted and ended task instead of the record. An
    id with indices gives these tasks alone. Lazily: a page costs O(jobs) to find its beginning.
    """
    if selector.ids:
        named = sorted(dict.fromkeys(selector.ids), key=lambda item: item.job_id)
        for item in named:
            if item.job_id > after:
                yield from _by_id(state, item, selector, expand=expand)
        return
    if not has_filter(selector) and not selector.everything:
        return
    ids = sorted(state.jobs)
    for job_id in ids[bisect_right(ids, after) :]:
        job = state.jobs[job_id]
        if matches(job, selector):
            yield from _rows(job, selector, expand=expand)


def has_filter(selector: Selector) -> bool:
    """Whether the selector has any condition besides ids."""
    return bool(
        selector.users
        or selector.names
        or selector.partitions
        or selector.accounts
        or selector.qos
        or selector.states
        or selector.nodes
        or selector.reservations
        or selector.wckeys
        or selector.licences
    )


def matches(job: Job, selector: Selector) -> bool:
    """Whether a job meets every filter; of an array's record, whether some task may."""
    if selector.users and job.user not in selector.users:
        return False
    if selector.names and job.submission.name not in selector.names:
        return False
    spec = job.spec
    if selector.accounts and spec.account not in selector.accounts:
        return False
    if selector.qos and spec.qos not in selector.qos:
        return False
    if selector.reservations and spec.reservation not in selector.reservations:
        return False
    if selector.wckeys and spec.wckey not in selector.wckeys:
        return False
    if selector.licences and not any(name in selector.licences for name, _ in spec.licences):
        return False
    if selector.partitions and not any(p in selector.partitions for p in partitions_of(job)):
        return False
    if selector.nodes and not any(node in selector.nodes for node in nodes_of(job)):
        return False
    return not selector.states or any(state in selector.states for state in states_of(job))


def partitions_of(job: Job) -> tuple[str, ...]:
    """The partition it runs in, or those it asks for."""
    run = job.run or job.last_run
    return (run.partition,) if run is not None else job.spec.partitions


def nodes_of(job: Job) -> Iterator[str]:
    """Nodes of the running or the last attempt."""
    run = job.run or job.last_run
    return (share.node for share in run.shares) if run is not None else iter(())


def states_of(job: Job) -> list[JobState]:
    """The job's state; of an array's record, those of its tasks without a row of their own."""
    record = job.array
    if record is None:
        return [job.state]
    found = [JobState.PENDING] if record.pending else []
    found += [JobState(value) for value in record.ended]
    return found


def task_state(job: Job, position: int) -> JobState:
    """State of one task of an array's record."""
    assert job.array is not None
    value = job.array.state[position]
    return JobState.PENDING if arrays.is_unstarted(value) else JobState(value)


def task_reason(job: Job, position: int) -> Reason:
    """Why an unstarted task of an array waits on its own account; NONE: for no such reason."""
    assert job.array is not None
    value = job.array.state[position]
    if value < UNSTARTED:
        return Reason.NONE
    if value & TASK_HELD:
        operator = value & TASK_HELD_OPERATOR
        return Reason.JOB_HELD_ADMIN if operator else Reason.JOB_HELD_USER
    if value & TASK_NEVER:
        return Reason.DEPENDENCY_NEVER_SATISFIED
    return Reason.DEPENDENCY if value & TASK_WAITS else Reason.NONE


def unstarted_spans(job: Job) -> list[Span]:
    """Positions of an array's unstarted tasks. O(tasks), in C for runs of equal states."""
    record = job.array
    assert record is not None
    if record.pending == record.count:
        return [(0, record.count - 1)]
    if not record.pending:
        return []
    flags = record.state.translate(_UNSTARTED)
    spans: list[Span] = []
    first = flags.find(1)
    while first >= 0:
        last = flags.find(0, first)
        spans.append((first, (last if last >= 0 else record.count) - 1))
        first = flags.find(1, last) if last >= 0 else -1
    return spans


_UNSTARTED = bytes(int(arrays.is_unstarted(value)) for value in range(256))


def _by_id(
    state: State, item: SelectedId, selector: Selector, *, expand: bool
) -> Iterator[Selected]:
    job = state.jobs.get(item.job_id)
    if job is None:
        return
    record = job.array
    if record is None:
        if not item.ranges and matches(job, selector):
            yield job, WHOLE
        return
    if not item.ranges:
        if matches(job, selector):
            yield from _rows(job, selector, expand=expand)
        for task_id in record.running.values():
            task = state.jobs[task_id]
            if matches(task, selector):
                yield task, WHOLE
        return
    for first, last in arrays.spans_of(record, item.ranges):
        for position in range(first, last + 1):
            live = record.running.get(position)
            if live is not None:
                if matches(state.jobs[live], selector):
                    yield state.jobs[live], WHOLE
            elif not selector.states or task_state(job, position) in selector.states:
                yield job, position


def _rows(job: Job, selector: Selector, *, expand: bool) -> Iterator[Selected]:
    record = job.array
    if record is None or not expand:
        yield job, WHOLE
        return
    for position in range(record.count):
        if position not in record.running and (
            not selector.states or task_state(job, position) in selector.states
        ):
            yield job, position


def node_word(node: Node) -> str:
    """How a node is shown: idle, mixed, alloc, drain, drng, down, fail or unknown (sinfo(1))."""
    if node.state is NodeState.DOWN:
        return "down"
    if node.state is NodeState.FAIL:
        return "fail"
    if node.drain:
        return "drng" if node.jobs else "drain"
    if node.state is NodeState.UNKNOWN:
        return "unknown"
    if not node.jobs:
        return "idle"
    return "alloc" if node.exclusive or node.cpus_used >= node.cpus else "mixed"


def count_states(state: State, jobs: Iterable[Job] | None = None) -> dict[JobState, int]:
    """Jobs and array tasks in memory by state. O(jobs)."""
    found: dict[JobState, int] = {}
    for job in state.jobs.values() if jobs is None else jobs:
        record = job.array
        if record is None:
            found[job.state] = found.get(job.state, 0) + 1
            continue
        if record.pending:
            found[JobState.PENDING] = found.get(JobState.PENDING, 0) + record.pending
        for value, count in record.ended.items():
            final = JobState(value)
            found[final] = found.get(final, 0) + count
    return found
