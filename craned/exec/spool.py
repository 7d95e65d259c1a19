"""The spool: what this host knows of its steps, on disk, whoever dies.

Layout, below a directory of mode 0711 (jobs must reach their script, and see nothing else):

    records/<job>.<step>.<attempt>   one name per step, in a directory of mode 0700
    shims/<pid>.sock, <pid>.log      control socket and journal of a shim
    scripts/<pid>                    the batch script a shim runs, owned by the job's user
    launcher.sock, launcher.lock

A step's record is a hard link to the journal of the shim that runs it. Making the link, which
fails if the name exists, is the claim that makes a step run at most once, whatever is ordered twice
by whom; the journal says, before the link is made, who runs the step and where, and later that it
runs and how it ended. Each is one appended `write` with a checksum: as atomic against a killed
process as a new file renamed into place, and a reader ignores a torn tail. (One file per step was
tried: ext4 will not reuse an inode within 5 s of its deletion, and spent a third of a short job's
cost on looking for another; renaming over a file makes it flush, 1.3 ms.)
"""

from __future__ import annotations

import contextlib
import os
import struct
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass, replace

from craned.exec import wire
from craned.exec.protocol import Key, key_of

_RECORD = struct.Struct("<IIB")
_CLAIM = struct.Struct("<qiIIIQ")
CLAIMED = 64
_ENDS = (wire.EXITED, wire.FAILED)
MAX_JOURNAL = 16 << 20
"""Bytes read of a journal; a shim leaves long before its own is that large."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who runs a step, and where its processes are to be found."""

    key: Key
    shim: int
    """Process id of the shim."""
    uid: int
    time_ns: int
    group: str
    """The cgroup the step runs in, as the backend named it; empty without cgroups."""

    def encode(self) -> bytes:
        """Payload of the first record of a file."""
        return _CLAIM.pack(*self.key, self.shim, self.uid, self.time_ns) + self.group.encode()


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a record file says: the claim, that it runs, how it ended."""

    claim: Claim
    started: bytes = b""
    """Payload of the STARTED record; empty: none yet."""
    end_kind: int = 0
    """EXITED or FAILED; 0: it has not ended."""
    end: bytes = b""


def name_of(key: Key) -> str:
    """File name of a step's record."""
    return f"{key.job_id}.{key.step}.{key.attempt}"


def append(journal: int, kind: int, payload: bytes) -> None:
    """Append what happened to a step, in one write."""
    os.write(journal, _RECORD.pack(len(payload), crc32(payload), kind) + payload)


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while len(data) - at >= _RECORD.size:
        length, checksum, kind = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        payload = data[at : at + length]
        if len(payload) < length or crc32(payload) != checksum:
            return
        at += length
        yield kind, payload


def _fold(data: bytes) -> dict[Key, StepRecord]:
    """What a journal says of each step; the first end of a step stands."""
    found: dict[Key, StepRecord] = {}
    for kind, payload in _records(data):
        key = key_of(payload)
        if kind == CLAIMED:
            shim, uid, time_ns = _CLAIM.unpack_from(payload)[3:]
            claim = Claim(key, shim, uid, time_ns, payload[_CLAIM.size :].decode())
            found[key] = StepRecord(claim)
            continue
        record = found.get(key) or StepRecord(Claim(key, 0, 0, 0, ""))
        if kind == wire.STARTED:
            found[key] = replace(record, started=payload)
        elif kind in _ENDS and not record.end_kind:
            found[key] = replace(record, end_kind=kind, end=payload)
    return found


class Spool:
    """The record files of one agent. Not shared between threads."""

    def __init__(self, path: str) -> None:
        """Open the spool at `path`, making what is missing of it. Raises OSError."""
        self.path = os.path.abspath(path)
        for name, mode in (("", 0o711), ("records", 0o700), ("shims", 0o700), ("scripts", 0o711)):
            directory = os.path.join(self.path, name) if name else self.path
            os.makedirs(directory, exist_ok=True)
            os.chmod(directory, mode)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._records = os.open(f"{self.path}/records", flags)
        self._shims = os.open(f"{self.path}/shims", flags)

    def claim(self, journal: int, claim: Claim) -> bool:
        """Claim a step for the shim of this journal; False: it was claimed before."""
        append(journal, CLAIMED, claim.encode())
        try:
            os.link(
                f"{claim.shim}.log", name_of(claim.key),
                src_dir_fd=self._shims, dst_dir_fd=self._records,
            )  # fmt: skip
        except FileExistsError:
            return False
        return True

    def open_journal(self, pid: int) -> int:
        """A new, empty journal for a shim: the descriptor to append to. Raises OSError."""
        self._remove(f"{pid}.log")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        return os.open(f"{pid}.log", flags, 0o600, dir_fd=self._shims)

    def append_to(self, key: Key, kind: int, payload: bytes) -> None:
        """Append to the record of a step whose shim is gone."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        record = os.open(name_of(key), flags, 0o600, dir_fd=self._records)
        try:
            append(record, kind, payload)
        finally:
            os.close(record)

    def read(self, key: Key) -> StepRecord | None:
        """What is known of a step; None: nothing."""
        return self._read(key, {})

    def _read(self, key: Key, journals: dict[int, dict[Key, StepRecord]]) -> StepRecord | None:
        try:
            file = os.open(name_of(key), os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._records)
        except FileNotFoundError:
            return None
        with open(file, "rb") as stream:
            inode = os.fstat(file).st_ino
            if inode not in journals:
                journals[inode] = _fold(stream.read(MAX_JOURNAL))
        # A claim whose content was lost (a power cut) is still a claim: it must not run again.
        return journals[inode].get(key) or StepRecord(Claim(key, 0, 0, 0, ""))

    def read_all(self) -> list[StepRecord]:
        """Every step on record, in the order of their names."""
        found = []
        journals: dict[int, dict[Key, StepRecord]] = {}
        for name in sorted(os.listdir(self._records)):
            parts = name.split(".")
            if len(parts) == 3 and all(part.lstrip("-").isdigit() for part in parts):
                record = self._read(Key(int(parts[0]), int(parts[1]), int(parts[2])), journals)
                if record is not None:
                    found.append(record)
        return found

    def forget(self, key: Key) -> None:
        """Remove the record of a step: its end is known to the controller."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name_of(key), dir_fd=self._records)

    def shim_sockets(self) -> list[int]:
        """Process ids of the shims that have left a control socket."""
        names = os.listdir(self._shims)
        return sorted(int(n[:-5]) for n in names if n.endswith(".sock") and n[:-5].isdigit())

    def shim_address(self, pid: int) -> str:
        """Address of a shim's control socket, short however long the spool's path is."""
        return f"/proc/self/fd/{self._shims}/{pid}.sock"

    def remove_shim(self, pid: int) -> None:
        """Remove the names of a shim that is gone; steps on record keep its journal alive."""
        self._remove(f"{pid}.sock")
        self._remove(f"{pid}.log")
        self._remove(f"../scripts/{pid}")

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._shims)

    def script_path(self, pid: int) -> str:
        """Where a shim keeps the script it runs."""
        return f"{self.path}/scripts/{pid}"

    def launcher_address(self) -> str:
        """Address of the launcher's socket, short however long the spool's path is."""
        return f"/proc/self/fd/{self._shims}/../launcher.sock"

    def close(self) -> None:
        """Close the directories."""
        os.close(self._records)
        os.close(self._shims)
