"""Compiled kernels for the planner: those that the configuration in force needs, and no others."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from cranectld.core.fold import PolicyRow
from sched_core import cachedir
from sched_core.warmup import cache_is_warm, warmup

log = logging.getLogger("planner")

GROUP = "pass"
"""The group (sched_core.warmup) without which there is no pass."""
BUNDLES = "bundles"
"""The group that heterogeneous jobs need."""


def groups_of(policy: PolicyRow) -> tuple[str, ...]:
    """Groups that passes under a configuration need."""
    groups = [GROUP]
    if policy.scheduler.policy.startswith("conservative"):
        groups.append("conservative")
    if policy.priority.kind == "multifactor":
        groups.append("priority")
    return tuple(groups)


class Kernels:
    """Loads groups of kernels; what is in no cache is compiled in a child process, which never
    holds our GIL. Used by the planner's thread; only `close` may be called from another.
    """

    def __init__(self, cache_dir: str) -> None:
        """`cache_dir`: where compiled kernels are kept."""
        self._cache_dir = cache_dir
        self._loaded: dict[str, None] = {}
        self._compiled: dict[str, None] = {}
        """Groups for which a child has run, whatever came of it."""
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    def use(self) -> None:
        """Settle on the cache; before anything else."""
        try:
            cachedir.use(self._cache_dir)
        except OSError as error:
            self._cache_dir = tempfile.mkdtemp(prefix="crane-numba-")
            log.warning("no kernels can be kept (%s); compiling into %s", error, self._cache_dir)

    def ready(self, groups: Sequence[str]) -> bool:
        """Whether groups are loaded. If not, they are being compiled: ask again."""
        return all(self._ready(group) for group in groups)

    def wait(self, groups: Sequence[str]) -> bool:
        """Wait until groups are loaded; False: closed meanwhile."""
        while not self._closed:
            if self.ready(groups):
                return True
            if self._child is not None:
                self._child.wait()
        return False

    def close(self) -> None:
        """Load nothing more; end the child."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()

    def _ready(self, group: str) -> bool:
        if group in self._loaded:
            return True
        if self._child is not None:
            status = self._child.poll()
            if status is None:
                return False
            self._child = None
            if status != 0 and not self._closed:
                log.warning("compiling in a child failed (status %d); compiling here", status)
        if self._closed:
            return False
        if group not in self._compiled:
            self._compiled[group] = None
            if not cache_is_warm(self._cache_dir, group):
                log.info("compiling the scheduling kernels (once per version): %s", group)
                command = [sys.executable, "-m", "sched_core.warmup", "--group", group]
                command += ["--cache-dir", self._cache_dir]
                self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
                return False
        warmup(self._cache_dir, group)
        self._loaded[group] = None
        return True
