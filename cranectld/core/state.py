"""The controller's state: the fold of the log. Only `apply` changes it.

Cost per job is the budget: a pending job is one `Job` with shared, interned descriptions; an array is
one `Job` with an `ArrayRecord`; an array task is a `Job` only while it runs. Orders of iteration are
those of insertion everywhere (dicts, never sets), so that every replay does the same.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from crane.arrayspec import Positions
from crane.config.model import ClusterConfig, NodeConfig, PartitionConfig
from crane.jobspec import ArraySpec, JobSpec, Submission
from crane.session import Inventory, NodeShare, StepLayout, StepRequest
from crane.states import JobState, NodeState, Reason, StepState
from cranectld.core.events import JobEnding

HOLD_NONE, HOLD_USER, HOLD_OPERATOR = 0, 1, 2

UNSTARTED = 128
"""Task column: values from here on are unstarted tasks that something keeps from starting (bits)."""
TASK_HELD_USER, TASK_HELD_OPERATOR = 1, 2
TASK_WAITS, TASK_NEVER = 4, 8
"""`aftercorr`: the counterpart has not ended well yet; it never will."""
TASK_HELD = TASK_HELD_USER | TASK_HELD_OPERATOR


@dataclass(slots=True)
class Step:
    """A step of a running attempt."""

    step: int
    state: StepState
    name: str
    start_time: int = 0
    end_time: int = 0
    exit_code: int = 0
    signal: int = 0
    layout: StepLayout | None = None
    request: StepRequest | None = None
    waiting: dict[str, None] = field(default_factory=dict)
    """Nodes on which it has not ended."""
    confirmed: dict[str, None] = field(default_factory=dict)
    """Nodes that reported its first process."""
    cpu_us: int = 0
    memory_peak: int = 0
    message: str = ""
    """What the agent said of its end (why it could not be launched)."""


@dataclass(slots=True)
class Run:
    """One attempt of a job: what it holds and what is known of its steps."""

    attempt: int
    start_time: int
    end_limit: int
    """Instant at which the time limit ends it, ns; 0: never."""
    partition: str
    shares: tuple[NodeShare, ...]
    holding: dict[str, None]
    """Nodes that still hold their share."""
    steps: dict[int, Step] = field(default_factory=dict)
    next_step: int = 0
    ending: JobEnding | None = None
    """Why it is COMPLETING, when not by the batch script's own end."""
    fences: dict[str, int] = field(default_factory=dict)
    """Lost nodes: instant after which no process there can be alive (0: unknown)."""
    batch_end: tuple[JobState, Reason, int, int] | None = None
    """State, reason, exit code and signal from the batch script's end."""
    cpu_us: int = 0
    memory_peak: int = 0
    limit_changed: bool = False
    """Since it was started: a node that registers may not have been told."""


@dataclass(slots=True)
class ArrayRecord:
    """An array's tasks as columns over positions (0-based places in the index list)."""

    spec: ArraySpec
    count: int
    state: bytearray
    """Per position: 0 free to start, UNSTARTED | bits: kept from it, else a JobState (started)."""
    exit: array[int]
    """`h`: exit code, or -signal."""
    end_time: array[int]
    """`q`: ns, 0: not ended."""
    cursor: int = 0
    """No task that is free to start is below this position."""
    pending: int = 0
    """Unstarted tasks."""
    free: int = 0
    """Unstarted tasks that nothing of their own keeps from starting."""
    held: int = 0
    """Unstarted tasks held on their own."""
    last_start: int = 0
    running: dict[int, int] = field(default_factory=dict)
    """Position -> job id of the live task."""
    raw_ids: dict[int, int] = field(default_factory=dict)
    """Position -> job id, for requeued tasks (they keep it)."""
    attempts: dict[int, int] = field(default_factory=dict)
    """Position -> attempts made, for requeued tasks."""
    ended: dict[int, int] = field(default_factory=dict)
    """JobState -> how many tasks ended so."""
    places: Positions = field(init=False, compare=False, repr=False)
    """Index <-> position; derived from `spec`."""

    def __post_init__(self) -> None:
        self.places = Positions(self.spec)


