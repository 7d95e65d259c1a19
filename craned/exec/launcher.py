"""The launcher: keeps a pool of shims and passes orders and reports between them and craned.

One small single-threaded process, so that forking it is cheap and safe. It keeps no secret and no
truth: the spool says what has been claimed, what runs and how it ended, and a launcher that is
killed is replaced by one that reads the spool and takes over the shims at their control sockets.

Started by craned.exec.client as `python -I -S -E -c ... name=value...`; serves one craned at a time
at `launcher.sock` in the spool.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import resource
import select
import signal
import socket
import sys
import time

from craned.exec import shim as shim_process
from craned.exec import wire
from craned.exec.cgroup import CgroupBackend, CgroupError, kill_quietly, open_backend
from craned.exec.cgroup_none import become_subreaper
from craned.exec.pacing import WINDOW, Crowd, Pacer
from craned.exec.pool import ShimPool, Worker
from craned.exec.protocol import KEY, Cause, Kill, LaunchFailed, Started, key_of
from craned.exec.spool import Spool

_IDLE_EXIT = 10.0
"""Seconds without craned and without a step after which a launcher leaves."""
_LEAVE_SECONDS = 10.0
_MAX_BACKLOG = 64 << 20
_FLUSH_PER_REPORT = 0.01
_FLUSH_MOST = 0.05
"""Seconds until the next delivery to craned for each report of the last one, and at most: the more
steps end, the more of them wake it together."""
_BATCH = -1
_MAX_TRIES = 3
_FINAL = (wire.EXITED, wire.FAILED)


class Launcher(ShimPool):
    """The process's state; `run` returns when it should leave."""

    def __init__(
        self, spool: Spool, backend: CgroupBackend, idle: int, hold: float, lease_file: str
    ) -> None:
        super().__init__(spool, backend, idle, hold, lease_file)
        self._client: socket.socket | None = None
        self._incoming = wire.FrameBuffer()
        self._outgoing = bytearray()
        self._reports = 0
        """In `_outgoing`."""
        self._flush_at = 0.0
        self._blocked = False
        """Craned has not taken all of the last delivery."""
        self._stopping = False
        cpus = os.cpu_count() or 1
        self._pacer = Pacer(cpus, Crowd(cpus))
        self._quiet_since = time.monotonic()
        self._wake: tuple[int, int] | tuple[()] = ()
        """Both ends of the pipe that signals are written to."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def watch_children(self) -> None:
        """Have the loop told of children that stop; by a pipe, since no signal may be missed."""
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        self.poll.register(self._wake[0], select.POLLIN)

    def close_in_child(self) -> None:
        """A shim keeps none of the launcher's own descriptors."""
        signal.set_wakeup_fd(-1)
        for end in self._wake:
            os.close(end)
        self._listener.close()
        if self._client is not None:
            self._client.close()
        os.close(_lock_fd(self.spool))

    # --- orders -----------------------------------------------------------------------------------

    def launch(self, payload: bytes, tries: int = 0) -> None:
        """Put a launch order in line, unless it was given before: then say what became of it."""
        packed = payload[: KEY.size]
        if packed not in self._pacer and not self._answer_known(packed):
            self._pacer.wait(packed, payload, tries)

    def _dispatch_due(self) -> None:
        while (packed := self._pacer.next(time.monotonic())) is not None:
            self._dispatch(packed)

    def _dispatch(self, packed: bytes) -> None:
        """Give an order in line to a shim; nothing happens if it is not in line."""
        waiting = self._pacer.take(packed)
        if waiting is None:
            return
        payload, tries, key = waiting.payload, waiting.tries, key_of(packed)
        try:
            if tries > _MAX_TRIES:
                raise ChildProcessError("its shim was killed again and again")
            worker = self.idle.pop() if self.idle else self.fork()
        except OSError as error:
            failed = LaunchFailed(key, "fork", f"no process could be started: {error}")
            self._report(wire.FAILED, failed.encode())
            return
        if key.step == _BATCH:
            parent = ""
            self.slots[key.job_id] = f"s{worker.pid}"
        else:
            parent = self.slots.get(key.job_id, f"job_{key.job_id}")
        worker.key, worker.order, worker.tries = packed, payload, tries
        self.running[packed] = worker
        self._pacer.begun(packed, time.monotonic())
        name = parent.encode()
        try:
            worker.sock.sendall(wire.frame(wire.LAUNCH, bytes((len(name),)) + name + payload))
        except OSError:
            self.lost(worker.sock.fileno())

    def _answer_known(self, packed: bytes) -> bool:
        """Answer a repeated order with what has become of the first one."""
        ended = self.ended.get(packed)
        if ended is not None:
            self._report(*ended)
            return True
        if packed in self.running:
            started = self.started.get(packed)
            if started:
                self._report(wire.STARTED, started)
            return True
        return False

    def _duplicate(self, packed: bytes) -> None:
        """A shim met a claim we know nothing of: another launcher's shim has the step."""
        record = self.spool.read(key_of(packed))
        if record is not None:
            worker = None if record.end_kind else self.worker_of(record.claim.shim)
            self.take_record(record, worker)
            self._answer_known(packed)

    def _forward(self, kind: int, payload: bytes) -> None:
        self._dispatch(payload[: KEY.size])  # an order about a step comes after its launch
        worker = self.running.get(payload[: KEY.size])
        if worker is not None:
            try:
                worker.sock.sendall(wire.frame(kind, payload))
            except OSError:
                self.lost(worker.sock.fileno())

    def _forget(self, payload: bytes) -> None:
        for at in range(0, len(payload) - KEY.size + 1, KEY.size):
            packed = payload[at : at + KEY.size]
            if self.ended.pop(packed, None) is not None:
                self.spool.forget(key_of(packed))

    # --- reports ----------------------------------------------------------------------------------

    def _report(self, kind: int, payload: bytes) -> None:
        if self._client is not None:
            self._outgoing += wire.frame(kind, payload)
            self._reports += 1

    def final(self, packed: bytes, kind: int, payload: bytes) -> None:
        """A step has ended or could not be started: remember it, and tell craned."""
        self.ended[packed] = (kind, payload)
        self.running.pop(packed, None)
        self.started.pop(packed, None)
        self._pacer.settled(packed)
        key = key_of(packed)
        if key.step == _BATCH and self.slots.pop(key.job_id, None) is not None:
            # The batch script was the job: its other steps on this host end with it.
            for other in [k for k in self.running if key_of(k).job_id == key.job_id]:
                kill = Kill(key_of(other), signal.SIGKILL, 0, Cause.CANCELLED)
                self._forward(wire.KILL, kill.encode())
        self._report(kind, payload)

    def _from_shim(self, worker: Worker, kind: int, payload: bytes) -> None:
        packed = payload[: KEY.size]
        worker.order = b""
        if kind == wire.STARTED:
            self.started[packed] = payload
            self._report(kind, payload)
        elif kind in _FINAL or kind == wire.DUPLICATE:
            worker.key = b""
            self.idle.append(worker)
            if kind == wire.DUPLICATE:
                self.running.pop(packed, None)
                self._duplicate(packed)
            else:
                self.final(packed, kind, payload)
        elif kind == wire.STATE and payload[0] != wire.VERSION:
            sys.stderr.write(f"shim {worker.pid} speaks version {payload[0]}: left alone\n")
        elif kind == wire.STATE:
            self.state_told(worker, payload[1:])

    def _snapshot(self) -> None:
        for packed in self.running:
            started = self.started.get(packed) or Started(key_of(packed), 0, 0).encode()
            self._report(wire.STARTED, started)
        for kind, payload in self.ended.values():
            self._report(kind, payload)
        self._report(wire.SNAPSHOT_END, b"")

    # --- craned -----------------------------------------------------------------------------------

    def listen(self) -> None:
        """Accept craned at the spool's socket. Raises OSError."""
        address = self.spool.launcher_address()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)
        mask = os.umask(0o177)
        self._listener.bind(address)
        os.umask(mask)
        self._listener.listen(4)
        self.poll.register(self._listener, select.POLLIN)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        if not shim_process.trusted_peer(sock):
            sock.close()
            return
        self._drop_client()  # a restarted craned takes the place of the old one
        sock.setblocking(False)
        self._client = sock
        self.poll.register(sock, select.POLLIN)
        self._report(wire.HELLO, bytes((wire.VERSION,)) + self.backend.describe().encode())

    def _drop_client(self) -> None:
        if self._client is not None:
            self.poll.unregister(self._client)
            self._client.close()
            self._client = None
        self._incoming = wire.FrameBuffer()
        self._outgoing.clear()
        self._reports, self._blocked = 0, False
        self._quiet_since = time.monotonic()

    def _from_craned(self) -> None:
        assert self._client is not None
        data = wire.receive(self._client)
        if data is None:
            return
        try:
            frames = self._incoming.feed(data)
        except wire.FrameError:
            data, frames = b"", []
        for kind, payload in frames:
            self._order(kind, payload)
        if not data:
            self._drop_client()

    def _order(self, kind: int, payload: bytes) -> None:
        if kind == wire.LAUNCH:
            self.launch(payload)
        elif kind in (wire.KILL, wire.SIGNAL, wire.TIME_LIMIT):
            self._forward(kind, payload)
        elif kind == wire.FORGET:
            self._forget(payload)
        elif kind == wire.SNAPSHOT:
            self._snapshot()
        elif kind == wire.STOP:
            self._stopping = True
            if payload == b"\x01":
                self._pacer.clear()
                for packed in list(self.running):
                    kill = Kill(key_of(packed), signal.SIGKILL, 0, Cause.CANCELLED)
                    self._forward(wire.KILL, kill.encode())

    def _flush(self, *, at_once: bool = False) -> None:
        if self._client is None or not self._outgoing:
            return
        if not (at_once or self._blocked) and self._flush_wait() > 0:
            return
        rest = min(_FLUSH_MOST, _FLUSH_PER_REPORT * self._reports)
        self._flush_at, self._reports = time.monotonic() + rest, 0
        try:
            sent = self._client.send(self._outgoing)
            del self._outgoing[:sent]
        except BlockingIOError:
            pass  # the rest goes when craned has read some: POLLOUT below
        except OSError:
            self._drop_client()
            return
        if len(self._outgoing) > _MAX_BACKLOG:
            self._drop_client()  # it can ask for everything again: the spool has it
            return
        self._blocked = bool(self._outgoing)
        events = select.POLLIN | (select.POLLOUT if self._blocked else 0)
        self.poll.modify(self._client, events)

    # --- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop, or until nobody is left to serve."""
        while not self._done():
            for fd, _ in self.poll.poll(self._patience()):
                worker = self.workers.get(fd)
                if worker is not None:
                    self._receive(fd, worker)
                elif fd in self._wake:
                    os.read(fd, 4096)
                    self.wake_stopped()
                elif fd == self._listener.fileno():
                    self._accept()
                elif self._client is not None and fd == self._client.fileno():
                    self._from_craned()
            self._dispatch_due()
            self._flush()
            self.trim()
        self._leave()

    def _receive(self, fd: int, worker: Worker) -> None:
        data = wire.receive(worker.sock)
        if data is None:
            return
        try:
            frames = worker.buffer.feed(data)
        except wire.FrameError:
            data, frames = b"", []
        for kind, payload in frames:
            self._from_shim(worker, kind, payload)
        if not data:
            self.lost(fd)

    def _flush_wait(self) -> float:
        """Seconds until reports may go to craned; not positive: now."""
        return self._flush_at - time.monotonic()

    def _patience(self) -> int:
        """Milliseconds to wait for events; -1: for ever."""
        if self._outgoing and self._client is not None and not self._blocked:
            return max(0, int(self._flush_wait() * 1000)) + 1
        if self._pacer:
            return int(WINDOW * 1000)
        return 1000 if self._client is None or self._stopping or len(self.idle) > 1 else -1

    def _done(self) -> bool:
        if self.running or self._pacer:
            return False
        if self._stopping:
            return True
        return self._client is None and time.monotonic() - self._quiet_since > _IDLE_EXIT

    def _leave(self) -> None:
        for end in self._wake[:1]:
            self.poll.unregister(end)
        for worker in self.idle:
            worker.sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LEAVE_SECONDS
        while self.workers:
            for fd, _ in self.poll.poll(1000):
                if fd in self.workers:
                    self.lost(fd)
            if time.monotonic() > deadline:
                for worker in self.workers.values():
                    kill_quietly(worker.pid, signal.SIGKILL)  # stopped by somebody, and idle
        os.unlink(self.spool.launcher_address())
        self._flush(at_once=True)


