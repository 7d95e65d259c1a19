"""Growth of columns: arrays with room to spare, so that adding a row is O(1) amortised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
"""Every column is int64: one element type keeps the kernels at one signature each."""

Vector = NDArray[np.int64]
"""C-contiguous, one axis; Matrix has two, Cube three. Kernels take their signatures from these."""
Matrix = NDArray[np.int64]
Cube = NDArray[np.int64]
FloatMatrix = NDArray[np.float64]
"""C-contiguous, two axes: the only floats a kernel is given."""

Narrow = NDArray[np.int32]
"""C-contiguous, two axes, for what is written for every record: codes, and counts of nodes."""

BITS = 63
"""Bits used per word of a bit set: the sign bit stays clear, so words never mix with unsigned."""


def resized(array: Ints, *shape: int, fill: int = 0) -> Ints:
    """A copy of `array` in a new shape, every axis at least as long; new cells hold `fill`."""
    assert all(new >= old for new, old in zip(shape, array.shape, strict=True))
    out = np.full(shape, fill, np.int64)
    out[tuple(slice(length) for length in array.shape)] = array
    return out


def room(rows: int) -> int:
    """Capacity to allocate so that `rows` rows fit: a power of two, at least 16."""
    return max(16, 1 << max(0, rows - 1).bit_length())


def words(bits: int) -> int:
    """Words of a bit set that can hold bit numbers below `bits`; at least 1."""
    return max(1, -(-bits // BITS))


def bit_row(numbers: list[int], width: int) -> list[int]:
    """Words (length `width`) with the given bits set."""
    row = [0] * width
    for number in numbers:
        row[number // BITS] |= 1 << (number % BITS)
    return row


def set_bits(row: list[int]) -> list[int]:
    """Numbers of the bits set in a row of words, ascending."""
    return [w * BITS + b for w, word in enumerate(row) for b in range(BITS) if word >> b & 1]
