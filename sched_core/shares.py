"""ShareTable: the tree of associations, what each is promised and what each has used.

Usage is charged to the association that used it and to nobody else; what an account has used is
summed up when factors are made (`sched_core.fairshare`). So charging is O(1), whatever the depth.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from sched_core.columns import Ints, resized, room
from sched_core.decay import Decay
from sched_core.names import Names

ROOT = "root"
"""Name of row 0: the account above all others."""
SHARES_MAX = (1 << 31) - 1
"""Most shares of one association."""
INHERIT = -1
"""Instead of shares: fair-share looks at the parent. A user counts as his account; an account is
looked through, its children being siblings of its own."""
USAGE_MAX = (1 << 62) - 1
"""Bound of what one association counts as used: thousandths x seconds."""
_REBASE = 1024
"""Half-lives after which what is stored is moved to a later epoch: bounds the integers."""


class AssociationKind(IntEnum):
    """What a row of the table is."""

    ABSENT = -1
    """A name that is gone, or was only mentioned."""
    ACCOUNT = 0
    USER = 1
    """A user within an account: these are ranked and given factors."""


_ABSENT = int(AssociationKind.ABSENT)


class ShareTable:
    """Associations as columns, one row per name for ever; row 0 is the root account.

    Columns: `parent[a]` (row; -1 for the root), `shares[a]` (0 to SHARES_MAX, compared among
    siblings, or INHERIT) and `kind[a]` (`AssociationKind`). Usage is in thousandths of whatever is charged (a
    CPU, a billing unit) times seconds, kept as long integers as of `decay.epoch`: equal histories
    are equal whatever their order (`equals`), until the epoch is moved, after 1024 half-lives (20
    years of weeks), which rounds. A running job is a *rate* from its start on, so that nothing is
    done for it until it ends.
    """

    def __init__(self, half_life: int = 7 * 86400, epoch: int = 0) -> None:
        self.decay = Decay(half_life, epoch)
        self.names = Names()
        self.columns: Ints = np.full((3, 16), -1, np.int64)
        """`parent`, `shares` and `kind` as rows of one matrix."""
        self._base: list[int] = []
        self._rate: list[int] = []
        self._bind()
        row = self._row(ROOT)
        self.kind[row] = AssociationKind.ACCOUNT
        self.shares[row] = 1

    def __len__(self) -> int:
        return int(np.count_nonzero(self.kind[: self.rows] != AssociationKind.ABSENT))

    @property
    def rows(self) -> int:
        """Rows in use: names given so far (some may be ABSENT)."""
        return len(self.names)

    def row(self, name: str) -> int:
        """Row of an association that exists; -1 if there is none of this name."""
        row = self.names.find(name)
        return row if row >= 0 and self.kind[row] != _ABSENT else -1

    def add(self, name: str, parent: str = ROOT, *, shares: int = 1, user: bool = False) -> int:
        """Add an association below an account; gives its row."""
        assert self.row(name) < 0, name
        above = self._account(parent)
        row = self._row(name)
        self.parent[row] = above
        self.kind[row] = AssociationKind.USER if user else AssociationKind.ACCOUNT
        self.set_shares(name, shares)
        return row

    def set_shares(self, name: str, shares: int) -> None:
        """Change what an association is promised beside its siblings."""
        assert INHERIT <= shares <= SHARES_MAX
        self.shares[self._present(name)] = shares

    def move(self, name: str, parent: str) -> None:
        """Hang an association, and all below it, under another account; its usage goes along."""
        row, above = self._present(name), self._account(parent)
        at = above
        while at > 0:
            assert at != row, "an association cannot be below itself"
            at = int(self.parent[at])
        assert row > 0, "the root stays"
        self.parent[row] = above

    def remove(self, name: str) -> None:
        """Forget an association without children or running jobs; its account keeps its usage."""
        row = self._present(name)
        assert row > 0, "the root stays"
        assert self._rate[row] == 0, "jobs of it run"
        children = (self.parent[: self.rows] == row) & (self.kind[: self.rows] >= 0)
        assert not children.any(), "associations hang below it"
        self._base[int(self.parent[row])] += self._base[row]
        self._base[row] = 0
        self.parent[row] = self.kind[row] = AssociationKind.ABSENT

    def begin(self, name: str, rate: int, when: int) -> None:
        """A job of an association started to use `rate` thousandths at `when` (s)."""
        row = self._present(name)
        self._base[row] -= rate * self._growth(when)
        self._rate[row] += rate

    def finish(self, name: str, rate: int, when: int) -> None:
        """A job that began to use `rate` thousandths ended at `when` (s)."""
        row = self._present(name)
        assert self._rate[row] >= rate
        self._base[row] += rate * self._growth(when)
        self._rate[row] -= rate

    def charge(self, name: str, rate: int, start: int, end: int) -> None:
        """`rate` thousandths were used from `start` to `end` (s): `begin` and `finish` in one."""
        assert start <= end
        after, before = self._growth(end), self._growth(start)
        self._base[self._present(name)] += rate * (after - before)

    def restore(self, name: str, amount: int, when: int) -> None:
        """An association counts as having used `amount` thousandths x seconds more, as of `when` (s)."""
        self._growth(when)  # may move the epoch
        self._base[self._present(name)] += self.decay.stored(amount, when)

    def reset(self, now: int) -> None:
        """Forget what was used before `now` (s); running jobs count from now on. O(n)."""
        growth = self._growth(now)
        self._base = [-rate * growth for rate in self._rate]

    def usage(self, now: int) -> Ints:
        """[rows] what each association itself counts as used at `now` (s): thousandths x seconds.

        Jobs that run are included up to `now`. Rounded down: what has decayed below one thousandth
        of a unit for one second is no usage any more. O(n) operations on integers.
        """
        growth = self._growth(now)
        stored = [max(b + r * growth, 0) for b, r in zip(self._base, self._rate, strict=True)]
        counted = self.decay.present(stored, now)
        return np.array([min(value, USAGE_MAX) for value in counted], np.int64)

    def content(self) -> dict[str, tuple[object, ...]]:
        """Logical content by name, free of row numbers."""
        out: dict[str, tuple[object, ...]] = {}
        for row in range(self.rows):
            if self.kind[row] != AssociationKind.ABSENT:
                above = int(self.parent[row])
                out[self.names.text(row)] = (
                    self.names.text(above) if above >= 0 else "",
                    int(self.shares[row]),
                    int(self.kind[row]),
                    self._base[row],
                    self._rate[row],
                )
        return out

    def equals(self, other: ShareTable) -> bool:
        """Whether both hold the same tree with the same usage as of the same epoch."""
        return self.decay == other.decay and self.content() == other.content()

    def _growth(self, when: int) -> int:
        """`decay.growth`, after a move to a later epoch if `when` is very far from this one."""
        half_life, epoch = self.decay.half_life, self.decay.epoch
        if half_life and when - epoch > _REBASE * half_life:
            halvings = (when - epoch) // half_life - _REBASE // 16
            self._base = [base >> halvings for base in self._base]
            self.decay = Decay(half_life, epoch + halvings * half_life)
        return self.decay.growth(when)

    def _present(self, name: str) -> int:
        row = self.row(name)
        assert row >= 0, name
        return row

    def _account(self, name: str) -> int:
        row = self._present(name)
        assert self.kind[row] == AssociationKind.ACCOUNT, f"{name} is no account"
        return row

    def _row(self, name: str) -> int:
        row = self.names.number(name)
        if row == len(self._base):
            self._base.append(0)
            self._rate.append(0)
            if self.rows > self.columns.shape[1]:
                self.columns = resized(self.columns, 3, room(self.rows), fill=-1)
                self._bind()
        return row

    def _bind(self) -> None:
        self.parent: Ints = self.columns[0]
        self.shares: Ints = self.columns[1]
        self.kind: Ints = self.columns[2]
