"""Disks: the controller's log in its real format, and an agent's records, with what a crash may do.

What was fsynced is never lost. Of what was written and not fsynced a crash keeps a prefix, drawn by
the seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from crane.session import EndCause, StepEnded, StepKey, StepStarted
from cranectld.core.apply import apply
from cranectld.core.events import Logged
from cranectld.core.state import State
from cranectld.store.codec import decode_batch, encode_batch
from cranectld.store.codec.state import decode_state, encode_state
from craned.core.stimuli import Contact


class FakeLog:
    """The controller's store: one row per append, each the real codec's bytes."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        """Durable rows."""
        self.keeping = True
        """False: rows are counted and dropped (benches measure the state, not this disk)."""
        self.appends = 0
        self.size = 0
        """Bytes written."""
        self._writing: list[bytes] = []

    def write(self, events: Sequence[Logged], epoch: int) -> bytes:
        """Append a row that is not durable yet; gives its bytes."""
        row = encode_batch(events, epoch)
        self.appends += 1
        self.size += len(row)
        if self.keeping:
            self._writing.append(row)
        return row

    def sync(self) -> None:
        """Everything written is durable."""
        self.rows += self._writing
        self._writing.clear()

    def crash(self, rng: random.Random) -> int:
        """The machine or the process dies; how many rows that were never synced survived."""
        kept = rng.randint(0, len(self._writing))
        self.rows += self._writing[:kept]
        self._writing.clear()
        return kept

    def recover(self, rng: random.Random) -> State:
        """The fold of every durable row; sometimes from a snapshot, written and read on the way."""
        state = State()
        snapshot = rng.randint(0, 2 * len(self.rows))
        for number, row in enumerate(self.rows):
            if number == snapshot:
                state = decode_state(encode_state(state))
            fold(state, row)
        return state


def fold(state: State, row: bytes) -> list[Logged]:
    """Decode a row and fold it; gives its events."""
    events = decode_batch(row)
    for logged in events:
        assert logged.seq == state.seq + 1, f"a gap in the log before event {logged.seq}"
        apply(state, logged)
    return events


@dataclass(slots=True)
class StepRecord:
    """What the spool says of one step: the claim, that it runs, how it ended."""

    key: StepKey
    claimed: int
    """Instant of the host's clock."""
    started: StepStarted | None = None
    end: StepEnded | None = None
    synced: bool = False


@dataclass(slots=True)
class FakeSpool:
    """Records of an agent's host. They outlive every process; a power cut may take the newest."""

    spool_id: str
    records: dict[StepKey, StepRecord] = field(default_factory=dict)
    contact: Contact | None = None

    def find(self, key: StepKey) -> StepRecord | None:
        """What is known of a step."""
        return self.records.get(key)

    def claim(self, key: StepKey, now: int) -> StepRecord | None:
        """Claim a step; None if it was claimed before (O_EXCL)."""
        if key in self.records:
            return None
        record = self.records[key] = StepRecord(key, now)
        return record

    def sync(self) -> None:
        """The kernel wrote everything back."""
        for record in self.records.values():
            record.synced = True

    def power_cut(self, rng: random.Random) -> None:
        """Of what was not written back some is lost."""
        for record in list(self.records.values()):
            if not record.synced and rng.random() < 0.5:
                del self.records[record.key]

    def bury(self, now: int) -> None:
        """Say of every step that has no end that it is lost: its processes died with the host."""
        for record in self.records.values():
            if record.end is None:
                why = "the host restarted"
                record.end = StepEnded(
                    record.key, EndCause.LOST, 0, 0, why, record.claimed, max(now, record.claimed)
                )
