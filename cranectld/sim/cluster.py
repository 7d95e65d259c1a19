"""The cluster of a seed: nodes, partitions and time-outs, drawn."""

from __future__ import annotations

import random
from typing import Any

from crane.config.model import (
    PRIORITIES,
    ClusterConfig,
    Limits,
    NodeConfig,
    PartitionConfig,
    PriorityConfig,
    SchedulerConfig,
    Timeouts,
)
from crane.jobspec import UNLIMITED, Gres


def drawn_cluster(rng: random.Random, nodes: int) -> ClusterConfig:
    """A small cluster of so many nodes, with two overlapping partitions."""
    configs = tuple(_node(rng, number) for number in range(1, nodes + 1))
    names = tuple(config.name for config in configs)
    split = max(1, nodes // 2)
    partitions = (
        PartitionConfig("main", names, default=True, max_time=rng.choice((UNLIMITED, 900))),
        PartitionConfig("half", names[:split], max_time=300, default_time=60, priority=5),
        PartitionConfig("late", names[split - 1 :], default_mem_per_cpu=rng.choice((0, 256))),
    )
    node_timeout = rng.choice((4.0, 8.0, 20.0))
    timeouts = Timeouts(
        heartbeat=rng.choice((1.0, 2.0)),
        node=node_timeout,
        **drawn_terms(rng, node_timeout),
        min_job_age=rng.choice((5, 60, 600)),
    )
    scheduler = SchedulerConfig(
        policy=rng.choice(("easy", "conservative", "fifo")),
        weight_age=rng.choice((0, 1000)),
        weight_partition=rng.choice((0, 10)),
    )
    # Drawn apart, so that the rest of a seed's story is what it was without priorities.
    apart = random.Random(repr(timeouts))  # noqa: S311 - a simulation
    priority = PriorityConfig(
        kind=apart.choice(PRIORITIES),
        age=apart.choice((0, 1000)),
        fair_share=1000,
        size=apart.choice((0, 1000)),
        half_life=apart.choice((0, 600)),
    )
    return ClusterConfig(
        name="sim",
        nodes=configs,
        partitions=partitions,
        scheduler=scheduler,
        priority=priority,
        timeouts=timeouts,
        limits=Limits(max_requeue=rng.choice((1, 3, 5))),
        operators=("olga",),
        job_requeue=rng.random() < 0.8,
    )


def drawn_terms(rng: random.Random, node_timeout: float) -> dict[str, Any]:
    """What becomes of jobs without contact: fields of Timeouts."""
    return {
        "lease": node_timeout + rng.choice((0.0, 5.0, 20.0)),
        "lost_contact": rng.choice(("keep", "kill")),
        "kill_grace": rng.choice((1, 3)),
    }


def _node(rng: random.Random, number: int) -> NodeConfig:
    gres: tuple[Gres, ...] = ()
    if rng.random() < 0.4:
        gres = (Gres("gpu", "a100", rng.choice((2, 4))),)
    promised = rng.random() < 0.7
    return NodeConfig(
        name=f"n{number}",
        cpus=rng.choice((2, 4, 8)) * 1000 if promised else 0,
        memory=rng.choice((4096, 8192)) if promised else 0,
        gres=gres,
        features=tuple(f for f in ("fast", "big") if rng.random() < 0.5),
        weight=rng.choice((1, 1, 2)),
    )


def plain_cluster(nodes: int, cpus: int) -> ClusterConfig:
    """Equal nodes with so many CPUs (whole ones) in one partition; quiet time-outs, for benches."""
    configs = tuple(
        NodeConfig(f"n{number}", cpus=cpus * 1000, memory=cpus * 4096)
        for number in range(1, nodes + 1)
    )
    names = tuple(config.name for config in configs)
    return ClusterConfig(
        name="scale",
        nodes=configs,
        partitions=(PartitionConfig("main", names, default=True),),
        timeouts=Timeouts(heartbeat=60.0, node=600.0, lease=1200.0, min_job_age=1_000_000),
    )
