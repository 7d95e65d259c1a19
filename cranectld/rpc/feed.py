"""Events of the log as ClusterEvents: what happened to a job or a node, for those who watch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from crane.states import JobState, NodeState, Reason
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from cranectld.core import events as ev
from cranectld.core.events import Logged
from cranectld.core.state import State

TASKS_REMEMBERED = 50_000
"""Array tasks whose place is remembered after they ended, for those who resume."""


class Translator:
    """Translates in order of the log. Knows which job ids are array tasks, as the log tells."""

    def __init__(self, state: State, live: Translator | None = None) -> None:
        """`state` is consulted for what events do not repeat (array indices, node states).

        `live`: the translator of the live stream, which a catching-up one asks what it does not know.
        """
        self._state = state
        self._live = live
        self._tasks: OrderedDict[int, tuple[int, int]] = OrderedDict()
        if live is None:
            for job in state.jobs.values():
                if job.array_id:
                    self._remember(job.job_id, job.array_id, job.position)
        self._by_kind: dict[type, Callable[[list[pb.ClusterEvent], Logged], None]] = {
            ev.JobsSubmitted: self._submitted,
            ev.JobsHeld: self._held,
            ev.JobsReleased: self._released,
            ev.JobUpdated: self._updated,
            ev.TasksStarted: self._started,
            ev.JobsEnding: self._ending,
            ev.JobsEnded: self._ended,
            ev.ArrayTasksCancelled: self._cancelled,
            ev.JobsRequeued: self._requeued,
            ev.NodeRegistered: self._registered,
            ev.NodeLost: self._lost,
            ev.NodeChanged: self._changed,
        }

    def translate(self, logged: Logged) -> list[pb.ClusterEvent]:
        """What happened; empty for what concerns neither a job's nor a node's state."""
        out: list[pb.ClusterEvent] = []
        make = self._by_kind.get(type(logged.event))
        if make is not None:
            make(out, logged)
        return out

    def _remember(self, job_id: int, array_id: int, position: int) -> None:
        array = self._state.jobs.get(array_id)
        known = array is not None and array.array is not None
        index = array.array.places.index_at(position) if known else -1  # type: ignore[union-attr]
        self._tasks[job_id] = (array_id, index)
        if len(self._tasks) > TASKS_REMEMBERED:
            self._tasks.popitem(last=False)

    def place(self, job_id: int) -> tuple[int, int]:
        """Array and index of a task; (0, -1) for other jobs."""
        known = self._tasks.get(job_id)
        if known is None and self._live is not None:
            known = self._live.place(job_id)
        return known or (0, -1)

    def _job(
        self,
        out: list[pb.ClusterEvent],
        logged: Logged,
        job_id: int,
        state: JobState,
        reason: Reason = Reason.NONE,
        **more: int,
    ) -> None:
        array_id, index = self.place(job_id)
        change = pb.ClusterEvent.JobChange(
            job_id=job_id,
            state=types.JobState.ValueType(state),
            reason=types.Reason.ValueType(reason),
            **({"array_job_id": array_id, "array_task": index} | more),
        )
        out.append(pb.ClusterEvent(seq=logged.seq, time=logged.time, job=change))

    def _submitted(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.JobsSubmitted)
        self._job(out, logged, event.first_id, JobState.PENDING, count=len(event.jobs))

    def _held(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.JobsHeld)
        reason = Reason.JOB_HELD_ADMIN if event.by_operator else Reason.JOB_HELD_USER
        self._targets(out, logged, event.targets, JobState.PENDING, reason)

    def _released(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.JobsReleased)
        self._targets(out, logged, event.targets, JobState.PENDING)

    def _targets(
        self,
        out: list[pb.ClusterEvent],
        logged: Logged,
        targets: tuple[ev.Target, ...],
        state: JobState,
        reason: Reason = Reason.NONE,
    ) -> None:
        for target in targets:
            if target.positions:
                self._spans(out, logged, target.job_id, target.positions, state, reason)
            else:
                self._job(out, logged, target.job_id, state, reason)

    def _spans(
        self,
        out: list[pb.ClusterEvent],
        logged: Logged,
        array_id: int,
        spans: tuple[tuple[int, int], ...],
        state: JobState,
        reason: Reason = Reason.NONE,
    ) -> None:
        """One event per span of tasks: index of the first, and how many."""
        job = self._state.jobs.get(array_id)
        places = job.array.places if job is not None and job.array is not None else None
        for first, last in spans:
            index = places.index_at(first) if places is not None else -1
            count = last - first + 1
            task = {"array_job_id": array_id, "array_task": index, "count": count}
            self._job(out, logged, array_id, state, reason, **task)

    def _updated(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.JobUpdated)
        job = self._state.jobs.get(event.job_id)
        if job is not None:
            self._job(out, logged, event.job_id, job.state, job.reason, attempt=job.attempt)

    def _started(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.TasksStarted)
        for start in event.starts:
            if start.array_id:
                self._remember(start.job_id, start.array_id, start.position)
            self._job(out, logged, start.job_id, JobState.RUNNING, attempt=start.attempt)

    def _ending(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.JobsEnding)
        for job in event.jobs:
            self._job(out, logged, job.job_id, JobState.COMPLETING, job.reason, attempt=job.attempt)

    def _ended(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.JobsEnded)
        for end in event.ends:
            self._job(
                out,
                logged,
                end.job_id,
                end.state,
                end.reason,
                exit_code=end.exit_code,
                signal=end.signal,
                attempt=end.attempt,
            )
            if end.requeue:
                reason = Reason.JOB_HOLD_MAX_REQUEUE if end.hold else Reason.NONE
                self._job(out, logged, end.job_id, JobState.PENDING, reason, attempt=end.attempt)

    def _cancelled(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.ArrayTasksCancelled)
        self._spans(out, logged, event.array_id, event.positions, event.state)

    def _requeued(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.JobsRequeued)
        reason = Reason.JOB_HELD_USER if event.hold else Reason.NONE
        for job_id in event.job_ids:
            self._job(out, logged, job_id, JobState.PENDING, reason)
        self._targets(out, logged, event.tasks, JobState.PENDING, reason)

    # --- nodes -----------------------------------------------------------------------------------

    def _registered(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.NodeRegistered)
        self._node(out, logged, event.registration.node, NodeState.UP, event.drain_reason)

    def _lost(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.NodeLost)
        self._node(out, logged, event.node, NodeState.DOWN, "not responding")

    def _changed(self, out: list[pb.ClusterEvent], logged: Logged) -> None:
        event = logged.event
        assert isinstance(event, ev.NodeChanged)
        node = self._state.nodes.get(event.node)
        state = node.state if node is not None else NodeState.UNKNOWN
        self._node(out, logged, event.node, state, event.reason)

    def _node(
        self, out: list[pb.ClusterEvent], logged: Logged, name: str, state: NodeState, reason: str
    ) -> None:
        node = self._state.nodes.get(name)
        change = pb.ClusterEvent.NodeChange(
            node=name,
            state=types.NodeState.ValueType(state),
            drain=node is not None and node.drain,
            reason=reason,
        )
        out.append(pb.ClusterEvent(seq=logged.seq, time=logged.time, node=change))
