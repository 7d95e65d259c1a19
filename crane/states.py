"""States and reasons, in Slurm's words, shared by every part of the scheduler.

Numbers are part of the wire contract (`proto/crane/v1/types.proto`) and of the log: never reuse one.
"""

from __future__ import annotations

from enum import IntEnum


class JobState(IntEnum):
    """State of a job or of an array task (Slurm's names; see squeue(1), JOB STATE CODES)."""

    PENDING = 1
    RUNNING = 2
    SUSPENDED = 3
    COMPLETING = 4
    COMPLETED = 5
    CANCELLED = 6
    FAILED = 7
    TIMEOUT = 8
    NODE_FAIL = 9
    PREEMPTED = 10
    BOOT_FAIL = 11
    DEADLINE = 12
    OUT_OF_MEMORY = 13
    CONFIGURING = 14
    REQUEUED = 15

    @property
    def code(self) -> str:
        """Two-letter code, as `%t` prints it."""
        return _CODES[self]

    @property
    def ended(self) -> bool:
        """Whether the state is final (nothing of the attempt runs any more)."""
        return self in ENDED


ENDED = frozenset(
    {
        JobState.COMPLETED,
        JobState.CANCELLED,
        JobState.FAILED,
        JobState.TIMEOUT,
        JobState.NODE_FAIL,
        JobState.PREEMPTED,
        JobState.BOOT_FAIL,
        JobState.DEADLINE,
        JobState.OUT_OF_MEMORY,
    }
)

_CODES = {
    JobState.PENDING: "PD",
    JobState.RUNNING: "R",
    JobState.SUSPENDED: "S",
    JobState.COMPLETING: "CG",
    JobState.COMPLETED: "CD",
    JobState.CANCELLED: "CA",
    JobState.FAILED: "F",
    JobState.TIMEOUT: "TO",
    JobState.NODE_FAIL: "NF",
    JobState.PREEMPTED: "PR",
    JobState.BOOT_FAIL: "BF",
    JobState.DEADLINE: "DL",
    JobState.OUT_OF_MEMORY: "OOM",
    JobState.CONFIGURING: "CF",
    JobState.REQUEUED: "RQ",
}


class Reason(IntEnum):
    """Why a job waits or how it ended; `word` is Slurm's spelling."""

    NONE = 0
    PRIORITY = 1
    RESOURCES = 2
    DEPENDENCY = 3
    DEPENDENCY_NEVER_SATISFIED = 4
    JOB_HELD_USER = 5
    JOB_HELD_ADMIN = 6
    BEGIN_TIME = 7
    JOB_ARRAY_TASK_LIMIT = 8
    PARTITION_DOWN = 9
    PARTITION_INACTIVE = 10
    PARTITION_TIME_LIMIT = 11
    PARTITION_NODE_LIMIT = 12
    REQ_NODE_NOT_AVAIL = 13
    NODE_DOWN = 14
    BAD_CONSTRAINTS = 15
    RESERVATION = 16
    LICENSES = 17
    JOB_HOLD_MAX_REQUEUE = 18
    JOB_LAUNCH_FAILURE = 19
    NON_ZERO_EXIT_CODE = 20
    RAISED_SIGNAL = 21
    TIME_LIMIT = 22
    OUT_OF_MEMORY = 23
    NODE_FAIL = 24
    CANCELLED = 25
    BEGIN_RETRY = 26
    SCHED_DEFER = 27
    """The pass ended before it reached this job (depth or time budget)."""
    DEADLINE = 28
    """It cannot end by its deadline any more."""
    ASSOCIATION_JOB_LIMIT = 29
    """As many jobs of its user, account or QoS run as may."""
    ASSOCIATION_RESOURCE_LIMIT = 30
    """They hold as much of something as they may."""

    @property
    def word(self) -> str:
        """Slurm's reason word, as `%r` prints it."""
        return _WORDS.get(self) or "".join(part.capitalize() for part in self.name.split("_"))


_WORDS = {Reason.NONE: "None", Reason.SCHED_DEFER: "SchedDefer", Reason.DEADLINE: "DeadLine"}


class NodeState(IntEnum):
    """Base state of a node; how busy it is (idle, mixed, allocated) is derived from its allocations."""

    UNKNOWN = 0
    """Configured, and never heard of since the controller started."""
    UP = 1
    DOWN = 2
    """Does not answer, or was set down by an operator."""
    FAIL = 3
    """Set by an operator or a health check: broken, takes no job."""


class StepState(IntEnum):
    """State of one step of a job."""

    STARTING = 1
    RUNNING = 2
    ENDED = 3
