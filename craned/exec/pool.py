"""The launcher's shims: started, found again, let go, and buried when they are killed."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import sys
import time
from abc import ABC, abstractmethod

from craned.exec import failpoint, wire
from craned.exec import shim as shim_process
from craned.exec.cgroup import CgroupBackend, kill_quietly
from craned.exec.cgroup_none import (
    become_subreaper,
    boot_time_ns,
    children_of,
    descendants_of,
    kill_session,
)
from craned.exec.protocol import Cause, Exited, decode_started, key_of
from craned.exec.spawn import FileLimit
from craned.exec.spool import Spool, StepRecord

_TRIM_EVERY = 5.0
_BATCH = -1


class Worker:
    """A shim as the launcher sees it."""

    __slots__ = ("buffer", "key", "order", "pid", "sock", "tries")

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock
        self.buffer = wire.FrameBuffer()
        self.key = b""
        """Packed key of the step it runs; empty: idle."""
        self.order = b""
        """The order, kept until the shim is known to have claimed it."""
        self.tries = 0


class ShimPool(ABC):
    """Every shim of a spool, and what is known of the steps they run or ran."""

    def __init__(
        self, spool: Spool, backend: CgroupBackend, idle: int, hold: float, lease_file: str
    ) -> None:
        self.spool = spool
        self.backend = backend
        self.poll = select.poll()
        self.workers: dict[int, Worker] = {}
        """By descriptor of their socket."""
        self.idle: list[Worker] = []
        self.running: dict[bytes, Worker] = {}
        """By packed key, as `started` (payloads of STARTED) and `ended` (kind and payload)."""
        self.started: dict[bytes, bytes] = {}
        self.ended: dict[bytes, tuple[int, bytes]] = {}
        self.slots: dict[int, str] = {}
        """Job -> slot of its batch script here: where its steps on this host belong."""
        self._max_idle = idle
        self._hold = hold
        self._lease_file = lease_file
        self._soft_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._trimmed = time.monotonic()

    @abstractmethod
    def final(self, packed: bytes, kind: int, payload: bytes) -> None:
        """A step has ended, or could not be started."""

    @abstractmethod
    def launch(self, payload: bytes, tries: int = 0) -> None:
        """Carry out a launch order (again: its shim left before it could claim the step)."""

    @abstractmethod
    def close_in_child(self) -> None:
        """Close what a shim has no business with."""

    # --- start: what an earlier launcher left --------------------------------------------------

    def adopt(self) -> None:
        """Read the spool, take over the shims that live, bury the others."""
        for pid in self.spool.shim_sockets():
            self.connect(pid)
        by_pid = {worker.pid: worker for worker in self.workers.values()}
        for record in self.spool.read_all():
            self.take_record(record, by_pid.get(record.claim.shim))
        # None of them is idle before it has said so: it may just be taking up an order.
        live = {f"s{worker.pid}" for worker in self.workers.values()}
        busy = {self._group_of(key) for key in self.running}
        for name in self.backend.leftovers():
            if name not in live and name not in busy:
                self.backend.destroy(name)

    def state_told(self, worker: Worker, told: bytes) -> None:
        """An adopted shim says which step it runs (packed key; empty: none)."""
        believed, worker.key = worker.key, told
        if told:
            record = self.spool.read(key_of(told))
            self.running[told] = worker
            self.started[told] = record.started if record is not None else b""
        elif worker not in self.idle:
            self.idle.append(worker)
        if believed and believed != told:
            # It has ended meanwhile, or the process id was another shim's when it was claimed.
            self.running.pop(believed, None)
            record = self.spool.read(key_of(believed))
            if record is not None and record.end_kind:
                self.final(believed, record.end_kind, record.end)
            elif record is not None:
                self._bury(record)

    def worker_of(self, pid: int) -> Worker | None:
        """The shim with this process id, taken over if it is not ours yet."""
        for worker in self.workers.values():
            if worker.pid == pid:
                return worker
        return self.connect(pid)

    def _group_of(self, key: bytes) -> str:
        record = self.spool.read(key_of(key))
        return record.claim.group.partition("/")[0] if record is not None else ""

    def connect(self, pid: int) -> Worker | None:
        """Take over the shim at a control socket; None if nobody listens there."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self.spool.shim_address(pid))
            sock.sendall(wire.frame(wire.ADOPT, b""))
        except OSError:
            sock.close()
            self.spool.remove_shim(pid)
            return None
        return self._add(pid, sock)

    def take_record(self, record: StepRecord, worker: Worker | None) -> None:
        """Account for a step on record, which `worker` (if any) runs."""
        key = record.claim.key
        packed = key.pack()
        if not record.end_kind and worker is None:
            # It may have ended between our reading the record and finding its shim gone.
            record = self.spool.read(key) or record
        if record.end_kind:
            self.ended[packed] = (record.end_kind, record.end)
        elif worker is not None:
            worker.key = packed
            self.running[packed] = worker
            self.started[packed] = record.started
            if key.step == _BATCH:
                self.slots[key.job_id] = record.claim.group
        else:
            self._bury(record)

    def _bury(self, record: StepRecord) -> None:
        """The shim of a step is gone without a word: kill what it left and say so."""
        claim = record.claim
        gone = True
        if self.backend.name == "none":
            gone = self._kill_orphans(record)
        elif claim.group and not self._slot_in_use(claim.group):
            gone = self.backend.destroy(claim.group)
        pid = decode_started(record.started).pid if record.started else 0
        now = time.time_ns()
        lost = Exited(
            claim.key, 0, 0, Cause.LOST, claim.time_ns, max(now, claim.time_ns), 0, 0, pid,
            f"the shim (process {claim.shim}) that ran the step was killed, or the host restarted"
            + ("" if gone else "; processes of the step are left that cannot be killed"),
        ).encode()  # fmt: skip
        self.spool.append_to(claim.key, wire.EXITED, lost)
        self.final(claim.key.pack(), wire.EXITED, lost)

    def _slot_in_use(self, group: str) -> bool:
        """Whether a living shim has been given the process id of the one that made the claim."""
        return any(f"s{worker.pid}" == group for worker in self.workers.values())

    def _kill_orphans(self, record: StepRecord) -> bool:
        shims = {worker.pid for worker in self.workers.values()}
        while orphans := [pid for pid in children_of(os.getpid()) if pid not in shims]:
            for orphan in orphans:
                for pid in (*descendants_of(orphan), orphan):
                    kill_quietly(pid, signal.SIGKILL)
            for pid in orphans:
                try:
                    os.waitpid(pid, 0)
                except ChildProcessError:
                    continue
        claim = record.claim
        if not record.started or claim.time_ns < boot_time_ns():
            return True
        return kill_session(decode_started(record.started).pid, claim.uid)

    # --- shims -----------------------------------------------------------------------------------

    def _add(self, pid: int, sock: socket.socket) -> Worker:
        worker = Worker(pid, sock)
        wire.bound_sending(sock)
        self.workers[sock.fileno()] = worker
        self.poll.register(sock, select.POLLIN)
        return worker

    def fork(self) -> Worker:
        """A new shim. Raises OSError when the host has no room for a process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        failpoint.hit("fork")
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            self._become_shim(ours, theirs)
        theirs.close()
        return self._add(pid, ours)

    def _become_shim(self, ours: socket.socket, theirs: socket.socket) -> None:
        status = 1
        try:
            ours.close()
            self.close_in_child()
            for worker in self.workers.values():
                worker.sock.close()
            become_subreaper()
            files = FileLimit(self._soft_files)
            shim_process.main(theirs, self.spool, self.backend, self._hold, self._lease_file, files)
            status = 0
        except Exception:  # noqa: BLE001 - the process ends here: say why, the launcher sees to the rest
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def wake_stopped(self) -> None:
        """Continue shims that were stopped.

        While a shim starts tasks it has their user's ids (craned.exec.identity), and the first of
        them may signal it: stopped, it would see neither its time limit nor an order to end it.
        """
        shims = {worker.pid for worker in self.workers.values()}
        while True:
            try:
                stopped = os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG)
            except ChildProcessError:
                return
            if stopped is None:
                return
            if stopped.si_pid in shims:
                kill_quietly(stopped.si_pid, signal.SIGCONT)

    def lost(self, fd: int) -> None:
        """A shim has left or was killed."""
        worker = self.workers.pop(fd)
        self.poll.unregister(fd)
        worker.sock.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(worker.pid, 0)  # a shim adopted from an earlier launcher is not our child
        if worker in self.idle:
            self.idle.remove(worker)
        self.spool.remove_shim(worker.pid)
        self.backend.destroy(f"s{worker.pid}")
        if worker.key:
            self.running.pop(worker.key, None)
            record = self.spool.read(key_of(worker.key))
            if record is None:
                # It left before it could claim the step: nothing of it has run.
                self.launch(worker.order, worker.tries + 1)
            elif record.end_kind:
                self.final(worker.key, record.end_kind, record.end)
            else:
                self._bury(record)

    def trim(self) -> None:
        """Let go of shims above the limit at once, and of half of the idle ones now and then."""
        now = time.monotonic()
        surplus = max(0, len(self.idle) - self._max_idle)
        if now - self._trimmed > _TRIM_EVERY and not self.running:
            surplus = max(surplus, len(self.idle) // 2)
            self._trimmed = now
        for worker in self.idle[:surplus]:
            worker.sock.shutdown(socket.SHUT_WR)  # it leaves, and its end of file tells us
        del self.idle[:surplus]
