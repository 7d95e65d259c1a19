"""craned's side of the launcher: starts it, sends orders, hands on reports, and outlives it.

If the launcher dies the client starts another one, which takes over the shims, asks it for a
snapshot, and sends again the orders it has had no word of; the claim in the spool keeps a step from
running twice. Each end of a step is reported once per client; it stays in the spool, and in the
snapshot of the next client, until `forget`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from craned.exec import wire
from craned.exec.protocol import (
    Cause,
    Key,
    Kill,
    LaunchFailed,
    LaunchOrder,
    ProtocolError,
    Report,
    Started,
    decode_exited,
    decode_failed,
    decode_started,
    encode_signal,
    encode_time_limit,
)

log = logging.getLogger("craned.exec")
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_START_SECONDS = 20.0
_EXIT_SECONDS = 5.0
_REST_SECONDS = 0.2
"""Between two revivals: a launcher that lets go of us at once must not keep us busy."""
MAX_ORDER = wire.MAX_FRAME - 1024
"""Bytes of a launch order: the launcher adds the name of a cgroup for the shim."""
_DECODE: dict[int, Callable[[bytes], Report]] = {
    wire.STARTED: decode_started,
    wire.EXITED: decode_exited,
    wire.FAILED: decode_failed,
}
_PROGRAM = (
    "import sys; sys.path.insert(0, {root!r}); "
    "from craned.exec.launcher import main; sys.exit(main(sys.argv[1:]))"
)


class LauncherError(Exception):
    """The launcher cannot be started or does not answer."""


@dataclass(frozen=True, slots=True)
class LauncherOptions:
    """How the launcher of an agent is to work."""

    spool: str
    """Directory of its own; jobs of any user must be able to reach it (mode x on its parents)."""
    cgroup: str = "auto"
    """`auto`, `v2`, `v1` or `none`."""
    cgroup_root: str = "/sys/fs/cgroup"
    cgroup_base: str = "crane"
    """Relative directory of this agent's groups; each agent on a host needs its own."""
    idle_shims: int = 32
    """Most shims to keep waiting for their next step."""
    lease_file: str = ""
    """Absolute path of craned's last word with a controller (craned.exec.lease)."""
    hold: float = 0.05
    """Seconds a step must run before it is reported as started: the report of a shorter one would
    only be overtaken by that of its end."""

    def arguments(self) -> list[str]:
        """For the launcher's command line."""
        return [
            f"spool={self.spool}", f"cgroup={self.cgroup}", f"root={self.cgroup_root}",
            f"base={self.cgroup_base}", f"idle={self.idle_shims}", f"hold={self.hold}",
            f"lease={self.lease_file}",
        ]  # fmt: skip


@dataclass(slots=True)
class Snapshot:
    """What the launcher knows: steps that run, and ends nobody has told it to forget."""

    running: list[Started] = field(default_factory=list)
    ended: list[Report] = field(default_factory=list)


Launch = tuple[Key, bytes]
"""A step, and the frame with the order to launch it."""


def launch_frame(order: LaunchOrder) -> Launch:
    """The order, ready to be sent. Raises ProtocolError if a shim could not take it."""
    payload = order.encode()
    if len(payload) > MAX_ORDER:
        raise ProtocolError(f"step {order.key}: an order of {len(payload)} bytes")
    return order.key, wire.frame(wire.LAUNCH, payload)


