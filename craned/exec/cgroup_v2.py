# ruff: noqa: D102 - what overrides the interface is documented there (craned.exec.cgroup)
"""cgroup v2 (Linux Documentation/admin-guide/cgroup-v2): one tree, processes only in its leaves.

    <base>/agent            the launcher and its shims
    <base>/s<pid>/batch     the batch script of the shim's job; limits are set on s<pid>
    <base>/s<pid>/step_0    numbered steps beside it; job_<id>/step_0 on the job's other hosts

The limits of a job are repeated on its leaves: a runtime that sizes its heap or its pool by them
reads those of its own group. An ordinary user gets here if a subtree was delegated to him
(systemd: `Delegate=yes`): the base is then made near the agent's own group, see
craned.exec.cgroup_delegation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable

from craned.exec.cgroup import (
    CPU_PERIOD_US,
    MIN_MEMORY,
    CgroupBackend,
    CgroupError,
    StepGroup,
    Usage,
    repeat_until,
)
from craned.exec.cgroup_delegation import (
    HOST_LEAF,
    find_own,
    find_top,
    make_with_parents,
    move_home,
    read,
    turn_on,
    write,
)
from craned.exec.cgroup_tree import make_group
from craned.exec.devices import deny_in_cgroup
from craned.exec.protocol import StepLimits

_WANTED = ("cpu", "memory", "pids", "cpuset")
_RACES = 20
_LEAVING_SECONDS = 1.0
_GONE = (errno.ENOENT, errno.ENODEV)
"""The group was removed: before its file was opened, or after."""


def _flat(path: str) -> dict[str, int]:
    """A flat keyed file as a dictionary; an empty one if the file is not there (any more)."""
    try:
        return {k: int(v) for k, v in (line.split() for line in read(path).splitlines())}
    except OSError as error:
        if error.errno in _GONE:
            return {}
        raise


class V2Group(StepGroup):
    """The leaf of one step; the batch script's also stands for its job's whole directory.

    CPU time and kills at the memory limit are the leaf's own: the other steps tell theirs. The peak
    of a batch script is that of its job here, as in `memory.max`.
    """

    def __init__(self, backend: V2Backend, name: str, leaf: str) -> None:
        self.name = name
        self._backend = backend
        self._top = f"{backend.path}/{name}"
        self._leaf = f"{backend.path}/{leaf}"
        before = self._counters()
        self._cpu_before, self._oom_before = before.cpu_us, before.oom_kills

    def enter(self) -> None:
        write(f"{self._leaf}/cgroup.procs", "0")

    def leave(self) -> None:
        write(f"{self._backend.home}/cgroup.procs", "0")

    def processes(self) -> list[int]:
        found: list[int] = []
        for directory, _, _ in os.walk(self._top):
            try:
                found += [int(line) for line in read(f"{directory}/cgroup.procs").split()]
            except OSError:
                continue  # removed meanwhile, or a directory that may hold no process
        return found

    def empty(self) -> bool:
        return _flat(f"{self._top}/cgroup.events").get("populated", 0) == 0

    def kill(self) -> None:
        try:
            write(f"{self._top}/cgroup.kill", "1")
        except FileNotFoundError:  # before Linux 5.14
            # With no room for another process a fork bomb cannot outrun the killing.
            with contextlib.suppress(FileNotFoundError):
                write(f"{self._top}/pids.max", "0")
            super().kill()

    def _counters(self) -> Usage:
        try:
            peak = int(read(f"{self._top}/memory.peak"))
        except FileNotFoundError:  # before Linux 5.19
            peak = -1
        cpu = _flat(f"{self._leaf}/cpu.stat").get("usage_usec", -1)
        return Usage(cpu, peak, _flat(f"{self._leaf}/memory.events").get("oom_kill", 0))

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

    def __init__(self, path: str, top: str, way_back: tuple[str, ...]) -> None:
        """`path`: the base, made in `top`; `way_back`: where this process may go in the end."""
        self.name = "v2"
        self.path = path
        self.home = f"{path}/agent"
        self._top = top
        self._way_back = way_back

    def turn_controllers_on(self, required: tuple[str, ...]) -> None:
        """Those that are wanted and to be had, from the top to the base. Raises OSError."""
        levels = [self.path]
        while levels[0] != self._top:
            levels.insert(0, os.path.dirname(levels[0]))
        for controller in _WANTED:
            if controller not in read(f"{self._top}/cgroup.controllers").split():
                continue
            try:
                for level in levels:
                    turn_on(level, controller)
            except OSError:
                # The cpu controller, say, refuses a tree with real-time processes.
                if controller in required:
                    raise
                continue
            self.controllers = (*self.controllers, controller)

    def _limit(self, path: str, limits: StepLimits, *, fresh: bool) -> None:
        """Set the limits of a group; in one that is not fresh also lift those that are not asked."""
        quota = max(1000, limits.cpu * CPU_PERIOD_US // 1000)
        memory = max(limits.memory << 20, MIN_MEMORY)
        values = (
            ("cpu", "cpu.max", f"{quota} {CPU_PERIOD_US}" if limits.cpu else ""),
            ("memory", "memory.max", str(memory) if limits.memory else ""),
            ("memory", "memory.swap.max", "0" if limits.memory else ""),
            ("pids", "pids.max", str(limits.pids) if limits.pids else ""),
        )
        for controller, name, value in values:
            if controller not in self.controllers or (fresh and not value):
                continue
            try:
                write(f"{path}/{name}", value or "max")
            except FileNotFoundError:
                if name != "memory.swap.max":  # a kernel without swap accounting
                    raise

    def _bind(self, path: str, limits: StepLimits) -> None:
        """Keep a group on its CPUs. Raises CgroupError if it would not be."""
        if not limits.cpuset:
            return
        if "cpuset" not in self.controllers:
            raise CgroupError("the cgroup controller cpuset is not available here")
        if limits.mems:
            write(f"{path}/cpuset.mems", limits.mems)
        write(f"{path}/cpuset.cpus", limits.cpuset)
        # CPUs that are offline or not the parent's are accepted, and others used in their place.
        asked, used = read(f"{path}/cpuset.cpus"), read(f"{path}/cpuset.cpus.effective")
        if asked != used:
            raise CgroupError(
                f"the CPUs {asked.strip()} were asked for, and only {used.strip()} can be used in "
                f"{path}; are some offline, or kept from the agent's own group?"
            )

    def slot(self, name: str, limits: StepLimits, denied: tuple[str, ...]) -> StepGroup:
        def make() -> StepGroup:
            self._remove_left(name)
            self._job(name, limits)
            self._bind(f"{self.path}/{name}", limits)
            return self._leaf(name, f"{name}/batch", limits, denied)

        return self._again_if_removed(make, name)

    def step(
        self, parent: str, name: str, limits: StepLimits, denied: tuple[str, ...]
    ) -> StepGroup:
        def make() -> StepGroup:
            self._job(parent, limits)
            group = self._leaf(f"{parent}/{name}", f"{parent}/{name}", limits, denied)
            self._bind(f"{self.path}/{parent}/{name}", limits)
            return group

        return self._again_if_removed(make, f"{parent}/{name}")

    def _again_if_removed(self, make: Callable[[], StepGroup], name: str) -> StepGroup:
        """Make a group; the job's last other step may remove the parent under our feet."""
        for attempt in range(_RACES):
            try:
                return make()
            except (OSError, CgroupError) as error:
                self.remove(name)
                if os.path.dirname(name):
                    self.remove_empty(os.path.dirname(name))
                gone = isinstance(error, OSError) and error.errno in _GONE
                if gone and attempt < _RACES - 1:
                    continue
                raise CgroupError(f"cgroup {name}: {error}") from error
        raise AssertionError("the loop returns or raises")

    def _remove_left(self, name: str) -> None:
        """What the shim's last job may have left; a numbered step that came early is spared."""
        if os.path.isdir(f"{self.path}/{name}"):
            self.remove_empty(f"{name}/batch")
            self.remove_empty(name)

    def _job(self, name: str, limits: StepLimits) -> None:
        """The directory of a job, made or found. Every step sets its limits: they are the same."""
        path = f"{self.path}/{name}"
        fresh = self._make(path)
        if self.controllers:
            write(f"{path}/cgroup.subtree_control", " ".join(f"+{c}" for c in self.controllers))
        self._limit(path, limits, fresh=fresh)

    def _leaf(self, name: str, leaf: str, limits: StepLimits, denied: tuple[str, ...]) -> StepGroup:
        path = f"{self.path}/{leaf}"
        self._limit(path, limits, fresh=self._make(path))
        if denied:
            deny_in_cgroup(f"{self.path}/{name}", denied)
        return V2Group(self, name, leaf)

    @staticmethod
    def _make(path: str) -> bool:
        """Whether it was not there before."""
        try:
            make_group(path)
        except FileExistsError:
            return False
        return True

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
        """Remove a directory that neither process nor group is in."""
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
        if not move_home(self._way_back):
            return
        # A shim that has closed its socket may still be leaving; it need not be a child to wait for.
        deadline = time.monotonic() + _LEAVING_SECONDS
        path = self.home
        while path != self._top:
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass  # it was not made
            except OSError:
                if time.monotonic() > deadline:
                    return  # in use by the shims of steps that go on
                time.sleep(0.001)
                continue
            path = os.path.dirname(path)


def open_v2(root: str, base: str, required: tuple[str, ...] = ("memory", "pids")) -> V2Backend:
    """A base directory in the v2 tree, with its controllers turned on for its children.

    Made at the top of the tree if that is writable (root), else near the agent's own group.
    Raises CgroupError if a required controller is not there, OSError if nothing is writable.
    """
    mount, own = find_own(root)
    top = find_top(mount, own, base, required)
    backend = V2Backend(f"{top}/{base}", top, (f"{top}/{HOST_LEAF}", top, f"{mount}{own}"))
    try:
        make_with_parents(backend.home)
        write(f"{backend.home}/cgroup.procs", "0")
        backend.turn_controllers_on(required)
    except OSError:
        backend.remove_base()
        raise
    return backend
