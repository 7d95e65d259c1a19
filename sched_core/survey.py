"""What nodes are there for a shape: by configuration, per kind; and as things stand, kept up to date.

The first is worked out when a request is new or nodes change. The second is counted once and then
corrected for the nodes whose free amounts changed, so a pass does not ask every node about every
shape.
"""

from __future__ import annotations

import numpy as np

from sched_core.columns import Cube, Vector
from sched_core.fit import EXCLUDED, REQUIRED, has_features, hosts, in_partition, set_marks, suits
from sched_core.jit import entry, inlined, kernel
from sched_core.timeline import count_nodes, enough
from sched_core.verdict import NEVER, NODE_NOT_AVAIL
from sched_core.views import (
    ABLE,
    CAPACITY,
    CODE,
    EXCLUSIVE,
    FITTING_NODES,
    FREE,
    KIND,
    KIND_COUNT,
    KIND_NODE,
    LIST_START,
    MARK,
    MATCHING,
    NEXCLUDED,
    NREQUIRED,
    PER_FIRST,
    SEEN,
    SHORT,
    SHORT_ON,
    SUIT_MASK,
    SUIT_SHIFT,
    USABLE,
    USE,
    WIDEST,
    Cluster,
    Requests,
    Scratch,
)


@inlined
def in_any(cluster: Cluster, req: Requests, shape: int, node: int) -> bool:
    """Whether a node is in a place of a shape and has its features. O(places + clauses)."""
    places = req.places
    for option in range(places.shape[1]):
        part = places[shape, option]
        if part >= 0 and in_partition(cluster.partitions, node, part):
            return has_features(cluster.features, node, req.shapes, req.clauses, shape)
    return False


@kernel
def count_configured(cluster: Cluster, req: Requests, shape: int) -> None:
    """Fill MATCHING, USABLE, `suits`, `suited`, and count in SHORT_ON what empty nodes lack.

    KIND_COUNT must be without the nodes that the shape excludes. O(kinds x R).
    """
    nodes = cluster.nodes
    kinds = cluster.kinds
    dims = cluster.dims
    shapes = req.shapes
    word, bit = shape >> SUIT_SHIFT, 1 << (shape & SUIT_MASK)
    dims[SHORT_ON, :] = 0
    shapes[MATCHING, shape] = 0
    shapes[USABLE, shape] = 0
    req.suits[shape, :] = 0
    for k in range(kinds.shape[1]):
        node, count = kinds[KIND_NODE, k], kinds[KIND_COUNT, k]
        req.suited[k, word] &= ~bit
        if nodes[USE, node] == 0 or not in_any(cluster, req, shape, node):
            continue
        if hosts(cluster.amounts, CAPACITY, node, shapes, req.needs, shape) > 0:
            shapes[MATCHING, shape] += count
            if nodes[USE, node] == 1:
                shapes[USABLE, shape] += count
                req.suited[k, word] |= bit
                req.suits[shape, k >> SUIT_SHIFT] |= 1 << (k & SUIT_MASK)
        else:
            for r in range(dims.shape[1]):
                need = req.needs[PER_FIRST, shape, r]
                short = need > 0 and cluster.amounts[CAPACITY, node, r] < need
                dims[SHORT_ON, r] += count * short


@kernel
def gang_possible(
    cluster: Cluster, req: Requests, scratch: Scratch, shape: int, part: int, usable: bool
) -> bool:
    """Whether a gang fits on empty nodes of a place: all configured, or the `usable` ones.

    KIND_COUNT must be without the nodes that the shape names. O(kinds x R).
    """
    nodes = cluster.nodes
    kinds = cluster.kinds
    shapes = req.shapes
    counters = scratch.counters
    counters[ABLE : WIDEST + 1] = 0
    start = shapes[LIST_START, shape]
    for k in range(kinds.shape[1] + shapes[NREQUIRED, shape]):
        required = k >= kinds.shape[1]
        node = req.listed[start + k - kinds.shape[1]] if required else kinds[KIND_NODE, k]
        count = 1 if required else kinds[KIND_COUNT, k]
        if (
            count > 0
            and (required or not usable or suits(req.suits, shape, k))
            and (not required or nodes[MARK, node] == REQUIRED)
            and (nodes[USE, node] == 1 or (nodes[USE, node] != 0 and not usable))
            and in_partition(cluster.partitions, node, part)
            and has_features(cluster.features, node, shapes, req.clauses, shape)
        ):
            full = hosts(cluster.amounts, CAPACITY, node, shapes, req.needs, shape)
            if full > 0:
                count_nodes(req, scratch, shape, required, full, count)
    able = enough(req, scratch, shape)
    scratch.histogram[: counters[WIDEST] + 1] = 0
    return able


@kernel
def without_named(cluster: Cluster, req: Requests, shape: int, mark: int, change: int) -> None:
    """Take out of KIND_COUNT (-1), or put back (1), the nodes of one MARK that a shape names."""
    nodes = cluster.nodes
    kinds = cluster.kinds
    shapes = req.shapes
    first = shapes[LIST_START, shape]
    last = first + shapes[NREQUIRED, shape]
    if mark == EXCLUDED:
        first, last = last, last + shapes[NEXCLUDED, shape]
    for i in range(first, last):
        if nodes[MARK, req.listed[i]] == mark:
            kinds[KIND_COUNT, nodes[KIND, req.listed[i]]] += change


