"""The projector's loop: follow the log, write the read model, snapshot, say what may be deleted.

It may be killed at any instant: rows and progress change together, snapshots are whole or not
there, and all of it is made from the log, so that starting again continues where it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from crane.errors import ErrorCode
from cranectld.core.apply import apply
from cranectld.core.packs import live_packs
from cranectld.core.state import State
from cranectld.projector.fold import Projection
from cranectld.projector.tables import HISTORY_NAME
from cranectld.projector.writer import HistoryWriter
from cranectld.store.api import StoreError
from cranectld.store.reader import LogReader
from cranectld.store.reclaim import Reclaim, write_reclaim
from cranectld.store.snapshot import (
    KEEP,
    drop_old_snapshots,
    list_snapshots,
    load_newest,
    save_snapshot,
)

ROWS_PER_TRANSACTION = 5_000


@dataclass(frozen=True, slots=True)
class Policy:
    """When snapshots are made, and what is kept."""

    snapshot_weight: int = 100_000
    """Events and rows after which a snapshot is made: bounds what a restart folds."""
    snapshot_interval: float = 600.0
    """Seconds after which one is made if anything happened."""
    keep_log: bool = True
    """The log is the product: accounting, audit and what-if are readings of it."""


class Projector:
    """Follows one state directory's log."""

    def __init__(
        self, state_dir: str, policy: Policy, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises StoreError: no log, or one that cannot be read, or history of another log."""
        self._state_dir = state_dir
        self._policy = policy
        self._clock = clock
        self._reader = LogReader(state_dir)
        try:
            self._history = HistoryWriter(state_dir)
            try:
                self._projection = Projection(self._state_at_progress())
            except BaseException:
                self._history.close()
                raise
        except BaseException:
            self._reader.close()
            raise
        self._snapshot_time = clock()
        if self._seeded:
            self._projection.seed()
            self._history.write(self._projection)

    @property
    def seq(self) -> int:
        """Last event that was folded."""
        return self._projection.state.seq

    def catch_up(self) -> int:
        """Fold and write what the log has by now; how many events. Raises StoreError."""
        start = self.seq
        for batch in self._reader.batches(start + 1):
            for logged in batch:
                self._projection.fold(logged)
            if self._projection.pending >= ROWS_PER_TRANSACTION:
                self._history.write(self._projection)
        if self.seq > start:
            self._history.write(self._projection)
        return self.seq - start

    def maintain(self) -> bool:
        """Make a snapshot if it is time; whether one was made."""
        weight = self._projection.weight
        waited = self._clock() - self._snapshot_time
        policy = self._policy
        if weight >= policy.snapshot_weight or (weight and waited >= policy.snapshot_interval):
            self.snapshot()
            return True
        return False

    def snapshot(self) -> None:
        """Make a snapshot now, unless there is one of this event; drop old ones; note what may go."""
        self._projection.weight = 0
        self._snapshot_time = self._clock()
        if self.seq == 0:
            return
        try:
            if self.seq not in list_snapshots(self._state_dir):
                save_snapshot(self._state_dir, self._projection.state)
            kept = drop_old_snapshots(self._state_dir)
            self._history.make_durable()
            through = kept[0] if len(kept) >= KEEP and not self._policy.keep_log else 0
            write_reclaim(self._state_dir, Reclaim(through, self._dead_packs()))
        except OSError as error:
            raise StoreError(
                ErrorCode.SYSTEM,
                f"a snapshot could not be written to {self._state_dir}: {error}",
                "see whether the disk is full or failing (df, dmesg)",
            ) from error

    def close(self) -> None:
        """Release the files."""
        self._history.close()
        self._reader.close()

    def _dead_packs(self) -> tuple[int, ...]:
        """Packs that came with folded events and that no job or step in memory needs."""
        live = live_packs(self._projection.state)
        return tuple(
            pack for pack, seq in self._reader.packs() if seq <= self.seq and pack not in live
        )

    def _state_at_progress(self) -> State:
        """The state at the read model's progress; or at the oldest snapshot, to seed an empty one."""
        self._seeded = False
        progress = self._history.seq()
        first, last = self._reader.bounds()
        if progress > last:
            raise StoreError(
                ErrorCode.STORE_CORRUPT,
                f"{os.path.join(self._state_dir, HISTORY_NAME)} knows event {progress},"
                f" the log ends with event {last}",
                "the log lost its end, or is another one: restore it from a backup, or delete"
                " the history to have it made again",
            )
        found = load_newest(self._state_dir, progress, first)
        if found is None and first > 1:
            found = self._oldest_snapshot(progress, first)
        state = found[1] if found is not None else State()
        if state.seq < progress:
            for logged in self._reader.read(state.seq + 1):
                if logged.seq > progress:
                    break
                apply(state, logged)
            state.touched.clear()
        return state

    def _oldest_snapshot(self, progress: int, first: int) -> tuple[int, State]:
        for seq in list_snapshots(self._state_dir):
            found = load_newest(self._state_dir, seq, first)
            if found is not None and found[0] >= first - 1:
                self._seeded = True
                return found
        raise StoreError(
            ErrorCode.STORE_CORRUPT,
            f"the log begins with event {first}, the history ends with {progress}, and no"
            " snapshot covers what is between",
            "restore the state directory from a backup",
        )
