# ruff: noqa: D102 - what overrides the interface is documented there (craned.exec.cgroup)
"""cgroup v2 (Linux Documentation/admin-guide/cgroup-v2): one tree, processes only in its leaves.

    <base>/agent            the launcher and its shims
    <base>/s<pid>/batch     the batch script of the shim's job; limits are set on s<pid>
    <base>/s<pid>/step_0    numbered steps beside it; job_<id>/step_0 on the job's other hosts

An ordinary user gets here if a subtree was delegated to him (systemd: `Delegate=yes`): the base is
then made below the agent's own cgroup.
"""

from __future__ import annotations

import contextlib
import os
import time

from craned.exec.cgroup import (
    CPU_PERIOD_US,
    MIN_MEMORY,
    CgroupBackend,
    CgroupError,
    StepGroup,
    Usage,
    repeat_until,
)
from craned.exec.cgroup_tree import make_group
from craned.exec.devices import deny_in_cgroup
from craned.exec.protocol import StepLimits

_WANTED = ("cpu", "memory", "pids", "cpuset")
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _flat(path: str) -> dict[str, int]:
    """A flat keyed file as a dictionary; an empty one if the file is not there."""
    try:
        return {k: int(v) for k, v in (line.split() for line in _read(path).splitlines())}
    except FileNotFoundError:
        return {}


