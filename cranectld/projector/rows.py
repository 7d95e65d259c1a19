"""Rows of the read model, made from the state's objects. Pure functions."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

from crane.jobspec import BATCH_STEP, JobSpec
from crane.session import NodeShare
from crane.states import JobState, Reason
from cranectld.core import arrays
from cranectld.core.events import JobEnd
from cranectld.core.state import ArrayRecord, Job, Run, Step
from cranectld.store.codec.records import encode_rare, encode_shares

Row = tuple[Any, ...]
NS = 1_000_000_000


class Allocation(NamedTuple):
    """What an attempt holds, summed over its nodes."""

    nodes: str
    """Names in rank order, separated by commas."""
    node_count: int
    cpus: int
    memory: int
    gres: str
    """`gpu:a100:2,npu:1`."""


NOTHING = Allocation("", 0, 0, 0, "")


@lru_cache(maxsize=8192)
def allocation(shares: tuple[NodeShare, ...]) -> Allocation:
    """Sums of the shares. Cached: an attempt's are asked for several times, and many are equal."""
    gres = ",".join(f"{name}:{count}" for name, count in slot_counts(shares).items())
    return Allocation(
        ",".join(share.node for share in shares),
        len(shares),
        sum(share.cpus for share in shares),
        sum(share.memory for share in shares),
        gres,
    )


def slot_counts(shares: tuple[NodeShare, ...]) -> dict[str, int]:
    """Device slots by `name` or `name:type`, over all nodes."""
    counts: dict[str, int] = {}
    for share in shares:
        for slot in share.slots:
            name = f"{slot.name}:{slot.type}" if slot.type else slot.name
            counts[name] = counts.get(name, 0) + len(slot.indices)
    return counts


_shares_body = lru_cache(maxsize=8192)(encode_shares)


def job_row(job: Job, task: int, spec_id: int) -> Row:
    """Row of a job, an array's record, or a live array task (`task`: its index, else -1)."""
    run = job.run or job.last_run
    held = allocation(run.shares) if run is not None else NOTHING
    return _job_row(
        job,
        task,
        spec_id,
        held,
        state=job.state,
        reason=job.reason,
        exit_code=job.exit_code,
        signal=job.signal,
        end_time=job.end_time,
        cancelled_by=job.cancelled_by,
    )


def ended_task_row(job: Job, task: int, spec_id: int, end: JobEnd, now: int) -> Row:
    """Row of an array task that just left the state."""
    run = job.run or job.last_run
    held = allocation(run.shares) if run is not None else NOTHING
    return _job_row(
        job,
        task,
        spec_id,
        held,
        state=JobState.PENDING if end.requeue else end.state,
        reason=end.reason,
        exit_code=end.exit_code,
        signal=end.signal,
        end_time=0 if end.requeue else now,
        cancelled_by=end.by_uid if end.state is JobState.CANCELLED else -1,
    )


def _job_row(
    job: Job,
    task: int,
    spec_id: int,
    held: Allocation,
    *,
    state: JobState,
    reason: Reason,
    exit_code: int,
    signal: int,
    end_time: int,
    cancelled_by: int,
) -> Row:
    submission, run = job.submission, job.run or job.last_run
    spec = submission.spec
    partition = run.partition if run is not None else ",".join(spec.partitions)
    live = job.run
    peak = max(job.memory_peak, live.memory_peak) if live is not None else job.memory_peak
    return (
        job.job_id,
        job.array_id,
        task,
        submission.name,
        job.user,
        job.uid,
        job.gid,
        spec.account,
        partition,
        spec.qos,
        job.priority,
        job.submit_time,
        job.eligible_time,
        job.start_time,
        end_time,
        int(state),
        int(reason),
        exit_code,
        signal,
        job.attempt,
        job.restarts,
        cancelled_by,
        *held,
        job.cpu_us + (live.cpu_us if live is not None else 0),
        peak,
        submission.command,
        None if job.array is None else task_states(job.array),
        spec_id,
        encode_rare(submission),
    )


def task_states(record: ArrayRecord) -> str:
    """How many tasks of an array are in each state, as JSON: {"5": 100, "1": 20}."""
    counts = {int(state): count for state, count in record.ended.items() if count}
    if record.running:
        counts[int(JobState.RUNNING)] = len(record.running)
    if record.pending:
        counts[int(JobState.PENDING)] = record.pending
    return json.dumps(counts, sort_keys=True)


def attempt_row(job: Job, run: Run, end: JobEnd | None, now: int) -> Row:
    """Row of an attempt: running (`end` None), or ended at `now`."""
    seconds = max(0, now - run.start_time) // NS if end is not None else 0
    held = allocation(run.shares)
    gres_seconds = ""
    if held.gres:
        counts = slot_counts(run.shares)
        gres_seconds = ",".join(f"{name}={count * seconds}" for name, count in counts.items())
    return (
        job.job_id,
        run.attempt,
        run.partition,
        int(end.state if end is not None else job.state),
        int(end.reason if end is not None else job.reason),
        end.exit_code if end is not None else 0,
        end.signal if end is not None else 0,
        int(end is not None and end.requeue),
        run.start_time,
        now if end is not None else 0,
        *held,
        run.cpu_us,
        run.memory_peak,
        held.cpus * seconds,
        held.memory * seconds,
        held.node_count * seconds,
        gres_seconds,
        _shares_body(run.shares),
    )


def step_row(job_id: int, run: Run, step: Step) -> Row:
    """Row of a step."""
    layout = step.layout
    if layout is not None:
        nodes, ntasks = ",".join(layout.nodes), layout.ntasks
    else:
        nodes, ntasks = (run.shares[0].node if step.step == BATCH_STEP else ""), 1
    return (
        job_id,
        run.attempt,
        step.step,
        step.name,
        int(step.state),
        step.start_time,
        step.end_time,
        step.exit_code,
        step.signal,
        nodes,
        ntasks,
        step.cpu_us,
        step.memory_peak,
        step.message,
    )


def spec_row(body: bytes, spec: JobSpec) -> Row:
    """Row of a new spec: all of it in `body`, and what people look for in columns."""
    part = spec.components[0]
    return (
        None,  # SQLite gives the id
        body,
        spec.work_dir,
        spec.comment,
        spec.wckey,
        spec.reservation,
        ",".join(f"{name}:{count}" for name, count in spec.licences),
        spec.time_limit,
        part.min_nodes,
        part.ntasks,
        part.cpus_per_task,
        part.mem_per_node,
        part.mem_per_cpu,
        ",".join(":".join((*filter(None, (g.name, g.type)), str(g.count))) for g in part.gres),
        part.features,
    )


def task_index(array: Job, position: int) -> int:
    """Index of an array's task."""
    return arrays.task_index(array, position)
