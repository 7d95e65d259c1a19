"""The state as messages: jobs, array tasks, nodes, partitions, as users see them."""

from __future__ import annotations

import contextlib
import os

from crane import filepattern
from crane.arrayspec import normalise
from crane.errors import CraneError
from crane.jobspec import BATCH_STEP, ArraySpec, JobSpec
from crane.states import ENDED, JobState, Reason
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from crane.wire import jobspec as wire
from cranectld.core.query import node_word, task_reason, task_state, unstarted_spans
from cranectld.core.state import Job, Node, Run, State, Step
from cranectld.rpc.waiting import Waiting


class JobViews:
    """Makes JobInfo messages for one answer; what jobs share is converted once."""

    def __init__(self, state: State, waiting: Waiting, *, steps: bool = False) -> None:
        """`waiting`: why pending jobs wait; `steps`: whether rows carry their steps."""
        self._state = state
        self._waiting = waiting
        self._steps = steps
        self._specs: dict[int, types.JobSpec] = {}

    def job(self, job: Job) -> pb.JobInfo:
        """A job, an array's own record, or a live array task."""
        info = self._common(job)
        info.state = types.JobState.ValueType(job.state)
        info.start_time = job.start_time
        info.end_time = job.end_time
        info.exit_code = job.exit_code
        info.signal = job.signal
        info.attempt = job.attempt
        info.restarts = job.restarts
        info.cpu_us = job.cpu_us
        info.memory_peak = job.memory_peak
        if job.cancelled_by >= 0:
            info.cancelled_by = job.cancelled_by
        if job.array is not None:
            _array(info, job)
        elif job.array_id:
            info.array_job_id = job.array_id
            info.array_task = self._index(job)
        run = job.run or job.last_run
        if run is not None:
            self._run(info, job, run)
        if job.state is JobState.PENDING:
            self._explain(info, job)
        else:
            info.reason = types.Reason.ValueType(job.reason)
            if job.state in ENDED and run is not None and BATCH_STEP in run.steps:
                info.reason_text = run.steps[BATCH_STEP].message
        _files(info, job, run)
        return info

    def task(self, job: Job, position: int, index: int) -> pb.JobInfo:
        """A task of an array that has no record of its own: it has not started, or has ended."""
        record = job.array
        assert record is not None
        info = self._common(job)
        info.array_job_id = job.job_id
        info.array_task = index
        info.attempt = record.attempts.get(position, 0)
        state = task_state(job, position)
        info.state = types.JobState.ValueType(state)
        if state is JobState.PENDING:
            self._explain(info, job, task_reason(job, position))
        else:
            info.end_time = record.end_time[position]
            code = record.exit[position]
            info.exit_code, info.signal = (code, 0) if code >= 0 else (0, -code)
        return info

    def _common(self, job: Job) -> pb.JobInfo:
        submission, spec = job.submission, job.spec
        info = pb.JobInfo(
            job_id=job.job_id,
            array_task=-1,
            name=submission.name,
            user=job.user,
            uid=job.uid,
            gid=job.gid,
            priority=job.priority,
            submit_time=job.submit_time,
            eligible_time=job.eligible_time,
            args=submission.args,
            command=submission.command,
            partition=spec.partitions[0] if spec.partitions else self._state.default_partition,
            time_limit=limit_of(spec),
        )
        info.spec.CopyFrom(self._spec(spec))
        if submission.dependency is not None:
            info.dependency.CopyFrom(wire.dependency_to_wire(submission.dependency))
        return info

    def _spec(self, spec: JobSpec) -> types.JobSpec:
        known = self._specs.get(id(spec))  # the jobs of this answer keep their specs alive
        if known is None:
            known = self._specs[id(spec)] = wire.spec_to_wire(spec)
        return known

    def _explain(self, info: pb.JobInfo, job: Job, own: Reason = Reason.NONE) -> None:
        why = self._waiting.of(self._state, job, own)
        info.reason = types.Reason.ValueType(why.reason)
        info.reason_text = why.text
        info.planned_start = why.planned_start
        info.planned_earliest = why.earliest
        info.planned_latest = why.latest
        if why.priority is not None:
            info.priority = why.priority

    def _index(self, job: Job) -> int:
        parent = self._state.jobs.get(job.array_id)
        if parent is None or parent.array is None:
            return -1
        return parent.array.places.index_at(job.position)

    def _run(self, info: pb.JobInfo, job: Job, run: Run) -> None:
        info.partition = run.partition
        info.time_limit = limit_of(job.spec, run.start_time)
        info.allocation.extend(wire.share_to_wire(share) for share in run.shares)
        if job.run is not None and run.end_limit:
            info.end_time = run.end_limit
        if self._steps:
            info.steps.extend(_step(step, run) for step in run.steps.values())


