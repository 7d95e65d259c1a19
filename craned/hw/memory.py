"""Memory of this host, as the agent may use it: MiB, bounded by the cgroups above it."""

from __future__ import annotations

from dataclasses import dataclass

from craned.hw.cpus import numa_nodes

_UNLIMITED_V1 = 1 << 60
"""cgroup v1 shows "no limit" as a number close to 2^63."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What was found, in MiB."""

    total: int
    """What the kernel manages."""
    limit: int
    """What a cgroup above us allows; 0: no limit."""
    swap: int
    numa: tuple[tuple[int, int], ...]
    """NUMA node and its memory."""

    @property
    def usable(self) -> int:
        """What jobs can be promised."""
        return min(self.total, self.limit) if self.limit else self.total


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def parse_meminfo(text: str) -> dict[str, int]:
    """`/proc/meminfo` (proc(5)), and the like of NUMA nodes: name -> KiB."""
    found = {}
    for line in text.splitlines():
        name, colon, rest = line.rpartition(":")
        fields = rest.split()
        if colon and len(fields) == 2 and fields[1] == "kB" and fields[0].isdigit():
            found[name.split()[-1]] = int(fields[0])
    return found


def _cgroup_limit(cgroup_root: str) -> int:
    """The tightest memory limit of the cgroups this process is in, in MiB; 0: none."""
    found = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        parts = path.strip("/").split("/")
        for depth in range(len(parts) + 1):
            below = "/".join(parts[:depth])
            if not controllers:
                text = _read(f"{cgroup_root}/{below}/memory.max")
            elif "memory" in controllers.split(","):
                text = _read(f"{cgroup_root}/{controllers}/{below}/memory.limit_in_bytes")
            else:
                continue
            value = text.strip()
            if value.isdigit() and int(value) < _UNLIMITED_V1:
                found.append(int(value) >> 20)
    return min(found, default=0)


def read_memory(sys_root: str = "/sys", cgroup_root: str = "/sys/fs/cgroup") -> Memory:
    """Look at this host. Raises RuntimeError if /proc/meminfo does not tell the total."""
    info = parse_meminfo(_read("/proc/meminfo"))
    if "MemTotal" not in info:
        raise RuntimeError("/proc/meminfo does not tell MemTotal; is /proc mounted?")
    numa = []
    for node in numa_nodes(sys_root):
        path = f"{sys_root}/devices/system/node/node{node}/meminfo"
        numa.append((node, parse_meminfo(_read(path)).get("MemTotal", info["MemTotal"]) >> 10))
    return Memory(
        total=info["MemTotal"] >> 10,
        limit=_cgroup_limit(cgroup_root),
        swap=info.get("SwapTotal", 0) >> 10,
        numa=tuple(numa),
    )
