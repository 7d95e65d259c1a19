"""The cluster's key: a file of 32 random bytes in hex, readable by its owner alone.

Every daemon of a cluster holds it: agents and controller prove it to each other, and tokens are
signed with it. (TLS with the cluster's own CA takes its place between hosts in a later version.)
"""

from __future__ import annotations

import os
import secrets
import stat

from crane.errors import CraneError, ErrorCode

KEY_BYTES = 32


def create_key(path: str) -> bytes:
    """Make a new key file (mode 0600). Raises CraneError if it exists or cannot be written."""
    key = secrets.token_bytes(KEY_BYTES)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise CraneError(
            ErrorCode.KEY_UNUSABLE,
            f"cannot create the cluster key {path}: {error.strerror}",
            "choose a writable place, or remove an old key first",
        ) from error
    with os.fdopen(fd, "w") as file:
        file.write(key.hex() + "\n")
    return key


def read_key(path: str) -> bytes:
    """Read the key. Raises CraneError if it is missing, malformed or readable by others."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise CraneError(
            ErrorCode.KEY_UNUSABLE,
            f"cannot read the cluster key {path}: {error.strerror}",
            "copy it from the controller's host, mode 0600",
        ) from error
    with os.fdopen(fd) as file:
        mode = os.fstat(file.fileno())
        if stat.S_IMODE(mode.st_mode) & 0o077:
            raise CraneError(
                ErrorCode.KEY_UNUSABLE,
                f"the cluster key {path} can be read by others (mode {mode.st_mode & 0o777:o})",
                f"chmod 600 {path}, and make a new key if it may have been seen",
            )
        if mode.st_uid not in (0, os.geteuid()):
            raise CraneError(
                ErrorCode.KEY_UNUSABLE,
                f"the cluster key {path} belongs to uid {mode.st_uid}",
                "it must belong to root or to the user the daemon runs as",
            )
        text = file.read(4 * KEY_BYTES).strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise CraneError(
            ErrorCode.KEY_UNUSABLE,
            f"the cluster key {path} is not {2 * KEY_BYTES} hexadecimal digits",
            "copy it again from the controller's host",
        )
    return key
