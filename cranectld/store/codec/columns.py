"""Rows as columns: how plural events are stored, at a small cost per row.

A column of n rows is n values; one value, if all are equal; none, if all are zero. What a column
holds is said by its kind: numbers as they are, texts as indices into the batch's table, ids and
instants as differences to the row before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, repeat
from operator import attrgetter, sub
from typing import Any

from crane.errors import CraneError, ErrorCode
from crane.jobspec import JobSpec
from crane.log.v1 import log_pb2
from cranectld.store.codec.mapper import mapper_of

SPECS = mapper_of(JobSpec, log_pb2.JobSpec.DESCRIPTOR)


class Tables:
    """Texts and specs of one batch, each stored once; rows refer to them by index."""

    def __init__(self, base_time: int = 0, shared: Sequence[JobSpec] = ()) -> None:
        """`base_time`: what instants are relative to; `shared`: specs that have indices already."""
        self.base_time = base_time
        self._texts: dict[str, int] = {"": 0}
        self._specs: dict[JobSpec, int] = {}
        self._spec_ids: dict[int, int] = {}
        for index, spec in enumerate(shared):
            self._specs[spec] = self._spec_ids[id(spec)] = index
        self._shared = len(shared)

    def text(self, text: str) -> int:
        """Index of a text."""
        return self._texts.setdefault(text, len(self._texts))

    def spec(self, spec: JobSpec) -> int:
        """Index of a spec. Interned specs are found by identity: hashing one costs microseconds."""
        index = self._spec_ids.get(id(spec))
        if index is None:
            index = self._specs.setdefault(spec, len(self._specs))
            self._spec_ids[id(spec)] = index
        return index

    def write(self, message: Any) -> None:
        """Store the tables in a `Batch` or `JobPart`."""
        texts = iter(self._texts)
        next(texts)
        message.strings.extend(texts)
        specs = list(self._specs)[self._shared :]
        for spec in specs:
            SPECS.fill(message.specs.add(), spec)


class ReadTables:
    """The tables of a batch that is read."""

    def __init__(self, message: Any, base_time: int = 0, shared: Sequence[JobSpec] = ()) -> None:
        self.base_time = base_time
        self.texts: list[str] = ["", *message.strings]
        self.specs: list[JobSpec] = [*shared, *map(SPECS.parse, message.specs)]


class Kind(IntEnum):
    """What the values of a column stand for."""

    PLAIN = 1
    DELTA = 2
    TIME = 3
    TEXT = 4


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the message's field, the rows' attribute (may be dotted), what it holds."""

    field: str
    attribute: str
    kind: Kind = Kind.PLAIN
    member: type[IntEnum] | None = None


def compress(values: list[Any]) -> Iterable[Any]:
    """The stored form of a column."""
    if not values:
        return values
    first = values[0]
    if values.count(first) == len(values):
        return (first,) if first else ()
    return values


def expand(stored: Any, count: int) -> Iterable[Any]:
    """The column again. Raises CraneError STORE_CORRUPT if its length does not fit."""
    held = len(stored)
    if held == count:
        return stored  # type: ignore[no-any-return]
    if held == 0:
        return repeat(0, count)
    if held == 1:
        return repeat(stored[0], count)
    raise CraneError(ErrorCode.STORE_CORRUPT, f"a column of the log has {held} of {count} values")


def write_column(message: Any, field: str, values: list[Any]) -> None:
    """Store a column of plain values."""
    getattr(message, field).extend(compress(values))


def deltas(values: list[int], base: int) -> list[int]:
    """Each value minus the one before it; `base` stands before the first."""
    return list(map(sub, values, [base, *values[:-1]]))


def undelta(stored: Iterable[int], base: int) -> Iterable[int]:
    """Inverse of `deltas`."""
    sums = accumulate(stored, initial=base)
    next(sums)
    return sums


class Rows:
    """Writes rows of one class as columns and makes them again."""

    def __init__(self, make: Callable[..., Any], columns: Sequence[Column]) -> None:
        """`make` is called with one value per column, in order."""
        self._make = make
        self._columns = [(c, attrgetter(c.attribute), _members(c)) for c in columns]

    def write(self, message: Any, rows: Sequence[Any], tables: Tables) -> None:
        """Fill a message's columns."""
        for column, get, _ in self._columns:
            values = list(map(get, rows))
            if column.kind is Kind.TEXT:
                values = list(map(tables.text, values))
            elif column.kind is Kind.DELTA:
                values = deltas(values, 0)
            elif column.kind is Kind.TIME:
                values = deltas(values, tables.base_time)
            getattr(message, column.field).extend(compress(values))

    def read_columns(self, message: Any, count: int, tables: ReadTables) -> list[Iterable[Any]]:
        """Every column in full, in the order they were declared."""
        out: list[Iterable[Any]] = []
        for column, _, members in self._columns:
            values = expand(getattr(message, column.field), count)
            if column.kind is Kind.TEXT:
                values = map(tables.texts.__getitem__, values)
            elif column.kind is Kind.DELTA:
                values = undelta(values, 0)
            elif column.kind is Kind.TIME:
                values = undelta(values, tables.base_time)
            elif members is not None:
                values = map(members.__getitem__, values)
            out.append(values)
        return out

    def read(self, message: Any, count: int, tables: ReadTables) -> list[Any]:
        """The rows again."""
        return list(map(self._make, *self.read_columns(message, count, tables)))


def _members(column: Column) -> dict[int, IntEnum] | None:
    return {int(m): m for m in column.member} if column.member is not None else None
