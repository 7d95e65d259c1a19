"""Numbers for names: dimensions of resources, and names that become bits or rows.

A number, once given, is never given to another name, so columns that hold numbers stay right when
nodes come and go. Two registries may number the same names differently: compare by name.
"""

from __future__ import annotations

CPU = 0
"""Dimension 0: CPU in thousandths."""
MEMORY = 1
"""Dimension 1: memory in MiB."""

GresAmount = tuple[str, str, int]
"""Generic resource: name, type (empty: any) and count."""


class Names:
    """A registry of names: `number` gives 0, 1, 2, ... in order of first mention."""

    __slots__ = ("_numbers", "_texts")

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []

    def __len__(self) -> int:
        return len(self._texts)

    def copy(self) -> Names:
        """The same names with the same numbers, to be added to by itself. O(names)."""
        out = Names()
        out._numbers.update(self._numbers)
        out._texts.extend(self._texts)
        return out

    def number(self, text: str) -> int:
        """Number of a name, given now if it has none yet. O(1)."""
        known = self._numbers.get(text)
        if known is not None:
            return known
        self._numbers[text] = len(self._texts)
        self._texts.append(text)
        return len(self._texts) - 1

    def find(self, text: str) -> int:
        """Number of a name, or -1 if it was never mentioned. O(1)."""
        return self._numbers.get(text, -1)

    def text(self, number: int) -> str:
        """Name that has this number."""
        return self._texts[number]


class Dimensions:
    """Resource dimensions: 0 CPU (thousandths), 1 memory (MiB), then generic resources.

    Every generic resource name has one *total* dimension (`gres/gpu`) and one dimension per type
    (`gres/gpu:a100`). A node of two A100 and two V100 offers 4 in the total and 2 in each type. A
    typed request takes from both; an untyped one asks for the total only, and which types it takes
    is settled at placement, so that in capacity, free and taken amounts alike
    `total = sum of its types + devices without a type`. That makes "any type" a plain comparison.
    """

    __slots__ = ("_names", "parent")

    def __init__(self) -> None:
        self._names = Names()
        self._names.number("cpu")
        self._names.number("memory")
        self.parent: list[int] = [-1, -1]
        """Total dimension of a typed dimension; -1 for a total and for CPU and memory."""

    def __len__(self) -> int:
        return len(self._names)

    @property
    def width(self) -> int:
        """Columns that tables keep: a power of two, at least 4, not below the number in use."""
        return max(4, 1 << (len(self._names) - 1).bit_length())

    def name(self, dimension: int) -> str:
        """Name of a dimension: `cpu`, `memory`, `gres/NAME` or `gres/NAME:TYPE`."""
        return self._names.text(dimension)

    def gres(self, name: str, kind: str = "") -> tuple[int, int]:
        """Total and typed dimension of a generic resource (-1: no type), registered if new."""
        total = self._register(f"gres/{name}", -1)
        return total, self._register(f"gres/{name}:{kind}", total) if kind else -1

    def find_gres(self, name: str, kind: str = "") -> tuple[int, int]:
        """Like `gres`, without registering: -1 for what no table knows."""
        total = self._names.find(f"gres/{name}")
        return total, self._names.find(f"gres/{name}:{kind}") if kind else -1

    def vector(self, cpu: int, memory: int, gres: tuple[GresAmount, ...] = ()) -> list[int]:
        """Amounts by dimension (length `width`); CPU in thousandths, memory in MiB."""
        pairs = [(self.gres(name, kind), count) for name, kind, count in gres]
        amounts = [0] * self.width
        amounts[CPU] = cpu
        amounts[MEMORY] = memory
        for (total, typed), count in pairs:
            amounts[total] += count
            if typed >= 0:
                amounts[typed] += count
        return amounts

    def named(self, amounts: list[int]) -> dict[str, int]:
        """The amounts that are not zero, by name of dimension."""
        return {self.name(i): amount for i, amount in enumerate(amounts) if amount}

    def _register(self, name: str, parent: int) -> int:
        number = self._names.number(name)
        if number == len(self.parent):
            self.parent.append(parent)
        return number
