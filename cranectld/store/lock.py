"""One process per store: an flock on a file that names its holder."""

from __future__ import annotations

import fcntl
import os

from crane.errors import ErrorCode
from cranectld.store.api import StoreError


class Lock:
    """Held from construction to `release`, or to the end of the process, however it ends."""

    def __init__(self, path: str, what: str) -> None:
        """Raises StoreError STORE_BUSY, naming the holder's pid. `what`: who holds it, in words."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreError(
                ErrorCode.STORE_BUSY,
                f"another {what} (pid {holder}) uses {os.path.dirname(path)}",
                "stop it first, or give this one a state directory of its own",
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let another process have it. The file stays: removing it would be a race."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
