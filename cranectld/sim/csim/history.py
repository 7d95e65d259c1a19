"""The controller's own log as a history: every attempt of a job, and every change of a node.

The log is only read, through a connection that cannot write, a few rows at a time: a controller may
be at work on it. Its events are folded by the controller's own `apply`, so that what they mean is
said in one place. Where the log no longer goes back to its first event, the oldest snapshot that it
continues stands for what is gone.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

from crane.config.model import SchedulerConfig
from crane.errors import CraneError
from crane.jobspec import JobSpec
from cranectld.core import events as ev
from cranectld.core.apply import apply
from cranectld.core.eligibility import startable
from cranectld.core.fold import NodeRow, RunningRow, node_row, running_row
from cranectld.core.state import Job, State
from cranectld.sim.csim.errors import CsimError
from cranectld.store.reader import LogReader
from cranectld.store.schema import LOG_NAME
from cranectld.store.snapshot import list_snapshots, read_snapshot
from sched_core.codes import VerdictCode

_SQLITE = b"SQLite format 3\0"
_NODE_EVENTS = (ev.ConfigApplied, ev.NodeRegistered, ev.NodeLost, ev.NodeChanged)
Record = tuple[int, int]
"""A job (id, -1), or a task of an array (id of the array, position)."""


@dataclass(slots=True)
class Attempt:
    """One run of a job or task. Instants are ns."""

    record: Record
    job_id: int
    uid: int
    spec: JobSpec
    priority: int
    array_limit: int
    """Tasks of its array that may run at once; 0: any number, or no task."""
    submit: int
    """Of its first attempt; of others, when it was to be run again."""
    eligible: int
    """From when on nothing but resources kept it."""
    start: int
    cpus: int
    """Thousandths it was given."""
    end: int = 0
    """0: it runs when the log ends."""


@dataclass(slots=True)
class History:
    """What a log tells."""

    begin: int = 0
    end: int = 0
    """Instants (ns) of the first and the last event read."""
    attempts: list[Attempt] = field(default_factory=list)
    """By start."""
    changes: list[tuple[int, NodeRow]] = field(default_factory=list)
    """What a node is from an instant (ns) on."""
    running: list[tuple[RunningRow, int]] = field(default_factory=list)
    """What ran when the log begins, and when (ns) it ended; 0: not by the end of the log."""
    policies: list[SchedulerConfig] = field(default_factory=list)
    """In force one after the other."""
    waiting: int = 0
    """Jobs and tasks that wait when the log ends."""
    cancelled: int = 0
    """Jobs and tasks that ended without having started."""
    runs_again: int = 0
    """Attempts that were not their job's last."""


def is_log(path: str) -> bool:
    """Whether a path is a controller's state directory, or its log."""
    if os.path.isdir(path):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def read_history(path: str) -> History:
    """The history in a state directory (or its `log.db`). Raises CsimError."""
    state_dir = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(path) and os.path.basename(path) != LOG_NAME:
        raise CsimError(f"{path}: a log is named {LOG_NAME}; copy it with its directory")
    try:
        with contextlib.closing(LogReader(state_dir)) as reader:
            first, last = reader.bounds()
            if not last:
                raise CsimError(f"{path}: no event in it; the controller has not been started yet")
            recorder = _Recorder(_first_state(state_dir, first))
            for logged in reader.read(recorder.state.seq + 1):
                recorder.take(logged)
    except CraneError as error:
        raise CsimError(f"{error.message}{'; ' if error.hint else ''}{error.hint}") from error
    return recorder.history()


def _first_state(state_dir: str, first: int) -> State:
    """What the log's first event builds on."""
    if first == 1:
        return State()
    reason = "there is none"
    for seq in list_snapshots(state_dir):
        if seq + 1 < first:
            continue
        try:
            return read_snapshot(state_dir, seq, any_schema=True)
        except (CraneError, FileNotFoundError) as error:
            reason = str(error)
    raise CsimError(
        f"{state_dir}: the log begins with event {first:,} and needs a snapshot of what was before: "
        f"{reason}; copy the whole state directory"
    )


