"""Traces in the Standard Workload Format (Chapin et al. 1999), plain or gzip.

Eighteen columns a job, separated by blanks, `-1` for unknown; lines that begin with `;` are the
header. Of the columns these are kept: 1 job, 2 submit, 3 wait, 4 run, 5 processors allocated, 8
processors requested, 9 time requested, 12 user.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cranectld.sim.csim.errors import CsimError
from sched_core.columns import Ints

FIELDS = 18
_GZIP = b"\x1f\x8b"
_VALUE_MAX = 1 << 48
_NAMES = {
    0: "job",
    1: "submit",
    2: "wait",
    3: "run time",
    4: "processors",
    7: "requested",
    8: "limit",
    11: "user",
}


@dataclass(frozen=True, slots=True)
class Trace:
    """What a file says, unfiltered: `n` jobs in the order of the file; seconds, -1 unknown."""

    path: str
    header: dict[str, str]
    """Fields of the header by name; the first of a name counts."""
    job_id: Ints
    submit: Ints
    wait: Ints
    run: Ints
    allocated: Ints
    """Processors."""
    requested: Ints
    """Processors."""
    limit: Ints
    """Time requested."""
    user: Ints
    """A number."""

    @property
    def max_procs(self) -> int:
        """Size of the machine by the header (MaxProcs, else MaxNodes); 0: not said."""
        for name in ("MaxProcs", "MaxNodes"):
            digits = self.header.get(name, "").split(" ")[0]
            if digits.isascii() and digits.isdigit() and int(digits) > 0:
                return int(digits)
        return 0


def read_swf(path: str) -> Trace:
    """Read a trace. Raises CsimError, which names the line, for what is not one."""
    header: dict[str, str] = {}
    rows: list[tuple[int, ...]] = []
    for number, line in enumerate(_lines(path), 1):
        text = line.strip()
        if text.startswith(";"):
            name, colon, value = text.lstrip("; ").partition(":")
            if colon:
                header.setdefault(name.strip(), value.strip())
        elif text:
            rows.append(_row(path, number, text))
    if not rows:
        raise CsimError(f"{path}: no job in it; a trace has {FIELDS} columns per job (SWF)")
    return Trace(path, header, *np.array(rows, np.int64).T)


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == _GZIP
        # A header may hold names in any encoding; what counts is ASCII.
        if packed:
            with gzip.open(path, "rt", encoding="latin-1") as lines:
                yield from lines
        else:
            with open(path, encoding="latin-1") as lines:
                yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CsimError(f"{path}: damaged gzip file ({error}); copy it again") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CsimError(f"{path}: {reason}; give a trace in the SWF") from error


def _row(path: str, number: int, text: str) -> tuple[int, ...]:
    fields = text.split()
    if len(fields) < FIELDS:
        raise CsimError(
            f"{path}: line {number} has {len(fields)} columns, not {FIELDS} as every job of the SWF"
        )
    try:
        return tuple(_number(fields[column], column) for column in _NAMES)
    except ValueError as error:
        raise CsimError(f"{path}: line {number}: {error}; correct or remove the line") from None


def _number(text: str, column: int) -> int:
    """An integer; durations given as fractions are rounded up, instants down."""
    try:
        value = int(text)
    except ValueError:
        try:
            value = (math.floor if column == 1 else math.ceil)(float(text))
        except (ValueError, OverflowError):
            raise ValueError(f"{_NAMES[column]} {text[:40]!r} is not a number") from None
    if not -_VALUE_MAX < value < _VALUE_MAX:
        raise ValueError(f"{_NAMES[column]} {text[:40]!r} is out of range")
    return value
