"""CPUs of this host, as the agent may use them: affinity, cgroup quota, topology, NUMA nodes."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cpus:
    """What was found."""

    online: tuple[int, ...]
    """Logical CPUs this process may run on, sorted."""
    sockets: int
    cores: int
    """Physical cores among them."""
    threads_per_core: int
    numa: tuple[tuple[int, tuple[int, ...]], ...]
    """NUMA node and its CPUs among `online`."""
    quota: int
    """Thousandths of a CPU a cgroup above us allows; 0: no quota."""
    model: str

    @property
    def thousandths(self) -> int:
        """What jobs can be promised, in thousandths of a CPU."""
        whole = len(self.online) * 1000
        return min(whole, self.quota) if self.quota else whole


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's list format (cpuset(7)): `0-3,8` -> (0, 1, 2, 3, 8). Raises ValueError."""
    found: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def format_cpu_list(cpus: tuple[int, ...]) -> str:
    """The inverse of `parse_cpu_list`."""
    parts: list[str] = []
    ordered = sorted(set(cpus))
    at = 0
    while at < len(ordered):
        end = at
        while end + 1 < len(ordered) and ordered[end + 1] == ordered[end] + 1:
            end += 1
        parts.append(str(ordered[at]) if at == end else f"{ordered[at]}-{ordered[end]}")
        at = end + 1
    return ",".join(parts)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _topology(sys_root: str, online: tuple[int, ...]) -> tuple[int, int]:
    sockets, cores = set(), set()
    for cpu in online:
        base = f"{sys_root}/devices/system/cpu/cpu{cpu}/topology"
        socket = _read(f"{base}/physical_package_id") or "0"
        core = _read(f"{base}/core_id") or str(cpu)
        sockets.add(socket)
        cores.add((socket, core))
    return len(sockets), len(cores)


def numa_nodes(sys_root: str = "/sys") -> list[int]:
    """Numbers of the host's NUMA nodes; [0] where the kernel does not tell."""
    try:
        names = os.listdir(f"{sys_root}/devices/system/node")
    except OSError:
        return [0]
    return sorted(int(n[4:]) for n in names if n.startswith("node") and n[4:].isdigit()) or [0]


def _quota(cgroup_root: str) -> int:
    """The tightest CPU quota of the cgroups this process is in, in thousandths; 0: none."""
    found = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        parts = path.strip("/").split("/")
        for depth in range(len(parts) + 1):
            below = "/".join(parts[:depth])
            if not controllers:
                fields = _read(f"{cgroup_root}/{below}/cpu.max").split()
            elif "cpu" in controllers.split(","):
                base = f"{cgroup_root}/{controllers}/{below}"
                fields = [_read(f"{base}/cpu.cfs_quota_us"), _read(f"{base}/cpu.cfs_period_us")]
            else:
                continue
            if len(fields) == 2 and fields[0].isdigit() and int(fields[1] or 0) > 0:
                found.append(int(fields[0]) * 1000 // int(fields[1]))
    return min(found, default=0)


def _model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return ""


def read_cpus(sys_root: str = "/sys", cgroup_root: str = "/sys/fs/cgroup") -> Cpus:
    """Look at this host. Never fails: what cannot be read counts as one core per CPU."""
    online = tuple(sorted(os.sched_getaffinity(0)))
    sockets, cores = _topology(sys_root, online)
    numa = []
    for node in numa_nodes(sys_root):
        text = _read(f"{sys_root}/devices/system/node/node{node}/cpulist")
        inside = parse_cpu_list(text) if text else online
        numa.append((node, tuple(cpu for cpu in inside if cpu in set(online))))
    return Cpus(
        online=online,
        sockets=sockets,
        cores=cores,
        threads_per_core=max(1, len(online) // max(1, cores)),
        numa=tuple(numa),
        quota=_quota(cgroup_root),
        model=_model(),
    )
