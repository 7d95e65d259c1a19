"""Compile every kernel before the first pass: in this process, or in a child that fills the cache.

    python -m sched_core.warmup --cache-dir DIR --group pass

The directory holds one cache per state of the sources (`sched_core.cachedir`); a group of kernels is
complete once its marker is in it. Where nothing can be written there, kernels are compiled in memory only.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib import import_module
from pathlib import Path

from sched_core import cachedir

GROUPS = {
    "pass": ("plan",),
    cachedir.EVERYTHING: (
        "plan",
        "plan_conservative",
        "pool",
        "fairshare",
        "priority",
        "gres",
        "preempt",
        "topology",
        "placement",
        "gpushare",
        "learned",
    ),
}
"""Modules that register a group's kernels, with those of the modules they import. `pass` is what a
controller needs before it can start a job: compiling all would keep a new one waiting."""


def cache_is_warm(
    root: str | os.PathLike[str] | None = None, group: str = cachedir.EVERYTHING
) -> bool:
    """Whether `warmup(root, group)` would only load. Reads the sources once; imports no numba."""
    return cachedir.is_complete(root, group)


def warmup(root: str | os.PathLike[str] | None = None, group: str = cachedir.EVERYTHING) -> float:
    """Compile, or load from the cache under `root`, a group's kernels; gives the seconds.

    Only one process at a time should compile into a cache: give the work to one child, and wait
    for it. A process that has loaded kernels before stays with the cache they came from.
    """
    began = time.perf_counter()
    directory = cachedir.use(root)
    from sched_core import jit  # noqa: PLC0415  (after the directory is chosen)

    for name in GROUPS[group]:
        import_module(f"sched_core.{name}")
    jit.compile_kernels()
    if os.access(directory, os.W_OK) and not cachedir.is_complete(directory.parent, group):
        cachedir.mark_complete(directory, group)
    return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> int:
    """Fill a cache; exit code 0 when it is complete, 1 with a message when it cannot be."""
    parser = argparse.ArgumentParser(prog="sched_core.warmup", description=main.__doc__)
    parser.add_argument("--cache-dir", type=Path, default=None, help="where caches are kept")
    parser.add_argument(
        "--group", choices=sorted(GROUPS), default=cachedir.EVERYTHING, help="which kernels"
    )
    options = parser.parse_args(arguments)
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
