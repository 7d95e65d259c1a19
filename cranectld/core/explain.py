"""Why a job waits, in Slurm's words and in sentences with numbers."""

from __future__ import annotations

from dataclasses import dataclass

from crane.dependency import format_dependency
from crane.jobspec import UNLIMITED, Dependency
from crane.states import Reason
from cranectld.core.eligibility import any_partition_up, startable
from cranectld.core.feasible import bounds
from cranectld.core.state import HOLD_NONE, HOLD_OPERATOR, Job, State
from sched_core.codes import MoveCause, VerdictCode

REASONS: dict[VerdictCode, Reason] = {
    VerdictCode.STARTED: Reason.NONE,
    VerdictCode.PRIORITY: Reason.PRIORITY,
    VerdictCode.RESOURCES: Reason.RESOURCES,
    VerdictCode.NODE_NOT_AVAIL: Reason.REQ_NODE_NOT_AVAIL,
    VerdictCode.NEVER: Reason.BAD_CONSTRAINTS,
    VerdictCode.NOT_REACHED: Reason.SCHED_DEFER,
    VerdictCode.DEPENDENCY: Reason.DEPENDENCY,
    VerdictCode.DEPENDENCY_NEVER_SATISFIED: Reason.DEPENDENCY_NEVER_SATISFIED,
    VerdictCode.HELD_USER: Reason.JOB_HELD_USER,
    VerdictCode.HELD_ADMIN: Reason.JOB_HELD_ADMIN,
    VerdictCode.BEGIN_TIME: Reason.BEGIN_TIME,
    VerdictCode.ARRAY_LIMIT: Reason.JOB_ARRAY_TASK_LIMIT,
    VerdictCode.PARTITION_DOWN: Reason.PARTITION_DOWN,
    VerdictCode.PARTITION_INACTIVE: Reason.PARTITION_INACTIVE,
    VerdictCode.PARTITION_TIME_LIMIT: Reason.PARTITION_TIME_LIMIT,
    VerdictCode.PARTITION_NODE_LIMIT: Reason.PARTITION_NODE_LIMIT,
    VerdictCode.RESERVATION: Reason.RESERVATION,
    VerdictCode.LICENSES: Reason.LICENSES,
    VerdictCode.LIMIT: Reason.ASSOCIATION_JOB_LIMIT,
    VerdictCode.REQUEUE_HOLD: Reason.JOB_HOLD_MAX_REQUEUE,
    VerdictCode.DEADLINE: Reason.DEADLINE,
}
"""Every verdict in Slurm's words; of a limit on amounts, see `reason_for`."""

MOVES: dict[MoveCause, str] = {
    MoveCause.KEPT: "the last pass ended before it could be looked at",
    MoveCause.AHEAD: "a job that goes before it came, or was changed",
    MoveCause.NODE: "a promised node is lost, or no longer what was asked for",
    MoveCause.RUNNING: "running jobs hold more there, or longer, than they said",
}
"""Why a promised start was not kept."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the last pass found of a job's nodes."""

    matching: int
    """Configured nodes that could host a part of it when empty."""
    usable: int
    """Of these, up and not drained."""
    fitting: int
    """Of these, with enough free at the pass."""
    short: str = ""
    """Dimension that is short: `cpu`, `memory`, `gres/gpu:a100`."""
    ahead: int = 0
    """Jobs before it in the queue."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition the controller itself knows of: hold, dependency, begin, limits, partition."""

    name: str
    open: bool
    text: str = ""
    """Why it is shut."""


def reason_of(state: State, job: Job, now: int) -> Reason | None:
    """Why the core keeps a waiting job from starting; None: it does not, or the job does not wait."""
    found = startable(state, job)
    if found is None:
        return None
    if found.gate:
        return REASONS[VerdictCode(found.gate)]
    return Reason.BEGIN_TIME if job.eligible_time > now else None


def reason_for(code: VerdictCode, short: str) -> Reason:
    """A verdict in Slurm's words; `short`: what it is short of, or what the limit is on."""
    if code is VerdictCode.LIMIT and short:
        return Reason.ASSOCIATION_RESOURCE_LIMIT
    return REASONS[code]


