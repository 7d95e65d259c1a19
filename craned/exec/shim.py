"""The shim: a small process that owns one step at a time, and outlives everything that started it.

It is forked by the launcher and talks to it over a socket pair. If the launcher dies it goes on
with its step, writes how it ended to the spool, and leaves; until then the next launcher can find
it at its control socket and take it over. A shim that has ended a step waits for another one:
starting a process is the largest part of what a short job costs.

Control socket (`shims/<pid>.sock`, frames of craned.exec.wire, only for root and the agent's own
user): ADOPT makes the sender its launcher; QUERY is answered with STATE (protocol version, then the
key it runs, if any); KILL, SIGNAL and TIME_LIMIT act on the step.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import time

from craned.exec import wire
from craned.exec.cgroup import CgroupBackend
from craned.exec.identity import Identities
from craned.exec.lease import LeaseWatch
from craned.exec.protocol import (
    KEY,
    Key,
    LaunchFailed,
    LaunchOrder,
    decode_kill,
    decode_order,
    decode_signal,
    decode_time_limit,
    key_of,
)
from craned.exec.script import ScriptFile
from craned.exec.spawn import FileLimit
from craned.exec.spool import Claim, Spool
from craned.exec.stdio import LaunchError
from craned.exec.step import BATCH, Step

MAX_STEPS = 1000
"""A shim leaves after so many steps: its collector is off, and nothing should grow for ever."""
_PEER = struct.Struct("3i")


def group_name(order_key: Key, parent: str) -> str:
    """The cgroup of a step: the slot `parent` itself for a batch script, else a child of it."""
    return parent if order_key.step == BATCH else f"{parent}/step_{order_key.step}"


def trusted_peer(sock: socket.socket) -> bool:
    """Whether root or the agent's own user is at the other end."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return _PEER.unpack(raw)[1] in (0, os.geteuid())


