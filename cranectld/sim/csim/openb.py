"""`csim openb`: how much of the GPUs a placement policy hands out before the cluster is full.

    csim openb NODES.csv.gz PODS.csv.gz --placement random,bestfit,fgd --seeds 10 [--json]

The inflation experiment of Weng et al. ("Beware of Fragmentation", USENIX ATC'23) on the Alibaba
openb trace: the pods arrive in random order, then further ones drawn from among them (with
replacement) until their requests reach 130 % of the GPUs; nothing leaves, what does not fit is
dropped. Printed is the allocated share of all GPUs in %, mean and population standard deviation.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import statistics
import sys
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cranectld.sim.csim.errors import CsimError

if TYPE_CHECKING:  # numpy and numba take a second to import, arguments are checked before
    from sched_core.columns import Ints
    from sched_core.gpushare import SharePolicy

PLACEMENTS = {
    "random": "RANDOM",
    "dotproduct": "DOT_PRODUCT",
    "clustering": "GPU_CLUSTERING",
    "packing": "GPU_PACKING",
    "bestfit": "BEST_FIT",
    "fgd": "FGD",
    "fgd-atc23": "FGD_TRUNCATED",
}
"""Names of placements, and of their policies in `sched_core.gpushare`."""
LOAD = 130
"""% of the GPUs that the requests reach in the end."""
_NODE_COLUMNS = ("cpu_milli", "memory_mib", "gpu", "model")
_POD_COLUMNS = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")


@dataclass(frozen=True, slots=True)
class Workload:
    """A cluster and the pods that came to it."""

    nodes: list[tuple[int, int, int, int]]
    """CPU thousandths, memory MiB, devices, number of the model."""
    types: list[tuple[int, int, int, int, int]]
    """CPU thousandths, memory MiB, devices, thousandths of each, set of models (-1: any)."""
    pods: list[int]
    """The type of each pod, as in the file."""

    @property
    def gpus(self) -> int:
        """Devices of the whole cluster."""
        return sum(node[2] for node in self.nodes)

    def request(self, kind: int) -> int:
        """Thousandths of GPU that a pod of a type asks for."""
        return self.types[kind][2] * self.types[kind][3]


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a placement achieved, over some seeds."""

    placement: str
    shares: list[float]
    """Allocated % of the GPUs, by seed."""
    dropped: list[int]
    """Pods that fitted nowhere, by seed."""


def read_workload(nodes_path: str, pods_path: str) -> Workload:
    """Read a node list and a pod list of the openb trace (CSV, plain or gzip).

    Models that no node has are left out of a pod's set, so that such a pod is dropped. Raises
    CsimError.
    """
    numbers: dict[str, int] = {}
    nodes = []
    for line, row in _rows(nodes_path, _NODE_COLUMNS):
        cpu, memory, gpus = (_whole(nodes_path, line, row, name) for name in _NODE_COLUMNS[:3])
        nodes.append((cpu, memory, gpus, numbers.setdefault(row["model"], len(numbers))))
    kinds: dict[tuple[int, int, int, int, int], int] = {}
    pods = []
    for line, row in _rows(pods_path, _POD_COLUMNS):
        cpu, memory, count, share = (_whole(pods_path, line, row, name) for name in _POD_COLUMNS)
        wanted = set(filter(None, (row.get("gpu_spec") or "").split("|")))
        models = sum(1 << numbers[name] for name in wanted if name in numbers) if wanted else -1
        kind = (cpu, memory, count, share if count else 0, models)
        pods.append(kinds.setdefault(kind, len(kinds)))
    if not any(node[2] for node in nodes):
        raise CsimError(f"{nodes_path}: no node has a GPU; give a node list of a GPU cluster")
    if not any(count for _, _, count, _, _ in kinds):
        raise CsimError(f"{pods_path}: no pod asks for a GPU; give a pod list of the openb trace")
    return Workload(nodes, list(kinds), pods)


