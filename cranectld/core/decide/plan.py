"""Committing a plan: what still holds of it is started, the rest is silently left for the next pass."""

from __future__ import annotations

from dataclasses import dataclass

from crane import features
from crane.jobspec import UNLIMITED
from crane.session import NodeShare
from cranectld.core import arrays
from cranectld.core.commands import CommitPlan, PlannedStart
from cranectld.core.decide.decision import NOTHING, Decision
from cranectld.core.due import NS
from cranectld.core.eligibility import startable
from cranectld.core.events import TasksStarted, TaskStart
from cranectld.core.shares import SlotKey, pick_slots
from cranectld.core.state import Job, Node, State


@dataclass(slots=True)
class _Room:
    """What a node has left within the plan."""

    cpus: int
    memory: int
    jobs: int
    exclusive: bool
    slots: dict[SlotKey, list[int]] | None = None
    """Copied when the first start needs device slots of the node."""


class _Commit:
    """The plan as far as it has been accepted."""

    def __init__(self, state: State, now: int) -> None:
        self.state = state
        self.now = now
        self.starts: list[TaskStart] = []
        self._next_id = state.next_job_id
        self._rooms: dict[str, _Room] = {}
        self._started: dict[int, int] = {}
        self._places: dict[int, int] = {}

    def add(self, planned: PlannedStart) -> None:
        """Accept a start if it holds now, after those accepted before it."""
        state = self.state
        job = state.jobs.get(planned.job_id)
        if job is None or not planned.shares or job.eligible_time > self.now:
            return
        before = self._started.get(job.job_id, 0)
        open_gate = startable(state, job)
        if open_gate is None or before >= open_gate.count:
            return
        partition = self._partition(job, planned)
        if not partition or not self._fits(job, planned):
            return
        start = self._start(job, planned, partition)
        if start is not None:
            self._started[job.job_id] = before + 1
            self.starts.append(start)

    def _partition(self, job: Job, planned: PlannedStart) -> str:
        """The partition all its nodes are in; empty: there is none any more."""
        state = self.state
        names = job.submission.spec.partitions
        if planned.partition:
            names = (planned.partition,) if planned.partition in names else ()
        for name in names:
            partition = state.partitions.get(name)
            if partition is None or not partition.up:
                continue
            for share in planned.shares:
                node = state.nodes.get(share.node)
                if node is None or name not in node.partitions:
                    break
            else:
                return name
        return ""

    def _room(self, node: Node) -> _Room:
        name = node.config.name
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = _Room(
                cpus=node.cpus - node.cpus_used,
                memory=node.memory - node.memory_used,
                jobs=len(node.jobs),
                exclusive=node.exclusive != 0,
            )
        return room

    def _fits(self, job: Job, planned: PlannedStart) -> bool:
        """Whether all nodes are usable and have what the start takes of them."""
        part = job.submission.spec.components[0]
        for share in planned.shares:
            node = self.state.nodes[share.node]
            room = self._room(node)
            if (
                not node.usable
                or room.exclusive
                or (part.exclusive and room.jobs)
                or share.cpus > room.cpus
                or share.memory > room.memory
                or share.cpus <= 0
            ):
                return False
            if part.exclude and share.node in part.exclude:
                return False
        if part.features:
            having = [self.state.nodes[share.node].config.features for share in planned.shares]
            if not features.parse(part.features).met_by(having):
                return False
        if len(planned.shares) == 1 and not part.nodelist:
            return True
        names = [share.node for share in planned.shares]
        return len(dict.fromkeys(names)) == len(names) and all(n in names for n in part.nodelist)

    def _start(self, job: Job, planned: PlannedStart, partition: str) -> TaskStart | None:
        """Take the shares and give the start; None if device slots do not suffice."""
        job_id, attempt, position = self._identity(job)
        shares = self._shares(planned, job_id)
        if shares is None:
            return None
        exclusive = job.submission.spec.components[0].exclusive
        for share in shares:
            room = self._rooms[share.node]
            room.cpus -= share.cpus
            room.memory -= share.memory
            room.jobs += 1
            room.exclusive = exclusive
        if position >= 0:
            self._places[job.job_id] = position + 1
        if job_id >= self._next_id:
            self._next_id = job_id + 1
        return TaskStart(
            job_id,
            attempt,
            shares,
            self._end_limit(job),
            partition,
            job.job_id if position >= 0 else 0,
            position,
        )

    def _identity(self, job: Job) -> tuple[int, int, int]:
        """Job id, attempt and (array tasks) position of what starts."""
        record = job.array
        if record is None:
            return job.job_id, job.attempt + 1, -1
        position = arrays.next_free(record, self._places.get(job.job_id, 0))
        assert position >= 0, "the gate counts free tasks"
        job_id = record.raw_ids.get(position, self._next_id)
        return job_id, record.attempts.get(position, 0) + 1, position

    def _shares(self, planned: PlannedStart, job_id: int) -> tuple[NodeShare, ...] | None:
        """The shares with device slots chosen."""
        if not any(planned.slots):
            return planned.shares
        chosen: list[NodeShare] = []
        undo: list[tuple[_Room, dict[SlotKey, list[int]]]] = []
        for share, wanted in zip(planned.shares, planned.slots, strict=True):
            room = self._rooms[share.node]
            if room.slots is None:
                used = self.state.nodes[share.node].slots_used
                room.slots = {key: list(places) for key, places in used.items()}
            undo.append((room, {key: list(places) for key, places in room.slots.items()}))
            slots = pick_slots(room.slots, wanted, job_id)
            if slots is None:
                for touched, slots_before in undo:
                    touched.slots = slots_before
                return None
            chosen.append(NodeShare(share.node, share.cpus, share.memory, slots, share.tasks))
        return tuple(chosen)

    def _end_limit(self, job: Job) -> int:
        """Instant at which the attempt's time limit expires; 0: never."""
        spec = job.submission.spec
        limit = spec.time_limit
        end = 0 if limit in (UNLIMITED, 0) else self.now + limit * NS
        if spec.deadline:
            end = min(end, spec.deadline) if end else spec.deadline
        return end


def commit_plan(state: State, command: CommitPlan, now: int) -> Decision:
    """CommitPlan. Reply: int, how many were started."""
    commit = _Commit(state, now)
    for planned in command.starts:
        commit.add(planned)
    if not commit.starts:
        return Decision(NOTHING.events, 0)
    return Decision((TasksStarted(tuple(commit.starts)),), len(commit.starts))