@dataclass(slots=True)
class Job:
    """A job, an array (with `array`), or a live array task (with `array_id`)."""

    job_id: int
    uid: int
    gid: int
    user: str
    submission: Submission
    submit_time: int
    priority: int
    state: JobState = JobState.PENDING
    reason: Reason = Reason.NONE
    hold: int = HOLD_NONE
    eligible_time: int = 0
    """Instant from which it may start: submission, begin time, dependencies (as far as known)."""
    unmet: dict[int, bool] | None = None
    """Dependency terms not fulfilled, by index; True: it never will be. None: nothing to wait for."""
    array: ArrayRecord | None = None
    array_id: int = 0
    position: int = -1
    attempt: int = 0
    restarts: int = 0
    run: Run | None = None
    start_time: int = 0
    end_time: int = 0
    exit_code: int = 0
    signal: int = 0
    cpu_us: int = 0
    memory_peak: int = 0
    cancelled_by: int = -1
    last_run: Run | None = None
    """The attempt that ended, kept while the job is in memory."""

    @property
    def spec(self) -> JobSpec:
        """What it asked for."""
        return self.submission.spec


@dataclass(slots=True)
class Node:
    """A node: what was promised, what was found, what is taken."""

    config: NodeConfig
    partitions: tuple[str, ...] = ()
    state: NodeState = NodeState.UNKNOWN
    drain: bool = False
    reason: str = ""
    reason_by: str = ""
    reason_time: int = 0
    cpus: int = 0
    memory: int = 0
    cpus_used: int = 0
    memory_used: int = 0
    slots_used: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """(name, type) -> job id per slot, 0: free."""
    jobs: dict[int, None] = field(default_factory=dict)
    """Attempts that hold a share, by job id."""
    exclusive: int = 0
    """Job id that has the node for itself, 0: none."""
    incarnation: str = ""
    boot_id: str = ""
    spool_id: str = ""
    host_id: str = ""
    """Empty: not known."""
    address: str = ""
    inventory: Inventory = field(default_factory=Inventory)
    registered_time: int = 0
    last_heard: int = 0
    """When it was last heard before it was declared lost."""
    answering: bool = False
    """Registered, and not declared lost since."""
    held_down: bool = False
    """Set down by an operator: registering does not bring it back."""
    lease: float = 0.0
    """Longest lease (s) that its agent, or a job there, may have been told."""
    kill_grace: int = 0
    """Longest grace (s) that jobs there may have between SIGTERM and SIGKILL."""
    kills: bool = False
    """Its jobs are sure to be killed when its lease runs out: they were launched under no other
    terms, or follow these by now, and the agent was told no other.
    """

    @property
    def usable(self) -> bool:
        """Whether new work may start on it."""
        return self.state is NodeState.UP and not self.drain


class NodeClass(NamedTuple):
    """What nodes have in common as far as requests can tell. `cpus` 0: not known yet."""

    cpus: int
    memory: int
    slots: tuple[tuple[str, str, int], ...]
    """Device slots: name, type, count."""
    features: tuple[str, ...]
    partitions: tuple[str, ...]


@dataclass(slots=True)
class State:
    """Everything. Equality compares the whole fold."""

    seq: int = 0
    """Of the last event folded."""
    time: int = 0
    """Of the last event folded, ns."""
    epoch: int = 0
    config: ClusterConfig = field(default_factory=ClusterConfig)
    next_job_id: int = 1
    jobs: dict[int, Job] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    partitions: dict[str, PartitionConfig] = field(default_factory=dict)
    default_partition: str = ""
    dependents: dict[int, dict[int, None]] = field(default_factory=dict)
    """Job id -> live jobs with an unmet dependency term on it."""
    singletons: dict[tuple[int, str], list[int]] = field(default_factory=dict)
    """(uid, name) that a singleton job asked for -> live jobs of it, by rising id."""
    ended: deque[tuple[int, int]] = field(default_factory=deque)
    """(end time, job id) of ended jobs still in memory, oldest first."""
    alarms: list[tuple[int, int]] = field(default_factory=list)
    """Heap of (instant, job id): deadlines and fences; the first is never stale."""
    begins: list[tuple[int, int]] = field(default_factory=list)
    """Heap of (instant, job id): when waiting jobs become eligible; entries may be stale."""
    live: int = 0
    """Jobs and arrays not yet ended."""
    tasks: int = 0
    """Tasks of all arrays in memory, ended ones too: what their columns have room for."""
    specs: dict[JobSpec, JobSpec] = field(default_factory=dict)
    """Interned specs: equal requests of different jobs are one object."""
    classes: dict[NodeClass, int] = field(default_factory=dict)
    """How many nodes there are of each kind; derived, so that a submission need not scan nodes."""
    usage: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(account, user) -> what he counts as having used (thousandths of a CPU x s), as of when (s)."""
    touched: dict[int, None] = field(default_factory=dict, compare=False, repr=False)
    """Jobs changed since the planner's view was last brought up to date; not part of the fold."""