@inlined
def survey_shape(cluster: Cluster, req: Requests, scratch: Scratch, shape: int) -> None:
    """Fill what configuration says of a shape: MATCHING, USABLE, CODE, `suits`, `suited`; SHORT.

    CODE is 0 if usable nodes could host it when empty, else NODE_NOT_AVAIL or NEVER; with NEVER,
    SHORT is the dimension in which most nodes always lack something. O(places x kinds x R).
    """
    dims = cluster.dims
    shapes = req.shapes
    places = req.places
    set_marks(cluster, req, shape, 1)
    without_named(cluster, req, shape, EXCLUDED, -1)
    count_configured(cluster, req, shape)
    without_named(cluster, req, shape, REQUIRED, -1)
    ever, able = False, False
    for question in range(2 * places.shape[1]):  # of each place: the usable nodes, then all
        part, usable = places[shape, question >> 1], question & 1 == 0
        if part >= 0 and not able and (usable or not ever):
            possible = gang_possible(cluster, req, scratch, shape, part, usable)
            ever |= possible
            able |= possible and usable
    without_named(cluster, req, shape, REQUIRED, 1)
    without_named(cluster, req, shape, EXCLUDED, 1)
    set_marks(cluster, req, shape, 0)
    shapes[CODE, shape] = 0 if able else NODE_NOT_AVAIL if ever else NEVER
    shapes[SHORT, shape] = -1
    most = 0
    for r in range(dims.shape[1]):
        if not ever and dims[SHORT_ON, r] > most:
            most = dims[SHORT_ON, r]
            shapes[SHORT, shape] = r


@inlined
def excludes(req: Requests, shape: int, node: int) -> bool:
    """Whether a shape names a node as one it must not have. O(excluded nodes)."""
    shapes = req.shapes
    first = shapes[LIST_START, shape] + shapes[NREQUIRED, shape]
    for i in range(first, first + shapes[NEXCLUDED, shape]):  # noqa: SIM110 (a kernel)
        if req.listed[i] == node:
            return True
    return False


@inlined
def tally(amounts: Cube, req: Requests, shape: int, node: int, known: bool) -> None:
    """Count a suitable node in a shape's `fitting` by FREE; no more by SEEN, if that was `known`.

    It fits if no dimension is short for a first task. O(R + excluded nodes).
    """
    shapes = req.shapes
    needs = req.needs
    fitting = req.fitting
    if shapes[NEXCLUDED, shape] > 0 and excludes(req, shape, node):
        return
    whole, fits, fitted = shapes[EXCLUSIVE, shape], 1, 1
    for r in range(amounts.shape[2]):
        need = needs[PER_FIRST, shape, r]
        if whole:
            need = max(need, amounts[CAPACITY, node, r])
        if need > 0:
            short = amounts[FREE, node, r] < need
            was_short = known and amounts[SEEN, node, r] < need
            if short != was_short:
                fitting[shape, 1 + r] += 1 if short else -1
            if short:
                fits = 0
            if was_short:
                fitted = 0
    if not known:
        fitted = 0
    if fits != fitted:
        fitting[shape, FITTING_NODES] += fits - fitted


@entry
def recount(cluster: Cluster, req: Requests, nodes: Vector, known: int, among: Vector) -> None:
    """Count nodes by FREE for every shape they suit of those whose bits are set in `among`.

    `known`: they have been counted by SEEN for all of these, so only what differs from it matters.
    Afterwards SEEN is FREE. Invariant: `fitting` counts every node that is known by SEEN.
    O(nodes x R + nodes that differ x (shapes / 32 + suited shapes x R)).
    """
    amounts = cluster.amounts
    suited = req.suited
    for i in range(nodes.shape[0]):
        node = nodes[i]
        kind, same = cluster.nodes[KIND, node], known != 0
        for r in range(amounts.shape[2]):
            same &= amounts[SEEN, node, r] == amounts[FREE, node, r]
        if same:
            continue
        for word in range(suited.shape[1]):
            bits = suited[kind, word] & among[word]
            shape = word << SUIT_SHIFT
            while bits != 0:
                if bits & 1:
                    tally(amounts, req, shape, node, known != 0)
                bits >>= 1
                shape += 1
        for r in range(amounts.shape[2]):
            amounts[SEEN, node, r] = amounts[FREE, node, r]


@entry
def survey(cluster: Cluster, req: Requests, scratch: Scratch, fresh: Vector) -> None:
    """Fill what configuration says of some shapes, and zero their `fitting`; see `survey_shape`."""
    for i in range(fresh.shape[0]):
        survey_shape(cluster, req, scratch, fresh[i])
        req.fitting[fresh[i], :] = 0


def every_shape(req: Requests) -> Vector:
    """Words with the bits of all shapes set."""
    return np.full(req.suited.shape[1], (1 << (SUIT_MASK + 1)) - 1, np.int64)


def refresh(
    cluster: Cluster, req: Requests, scratch: Scratch, fresh: Vector, changed: Vector, anew: bool
) -> None:
    """Bring all that is known of shapes up to date.

    `fresh`: shapes not surveyed yet; `changed`: nodes of which FREE may differ from SEEN; `anew`:
    every shape is fresh, and nothing is SEEN. O(fresh x (partitions x kinds + nodes) x R) and
    O(changed x suited shapes x R).
    """
    if not anew:
        recount(cluster, req, changed, 1, every_shape(req))
    if anew or len(fresh) > 0:
        survey(cluster, req, scratch, fresh)
        among = np.zeros(req.suited.shape[1], np.int64)
        np.bitwise_or.at(among, fresh >> SUIT_SHIFT, 1 << (fresh & SUIT_MASK))
        recount(cluster, req, np.arange(cluster.nodes.shape[1]), 0, among)
