"""Gangs by topology: as few leaf switches as can be, below the lowest switch, the least left over.

Candidates come in order of preference; the gang is `low` to `high` nodes, or as many of them as
`ntasks` need. In this order: the fewest leaf switches; the lowest common switch that reaches so
few; below it the leaves with the most candidates, all of which are taken, and last the leaf that
has the least left over beside the rest. Equals go by preference. The switches a user asks for
(`--switches=n@wait`) are a bound that holds while he is ready to wait.

Where a bound on nodes binds tasks (`-N 2 -n 6`), the gang is so chosen from nodes that hold an
equal part; unless the widest nodes below the lowest switch that has enough span fewer leaves. Only
there may a gang on fewer leaf switches, or below a lower one, be missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sched_core import jit
from sched_core.columns import Ints
from sched_core.gangs import C_LEAF, C_NODE, C_TASKS, G_NODE, G_TASKS, NODE_ROWS, WORK_ROWS, Site
from sched_core.leaves import SWITCHES, TOO_FEW, place_by_topology
from sched_core.switches import TopologyTable

__all__ = ["SWITCHES", "TOO_FEW", "Gang", "place", "place_by_topology", "site_of"]


@dataclass(frozen=True, slots=True)
class Gang:
    """What a placement by topology gives."""

    outcome: int
    """Nodes of the gang; or TOO_FEW, or SWITCHES: not now."""
    node: Ints
    """[nodes] rows, leaf after leaf: neighbours in rank are neighbours in the fabric."""
    tasks: Ints
    """[nodes]"""


def site_of(table: TopologyTable, candidates: Ints, tasks: Ints) -> Site:
    """Candidates (node rows in order of preference, tasks each can host) and scratch for them."""
    tree = table.tree()
    count, switches = len(candidates), tree.shape[1]
    nodes = np.zeros((NODE_ROWS, max(count, 1)), np.int64)
    leaf = table.nodes.switch[candidates]
    nodes[C_NODE, :count] = candidates
    nodes[C_TASKS, :count] = tasks
    nodes[C_LEAF, :count] = np.where(leaf < 0, switches - 2, leaf)
    work = np.zeros((WORK_ROWS, switches), np.int64)
    keys, order, spare = np.zeros((3, max(count, switches)), np.int64)
    return Site(tree, work, nodes, keys, order, spare)


def place(
    table: TopologyTable,
    candidates: Ints,
    tasks: Ints,
    *,
    low: int = 1,
    high: int = 0,
    ntasks: int = 0,
    switches: int = 0,
    wait_until: int = 0,
    now: int = 0,
    adjacent: bool = False,
) -> Gang:
    """Choose a gang from candidate node rows in order of preference, with the tasks each can host.

    `low` to `high` nodes (0: as many as `ntasks`, or `low`), `ntasks` over them. `switches` leaf
    switches at most until `wait_until` (s); from then on as few as can be. One kernel call,
    changes no table.
    """
    jit.compile_kernels()
    site = site_of(table, candidates, tasks)
    most = switches if now < wait_until else 0
    high = high or max(low, ntasks)
    found = place_by_topology(site, len(candidates), low, high, ntasks, most, int(adjacent))
    size = max(found, 0)
    return Gang(found, site.nodes[G_NODE, :size], site.nodes[G_TASKS, :size])
