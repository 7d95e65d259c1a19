"""What can be measured: name, where it is, and a line about it."""

from __future__ import annotations

PLANNERS = ("bench.core", "bench.core_conservative", "bench.incremental", "bench.growth")
"""Modules whose scenarios plan a workload, and take the options for one."""

SCENARIOS = {
    "e2e.throughput": ("bench.e2e", "throughput", "2,000 jobs of their own through four agents"),
    "e2e.latency": ("bench.e2e", "latency", "submit to first time stamp of the job, idle cluster"),
    "cli.startup": ("bench.startup", "commands", "wall time of csub and cqueue"),
    "cold.start": ("bench.startup", "cold", "empty caches: controller takes jobs, first job ran"),
    "submit.batch": ("bench.submit", "batch", "100,000 separately described jobs"),
    "array.submit": ("bench.submit", "array", "an array of 1,000,000; 200,000 of its tasks run"),
    "core.priority": ("bench.core_priority", "priority", "1,000,000 jobs, 10,000 associations"),
    "core.devices": ("bench.core_devices", "choices", "which devices of a node, 8 and 16 slots"),
    "sim.easy": ("bench.sim", "easy", "replay of SDSC-SP2's 54,006 jobs, EASY on one pool"),
    "sim.conservative": ("bench.sim", "conservative", "the same, conservative and compressing"),
    "kill.controller": ("bench.kills", "controller", "kill -9 at seeded instants under load"),
    "core.drain": ("bench.core", "drain", "10,000 idle nodes, 1,000,000 one-node jobs: one pass"),
    "core.easy": ("bench.core", "easy", "the same nodes full, 100,000 jobs pending: an EASY pass"),
    "core.backfill": (
        "bench.core_conservative",
        "backfill",
        "the same state, conservative: 1,000 planned, all others tried for now",
    ),
    "core.deep1000": (
        "bench.core_conservative",
        "deep1000",
        "1,000 full nodes, 10,000 jobs, all planned for 7 days; then 100 nodes come free",
    ),
    "core.incremental": (
        "bench.incremental",
        "incremental",
        "20 jobs end one by one: the pass after each, and whether it is one from scratch",
    ),
    "core.scale": ("bench.core", "scale", "100,000 nodes, 500,000 running, 2,000,000 pending"),
    "rpc.beside": ("bench.beside", "beside", "an RPC while passes run in the controller"),
    "core.growth": ("bench.growth", "growth", "a pass as nodes and jobs grow from 1 to 16 times"),
}
