"""Opening a step's files, as the user and in his working directory, with errors he can act on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from craned.exec.protocol import CONNECT, NULL, LaunchOrder


class LaunchError(Exception):
    """The step cannot be started: a stable code and what to tell its user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Streams:
    """Descriptors of one task's standard streams, all above 2."""

    stdin: int
    stdout: int
    stderr: int


def enter_directory(path: str) -> None:
    """Make `path` the working directory. Raises LaunchError with code `work_dir`."""
    try:
        os.chdir(path)
    except OSError as error:
        raise LaunchError(
            "work_dir",
            f"the working directory {path} cannot be entered on this host: {error.strerror}; "
            "create it on a file system all nodes share, or choose another with --chdir",
        ) from error


def expand_rank(path: str, rank: int) -> str:
    """`%t`, which only the shim knows, as the task's rank; `%%` has been expanded before."""
    return path.replace("%t", str(rank)) if "%t" in path else path


_null = -1


def null_device() -> int:
    """A descriptor of /dev/null for reading and writing, opened once per process."""
    global _null  # noqa: PLW0603 - one descriptor per process is the point
    if _null == -1:
        _null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    return _null


class StreamFiles:
    """The files of a step's tasks; a path named twice is opened once, so that writes line up."""

    __slots__ = ("_open", "_order")

    def __init__(self, order: LaunchOrder) -> None:
        self._order = order
        self._open: dict[tuple[str, bool], int] = {}

    def of_task(self, rank: int) -> Streams:
        """The streams of one task; CONNECT streams are -1. Raises LaunchError."""
        order = self._order
        stdin = self._file("stdin", expand_rank(order.stdin, rank), read=True)
        stdout = self._file("stdout", expand_rank(order.stdout, rank), read=False)
        stderr = order.stderr or order.stdout
        return Streams(stdin, stdout, self._file("stderr", expand_rank(stderr, rank), read=False))

    def _file(self, stream: str, path: str, *, read: bool) -> int:
        if path == CONNECT:
            return -1
        if path == NULL:
            return null_device()
        key = (path, read)
        fd = self._open.get(key)
        if fd is None:
            fd = self._open[key] = self._open_file(stream, path, read=read)
        return fd

    def _open_file(self, stream: str, path: str, *, read: bool) -> int:
        # O_NONBLOCK: opening a FIFO nobody holds must not block the shim. O_NOCTTY: nor may a
        # terminal become ours.
        flags = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        if read:
            flags |= os.O_RDONLY
        else:
            flags |= os.O_WRONLY | os.O_CREAT
            flags |= os.O_APPEND if self._order.append else os.O_TRUNC
        try:
            fd = os.open(path, flags, 0o666)
            os.set_blocking(fd, True)
        except OSError as error:
            raise LaunchError(stream, _explain(stream, path, error)) from error
        return fd

    def close(self) -> None:
        """Close this process's copies."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()


def _explain(stream: str, path: str, error: OSError) -> str:
    option = {"stdin": "--input", "stdout": "--output", "stderr": "--error"}[stream]
    directory = os.path.dirname(path)
    if stream != "stdin" and directory and not os.path.isdir(directory):
        why = f"the directory {directory} does not exist on this host"
    else:
        why = error.strerror or str(error)
    kind = "input" if stream == "stdin" else "output"
    return (
        f"the {kind} file {path} cannot be opened: {why}; "
        f"create the directory or choose another file with {option}"
    )


def environment_of(data: bytes) -> dict[bytes, bytes]:
    """NUL-separated `NAME=VALUE` entries as a dictionary; the last of a name wins."""
    found: dict[bytes, bytes] = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and name:
            found[name] = value
    return found


def task_entries(templates: tuple[str, ...], rank: int, local: int) -> dict[bytes, bytes]:
    """Per-task variables with `{rank}` and `{local}` replaced."""
    found = {}
    for template in templates:
        name, _, value = template.partition("=")
        value = value.replace("{rank}", str(rank)).replace("{local}", str(local))
        found[os.fsencode(name)] = os.fsencode(value)
    return found


def candidates(command: str, env: dict[bytes, bytes]) -> list[str]:
    """Where to look for a command: itself if it has a slash, else along the job's PATH."""
    if "/" in command:
        return [command]
    path = os.fsdecode(env.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin"))
    return [os.path.join(part or ".", command) for part in path.split(":")]
