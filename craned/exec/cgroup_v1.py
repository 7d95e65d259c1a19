# ruff: noqa: D102 - what overrides the interface is documented there (craned.exec.cgroup)
"""cgroup v1 (Linux Documentation/admin-guide/cgroup-v1): one hierarchy per controller.

Processes are moved by writing "0" to `tasks` rather than to `cgroup.procs`: a single-threaded
process moving itself needs no lock over all processes of the host, which the latter takes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from dataclasses import dataclass, field

from craned.exec.cgroup import (
    CPU_PERIOD_US,
    MIN_MEMORY,
    CgroupBackend,
    CgroupError,
    StepGroup,
    Usage,
    kill_quietly,
    read_fd,
    repeat_until,
)
from craned.exec.cgroup_tree import (
    DIRECTORY,
    copy_cpuset,
    make_group,
    own_tasks,
    processes_below,
    remove_tree,
    subdirectories,
    v1_mounts,
)
from craned.exec.devices import device_numbers
from craned.exec.protocol import StepLimits

_ALWAYS = ("cpu", "cpuacct", "memory", "pids")
_WHEN_NEEDED = ("cpuset", "devices")
_REUSABLE_BYTES = 4 << 20
_UNLIMITED = b"-1"
_RACES = 5
_GONE = (errno.ENOENT, errno.ENODEV)
"""The group was removed: before its file was opened, or after."""


@dataclass(slots=True)
class _Hierarchy:
    """One mounted hierarchy: the agent's base directory in it, and the way back home."""

    controllers: frozenset[str]
    mount: str
    base: int
    """Descriptor of the base directory."""
    home: int
    """Descriptor of `tasks` of the cgroup the agent itself lives in."""


@dataclass(slots=True)
class _Place:
    """A group's directory in one hierarchy."""

    hierarchy: _Hierarchy
    directory: int
    tasks: int
    files: dict[str, int] = field(default_factory=dict)

    def file(self, name: str, flags: int = os.O_RDWR) -> int:
        """Descriptor of a control file, opened once. Raises OSError."""
        fd = self.files.get(name)
        if fd is None:
            fd = self.files[name] = os.open(name, flags | os.O_CLOEXEC, dir_fd=self.directory)
        return fd

    def write(self, name: str, value: bytes) -> None:
        """Write a control file."""
        os.pwrite(self.file(name), value, 0)

    def read(self, name: str, flags: int = os.O_RDONLY) -> bytes:
        """Contents of a control file; none if somebody has removed the group."""
        try:
            return read_fd(self.file(name, flags))
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return b""

    def close(self) -> None:
        """Close every descriptor."""
        for fd in (self.directory, self.tasks, *self.files.values()):
            os.close(fd)


