# ruff: noqa: D102 - what overrides the interface is documented there (craned.exec.cgroup)
"""Without cgroups: a step's processes are the descendants of its shim. Nothing is limited.

The shim is a child subreaper (prctl(2)), so whatever a job starts stays below it however often it
forks or calls setsid: killing the descendants until there are none is complete. If a shim is
killed, its orphans become children of the launcher, a subreaper as well; after a restart of the
launcher only the step's session is left to go by.
"""

from __future__ import annotations

import ctypes
import os
import signal

from craned.exec.cgroup import CgroupBackend, StepGroup, Usage, kill_quietly, repeat_until
from craned.exec.protocol import StepLimits

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphans below the calling process become its children. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "prctl(PR_SET_CHILD_SUBREAPER)")


def children_of(pid: int) -> list[int]:
    """Direct children of a single-threaded process, zombies included."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants_of(pid: int) -> list[int]:
    """Children of all generations, parents first; threads of a child may have forked too."""
    found: list[int] = []
    todo = children_of(pid)
    while todo:
        child = todo.pop()
        found.append(child)
        try:
            threads = os.listdir(f"/proc/{child}/task")
        except (FileNotFoundError, ProcessLookupError):
            continue
        for thread in threads:
            try:
                with open(f"/proc/{child}/task/{thread}/children", "rb") as file:
                    todo.extend(int(entry) for entry in file.read().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def session_members(session: int, uid: int) -> list[int]:
    """Living processes of a user in a session (setsid(2)), found by reading /proc."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                owner = os.fstat(file.fileno()).st_uid
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and owner == uid and fields[0] not in (b"Z", b"X"):
            found.append(int(entry))
    return found


def kill_session(session: int, uid: int) -> bool:
    """SIGKILL a user's processes in a session until there are none; False: some cannot be."""

    def strike() -> None:
        for pid in session_members(session, uid):
            kill_quietly(pid, signal.SIGKILL)

    return repeat_until(lambda: not session_members(session, uid), strike)


def boot_time_ns() -> int:
    """When the host was started: no process of an earlier step can be alive."""
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if line.startswith("btime "):
                return int(line.split()[1]) * 1_000_000_000
    return 0


class _Descendants(StepGroup):
    """Whatever runs below the shim."""

    def __init__(self, name: str) -> None:
        self.name = name

    def enter(self) -> None:
        """Nothing to do: children are in by birth."""

    def leave(self) -> None:
        """Nothing to do."""

    def processes(self) -> list[int]:
        return descendants_of(os.getpid())

    def empty(self) -> bool:
        return not children_of(os.getpid())

    def usage(self) -> Usage:
        return Usage()

    def release(self) -> None:
        """Nothing to remove."""


class NoCgroups(CgroupBackend):
    """Process accounting through /proc; says why there is nothing better."""

    def __init__(self, reason: str) -> None:
        self.name = "none"
        self._reason = reason

    def slot(self, name: str, limits: StepLimits, denied: tuple[str, ...]) -> StepGroup:
        del name, limits, denied
        return _Descendants("")

    def step(
        self, parent: str, name: str, limits: StepLimits, denied: tuple[str, ...]
    ) -> StepGroup:
        del parent, name, limits, denied
        return _Descendants("")

    def destroy(self, name: str) -> bool:
        """Nothing is there to be removed; processes are found by their session."""
        del name
        return True

    def leftovers(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing was made."""

    def remove_base(self) -> None:
        """Nothing was made."""

    def describe(self) -> str:
        return f"none (no limits, accounting through /proc): {self._reason}"
