"""What a cluster has on this machine outside its directory, and what is left of it afterwards."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass

_CGROUPS = "/sys/fs/cgroup"


@dataclass(frozen=True, slots=True)
class Traces:
    """What was there while it ran."""

    processes: tuple[tuple[int, int, str], ...]
    """Process id, start (clock ticks since boot), and command."""
    groups: tuple[str, ...]
    """Names of the agents' control groups."""
    sockets: tuple[str, ...]
    port: int
    """TCP port of the controller; 0: it had none."""


def traces(home: str, mark: str) -> Traces:
    """What the cluster in `home` has now; `mark` is a path nobody else has."""
    found = processes(mark)
    groups = {
        word.removeprefix("base=")
        for pid, _, _ in found
        for word in _read(f"/proc/{pid}/cmdline").split("\0")
        if word.startswith("base=crane_")
    }
    return Traces(tuple(found), tuple(sorted(groups)), tuple(sockets(mark)), _port(home))


def left(before: Traces, mark: str) -> list[str]:
    """Everything of a cluster that is still there; one line for each thing."""
    lines = [
        f"process {pid}: {words}"
        for pid, started, words in before.processes
        if started and _started(pid) == started
    ]
    known = {pid for pid, _, _ in before.processes}
    lines += [f"process {pid}: {words}" for pid, _, words in processes(mark) if pid not in known]
    lines += [f"control group {path}" for path in control_groups(before.groups)]
    lines += [f"socket {path}" for path in sockets(mark)]
    if before.port and _listening(before.port):
        lines.append(f"something listens at port {before.port}")
    return lines


def processes(mark: str) -> list[tuple[int, int, str]]:
    """Processes whose arguments or environment mention a path, but for this one."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        words = _read(f"/proc/{entry}/cmdline")
        if mark in words or mark in _read(f"/proc/{entry}/environ"):
            started = _started(int(entry))
            if started:
                found.append((int(entry), started, words.replace("\0", " ").strip()[:120]))
    return found


def control_groups(names: Iterable[str]) -> list[str]:
    """Directories of control groups with these names, in every hierarchy."""
    wanted = set(names)
    return sorted(
        os.path.join(folder, name)
        for folder, inside, _ in os.walk(_CGROUPS)
        for name in inside
        if name in wanted
    )


def sockets(mark: str) -> list[str]:
    """Paths of open unix sockets below a directory (proc(5), /proc/net/unix)."""
    paths = {line.split()[-1] for line in _read("/proc/net/unix").splitlines()[1:] if line.split()}
    return sorted(path for path in paths if path.startswith(mark))


def _port(home: str) -> int:
    try:
        with open(os.path.join(home, "crane.toml"), "rb") as file:
            listen: str = tomllib.load(file)["controller"]["listen"]
    except FileNotFoundError:
        return 0
    return int(listen.rpartition(":")[2])


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _started(pid: int) -> int:
    """When a living process was started; 0: there is none (proc(5), stat field 22)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if fields and fields[0] not in {"Z", "X"} else 0


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""  # it has ended, or is somebody else's