def _rows(path: str, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    try:
        with open(path, "rb") as raw:
            opened: Any = gzip.open if raw.read(2) == b"\x1f\x8b" else open
        with opened(path, "rt", encoding="utf-8", newline="") as text:
            reader = csv.DictReader(text)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise CsimError(
                    f"{path}: no column {', '.join(missing)} in its first line; give a CSV file "
                    "of the openb trace (nodes first, then pods)"
                )
            return [(reader.line_num, row) for row in reader]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise CsimError(f"cannot read {path}: {error}; give a CSV file, plain or gzip") from error


def _whole(path: str, line: int, row: dict[str, str], name: str) -> int:
    text = row[name] or ""
    if not text.isdigit() or len(text) > 8:
        raise CsimError(
            f"{path}, line {line}: {name} is {text!r}; it must be a whole number below 10^8"
        )
    return int(text)


def arrivals(workload: Workload, seed: int) -> list[int]:
    """The types of pods that arrive, in order: all of them shuffled, then draws up to the load."""
    rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
    order = list(workload.pods)
    rng.shuffle(order)
    asked = sum(map(workload.request, order))
    while 100 * asked < LOAD * 1000 * workload.gpus:
        order.append(rng.choice(workload.pods))
        asked += workload.request(order[-1])
    return order


def allocated(workload: Workload, policy: SharePolicy, seed: int) -> tuple[float, int]:
    """Allocated % of the GPUs and dropped pods of one run."""
    import numpy as np  # noqa: PLC0415

    from sched_core.gpushare import make_devices, make_pods, place_all  # noqa: PLC0415

    counts = Counter(workload.pods)
    pods = make_pods(workload.types, [counts[kind] for kind in range(len(workload.types))])
    devices = make_devices(workload.nodes)
    sequence: Ints = np.array(arrivals(workload, seed), np.int64)
    dropped = place_all(devices, pods, sequence, policy, seed)[1]
    return 100 * (1 - int(devices.gpus.sum()) / (1000 * workload.gpus)), dropped


def openb(args: argparse.Namespace, out: TextIO | None = None) -> int:
    """Run the command; prints to `out` (standard output), gives the exit code."""
    out = out or sys.stdout
    try:
        workload = read_workload(args.nodes, args.pods)
    except CsimError as error:
        sys.stderr.write(f"csim openb: {error}\n")
        return 2
    from cranectld.sim.csim.replay import load_kernels  # noqa: PLC0415
    from sched_core.gpushare import SharePolicy  # noqa: PLC0415

    load_kernels()
    results = []
    for name in args.placement:
        runs = []
        for seed in range(args.seed, args.seed + args.seeds):
            _progress(f"{name}: seed {seed}")
            try:
                runs.append(allocated(workload, SharePolicy[PLACEMENTS[name]], seed))
            except ValueError as error:
                sys.stderr.write(f"csim openb: {args.nodes}, {args.pods}: {error}\n")
                return 2
        results.append(Allocation(name, [run[0] for run in runs], [run[1] for run in runs]))
    _progress("")
    out.write(_document(workload, results) if args.json else _table(workload, results))
    return 0


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _table(workload: Workload, results: list[Allocation]) -> str:
    lines = [
        f"{len(workload.nodes):,} nodes, {workload.gpus:,} GPUs; requests up to {LOAD} % of them",
        f"{len(workload.pods):,} pods of {len(workload.types)} types",
        "",
        f"{'placement':<12}{'GPUs allocated %':>18}{'seeds':>7}{'pods dropped':>14}",
    ]
    for result in results:
        share = f"{statistics.fmean(result.shares):.2f} ± {statistics.pstdev(result.shares):.2f}"
        dropped = f"{statistics.fmean(result.dropped):,.0f}"
        lines.append(f"{result.placement:<12}{share:>18}{len(result.shares):>7}{dropped:>14}")
    return "\n".join(lines) + "\n"


def _document(workload: Workload, results: list[Allocation]) -> str:
    placements = {
        result.placement: {
            "allocated_mean": statistics.fmean(result.shares),
            "allocated_pstdev": statistics.pstdev(result.shares),
            "allocated": result.shares,
            "dropped": result.dropped,
        }
        for result in results
    }
    document = {
        "nodes": len(workload.nodes),
        "gpus": workload.gpus,
        "pods": len(workload.pods),
        "load_percent": LOAD,
        "placements": placements,
    }
    return json.dumps(document, indent=2) + "\n"


def _placements(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in PLACEMENTS:
            known = ", ".join(PLACEMENTS)
            raise argparse.ArgumentTypeError(f"there is no placement {name!r}; use {known}")
    return names


def _number(least: int) -> Any:
    def number(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= 1_000_000:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to 1000000")
        return int(text)

    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments; `openb` is what runs it."""
    parser.add_argument("nodes", metavar="NODES", help="node list: CSV, plain or gzip")
    parser.add_argument("pods", metavar="PODS", help="pod list: CSV, plain or gzip")
    parser.add_argument(
        "--placement",
        type=_placements,
        default=["random", "bestfit", "fgd"],
        metavar="NAME,...",
        help=f"of {', '.join(PLACEMENTS)} (default: random,bestfit,fgd)",
    )
    parser.add_argument("--seeds", type=_number(1), default=10, help="runs (default: 10)")
    parser.add_argument("--seed", type=_number(0), default=0, help="the first seed (default: 0)")
    parser.add_argument("--json", action="store_true", help="write a document instead of a table")
    parser.set_defaults(run=openb)


def add_parser(subparsers: Any) -> None:
    """Add `openb` to the subcommands of `csim`."""
    text = "GPU share that placement policies hand out on the openb trace"
    add_arguments(subparsers.add_parser("openb", help=text, description=text + "."))


def main(arguments: list[str] | None = None) -> int:
    """Run as `python -m cranectld.sim.csim.openb`; gives the exit code."""
    parser = argparse.ArgumentParser(prog="csim openb", description="Replay the openb trace.")
    add_arguments(parser)
    return openb(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
