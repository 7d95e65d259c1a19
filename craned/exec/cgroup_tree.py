"""Directories of cgroup hierarchies: finding, listing and removing them by descriptor."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""Flags to open a directory with."""


OPEN_MODE = 0o755
"""Of groups' directories: runtimes in jobs read their limits there. The launcher's umask hides."""


def make_group(name: str, *, dir_fd: int | None = None) -> None:
    """Make the directory of a group, readable by everybody. Raises OSError."""
    os.mkdir(name, dir_fd=dir_fd)
    os.chmod(name, OPEN_MODE, dir_fd=dir_fd)


def subdirectories(directory: int) -> Iterable[str]:
    """Names of the child groups of an open directory."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def remove_tree(name: str, parent: int) -> None:
    """Remove a group, children first; one that is gone or in use is left alone."""
    try:
        os.rmdir(name, dir_fd=parent)
        return
    except OSError:
        pass  # gone, in use, or with children: looked at below
    try:
        directory = os.open(name, DIRECTORY, dir_fd=parent)
    except OSError:
        return
    try:
        for child in subdirectories(directory):
            remove_tree(child, directory)
    except FileNotFoundError:
        return  # somebody else is removing it
    finally:
        os.close(directory)
    for _ in range(20):
        try:
            os.rmdir(name, dir_fd=parent)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.001)  # a process that has just been reaped may still be leaving


def processes_below(directory: int) -> list[int]:
    """Process ids in a group and its children; none if it is gone."""
    try:
        procs = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        with open(procs, "rb") as file:
            found = [int(line) for line in file]
        for name in subdirectories(directory):
            child = os.open(name, DIRECTORY, dir_fd=directory)
            try:
                found += processes_below(child)
            finally:
                os.close(child)
    except (FileNotFoundError, ProcessLookupError, OSError):
        return []
    return found


def copy_cpuset(directory: int) -> None:
    """A new cpuset allows nothing until it is told: give it what its parent has."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        for path, flags in ((f"../{name}", os.O_RDONLY), (name, os.O_WRONLY)):
            fd = os.open(path, flags | os.O_CLOEXEC, dir_fd=directory)
            if flags == os.O_RDONLY:
                value = os.read(fd, 4096)
            else:
                os.write(fd, value)
            os.close(fd)


def v1_mounts(root: str, names: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
    """Mount points of v1 hierarchies below `root`, and which of `names` each controls."""
    wanted = frozenset(names)
    found = []
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, path, kind, options = line.split()[:4]
            controllers = wanted.intersection(options.split(","))
            if kind == "cgroup" and controllers and path.startswith(root):
                found.append((path, controllers))
    return sorted(found)


def own_tasks(mount: str, controllers: frozenset[str]) -> int:
    """Descriptor of `tasks` of the cgroup this process is in (the root if that is hidden)."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            if controllers.intersection(names.split(",")):
                if os.access(f"{mount}{path}/tasks", os.W_OK):
                    return os.open(f"{mount}{path}/tasks", os.O_WRONLY | os.O_CLOEXEC)
                break
    return os.open(f"{mount}/tasks", os.O_WRONLY | os.O_CLOEXEC)
