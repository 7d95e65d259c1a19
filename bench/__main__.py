"""Run benchmark scenarios: `python -m bench list`, `python -m bench e2e.throughput --json`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType

from bench.report import Report, machine

PLANNERS = ("bench.core", "bench.core_conservative")
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
        "bench.core",
        "incremental",
        "20 jobs end one by one: the pass after each",
    ),
    "core.scale": ("bench.core", "scale", "100,000 nodes, 500,000 running, 2,000,000 pending"),
    "rpc.beside": ("bench.beside", "beside", "an RPC while passes run in the controller"),
    "core.growth": ("bench.core", "growth", "a pass as nodes and jobs grow from 1 to 16 times"),
}


def _leave(number: int, _frame: FrameType | None) -> None:
    """Ended from outside, a scenario still takes its cluster down."""
    raise SystemExit(128 + number)


def main() -> int:
    """Exit status 0 when every scenario ran to its end."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenario", help="a scenario, `all`, or `list`")
    parser.add_argument("--json", action="store_true", help="one JSON object per metric and run")
    parser.add_argument("--runs", type=int, default=1, help="how often (default 1)")
    parser.add_argument("--jobs", type=int, default=0, help="jobs or tasks instead of the usual")
    parser.add_argument("--workload", type=Path, help="core.*: plan this archive (.npz)")
    parser.add_argument("--plan", type=Path, help="core.*: write the plan and verdicts (.npz)")
    args = parser.parse_args()
    if args.scenario == "list":
        for name, (_, _, text) in SCENARIOS.items():
            print(f"{name:18} {text}")
        return 0
    names = list(SCENARIOS) if args.scenario == "all" else [args.scenario]
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"bench: no scenario {unknown[0]!r}; see `python -m bench list`", file=sys.stderr)
        return 2
    files = {"workload": args.workload, "path": args.plan}
    if any(files.values()) and not all(SCENARIOS[name][0] in PLANNERS for name in names):
        print("bench: --workload and --plan are for scenarios that plan one", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)
    print(json.dumps({"machine": machine()}) if args.json else machine(), flush=True)
    for name in names:
        module, function, _ = SCENARIOS[name]
        run: Callable[..., None] = getattr(import_module(module), function)
        rest = files if module in PLANNERS else {}
        for number in range(args.runs):
            run(Report(name, args.json, {"run": number + 1}), args.jobs, **rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
