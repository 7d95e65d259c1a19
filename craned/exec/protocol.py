"""What craned, the launcher and the shims say to each other: orders and reports as values.

Encoded with `struct` and NUL-joined strings (no string here may contain NUL: paths, arguments and
environment entries cannot), so that the launcher and the shims need to import next to nothing.
Times: nanoseconds since the epoch for instants, seconds for durations. CPU in thousandths, memory
in MiB, peak memory in bytes.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

KEY = struct.Struct("<qiI")
_ORDER = struct.Struct("<qiIIIHBBIqqqqIIIIIIIIII")
_EXITED = struct.Struct("<qiIIiBBQQQQI")
_STARTED = struct.Struct("<qiIIQ")
_KILL = struct.Struct("<qiIBBI")
_SIGNAL = struct.Struct("<qiIBB")
_TIME_LIMIT = struct.Struct("<qiIq")
_APPEND, _LEADERS_ONLY, _LEASED = 1, 2, 4
_FIXED_STRINGS = 8
_MAX_LIST = 1 << 20

NULL = "null"
"""A stream that is /dev/null."""
CONNECT = "connect"
"""A stream relayed over the order's connection (craned.exec.relay)."""


class ProtocolError(Exception):
    """A message that does not decode: a peer of another version, or a corrupt one."""


class Key(NamedTuple):
    """One attempt of one step of a job on this host; the batch script is step -1."""

    job_id: int
    step: int
    attempt: int

    def pack(self) -> bytes:
        """16 bytes, as messages and records carry it."""
        return KEY.pack(*self)


class Cause(IntEnum):
    """Why a step ended."""

    EXIT = 0
    """By itself: the exit code or signal says how."""
    TIMEOUT = 1
    OUT_OF_MEMORY = 2
    CANCELLED = 3
    LOST = 4
    """Its shim was killed, or the host was restarted; what was left of it has been killed."""
    PREEMPTED = 5
    DEADLINE = 6


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What the job may use on this host; 0 or an empty text: no limit."""

    cpu: int = 0
    """Thousandths of a CPU."""
    cpuset: str = ""
    """CPUs as in cpuset(7), `0-3,8`."""
    mems: str = ""
    """Memory nodes to go with `cpuset`."""
    memory: int = 0
    """MiB."""
    pids: int = 0


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """Everything a shim needs to run one step on this host."""

    key: Key
    uid: int
    gid: int
    cwd: str
    groups: tuple[int, ...] = ()
    argv: tuple[str, ...] = ()
    """Arguments of the script, or (without script) the command and its arguments."""
    script: bytes = b""
    env: bytes = b""
    """NUL-separated `NAME=VALUE` entries."""
    stdin: str = NULL
    stdout: str = NULL
    """Absolute path with all patterns expanded but `%t` (rank), or NULL or CONNECT."""
    stderr: str = ""
    """As `stdout`; empty: the same as stdout."""
    append: bool = False
    """Output files are appended to rather than truncated."""
    umask: int = 0o022
    limits: StepLimits = field(default_factory=StepLimits)
    time_limit: float = -1.0
    """Seconds left when the order is carried out; negative: none."""
    kill_grace: float = 5.0
    """Seconds between SIGTERM and SIGKILL."""
    warn_signal: int = 0
    """Sent `warn_before` seconds before the time limit; 0: none."""
    warn_before: int = 0
    warn_leaders_only: bool = False
    """The warning goes to the script (or tasks) only, not to their children."""
    devices_denied: tuple[str, ...] = ()
    """Managed device files the job holds no slot for; needs cgroups to be in force."""
    ranks: tuple[int, ...] = (0,)
    """Ranks of the tasks to start here, in the order of their local ids."""
    task_env: tuple[str, ...] = ()
    """`NAME=VALUE` per task; `{rank}` and `{local}` in a value are replaced."""
    node_id: int = 0
    """This host's place in the step's node list."""
    connect: str = ""
    """`address:port` (a number, no name) or `unix:/path` of the crun waiting for the streams."""
    ticket: str = ""
    """One-time secret that tells crun the connection is the step's."""
    leased: bool = False
    """Launched under `lost_contact = kill`: not without a lease in the launcher's lease file."""

    def encode(self) -> bytes:
        """The order as the payload of a LAUNCH frame.

        Raises ProtocolError on a NUL in a string, and on more than `decode_order` takes.
        """
        limits = self.limits
        if len(self.ranks) + len(self.groups) > _MAX_LIST:
            raise ProtocolError(f"step {self.key}: too many tasks or groups")
        strings = (
            self.cwd, self.stdin, self.stdout, self.stderr, limits.cpuset, limits.mems,
            self.connect, self.ticket, *self.argv, *self.devices_denied, *self.task_env,
        )  # fmt: skip
        blob = os.fsencode("\0".join(strings))
        if blob.count(b"\0") != len(strings) - 1:
            raise ProtocolError(f"step {self.key}: a path or argument contains a NUL byte")
        flags = (_APPEND if self.append else 0) | (_LEADERS_ONLY if self.warn_leaders_only else 0)
        flags |= _LEASED if self.leased else 0
        head = _ORDER.pack(
            *self.key, self.uid, self.gid, self.umask, flags, self.warn_signal, self.warn_before,
            limits.cpu, limits.memory, limits.pids, int(self.time_limit * 1000),
            int(self.kill_grace * 1000), self.node_id, len(self.ranks), len(self.groups),
            len(self.argv), len(self.devices_denied), len(self.task_env), len(self.script),
            len(self.env), len(blob),
        )  # fmt: skip
        numbers = struct.pack(f"<{len(self.ranks) + len(self.groups)}I", *self.ranks, *self.groups)
        return b"".join((head, numbers, self.script, self.env, blob))


