"""The configuration as typed, immutable values: what `load` returns and `ConfigApplied` carries.

Durations are seconds, memory is MiB, CPU is thousandths. Every field has a default that works for a
single host; `crane.config.load` documents the TOML form.
"""

from __future__ import annotations

from crane.jobspec import UNLIMITED, Gres
from crane.record import dataclass, field


@dataclass(frozen=True, slots=True)
class DeviceSlot:
    """One device of a node: what a job gets when it asks for `name:type`."""

    files: tuple[str, ...] = ()
    """Device (or, in tests, plain) files a job holding the slot may open."""
    numa: int = -1


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """Slots of one type on a node, declared in the configuration."""

    name: str
    """`gpu`, `npu`, ..."""
    type: str = ""
    slots: tuple[DeviceSlot, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    """Variable and template; `{indices}` is the list of slot numbers, `{files}` of their files."""
    manager_files: tuple[str, ...] = ()
    """Files every job holding at least one slot of the group may open."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the configuration promises of a node; the agent's inventory verifies it."""

    name: str
    address: str = ""
    """How other nodes reach it; empty: its name."""
    cpus: int = 0
    """Thousandths; 0: what the agent finds."""
    memory: int = 0
    """MiB; 0: what the agent finds."""
    gres: tuple[Gres, ...] = ()
    devices: tuple[DeviceGroup, ...] = ()
    features: tuple[str, ...] = ()
    weight: int = 1
    """Nodes of lower weight are filled first."""
    switch: str = ""


@dataclass(frozen=True, slots=True)
class PartitionConfig:
    """A set of nodes with common rules; partitions may overlap."""

    name: str
    nodes: tuple[str, ...] = ()
    default: bool = False
    max_time: int = UNLIMITED
    default_time: int = 0
    """0: `max_time`."""
    max_nodes: int = 0
    """0: no bound."""
    default_mem_per_cpu: int = 0
    """0: no default: a job that asks for no memory reserves none and is not limited."""
    priority: int = 1
    up: bool = True
    allow_accounts: tuple[str, ...] = ()
    """Empty: every account."""


POLICIES = ("fifo", "easy", "conservative", "conservative-replan")
"""How the queue may be scheduled."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Policy and bounds of a scheduling pass."""

    policy: str = "easy"
    """One of POLICIES."""
    depth: int = 10_000
    """How many pending job records a pass looks at for a start."""
    window: int = 7 * 86_400
    """Conservative: seconds from now within which starts are promised."""
    resolution: int = 1
    """Conservative: starts are promised for multiples of so many seconds."""
    weight_age: int = 0
    """Priority points per day of waiting (0: plain order of submission)."""
    weight_partition: int = 0
    estimate_steps: int = 2_000_000
    """Visits of nodes and releases that a pass spends on estimates of starts."""
    visits: int = 50_000_000
    """Conservative: searches of a node that a pass spends on promises."""


PRIORITIES = ("basic", "multifactor")
"""What the order of the queue goes by."""


@dataclass(frozen=True, slots=True)
class PriorityConfig:
    """What the priority of a waiting job is made of. Weights are points for a factor of 1."""

    kind: str = "basic"
    """`basic`: as submitted, with nice values, and the weights of SchedulerConfig."""
    age: int = 0
    fair_share: int = 0
    size: int = 0
    partition: int = 0
    max_age: int = 7 * 86_400
    """Seconds of waiting after which the factor of age is 1."""
    half_life: int = 7 * 86_400
    """Seconds in which usage comes to count half; 0: it is never forgotten."""
    small_first: bool = False


@dataclass(frozen=True, slots=True)
class Timeouts:
    """When things count as late (seconds)."""

    heartbeat: float = 5.0
    node: float = 30.0
    """A node that did not answer for so long is down."""
    lease: float = 60.0
    """How long an agent may go on without reaching a controller."""
    lost_contact: str = "keep"
    """What an agent does when its lease has run out: `keep` or `kill` the jobs."""
    kill_grace: int = 5
    """Between SIGTERM and SIGKILL."""
    min_job_age: int = 300
    """How long ended jobs stay in memory."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on everything a client can send."""

    max_jobs: int = 5_000_000
    max_array_size: int = 4_000_000
    max_array_tasks: int = 20_000_000
    """Of all arrays in memory together: each task takes 11 bytes."""
    max_script: int = 4 << 20
    """Bytes."""
    max_environment: int = 1 << 20
    max_batch: int = 10_000
    max_requeue: int = 5


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What the controller's core needs to know: part of the log, normalised."""

    name: str = "crane"
    nodes: tuple[NodeConfig, ...] = ()
    partitions: tuple[PartitionConfig, ...] = ()
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    operators: tuple[str, ...] = ()
    """User names with operator rights; root and the controller's own user are administrators."""
    priority: PriorityConfig = field(default_factory=PriorityConfig)
    job_requeue: bool = True
    """Whether jobs that do not say are run again after a node failure."""


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """What only the controller's shell needs: places and addresses."""

    listen: str = "127.0.0.1:10011"
    state_dir: str = "/var/lib/crane/controller"
    socket: str = "/run/crane/cranectld.sock"
    key_file: str = "/etc/crane/cluster.key"
    keep_log: bool = True
    """False: what the older of the snapshots covers is removed from the log."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What only an agent needs."""

    controller: str = "127.0.0.1:10011"
    state_dir: str = "/var/lib/crane/agent"
    socket: str = "/run/crane/craned.sock"
    key_file: str = "/etc/crane/cluster.key"
    cgroup_root: str = "/sys/fs/cgroup"
    cgroup: str = "auto"
    """`auto`, `v2`, `v1` or `none`."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration file."""

    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    controller: ControllerConfig = field(default_factory=ControllerConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
