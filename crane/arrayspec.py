"""Indices of job arrays: `0-99:2%10`, `1,3,7-9` (sbatch(1), --array).

An array of a million indices is a handful of ranges and is never expanded. Tasks are numbered by
*position* (0, 1, 2, ... in the order of their indices), which is what per-task columns are indexed
by; `index_at` and `position_of` go between the two.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from crane.errors import CraneError, ErrorCode, shown
from crane.jobspec import ArraySpec

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_INDEX = (1 << 31) - 2
MAX_TEXT = 1 << 18
MAX_INTERLEAVED = 10_000
"""Most indices of stepped ranges that overlap one another: only those have to be listed."""

Range = tuple[int, int, int]
"""First and last index, both included, and the step between."""

_HINT = "write 0-99, 1,3,7-9, 0-100:5, each perhaps with %LIMIT"


def _bad(text: str, why: str) -> CraneError:
    return CraneError(ErrorCode.BAD_ARRAY, f"invalid array {shown(text)}: {why}", _HINT)


def parse(text: str) -> ArraySpec:
    """An array as written; repeated indices count once. Raises BAD_ARRAY."""
    body, percent, limit = text.partition("%")
    if percent and not _number(limit):
        raise _bad(text, f"the limit {shown(limit)} is not a number")
    return ArraySpec(parse_ranges(body, text), int(limit) if percent else 0)


def parse_ranges(body: str, text: str = "") -> tuple[Range, ...]:
    """Sorted disjoint ranges of an index list; `text` is what an error shows."""
    text = text or body
    if len(body) > MAX_TEXT:
        raise _bad(text, f"longer than {MAX_TEXT} characters")
    return normalise(_range(part, text) for part in body.split(","))


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_INDEX


def _range(part: str, text: str) -> Range:
    span, colon, step_text = part.partition(":")
    low, dash, high = span.partition("-")
    if not _number(low) or (dash and not _number(high)):
        raise _bad(text, f"{shown(part)} is not an index or a range up to {MAX_INDEX}")
    if colon and (not dash or not _number(step_text) or int(step_text) == 0):
        raise _bad(text, f"{shown(part)} has no valid step")
    first, last, step = int(low), int(high or low), int(step_text or 1)
    if last < first:
        raise _bad(text, f"the range {shown(part)} runs backwards")
    return first, last, step


def normalise(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Sorted ranges whose spans do not overlap, for the same indices.

    Plain ranges are merged; stepped ranges that overlap others are listed and joined again, up to
    MAX_INTERLEAVED indices (BAD_ARRAY beyond). The result is its own normal form.
    """
    trimmed: list[Range] = []
    for first, last, step in ranges:
        end = last - (last - first) % step
        if end == first + step and step > 1:  # two indices: shorter, and canonical, as two ranges
            trimmed += [(first, first, 1), (end, end, 1)]
        else:
            trimmed.append((first, end, step if end > first else 1))
    result: list[Range] = []
    cluster: list[Range] = []
    cluster_end = -1
    for item in sorted(trimmed):
        if cluster and item[0] > cluster_end:
            _append(result, _merge(cluster))
            cluster = []
        cluster.append(item)
        cluster_end = max(cluster_end, item[1])
    if cluster:
        _append(result, _merge(cluster))
    return tuple(result)


def _append(result: list[Range], ranges: Iterable[Range]) -> None:
    """Add ranges in order, joining a plain range to a plain neighbour."""
    for first, last, step in ranges:
        if result and step == 1 and result[-1][2] == 1 and result[-1][1] + 1 == first:
            result[-1] = (result[-1][0], last, 1)
        else:
            result.append((first, last, step))


def _merge(cluster: list[Range]) -> list[Range]:
    """Ranges of the union of overlapping spans, given sorted."""
    base, _, step = max(cluster, key=_size)
    if all(
        (first - base) % step == 0 and (stride == step or first == last)
        for first, last, stride in cluster
    ):
        return [(cluster[0][0], max(item[1] for item in cluster), step)]
    plain_end = max(item[1] for item in cluster)
    if all(item[2] == 1 or _covered(item, cluster) for item in cluster):
        return [(cluster[0][0], plain_end, 1)]
    size = sum(_size(item) for item in cluster)
    if size > MAX_INTERLEAVED:
        raise CraneError(
            ErrorCode.BAD_ARRAY,
            f"invalid array: {size} indices in stepped ranges that overlap",
            f"give ranges that do not overlap (up to {MAX_INTERLEAVED} such indices are sorted out)",
        )
    indices = sorted({i for a, b, s in cluster for i in range(a, b + 1, s)})
    runs: list[Range] = []
    _append(runs, ((i, i, 1) for i in indices))
    return runs


