"""What the client's queries answer: plain values, with the names of the vocabulary.

Units: CPU in thousandths, memory in MiB (peaks in bytes), durations in seconds, instants in
nanoseconds since the epoch; 0 where a thing is not known or not given, unless a field says
otherwise.
"""

from __future__ import annotations

from crane.jobspec import UNLIMITED, ArraySpec, Dependency, Gres, JobSpec
from crane.record import dataclass, field
from crane.states import JobState, NodeState, Reason, StepState

TYPE_CHECKING = False

if TYPE_CHECKING:
    from crane.errors import CraneError


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """Device slots a job holds on a node."""

    name: str
    type: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShareInfo:
    """What a job holds on one node."""

    node: str
    cpus: int = 0
    memory: int = 0
    """0: not limited."""
    slots: tuple[SlotInfo, ...] = ()
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One step of a job; -1 is the batch script."""

    step: int
    state: StepState
    name: str = ""
    start_time: int = 0
    end_time: int = 0
    exit_code: int = 0
    signal: int = 0
    nodes: tuple[str, ...] = ()
    ntasks: int = 0
    cpu_us: int = 0
    memory_peak: int = 0


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job, an array task, or the waiting rest of an array (`array` given)."""

    job_id: int
    state: JobState
    array_job_id: int = 0
    """0: not of an array."""
    array_task: int = -1
    """Index of the task; -1: the array's own record, or no array."""
    array: ArraySpec | None = None
    """On the array's own record: the indices that still wait."""
    name: str = ""
    user: str = ""
    uid: int = 0
    gid: int = 0
    spec: JobSpec = field(default_factory=JobSpec)
    reason: Reason = Reason.NONE
    reason_text: str = ""
    priority: int = 0
    submit_time: int = 0
    eligible_time: int = 0
    start_time: int = 0
    end_time: int = 0
    """Ended: when; running: when its time limit expires."""
    planned_start: int = 0
    planned_earliest: int = 0
    planned_latest: int = 0
    """Between which it is expected to start."""
    exit_code: int = 0
    signal: int = 0
    attempt: int = 0
    restarts: int = 0
    allocation: tuple[ShareInfo, ...] = ()
    steps: tuple[StepInfo, ...] = ()
    args: tuple[str, ...] = ()
    command: str = ""
    dependency: Dependency | None = None
    cpu_us: int = 0
    memory_peak: int = 0
    cancelled_by: int = 0
    """uid, where the state is CANCELLED."""
    partition: str = ""
    time_limit: int = UNLIMITED
    """Seconds, the one in force; UNLIMITED: none."""
    task_states: dict[JobState, int] = field(default_factory=dict)
    """On the array's own record: how many tasks are in each state."""
    stdout: str = ""
    stderr: str = ""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes it holds."""
        return tuple(share.node for share in self.allocation)

    @property
    def ended(self) -> bool:
        """Whether nothing of it will run any more (an array: all of its tasks)."""
        return self.state.ended

    @property
    def shown_id(self) -> str:
        """`12`, `12_3`, or `12_[3-9%2]` for what still waits of an array."""
        if self.array is not None and self.array.ranges and self.array_task < 0:
            from crane import arrayspec  # noqa: PLC0415 - only for arrays

            return f"{self.array_job_id or self.job_id}_[{arrayspec.format_array(self.array)}]"
        if self.array_task >= 0:
            return f"{self.array_job_id}_{self.array_task}"
        return str(self.job_id)

    @property
    def exit_status(self) -> int:
        """What a command that waited for it exits with: its code, 128 + signal, 1 for other ends."""
        if self.signal:
            return 128 + self.signal
        if self.exit_code or self.state is JobState.COMPLETED:
            return self.exit_code
        return 1


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as the controller sees it."""

    name: str
    state: NodeState = NodeState.UNKNOWN
    address: str = ""
    drain: bool = False
    shown_state: str = ""
    """idle, mixed, alloc, drain, drng, down, fail, unknown."""
    reason: str = ""
    reason_by: str = ""
    reason_time: int = 0
    cpus: int = 0
    cpus_alloc: int = 0
    memory: int = 0
    memory_alloc: int = 0
    gres: tuple[Gres, ...] = ()
    gres_alloc: tuple[Gres, ...] = ()
    features: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    weight: int = 1
    version: str = ""
    boot_time: int = 0
    registered_time: int = 0
    last_contact: int = 0
    cgroup: str = ""
    jobs: tuple[int, ...] = ()
    os: str = ""
    connected: bool = False


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """A partition."""

    name: str
    default: bool = False
    up: bool = True
    nodes: tuple[str, ...] = ()
    max_time: int = UNLIMITED
    default_time: int = UNLIMITED
    max_nodes: int = 0
    priority: int = 0
    cpus: int = 0
    allow_accounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition a waiting job has to pass."""

    name: str
    open: bool
    text: str = ""


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change with which a waiting job would start at `start` (ns) or sooner, as it was planned."""

    time_limit: int = 0
    """Seconds; 0: not this."""
    nodes: int = 0
    """0: not this."""
    partition: str = ""
    """Beside its own; empty: not this."""
    start: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job waits: the verdict of the last scheduling pass, in numbers."""

    job: JobInfo
    reason: Reason = Reason.NONE
    gates: tuple[Gate, ...] = ()
    nodes_matching: int = 0
    nodes_usable: int = 0
    nodes_fitting_now: int = 0
    nodes_wanted: int = 0
    short_of: str = ""
    jobs_ahead: int = 0
    planned_start: int = 0
    planned_earliest: int = 0
    planned_latest: int = 0
    """Between which it is expected to start."""
    pass_time: int = 0
    """0: no pass has looked at the job yet."""
    text: str = ""
    remedies: tuple[Remedy, ...] = ()
    sooner_known: bool = False
    """Whether `remedies` is all there is; False: not asked, or not found out."""
    promised_start: int = 0
    """Instant promised first, if it was not kept: it is planned for later now, or not at all."""
    moved_cause: str = ""
    """Why it was not kept."""
    priority_terms: tuple[tuple[str, int], ...] = ()
    """What the priority is the sum of, where it is weighed: `("age", 120)`, `("nice", -5)`."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something happened to a job; `count` jobs with ids from `job_id` on, where submitted."""

    seq: int
    time: int
    job_id: int
    state: JobState
    array_job_id: int = 0
    array_task: int = -1
    reason: Reason = Reason.NONE
    exit_code: int = 0
    signal: int = 0
    attempt: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something happened to a node."""

    seq: int
    time: int
    node: str
    state: NodeState
    drain: bool = False
    reason: str = ""


Event = JobEvent | NodeEvent


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one thing that was to be changed: a job, an array task or a node."""

    subject: str
    """`12`, `12_3`, `n1`."""
    error: CraneError | None = None
    """None: done."""


@dataclass(frozen=True, slots=True)
class Status:
    """The controller's own state."""

    cluster: str = ""
    version: str = ""
    epoch: int = 0
    seq: int = 0
    durable_seq: int = 0
    start_time: int = 0
    pid: int = 0
    planner_ready: bool = False
    figures: dict[str, float] = field(default_factory=dict)
    jobs: dict[JobState, int] = field(default_factory=dict)
    config_file: str = ""
    nodes_connected: int = 0
    config: dict[str, str] = field(default_factory=dict)
