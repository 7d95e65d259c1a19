"""Run benchmark scenarios: `python -m bench list`, `python -m bench e2e.throughput --json`.

`python -m bench report` runs them and writes a document.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType

from bench import document
from bench.report import Report, machine
from bench.scenarios import PLANNERS, SCENARIOS


def _leave(number: int, _frame: FrameType | None) -> None:
    """Ended from outside, a scenario still takes its cluster down."""
    raise SystemExit(128 + number)


def main() -> int:
    """Exit status 0 when every scenario ran to its end."""
    if sys.argv[1:2] == ["report"]:
        return document.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenario", help="a scenario, `all`, `list`, or `report`")
    parser.add_argument("--json", action="store_true", help="one JSON object per metric and run")
    parser.add_argument("--runs", type=int, default=1, help="how often (default 1)")
    parser.add_argument("--jobs", type=int, default=0, help="jobs or tasks instead of the usual")
    parser.add_argument("--workload", type=Path, help="core.*: plan this archive (.npz)")
    parser.add_argument("--plan", type=Path, help="core.*: write the plan and verdicts (.npz)")
    parser.add_argument("--plot", type=Path, help="core.growth: draw it (.svg)")
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
    if args.plot and names != [document.GROWTH]:
        print(f"bench: --plot is for {document.GROWTH}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)
    print(json.dumps({"machine": machine()}) if args.json else machine(), flush=True)
    for name in names:
        module, function, _ = SCENARIOS[name]
        run: Callable[..., None] = getattr(import_module(module), function)
        rest = files if module in PLANNERS else {}
        rest = rest | ({"plot": args.plot} if args.plot else {})
        for number in range(args.runs):
            run(Report(name, args.json, {"run": number + 1}), args.jobs, **rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
