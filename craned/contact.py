"""What an agent keeps on disk besides its spool: the last word with a controller, and identities."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Sequence

from craned.clock import Clock
from craned.core.stimuli import Contact
from craned.exec.lease import LastWord, read_word, write_word

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_HOST_FILES = ("/etc/machine-id", "/sys/class/dmi/id/product_uuid")
_NO_IDENTITY = ("", "uninitialized")
"""What machine-id(5) says of an image whose hosts are to be told apart later."""


def boot_id() -> str:
    """Identity of the host's present run (random(4))."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def host_id(files: Sequence[str] = _HOST_FILES) -> str:
    """Identity of the host through reboots, 32 characters: of what machine-id(5) and its firmware say
    as far as that can be read (the latter by root only). Empty: nothing can be.

    A hash, because a machine id is not to be shown to a network.
    """
    found = []
    for path in files:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            text = file.read(4096).decode("ascii", "replace").strip().lower()
            if text not in _NO_IDENTITY:
                found.append(f"{os.path.basename(path)}={text}")
    if not found:
        return ""
    return hashlib.sha256("\n".join(["crane host", *found]).encode()).hexdigest()[:32]


def spool_id(spool: str) -> str:
    """Identity of the spool in this directory, made with it: a new one has no memory of any step."""
    path = os.path.join(spool, "id")
    with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
        found = file.read().strip()
        if found:
            return found
    fresh = secrets.token_hex(16)
    _write(path, fresh)
    return fresh


class ContactFile:
    """The last word with a controller, on disk for the next craned and for the shims."""

    def __init__(self, path: str, clock: Clock, boot: str) -> None:
        self._path = path
        self._clock = clock
        self._boot = boot

    def read(self) -> Contact | None:
        """None if there is none, or it cannot be read: nothing is known then."""
        word = read_word(self._path)
        if word is None:
            return None
        if word.boot != self._boot:
            # Nothing of an earlier run of the host is alive: its lease binds nobody.
            return Contact(word.epoch, 0, word.kill, 0)
        renewed = self._clock.from_boot_time(word.renewed)
        settled = self._clock.from_boot_time(word.settled)
        return Contact(word.epoch, word.lease, word.kill, renewed, settled)

    def write(self, contact: Contact) -> None:
        """Replace it. Raises OSError."""
        renewed = self._clock.to_boot_time(contact.renewed)
        settled = self._clock.to_boot_time(contact.settled)
        write_word(
            self._path,
            LastWord(self._boot, contact.epoch, contact.lease, contact.kill, renewed, settled),
        )


def _write(path: str, text: str) -> None:
    partial = f"{path}.new"
    with open(partial, "w", encoding="ascii", opener=_private) as file:
        file.write(text + "\n")
    os.replace(partial, path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
