"""A task's process: executed with its streams, in a session of its own, without signals of ours.

`spawn` uses vfork (posix_spawn): cheap, but the environment is made before there is a process, so
it cannot name the process. `spawn_named` forks, which costs 1 to 2 ms more, and sets TASK_PID.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import NoReturn

from craned.exec.stdio import Streams

DEFAULT_SIGNALS = [
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM,
    signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN,
    signal.SIGTTOU, signal.SIGXFSZ,
]  # fmt: skip
_NAMES = (b"CRANE_TASK_PID", b"SLURM_TASK_PID")
_BARE_NAME = b"TASK_PID"


class FileLimit:
    """Most open files of a task (the soft limit, setrlimit(2), RLIMIT_NOFILE).

    A shim needs three descriptors for each task of a step: it has all it may have itself, and
    tasks begin with what is usual, since programs that cannot go beyond select(2) rely on it.
    """

    __slots__ = ("_soft",)

    def __init__(self, soft: int) -> None:
        self._soft = soft

    def lower(self) -> tuple[int, int]:
        """Put it in force in this process; returns what `raise_to` puts back."""
        own = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._soft, own[1]))
        return own

    @staticmethod
    def raise_to(own: tuple[int, int]) -> None:
        """Put back what `lower` returned."""
        resource.setrlimit(resource.RLIMIT_NOFILE, own)


def names_its_pid(script: bytes) -> bool:
    """Whether a batch script asks for its process id by the variable (shells have `$$` too)."""
    return _BARE_NAME in script


def spawn(
    path: str, argv: list[str], env: dict[bytes, bytes], streams: Streams, limit: FileLimit
) -> int:
    """Process id of `path`, executed. Raises OSError if it cannot be executed."""
    actions = [
        (os.POSIX_SPAWN_DUP2, streams.stdin, 0),
        (os.POSIX_SPAWN_DUP2, streams.stdout, 1),
        (os.POSIX_SPAWN_DUP2, streams.stderr, 2),
    ]
    own = limit.lower()
    try:
        return os.posix_spawn(
            path, argv, env, file_actions=actions, setsid=True, setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )  # fmt: skip
    finally:
        limit.raise_to(own)


def spawn_named(
    path: str, argv: list[str], env: dict[bytes, bytes], streams: Streams, limit: FileLimit
) -> int:
    """As `spawn`, with CRANE_TASK_PID and SLURM_TASK_PID set to the process's own id (srun(1))."""
    told, tell = os.pipe()
    # A signal must not run the shim's handlers in the child, which shares what they write to.
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if not pid:
            _execute(path, argv, env, streams, limit, tell)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(tell)
    try:
        refused = os.read(told, 16)  # nothing comes, and the end, when it executes
    finally:
        os.close(told)
    if refused:
        os.waitpid(pid, 0)
        number = int(refused)
        raise OSError(number, os.strerror(number))
    return pid


def _execute(
    path: str,
    argv: list[str],
    env: dict[bytes, bytes],
    streams: Streams,
    limit: FileLimit,
    tell: int,
) -> NoReturn:
    """The child, up to its new program; never returns."""
    try:
        os.setsid()
        for number, stream in enumerate((streams.stdin, streams.stdout, streams.stderr)):
            os.dup2(stream, number)
        for which in DEFAULT_SIGNALS:
            signal.signal(which, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        env.update(dict.fromkeys(_NAMES, b"%d" % os.getpid()))
        limit.lower()
        os.execve(path, argv, env)  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(tell, b"%d" % (error.errno or 0))
    finally:
        os._exit(127)