class Shim:
    """Runs in its own process; `run` returns when the process should leave."""

    def __init__(
        self,
        link: socket.socket,
        spool: Spool,
        backend: CgroupBackend,
        hold: float,
        lease_file: str,
        files: FileLimit,
    ) -> None:
        self._spool = spool
        self._backend = backend
        self._hold = hold
        self._lease_file = lease_file
        self._files = files
        self._ids = Identities()
        self._pid = os.getpid()
        self._script = ScriptFile(spool.script_path(self._pid))
        self._poll = select.poll()
        self._step: Step | None = None
        self._steps = 0
        self._journal = spool.open_journal(self._pid)
        self._listener = self._listen()
        self._peers: dict[int, tuple[socket.socket, wire.FrameBuffer]] = {}
        self._link = -1
        self._add_peer(link)
        self._link = link.fileno()
        self._wake = self._wake_on_children()

    def _listen(self) -> socket.socket:
        address = self._spool.shim_address(self._pid)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)  # of an earlier process with this id
        listener.bind(address)
        listener.listen(8)
        self._poll.register(listener, select.POLLIN)
        return listener

    def _wake_on_children(self) -> int:
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._poll.register(read, select.POLLIN)
        return read

    def run(self) -> None:
        """Serve until the launcher lets go and nothing runs."""
        while self._step is not None or (self._link != -1 and self._steps < MAX_STEPS):
            timeout = -1.0
            if self._step is not None:
                timeout = self._step.timeout()
                timeout = -1 if timeout == float("inf") else min(timeout * 1000 + 1, 3.6e6)
            for fd, _ in self._poll.poll(timeout):
                self._serve(fd)
            if self._step is not None:
                self._advance(self._step)
        self._backend.close()
        self._spool.remove_shim(self._pid)

    def _serve(self, fd: int) -> None:
        if fd == self._wake:
            os.read(fd, 4096)
        elif fd in self._peers:
            self._receive(fd)
        elif fd == self._listener.fileno():
            sock, _ = self._listener.accept()
            if trusted_peer(sock):
                self._add_peer(sock)
            else:
                sock.close()
        else:
            relay = self._step.relay if self._step is not None else None
            if relay is not None and relay.owns(fd):
                relay.handle(fd)

    def _add_peer(self, sock: socket.socket) -> None:
        wire.bound_sending(sock)
        self._peers[sock.fileno()] = (sock, wire.FrameBuffer())
        self._poll.register(sock, select.POLLIN)

    def _drop_peer(self, fd: int) -> None:
        entry = self._peers.pop(fd, None)
        if entry is not None:
            self._poll.unregister(fd)
            entry[0].close()
            if fd == self._link:
                self._link = -1

    def _receive(self, fd: int) -> None:
        sock, buffer = self._peers[fd]
        data = wire.receive(sock)
        if data is None:
            return
        try:
            frames = buffer.feed(data)
        except wire.FrameError:
            data, frames = b"", []
        if not data:
            self._drop_peer(fd)
        for kind, payload in frames:
            self._handle(fd, kind, payload)

    def _handle(self, fd: int, kind: int, payload: bytes) -> None:
        step = self._step
        if kind == wire.LAUNCH and fd == self._link:
            self._launch(payload)
        elif kind in (wire.ADOPT, wire.QUERY):
            if kind == wire.ADOPT:
                self._drop_peer(self._link)
                self._link = fd
            state = bytes((wire.VERSION,)) + (step.key.pack() if step is not None else b"")
            self._send(fd, wire.STATE, state)
        elif step is None or len(payload) < KEY.size or key_of(payload) != step.key:
            return  # the step it is about has ended: its report is on the way
        elif kind == wire.KILL:
            kill = decode_kill(payload)
            step.terminate(kill.signal, kill.grace, kill.cause)
        elif kind == wire.SIGNAL:
            _, number, leaders_only = decode_signal(payload)
            step.signal(number, leaders_only=leaders_only)
        elif kind == wire.TIME_LIMIT:
            step.set_time_limit(decode_time_limit(payload)[1])

    def _send(self, fd: int, kind: int, payload: bytes) -> None:
        entry = self._peers.get(fd)
        if entry is None:
            return  # no launcher: the record in the spool says it
        try:
            entry[0].sendall(wire.frame(kind, payload))
        except OSError:
            self._drop_peer(fd)

    def _report(self, kind: int, payload: bytes) -> None:
        self._send(self._link, kind, payload)

    def _launch(self, payload: bytes) -> None:
        assert self._step is None, "a shim runs one step at a time"
        size = payload[0]
        parent = payload[1 : 1 + size].decode() or f"s{self._pid}"
        order: LaunchOrder = decode_order(payload[1 + size :])
        self._steps += 1
        group = group_name(order.key, parent)
        recorded = "" if self._backend.name == "none" else group
        claim = Claim(order.key, self._pid, order.uid, time.time_ns(), recorded)
        try:
            claimed = self._spool.claim(self._journal, claim)
        except OSError as error:
            failed = LaunchFailed(order.key, "spool", f"the step cannot be recorded: {error}")
            self._report(wire.FAILED, failed.encode())
            return
        if not claimed:
            self._report(wire.DUPLICATE, order.key.pack())
            return
        lease = LeaseWatch(self._lease_file, leased=order.leased)
        step = Step(order, self._journal, self._poll, self._hold, self._files, lease)
        try:
            step.start(self._backend, group, self._ids, self._script)
        except LaunchError as error:
            failed = LaunchFailed(order.key, error.code, error.message)
            self._finish(step, wire.FAILED, failed.encode())
            return
        self._step = step

    def _advance(self, step: Step) -> None:
        result = step.advance(self._report)
        if result is not None:
            self._step = None
            self._finish(step, wire.EXITED, result.encode())

    def _finish(self, step: Step, kind: int, payload: bytes) -> None:
        step.record(kind, payload)
        self._report(kind, payload)
        step.release()


def main(
    link: socket.socket,
    spool: Spool,
    backend: CgroupBackend,
    hold: float,
    lease_file: str,
    files: FileLimit,
) -> None:
    """Body of the forked process; the caller leaves with `os._exit` afterwards."""
    gc.disable()
    Shim(link, spool, backend, hold, lease_file, files).run()
