"""Commands: everything that can be asked of the controller's core.

A command is decided against the present state: `decide(state, command, now)` returns the events that
follow and the reply, or raises `Rejected`. Commands carry what the shell had to look up beforehand
(who asks, what old jobs ended like), so that deciding needs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from crane.config.model import ClusterConfig
from crane.jobspec import Dependency, Submission
from crane.session import NodeShare, Registration, Report, StepKey, StepRequest
from crane.states import JobState
from cranectld.core.identity import Principal


@dataclass(frozen=True, slots=True)
class StartEpoch:
    """The controller starts; first command of every run."""


@dataclass(frozen=True, slots=True)
class ApplyConfig:
    """Put a configuration in force. Reply: tuple[str, ...], what changed."""

    principal: Principal
    config: ClusterConfig


@dataclass(frozen=True, slots=True)
class PastJob:
    """Outcome of a job that has left memory, looked up in the read model for dependencies."""

    job_id: int
    task: int
    """Array index; -1: the job as a whole."""
    state: JobState
    exit_code: int
    start_time: int
    end_time: int


@dataclass(frozen=True, slots=True)
class SubmitJobs:
    """Submit a batch. Reply: tuple[int | Rejected, ...], a job id or the refusal, in order."""

    principal: Principal
    jobs: tuple[Submission, ...]
    past: tuple[PastJob, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class SelectedId:
    """One id a user named; `ranges` (first, last, step) of array indices, empty: the whole job."""

    job_id: int
    ranges: tuple[tuple[int, int, int], ...] = ()
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Selector:
    """Jobs by id or by filter. Kinds must all hold; values of one kind are alternatives."""

    ids: tuple[SelectedId, ...] = ()
    users: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()
    states: tuple[JobState, ...] = ()
    nodes: tuple[str, ...] = ()
    reservations: tuple[str, ...] = ()
    wckeys: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class CancelJobs:
    """Cancel (signal 0), or send a signal. Reply: tuple[Outcome, ...]."""

    principal: Principal
    selector: Selector
    signal: int = 0
    batch_only: bool = False


@dataclass(frozen=True, slots=True)
class HoldJobs:
    """Keep pending jobs from starting. Reply: tuple[Outcome, ...]."""

    principal: Principal
    selector: Selector


@dataclass(frozen=True, slots=True)
class ReleaseJobs:
    """Undo a hold; an operator's hold only by an operator. Reply: tuple[Outcome, ...]."""

    principal: Principal
    selector: Selector


@dataclass(frozen=True, slots=True)
class RequeueJobs:
    """Run again: end running attempts and go back to pending; ended jobs too. Reply: Outcomes."""

    principal: Principal
    selector: Selector
    hold: bool = False


@dataclass(frozen=True, slots=True)
class JobChanges:
    """What `ccontrol update job` may change; None leaves a thing as it is."""

    priority: int | None = None
    nice: int | None = None
    time_limit: int | None = None
    name: str | None = None
    comment: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    begin: int | None = None
    deadline: int | None = None
    requeue: bool | None = None
    features: str | None = None
    array_limit: int | None = None
    wckey: str | None = None
    reservation: str | None = None
    extra: str | None = None
    dependency: Dependency | None = None


@dataclass(frozen=True, slots=True)
class UpdateJobs:
    """Change jobs. Reply: tuple[Outcome, ...]."""

    principal: Principal
    selector: Selector
    changes: JobChanges
    past: tuple[PastJob, ...] = ()
    """For a new dependency, as in SubmitJobs."""


class NodeAction:
    """What `ccontrol update node` can do (values of `ChangeNodes.action`)."""

    DRAIN = "drain"
    RESUME = "resume"
    DOWN = "down"
    FAIL = "fail"
    ABSENT = "absent"
    """The operator confirms that the host is off: no process of it is alive."""


@dataclass(frozen=True, slots=True)
class ChangeNodes:
    """Operate nodes. Reply: tuple[Outcome, ...]."""

    principal: Principal
    names: tuple[str, ...]
    action: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlannedStart:
    """One start a plan proposes: of a job, or of the next startable task of an array record."""

    job_id: int
    shares: tuple[NodeShare, ...]
    """CPU, memory and tasks per node; device slots are in `slots`."""
    slots: tuple[tuple[tuple[str, str, int], ...], ...] = ()
    """Per share: (name, type, count) of device slots to take; the core chooses which."""
    partition: str = ""
    """The one of the job's partitions that was chosen; empty: the first."""


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """Start what still holds of a plan. Reply: int, how many were started."""

    starts: tuple[PlannedStart, ...]


@dataclass(frozen=True, slots=True)
class RegisterNode:
    """An agent opened a session. Reply: None (rejected: unknown node)."""

    registration: Registration


@dataclass(frozen=True, slots=True)
class NodeSilent:
    """An agent was last heard at `last_heard` (ns) and is late."""

    node: str
    last_heard: int


@dataclass(frozen=True, slots=True)
class TakeReports:
    """Reports of an agent, in outbox order. Reply: None; acknowledged when durable."""

    node: str
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class CreateStep:
    """`crun` inside a job. Reply: StepGranted."""

    principal: Principal
    job_id: int
    request: StepRequest
    dry_run: bool = False
    """Whether it would be granted now; nothing is made."""


@dataclass(frozen=True, slots=True)
class SignalStep:
    """Signal one step. Reply: None."""

    principal: Principal
    job_id: int
    step: int
    signal: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: act on what is due (`state.next_due`). Reply: None."""


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """The wall clock was set forward by `by` (ns): the time of later commands is by so much more than
    what has passed. Fences move along. Reply: None.
    """

    by: int


Command = (
    StartEpoch
    | ApplyConfig
    | SubmitJobs
    | CancelJobs
    | HoldJobs
    | ReleaseJobs
    | RequeueJobs
    | UpdateJobs
    | ChangeNodes
    | CommitPlan
    | RegisterNode
    | NodeSilent
    | TakeReports
    | CreateStep
    | SignalStep
    | Tick
    | ClockStepped
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one subject (`12`, `12_3`, `n1`) of a command; no `error`: done."""

    subject: str
    error: Rejected | None = None


@dataclass(frozen=True, slots=True)
class StepGranted:
    """Answer to CreateStep."""

    key: StepKey
    nodes: tuple[str, ...]
    tasks_per_node: tuple[int, ...]


class Refusal:
    """Stable codes of refusals; `crane.v1.ErrorCode` has the same words."""

    BAD_REQUEST = "BAD_REQUEST"
    NOT_PERMITTED = "NOT_PERMITTED"
    UNKNOWN_JOB = "UNKNOWN_JOB"
    UNKNOWN_NODE = "UNKNOWN_NODE"
    UNKNOWN_PARTITION = "UNKNOWN_PARTITION"
    UNKNOWN_STEP = "UNKNOWN_STEP"
    UNSATISFIABLE = "UNSATISFIABLE"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    CONFLICT = "CONFLICT"
    BAD_DEPENDENCY = "BAD_DEPENDENCY"
    BAD_CONFIG = "BAD_CONFIG"
    BAD_ARRAY = "BAD_ARRAY"
    BAD_TIME = "BAD_TIME"


class Rejected(Exception):  # noqa: N818 - it is an answer, not a fault
    """A command was refused, and nothing changed: code, what happened, what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