_locks: dict[str, int] = {}


def _lock_fd(spool: Spool) -> int:
    return _locks[spool.path]


def _lock(spool: Spool) -> bool:
    """Take the spool's lock: one launcher at a time."""
    path = f"{spool.path}/launcher.lock"
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    _locks[spool.path] = fd
    deadline = time.monotonic() + 3
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)  # a shim forked by the last launcher may not have let go yet
        else:
            return True


def main(arguments: list[str]) -> int:
    """Run a launcher: `spool= cgroup= root= base= idle= hold= lease=`; exit 3 if one is running."""
    options = dict(argument.split("=", 1) for argument in arguments)
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    spool = Spool(options["spool"])
    if not _lock(spool):
        sys.stderr.write(f"another launcher serves the spool {spool.path}\n")
        return 3
    try:
        backend = open_backend(options["cgroup"], options["root"], options["base"])
    except CgroupError as error:
        sys.stderr.write(f"{error}\n")
        return 4
    launcher = Launcher(
        spool, backend, int(options["idle"]), float(options["hold"]), options["lease"]
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    if os.geteuid() == 0:
        with contextlib.suppress(OSError, ValueError):  # jobs register memory for RDMA
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    if backend.name == "none":
        become_subreaper()  # the orphans of a killed shim must not get away
    launcher.watch_children()
    gc.collect()
    gc.freeze()
    try:
        launcher.adopt()
        launcher.listen()
        launcher.run()
    finally:
        backend.remove_base()  # nothing happens to groups that somebody is in
    return 0
