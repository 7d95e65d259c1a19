"""Choices that hold for a gang as a whole: `[rack1|rack2]`, all its nodes of one of the racks.

A shape's *places* are its partitions, each split by its alternatives: a place is a partition, or
the nodes of one that have the features of one alternative. Passes try places in order and look no
further into them, so that a gang never mixes alternatives. Heads, blocks and counts stay those of
partitions: the partition of a place is `place % span`, `span` being the bits of one set of
partitions (`place_span`).
"""

from __future__ import annotations

from copy import copy

import numpy as np

from sched_core.columns import BITS, Ints
from sched_core.names import Names

Conjunction = tuple[str, ...]


class AlternativeTable:
    """Numbers of alternatives (names of features, all of them meant) as long as a shape uses them.

    Numbers start at 1: 0 is no condition. `version` rises when a number gets another meaning.
    """

    def __init__(self, feature_names: Names) -> None:
        self._features = feature_names
        self._number: dict[Conjunction, int] = {}
        self._bits: list[list[int]] = [[]]
        self._users: list[int] = [0]
        self._spare: list[int] = []
        self.version = 0

    def overlaid(self) -> AlternativeTable:
        """A copy for more users without a trace here. O(numbers)."""
        out = copy(self)
        out._number, out._bits = dict(self._number), list(self._bits)  # noqa: SLF001
        out._users, out._spare = list(self._users), list(self._spare)  # noqa: SLF001
        return out

    def __len__(self) -> int:
        """Numbers given so far, spare ones and 0 included."""
        return len(self._bits)

    def take(self, names: Conjunction) -> int:
        """The number of an alternative, for one more user. O(names)."""
        number = self._number.get(names, 0)
        if not number:
            number = self._spare.pop() if self._spare else len(self._bits)
            if number == len(self._bits):
                self._bits.append([])
                self._users.append(0)
            self._bits[number] = [self._features.number(name) for name in names]
            self._number[names] = number
            self.version += 1
        self._users[number] += 1
        return number

    def give_back(self, names: Conjunction) -> None:
        """One user fewer; without any the number is free for another meaning."""
        number = self._number[names]
        self._users[number] -= 1
        if not self._users[number]:
            del self._number[names]
            self._spare.append(number)

    def named(self, words: int) -> Ints:
        """[words] bits of all features that alternatives in use name."""
        out = np.zeros(words, np.int64)
        for number in self._number.values():
            for bit in self._bits[number]:
                out[bit // BITS] |= 1 << (bit % BITS)
        return out

    def members(self, partitions: Ints, features: Ints) -> Ints:
        """[n, words x numbers]: the partitions of every node, and again for each alternative.

        Words of an alternative are zero for nodes that lack one of its features. O(n x numbers).
        """
        if not self._number:
            return partitions
        having = [np.ones(len(features), bool)]
        for bits in self._bits[1:]:
            all_of = np.ones(len(features), bool)
            for bit in bits:
                all_of &= (features[:, bit // BITS] >> (bit % BITS)) & 1 == 1
            having.append(all_of)
        return np.hstack([np.where(has[:, None], partitions, 0) for has in having])


def place_span(partitions: Ints) -> int:
    """Bits of one set of partitions: what the numbers of a shape's places are taken modulo."""
    return int(partitions.shape[1]) * BITS


def places(parts: Ints, numbers: Ints, span: int) -> Ints:
    """[s, most] places of every shape, partition by partition, -1 padding. O(s x places).

    `parts[s, P]` partitions, `numbers[s, A]` alternatives (0: no condition), both padded with -1.
    """
    if not (numbers > 0).any():
        return parts
    pairs = parts[:, :, None] + numbers[:, None, :] * span
    pairs[(parts[:, :, None] < 0) | (numbers[:, None, :] < 0)] = -1
    out = pairs.reshape(len(parts), -1)
    order = np.argsort(out < 0, axis=1, kind="stable")
    return np.ascontiguousarray(np.take_along_axis(out, order, axis=1))
