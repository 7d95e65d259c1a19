"""Prints what the job was promised, and the CPU and memory limits it finds around itself.

It looks at the control groups it is in (cgroups(7)) and at those above them: the tightest counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

ROOT = "/sys/fs/cgroup"
NO_LIMIT = 1 << 60
"""v1 has no word for "no limit": it shows about 2**63 bytes."""


def groups() -> dict[str, str]:
    """Path of the job's group by controller; the v2 hierarchy's controller is the empty word."""
    found = {}
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path
    return found


def read(mount: str, path: str, name: str) -> Iterator[list[str]]:
    """Words of a control file in a group and in all groups above it, where it is there."""
    while True:
        try:
            with open(f"{ROOT}/{mount}/{path}/{name}", encoding="ascii") as file:
                yield file.read().split()
        except OSError:
            pass  # the root of a hierarchy has no limits, and some groups are out of sight
        if path in {"", "/"}:
            return
        path = os.path.dirname(path)


def cpus(found: dict[str, str]) -> tuple[float, str]:
    """CPUs worth of time per second, and who says so; 0: no limit."""
    limits = []
    for quota, period in read("", found.get("", "/"), "cpu.max"):
        if quota != "max":
            limits.append((int(quota) / int(period), "cgroup v2, cpu.max"))
    path = found.get("cpu", "/")
    periods = read("cpu", path, "cpu.cfs_period_us")
    for (quota,), (period,) in zip(read("cpu", path, "cpu.cfs_quota_us"), periods, strict=True):
        if int(quota) > 0:
            limits.append((int(quota) / int(period), "cgroup v1, cpu.cfs_quota_us"))
    return min(limits, default=(0.0, ""))


def memory(found: dict[str, str]) -> tuple[int, str]:
    """MiB, and who says so; 0: no limit."""
    limits = []
    for (limit,) in read("", found.get("", "/"), "memory.max"):
        if limit != "max":
            limits.append((int(limit) >> 20, "cgroup v2, memory.max"))
    for (limit,) in read("memory", found.get("memory", "/"), "memory.limit_in_bytes"):
        if int(limit) < NO_LIMIT:
            limits.append((int(limit) >> 20, "cgroup v1, memory.limit_in_bytes"))
    return min(limits, default=(0, ""))


def main() -> None:
    found = groups()
    count, who = cpus(found)
    print(f"CPUs:   promised {os.environ['CRANE_CPUS_ON_NODE']};", end=" ")
    print(f"limit {count:g} ({who})" if who else "no limit in force")
    size, who = memory(found)
    print(f"memory: promised {os.environ['CRANE_MEM_PER_NODE']} MiB;", end=" ")
    print(f"limit {size} MiB ({who})" if who else "no limit in force")


if __name__ == "__main__":
    main()
