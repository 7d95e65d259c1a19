"""Whether a plan for a workload is sound: checked from its arrays alone, with none of the core."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def violations(work: Arrays, plan: Arrays) -> list[str]:
    """What is wrong with the starts and promises of a plan; nothing if it is sound."""
    length = np.diff(plan["plan_indptr"])
    job = np.repeat(np.arange(len(length)), length)
    node = plan["plan_node"]
    planned = length > 0
    start = plan["plan_start_s"]
    found = []
    if (start[planned] < int(work["now_s"])).any():
        found.append("a start lies in the past")
    if (length[planned] != work["job_nodes"][planned]).any():
        found.append("a job has the wrong number of nodes")
    pairs = job * len(work["node_gpus"]) + node
    if len(np.unique(pairs)) != len(pairs):
        found.append("a node is twice in one job")
    found += _misplaced(work, job, node)
    for name in ("cpu_milli", "mem_mib", "gpus"):
        if _oversubscribed(work, name, job, node, start):
            found.append(f"{name} of a node is oversubscribed")
    if _over_limit(work, planned & (start == int(work["now_s"]))):
        found.append("an association is over its CPU limit")
    return found


def _misplaced(work: Arrays, job: NDArray[Any], node: NDArray[Any]) -> list[str]:
    """Nodes outside the partition, without a feature, or with GPUs of another type."""
    found = []
    partition = work["job_partition"].astype(np.uint64)[job]
    if not (work["node_partitions"][node] >> partition & np.uint64(1)).all():
        found.append("a node is outside the partition")
    if (work["job_features_all"][job] & ~work["node_features"][node]).any():
        found.append("a node lacks a feature")
    typed = (work["job_gpus"] > 0) & (work["job_gpu_type"] >= 0)
    if (typed[job] & (work["node_gpu_type"][node] != work["job_gpu_type"][job])).any():
        found.append("a node has GPUs of another type")
    return found


def _oversubscribed(
    work: Arrays, name: str, job: NDArray[Any], node: NDArray[Any], start: NDArray[Any]
) -> bool:
    """Whether at any instant a node holds more than it has: running jobs, starts, promises."""
    capacity, now = work[f"node_{name}"], int(work["now_s"])
    taken = np.where(work["job_exclusive"][job], capacity[node], work[f"job_{name}"][job])
    running = work[f"run_{name}"]
    where = np.concatenate([work["run_node"], work["run_node"], node, node])
    ends = np.maximum(work["run_end_s"], now + 1)
    begins, leaves = np.full(len(running), now), start[job] + work["job_limit_s"][job]
    when = np.concatenate([begins, ends, start[job], leaves])
    change = np.concatenate([running, -running, taken, -taken])
    order = np.lexsort((change, when, where))
    used = np.cumsum(change[order])  # every node's changes add up to zero: no need to start anew
    return bool((used > capacity[where[order]]).any())


def _over_limit(work: Arrays, now: NDArray[Any]) -> bool:
    """Whether the CPUs that an association's jobs start with now exceed its limit."""
    limit = work["assoc_cpu_limit_milli"]
    cpus = (work["job_cpu_milli"] * work["job_nodes"])[now]
    used = np.bincount(work["job_assoc"][now], cpus, minlength=len(limit))
    return bool(((limit >= 0) & (used > limit)).any())
