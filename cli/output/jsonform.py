"""JSON for programs. Keys are stable: they are added, never renamed (`format` 1).

Each answer is one object: `crane` (format, command, version) and the rows under their own key.
CPU is in CPUs (`0.5`), memory in MiB, times in seconds since the epoch (null: none), durations in
seconds (null: unlimited). States and reasons are Slurm's words.
"""

from __future__ import annotations

import json
import sys

from crane import __version__
from crane.dependency import format_dependency
from crane.gres import format_gres
from crane.jobspec import UNLIMITED
from crane.selector import format_step

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from crane.client import model
    from crane.errors import CraneError

FORMAT = 1


def write(command: str, **content: Any) -> None:
    """One object on standard output."""
    head = {"format": FORMAT, "command": command, "version": __version__}
    json.dump({"crane": head, **content}, sys.stdout, indent=2)
    sys.stdout.write("\n")


def error(found: CraneError | None) -> dict[str, str] | None:
    """An error by its stable code."""
    if found is None:
        return None
    return {"code": found.code.value, "message": found.message, "hint": found.hint}


def instant(ns: int) -> float | None:
    """Seconds since the epoch."""
    return round(ns / 1e9, 6) if ns else None


def duration(seconds: int) -> int | None:
    """Seconds, null for no limit."""
    return None if seconds == UNLIMITED else seconds


def cpus(thousandths: int) -> int | float:
    """CPUs, whole if they are."""
    return thousandths // 1000 if thousandths % 1000 == 0 else thousandths / 1000


def job(row: model.JobInfo) -> dict[str, Any]:
    """A job, an array task, or what waits of an array."""
    spec, part = row.spec, row.spec.components[0]
    return {
        "id": row.shown_id,
        "job_id": row.job_id,
        "array_job_id": row.array_job_id or None,
        "array_task": row.array_task if row.array_task >= 0 else None,
        "name": row.name,
        "user": row.user,
        "uid": row.uid,
        "gid": row.gid,
        "account": spec.account,
        "qos": spec.qos,
        "partition": row.partition or ",".join(spec.partitions),
        "reservation": spec.reservation,
        "comment": spec.comment,
        "wckey": spec.wckey,
        "extra": spec.extra,
        "state": row.state.name,
        "reason": row.reason.word,
        "reason_text": row.reason_text,
        "exit_code": row.exit_code,
        "signal": row.signal,
        "priority": row.priority,
        "nice": spec.nice,
        "submit_time": instant(row.submit_time),
        "eligible_time": instant(row.eligible_time),
        "start_time": instant(row.start_time),
        "end_time": instant(row.end_time),
        "planned_start": instant(row.planned_start),
        "planned_earliest": instant(row.planned_earliest),
        "planned_latest": instant(row.planned_latest),
        "time_limit": duration(row.time_limit),
        "attempt": row.attempt,
        "restarts": row.restarts,
        "nodes": list(row.nodes),
        "allocation": [_share(share) for share in row.allocation],
        "request": {
            "min_nodes": part.min_nodes,
            "max_nodes": part.max_nodes,
            "ntasks": part.ntasks,
            "ntasks_per_node": part.ntasks_per_node,
            "cpus_per_task": cpus(part.cpus_per_task),
            "mem_per_node": part.mem_per_node,
            "mem_per_cpu": part.mem_per_cpu,
            "gres": format_gres(part.gres),
            "exclusive": part.exclusive,
            "features": part.features,
            "nodelist": list(part.nodelist),
            "exclude": list(part.exclude),
            "partitions": list(spec.partitions),
            "licences": dict(spec.licences),
            "dependency": format_dependency(row.dependency),
        },
        "command": row.command,
        "args": list(row.args),
        "work_dir": spec.work_dir,
        "stdin": spec.stdin,
        "stdout": row.stdout,
        "stderr": row.stderr,
        "cpu_seconds": row.cpu_us / 1e6,
        "memory_peak_bytes": row.memory_peak,
        "task_states": {state.name: count for state, count in row.task_states.items()},
        "steps": [_step(step) for step in row.steps],
    }


