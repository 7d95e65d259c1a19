"""What `csub` checks of a job before it is sent, and says of one that would be accepted."""

from __future__ import annotations

import os

from crane.errors import CraneError, ErrorCode, shown

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crane.jobspec import JobSpec


def check_places(spec: JobSpec) -> None:
    """Raise OUTPUT_UNWRITABLE if the job's output could not be written as seen from here.

    Told now and not only when the job starts. A directory whose name has letters to be filled in
    (`logs/%j/out`) is known only then.
    """
    if not os.path.isdir(spec.work_dir):
        raise CraneError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"the working directory {shown(spec.work_dir, 200)} does not exist",
            "create it first, or choose another with --chdir",
        )
    for option, pattern in (("--output", spec.stdout), ("--error", spec.stderr)):
        if not pattern and option == "--error":
            continue
        path = os.path.join(spec.work_dir, pattern)
        folder = os.path.dirname(path) if pattern else spec.work_dir
        if "%" in folder or "\\" in folder:
            continue
        if not os.path.isdir(folder):
            raise CraneError(
                ErrorCode.OUTPUT_UNWRITABLE,
                f"{option}: the directory {shown(folder, 200)} does not exist",
                f"create it first: mkdir -p {folder}",
            )
        _writable(option, path, folder)


def _writable(option: str, path: str, folder: str) -> None:
    name = os.path.basename(path)
    if name and "%" not in name and os.path.exists(path):
        if os.path.isdir(path):
            raise CraneError(
                ErrorCode.OUTPUT_UNWRITABLE,
                f"{option}: {shown(path, 200)} is a directory",
                "name a file in it",
            )
        if not os.access(path, os.W_OK):
            raise CraneError(
                ErrorCode.OUTPUT_UNWRITABLE,
                f"{option}: no permission to write {shown(path, 200)}",
                "choose another file",
            )
    elif not os.access(folder, os.W_OK | os.X_OK):
        raise CraneError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"{option}: no permission to create files in {shown(folder, 200)}",
            "choose another place with --output (and --chdir)",
        )


def outline(spec: JobSpec, partitions: Sequence[str], seconds: int) -> str:
    """A job in one line: where, how much, how long (`seconds`, as it would be in force)."""
    from cli.output.times import limit, when
    from crane.gres import format_gres
    from crane.memspec import format_cpus, format_mem

    part = spec.components[0]
    low, high = max(1, part.min_nodes), part.max_nodes
    nodes = f"{low}-{high} nodes" if high > low else "1 node" if low == 1 else f"{low} nodes"
    said = [f"partition {','.join(partitions)}", nodes]
    if part.ntasks:
        said.append("1 task" if part.ntasks == 1 else f"{part.ntasks} tasks")
    said.append(f"{format_cpus(part.cpus_per_task)} CPU per task")
    if part.mem_per_node or part.mem_per_cpu:
        kind = "node" if part.mem_per_node else "CPU"
        said.append(f"{format_mem(part.mem_per_node or part.mem_per_cpu)} per {kind}")
    if part.gres:
        said.append(f"{format_gres(part.gres)} per node")
    said.append(f"time limit {limit(seconds)}")
    if spec.begin:
        said.append(f"not before {when(spec.begin)}")
    return ", ".join(said)
