"""Gangs of a pass that are to lie close together: chosen by switches before they are by preference.

Required nodes are what the user chose: then switches are not looked at.
"""

from __future__ import annotations

from sched_core.gangs import C_LEAF, C_NODE, C_TASKS, G_NODE, G_TASKS, NODE_ROWS, TREE_ROWS, Site
from sched_core.jit import kernel
from sched_core.leaves import place_by_topology
from sched_core.views import (
    CAND_NODE,
    CAND_TASKS,
    FEWEST,
    LEAF,
    LOW,
    NEAR,
    NREQUIRED,
    NTASKS,
    SITE,
    SITE_ORDER,
    SITE_SPARE,
    Cluster,
    Requests,
    Scratch,
)


@kernel
def near(
    cluster: Cluster, req: Requests, scratch: Scratch, shape: int, found: int, most: int
) -> int:
    """Leave of the candidates a gang of at most `most` nodes on few leaf switches; gives its size.

    0: there is none on as few switches as the shape asks for, or none at all. Of a shape that asks
    for nothing of the kind all are left. O(candidates x (depth + log candidates)).
    """
    nodes = cluster.nodes
    shapes = req.shapes
    bound, low = shapes[NEAR, shape], shapes[LOW, shape]
    if bound == 0 or shapes[NREQUIRED, shape] > 0 or low > most:
        return found
    fabric = cluster.fabric
    site = Site(
        fabric[:TREE_ROWS],
        fabric[TREE_ROWS:],
        nodes[SITE : SITE + NODE_ROWS],
        scratch.keys,
        nodes[SITE_ORDER],
        nodes[SITE_SPARE],
    )
    for i in range(found):
        site.nodes[C_NODE, i] = nodes[CAND_NODE, i]
        site.nodes[C_TASKS, i] = nodes[CAND_TASKS, i]
        site.nodes[C_LEAF, i] = nodes[LEAF, nodes[CAND_NODE, i]]
    limit = bound if bound < FEWEST else 0
    size = place_by_topology(site, found, low, most, shapes[NTASKS, shape], limit, 0)
    for i in range(size):
        nodes[CAND_NODE, i] = site.nodes[G_NODE, i]
        nodes[CAND_TASKS, i] = site.nodes[G_TASKS, i]
    return max(size, 0)
