"""The lease as every shim keeps it, like the time limit: whoever else is dead by then.

With `lost_contact = kill` the controller runs the jobs of a silent node again at last_heard + lease +
kill_grace, and craned may not be there any more to end them. So it keeps its last word with a
controller in a file, and the shims look at it. Those of steps that are held to a lease: first when
half the lease has passed since the contact it told of, so that a healthy craned, which renews it in
less, has done so; then more often; and when the lease of the last contact that could be read is
over, the step is ended. A file that is missing or damaged renews nothing: it costs no job as long as
craned writes another one in time, and lengthens no lease. While jobs are kept: now and then, since
the site may change its mind (craned.core.lease says what follows).

What the file says is never more than what the controller counts with. `renewed` is when craned sent
something that the controller has said it had heard (craned.core.lease), hence before `last_heard`.
The terms, `lease` and `kill`, are on disk before the first step of a session is launched; until every
shim has looked at others the controller counts with the weaker ones (cranectld.core.apply_nodes). The
grace is the order's, at most that of the fence.

Instants are nanoseconds since the host was started (clock_gettime(2), CLOCK_BOOTTIME): setting the
host's clock changes nothing, and time asleep counts. (A wait does not end while the host sleeps;
nothing else runs there either, and the lease is looked at after it.)
"""

from __future__ import annotations

import json
import os
import time
from binascii import crc32
from collections.abc import Callable
from dataclasses import dataclass

from craned.core.terms import KEPT_LOOK, runs_out

SIZE = 512
"""Bytes of the file: written over itself in one piece, so that a full disk cannot end a lease."""
_TRIES = 3
_NEVER = float("inf")


def since_boot() -> int:
    """The present instant."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class LastWord:
    """What the file says."""

    boot: str
    """Identity of the host's run that `renewed` counts from."""
    epoch: int
    lease: int
    """Nanoseconds; 0: none."""
    kill: bool
    renewed: int
    settled: int = 0
    """Instant by which every shim has looked at `lease` and `kill`; for the next craned."""


def write_word(path: str, word: LastWord) -> None:
    """Put it in the file. Not flushed: after a power cut nothing is alive that it would matter to.

    Raises OSError.
    """
    said = {
        "boot": word.boot,
        "epoch": word.epoch,
        "lease": word.lease,
        "kill": word.kill,
        "renewed": word.renewed,
        "settled": word.settled,
    }
    text = json.dumps(said).encode("ascii")
    data = (b"%08x " % crc32(text) + text).ljust(SIZE - 1) + b"\n"
    assert len(data) == SIZE, len(data)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.pwrite(file, data, 0) != SIZE:
            raise OSError(f"{path} was written in part")
    finally:
        os.close(file)


def read_word(path: str) -> LastWord | None:
    """None if there is none, or it is damaged."""
    for _ in range(_TRIES):  # it may be half written at this very moment
        try:
            with open(path, "rb") as file:
                checksum, _, text = file.read(SIZE).partition(b" ")
            text = text.rstrip()
            if int(checksum, 16) == crc32(text):
                said = json.loads(text)
                return LastWord(
                    str(said["boot"]),
                    int(said["epoch"]),
                    int(said["lease"]),
                    bool(said["kill"]),
                    int(said["renewed"]),
                    int(said["settled"]),
                )
        except OSError:
            return None
        except (ValueError, KeyError, TypeError):
            continue
    return None


class LeaseWatch:
    """The lease one step runs under. Made when it is launched."""

    def __init__(
        self, path: str, now: Callable[[], int] = since_boot, *, leased: bool = True
    ) -> None:
        """`leased`: launched under `kill`, and over at once without a good file; else the step is
        kept until a file says otherwise.
        """
        self._path = path
        self._now = now
        self._kept = not leased
        self._renewed = self._lease = 0
        self._over_at: float = 0
        self._look_at: float = 0
        if leased:
            self._look(now())
        else:
            self._over_at, self._look_at = _NEVER, now() + KEPT_LOOK

    def over(self) -> bool:
        """Whether the lease has run out; reads the file when it is time to."""
        now = self._now()
        if now >= self._look_at:
            self._look(now)
        return now >= self._over_at

    def wait(self) -> float:
        """Seconds until `over` has something to do; infinite if it never will."""
        return max(0.0, (min(self._look_at, self._over_at) - self._now()) / 1e9)

    def passed(self) -> float:
        """Seconds since it ran out."""
        return max(0.0, (self._now() - self._over_at) / 1e9)

    def _read(self) -> LastWord | None:
        return read_word(self._path)

    def _look(self, now: int) -> None:
        word = self._read()
        if word is not None and word.renewed > now:
            word = None  # of an earlier run of the host
        if word is not None:
            self._renewed, self._lease = word.renewed, word.lease if word.kill else 0
            self._kept = not self._lease
        if self._kept:
            again = KEPT_LOOK if word is not None else KEPT_LOOK // 4
            self._over_at, self._look_at = _NEVER, now + again
            return
        self._over_at = runs_out(self._renewed, self._lease)
        half, soon = self._renewed + self._lease // 2, now + self._lease // 8
        self._look_at = min(self._over_at, max(half, soon))
