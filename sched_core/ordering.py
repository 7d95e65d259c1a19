"""Orders of rows that are kept and corrected, since a sort for every pass costs more than the pass."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

import numpy as np

from sched_core.columns import Ints

FEW = 512
"""Rows changed since the last look: with more, sorting anew is as quick."""


class Order:
    """Rows of a table in some order, which may be asked for after every change.

    A row that came, went or changed its key is `touched`. `rows` then takes the touched ones out
    and puts those that live in where they belong: O(rows) copying and O(log rows) looks at keys for
    each, or one sort if there are many.
    """

    def __init__(self, key: Callable[[int], tuple[int, ...]], rows: Ints | None = None) -> None:
        """`key(row)` must tell all rows that live apart. `rows`: the order, where it is known."""
        self._key = key
        self._rows = rows
        self._touched: set[int] = set()

    def touch(self, rows: Iterable[int]) -> None:
        """These rows came, went, or have another key. O(1) each."""
        if self._rows is not None:
            self._touched.update(rows)
            if len(self._touched) > FEW:
                self.forget()

    def forget(self) -> None:
        """So much has changed that the order is to be sorted anew."""
        self._rows = None
        self._touched.clear()

    def rows(
        self, alive: Callable[[Ints], np.typing.NDArray[np.bool_]], sort: Callable[[], Ints]
    ) -> Ints:
        """The order now: `alive(rows)` tells which rows live, `sort()` makes it from nothing.

        The array is the caller's to read and is never written to again.
        """
        if self._rows is None:
            self._rows = sort()
        elif self._touched:
            touched = np.array(sorted(self._touched), np.int64)
            gone = np.zeros(1 + max(int(self._rows.max(initial=0)), int(touched[-1])), bool)
            gone[touched] = True
            kept = self._rows[~gone[self._rows]]
            fresh = sorted(touched[alive(touched)].tolist(), key=self._key)
            places = [bisect_left(kept, self._key(row), key=self._key) for row in fresh]
            self._rows = np.insert(kept, places, fresh).astype(np.int64, copy=False)
        self._touched.clear()
        return self._rows