class _Link(asyncio.Protocol):
    """One connection to a launcher."""

    def __init__(self, client: LauncherClient) -> None:
        self._client = client
        self._buffer = wire.FrameBuffer()
        self.transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._client.frames_received(self._buffer.feed(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)
        self._client.link_lost(self, exc)


class LauncherClient:
    """Made by `start`. All methods are to be called from the event loop's thread."""

    def __init__(
        self, options: LauncherOptions, on_reports: Callable[[list[Report]], None]
    ) -> None:
        self._options = options
        self._on_reports = on_reports
        self._link: _Link | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._unconfirmed: dict[Key, bytes] = {}
        self._kills: dict[Key, bytes] = {}
        """Sent again to a new launcher: an old one may have died with them unread."""
        self._held: list[bytes] = []
        """Other orders given while there is no launcher."""
        self._recovering = False
        self._ended: set[Key] = set()
        self._snapshot: Snapshot | None = None
        self._snapshot_done: asyncio.Future[Snapshot] | None = None
        self._revival: asyncio.Task[None] | None = None
        self._revived = -_REST_SECONDS
        """When the last revival came about, on the loop's clock."""
        self._closing = False
        self.backend = ""
        """What the launcher says is in force: cgroup backend and controllers."""

    @classmethod
    async def start(
        cls, options: LauncherOptions, on_reports: Callable[[list[Report]], None]
    ) -> tuple[LauncherClient, Snapshot]:
        """Connect to the spool's launcher, or start one. Raises LauncherError.

        `on_reports` is called with every batch of reports that follows the snapshot; ends that the
        snapshot holds are not repeated.
        """
        client = cls(options, on_reports)
        await client._open()
        return client, await client._take_snapshot()

    # --- orders -----------------------------------------------------------------------------------

    def launch_many(self, orders: Iterable[LaunchOrder]) -> None:
        """As `send_launches`. Raises ProtocolError; then none of them is sent."""
        self.send_launches([launch_frame(order) for order in orders])

    def send_launches(self, launches: Iterable[Launch]) -> None:
        """Send launch orders; every one is answered by reports, whatever dies meanwhile.

        A step that was ordered before is not run again: what is known of it is reported again.
        """
        frames = []
        for key, data in launches:
            self._unconfirmed[key] = data
            self._ended.discard(key)
            frames.append(data)
        if not self._recovering:
            self._send(b"".join(frames))

    def kill(
        self, key: Key, signal: int = 15, grace: float = 5.0, cause: Cause = Cause.CANCELLED
    ) -> None:
        """End a step; a grace of 0 kills at once. Its end is reported with this cause."""
        if key in self._ended:
            return
        data = wire.frame(wire.KILL, Kill(key, signal, grace, cause).encode())
        self._kills[key] = data
        if not self._recovering:
            self._send(data)

    def signal(self, key: Key, signal: int, *, leaders_only: bool = False) -> None:
        """Send a signal to a step's processes, or only to its script or tasks."""
        payload = encode_signal(key, signal, leaders_only=leaders_only)
        self._send_or_hold(wire.frame(wire.SIGNAL, payload))

    def set_time_limit(self, key: Key, seconds: float) -> None:
        """A new limit, in seconds from now; negative: none."""
        self._send_or_hold(wire.frame(wire.TIME_LIMIT, encode_time_limit(key, seconds)))

    def forget(self, keys: Sequence[Key]) -> None:
        """The controller has acknowledged these ends: remove them from the spool."""
        self._ended.difference_update(keys)
        for key in keys:
            self._kills.pop(key, None)
        self._send_or_hold(wire.frame(wire.FORGET, b"".join(key.pack() for key in keys)))

    async def drain(self) -> None:
        """Wait until the launcher has taken most of what was sent."""
        while self._link is not None and self._link.transport is not None:
            if self._link.transport.get_write_buffer_size() < 1 << 20:
                return
            await asyncio.sleep(0.005)

    def _send(self, data: bytes) -> None:
        if self._link is not None and self._link.transport is not None:
            self._link.transport.write(data)

    def _send_or_hold(self, data: bytes) -> None:
        if self._recovering:
            self._held.append(data)
        else:
            self._send(data)

    # --- reports ----------------------------------------------------------------------------------

    def frames_received(self, frames: list[tuple[int, bytes]]) -> None:
        """Called by the connection."""
        reports: list[Report] = []
        for kind, payload in frames:
            decode = _DECODE.get(kind)
            if decode is not None:
                self._take_report(decode(payload), reports)
            elif kind == wire.HELLO:
                self.backend = payload[1:].decode()
            elif kind == wire.SNAPSHOT_END:
                self._finish_snapshot()
        if reports:
            self._on_reports(reports)

    def _take_report(self, report: Report, reports: list[Report]) -> None:
        key = report.key
        self._unconfirmed.pop(key, None)
        if isinstance(report, Started):
            if self._snapshot is not None:
                self._snapshot.running.append(report)
            elif key not in self._ended:
                reports.append(report)
            return
        self._kills.pop(key, None)
        new = key not in self._ended
        if not (isinstance(report, LaunchFailed) and report.code == "fork"):
            self._ended.add(key)  # a launch that found no process may be tried again
        if new and self._snapshot is not None:
            self._snapshot.ended.append(report)
        elif new:
            reports.append(report)

    def _finish_snapshot(self) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if self._snapshot_done is not None and not self._snapshot_done.done():
            self._snapshot_done.set_result(snapshot or Snapshot())
        self._snapshot_done = None
        # What the snapshot does not know of never reached a spool. Kills come after the launches.
        self._recovering = False
        self._send(b"".join((*self._unconfirmed.values(), *self._kills.values(), *self._held)))
        self._held.clear()

    async def _take_snapshot(self) -> Snapshot:
        self._snapshot = Snapshot()
        self._snapshot_done = asyncio.get_running_loop().create_future()
        self._send(wire.frame(wire.SNAPSHOT, b""))
        return await self._snapshot_done

    # --- the launcher's life ----------------------------------------------------------------------

    async def _open(self) -> None:
        if await self._connect():
            return
        await asyncio.to_thread(self._spawn)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_SECONDS
        while not await self._connect():
            assert self._process is not None
            if self._process.poll() not in (None, 3):
                raise LauncherError(self._why_not())
            if loop.time() > deadline:
                raise LauncherError(f"the launcher does not answer at {self._options.spool}")
            await asyncio.sleep(0.01)

    def _spawn(self) -> None:
        spool = os.path.abspath(self._options.spool)
        os.makedirs(spool, mode=0o711, exist_ok=True)
        with open(f"{spool}/launcher.log", "ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-E", "-c", _PROGRAM.format(root=_ROOT),
                 *self._options.arguments()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                close_fds=True, start_new_session=True, cwd="/",
            )  # fmt: skip

    def _why_not(self) -> str:
        with open(f"{self._options.spool}/launcher.log", "rb") as file:
            lines = file.read()[-4096:].decode(errors="replace").splitlines()
        return f"the launcher could not be started: {lines[-1] if lines else 'it did not say why'}"

    async def _connect(self) -> bool:
        directory = os.path.abspath(self._options.spool)
        try:
            spool = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Through the descriptor: a socket's address has room for 107 bytes only.
            loop = asyncio.get_running_loop()
            _, self._link = await loop.create_unix_connection(
                lambda: _Link(self), f"/proc/self/fd/{spool}/launcher.sock"
            )
        except (ConnectionError, FileNotFoundError):
            return False
        finally:
            os.close(spool)
        return True

    def link_lost(self, link: _Link, why: Exception | None) -> None:
        """Called by the connection: the launcher is gone, or has let go of us."""
        if link is not self._link or self._closing:
            return
        self._link = None
        self._recovering = True
        log.warning("the launcher's connection is lost: %s", why or "end of file")
        self._revival = asyncio.get_running_loop().create_task(self._revive())

    async def _revive(self) -> None:
        pause, loop = 0.05, asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._revived + _REST_SECONDS - loop.time()))
        while not self._closing:
            try:
                if not await self._connect():
                    if self._process is not None and self._process.poll() is None:
                        await asyncio.to_thread(self._process.wait, _EXIT_SECONDS)
                    await self._open()
            except (LauncherError, OSError, subprocess.TimeoutExpired) as error:
                log.error("no launcher: %s; trying again in %.1f s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, 10.0)
            else:
                self._revived = loop.time()
                # Ends that came about without a launcher are reported like any other.
                self._send(wire.frame(wire.SNAPSHOT, b""))
                return

    @property
    def cgroup_version(self) -> str:
        """`v1`, `v2` or `none`: the first word of `backend`."""
        return self.backend.replace(":", " ").partition(" ")[0]

    async def close(self, *, kill: bool = False, stop: bool = False) -> None:
        """Leave the launcher; its steps run on, and another client may adopt them.

        With `stop` the launcher leaves as well once its steps have ended; with `kill` they are
        killed first. Returns when the launcher is gone, if it was told to go.
        """
        link = self._link
        self._closing = True
        if self._revival is not None:
            self._revival.cancel()
        if link is not None and link.transport is not None:
            if kill or stop:
                self._send(wire.frame(wire.STOP, b"\x01" if kill else b"\x00"))
                await link.closed
            else:
                link.transport.close()
        if self._process is not None and (kill or stop):
            await asyncio.to_thread(self._process.wait)
        elif self._process is not None and self._process.poll() is None:
            # It goes on without us: not a child to be waited for any more.
            self._process.returncode = 0
