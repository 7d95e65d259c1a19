"""What controller and agent say to each other: keys, orders and reports, as plain values.

Both pure cores speak in these; `crane.wire.session` turns them into messages. Orders are idempotent
and keyed by (job, step, attempt); reports stay with the agent until the controller has logged them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from crane.jobspec import NO_BLOB, ArraySpec, BlobRef, Component, OpenMode, Submission
from crane.record import dataclass, field


class StepKey(NamedTuple):
    """One step of one attempt of a job. `step` is BATCH_STEP for the batch script."""

    job_id: int
    step: int
    attempt: int


class EndCause(IntEnum):
    """Why a step ended."""

    EXIT = 1
    TIMEOUT = 2
    OUT_OF_MEMORY = 3
    CANCELLED = 4
    LAUNCH_FAILED = 5
    """Nothing of the user's was run; `message` says why."""
    LOST = 6
    """It had been started, and nothing is known of its end (the host was rebooted)."""


@dataclass(frozen=True, slots=True)
class SlotShare:
    """Device slots of one type granted on a node, by slot number, ascending."""

    name: str
    type: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeShare:
    """What a job holds on one node."""

    node: str
    cpus: int
    """Thousandths."""
    memory: int = 0
    """MiB; 0: not limited."""
    slots: tuple[SlotShare, ...] = ()
    tasks: int = 1


# --- orders: controller -> agent -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """Where a task stands in its array."""

    array_id: int
    index: int
    spec: ArraySpec


@dataclass(frozen=True, slots=True)
class StepRequest:
    """What `crun` asks for inside an allocation; 0 or empty means the job's own figure."""

    ntasks: int = 0
    min_nodes: int = 0
    ntasks_per_node: int = 0
    cpus_per_task: int = 0
    nodelist: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    name: str = ""
    argv: BlobRef = NO_BLOB
    """Its command line: the arguments, each ended by NUL (`crane.wire.steps`)."""
    environment: BlobRef = NO_BLOB
    """NUL-separated NAME=value."""
    work_dir: str = ""
    endpoint: str = ""
    ticket: bytes = field(default=b"", repr=False)
    rendezvous: str = ""
    overlap: bool = False
    stdin_mode: str = "all"


@dataclass(frozen=True, slots=True)
class StepLayout:
    """Where the tasks of a step run: nodes in rank order (block distribution)."""

    nodes: tuple[str, ...]
    tasks_per_node: tuple[int, ...]

    @property
    def ntasks(self) -> int:
        """Tasks in the whole step."""
        return sum(self.tasks_per_node)


@dataclass(frozen=True, slots=True)
class LaunchStep:
    """Run this step on this node. Refers to the job's own immutable objects: building it is cheap."""

    key: StepKey
    uid: int
    gid: int
    user: str
    submission: Submission
    shares: tuple[NodeShare, ...]
    """Of the whole job, in rank order; the batch script runs on the first."""
    addresses: tuple[str, ...]
    """Of these nodes."""
    partition: str
    start_time: int
    end_time: int = 0
    """Instant at which the time limit expires; 0: none."""
    kill_grace: int = 5
    array: ArrayPlace | None = None
    restarts: int = 0
    request: StepRequest | None = None
    """Set for steps made by `crun`."""
    layout: StepLayout | None = None

    @property
    def component(self) -> Component:
        """The resources the step's job asked for."""
        return self.submission.spec.components[0]

    @property
    def open_mode(self) -> OpenMode:
        """How output files are opened."""
        return self.submission.spec.open_mode


@dataclass(frozen=True, slots=True)
class EndJob:
    """End every step of this attempt on this node (TERM, grace, KILL), then report JobReleased."""

    job_id: int
    attempt: int
    cause: EndCause


@dataclass(frozen=True, slots=True)
class SignalJob:
    """Send a signal to one step (or all, when `step` is None) of this attempt."""

    job_id: int
    attempt: int
    signal: int
    step: int | None = None
    batch_only: bool = False


@dataclass(frozen=True, slots=True)
class SetTimeLimit:
    """The attempt's time limit now expires at this instant (ns; 0: never)."""

    job_id: int
    attempt: int
    end_time: int


Order = LaunchStep | EndJob | SignalJob | SetTimeLimit


# --- reports: agent -> controller ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepStarted:
    """The step's first process exists."""

    key: StepKey
    time: int
    pid: int = 0


@dataclass(frozen=True, slots=True)
class StepEnded:
    """The step has ended on this node."""

    key: StepKey
    cause: EndCause
    exit_code: int = 0
    signal: int = 0
    message: str = ""
    start_time: int = 0
    end_time: int = 0
    cpu_us: int = 0
    memory_peak: int = 0
    """Bytes."""
    released: bool = False
    """Nothing of the job's attempt is left on this node."""


@dataclass(frozen=True, slots=True)
class JobReleased:
    """Nothing of the job's attempt is left on this node."""

    job_id: int
    attempt: int


Report = StepStarted | StepEnded | JobReleased


# --- registration --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceCount:
    """Slots of one type that the agent found to be there."""

    name: str
    type: str
    count: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the agent found on its host."""

    cpus: int = 0
    """Thousandths."""
    memory: int = 0
    """MiB."""
    devices: tuple[DeviceCount, ...] = ()
    cgroup: str = "none"
    """Backend in force: v2, v1 or none."""
    os: str = ""
    version: str = ""
    boot_time: int = 0
    problems: tuple[str, ...] = ()
    runs_as_root: bool = False
    uid: int = 0


@dataclass(frozen=True, slots=True)
class Registration:
    """How an agent introduces itself."""

    node: str
    address: str
    incarnation: str
    boot_id: str
    spool_id: str
    inventory: Inventory
    running: tuple[StepKey, ...] = ()
    """Steps alive, or ended with a report still in the outbox."""
    held_lease: float = 0.0
    """Seconds without a word from a controller after which every step there is sure to be ended,
    whatever it was launched under; 0: they are kept, or it is not known."""
    host_id: str = ""
    """Which host it is, whatever becomes of its spool and its boots; empty: not known."""
