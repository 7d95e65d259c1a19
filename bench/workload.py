"""Scheduling states as arrays: a seeded generator, the loader into tables, plans and their checker.

The schema is that of the archives `python -m bench core.NAME --workload IN.npz` reads and of those
`--plan OUT.npz` writes: see `bench/README.md`. Amounts are integers: thousandths of a CPU, MiB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sched_core.columns import Ints
from sched_core.kinds import distinct
from sched_core.plan import Plan
from sched_core.tables import CPU, MEMORY, Request, Tables

Arrays = dict[str, NDArray[Any]]

GPU_TYPES = ("a100", "h100", "910b3", "mi300x")
PARTITIONS, FEATURES, ASSOCIATIONS = 10, 20, 500
NOW, WINDOW = 1_000_000, 7 * 86_400


@dataclass(frozen=True, slots=True)
class Size:
    """How large a state is."""

    nodes: int
    running_each: int
    """Running jobs per node, which fill it; 0: idle."""
    pending: int
    shapes: int
    widest: int
    """Most nodes of one job."""


SIZES = {
    "drain": Size(10_000, 0, 1_000_000, 80, 1),
    "full": Size(10_000, 5, 100_000, 400, 512),
    "scale": Size(100_000, 5, 2_000_000, 5_000, 512),
}


def make(size: Size, seed: int = 1) -> Arrays:
    """A state of a given size; equal seeds make equal states."""
    rng = np.random.default_rng(seed)
    out = _nodes(rng, size.nodes)
    out |= _running(rng, out, size.running_each)
    shapes = _shapes(rng, size.shapes, size.widest)
    # A few shapes make up most of the queue, as users' habits do.
    pick = (rng.pareto(1.1, size.pending) * size.shapes / 20).astype(np.int64)
    pick = np.minimum(pick, size.shapes - 1)
    out |= {f"job_{name}": column[pick] for name, column in shapes.items()}
    out["job_assoc"] = rng.integers(0, ASSOCIATIONS, size.pending)
    bound = int(out["node_cpu_milli"].sum()) // 50
    bounded = rng.random(ASSOCIATIONS) < 0.3
    out["assoc_cpu_limit_milli"] = np.where(bounded, bound, -1)
    out["now_s"], out["window_s"] = np.array(NOW), np.array(WINDOW)
    return out


def _nodes(rng: np.random.Generator, count: int) -> Arrays:
    """Plain nodes, fat ones, and four makes of GPU nodes, in overlapping partitions."""
    kinds = [
        # CPUs, GiB, GPUs, type, share
        (64, 256, 0, -1, 0.45),
        (128, 2048, 0, -1, 0.15),
        (64, 512, 8, 0, 0.12),
        (96, 1024, 8, 1, 0.12),
        (192, 1536, 8, 2, 0.10),
        (96, 2048, 4, 3, 0.06),
    ]
    which = rng.choice(len(kinds), count, p=[kind[4] for kind in kinds])
    cpu, memory, gpus, types = (np.array([k[i] for k in kinds])[which] for i in range(4))
    own = 1 << rng.integers(1, PARTITIONS, count)
    common = 1 + np.where(gpus > 0, 1 << (PARTITIONS - 1), 0)
    features = np.zeros(count, np.int64)
    for bit in range(FEATURES):
        share = 0.9 if bit < FEATURES // 2 else 0.3
        features |= (rng.random(count) < share).astype(np.int64) << bit
    return {
        "node_cpu_milli": cpu * 1000,
        "node_mem_mib": memory * 1024,
        "node_gpus": gpus,
        "node_gpu_type": types,
        "node_partitions": (own | common).astype(np.uint64),
        "node_features": features.astype(np.uint64),
    }


def _running(rng: np.random.Generator, nodes: Arrays, each: int) -> Arrays:
    """Every node cut into `each` equal jobs that end within a day."""
    node = np.repeat(np.arange(len(nodes["node_gpus"])), each)
    out = {
        f"run_{name}": nodes[f"node_{name}"][node] // max(each, 1)
        for name in ("cpu_milli", "mem_mib", "gpus")
    }
    return out | {"run_node": node, "run_end_s": NOW + rng.integers(60, 86_400, len(node))}


def _shapes(rng: np.random.Generator, count: int, widest: int) -> Arrays:
    """Requests: a third want GPUs, most are for one node, six in ten name features, 2 % exclusive."""
    nodes = np.ones(count, np.int64)
    if widest > 1:
        wide = np.exp2(rng.uniform(1, np.log2(widest), count)).astype(np.int64)
        nodes = np.where(rng.random(count) < 0.6, 1, wide)
    gpus = np.where(rng.random(count) < 0.35, rng.choice([1, 2, 4, 8], count), 0)
    types = np.where(gpus > 0, rng.integers(-1, len(GPU_TYPES), count), -1)
    gpus = np.where(types == len(GPU_TYPES) - 1, np.minimum(gpus, 4), gpus)
    few = rng.choice([1, 2, 4, 8, 16, 32, 64], count)
    cpu = np.where(gpus > 0, gpus * rng.choice([4, 8], count), few)
    anywhere = rng.integers(0, PARTITIONS - 1, count)
    with_gpus = rng.choice([0, PARTITIONS - 1], count)
    features = np.zeros(count, np.int64)
    picky = rng.random(count) < 0.6
    for bit in (0, 3, 7, 12):
        features |= (picky & (rng.random(count) < 0.4)).astype(np.int64) << bit
    return {
        "nodes": nodes,
        "cpu_milli": cpu * 1000,
        "mem_mib": cpu * rng.choice([1, 2, 4, 8], count) * 1024,
        "gpus": gpus,
        "gpu_type": types,
        "partition": np.where(gpus > 0, with_gpus, anywhere),
        "features_all": features.astype(np.uint64),
        "exclusive": rng.random(count) < 0.02,
        "limit_s": rng.integers(10, 24 * 60, count) * 60,
    }


def read(path: Path) -> Arrays:
    """The arrays of an archive. Raises ValueError naming what is missing in it."""
    with np.load(path) as archive:
        out = {name: archive[name] for name in archive.files}
    needed = {"node_cpu_milli", "run_node", "job_nodes", "job_assoc", "now_s"}
    missing = sorted(needed - out.keys())
    if missing:
        raise ValueError(f"{path} is no workload: it lacks {', '.join(missing)}")
    return out


def load(work: Arrays) -> Tables:
    """Tables of a state: job `i` of the archive is the record with id `i`, in that order."""
    tables = Tables()
    _load_nodes(tables, work)
    _load_running(tables, work)
    _load_pending(tables, work)
    return tables


def _vectors(tables: Tables, work: Arrays, kind: str, types: NDArray[Any]) -> Ints:
    """Amounts by dimension of a `kind` of rows ("node", "run") whose GPUs are of given types."""
    out = np.zeros((len(types), tables.dims.width), np.int64)
    out[:, CPU] = work[f"{kind}_cpu_milli"]
    out[:, MEMORY] = work[f"{kind}_mem_mib"]
    for number, name in enumerate(GPU_TYPES):
        total, typed = tables.dims.gres("gpu", name)
        out[:, total] = work[f"{kind}_gpus"]
        out[:, typed] = np.where(types == number, work[f"{kind}_gpus"], 0)
    return out


def _load_nodes(tables: Tables, work: Arrays) -> None:
    for name in GPU_TYPES:
        tables.dims.gres("gpu", name)
    nodes = tables.nodes
    for number in range(PARTITIONS):
        nodes.partition_names.number(f"p{number}")
    for number in range(FEATURES):
        nodes.feature_names.number(f"f{number}")
    types = work["node_gpu_type"]
    nodes.set_many(
        [f"n{number}" for number in range(len(types))],
        capacity=_vectors(tables, work, "node", types),
        partitions=work["node_partitions"].astype(np.int64)[:, None],
        features=work["node_features"].astype(np.int64)[:, None],
    )


def _load_running(tables: Tables, work: Arrays) -> None:
    node = work["run_node"].astype(np.int64)
    first = len(work["job_nodes"])
    amount = _vectors(tables, work, "run", work["node_gpu_type"][node])
    ids = range(first, first + len(node))
    tables.running.add_many(ids, work["run_end_s"].astype(np.int64), node, amount)


def _load_pending(tables: Tables, work: Arrays) -> None:
    names = ("nodes", "cpu_milli", "mem_mib", "gpus", "gpu_type", "partition", "features_all")
    columns = [work[f"job_{name}"].astype(np.int64) for name in (*names, "exclusive")]
    which, firsts, _ = distinct(columns)
    rows = []
    for first in firsts.tolist():
        count, cpu, memory, gpus, kind, part, features, exclusive = (int(c[first]) for c in columns)
        clause = tuple(f"f{bit}" for bit in range(FEATURES) if features >> bit & 1)
        request = Request(
            partitions=(f"p{part}",),
            cpu_per_node=cpu,
            memory_per_node=memory,
            gres_per_node=(("gpu", GPU_TYPES[kind] if kind >= 0 else "", gpus),) if gpus else (),
            min_nodes=count,
            exclusive=bool(exclusive),
            features=(clause,) if clause else (),
        )
        rows.append(tables.shapes.intern(request))
    count = len(which)
    bound = np.full((len(work["assoc_cpu_limit_milli"]), 2), -1, np.int64)
    bound[:, 1 + CPU] = work["assoc_cpu_limit_milli"]
    tables.limits.set_many([f"a{number}" for number in range(len(bound))], bound)
    tables.jobs.add_many(
        range(count),
        np.array(rows, np.int64)[which],
        duration=work["job_limit_s"].astype(np.int64),
        submit=np.arange(count),
        limit=work["job_assoc"].astype(np.int64),
    )


def plan_arrays(plan: Plan, now: int) -> Arrays:
    """Starts, promises and verdicts of a plan for `load`ed tables, by job of the archive."""
    count = len(plan.job)
    head = np.flatnonzero(plan.head_start >= 0)
    jobs = np.concatenate([plan.start_job, plan.head_job[head]])
    when = np.concatenate([np.full(plan.starts, now), plan.head_start[head]])
    rows = np.concatenate([np.diff(plan.start_ptr), np.diff(plan.head_ptr)[head]])
    first = np.concatenate([plan.start_ptr[:-1], len(plan.node) + plan.head_ptr[:-1][head]])
    node = np.concatenate([plan.node, plan.head_node])
    start = np.full(count, -1, np.int64)
    start[jobs] = when
    length, begin = np.zeros(count, np.int64), np.zeros(count, np.int64)
    length[jobs], begin[jobs] = rows, first
    indptr = np.concatenate([[0], np.cumsum(length)])
    source = np.repeat(begin - indptr[:-1], length) + np.arange(indptr[-1])
    out = {"plan_start_s": start, "plan_indptr": indptr, "plan_node": node[source]}
    for name in ("code", "short", "matching", "ahead"):
        column = np.empty(count, np.int64)
        column[plan.job] = getattr(plan, name)
        out[f"verdict_{name}"] = column
    return out