class V1Group(StepGroup):
    """A directory of one name in several hierarchies."""

    def __init__(self, backend: V1Backend, name: str) -> None:
        self.name = name
        self._backend = backend
        self._places: list[_Place] = []
        self._by_controller: dict[str, _Place] = {}
        self._limits: dict[str, int] = {}
        self._oom_seen = 0
        self._extra: tuple[str, ...] = ()
        for hierarchy in backend.always:
            self._add(hierarchy)

    def _add(self, hierarchy: _Hierarchy) -> _Place:
        with contextlib.suppress(FileExistsError):
            make_group(self.name, dir_fd=hierarchy.base)
        directory = os.open(self.name, DIRECTORY, dir_fd=hierarchy.base)
        if "cpuset" in hierarchy.controllers:
            copy_cpuset(directory)
        tasks = os.open("tasks", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
        place = _Place(hierarchy, directory, tasks)
        self._places.append(place)
        for controller in hierarchy.controllers:
            self._by_controller[controller] = place
        return place

    def begin(self, limits: StepLimits, denied: tuple[str, ...]) -> None:
        """Set the limits that changed, and the counters to zero."""
        self._limit_cpu(limits.cpu)
        self._limit_memory(limits.memory << 20)
        self._limit_pids(limits.pids)
        if limits.cpuset:
            place = self._extra_place("cpuset")
            if limits.mems:
                place.write("cpuset.mems", limits.mems.encode())
            place.write("cpuset.cpus", limits.cpuset.encode())
        if denied:
            place = self._extra_place("devices")
            deny = place.file("devices.deny", os.O_WRONLY)
            for kind, major, minor in device_numbers(denied):
                os.write(deny, f"{kind} {major}:{minor} rwm".encode())
        place_of = self._by_controller
        if "cpuacct" in place_of:
            place_of["cpuacct"].write("cpuacct.usage", b"0")
        if "memory" in place_of:
            place_of["memory"].write("memory.max_usage_in_bytes", b"0")

    def _extra_place(self, controller: str) -> _Place:
        hierarchy = self._backend.when_needed.get(controller)
        if hierarchy is None:
            raise CgroupError(f"the cgroup controller {controller} is not available here")
        self._extra = (*self._extra, controller)
        return self._add(hierarchy)

    def _limit_cpu(self, thousandths: int) -> None:
        if self._limits.get("cpu", 0) == thousandths or "cpu" not in self._by_controller:
            return
        quota = max(1000, thousandths * CPU_PERIOD_US // 1000) if thousandths else -1
        self._by_controller["cpu"].write("cpu.cfs_quota_us", str(quota).encode())
        self._limits["cpu"] = thousandths

    def _limit_memory(self, limit: int) -> None:
        place = self._by_controller.get("memory")
        if self._limits.get("memory", 0) == limit or place is None:
            return
        # Memory + swap may never be below memory: lift both, then lower memory first.
        swap = self._backend.limits_swap
        if swap:
            place.write("memory.memsw.limit_in_bytes", _UNLIMITED)
        value = str(max(limit, MIN_MEMORY)).encode() if limit else _UNLIMITED
        place.write("memory.limit_in_bytes", value)
        if swap and limit:
            place.write("memory.memsw.limit_in_bytes", value)
        self._limits["memory"] = limit

    def _limit_pids(self, pids: int) -> None:
        if self._limits.get("pids", 0) == pids or "pids" not in self._by_controller:
            return
        self._by_controller["pids"].write("pids.max", str(pids).encode() if pids else b"max")
        self._limits["pids"] = pids

    def enter(self) -> None:
        try:
            for place in self._places:
                os.write(place.tasks, b"0")
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        for place in self._places:
            os.write(place.hierarchy.home, b"0")

    def processes(self) -> list[int]:
        return processes_below(self._tracking().directory)

    def _tracking(self) -> _Place:
        return self._by_controller.get("pids") or self._places[0]

    def empty(self) -> bool:
        place = self._by_controller.get("pids")
        if place is None:
            return not self.processes()
        return place.read("pids.current") in (b"0\n", b"")  # nobody is in a removed one

    def kill(self) -> None:
        # With no room for another process a fork bomb cannot outrun the killing.
        if "pids" in self._by_controller and self._limits.get("pids", 0) != -1:
            try:
                self._by_controller["pids"].write("pids.max", b"0")
            except OSError as error:
                if error.errno not in _GONE:
                    raise
            self._limits["pids"] = -1
        super().kill()

    def _oom_kills(self) -> int:
        data = self._by_controller["memory"].read("memory.oom_control")
        return int(data.rpartition(b"oom_kill ")[2] or b"0") if b"oom_kill " in data else 0

    def usage(self) -> Usage:
        cpu, peak, oom = -1, -1, 0
        place = self._by_controller.get("cpuacct")
        if place is not None and (data := place.read("cpuacct.usage", os.O_RDWR)):
            cpu = int(data) // 1000
        place = self._by_controller.get("memory")
        if place is not None and (data := place.read("memory.max_usage_in_bytes", os.O_RDWR)):
            peak = int(data)
            seen = self._oom_kills()
            oom, self._oom_seen = seen - self._oom_seen, seen
        return Usage(cpu, peak, oom)

    def reusable(self) -> bool:
        """Whether the next job would find the group as good as new."""
        if self._extra or not self.empty():
            return False
        place = self._by_controller.get("memory")
        if place is not None:
            used = place.read("memory.usage_in_bytes")
            if not used or int(used) > _REUSABLE_BYTES:
                return False  # page cache of the last job would count against the next one
        # Children of steps are listed as links: 2 are the directory's own.
        return os.fstat(self._tracking().directory).st_nlink <= 2

    def release(self) -> None:
        self._backend.release(self)

    def close_files(self) -> None:
        """Close the descriptors."""
        for place in self._places:
            place.close()
        self._places = []

    def close(self) -> None:
        """Close the descriptors and remove the directories, children first."""
        self.close_files()
        self._backend.remove(self.name)


class V1Backend(CgroupBackend):
    """The hierarchies found at start, and the slot of the shim that uses this object."""

    def __init__(self, base: str, hierarchies: list[_Hierarchy]) -> None:
        self.name = "v1"
        self._base = base
        self._all = hierarchies
        self.always = [h for h in hierarchies if h.controllers.intersection(_ALWAYS)]
        self.when_needed = {
            name: h for h in hierarchies for name in _WHEN_NEEDED if name in h.controllers
        }
        found = {c for h in hierarchies for c in h.controllers}
        self.controllers = tuple(c for c in (*_ALWAYS, *_WHEN_NEEDED) if c in found)
        self.limits_swap = any(
            "memory" in h.controllers
            and os.path.exists(f"{h.mount}/{base}/memory.memsw.limit_in_bytes")
            for h in hierarchies
        )
        self._slot: V1Group | None = None

    def slot(self, name: str, limits: StepLimits, denied: tuple[str, ...]) -> StepGroup:
        try:
            if self._slot is None or self._slot.name != name:
                self._slot = V1Group(self, name)
            self._slot.begin(limits, denied)
        except OSError as error:
            self._discard_slot()
            raise CgroupError(f"cgroup {name}: {error}") from error
        return self._slot

    def step(
        self, parent: str, name: str, limits: StepLimits, denied: tuple[str, ...]
    ) -> StepGroup:
        needed = [*self.always]
        for controller, wanted in (("cpuset", limits.cpuset), ("devices", denied)):
            if wanted and controller in self.when_needed:
                needed.append(self.when_needed[controller])
        for attempt in range(_RACES):
            try:
                if self._make(parent, needed):
                    job = V1Group(self, parent)
                    job.begin(StepLimits(limits.cpu, "", "", limits.memory, limits.pids), ())
                    job.close_files()
                group = V1Group(self, f"{parent}/{name}")
                group.begin(StepLimits(cpuset=limits.cpuset, mems=limits.mems), denied)
            except OSError as error:
                self.remove(f"{parent}/{name}")
                # The job's last other step may have removed the parent under our feet.
                if isinstance(error, FileNotFoundError) and attempt < _RACES - 1:
                    continue
                raise CgroupError(f"cgroup {parent}/{name}: {error}") from error
            return group
        raise AssertionError("the loop returns or raises")

    def _make(self, name: str, needed: list[_Hierarchy]) -> bool:
        """Make a job's group in the hierarchies a step needs; whether it was missing."""
        missing = False
        for hierarchy in needed:
            try:
                make_group(name, dir_fd=hierarchy.base)
            except FileExistsError:
                continue
            if "cpuset" in hierarchy.controllers:
                directory = os.open(name, DIRECTORY, dir_fd=hierarchy.base)
                copy_cpuset(directory)
                os.close(directory)
            missing = missing or hierarchy in self.always
        return missing

    def release(self, group: V1Group) -> None:
        """Keep the slot if it is as good as new; remove everything else."""
        if group is self._slot:
            if not group.reusable():
                self._discard_slot()
            return
        group.close()
        parent = os.path.dirname(group.name)
        if parent.startswith("job_"):
            self._remove_empty(parent)

    def _remove_empty(self, name: str) -> None:
        for hierarchy in self._all:
            try:
                os.rmdir(name, dir_fd=hierarchy.base)
            except OSError:
                continue  # another step of the job is there, or it was never made here

    def _discard_slot(self) -> None:
        if self._slot is not None:
            self._slot.close()
            self._slot = None

    def remove(self, name: str) -> None:
        """Remove a group's directories, children first; one still in use stays."""
        for hierarchy in self._all:
            remove_tree(name, hierarchy.base)

    def destroy(self, name: str) -> bool:
        killed = [self._kill_in(name, hierarchy) for hierarchy in self.always]
        self.remove(name)
        parent = os.path.dirname(name)
        if parent.startswith("job_"):
            self._remove_empty(parent)
        return all(killed)

    @staticmethod
    def _kill_in(name: str, hierarchy: _Hierarchy) -> bool:
        try:
            directory = os.open(name, DIRECTORY, dir_fd=hierarchy.base)
        except FileNotFoundError:
            return True
        try:
            if "pids" in hierarchy.controllers:
                file = os.open("pids.max", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
                os.write(file, b"0")
                os.close(file)

            def strike() -> None:
                for pid in processes_below(directory):
                    kill_quietly(pid, signal.SIGKILL)

            return repeat_until(lambda: not processes_below(directory), strike)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return True  # its shim, which had closed its socket before it left, was faster
        finally:
            os.close(directory)

    def leftovers(self) -> list[str]:
        names: set[str] = set()
        for hierarchy in self._all:
            names.update(subdirectories(hierarchy.base))
        return sorted(names)

    def close(self) -> None:
        self._discard_slot()

    def remove_base(self) -> None:
        for hierarchy in self._all:
            path = f"{hierarchy.mount}/{self._base}"
            while path != hierarchy.mount:
                try:
                    os.rmdir(path)
                except OSError:
                    break
                path = os.path.dirname(path)


def open_v1(root: str, base: str) -> V1Backend:
    """Every usable v1 hierarchy below `root`, each with the directory `base` in it.

    Raises CgroupError if not one of cpu, memory and pids can be had.
    """
    hierarchies, refused = [], []
    for mount, controllers in v1_mounts(root, (*_ALWAYS, *_WHEN_NEEDED)):
        try:
            path = mount
            for part in base.split("/"):
                path = f"{path}/{part}"
                try:
                    make_group(path)
                except FileExistsError:
                    continue
                if "cpuset" in controllers:
                    directory = os.open(path, DIRECTORY)
                    copy_cpuset(directory)
                    os.close(directory)
            home = own_tasks(mount, controllers)
            hierarchies.append(_Hierarchy(controllers, mount, os.open(path, DIRECTORY), home))
        except OSError as error:
            refused.append(str(error))
    backend = V1Backend(base, hierarchies)
    if not {"cpu", "memory", "pids"}.intersection(backend.controllers):
        backend.close()
        raise CgroupError("; ".join(refused) or f"no v1 hierarchy is mounted below {root}")
    return backend
