"""What a pass is told of licences: who needs which, and what is free of each over time."""

from __future__ import annotations

import numpy as np

from sched_core import views
from sched_core.columns import Ints
from sched_core.jobs import JobTable
from sched_core.licences import HELD_COUNT, HELD_END, HELD_LICENCE
from sched_core.shapes import ShapeTable


def licence_columns(
    shapes: ShapeTable, jobs: JobTable, order: Ints, now: int, cuts: int
) -> tuple[Ints, Ints, Ints]:
    """`licence_need`, `licence_profile` and `licence_blocks` of `views.Queue` for a pass at `now`.

    Without a shape that asks for any, next to nothing is made. `cuts`: 1 if every waiting record may
    be promised some (conservative), 0 if only one in each partition. O(records + held x log held).
    """
    if not shapes.licensed:
        return np.zeros((shapes.rows, 1), np.int64), *np.zeros((2, 2, 0), np.int64)
    table = shapes.licences
    left, count = table.left(), len(table)
    need = np.zeros((shapes.rows, 1 + count), np.int64)
    for row, wanted in shapes.licensed.items():
        need[row, views.LICENCE_ANY] = 1
        for licence, number in wanted:
            need[row, 1 + licence] = number
    held = table.holdings()
    room = _steps(
        need, left, held, jobs, order, cuts * len(order), len(shapes.nodes.partition_names)
    )
    blocks = np.zeros((2, count), np.int64)
    np.cumsum(room[:-1], out=blocks[views.LICENCE_BLOCK, 1:])
    profile = np.zeros((2, int(room.sum())), np.int64)
    bounds = np.searchsorted(held[HELD_LICENCE], np.arange(count + 1))
    for licence in range(count):
        mine = held[:, bounds[licence] : bounds[licence + 1]]
        ends, first = np.unique(np.maximum(mine[HELD_END], now + 1), return_index=True)
        back = np.add.reduceat(mine[HELD_COUNT], first) if len(first) else first
        at = int(blocks[views.LICENCE_BLOCK, licence])
        steps = slice(at, at + 1 + len(ends))
        profile[views.LICENCE_AT, steps] = np.concatenate(([now], ends))
        profile[views.LICENCE_LEFT, steps] = left[licence] + np.concatenate(([0], np.cumsum(back)))
        blocks[views.LICENCE_LENGTH, licence] = 1 + len(ends)
    return need, profile, blocks


def _steps(
    need: Ints, left: Ints, held: Ints, jobs: JobTable, order: Ints, promised: int, partitions: int
) -> Ints:
    """Most steps that the profile of each licence can get in a pass.

    One at first and one for each release; one for each start, of which every one takes at least one
    licence; two for each promise of this pass, and of the last.
    """
    records = np.bincount(jobs.shape[order], minlength=len(need))
    tasks = np.bincount(jobs.shape[order], jobs.count[order], minlength=len(need))
    wanted = need[:, 1:] > 0
    starts = np.minimum(np.maximum(left, 0), tasks.astype(np.int64) @ wanted)
    promises = 2 * np.minimum(records @ wanted, promised) + partitions
    releases = np.bincount(held[HELD_LICENCE], minlength=len(left))
    steps: Ints = 2 + releases + starts + 2 * promises
    return steps.astype(np.int64, copy=False)