def gates(state: State, job: Job, now: int) -> list[Gate]:
    """All gates of a waiting job, in the order in which they are looked at."""
    held = job.hold != HOLD_NONE
    unmet = _unmet(job)
    wait = -(-(job.eligible_time - now) // 1_000_000_000)
    up = any_partition_up(state, job)
    found = [
        Gate("hold", not held, _hold_text(job) if held else ""),
        Gate("dependency", not unmet, unmet),
        Gate("begin", wait <= 0, f"it may start in {wait} s" if wait > 0 else ""),
        Gate("partition", up, "" if up else f"{','.join(job.spec.partitions)} is down"),
    ]
    record = job.array
    if record is not None:
        limit, running = record.spec.limit, len(record.running)
        full = limit > 0 and running >= limit
        text = f"{running} tasks run, {limit} may run at once" if full else ""
        found.append(Gate("limits", not full, text))
    return found


def other_partitions(state: State, job: Job) -> tuple[str, ...]:
    """Partitions besides its own that would take a job as it is, by name."""
    spec = job.spec
    nodes = bounds(spec.components[0]).low
    return tuple(
        name
        for name, partition in sorted(state.partitions.items())
        if partition.up
        and name not in spec.partitions
        and (partition.max_time == UNLIMITED or 0 < spec.time_limit <= partition.max_time)
        and (not partition.max_nodes or nodes <= partition.max_nodes)
        and (not partition.allow_accounts or spec.account in partition.allow_accounts)
    )


def _hold_text(job: Job) -> str:
    if job.reason is Reason.JOB_HOLD_MAX_REQUEUE:
        return f"it was requeued {job.restarts} times, as often as may be; release lets it go again"
    if job.hold == HOLD_OPERATOR:
        return "an operator holds it; only an operator can release it"
    return f"user {job.user} holds it; ccontrol release {job.job_id} lets it go"


def _unmet(job: Job) -> str:
    """The open terms of the dependency, and which of them can never be fulfilled."""
    dependency = job.submission.dependency
    if not job.unmet or dependency is None:
        return ""
    terms = [dependency.terms[i] for i in job.unmet]
    text = f"waits for {format_dependency(Dependency(tuple(terms), dependency.any_of))}"
    never = [dependency.terms[i] for i, hopeless in job.unmet.items() if hopeless]
    if never:
        text += f"; never fulfilled: {format_dependency(Dependency(tuple(never)))}"
    return text


_SENTENCES = {
    Reason.NONE: "No scheduling pass has looked at it yet.",
    Reason.PRIORITY: "Jobs before it in the queue wait too, and go first.",
    Reason.RESOURCES: "It waits for resources that other jobs hold.",
    Reason.DEPENDENCY: "It waits for another job.",
    Reason.DEPENDENCY_NEVER_SATISFIED: "What it depends on can never come true: it will not start.",
    Reason.JOB_HELD_USER: "Its owner holds it.",
    Reason.JOB_HELD_ADMIN: "An operator holds it.",
    Reason.JOB_HOLD_MAX_REQUEUE: "It was requeued as often as may be, and is held.",
    Reason.BEGIN_TIME: "Its begin time has not come.",
    Reason.JOB_ARRAY_TASK_LIMIT: "As many tasks of its array run as may run at once.",
    Reason.PARTITION_DOWN: "Its partition takes no jobs now.",
    Reason.PARTITION_INACTIVE: "Its partition is out of service.",
    Reason.PARTITION_TIME_LIMIT: "Its time limit is longer than its partition allows.",
    Reason.PARTITION_NODE_LIMIT: "It asks for more nodes than its partition allows.",
    Reason.REQ_NODE_NOT_AVAIL: "Nodes that it needs are down or drained.",
    Reason.BAD_CONSTRAINTS: "No configured nodes could ever host it.",
    Reason.RESERVATION: "It waits for its reservation.",
    Reason.LICENSES: "It waits for licences.",
    Reason.DEADLINE: "It cannot end by its deadline any more: it will not start.",
    Reason.SCHED_DEFER: "The last scheduling pass ended before it reached this job.",
    Reason.ASSOCIATION_JOB_LIMIT: "As many jobs of its user, account or QoS run as may.",
    Reason.ASSOCIATION_RESOURCE_LIMIT: "Jobs of its user, account or QoS hold as much as they may.",
}


def sentence(job: Job, reason: Reason, survey: Survey | None = None) -> str:
    """The reason in words, with the numbers of the last pass if there was one."""
    said = [_SENTENCES[reason]]
    if survey is not None:
        said.append(
            f"{_count(survey.matching, 'node')} could host it, {survey.usable} of them "
            f"{'takes' if survey.usable == 1 else 'take'} jobs, {survey.fitting} "
            f"{'has' if survey.fitting == 1 else 'have'} enough free now; "
            f"it wants {bounds(job.spec.components[0]).low}."
        )
        if reason is Reason.ASSOCIATION_RESOURCE_LIMIT:
            said.append(f"The limit is on {survey.short}.")
        elif survey.short:
            who = "It lacks" if survey.short.startswith("licence/") else "Most lack"
            said.append(f"{who} {survey.short}.")
        if survey.ahead:
            verb = "is" if survey.ahead == 1 else "are"
            said.append(f"{_count(survey.ahead, 'job')} {verb} ahead of it.")
    return " ".join(said)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
