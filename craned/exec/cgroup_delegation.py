"""Where in the cgroup v2 tree an agent may make its groups, and how to turn controllers on there.

Controllers are turned on for the children of a group only while no process is in it ("no internal
processes", Linux Documentation/admin-guide/cgroup-v2); only the real root is free of the rule. The
root of a container and a unit with `Delegate=yes` are not: what runs there goes to a leaf first.

    <top>/crane.host      what was in <top>: craned, a container's first process, a shell
    <top>/<base>/agent    the launcher and its shims
    <top>/<base>/...      jobs (craned.exec.cgroup_v2)
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator

from craned.exec.cgroup import CgroupError
from craned.exec.cgroup_tree import make_group

HOST_LEAF = "crane.host"
_ROUNDS = 20
"""A process may be born while the others are moved; a group in constant growth is nothing for us."""


def write(path: str, value: str) -> None:
    """Write a control file. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(path: str) -> str:
    """Contents of a control file. Raises OSError."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def make_with_parents(path: str) -> None:
    """Make a group with its parents, readable by everybody. Raises OSError."""
    if not os.path.isdir(path):
        make_with_parents(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            make_group(path)


def find_own(root: str) -> tuple[str, str]:
    """Mount point of the v2 tree below `root`, and this process's own group in it (`/a/b`).

    Raises CgroupError if there is no such tree.
    """
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [fields[1] for fields in map(str.split, file) if fields[2] == "cgroup2"]
    mount = next((path for path in sorted(mounts) if path.startswith(root)), "")
    if not mount:
        raise CgroupError(f"no cgroup v2 tree is mounted below {root}")
    lines = read("/proc/self/cgroup").splitlines()
    return mount, next((line[3:] for line in lines if line.startswith("0::")), "/")


def find_top(mount: str, own: str, base: str, required: Iterable[str]) -> str:
    """The group to make `base` in: the top of the tree if it is writable, else near our own.

    That is the nearest one above us that is writable and has the controllers: systemd puts the
    processes of a delegated unit in a child of it if told so (`DelegateSubgroup=`). One that has
    `base` from an earlier run goes first, for jobs may be running there. Raises CgroupError.
    """
    places = [mount] if _writable(mount) else list(_writable_above(mount, own))
    if not places:
        raise CgroupError(
            f"neither {mount} nor {mount}{own} is writable for this user "
            "(a systemd unit needs Delegate=yes)"
        )
    usable = [place for place in places if not _missing(place, required)]
    if not usable:
        lacking = ", ".join(_missing(places[0], required))
        raise CgroupError(f"the controllers {lacking} are not available in {places[0]}")
    return next((place for place in usable if os.path.isdir(f"{place}/{base}")), usable[0])


def _writable(group: str) -> bool:
    files = (group, f"{group}/cgroup.procs", f"{group}/cgroup.subtree_control")
    return all(os.access(file, os.W_OK) for file in files)


def _writable_above(mount: str, own: str) -> Iterator[str]:
    """Our own group and those above it, as far as they are ours to use."""
    path = os.path.normpath(f"{mount}/{own}")
    if os.path.basename(path) == HOST_LEAF:
        path = os.path.dirname(path)
    while path.startswith(f"{mount}/") and _writable(path):
        yield path
        path = os.path.dirname(path)


def _missing(group: str, required: Iterable[str]) -> list[str]:
    available = read(f"{group}/cgroup.controllers").split()
    return [name for name in required if name not in available]


def turn_on(group: str, controller: str) -> None:
    """Turn a controller on for the children of a group; its own processes become those of a leaf.

    Raises OSError: the kernel refuses it, or processes that cannot be moved (of another process
    namespace, say) stay in the group.
    """
    for _ in range(_ROUNDS):
        try:
            write(f"{group}/cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            refused = error
        else:
            return
        _clear(group)
    raise OSError(
        refused.errno, f"processes in {group} cannot be moved to {HOST_LEAF}: {refused.strerror}"
    )


def _clear(group: str) -> None:
    leaf = f"{group}/{HOST_LEAF}"
    make_with_parents(leaf)
    for pid in read(f"{group}/cgroup.procs").split():
        if pid == "0":
            continue  # not of our process namespace; writing it would move ourselves
        with contextlib.suppress(ProcessLookupError):
            write(f"{leaf}/cgroup.procs", pid)


def move_home(places: Iterable[str]) -> bool:
    """Move this process to the first of these groups that takes it."""
    for place in places:
        with contextlib.suppress(OSError):
            write(f"{place}/cgroup.procs", "0")
            return True
    return False