def limit_of(spec: JobSpec, start_time: int = 0) -> int:
    """Seconds a job may run, once started (ns) no longer than up to its deadline; 0: no limit."""
    limit = max(spec.time_limit, 0)
    if not spec.deadline or not start_time:
        return limit
    left = max(1, (spec.deadline - start_time) // 1_000_000_000)
    return min(limit, left) if limit else left


def _array(info: pb.JobInfo, job: Job) -> None:
    record = job.array
    assert record is not None
    info.array_job_id = job.job_id
    ranges = pending_ranges(job)
    info.array.CopyFrom(wire.array_to_wire(ArraySpec(ranges, record.spec.limit)))
    for number, count in record.ended.items():
        if count:
            info.task_states[number] = count
    if record.pending:
        info.task_states[JobState.PENDING.value] = record.pending
    if record.running:
        info.task_states[JobState.RUNNING.value] = len(record.running)


def pending_ranges(job: Job) -> tuple[tuple[int, int, int], ...]:
    """Indices of an array's tasks not yet started, as ranges."""
    record = job.array
    assert record is not None
    if record.pending == record.count:
        return record.spec.ranges
    found: list[tuple[int, int, int]] = []
    spans = iter(unstarted_spans(job))
    span = next(spans, None)
    before = 0
    for first, last, step in record.spec.ranges:
        end = before + (last - first) // step
        while span is not None and span[0] <= end:
            low, high = max(span[0], before) - before, min(span[1], end) - before
            found.append((first + low * step, first + high * step, step))
            if span[1] > end:
                break
            span = next(spans, None)
        before = end + 1
    return normalise(found)


def _step(step: Step, run: Run) -> pb.StepInfo:
    layout = step.layout
    batch = step.step == BATCH_STEP
    nodes = layout.nodes if layout else tuple(share.node for share in run.shares)
    return pb.StepInfo(
        step=step.step,
        state=types.StepState.ValueType(step.state),
        name=step.name,
        start_time=step.start_time,
        end_time=step.end_time,
        exit_code=step.exit_code,
        signal=step.signal,
        nodes=nodes[:1] if batch else nodes,
        ntasks=1 if batch or layout is None else layout.ntasks,
        cpu_us=step.cpu_us,
        memory_peak=step.memory_peak,
    )


def _files(info: pb.JobInfo, job: Job, run: Run | None) -> None:
    """Names of the output files, where they no longer depend on what is unknown."""
    spec = job.spec
    in_array = bool(info.array_job_id)
    if job.array is not None:
        context = filepattern.FileContext(job.job_id)
    else:
        context = filepattern.FileContext(
            job_id=job.job_id,
            array_job_id=info.array_job_id,
            task=info.array_task,
            node=run.shares[0].node if run is not None else "",
            user=job.user,
            name=job.submission.name,
        )
    info.stdout = _file(spec, spec.stdout, context, in_array, job)
    info.stderr = _file(spec, spec.stderr, context, in_array, job) if spec.stderr else info.stdout


def _file(
    spec: JobSpec, pattern: str, context: filepattern.FileContext, in_array: bool, job: Job
) -> str:
    pattern = pattern or filepattern.default_pattern(array=in_array)
    unknown = job.array is not None or (not context.node and "N" in pattern)
    if not unknown:
        # A pattern that makes no sense is shown as it was given; the agent will say what is wrong.
        with contextlib.suppress(CraneError):
            pattern = filepattern.expand(pattern, context)
    return os.path.join(spec.work_dir, pattern)


def node_info(node: Node, heard: int, *, connected: bool) -> pb.NodeInfo:
    """A node; `heard`: instant of its last message, 0 if it is not known."""
    config = node.config
    info = pb.NodeInfo(
        name=config.name,
        address=node.address or config.address or config.name,
        state=types.NodeState.ValueType(node.state),
        drain=node.drain,
        shown_state=node_word(node),
        reason=node.reason,
        reason_by=node.reason_by,
        reason_time=node.reason_time,
        cpus=node.cpus or config.cpus,
        cpus_alloc=node.cpus_used,
        memory=node.memory or config.memory,
        memory_alloc=node.memory_used,
        gres=[wire.gres_to_wire(gres) for gres in config.gres],
        features=config.features,
        partitions=node.partitions,
        weight=config.weight,
        version=node.inventory.version,
        boot_time=node.inventory.boot_time,
        registered_time=node.registered_time,
        last_contact=heard or node.last_heard,
        cgroup=node.inventory.cgroup,
        jobs=node.jobs,
        os=node.inventory.os,
        connected=connected,
    )
    for (name, kind), slots in node.slots_used.items():
        used = sum(1 for job_id in slots if job_id)
        if used:
            info.gres_alloc.add(name=name, type=kind, count=used)
    return info


def partition_info(state: State, name: str) -> pb.PartitionInfo:
    """A partition."""
    config = state.partitions[name]
    cpus = sum(node.cpus or node.config.cpus for node in _nodes(state, config.nodes))
    return pb.PartitionInfo(
        name=name,
        default=name == state.default_partition,
        up=config.up,
        nodes=config.nodes,
        max_time=config.max_time,
        default_time=config.default_time or config.max_time,
        max_nodes=config.max_nodes,
        priority=config.priority,
        cpus=cpus,
        allow_accounts=config.allow_accounts,
    )


def _nodes(state: State, names: tuple[str, ...]) -> list[Node]:
    return [state.nodes[name] for name in names if name in state.nodes]
