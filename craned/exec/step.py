"""One step on one host: started as its user, watched, ended, accounted for."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable

from craned.core.terms import LOST_CONTACT
from craned.exec import failpoint, wire
from craned.exec.cgroup import CgroupBackend, CgroupError, StepGroup
from craned.exec.identity import Identities, IdentityError
from craned.exec.lease import LeaseWatch
from craned.exec.protocol import Cause, Exited, Key, LaunchOrder, Started
from craned.exec.relay import Relay
from craned.exec.script import ScriptFile
from craned.exec.spawn import FileLimit, names_its_pid, spawn, spawn_named
from craned.exec.spool import append
from craned.exec.stdio import (
    LaunchError,
    StreamFiles,
    Streams,
    candidates,
    enter_directory,
    environment_of,
    task_entries,
)

BATCH = -1
_NEVER = float("inf")
_ROUND = 0.001
_PATIENCE_KILLED = 2.0
"""Seconds for a crun to take the last output of a step that was ended from outside."""
_ROUND_MAX = 0.5
_NO_ROOM = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""The host's fault or the step's size, not the program's."""


class Step:
    """The life of one step. Made with a claim in hand; `start`, then `advance` until it ends."""

    def __init__(
        self,
        order: LaunchOrder,
        journal: int,
        poller: select.poll,
        hold: float,
        files: FileLimit,
        lease: LeaseWatch | None = None,
    ) -> None:
        """`files`: the limit of the tasks; `lease`: what the step is ended by when it has run out,
        None: nothing.
        """
        self.order = order
        self.key: Key = order.key
        self.relay: Relay | None = None
        self.group: StepGroup | None = None
        self.pid = 0
        self._journal = journal
        self._poller = poller
        self._lease = lease
        self._files = files
        self._tasks: dict[int, tuple[int, int]] = {}
        """Process id -> (rank, place in `_results`), of tasks that still run."""
        self._results: list[int] = []
        """Exit code of each task, negative for a signal."""
        self._cause = Cause.EXIT
        self._message = ""
        self._cpu = 0.0
        self._peak_kib = 0
        self._round = _ROUND
        self._hold_until = time.monotonic() + hold
        self._report_start = True
        self._deadline = self._warn_at = self._kill_at = _NEVER
        self.start_ns = 0

    # --- start -----------------------------------------------------------------------------

    def start(
        self, backend: CgroupBackend, group: str, ids: Identities, script: ScriptFile
    ) -> None:
        """Start every task. Raises LaunchError; then nothing of the step is left."""
        order = self.order
        try:
            self.group = self._open_group(backend, group)
            path = script.prepare(order) if order.script else ""
            self._start_as_user(ids, path)
        except LaunchError as error:
            self._clean_up(error.message)
            raise
        self.set_time_limit(order.time_limit)
        started = Started(self.key, self.pid, self.start_ns).encode()
        append(self._journal, wire.STARTED, started)

    def _open_group(self, backend: CgroupBackend, name: str) -> StepGroup:
        order = self.order
        try:
            if self.key.step == BATCH:
                return backend.slot(name, order.limits, order.devices_denied)
            parent, _, leaf = name.rpartition("/")
            return backend.step(parent, leaf, order.limits, order.devices_denied)
        except CgroupError as error:
            code = "devices" if order.devices_denied else "cgroup"
            raise LaunchError(code, str(error)) from error

    def _start_as_user(self, ids: Identities, script: str) -> None:
        order, files = self.order, StreamFiles(self.order)
        assert self.group is not None
        mask = os.umask(order.umask)
        try:
            self._enter_group()
            ids.become(order.uid, order.gid, order.groups)
            if order.connect:
                # With the user's rights, never with root's: the address is his to choose.
                self.relay = Relay(order, self._poller)
            enter_directory(order.cwd)
            if self._lease is not None and self._lease.over():
                # The controller may have given the job to another node by now.
                raise LaunchError("lease", "not launched: the lease has run out")
            self._start_tasks(files, script)
        except IdentityError as error:
            raise LaunchError("identity", str(error)) from error
        finally:
            files.close()
            os.chdir("/")
            ids.restore()
            os.umask(mask)
            self.group.leave()

    def _enter_group(self) -> None:
        assert self.group is not None
        try:
            self.group.enter()
        except OSError as error:
            raise LaunchError("cgroup", f"cannot enter the step's cgroup: {error}") from error

    def _start_tasks(self, files: StreamFiles, script: str) -> None:
        order = self.order
        env = environment_of(order.env)
        self.start_ns = time.time_ns()
        for local, rank in enumerate(order.ranks):
            streams = files.of_task(rank)
            if order.task_env:
                env.update(task_entries(order.task_env, rank, local))
            failpoint.hit("exec")
            try:
                pid = self._start_task(rank, script, env, streams)
            except OSError as error:
                raise LaunchError(
                    "tasks",
                    f"task {local + 1} of the {len(order.ranks)} on this host cannot be started: "
                    f"{error.strerror}; ask for fewer tasks per node, or have the limit raised",
                ) from error
            self.pid = self.pid or pid
            self._tasks[pid] = (rank, local)
            self._results.append(0)

    def _start_task(self, rank: int, script: str, env: dict[bytes, bytes], files: Streams) -> int:
        theirs: list[int] = []
        if self.relay is not None:
            files, theirs = self.relay.of_task(rank, files)
        try:
            if script:
                return _spawn_script(self.order, script, env, files, self._files)
            return _spawn_command(self.order, env, files, self._files)
        finally:
            for fd in theirs:
                os.close(fd)

    # --- orders while it runs ----------------------------------------------------------------

    def set_time_limit(self, seconds: float) -> None:
        """End the step this many seconds from now; negative: never."""
        now = time.monotonic()
        self._deadline = now + seconds if seconds >= 0 else _NEVER
        self._warn_at = _NEVER
        if self.order.warn_signal and seconds >= 0:
            self._warn_at = max(now, self._deadline - self.order.warn_before)

    def signal(self, number: int, *, leaders_only: bool) -> None:
        """Pass a signal on to the tasks, or to every process of the step."""
        if not leaders_only and self.group is not None:
            self.group.signal(number)
            return
        for pid in self._tasks:
            os.kill(pid, number)  # not reaped yet: the id cannot be anybody else's

    def terminate(self, number: int, grace: float, cause: Cause, message: str = "") -> None:
        """Signal everything; after `grace` seconds kill what is left. The first cause stands."""
        if self._cause is Cause.EXIT:
            self._cause, self._message = cause, message
        now = time.monotonic()
        if grace > 0:
            assert self.group is not None
            self.group.signal(number)
            self.group.signal(signal.SIGCONT)  # a stopped process would not see it
        self._kill_at = min(self._kill_at, now + grace)

    # --- the loop ------------------------------------------------------------------------------

    def timeout(self) -> float:
        """Seconds until something is due; infinite if nothing is."""
        due = min(self._deadline, self._warn_at, self._kill_at)
        if self._report_start:
            due = min(due, self._hold_until)
        left = max(0.0, due - time.monotonic())
        return left if self._lease is None else min(left, self._lease.wait())

    def advance(self, report: Callable[[int, bytes], None]) -> Exited | None:
        """Do what is due; the result once nothing of the step is left."""
        assert self.group is not None
        self.reap()
        if not self._tasks and (self._kill_at == _NEVER or self.group.empty()):
            return self._end()
        if self.relay is not None:
            self._serve_relay(self.relay)
        now = time.monotonic()
        if self._report_start and now >= self._hold_until:
            self._report_start = False
            report(wire.STARTED, Started(self.key, self.pid, self.start_ns).encode())
        if now >= self._warn_at:
            self._warn_at = _NEVER
            self.signal(self.order.warn_signal, leaders_only=self.order.warn_leaders_only)
        if now >= self._deadline:
            self._deadline = _NEVER
            self.terminate(signal.SIGTERM, self.order.kill_grace, Cause.TIMEOUT)
        if self._lease is not None and self._lease.over():
            # However late this is noticed: nothing is alive a grace after the lease.
            grace = max(0.0, self.order.kill_grace - self._lease.passed())
            self._lease = None
            self.terminate(signal.SIGTERM, grace, Cause.LOST, LOST_CONTACT)
            now = time.monotonic()
        if now >= self._kill_at:
            self.group.kill()
            self._kill_at = now + self._round
            self._round = min(2 * self._round, _ROUND_MAX)
        return None

    def _serve_relay(self, relay: Relay) -> None:
        for number in relay.signals:
            self.signal(number, leaders_only=False)
        relay.signals.clear()
        if relay.broken and self._cause is Cause.EXIT:
            self.terminate(signal.SIGTERM, self.order.kill_grace, Cause.CANCELLED, "crun is gone")

    def reap(self) -> None:
        """Collect children that have ended: tasks, and orphans a subreaper inherits."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._cpu += usage.ru_utime + usage.ru_stime
            self._peak_kib = max(self._peak_kib, usage.ru_maxrss)
            task = self._tasks.pop(pid, None)
            if task is not None:
                rank, place = task
                code = self._results[place] = os.waitstatus_to_exitcode(status)
                if self.relay is not None:
                    self.relay.task_exited(rank, max(code, 0), max(-code, 0))

    def _empty_group(self) -> None:
        """Whatever the script has left behind ends with it."""
        assert self.group is not None
        pause = _ROUND
        while not self.group.empty():
            self.group.kill()
            select.select((), (), (), pause)
            self.reap()
            pause = min(2 * pause, _ROUND_MAX)

    def _end(self) -> Exited:
        assert self.group is not None
        self._empty_group()
        if self.relay is not None and self._cause is Cause.EXIT:
            self.relay.finish()
        elif self.relay is not None:
            self.relay.finish(patience=_PATIENCE_KILLED)
        used = self.group.usage()
        if used.oom_kills and self._cause is Cause.EXIT:
            self._cause = Cause.OUT_OF_MEMORY
            self._message = f"{used.oom_kills} processes were killed at the memory limit"
        signals = [-code for code in self._results if code < 0]
        if len(self._results) == 1:
            code = max(self._results[0], 0)
        else:
            code = max(code if code >= 0 else 128 - code for code in self._results)
        return Exited(
            key=self.key,
            exit_code=code,
            signal=signals[0] if signals else 0,
            cause=self._cause,
            start_ns=self.start_ns,
            end_ns=time.time_ns(),
            cpu_us=used.cpu_us if used.cpu_us >= 0 else int(self._cpu * 1e6),
            peak_bytes=used.peak_bytes if used.peak_bytes >= 0 else self._peak_kib << 10,
            pid=self.pid,
            message=self._message,
        )

    def _clean_up(self, failure: str) -> None:
        if self.group is not None:
            self._empty_group()
            self.reap()
        if self.relay is not None:
            self.relay.finish(failure)

    def record(self, kind: int, payload: bytes) -> None:
        """Write how the step ended to the spool; after this its shim may die."""
        failpoint.hit("exit-record")
        append(self._journal, kind, payload)

    def release(self) -> None:
        """Give the group back. Comes after the report: nobody waits for it."""
        if self.group is not None:
            self.group.release()


def _spawn_script(
    order: LaunchOrder, path: str, env: dict[bytes, bytes], streams: Streams, limit: FileLimit
) -> int:
    start = spawn_named if names_its_pid(order.script) else spawn
    try:
        return start(path, [path, *order.argv], env, streams, limit)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        first = order.script[:128].partition(b"\n")[0].decode(errors="replace").rstrip()
        why = {
            errno.ENOEXEC: "its first line does not name an interpreter (#!/bin/sh)",
            errno.ENOENT: f"the interpreter of its first line, {first!r}, is not on this host",
            errno.EACCES: f"the interpreter of its first line, {first!r}, may not be executed, or "
            f"{os.path.dirname(path)} is not reachable for the user or mounted noexec",
        }.get(error.errno or 0, error.strerror)
        raise LaunchError("script", f"the batch script cannot be executed: {why}") from error


def _spawn_command(
    order: LaunchOrder, env: dict[bytes, bytes], streams: Streams, limit: FileLimit
) -> int:
    if not order.argv:
        raise LaunchError("order", "the order names neither a script nor a command")
    refused = f"{order.argv[0]}: not found in PATH"
    for path in candidates(order.argv[0], env):
        try:
            return spawn_named(path, list(order.argv), env, streams, limit)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            refused = f"{path}: {error.strerror}"
    raise LaunchError("command", f"the command cannot be executed on this host: {refused}")
