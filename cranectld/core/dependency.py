"""Dependencies: which terms of a job are open, when they are fulfilled, and when never (sbatch(1)).

A job's `unmet` holds its open terms. `state.dependents` leads from a job in memory to the live jobs
with an open term on it, so that a start or an end looks at those alone. Terms of `aftercorr` between
two arrays gate single tasks (bits of the task column); all others gate the job as a whole.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Mapping

from crane.jobspec import Dependency, DependencyKind, DependencyTerm
from crane.states import ENDED, JobState, Reason
from cranectld.core import arrays
from cranectld.core.commands import PastJob
from cranectld.core.state import TASK_NEVER, TASK_WAITS, UNSTARTED, ArrayRecord, Job, State

NS = 1_000_000_000
OPEN, MET, NEVER = 0, 1, 2

MANY = -2
"""In place of an index: tasks of an array, and it does not matter which."""

Verdict = tuple[int, int]
"""OPEN, MET or NEVER, and for MET the instant from which it holds."""
Past = Mapping[tuple[int, int], PastJob]


def blocked(job: Job) -> bool:
    """Whether dependencies keep the whole job from starting now."""
    if not job.unmet:
        return False
    if job.array is None:
        return True
    dependency = _dependency(job)
    gating = [_gates_tasks(job, dependency.terms[i]) for i in job.unmet]
    return not any(gating) if dependency.any_of else not all(gating)


def enrol(state: State, job: Job, past: Past, now: int) -> None:
    """A job became live, or got another dependency: evaluate its terms and index the open ones."""
    dependency = job.submission.dependency
    if dependency is None or not dependency.terms:
        job.unmet = None
        return
    _enrol_terms(state, job, dict.fromkeys(range(len(dependency.terms)), False), past, now)


def enrol_again(state: State, job: Job, now: int) -> None:
    """An ended job is live again: what was open when it ended is looked at anew."""
    if job.unmet:
        _enrol_terms(state, job, job.unmet, {}, now)


def withdraw(state: State, job: Job) -> None:
    """Take a job out of the index: it ended, or its dependency changes. `unmet` stays."""
    if job.unmet:
        terms = _dependency(job).terms
        for target in dict.fromkeys(terms[i].job_id for i in job.unmet):
            _drop_edge(state, target, job)


def notify(state: State, target: int, index: int, now: int) -> None:
    """Job `target` (or its task of this index, or MANY of them) started, ended or waits again."""
    followers = state.dependents.get(target)
    if followers is None:
        return
    for job_id in list(followers):
        job = state.jobs[job_id]
        terms = _dependency(job).terms
        assert job.unmet
        touched = False
        for i in [i for i in job.unmet if terms[i].job_id == target]:
            touched |= _look_again(state, job, i, terms[i], index)
        if touched:
            if not any(terms[i].job_id == target for i in job.unmet):
                _drop_edge(state, target, job)
            _settle(state, job, now)


def _look_again(state: State, job: Job, i: int, term: DependencyTerm, index: int) -> bool:
    """Evaluate one open term after a change of its target; whether that changed anything."""
    unmet = job.unmet
    assert unmet is not None
    if _gates_tasks(job, term):
        if index >= 0:
            _refresh_task(state, job, index)
        elif index == MANY:
            _gate_tasks(state, job)
        if _ended(state, term.job_id):
            _close_tasks_term(job, unmet, i)
        elif unmet[i]:
            unmet[i] = False  # the other array was ended, and has tasks to run again
        return True
    verdict, instant = _evaluate(state, term, {})
    if verdict == MET:
        del unmet[i]
        job.eligible_time = max(job.eligible_time, instant)
    elif unmet[i] == (verdict == NEVER):
        return False
    else:
        unmet[i] = verdict == NEVER
    return True


def _enrol_terms(state: State, job: Job, indices: Mapping[int, bool], past: Past, now: int) -> None:
    """Evaluate these terms; `unmet` becomes the open and the hopeless ones."""
    terms = _dependency(job).terms
    unmet: dict[int, bool] = {}
    job.unmet = unmet
    for i in indices:
        term = terms[i]
        if term.kind is DependencyKind.SINGLETON:
            if not is_first_singleton(state, job):
                unmet[i] = False
            continue
        if _gates_tasks(job, term):
            unmet[i] = False
            continue
        verdict, instant = _evaluate(state, term, past)
        if verdict == MET:
            job.eligible_time = max(job.eligible_time, instant)
        else:
            unmet[i] = verdict == NEVER
    _gate_tasks(state, job)
    for i in list(unmet):
        term = terms[i]
        if _gates_tasks(job, term) and _ended(state, term.job_id):
            _close_tasks_term(job, unmet, i)
    for target in dict.fromkeys(terms[i].job_id for i in unmet):
        if target in state.jobs:
            state.dependents.setdefault(target, {})[job.job_id] = None
    _settle(state, job, now)


def _settle(state: State, job: Job, now: int) -> None:
    """Draw the conclusion from the open terms."""
    dependency, unmet = _dependency(job), job.unmet
    assert unmet is not None
    if dependency.any_of and len(unmet) < len(dependency.terms):
        withdraw(state, job)
        unmet.clear()
        free_tasks(job)
    if job.reason is Reason.DEPENDENCY_NEVER_SATISFIED:
        job.reason = Reason.NONE
    if not unmet:
        job.unmet = None
        job.eligible_time = max(job.eligible_time, now)
        if job.eligible_time > now:
            heapq.heappush(state.begins, (job.eligible_time, job.job_id))
    elif (all if dependency.any_of else any)(unmet.values()):
        job.reason = Reason.DEPENDENCY_NEVER_SATISFIED
    state.touched[job.job_id] = None


def _evaluate(state: State, term: DependencyTerm, past: Past) -> Verdict:
    """Verdict of a term that gates the whole job (not singleton)."""
    other = state.jobs.get(term.job_id)
    if other is None:
        record = past.get((term.job_id, term.task)) or past.get((term.job_id, -1))
        if record is None:
            return NEVER, 0
        return _judge(term, record.start_time, record.state, record.end_time)
    if other.array is None:
        return _judge(term, other.start_time, other.state, other.end_time)
    if term.task >= 0:
        position = other.array.places.position_of(term.task)
        if position is None:
            return NEVER, 0
        value = other.array.state[position]
        if arrays.is_unstarted(value):
            return OPEN, 0
        live = other.array.running.get(position)
        ended_at = other.array.end_time[position]
        started_at = state.jobs[live].start_time if live is not None else ended_at
        return _judge(term, started_at, JobState(value), ended_at)
    started_at = other.array.last_start if other.array.pending == 0 else 0
    return _judge(term, started_at, other.state, other.end_time)


def _judge(term: DependencyTerm, started_at: int, job: JobState, ended_at: int) -> Verdict:
    """Whether a job or task in this state fulfils a term. A start long past may be unknown: then
    the delay counts from its end.
    """
    ended = job in ENDED
    if term.kind is DependencyKind.AFTER:
        since = started_at or (ended_at if ended else 0)
        return (MET, since + term.delay * NS) if since else (OPEN, 0)
    if not ended:
        return OPEN, 0
    if term.kind is DependencyKind.AFTER_ANY:
        return MET, 0
    good = job is JobState.COMPLETED
    wanted = term.kind is not DependencyKind.AFTER_NOT_OK
    return (MET if good == wanted else NEVER), 0


def _dependency(job: Job) -> Dependency:
    dependency = job.submission.dependency
    assert dependency is not None
    return dependency


def _drop_edge(state: State, target: int, job: Job) -> None:
    followers = state.dependents.get(target)
    if followers is not None and followers.pop(job.job_id, 0) is None and not followers:
        del state.dependents[target]


def _array_of(state: State, job_id: int) -> ArrayRecord | None:
    other = state.jobs.get(job_id)
    return None if other is None else other.array


def _ended(state: State, job_id: int) -> bool:
    other = state.jobs.get(job_id)
    return other is None or other.state in ENDED


# --- aftercorr: terms that gate single tasks -----------------------------------------------------


def _gates_tasks(job: Job, term: DependencyTerm) -> bool:
    """Whether a term is `aftercorr` of an array on a whole job."""
    return job.array is not None and term.kind is DependencyKind.AFTER_CORR and term.task < 0


def _close_tasks_term(job: Job, unmet: dict[int, bool], i: int) -> None:
    """The other array has ended: what its tasks came to is in the column. With `?` the term stays,
    as one that fulfils nothing more; with `,` it is done with.
    """
    if _dependency(job).any_of:
        unmet[i] = True
    else:
        del unmet[i]


def _tasks_terms(state: State, job: Job) -> list[tuple[DependencyTerm, ArrayRecord]]:
    """Terms that gate single tasks, with the array in memory they look at."""
    assert job.unmet is not None
    terms = _dependency(job).terms
    found = []
    for i in job.unmet:
        record = _array_of(state, terms[i].job_id) if _gates_tasks(job, terms[i]) else None
        if record is not None:
            found.append((terms[i], record))
    return found


def _code(value: int) -> int:
    """Bits that a counterpart in this state of the task column puts on a task."""
    if value == JobState.COMPLETED:
        return 0
    ended = value < UNSTARTED and value != 0 and JobState(value) in ENDED
    return TASK_NEVER if ended else TASK_WAITS


_CODES = bytes(
    _code(v) and (UNSTARTED | _code(v)) if v >= UNSTARTED or v <= max(JobState) else 0
    for v in range(256)
)


def _gate_tasks(state: State, job: Job) -> None:
    """Set the bits of all unstarted tasks from their counterparts."""
    found = _tasks_terms(state, job)
    if not found:
        return
    record = job.array
    assert record is not None
    other = found[0][1]
    untouched = record.pending == record.count and not record.held
    if untouched and _is_only_one(job, found) and other.spec.ranges == record.spec.ranges:
        record.state[:] = other.state.translate(_CODES)
        record.free = record.state.count(0)
        record.cursor = 0
    else:
        for position in range(record.count):
            if arrays.is_unstarted(record.state[position]):
                _set_task(job, record, position, found)


def _is_only_one(job: Job, found: list[tuple[DependencyTerm, ArrayRecord]]) -> bool:
    terms = _dependency(job).terms
    return len(found) == 1 and sum(_gates_tasks(job, term) for term in terms) == 1


def _refresh_task(state: State, job: Job, index: int) -> None:
    """The counterpart of this index changed."""
    record = job.array
    assert record is not None
    position = record.places.position_of(index)
    if position is None or record.state[position] < UNSTARTED:
        return  # no such task, free already, or started
    _set_task(job, record, position, _tasks_terms(state, job))


def _set_task(
    job: Job,
    record: ArrayRecord,
    position: int,
    found: list[tuple[DependencyTerm, ArrayRecord]],
) -> None:
    """Combine what all counterparts of one task say. What an array said that has ended since is in
    the task's own bits.
    """
    index = record.places.index_at(position)
    codes = []
    for _, other in found:
        place = other.places.position_of(index)
        codes.append(TASK_NEVER if place is None else _code(other.state[place]))
    if _dependency(job).any_of:
        bits = 0 if 0 in codes else TASK_WAITS if TASK_WAITS in codes else TASK_NEVER
    else:
        bits = 0 if _is_only_one(job, found) else record.state[position] & TASK_NEVER
        for code in codes:
            bits |= code
    kept = record.state[position] & (UNSTARTED - 1) & ~(TASK_WAITS | TASK_NEVER)
    arrays.set_bits(record, position, kept | bits)


def free_tasks(job: Job) -> None:
    """No counterpart matters any more."""
    if job.array is not None:
        for position, value in enumerate(job.array.state):
            if value > UNSTARTED:
                arrays.set_bits(job.array, position, value & ~(UNSTARTED | TASK_WAITS | TASK_NEVER))


# --- singleton -----------------------------------------------------------------------------------


def singleton_key(job: Job) -> tuple[int, str]:
    """What singleton jobs are counted by."""
    return job.uid, job.submission.name


def is_first_singleton(state: State, job: Job) -> bool:
    """Whether no earlier live job of its name and user is left; True if none is tracked."""
    ids = state.singletons.get(singleton_key(job))
    return not ids or ids[0] >= job.job_id


def track_singletons(state: State, keys: dict[tuple[int, str], None]) -> None:
    """Singleton jobs of these names and users come: list their live jobs. O(jobs) if any is new.

    Each of the keys must then get a live job (`join_singletons`): an empty list is not kept.
    """
    new = {key: list[int]() for key in keys if key not in state.singletons}
    if not new:
        return
    for job in state.jobs.values():
        if job.array_id == 0 and job.state not in ENDED:
            ids = new.get(singleton_key(job))
            if ids is not None:
                insort(ids, job.job_id)
    state.singletons |= new


def join_singletons(state: State, job: Job) -> None:
    """A job became live (again), or got this name."""
    ids = state.singletons.get(singleton_key(job))
    if ids is not None:
        place = bisect_left(ids, job.job_id)
        if ids[place : place + 1] != [job.job_id]:
            ids.insert(place, job.job_id)


def rename_singleton(state: State, job: Job, now: int) -> None:
    """A live job got its present name: if it waits for others of its name, for those of the new."""
    unmet = job.unmet or {}
    terms = _dependency(job).terms if unmet else ()
    waiting = [i for i in unmet if terms[i].kind is DependencyKind.SINGLETON]
    if waiting:
        track_singletons(state, {singleton_key(job): None})
    join_singletons(state, job)
    if waiting and is_first_singleton(state, job):
        for i in waiting:
            del unmet[i]
        _settle(state, job, now)


def leave_singletons(state: State, job: Job, now: int) -> None:
    """A job ended, or loses this name: the next one of the name may go."""
    key = singleton_key(job)
    ids = state.singletons.get(key)
    if ids is None:
        return
    place = bisect_left(ids, job.job_id)
    assert ids[place] == job.job_id
    del ids[place]
    if not ids:
        del state.singletons[key]
        return
    head = state.jobs[ids[0]]
    if place or not head.unmet:
        return
    terms = _dependency(head).terms
    done = [i for i in head.unmet if terms[i].kind is DependencyKind.SINGLETON]
    for i in done:
        del head.unmet[i]
    if done:
        _settle(state, head, now)
