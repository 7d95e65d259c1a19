"""A real cluster for a scenario: `crane up` in a directory of its own, and what its daemons cost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from crane.client import Client

TICK = os.sysconf("SC_CLK_TCK")
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_TOP_DIRECTORY = 0x00020000
"""FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and FS_TOPDIR_FL of linux/fs.h; chattr(1) calls it T."""


def command(name: str, *args: str) -> list[str]:
    """One of our commands by its installed name, beside the running interpreter."""
    return [os.path.join(os.path.dirname(sys.executable), name), *args]


def environment(home: str) -> dict[str, str]:
    """Environment of commands that talk to the cluster in `home`; byte code is cached as usual."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"CRANE_HOME": home}


@dataclass(slots=True)
class Cluster:
    """A running development cluster."""

    home: str
    client: Client
    work: str
    """Directory for scripts and output of jobs."""
    pids: dict[str, int] = field(default_factory=dict)

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time per daemon so far, children included that were waited for."""
        return {name: _cpu(pid) for name, pid in daemons(self.home).items()}

    def rss_mib(self) -> float:
        """Resident memory of the controller's process."""
        return rss_mib(daemons(self.home)["cranectld"])


def daemons(home: str) -> dict[str, int]:
    """Processes that belong to the cluster in `home`, by what they are (`cranectld`, `n1`, ...)."""
    found: dict[str, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if not any(home in word for word in words):
            continue
        for name in ("cranectld.projector", "cranectld", "craned.exec.launcher", "craned"):
            if name in words:
                node = words[words.index("--node") + 1] if "--node" in words else ""
                found[":".join(filter(None, (name, node)))] = int(entry)
                break
    return found


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no memory any more")


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


@contextmanager
def cluster(*options: str) -> Iterator[Cluster]:
    """Start a cluster with `crane up OPTIONS`, and take it down and away at the end."""
    root = tempfile.mkdtemp(prefix="crane-bench-")
    _spread(root)
    home, work = tempfile.mkdtemp("-home", dir=root), tempfile.mkdtemp("-work", dir=root)
    try:
        run(home, "crane", "up", *options)
        with Client(os.path.join(home, "cranectld.sock")) as client:
            yield Cluster(home, client, work)
    finally:
        run(home, "crane", "down")
        shutil.rmtree(root, ignore_errors=True)


def _spread(directory: str) -> None:
    """Have ext4 put directories made in `directory` where there is room, not beside it.

    For minutes ext4 passes over the inodes of deleted files one by one whenever a file is made in
    the same block group (`recently_deleted` in fs/ext4/ialloc.c): the files of an earlier run would
    make each file of this one dearer, up to half a millisecond. Where a directory goes follows from
    its name, so names have to differ from run to run. Other file systems: no effect.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            raw = fcntl.ioctl(fd, _GET_FLAGS, struct.pack("l", 0))
            flags = struct.unpack("l", raw)[0] | _TOP_DIRECTORY
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", flags))
    finally:
        os.close(fd)


def run(home: str, name: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of our commands against the cluster in `home`; what it printed is in the result."""
    done = subprocess.run(
        command(name, *args), env=environment(home), capture_output=True, text=True, check=False
    )
    if check and done.returncode != 0:
        words: Sequence[str] = (name, *args)
        raise RuntimeError(f"{' '.join(words)} exited {done.returncode}: {done.stderr}")
    return done