def _make(path: str) -> None:
    """Make a group with its parents, readable by everybody. Raises OSError."""
    if not os.path.isdir(path):
        _make(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            make_group(path)


class V2Group(StepGroup):
    """The leaf of one step; the batch script's also stands for its job's whole directory."""

    def __init__(self, backend: V2Backend, name: str, leaf: str) -> None:
        self.name = name
        self._backend = backend
        self._top = f"{backend.path}/{name}"
        self._leaf = f"{backend.path}/{leaf}"
        _make(self._leaf)
        before = self._counters()
        self._cpu_before, self._oom_before = before.cpu_us, before.oom_kills

    def enter(self) -> None:
        _write(f"{self._leaf}/cgroup.procs", "0")

    def leave(self) -> None:
        _write(f"{self._backend.home}/cgroup.procs", "0")

    def processes(self) -> list[int]:
        found: list[int] = []
        for directory, _, _ in os.walk(self._top):
            try:
                found += [int(line) for line in _read(f"{directory}/cgroup.procs").split()]
            except OSError:
                continue  # removed meanwhile, or a directory that may hold no process
        return found

    def empty(self) -> bool:
        return _flat(f"{self._top}/cgroup.events").get("populated", 0) == 0

    def kill(self) -> None:
        try:
            _write(f"{self._top}/cgroup.kill", "1")
        except FileNotFoundError:  # before Linux 5.14
            super().kill()

    def _counters(self) -> Usage:
        try:
            peak = int(_read(f"{self._top}/memory.peak"))
        except FileNotFoundError:
            peak = -1
        cpu = _flat(f"{self._top}/cpu.stat").get("usage_usec", -1)
        return Usage(cpu, peak, _flat(f"{self._top}/memory.events").get("oom_kill", 0))

    def usage(self) -> Usage:
        now = self._counters()
        cpu = now.cpu_us - self._cpu_before if now.cpu_us >= 0 else -1
        return Usage(cpu, now.peak_bytes, now.oom_kills - self._oom_before)

    def release(self) -> None:
        self._backend.remove(self.name)
        parent = os.path.dirname(self.name)
        if parent.startswith("job_"):
            self._backend.remove_empty(parent)


class V2Backend(CgroupBackend):
    """One base directory whose children are jobs."""

    def __init__(self, path: str, home: str, controllers: tuple[str, ...], made: str) -> None:
        self.name = "v2"
        self.path = path
        self.home = home
        self.controllers = controllers
        self._made = made

    def _job(self, name: str, limits: StepLimits) -> None:
        path = f"{self.path}/{name}"
        try:
            make_group(path)
        except FileExistsError:
            return
        for controller in self.controllers:
            _write(f"{path}/cgroup.subtree_control", f"+{controller}")
        if limits.cpu and "cpu" in self.controllers:
            quota = max(1000, limits.cpu * CPU_PERIOD_US // 1000)
            _write(f"{path}/cpu.max", f"{quota} {CPU_PERIOD_US}")
        if limits.memory and "memory" in self.controllers:
            _write(f"{path}/memory.max", str(max(limits.memory << 20, MIN_MEMORY)))
            if os.path.exists(f"{path}/memory.swap.max"):
                _write(f"{path}/memory.swap.max", "0")
        if limits.pids and "pids" in self.controllers:
            _write(f"{path}/pids.max", str(limits.pids))
        if limits.cpuset:
            if "cpuset" not in self.controllers:
                raise CgroupError("the cgroup controller cpuset is not available here")
            if limits.mems:
                _write(f"{path}/cpuset.mems", limits.mems)
            _write(f"{path}/cpuset.cpus", limits.cpuset)

    def slot(self, name: str, limits: StepLimits, denied: tuple[str, ...]) -> StepGroup:
        return self._open(name, limits, denied, name, f"{name}/batch")

    def step(
        self, parent: str, name: str, limits: StepLimits, denied: tuple[str, ...]
    ) -> StepGroup:
        return self._open(parent, limits, denied, f"{parent}/{name}", f"{parent}/{name}")

    def _open(
        self, job: str, limits: StepLimits, denied: tuple[str, ...], name: str, leaf: str
    ) -> StepGroup:
        try:
            self._job(job, limits)
            group = V2Group(self, name, leaf)
            if denied:
                deny_in_cgroup(f"{self.path}/{name}", denied)
        except OSError as error:
            self.remove(name)
            raise CgroupError(f"cgroup {name}: {error}") from error
        return group

    def remove(self, name: str) -> None:
        """Remove a group's directories, children first; one still in use stays."""
        for directory, _, _ in os.walk(f"{self.path}/{name}", topdown=False):
            for _ in range(20):
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.001)  # a process that was just reaped may still be leaving
                    continue
                break

    def remove_empty(self, name: str) -> None:
        """Remove a job's directory if no step is left in it."""
        try:
            os.rmdir(f"{self.path}/{name}")
        except OSError:
            return

    def destroy(self, name: str) -> bool:
        gone = True
        if os.path.isdir(f"{self.path}/{name}"):
            group = V2Group(self, name, name)
            gone = repeat_until(group.empty, group.kill)
            self.remove(name)
        parent = os.path.dirname(name)
        if parent.startswith("job_"):
            self.remove_empty(parent)
        return gone

    def leftovers(self) -> list[str]:
        with os.scandir(self.path) as entries:
            return sorted(e.name for e in entries if e.is_dir() and e.name != "agent")

    def close(self) -> None:
        """A shim keeps nothing between steps."""

    def remove_base(self) -> None:
        try:
            _write(f"{self._made}/cgroup.procs", "0")
            path = f"{self.path}/agent"
            while path != self._made:
                os.rmdir(path)
                path = os.path.dirname(path)
        except OSError:
            return  # in use by the shims of steps that go on


def _tree(root: str) -> tuple[str, str]:
    """Mount point of the v2 tree below `root`, and the agent's own cgroup in it."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [fields[1] for fields in map(str.split, file) if fields[2] == "cgroup2"]
    mount = next((path for path in sorted(mounts) if path.startswith(root)), "")
    if not mount:
        raise CgroupError(f"no cgroup v2 tree is mounted below {root}")
    own = next(
        (line[3:].rstrip("\n") for line in _read("/proc/self/cgroup").splitlines(keepends=True)
         if line.startswith("0::")),
        "/",
    )  # fmt: skip
    return mount, own


def open_v2(root: str, base: str, required: tuple[str, ...] = ("memory", "pids")) -> V2Backend:
    """A base directory in the v2 tree, with its controllers turned on for its children.

    Made at the top of the tree if that is writable (root), else below the agent's own cgroup.
    Raises CgroupError if a required controller is not there, OSError if nothing is writable.
    """
    mount, own = _tree(root)
    top = mount if os.access(f"{mount}/cgroup.procs", os.W_OK) else f"{mount}{own}"
    available = _read(f"{top}/cgroup.controllers").split()
    missing = [name for name in required if name not in available]
    if missing:
        raise CgroupError(f"the controllers {', '.join(missing)} are not available in {top}")
    path = f"{top}/{base}"
    _make(f"{path}/agent")
    _write(f"{path}/agent/cgroup.procs", "0")
    controllers = tuple(name for name in _WANTED if name in available)
    directory = top
    for part in ("", *base.split("/")):
        directory = f"{directory}/{part}" if part else directory
        for controller in controllers:
            _write(f"{directory}/cgroup.subtree_control", f"+{controller}")
    return V2Backend(path, f"{path}/agent", controllers, top)
