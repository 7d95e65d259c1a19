"""Sorting inside kernels: numpy's sorts would allocate."""

from __future__ import annotations

from sched_core.columns import Vector
from sched_core.jit import kernel


@kernel
def sort_rows(keys: Vector, order: Vector, spare: Vector, count: int) -> None:
    """Sort `order[:count]` by rising `keys[row]`; equals keep their places. `spare` is scratch.

    Bottom-up merge sort, O(n log n); O(n) where the rows are in order already.
    """
    width = 1
    while width < count:
        for low in range(0, count - width, 2 * width):
            middle, high = low + width, min(low + 2 * width, count)
            if keys[order[middle - 1]] <= keys[order[middle]]:
                continue
            left, right = low, middle
            for at in range(low, high):
                if right >= high or (left < middle and keys[order[left]] <= keys[order[right]]):
                    spare[at] = order[left]
                    left += 1
                else:
                    spare[at] = order[right]
                    right += 1
            for at in range(low, high):
                order[at] = spare[at]
        width *= 2
