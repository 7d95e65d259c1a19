"""Process groups the kernel keeps: one interface over cgroup v2, v1 and the honest fallback.

A *slot* is the group of a shim: the batch script it runs goes there, and the next one after it,
because making and removing groups costs more than everything else a shim does for a short job.
A numbered step lives in a child of its job's group. Names are relative to the agent's own base
directory; the same name is used in every hierarchy and is what the spool records.
"""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from craned.exec.protocol import StepLimits

MIN_MEMORY = 8 << 20
"""Bytes. A smaller limit would kill the job's shell (and, for an instant, its shim) at start."""
CPU_PERIOD_US = 100_000
_KILL_PAUSE = 0.001
_KILL_PAUSE_MAX = 0.2
_KILL_SECONDS = 10.0
"""A process in an uninterruptible wait may take any time; the launcher has other steps to serve."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group has used; -1 where it cannot tell."""

    cpu_us: int = -1
    peak_bytes: int = -1
    oom_kills: int = 0


class CgroupError(Exception):
    """A group could not be made or limited; the text says which file refused what."""


class StepGroup(ABC):
    """The processes of one step (and, for the batch script, of the job's other steps here)."""

    name: str

    @abstractmethod
    def enter(self) -> None:
        """Move the calling process in, so that what it starts is born inside."""

    @abstractmethod
    def leave(self) -> None:
        """Move the calling process back to where it came from."""

    @abstractmethod
    def processes(self) -> list[int]:
        """Process ids inside, children included."""

    @abstractmethod
    def empty(self) -> bool:
        """Whether no process is inside, children included."""

    @abstractmethod
    def usage(self) -> Usage:
        """What has been used since the step began."""

    @abstractmethod
    def release(self) -> None:
        """The step has ended and the group is empty: remove it or keep it for the next."""

    def signal(self, number: int) -> None:
        """Send a signal to every process inside."""
        for pid in self.processes():
            kill_quietly(pid, number)

    def kill(self) -> None:
        """One round of SIGKILL; repeat until `empty`."""
        self.signal(signal.SIGKILL)


class CgroupBackend(ABC):
    """How groups are made on this host."""

    name: str
    """`v1`, `v2` or `none`, as the inventory shows it."""
    controllers: tuple[str, ...] = ()
    """What can be limited or counted."""

    @abstractmethod
    def slot(self, name: str, limits: StepLimits, denied: tuple[str, ...]) -> StepGroup:
        """The slot `name`, with these limits and denied device files. Raises CgroupError."""

    @abstractmethod
    def step(
        self, parent: str, name: str, limits: StepLimits, denied: tuple[str, ...]
    ) -> StepGroup:
        """A child of a slot or of a job's group (made if missing). Raises CgroupError."""

    @abstractmethod
    def destroy(self, name: str) -> bool:
        """Kill whatever is in a recorded group and remove it; False: something cannot be killed."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """Names of the groups that exist below the base."""

    @abstractmethod
    def close(self) -> None:
        """Remove the slot of this process, if it has one."""

    @abstractmethod
    def remove_base(self) -> None:
        """Remove the base directory if nothing is left in it: the agent's last act."""

    def describe(self) -> str:
        """What is in force, for the inventory and for people."""
        return f"{self.name}: {', '.join(self.controllers)}" if self.controllers else self.name


def kill_quietly(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone or somebody else's by now."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def repeat_until(done: Callable[[], bool], action: Callable[[], None]) -> bool:
    """Act with growing pauses until it is done; False if it is not after some seconds."""
    pause, deadline = _KILL_PAUSE, time.monotonic() + _KILL_SECONDS
    while not done():
        if time.monotonic() > deadline:
            return False
        action()
        time.sleep(pause)
        pause = min(2 * pause, _KILL_PAUSE_MAX)
    return True


def read_fd(fd: int) -> bytes:
    """Contents of a small kernel file kept open."""
    return os.pread(fd, 4096, 0)


def open_backend(choice: str, root: str, base: str) -> CgroupBackend:
    """The backend `choice` (`auto`, `v2`, `v1`, `none`), with its base directory made.

    `auto` takes v2 if its controllers are there and writable, else v1, else none.
    Raises CgroupError if an explicit choice cannot be had.
    """
    from craned.exec.cgroup_none import NoCgroups  # noqa: PLC0415 - backends import this module
    from craned.exec.cgroup_v1 import open_v1  # noqa: PLC0415
    from craned.exec.cgroup_v2 import open_v2  # noqa: PLC0415

    reasons = []
    for name, opener in (("v2", open_v2), ("v1", open_v1)):
        if choice in (name, "auto"):
            try:
                return opener(root, base)
            except (CgroupError, OSError) as error:
                if choice == name:
                    raise CgroupError(
                        f"cgroup {name} was asked for in the configuration and cannot be used: "
                        f'{error}; make it writable for this user, or set cgroup = "auto"'
                    ) from error
                reasons.append(f"{name}: {error}")
    return NoCgroups("; ".join(reasons) or "not wanted by the configuration")
