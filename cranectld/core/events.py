"""Events: what has happened, in the past tense. The log is a sequence of these, state is their fold.

Plural events carry what scales with jobs. An event holds everything `apply` needs: no default, no
clock and no configuration is consulted for a decision when it is folded. Adding a field means adding
it to `proto/crane/log/v1/log.proto` and to the codec (`cranectld/store/codec`), and a golden log.
"""

from __future__ import annotations

from dataclasses import dataclass

from crane.config.model import ClusterConfig
from crane.jobspec import Dependency, JobSpec, Submission
from crane.session import EndCause, NodeShare, Registration, StepKey, StepLayout, StepRequest
from crane.states import JobState, Reason
from cranectld.core.commands import PastJob


@dataclass(frozen=True, slots=True)
class EpochStarted:
    """A controller started on this log; orders of older epochs are refused by agents."""

    epoch: int


@dataclass(frozen=True, slots=True)
class ConfigApplied:
    """A configuration came into force."""

    config: ClusterConfig


@dataclass(frozen=True, slots=True)
class JobsSubmitted:
    """Jobs with consecutive ids from `first_id`; specs are resolved (partition, limits filled in)."""

    first_id: int
    uid: int
    gid: int
    user: str
    jobs: tuple[Submission, ...]
    priorities: tuple[int, ...]
    past: tuple[PastJob, ...] = ()
    """Outcomes of jobs no longer in memory that these depend on."""


@dataclass(frozen=True, slots=True)
class Target:
    """A job, or positions `(first, last)` (0-based, both included) of an array's tasks."""

    job_id: int
    positions: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class JobsHeld:
    """Pending jobs or array tasks were held, by their owner or by an operator."""

    targets: tuple[Target, ...]
    by_operator: bool


@dataclass(frozen=True, slots=True)
class JobsReleased:
    """Holds were lifted."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class JobUpdated:
    """A job's description changed; for a running job, its time limit."""

    job_id: int
    spec: JobSpec
    name: str
    priority: int
    dependency: Dependency | None
    array_limit: int
    end_limit: int
    """Running: when the limit now expires (ns; 0: never). Otherwise 0."""
    past: tuple[PastJob, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskStart:
    """One job or array task starts an attempt."""

    job_id: int
    """Its own id; a task of an array gets one when it first starts."""
    attempt: int
    """1 for the first."""
    shares: tuple[NodeShare, ...]
    """With device slots chosen."""
    end_limit: int
    """Instant at which its limit expires; 0: never."""
    partition: str
    array_id: int = 0
    position: int = -1
    """0-based place in the array's index list."""


@dataclass(frozen=True, slots=True)
class TasksStarted:
    """Attempts that start now; the batch script is launched on the first node of each."""

    starts: tuple[TaskStart, ...]


@dataclass(frozen=True, slots=True)
class StepRunning:
    """An agent confirmed a step's first process."""

    key: StepKey
    node: str
    time: int
    pid: int


@dataclass(frozen=True, slots=True)
class StepsRunning:
    """Confirmations, as reported."""

    steps: tuple[StepRunning, ...]


@dataclass(frozen=True, slots=True)
class StepCreated:
    """`crun` made a step."""

    key: StepKey
    request: StepRequest
    layout: StepLayout


@dataclass(frozen=True, slots=True)
class StepEnd:
    """A step ended on one node."""

    key: StepKey
    node: str
    cause: EndCause
    exit_code: int = 0
    signal: int = 0
    message: str = ""
    start_time: int = 0
    end_time: int = 0
    cpu_us: int = 0
    memory_peak: int = 0
    released: bool = False


@dataclass(frozen=True, slots=True)
class StepsEnded:
    """Ends, as reported; `released` frees the node's share of the job."""

    ends: tuple[StepEnd, ...]


@dataclass(frozen=True, slots=True)
class ShareReleased:
    """A node has nothing left of an attempt (reported, or its processes cannot be alive)."""

    job_id: int
    attempt: int
    node: str


@dataclass(frozen=True, slots=True)
class SharesReleased:
    """Shares that became free."""

    shares: tuple[ShareReleased, ...]


@dataclass(frozen=True, slots=True)
class JobEnding:
    """A running attempt is being ended: what it will end as when all its nodes let go."""

    job_id: int
    attempt: int
    state: JobState
    reason: Reason
    by_uid: int = -1
    requeue: bool = False
    hold: bool = False


@dataclass(frozen=True, slots=True)
class JobsEnding:
    """Attempts that are COMPLETING; agents are told to end what is left of them."""

    jobs: tuple[JobEnding, ...]


@dataclass(frozen=True, slots=True)
class JobEnd:
    """A job (or task, or one attempt of it) ended."""

    job_id: int
    attempt: int
    """0: it never started."""
    state: JobState
    reason: Reason
    exit_code: int
    signal: int
    by_uid: int = -1
    """Who cancelled it."""
    requeue: bool = False
    """The attempt ended so, and the job is pending again."""
    hold: bool = False
    """... and held (too many requeues, or asked for)."""


@dataclass(frozen=True, slots=True)
class JobsEnded:
    """Jobs and tasks with an id of their own that ended."""

    ends: tuple[JobEnd, ...]


@dataclass(frozen=True, slots=True)
class ArrayTasksCancelled:
    """Tasks of an array that had not started were cancelled."""

    array_id: int
    positions: tuple[tuple[int, int], ...]
    by_uid: int
    state: JobState = JobState.CANCELLED
    """DEADLINE, where the deadline passed."""


@dataclass(frozen=True, slots=True)
class JobsRequeued:
    """Ended jobs (and array tasks) are pending again on request."""

    job_ids: tuple[int, ...]
    hold: bool
    tasks: tuple[Target, ...] = ()
    """Ended tasks of arrays, by position."""
    by_operator: bool = False
    """The hold can only be lifted by an operator."""


@dataclass(frozen=True, slots=True)
class JobsForgotten:
    """Ended jobs left memory; the read model keeps them."""

    job_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeRegistered:
    """An agent registered. `problems`: why the node takes no jobs (it is drained with them)."""

    registration: Registration
    cpus: int
    """Thousandths, in force from now on (promised, or found)."""
    memory: int
    drain_reason: str
    """Empty: the inventory keeps what the configuration promises."""


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node stopped answering. Said again when the fence of one that is lost moves."""

    node: str
    last_heard: int
    fence: int
    """Instant after which no process of it can be alive; 0: not known until it comes back."""


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """An operator (or a check) changed a node."""

    node: str
    action: str
    reason: str
    by: str


Event = (
    EpochStarted
    | ConfigApplied
    | JobsSubmitted
    | JobsHeld
    | JobsReleased
    | JobUpdated
    | TasksStarted
    | StepsRunning
    | StepCreated
    | StepsEnded
    | SharesReleased
    | JobsEnding
    | JobsEnded
    | ArrayTasksCancelled
    | JobsRequeued
    | JobsForgotten
    | NodeRegistered
    | NodeLost
    | NodeChanged
)


@dataclass(frozen=True, slots=True)
class Logged:
    """An event with its place in the log."""

    seq: int
    time: int
    """ns; never decreasing."""
    event: Event
