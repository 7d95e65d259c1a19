"""Compile every kernel before the first pass: in this process, or in a child that fills the cache.

    python -m sched_core.warmup --cache-dir DIR --group pass

Kernels whose sources are as they were are only loaded (`sched_core.cachedir`). Where nothing can be
written, kernels are compiled in memory only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from sched_core import cachedir

EVERYTHING = "all"
_REST = (
    "pool",
    "fairshare",
    "priority",
    "gres",
    "plan_preempt",
    "topology",
    "placement",
    "gpushare",
    "learned",
    "bundle_heads",
)
GROUPS = {
    "pass": ("plan",),
    "conservative": ("plan", "plan_conservative"),
    "bundles": ("plan", "bundle_heads"),
    "priority": ("priority", "fairshare"),
    "rest": _REST,
    EVERYTHING: ("plan", "plan_conservative", *_REST),
}
"""Modules that register a group's kernels, with those of the modules they import. `pass` is what a
controller needs before it can start a job, and what else its configuration asks for: compiling all
would keep a new one waiting."""


def cache_is_warm(root: str | os.PathLike[str] | None = None, group: str = EVERYTHING) -> bool:
    """Whether `warmup(root, group)` would only load. Reads the sources once; imports no numba."""
    return cachedir.is_complete(root, GROUPS[group])


def warmup(root: str | os.PathLike[str] | None = None, group: str = EVERYTHING) -> float:
    """Compile, or load from the cache under `root`, a group's kernels; gives the seconds.

    Processes that compile at the same time share the work. A process that has loaded
    kernels before stays with the cache they came from. Raises OSError like `cachedir.use`.
    """
    began = time.perf_counter()
    directory = cachedir.use(root)
    from sched_core import jit  # noqa: PLC0415  (after the directory is chosen)

    for name in GROUPS[group]:
        import_module(f"sched_core.{name}")
    jit.compile_kernels()
    if os.access(directory, os.W_OK) and not cache_is_warm(directory.parent, group):
        for complete in GROUPS if group == EVERYTHING else (group,):
            cachedir.mark_complete(directory, GROUPS[complete])
    return time.perf_counter() - began


def _compile_halves(cache_dir: Path | None) -> None:
    """Fill a cache with two processes; what goes wrong is told by whoever loads it afterwards."""
    command = [sys.executable, "-m", "sched_core.warmup"]
    command += ["--cache-dir", str(cache_dir)] if cache_dir is not None else []
    halves = [
        subprocess.Popen([*command, "--group", group], stdout=subprocess.DEVNULL)
        for group in ("conservative", "rest")
    ]
    for half in halves:
        half.wait()


def main(arguments: list[str] | None = None) -> int:
    """Fill a cache; exit code 0 when it is complete, 1 with a message when it cannot be."""
    parser = argparse.ArgumentParser(prog="sched_core.warmup", description=main.__doc__)
    parser.add_argument("--cache-dir", type=Path, default=None, help="where caches are kept")
    parser.add_argument("--group", choices=sorted(GROUPS), default=EVERYTHING, help="which kernels")
    parser.add_argument(
        "--parallel", action="store_true", help="two processes first, each for one half of them"
    )
    options = parser.parse_args(arguments)
    if options.parallel and not cache_is_warm(options.cache_dir, options.group):
        _compile_halves(options.cache_dir)
    try:
        seconds = warmup(options.cache_dir, options.group)
    except OSError as error:
        sys.stderr.write(f"cannot use the kernel cache: {error}; give --cache-dir DIR\n")
        return 1
    if not cache_is_warm(options.cache_dir, options.group):
        sys.stderr.write("the kernel cache is not writable; give --cache-dir DIR\n")
        return 1
    sys.stdout.write(f"kernels ready in {seconds:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