def decode_order(data: bytes) -> LaunchOrder:
    """The inverse of `LaunchOrder.encode`. Raises ProtocolError."""
    try:
        (
            job, step, attempt, uid, gid, umask, flags, warn_signal, warn_before,
            cpu, memory, pids, limit_ms, grace_ms, node_id, n_ranks, n_groups,
            n_argv, n_dev, n_env, n_script, n_environ, n_blob,
        ) = _ORDER.unpack_from(data)  # fmt: skip
        if n_ranks + n_groups > _MAX_LIST:
            raise ProtocolError("a launch order with too many tasks or groups")
        numbers = struct.unpack_from(f"<{n_ranks + n_groups}I", data, _ORDER.size)
    except struct.error as error:
        raise ProtocolError(f"a launch order that does not decode: {error}") from error
    at = _ORDER.size + 4 * (n_ranks + n_groups)
    script_end = at + n_script
    env_end = script_end + n_environ
    if len(data) != env_end + n_blob:
        raise ProtocolError("a launch order whose lengths do not add up")
    text = os.fsdecode(data[env_end:]).split("\0")
    if len(text) != _FIXED_STRINGS + n_argv + n_dev + n_env:
        raise ProtocolError("a launch order whose strings do not add up")
    argv_end = _FIXED_STRINGS + n_argv
    return LaunchOrder(
        key=Key(job, step, attempt),
        uid=uid,
        gid=gid,
        cwd=text[0],
        groups=numbers[n_ranks:],
        argv=tuple(text[_FIXED_STRINGS:argv_end]),
        script=data[at:script_end],
        env=data[script_end:env_end],
        stdin=text[1],
        stdout=text[2],
        stderr=text[3],
        append=bool(flags & _APPEND),
        umask=umask,
        limits=StepLimits(cpu, text[4], text[5], memory, pids),
        time_limit=limit_ms / 1000,
        kill_grace=grace_ms / 1000,
        warn_signal=warn_signal,
        warn_before=warn_before,
        warn_leaders_only=bool(flags & _LEADERS_ONLY),
        devices_denied=tuple(text[argv_end : argv_end + n_dev]),
        ranks=numbers[:n_ranks],
        task_env=tuple(text[argv_end + n_dev :]),
        node_id=node_id,
        connect=text[6],
        ticket=text[7],
        leased=bool(flags & _LEASED),
    )


@dataclass(frozen=True, slots=True)
class Started:
    """The step's processes run. Left out for a step that ended within the launcher's hold time."""

    key: Key
    pid: int
    """Of the first task; 0 for a step whose shim has only just claimed it."""
    time_ns: int

    def encode(self) -> bytes:
        """Payload of a STARTED frame or record."""
        return _STARTED.pack(*self.key, self.pid, self.time_ns)


