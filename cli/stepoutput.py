"""Where the output of a step's tasks goes: to crun's own streams, labelled or not, or to files."""

from __future__ import annotations

import os
import sys

from crane.errors import CraneError, ErrorCode, shown
from crane.filepattern import FileContext, expand

TYPE_CHECKING = False

if TYPE_CHECKING:
    from crane.jobspec import OpenMode

MAX_LINE = 1 << 16
"""Bytes of an unfinished line that are held back for its label."""


class Stream:
    """One of crun's own streams (1 or 2), shared by all tasks."""

    def __init__(self, fd: int, *, label_width: int = 0) -> None:
        """`label_width`: digits of the task's number before each line; 0: no labels."""
        self._fd = fd
        self._width = label_width
        self._partial: dict[int, bytes] = {}

    def write(self, rank: int, data: bytes) -> None:
        """Pass on what a task has written; with labels, line by line."""
        if not self._width:
            _write_all(self._fd, data)
            return
        data = self._partial.pop(rank, b"") + data
        *lines, rest = data.split(b"\n")
        head = f"{rank:>{self._width}}: ".encode()
        out = b"".join(head + line + b"\n" for line in lines)
        if len(rest) > MAX_LINE:
            out, rest = out + head + rest + b"\n", b""
        if rest:
            self._partial[rank] = rest
        if out:
            _write_all(self._fd, out)

    def close(self) -> None:
        """Write the lines that have no end."""
        for rank, rest in sorted(self._partial.items()):
            _write_all(self._fd, f"{rank:>{self._width}}: ".encode() + rest + b"\n")
        self._partial.clear()


class Files:
    """Files named by a pattern: one per task if it has `%t`, one per node with `%n` or `%N`."""

    def __init__(
        self, pattern: str, work_dir: str, contexts: dict[int, FileContext], *, append: bool
    ) -> None:
        """`contexts`: what the pattern's letters stand for, for each task."""
        self._pattern = os.path.join(work_dir, pattern)
        self._contexts = contexts
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        self._flags |= os.O_APPEND if append else os.O_TRUNC
        self._open: dict[str, int] = {}

    def prepare(self) -> None:
        """Create the files, also of tasks that will write nothing. Raises OUTPUT_UNWRITABLE."""
        for rank in self._contexts:
            self._descriptor(rank)

    def write(self, rank: int, data: bytes) -> None:
        """Pass on what a task has written."""
        _write_all(self._descriptor(rank), data)

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _descriptor(self, rank: int) -> int:
        path = expand(self._pattern, self._contexts[rank])
        found = self._open.get(path)
        if found is None:
            try:
                found = os.open(path, self._flags, 0o666)
            except OSError as error:
                raise CraneError(
                    ErrorCode.OUTPUT_UNWRITABLE,
                    f"cannot write {shown(path, 200)}: {error.strerror}",
                    "choose another file with --output or --error",
                ) from None
            self._open[path] = found
        return found


Sink = Stream | Files


def sink(
    pattern: str,
    fd: int,
    work_dir: str,
    mode: OpenMode,
    contexts: dict[int, FileContext],
    width: int,
) -> Sink:
    """Where one kind of output goes: `pattern` empty or `all` is crun's own stream."""
    if not pattern or pattern == "all":
        sys.stdout.flush()
        return Stream(fd, label_width=width)
    files = Files(
        os.devnull if pattern == "none" else pattern,
        work_dir,
        contexts,
        append=mode.name == "APPEND",
    )
    files.prepare()
    return files


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
