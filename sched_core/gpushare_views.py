"""Columns of GPU sharing: nodes with devices that may be shared, and types of pods.

CPU in thousandths, memory in MiB, GPUs in thousandths of a device. `n` counts nodes, `S` devices of
the node that has most, `t` types of pods, `k` popular types.
"""

from __future__ import annotations

from typing import NamedTuple

from sched_core.columns import Matrix, Vector

WHOLE = 1000
"""Thousandths of a device that is entirely free."""


class Devices(NamedTuple):
    """Nodes and what is free of each device; a placement changes them."""

    nodes: Matrix
    """[columns, n], see below."""
    gpus: Matrix
    """[n, S] free thousandths, 0 where a node has no such device."""
    after: Vector
    """[S] scratch: free thousandths of each device of a node after a placement."""


# Columns of `nodes`. The first five are the caller's, the others are zero at first.
CPU = 0
"""Free thousandths."""
MEMORY = 1
"""Free MiB."""
GPUS = 2
"""Devices of the node, 0 to S."""
MODEL = 3
"""Number of the model of its devices, 0 to 62."""
KINDS = 4
"""Bit set of the kinds of pods it has received (GPU clustering)."""
VERSION = 5
"""Placements it has received; what is remembered of an older version is computed anew."""
UNUSABLE = 6
"""Idle thousandths that popular pods cannot use, times their pods."""
UNUSABLE_AT = 7
"""1 + the version that UNUSABLE was computed for."""
NODE_COLUMNS = 8


class Pods(NamedTuple):
    """Types of pods, and which of them are popular."""

    types: Matrix
    """[columns, t], see below."""
    popular: Matrix
    """[columns, k]: the same columns and WEIGHT; MEMORY is not heeded."""
    levels: Vector
    """[99] ascending: the least decrease of UNUSABLE that scores 1, 2, ... 99 (`score_levels`)."""


# Columns of `types`, the first two as of nodes.
COUNT = 2
"""Devices; 0: none."""
SHARE = 3
"""Thousandths of each device, 1 to 1000; 0 where COUNT is 0. Below 1000 COUNT is at most 1."""
MODELS = 4
"""Bit set of the models allowed; -1: any."""
TYPE_COLUMNS = 5
WEIGHT = 5
"""Pods of a popular type."""
POPULAR_COLUMNS = 6


# What the scan remembers, `scores` [layers, t, n]: a node is scored anew only after it changed.
SCORE = 0
DEVICE = 1
"""The device of a shared pod; ANY: the scan did not choose; NONE: the pod does not fit."""
STAMP = 2
"""1 + the version of the node that both were computed for."""
SCORE_LAYERS = 3

ANY = -1
NONE = -2

# Policies.
RANDOM = 0
BEST_FIT = 1
DOT_PRODUCT = 2
GPU_PACKING = 3
GPU_CLUSTERING = 4
FGD = 5
FGD_TRUNCATED = 6

# Rows of what is written per pod.
PLACED_NODE = 0
"""-1: dropped."""
PLACED_MASK = 1
"""Bit set of its devices."""
PLACED_ROWS = 2