class _Recorder:
    """Folds events and notes what a replay needs."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._history = History()
        self._open: dict[int, int] = {}
        """Waiting job or array -> from when on nothing but resources keeps it (ns)."""
        self._again: dict[Record, int] = {}
        """When a job or task was to be run again (ns)."""
        self._going: dict[int, Attempt] = {}
        self._left: dict[int, RunningRow] = {}
        self._nodes: dict[str, NodeRow] = {}
        if state.seq:
            self._begin_in_the_middle()

    def take(self, logged: ev.Logged) -> None:
        """Fold the next event."""
        history, event = self._history, logged.event
        history.begin = history.begin or logged.time
        history.end = logged.time
        if isinstance(event, ev.TasksStarted):
            for start in event.starts:
                self._start(start, logged.time)
        elif isinstance(event, ev.JobsEnded):
            for end in event.ends:
                self._end(end, logged.time)
        elif isinstance(event, ev.ArrayTasksCancelled):
            history.cancelled += sum(last - first + 1 for first, last in event.positions)
        elif isinstance(event, ev.JobsRequeued):
            self._run_again(event, logged.time)
        apply(self.state, logged)
        if isinstance(event, ev.ConfigApplied):
            self._configured(event)
        if isinstance(event, _NODE_EVENTS):
            self._look_at_nodes(logged.time)
        self._look_at_jobs(logged.time)

    def history(self) -> History:
        """What was noted, when all events have been taken."""
        history, state = self._history, self.state
        history.running += [(row, 0) for row in self._left.values()]
        for job in state.jobs.values():
            if job.array is not None:
                history.waiting += job.array.pending
            elif not job.array_id and startable(state, job) is not None:
                history.waiting += 1
        return history

    def _begin_in_the_middle(self) -> None:
        state = self.state
        self._history.begin = self._history.end = state.time
        self._history.policies.append(state.config.scheduler)
        self._look_at_nodes(state.time)
        for job in state.jobs.values():
            row = running_row(job)
            if row is not None:
                self._left[job.job_id] = row
            state.touched[job.job_id] = None
        self._look_at_jobs(state.time)

    def _start(self, start: ev.TaskStart, now: int) -> None:
        owner = self.state.jobs[start.array_id or start.job_id]
        record = (owner.job_id, start.position if start.array_id else -1)
        submit = self._again.pop(record, owner.submit_time)
        array = owner.submission.array
        made = Attempt(
            record=record,
            job_id=start.job_id,
            uid=owner.uid,
            spec=owner.spec,
            priority=owner.priority,
            array_limit=array.limit if array is not None else 0,
            submit=submit,
            eligible=min(max(self._open.get(owner.job_id, now), submit), now),
            start=now,
            cpus=sum(share.cpus for share in start.shares),
        )
        self._going[start.job_id] = made
        self._history.attempts.append(made)

    def _end(self, end: ev.JobEnd, now: int) -> None:
        history = self._history
        left = self._left.pop(end.job_id, None)
        if left is not None:
            history.running.append((left, now))
        attempt = self._going.pop(end.job_id, None)
        if attempt is not None:
            attempt.end = now
        elif left is None:
            history.cancelled += 1
        if end.requeue:
            history.runs_again += 1
            job = self.state.jobs[end.job_id]
            self._again[(job.array_id, job.position) if job.array_id else (job.job_id, -1)] = now

    def _run_again(self, event: ev.JobsRequeued, now: int) -> None:
        again: list[Record] = [(job_id, -1) for job_id in event.job_ids]
        for target in event.tasks:
            for first, last in target.positions:
                again += [(target.job_id, position) for position in range(first, last + 1)]
        self._history.runs_again += len(again)
        self._again.update(dict.fromkeys(again, now))

    def _configured(self, event: ev.ConfigApplied) -> None:
        scheduler = event.config.scheduler
        if self._history.policies[-1:] != [scheduler]:
            self._history.policies.append(scheduler)
        # Which partitions there are says which jobs may start: look at all of them.
        self.state.touched.update(dict.fromkeys(self.state.jobs))

    def _look_at_nodes(self, now: int) -> None:
        """Note what has become another. O(nodes), for events that are rare."""
        found = {name: node_row(node) for name, node in self.state.nodes.items()}
        for name, old in self._nodes.items():
            found.setdefault(name, old._replace(usable=False))
        changed = [row for name, row in found.items() if self._nodes.get(name) != row]
        self._history.changes += [(now, row) for row in changed]
        self._nodes = found

    def _look_at_jobs(self, now: int) -> None:
        """Note from when on nothing but resources keeps what an event touched."""
        state = self.state
        for job_id in state.touched:
            job = state.jobs.get(job_id)
            if job is not None and _may_start(state, job):
                self._open.setdefault(job_id, max(now, job.eligible_time))
            else:
                self._open.pop(job_id, None)
        state.touched.clear()


def _may_start(state: State, job: Job) -> bool:
    """Whether nothing but resources, or the limit of its array, keeps a job that waits."""
    verdict = startable(state, job)
    if verdict is None:
        return False
    return verdict.gate in (0, VerdictCode.ARRAY_LIMIT)