def _share(share: model.ShareInfo) -> dict[str, Any]:
    return {
        "node": share.node,
        "cpus": cpus(share.cpus),
        "memory": share.memory,
        "tasks": share.tasks,
        "slots": [
            {"name": slot.name, "type": slot.type, "indices": list(slot.indices)}
            for slot in share.slots
        ],
    }


def _step(step: model.StepInfo) -> dict[str, Any]:
    return {
        "step": format_step(step.step),
        "name": step.name,
        "state": step.state.name,
        "start_time": instant(step.start_time),
        "end_time": instant(step.end_time),
        "exit_code": step.exit_code,
        "signal": step.signal,
        "nodes": list(step.nodes),
        "ntasks": step.ntasks,
        "cpu_seconds": step.cpu_us / 1e6,
        "memory_peak_bytes": step.memory_peak,
    }


def node(row: model.NodeInfo) -> dict[str, Any]:
    """A node."""
    return {
        "name": row.name,
        "address": row.address,
        "state": row.shown_state,
        "drain": row.drain,
        "reason": row.reason,
        "reason_by": row.reason_by,
        "reason_time": instant(row.reason_time),
        "cpus": cpus(row.cpus),
        "cpus_allocated": cpus(row.cpus_alloc),
        "memory": row.memory,
        "memory_allocated": row.memory_alloc,
        "gres": format_gres(row.gres),
        "gres_allocated": format_gres(row.gres_alloc),
        "features": list(row.features),
        "partitions": list(row.partitions),
        "weight": row.weight,
        "jobs": list(row.jobs),
        "version": row.version,
        "os": row.os,
        "cgroup": row.cgroup,
        "boot_time": instant(row.boot_time),
        "registered_time": instant(row.registered_time),
        "last_contact": instant(row.last_contact),
        "connected": row.connected,
    }


def partition(row: model.PartitionInfo) -> dict[str, Any]:
    """A partition."""
    return {
        "name": row.name,
        "default": row.default,
        "up": row.up,
        "nodes": list(row.nodes),
        "max_time": duration(row.max_time),
        "default_time": duration(row.default_time),
        "max_nodes": row.max_nodes or None,
        "priority": row.priority,
        "cpus": cpus(row.cpus),
        "allow_accounts": list(row.allow_accounts),
    }


def explanation(found: model.Explanation) -> dict[str, Any]:
    """Why a job waits."""
    return {
        "reason": found.reason.word,
        "text": found.text,
        "gates": [{"name": g.name, "open": g.open, "text": g.text} for g in found.gates],
        "nodes_matching": found.nodes_matching,
        "nodes_usable": found.nodes_usable,
        "nodes_fitting_now": found.nodes_fitting_now,
        "nodes_wanted": found.nodes_wanted,
        "short_of": found.short_of or None,
        "jobs_ahead": found.jobs_ahead,
        "planned_start": instant(found.planned_start),
        "planned_earliest": instant(found.planned_earliest),
        "planned_latest": instant(found.planned_latest),
        "pass_time": instant(found.pass_time),
        "promised_start": instant(found.promised_start),
        "moved": _moved(found),
        "moved_cause": found.moved_cause or None,
        "priority_terms": dict(found.priority_terms),
        "remedies": [remedy(item) for item in found.remedies] if found.sooner_known else None,
    }


def _moved(found: model.Explanation) -> float | None:
    """Seconds by which the start is planned later than it was promised first."""
    if not (found.promised_start and found.planned_start):
        return None
    return (found.planned_start - found.promised_start) / 1e9


def remedy(found: model.Remedy) -> dict[str, Any]:
    """A change with which the job would start sooner."""
    return {
        "time_limit": found.time_limit or None,
        "nodes": found.nodes or None,
        "partition": found.partition or None,
        "start": instant(found.start),
    }


def change(row: model.Change) -> dict[str, Any]:
    """What became of one change."""
    return {"subject": row.subject, "error": error(row.error)}
