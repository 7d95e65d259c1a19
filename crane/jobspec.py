"""What a user asks for: the description of a job, free of any format it came in.

Everything a job can carry is here from the first day (docs: ARCHITECTURE.md, "Carried from the
first day"), stored, filtered and shown even where no policy uses it yet. Objects are immutable and
hashable: the controller interns them, so that 100,000 equal requests cost one object.

Units: CPU in thousandths, memory in MiB, durations in seconds, instants in nanoseconds since the
epoch. 0 (or an empty text) means "not given" unless a field says otherwise.
"""

from __future__ import annotations

from enum import IntEnum

from crane.record import dataclass, field

UNLIMITED = -1
"""A time limit that never expires."""

BATCH_STEP = -1
"""Step number of the batch script (`12.batch`); steps made by `crun` count from 0."""


class DependencyKind(IntEnum):
    """When a dependency on another job is fulfilled (sbatch(1), --dependency)."""

    AFTER = 1
    """The other job has started or was cancelled, plus a delay in minutes."""
    AFTER_ANY = 2
    AFTER_OK = 3
    AFTER_NOT_OK = 4
    AFTER_CORR = 5
    """The array task of the same index ended well."""
    SINGLETON = 6
    """No earlier job of the same name and user is left."""


@dataclass(frozen=True, slots=True)
class DependencyTerm:
    """One condition: `job_id` 0 for singleton; `task` -1 for the whole job; `delay` in seconds."""

    kind: DependencyKind
    job_id: int = 0
    task: int = -1
    delay: int = 0


@dataclass(frozen=True, slots=True)
class Dependency:
    """Conditions joined by `,` (all of them) or by `?` (any of them)."""

    terms: tuple[DependencyTerm, ...]
    any_of: bool = False


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Indices of a job array: sorted disjoint `(first, last, step)` ranges, both ends included."""

    ranges: tuple[tuple[int, int, int], ...]
    limit: int = 0
    """How many tasks may run at once; 0 is no limit."""


@dataclass(frozen=True, slots=True)
class Gres:
    """Generic resources per node: `gpu:a100:2`. An empty `type` takes any type."""

    name: str
    type: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Component:
    """Resources of one component of a job (one normally; several make a heterogeneous job)."""

    min_nodes: int = 0
    """0: as many as the tasks need."""
    max_nodes: int = 0
    """0: `min_nodes` if that is given, else no bound."""
    ntasks: int = 0
    """0: one per node (or `ntasks_per_node` x nodes)."""
    ntasks_per_node: int = 0
    """At most this many tasks on a node (exactly, when `ntasks` is not given)."""
    cpus_per_task: int = 1000
    """Thousandths of a CPU."""
    mem_per_node: int = 0
    mem_per_cpu: int = 0
    """MiB; excludes `mem_per_node`. Both 0: the partition's default."""
    gres: tuple[Gres, ...] = ()
    """Per node."""
    exclusive: bool = False
    features: str = ""
    """Normalised expression of `&`, `|`, brackets and names (crane.features)."""
    nodelist: tuple[str, ...] = ()
    """All of these nodes must be part of the allocation (sbatch(1), --nodelist)."""
    exclude: tuple[str, ...] = ()
    cpus_given: bool = False
    """Whether the user said how many CPUs a task has (jobs see SLURM_CPUS_PER_TASK only then)."""


class OpenMode(IntEnum):
    """How output files are opened."""

    TRUNCATE = 1
    APPEND = 2


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything jobs of one kind share; what differs job by job is in `Submission`."""

    components: tuple[Component, ...] = (Component(),)
    partitions: tuple[str, ...] = ()
    """In order of preference; empty: the default partition."""
    account: str = ""
    qos: str = ""
    reservation: str = ""
    licences: tuple[tuple[str, int], ...] = ()
    comment: str = ""
    wckey: str = ""
    time_limit: int = 0
    """Seconds; 0: the partition's default; UNLIMITED: none."""
    time_min: int = 0
    begin: int = 0
    """Instant (ns) before which the job does not start; 0: none."""
    deadline: int = 0
    """Instant (ns); 0: none."""
    priority: int = -1
    """Set by an operator; -1: computed."""
    nice: int = 0
    hold: bool = False
    requeue: bool | None = None
    """Whether the job may be run again after a node failure; None: the cluster's default."""
    work_dir: str = ""
    stdin: str = ""
    stdout: str = ""
    """File name patterns (crane.filepattern); empty: the default."""
    stderr: str = ""
    """Empty: the same file as stdout."""
    open_mode: OpenMode = OpenMode.TRUNCATE
    signal: str = ""
    """`[B:]SIG[@seconds]`: a warning before the time limit."""
    mail_type: str = ""
    mail_user: str = ""
    submit_host: str = ""
    export: str = "ALL"
    """What of the submitter's environment was asked for (shown; the blob is what counts)."""
    switches: str = ""
    """`n[@seconds]`, kept for topology-aware placement."""
    extra: str = ""
    """Free text for portals (JSON by convention)."""
    submit_dir: str = ""
    """Directory the job was submitted from; empty: not said, then the working directory."""
    umask: int | None = None
    """Of the submitter, 0 to 0o777; None: not said."""


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Where a script or environment is stored: the row of its pack, and its place in it."""

    pack: int = 0
    """0: no blob."""
    index: int = 0


NO_BLOB = BlobRef()


@dataclass(frozen=True, slots=True)
class Submission:
    """One job as submitted: its spec and what is its own."""

    spec: JobSpec
    name: str = ""
    script: BlobRef = NO_BLOB
    environment: BlobRef = NO_BLOB
    args: tuple[str, ...] = ()
    dependency: Dependency | None = None
    array: ArraySpec | None = None
    command: str = field(default="")
    """What to show as the command: the script's path, or `(wrap)`, `(stdin)`."""
