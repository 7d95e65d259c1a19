"""Switches in a pass: the tree and its scratch for the kernels, and whose patience is over."""

from __future__ import annotations

import numpy as np

from sched_core import views
from sched_core.columns import Matrix
from sched_core.gangs import TREE_ROWS, WORK_ROWS
from sched_core.jobs import JobTable
from sched_core.shapes import ShapeTable
from sched_core.switches import TopologyTable
from sched_core.views import Cluster, Requests, Scratch


def relaxed(jobs: JobTable, now: int) -> Matrix:
    """Columns of the records; those that have waited for switches long enough ask for none more.

    The table's own if there are none. O(records) if any shape asks for switches.
    """
    shapes = jobs.shapes
    if not shapes.switches[: shapes.rows].any():
        return jobs.columns
    row = np.maximum(jobs.shape, 0)
    until = np.maximum(jobs.eligible, jobs.begin) + shapes.switch_wait[row]
    over = (shapes.switches[row] > 0) & (jobs.eligible >= 0) & (until <= now)
    if not over.any():
        return jobs.columns
    columns = jobs.columns.copy()
    columns[views.J_SHAPE] = np.where(over, shapes.relaxed[row], jobs.shape)
    return columns


def add_switches(
    cluster: Cluster,
    requests: Requests,
    scratch: Scratch,
    shapes: ShapeTable,
    topology: TopologyTable,
    fewest: bool,
) -> tuple[Cluster, Scratch]:
    """Views of a pass in which gangs lie on few switches: those that ask for it, or (`fewest`) all.

    What asks for one node is on one switch anyway. O(shapes + nodes + switches).
    """
    tree = topology.tree()
    n, switches = cluster.nodes.shape[1], tree.shape[1]
    leaf = topology.nodes.switch[:n]
    cluster.nodes[views.LEAF] = np.where(leaf < 0, switches - 2, leaf)
    fabric = np.zeros((TREE_ROWS + WORK_ROWS, switches), np.int64)
    fabric[:TREE_ROWS] = tree
    s = requests.needs.shape[1]
    near = requests.shapes[views.NEAR, :s]
    near[:] = shapes.switches[:s]
    near[(near == 0) & fewest] = views.FEWEST
    near[shapes.high[:s] == 1] = 0
    keys = np.zeros(max(n, switches), np.int64)
    return cluster._replace(fabric=fabric), scratch._replace(keys=keys)