@dataclass(frozen=True, slots=True)
class Exited:
    """The step has ended: none of its processes is left (final)."""

    key: Key
    exit_code: int
    """Of the script; of several tasks the highest (128 + signal for a task ended by one)."""
    signal: int
    """That ended the script, or the first signalled task; 0: none."""
    cause: Cause
    start_ns: int
    end_ns: int
    cpu_us: int
    """User and system time of all its processes."""
    peak_bytes: int
    """Most memory used at once (cgroup), or the largest resident set of one process (fallback)."""
    pid: int = 0
    message: str = ""
    """More about the cause, for people; may be empty."""

    def encode(self) -> bytes:
        """Payload of an EXITED frame or record."""
        return _EXITED.pack(
            *self.key, self.pid, self.exit_code, self.signal, self.cause,
            self.start_ns, self.end_ns, self.cpu_us, self.peak_bytes, len(self.message),
        ) + self.message.encode(errors="replace")  # fmt: skip


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """The step could not be started; nothing of it has run (final)."""

    key: Key
    code: str
    """Stable: `work_dir`, `stdout`, `stderr`, `stdin`, `script`, `command`, `identity`, `cgroup`,
    `devices`, `connect`, `spool`, `fork`, `tasks`, `order`, `lease`."""
    message: str

    def encode(self) -> bytes:
        """Payload of a FAILED frame or record."""
        return self.key.pack() + f"{self.code}\0{self.message}".encode(errors="replace")


Report = Started | Exited | LaunchFailed


def key_of(payload: bytes) -> Key:
    """The key every order and report begins with. Raises ProtocolError."""
    try:
        return Key(*KEY.unpack_from(payload))
    except struct.error as error:
        raise ProtocolError(f"a message without a step's key: {error}") from error


def decode_started(data: bytes) -> Started:
    """The inverse of `Started.encode`."""
    job, step, attempt, pid, time_ns = _STARTED.unpack(data)
    return Started(Key(job, step, attempt), pid, time_ns)


def decode_exited(data: bytes) -> Exited:
    """The inverse of `Exited.encode`."""
    (job, step, attempt, pid, code, signal, cause, start, end, cpu, peak, _) = _EXITED.unpack_from(
        data
    )
    text = data[_EXITED.size :].decode(errors="replace") if len(data) > _EXITED.size else ""
    return Exited(
        Key(job, step, attempt), code, signal, Cause(cause), start, end, cpu, peak, pid, text
    )


def decode_failed(data: bytes) -> LaunchFailed:
    """The inverse of `LaunchFailed.encode`."""
    code, _, message = data[KEY.size :].decode(errors="replace").partition("\0")
    return LaunchFailed(key_of(data), code, message)


@dataclass(frozen=True, slots=True)
class Kill:
    """End a step: `signal`, `grace` seconds later SIGKILL to whatever is left (0: at once)."""

    key: Key
    signal: int
    grace: float
    cause: Cause

    def encode(self) -> bytes:
        """Payload of a KILL frame."""
        return _KILL.pack(*self.key, self.signal, self.cause, int(self.grace * 1000))


def decode_kill(data: bytes) -> Kill:
    """The inverse of `Kill.encode`."""
    job, step, attempt, signal, cause, grace_ms = _KILL.unpack(data)
    return Kill(Key(job, step, attempt), signal, grace_ms / 1000, Cause(cause))


def encode_signal(key: Key, signal: int, *, leaders_only: bool) -> bytes:
    """Payload of a SIGNAL frame."""
    return _SIGNAL.pack(*key, signal, leaders_only)


def decode_signal(data: bytes) -> tuple[Key, int, bool]:
    """Key, signal, and whether only the script (or tasks) gets it."""
    job, step, attempt, signal, leaders_only = _SIGNAL.unpack(data)
    return Key(job, step, attempt), signal, bool(leaders_only)


def encode_time_limit(key: Key, seconds: float) -> bytes:
    """Payload of a TIME_LIMIT frame: seconds from now; negative: no limit."""
    return _TIME_LIMIT.pack(*key, int(seconds * 1000))


def decode_time_limit(data: bytes) -> tuple[Key, float]:
    """Key and seconds from now."""
    job, step, attempt, limit_ms = _TIME_LIMIT.unpack(data)
    return Key(job, step, attempt), limit_ms / 1000
