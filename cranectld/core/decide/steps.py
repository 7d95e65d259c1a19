"""Creating steps inside a job: where the tasks of `crun` go."""

from __future__ import annotations

from crane.errors import did_you_mean
from crane.jobspec import BATCH_STEP, NO_BLOB
from crane.session import NodeShare, StepKey, StepLayout, StepRequest
from crane.states import StepState
from cranectld.core.commands import CreateStep, Refusal, Rejected, StepGranted
from cranectld.core.decide.decision import Decision
from cranectld.core.decide.resolve import MAX_TEXT
from cranectld.core.decide.rights import foreign_job
from cranectld.core.events import StepCreated
from cranectld.core.state import Job, Run, State

MAX_STEPS = 40_000
"""Steps of one attempt (Slurm's MaxStepCount)."""
MAX_TASKS = 1 << 20
MAX_TICKET = 256
"""Characters; crun's have 32."""
MAX_NAME = 64
"""Characters of an unknown node's name that are repeated to who gave it."""


def create_step(state: State, command: CreateStep, _now: int) -> Decision:
    """CreateStep. Reply: StepGranted. CONFLICT: the CPUs are busy with other steps, try again."""
    job, run = _running_job(state, command)
    request = command.request
    check_form(request)
    _check_nodes(state, request)
    if run.next_step >= MAX_STEPS:
        raise Rejected(
            Refusal.LIMIT_EXCEEDED,
            f"job {job.job_id} has made {run.next_step} steps, the limit is {MAX_STEPS}",
            "run several commands in one step",
        )
    layout = _layout(job, run, request)
    key = StepKey(job.job_id, run.next_step, run.attempt)
    granted = StepGranted(key, layout.nodes, layout.tasks_per_node)
    if command.dry_run:
        return Decision((), granted)
    return Decision((StepCreated(key, request, layout),), granted)


def _running_job(state: State, command: CreateStep) -> tuple[Job, Run]:
    job = state.jobs.get(command.job_id)
    if job is None:
        raise Rejected(Refusal.UNKNOWN_JOB, f"there is no job {command.job_id}")
    if job.uid != command.principal.uid:
        raise foreign_job(command.principal, str(command.job_id), job)
    run = job.run
    if run is None or run.batch_end is not None or run.ending is not None:
        raise Rejected(
            Refusal.CONFLICT,
            f"job {command.job_id} is {job.state.name}: it can make no steps",
            "steps are made while the job runs",
        )
    return job, run


def check_form(request: StepRequest) -> None:
    """What passes can be made into an order to launch. Raises Rejected (BAD_REQUEST)."""
    counts = (request.ntasks, request.min_nodes, request.ntasks_per_node, request.cpus_per_task)
    if any(not 0 <= count <= MAX_TASKS for count in counts):
        raise _bad(f"numbers of tasks, nodes and CPUs must be 0 to {MAX_TASKS}")
    if request.argv == NO_BLOB:
        raise _bad("a step needs a command")
    texts = (request.name, request.work_dir, request.endpoint, request.rendezvous)
    if max(map(len, (*texts, request.stdin_mode, request.ticket))) > MAX_TEXT:
        raise _bad(f"a text of the step is longer than {MAX_TEXT} characters")
    if any("\0" in text for text in texts):
        raise _bad("a text of the step contains a NUL character", "remove it")
    if len(request.ticket) > MAX_TICKET or any(not 33 <= byte <= 126 for byte in request.ticket):
        raise _bad(f"the ticket is not at most {MAX_TICKET} printable ASCII characters")
    if not _known_stdin(request.stdin_mode):
        raise _bad("standard input goes to `all`, `none` or a rank", "see crun --help on --input")


def _known_stdin(mode: str) -> bool:
    """`all` (also: empty), `none`, or a rank; other scripts' digits are digits to `str` as well."""
    rank = mode.isascii() and mode.isdigit() and len(mode) <= len(str(MAX_TASKS))
    return rank or mode in {"", "all", "none"}


def _check_nodes(state: State, request: StepRequest) -> None:
    """Nodes named: each exists and is named once, as when a job is submitted.

    So there are no more than the cluster has, and no name is longer than one of its nodes'.
    """
    named = (*request.nodelist, *request.exclude)
    for names in (request.nodelist, request.exclude):
        if len(dict.fromkeys(names)) < len(names):
            raise _bad("nodes are named more than once", "name each node once")
    if len(named) > 2 * len(state.nodes):
        raise Rejected(
            Refusal.LIMIT_EXCEEDED,
            f"{len(named)} nodes are named, the cluster has {len(state.nodes)}",
            "name each node once",
        )
    for name in named:
        if name not in state.nodes:
            raise Rejected(
                Refusal.UNKNOWN_NODE,
                f"there is no node {name[:MAX_NAME]}",
                did_you_mean(name[:MAX_NAME], state.nodes) or "cinfo -N lists the nodes",
            )


