"""The file a shim keeps its batch script in."""

from __future__ import annotations

import os

from craned.exec.protocol import LaunchOrder
from craned.exec.stdio import LaunchError


class ScriptFile:
    """One script file per shim, which runs one step at a time.

    Tasks of an array and repeated jobs bring the same script again and again; then the file is
    used as it is. Whether it *is* as it was is told by its identity and times: a script may remove
    or rewrite its own file, but cannot forge the change time.
    """

    __slots__ = ("_content", "_owner", "_path", "_seen")

    def __init__(self, path: str) -> None:
        self._path = path
        self._content = b""
        self._owner = (-1, -1)
        self._seen: tuple[int, ...] = ()

    def prepare(self, order: LaunchOrder) -> str:
        """The path of a file with the order's script, owned by its user. Raises LaunchError."""
        owner = (order.uid, order.gid)
        if owner == self._owner and order.script == self._content and self._unchanged():
            return self._path
        self._content = b""
        try:
            self.remove()
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o700)
            try:
                view = memoryview(order.script)
                while view:
                    view = view[os.write(fd, view) :]
                if os.geteuid() == 0:
                    os.fchown(fd, order.uid, order.gid)
                os.fchmod(fd, 0o500)
                self._seen = _identity(os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise LaunchError(
                "spool", f"the script cannot be written to {self._path}: {error}"
            ) from error
        self._content, self._owner = order.script, owner
        return self._path

    def _unchanged(self) -> bool:
        try:
            return _identity(os.stat(self._path, follow_symlinks=False)) == self._seen
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Remove the file if it is there."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
