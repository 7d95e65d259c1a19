"""Why a record waits: codes, and the survey of a shape's nodes that backs them with numbers."""

from __future__ import annotations

from sched_core.codes import VerdictCode
from sched_core.fit import has_features, hosts, in_partition, set_marks
from sched_core.jit import inlined, kernel
from sched_core.timeline import count_node, enough
from sched_core.views import (
    ABLE,
    CAPACITY,
    CODE,
    EXCLUSIVE,
    FITTING_NOW,
    FREE,
    MARK,
    MATCHING,
    NODES,
    ORDER,
    PER_NODE,
    PER_TASK,
    SHORT,
    SHORT_ON,
    USABLE,
    USE,
    WIDEST,
    Cluster,
    Requests,
    Scratch,
)

STARTED = int(VerdictCode.STARTED)
PRIORITY = int(VerdictCode.PRIORITY)
RESOURCES = int(VerdictCode.RESOURCES)
NODE_NOT_AVAIL = int(VerdictCode.NODE_NOT_AVAIL)
NEVER = int(VerdictCode.NEVER)
NOT_REACHED = int(VerdictCode.NOT_REACHED)
BEGIN_TIME = int(VerdictCode.BEGIN_TIME)
ARRAY_LIMIT = int(VerdictCode.ARRAY_LIMIT)
LIMIT = int(VerdictCode.LIMIT)


@kernel
def count_short(cluster: Cluster, req: Requests, shape: int, node: int, layer: int) -> None:
    """Count, in SHORT_ON, the dimensions in which a node has too little for one task. O(R)."""
    amounts = cluster.amounts
    dims = cluster.dims
    shapes = req.shapes
    needs = req.needs
    for r in range(amounts.shape[2]):
        need = needs[PER_NODE, shape, r] + needs[PER_TASK, shape, r]
        if (need > 0 and amounts[layer, node, r] < need) or (
            shapes[EXCLUSIVE, shape] and amounts[layer, node, r] < amounts[CAPACITY, node, r]
        ):
            dims[SHORT_ON, r] += 1


@inlined
def survey_part(
    cluster: Cluster, req: Requests, scratch: Scratch, shape: int, option: int, usable: bool
) -> bool:
    """Count a shape's nodes in one of its partitions; whether a gang fits there.

    A gang fits if it does on the empty nodes, all that are configured or only the `usable` ones.
    Nodes that an earlier partition of the shape holds too are not counted again. O(nodes x R).
    """
    amounts = cluster.amounts
    nodes = cluster.nodes
    partitions = cluster.partitions
    features = cluster.features
    shapes = req.shapes
    needs = req.needs
    parts = req.parts
    clauses = req.clauses
    histogram = scratch.histogram
    counters = scratch.counters
    counters[ABLE : WIDEST + 1] = 0
    part = parts[shape, option]
    for i in range(counters[NODES]):
        node = nodes[ORDER, i]
        if (
            nodes[MARK, node] == 1
            or (usable and nodes[USE, node] != 1)
            or not in_partition(partitions, node, part)
            or not has_features(features, node, shapes, clauses, shape)
        ):
            continue
        known = False
        for earlier in range(option):
            known |= in_partition(partitions, node, parts[shape, earlier])
        full = hosts(amounts, CAPACITY, node, shapes, needs, shape)
        if full > 0:
            count_node(req, scratch, shape, nodes[MARK, node] == 2, 0, full)
        elif not known and not usable:
            count_short(cluster, req, shape, node, CAPACITY)
        if known:
            continue
        if not usable:
            shapes[MATCHING, shape] += full > 0
        elif full > 0:
            shapes[USABLE, shape] += 1
            if hosts(amounts, FREE, node, shapes, needs, shape) > 0:
                shapes[FITTING_NOW, shape] += 1
            else:
                count_short(cluster, req, shape, node, FREE)
    able = enough(req, scratch, shape)
    histogram[: counters[WIDEST] + 1] = 0
    return able


@kernel
def survey(cluster: Cluster, req: Requests, scratch: Scratch, shape: int) -> int:
    """Fill MATCHING to SHORT and CODE of a shape as things stand now; gives the code.

    0: the usable nodes could host it when empty; else NODE_NOT_AVAIL or NEVER. The short dimension
    is the one in which most usable nodes lack something now (NEVER: in which most nodes always do);
    -1: none. O(partitions of the shape x nodes x R).
    """
    amounts = cluster.amounts
    dims = cluster.dims
    shapes = req.shapes
    parts = req.parts
    if shapes[CODE, shape] >= 0:
        return int(shapes[CODE, shape])
    shapes[MATCHING : SHORT + 1, shape] = 0
    set_marks(cluster, req, shape, 1)
    ever, able = False, False
    for usable in range(2):
        if usable == 0 or ever:
            dims[SHORT_ON, :] = 0
        for option in range(parts.shape[1]):
            if parts[shape, option] >= 0:
                fits = survey_part(cluster, req, scratch, shape, option, usable == 1)
                ever |= usable == 0 and fits
                able |= usable == 1 and fits
    set_marks(cluster, req, shape, 0)
    shapes[SHORT, shape] = -1
    most = 0
    for r in range(amounts.shape[2]):
        if dims[SHORT_ON, r] > most:
            most = dims[SHORT_ON, r]
            shapes[SHORT, shape] = r
    shapes[CODE, shape] = 0 if able else NODE_NOT_AVAIL if ever else NEVER
    return int(shapes[CODE, shape])