def _bad(message: str, hint: str = "") -> Rejected:
    return Rejected(Refusal.BAD_REQUEST, message, hint)


def _layout(job: Job, run: Run, request: StepRequest) -> StepLayout:
    """Nodes in rank order and tasks on each: block distribution over the job's shares."""
    part = job.spec.components[0]
    cpus_per_task = request.cpus_per_task or part.cpus_per_task
    shares = _candidates(job, run, request)
    count = request.min_nodes or len(shares)
    if count > len(shares):
        raise Rejected(
            Refusal.UNSATISFIABLE,
            f"the step asks for {count} nodes, job {job.job_id} has {len(shares)} for it",
            "ask for fewer with -N",
        )
    ntasks = _ntasks(request, shares[:count])
    count = min(count, ntasks)
    shares = shares[:count]
    caps = [_capacity(share.cpus, cpus_per_task, request.ntasks_per_node) for share in shares]
    planned = [share.tasks for share in shares]
    if ntasks == sum(planned) and all(p <= c for p, c in zip(planned, caps, strict=True)):
        tasks = planned
    else:
        tasks = _block(ntasks, caps)
    if sum(tasks) < ntasks:
        raise Rejected(
            Refusal.UNSATISFIABLE,
            f"the step asks for {ntasks} tasks with {cpus_per_task / 1000:g} CPU(s) each; "
            f"{count} node(s) of job {job.job_id} have room for {sum(caps)}",
            "ask for fewer tasks with -n, or submit a larger job",
        )
    if not request.overlap:
        _check_free(run, shares, tasks, cpus_per_task, part.cpus_per_task)
    return StepLayout(tuple(share.node for share in shares), tuple(tasks))


def _candidates(job: Job, run: Run, request: StepRequest) -> list[NodeShare]:
    """The job's shares on which the step may run, in rank order."""
    nodes = {share.node: None for share in run.shares}
    for name in request.nodelist:
        if name not in nodes:
            raise _bad(
                f"node {name} is not part of job {job.job_id}", f"it runs on {', '.join(nodes)}"
            )
    wanted = request.nodelist or tuple(nodes)
    found = [s for s in run.shares if s.node in wanted and s.node not in request.exclude]
    if not found or any(name in request.exclude for name in request.nodelist):
        raise _bad("the node list and the excluded nodes leave the step no node")
    lost = [share.node for share in found if share.node in run.fences]
    if lost:
        raise Rejected(
            Refusal.CONFLICT,
            f"node {lost[0]} of job {job.job_id} does not answer",
            "try again, or exclude it",
        )
    return found


def _ntasks(request: StepRequest, shares: list[NodeShare]) -> int:
    if request.ntasks:
        return request.ntasks
    if request.ntasks_per_node:
        return request.ntasks_per_node * len(shares)
    return sum(share.tasks for share in shares)


def _capacity(cpus: int, cpus_per_task: int, per_node: int) -> int:
    room = cpus // cpus_per_task
    return min(room, per_node) if per_node else room


def _block(ntasks: int, caps: list[int]) -> list[int]:
    """One task on each node, then filled up in rank order (srun(1), --distribution=block)."""
    tasks = [min(1, cap) for cap in caps]
    left = ntasks - sum(tasks)
    for i, cap in enumerate(caps):
        more = max(0, min(left, cap - tasks[i]))
        tasks[i] += more
        left -= more
    return tasks


def _check_free(
    run: Run, shares: list[NodeShare], tasks: list[int], cpus_per_task: int, usual: int
) -> None:
    """Raise CONFLICT if other running steps (but for overlapping ones) need the CPUs."""
    busy = {share.node: 0 for share in shares}
    for step in run.steps.values():
        if step.step == BATCH_STEP or step.state is StepState.ENDED or step.layout is None:
            continue
        if step.request is not None and step.request.overlap:
            continue
        each = (step.request.cpus_per_task if step.request is not None else 0) or usual
        for name, count in zip(step.layout.nodes, step.layout.tasks_per_node, strict=True):
            if name in busy and name in step.waiting:
                busy[name] += count * each
    for share, count in zip(shares, tasks, strict=True):
        if busy[share.node] + count * cpus_per_task > share.cpus:
            raise Rejected(
                Refusal.CONFLICT,
                f"the job's CPUs on node {share.node} are busy with other steps",
                "wait for them (crun does), or use --overlap",
            )
