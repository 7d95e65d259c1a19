"""A step seen from `crun`: the shims' connections, streams, signals and ends, in one poll loop."""

from __future__ import annotations

import hmac
import os
import select
import socket
import time

from cli import command
from crane.errors import CraneError, ErrorCode
from crane.record import dataclass
from crane.wire import stepio

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.stepoutput import Sink

CONNECT_SECONDS = 60.0
"""How long the hosts of a new step may take to connect."""

_GREETING_SECONDS = 10.0
_CHUNK = 1 << 16
_MAX_PENDING = 1 << 20
_MAX_GUESTS = 64
"""Connections that have not yet shown their ticket."""

INT, QUIT, KILL, TERM = 2, 3, 9, 15


@dataclass(frozen=True, slots=True)
class Expected:
    """The step as the controller made it."""

    job_id: int
    step: int
    attempt: int
    nodes: tuple[str, ...]
    ticket: bytes
    ntasks: int


class Peer:
    """One connection: a host of the step, or somebody who has yet to say so."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.reader = stepio.FrameReader()
        self.since = now
        self.node = -1
        self.pending = bytearray()


class StepRun:
    """Runs until every host of the step has said that nothing is left there."""

    def __init__(
        self,
        listener: socket.socket,
        expected: Expected,
        sinks: tuple[Sink, Sink],
        stdin: int,
        target: int,
    ) -> None:
        """`sinks`: for output and errors; `stdin`: descriptor to read (-1: none); `target`: the
        rank it goes to, or ALL_TASKS.
        """
        self._listener = listener
        self._expected = expected
        self._out, self._err = sinks
        self._stdin, self._target = stdin, target
        self._reading = False
        self._poll = select.poll()
        self._peers: dict[int, Peer] = {}
        self._waiting = set(range(len(expected.nodes)))
        """Hosts that have not connected."""
        self._live = set(self._waiting)
        """Hosts that have not said DONE."""
        self._started = time.monotonic()
        self._interrupted = 0.0
        self.codes: dict[int, int] = {}
        """Rank: how the task ended, 128 + signal."""
        self.failures: list[str] = []
        self.kill_on_bad_exit = False
        self._ending = False

    @property
    def status(self) -> int:
        """The highest code of the tasks; 1 if a host failed, or tasks never reported."""
        missing = len(self.codes) < self._expected.ntasks
        return max([*self.codes.values(), int(bool(self.failures) or missing)])

    def run(self, wakeup: int, signals: Callable[[], list[int]]) -> int:
        """Serve the step; `wakeup` becomes readable when `signals` has some. Returns `status`."""
        self._listener.setblocking(False)
        for fd in (self._listener.fileno(), wakeup):
            self._poll.register(fd, select.POLLIN)
        try:
            while self._live:
                self._arrange_stdin()
                for fd, events in self._poll.poll(1000):
                    if fd == wakeup:
                        os.read(wakeup, 4096)
                        for number in signals():
                            self._signalled(number)
                    else:
                        self._serve(fd, events)
                self._check_times()
        finally:
            for peer in self._peers.values():
                peer.socket.close()
            self._out.close()
            self._err.close()
        return self.status

    def _serve(self, fd: int, events: int) -> None:
        if fd == self._listener.fileno():
            self._accept()
        elif fd == self._stdin:
            self._read_stdin()
        elif fd in self._peers:
            peer = self._peers[fd]
            if events & select.POLLOUT:
                self._flush(peer)
            if events & ~select.POLLOUT:
                self._receive(peer)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it left before it was taken
        guests = sum(1 for peer in self._peers.values() if peer.node < 0)
        if guests >= _MAX_GUESTS:
            connection.close()
            return
        peer = Peer(connection, time.monotonic())
        self._peers[connection.fileno()] = peer
        self._poll.register(connection.fileno(), select.POLLIN)

    def _receive(self, peer: Peer) -> None:
        try:
            data = peer.socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            frames = peer.reader.feed(data) if data else []
            for kind, rank, payload in frames:
                self._take(peer, kind, rank, payload)
                if peer.socket.fileno() < 0:
                    return  # it was its last frame
        except stepio.FrameError as error:
            self._drop(peer, str(error))
            return
        if not data:
            self._drop(peer, "the connection was lost")

    def _take(self, peer: Peer, kind: int, rank: int, payload: bytes) -> None:
        if peer.node < 0:
            self._greeted(peer, kind, payload)
        elif kind == stepio.STDOUT:
            self._out.write(rank, payload)
        elif kind == stepio.STDERR:
            self._err.write(rank, payload)
        elif kind == stepio.EXIT and len(payload) == 2:
            self._ended(peer, rank, payload[0], payload[1])
        elif kind == stepio.FAIL:
            self._failed(peer.node, payload.decode(errors="replace"))
        elif kind == stepio.DONE:
            self._live.discard(peer.node)
            self._hang_up(peer)
        else:
            raise stepio.FrameError(f"frame {kind} was not expected")

    def _greeted(self, peer: Peer, kind: int, payload: bytes) -> None:
        """A host says who it is; one without the ticket is sent away and nothing is told."""
        if kind != stepio.HELLO:
            raise stepio.FrameError("no greeting")
        hello = stepio.decode_hello(payload)
        key = (self._expected.job_id, self._expected.step, self._expected.attempt)
        if not hmac.compare_digest(hello.ticket, self._expected.ticket) or key != (
            hello.job_id,
            hello.step,
            hello.attempt,
        ):
            raise stepio.FrameError("wrong ticket")
        if hello.node not in self._waiting:
            raise stepio.FrameError(f"host {hello.node} was not expected")
        self._waiting.discard(hello.node)
        peer.node = hello.node
        if self._stdin < 0:
            self._send(peer, stepio.STDIN, stepio.ALL_TASKS, b"")

    def _ended(self, peer: Peer, rank: int, code: int, number: int) -> None:
        self.codes[rank] = 128 + number if number else code
        if number or code:
            how = f"ended by signal {number}" if number else f"exited with code {code}"
            name = self._expected.nodes[peer.node]
            command.complain("crun", f"error: {name}: task {rank}: {how}")
            if self.kill_on_bad_exit and not self._ending:
                self._ending = True
                self.send_signal(TERM)

    def _failed(self, node: int, why: str) -> None:
        text = f"{self._expected.nodes[node]}: {why}"
        self.failures.append(text)
        command.complain("crun", f"error: {text}")

    def _drop(self, peer: Peer, why: str) -> None:
        """A connection broke: of a host this ends the step, of a stranger it is nothing."""
        node = peer.node
        self._hang_up(peer)
        if node >= 0 and node in self._live:
            self._live.discard(node)
            self._failed(node, why)
            self.send_signal(KILL)

    def _hang_up(self, peer: Peer) -> None:
        self._poll.unregister(peer.socket.fileno())
        del self._peers[peer.socket.fileno()]
        peer.socket.close()

    def _check_times(self) -> None:
        now = time.monotonic()
        for peer in [p for p in self._peers.values() if p.node < 0]:
            if now - peer.since > _GREETING_SECONDS:
                self._hang_up(peer)
        if self._waiting and now - self._started > CONNECT_SECONDS:
            names = ", ".join(self._expected.nodes[node] for node in sorted(self._waiting))
            self.send_signal(KILL)
            raise CraneError(
                ErrorCode.LAUNCH_FAILED,
                f"no connection from {names} within {CONNECT_SECONDS:g} s",
                "see the log of craned there; can it reach this host?",
            )

    def _signalled(self, number: int) -> None:
        """Pass a signal on; a first interrupt only tells how things stand (srun(1))."""
        if number != INT:
            self.send_signal(number)
            return
        now = time.monotonic()
        if now - self._interrupted <= 1.0:
            self.send_signal(KILL)
            return
        self._interrupted = now
        left = self._expected.ntasks - len(self.codes)
        command.complain("crun", f"{left} task(s) running; interrupt again within 1 s to end them")

    def send_signal(self, number: int) -> None:
        """Signal every process of the step."""
        for peer in list(self._peers.values()):
            if peer.node >= 0:
                self._send(peer, stepio.SIGNAL, 0, bytes((number,)))

    def _arrange_stdin(self) -> None:
        """Read standard input only when every host is there and none is behind with it."""
        behind = any(len(peer.pending) > _MAX_PENDING for peer in self._peers.values())
        wanted = self._stdin >= 0 and not self._waiting and not behind
        if wanted and not self._reading:
            self._poll.register(self._stdin, select.POLLIN)
        elif self._reading and not wanted:
            self._poll.unregister(self._stdin)
        self._reading = wanted

    def _read_stdin(self) -> None:
        try:
            data = os.read(self._stdin, _CHUNK)
        except OSError:
            data = b""
        for peer in list(self._peers.values()):
            if peer.node >= 0:
                self._send(peer, stepio.STDIN, self._target, data)
        if not data:
            self._poll.unregister(self._stdin)
            self._stdin, self._reading = -1, False

    def _send(self, peer: Peer, kind: int, rank: int, payload: bytes) -> None:
        peer.pending += stepio.frame(kind, rank, payload)
        self._flush(peer)

    def _flush(self, peer: Peer) -> None:
        try:
            while peer.pending:
                del peer.pending[: peer.socket.send(peer.pending, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            self._poll.modify(peer.socket.fileno(), select.POLLIN | select.POLLOUT)
            return
        except OSError:
            peer.pending.clear()  # the host is gone: reading from it will tell
        self._poll.modify(peer.socket.fileno(), select.POLLIN)