def _covered(item: Range, cluster: list[Range]) -> bool:
    """Whether a stepped range lies within one plain range."""
    return any(step == 1 and a <= item[0] and item[1] <= b for a, b, step in cluster)


def _size(item: Range) -> int:
    return (item[1] - item[0]) // item[2] + 1


def count(spec: ArraySpec) -> int:
    """How many tasks the array has."""
    return sum(_size(item) for item in spec.ranges)


def index_at(spec: ArraySpec, position: int) -> int:
    """Index of the task at `position` (0 <= position < count); IndexError outside."""
    rest = position
    for item in spec.ranges:
        size = _size(item)
        if 0 <= rest < size:
            return item[0] + rest * item[2]
        rest -= size
    raise IndexError(position)


def position_of(spec: ArraySpec, index: int) -> int | None:
    """Position of the task of this index, or None if the array has none."""
    before = 0
    for first, last, step in spec.ranges:
        if first <= index <= last:
            steps, rest = divmod(index - first, step)
            return None if rest else before + steps
        before += (last - first) // step + 1
    return None


class Positions:
    """The two mappings for many lookups: O(log ranges) each, where the functions scan the ranges."""

    __slots__ = ("_before", "_firsts", "_ranges", "count")

    def __init__(self, spec: ArraySpec) -> None:
        sizes = [_size(item) for item in spec.ranges]
        self._ranges = spec.ranges
        self._firsts = [item[0] for item in spec.ranges]
        self._before = [0, *accumulate(sizes)][: len(sizes)]
        self.count = sum(sizes)

    def index_at(self, position: int) -> int:
        """Index of the task at `position`; IndexError outside the array."""
        if not 0 <= position < self.count:
            raise IndexError(position)
        place = bisect_right(self._before, position) - 1
        first, _, step = self._ranges[place]
        return first + (position - self._before[place]) * step

    def overlapping(self, low: int, high: int) -> Iterator[tuple[int, Range]]:
        """Ranges with an index between `low` and `high`, each after the position it begins at.
        O(log ranges) to the first.
        """
        for place in range(max(bisect_right(self._firsts, low) - 1, 0), len(self._ranges)):
            found = self._ranges[place]
            if found[0] > high:
                return
            if found[1] >= low:
                yield self._before[place], found

    def position_of(self, index: int) -> int | None:
        """Position of the task of this index, or None."""
        place = bisect_right(self._firsts, index) - 1
        if place < 0:
            return None
        first, last, step = self._ranges[place]
        steps, rest = divmod(index - first, step)
        return None if index > last or rest else self._before[place] + steps


def indices(spec: ArraySpec) -> Iterator[int]:
    """Every index in order, lazily."""
    for first, last, step in spec.ranges:
        yield from range(first, last + 1, step)


def first(spec: ArraySpec) -> int:
    """Lowest index (SLURM_ARRAY_TASK_MIN)."""
    return spec.ranges[0][0]


def last(spec: ArraySpec) -> int:
    """Highest index (SLURM_ARRAY_TASK_MAX)."""
    return spec.ranges[-1][1]


def step(spec: ArraySpec) -> int:
    """Step of an array of one range, else 1 (SLURM_ARRAY_TASK_STEP)."""
    return spec.ranges[0][2] if len(spec.ranges) == 1 else 1


def format_ranges(ranges: Iterable[Range]) -> str:
    """`1,3,7-9,20-40:5`."""
    parts = []
    for low, high, stride in ranges:
        if low == high:
            parts.append(str(low))
        else:
            parts.append(f"{low}-{high}" + (f":{stride}" if stride > 1 else ""))
    return ",".join(parts)


def format_array(spec: ArraySpec) -> str:
    """The array as one would write it: `0-99:2%10`."""
    return format_ranges(spec.ranges) + (f"%{spec.limit}" if spec.limit else "")


def compress_indices(values: Iterable[int]) -> str:
    """`3-9,12` for indices in rising order, as in the id of a row that stands for waiting tasks."""
    runs: list[Range] = []
    _append(runs, ((value, value, 1) for value in values))
    return format_ranges(runs)
