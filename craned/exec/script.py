"""The file a shim keeps its batch script in."""

from __future__ import annotations

import os
import stat

from craned.exec.protocol import LaunchOrder
from craned.exec.stdio import LaunchError


class ScriptFile:
    """One script file per shim, which runs one step at a time.

    Tasks of an array and repeated jobs bring the same script again and again; then the file is
    used as it is. Whether it *is* as it was is told by its identity and times: a script may remove
    or rewrite its own file, but cannot forge the change time.

    Another script of the same user is written over the last one: a fresh file per job makes ext4
    search its bitmaps past every inode deleted in the last seconds, an eighth of all CPU time at
    hundreds of jobs a second, and a file cut to nothing before it is written again is flushed to
    disk when it is closed (auto_da_alloc, ext4(5)), 0.1 ms. Never for another user: whoever owned
    the file may still hold it open.
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
            fd = self._open(owner)
            try:
                view = memoryview(order.script)
                while view:
                    view = view[os.write(fd, view) :]
                os.ftruncate(fd, len(order.script))
                if os.geteuid() == 0:
                    os.fchown(fd, order.uid, order.gid)
                # Root writes it again whatever the mode; an agent of its own user could not.
                os.fchmod(fd, 0o500 if os.geteuid() == 0 else 0o700)
                self._seen = _identity(os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise LaunchError(
                "spool", f"the script cannot be written to {self._path}: {error}"
            ) from error
        self._content, self._owner = order.script, owner
        return self._path

    def _open(self, owner: tuple[int, int]) -> int:
        """Descriptor of a file to write over: the user's own last one, or a new one."""
        if owner == self._owner:
            # A lease the user holds on it must not make root wait (O_NONBLOCK: fcntl(2), leases).
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                fd = os.open(self._path, flags)
            except OSError:
                pass  # removed, replaced, or not writable for us any more: a new one
            else:
                status = os.fstat(fd)
                if status.st_uid == owner[0] and stat.S_ISREG(status.st_mode):
                    return fd
                os.close(fd)
        self.remove()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        return os.open(self._path, flags, 0o700)

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
