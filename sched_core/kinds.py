"""Kinds of nodes: those that no request can tell apart when they are empty.

A cluster has few: a hundred thousand nodes of six makes in ten partitions with twenty features are
less than a thousand kinds. What depends on configuration alone (who could host a shape at all) is
therefore worked out per kind and not per node.
"""

from __future__ import annotations

import numpy as np

from sched_core.columns import Ints
from sched_core.nodes import NodeTable

_MIX = np.uint64(0x9E3779B97F4A7C15)


def kinds(nodes: NodeTable, features: Ints) -> tuple[Ints, Ints, Ints]:
    """Kind of every node row, and of every kind its first row and how many rows it has.

    Rows are alike if use, capacity, partitions and those features are equal whose bits are set in
    `features` (words): the ones that some request names. O(n log n), a few numpy calls.
    """
    n = nodes.rows
    columns = [nodes.use[:n]]
    columns += list(nodes.capacity[:n, : len(nodes.dims)].T)
    columns += list(nodes.partitions[:n].T)
    columns += list((nodes.features[:n] & features).T)
    return distinct(columns)


def distinct(columns: list[Ints]) -> tuple[Ints, Ints, Ints]:
    """Number the distinct rows of some columns: of each row its number, first places, how often."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * _MIX
        mixed ^= mixed >> np.uint64(29)
    found = np.unique(mixed, return_index=True, return_inverse=True, return_counts=True)
    if any((column != column[found[1]][found[2]]).any() for column in columns):  # two mixed alike
        whole = np.stack(columns, axis=1)
        found = np.unique(whole, axis=0, return_index=True, return_inverse=True, return_counts=True)
    _, first, number, count = found
    return number.reshape(-1).astype(np.int64, copy=False), first, count
