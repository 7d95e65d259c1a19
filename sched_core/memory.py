"""What a pass works in, and what of it the next pass over the same tables can use again.

Nothing here decides anything: a plan made with a `Memory`, whatever it has seen before, equals one
made from scratch. What is kept: which kinds of nodes suit which shapes, and on how many nodes each
fits, corrected for those nodes whose free amounts are no longer what was last seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sched_core import views
from sched_core.alternatives import place_span, places
from sched_core.columns import Ints
from sched_core.gangs import TREE_ROWS, WORK_ROWS
from sched_core.jobs import JobTable
from sched_core.kinds import kinds
from sched_core.nodes import NodeTable
from sched_core.running import RunningTable
from sched_core.shapes import ShapeTable

if TYPE_CHECKING:
    from sched_core.plan_devices import DeviceDesk

NOBODY: Ints = np.zeros((2, 0), np.int64)
"""No node is barred from any shape."""


class Memory:
    """Arrays of one owner of tables. Not shared: a plan that uses it changes it.

    `fresh[...]`: shapes to be surveyed; `changed[...]`: nodes whose free amounts differ from what
    was seen; `anew`: nothing kept is of use.
    """

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._features: Ints = np.zeros(0, np.int64)
        self._alternatives = 0
        self._members: Ints = np.zeros((0, 0), np.int64)
        self._serial: Ints = np.zeros(0, np.int64)
        self._kinds: Ints = np.zeros((2, 0), np.int64)
        self._amounts: Ints = np.zeros((views.LAYERS, 0, 0), np.int64)
        self._nodes: Ints = np.zeros((views.NODE_COLUMNS, 0), np.int64)
        self._suits: Ints = np.zeros((0, 0), np.int64)
        self._suited: Ints = np.zeros((0, 0), np.int64)
        self._fitting: Ints = np.zeros((0, 0), np.int64)
        self._columns: Ints = np.zeros((views.SHAPE_ROWS, 0), np.int64)
        self._order: Ints | None = None
        self._ids: Ints = np.zeros(0, np.int64)
        self.fresh: Ints = np.zeros(0, np.int64)
        self.changed: Ints = np.zeros(0, np.int64)
        self.anew = True
        self.desk: DeviceDesk | None = None

    def bind(
        self, nodes: NodeTable, shapes: ShapeTable, barred: Ints = NOBODY
    ) -> tuple[views.Cluster, views.Requests]:
        """Arrays of a pass over these tables, with what is new, free and changed written in.

        `barred[2, k]`: shapes (non-decreasing) and the nodes that each may not have, as if its
        request excluded them.
        """
        nodes.fit_columns()
        shapes.fit_words()
        n, s, dims = nodes.rows, shapes.rows, len(nodes.dims)
        named = np.bitwise_or.reduce(
            shapes.clauses[:s].reshape(-1, shapes.clauses.shape[2]), axis=0
        )
        words = nodes.partitions.shape[1]
        of = (nodes, shapes, nodes.version, n, dims, words, barred.tobytes())
        named |= shapes.alternatives.named(len(named))
        known = len(self._features)
        self.anew = of != self._of or len(named) != known or bool((named & ~self._features).any())
        if self.anew or shapes.alternatives.version != self._alternatives:
            self._alternatives = shapes.alternatives.version
            self._members = shapes.alternatives.members(nodes.partitions, nodes.features)
        if self.anew:
            self._of, self._features = of, named
            self._renew(nodes, n, dims)
        self._make_room(s, dims)
        changed = self._amounts[views.SEEN] != nodes.free[:n, :dims]
        self.changed = np.flatnonzero(changed.any(axis=1)).astype(np.int64, copy=False)
        self.fresh = np.flatnonzero(self._serial[:s] != shapes.serial[:s]).astype(
            np.int64, copy=False
        )
        self._serial[:s] = shapes.serial[:s]
        return self._cluster(nodes, n, dims), self._requests(shapes, s, dims, barred)

    def releases(self, running: RunningTable) -> Ints:
        """`[3, a]`: node, end and the node's kind of all that runs, in order of its end."""
        order = running.releases()
        out = np.empty((3, len(order)), np.int64)
        np.take(running.columns, order, axis=1, out=out[:2])
        np.take(self._nodes[views.KIND], out[views.RUN_NODE], out=out[views.RUN_KIND])
        return out

    def ids(self, jobs: JobTable, order: Ints) -> Ints:
        """Job ids in the order of the queue: another array only when the queue has changed."""
        if self._order is not order:
            self._order, self._ids = order, jobs.id[order]
        return self._ids

    def _renew(self, nodes: NodeTable, n: int, dims: int) -> None:
        """Nodes are others than before: nothing kept holds."""
        number, first, count = kinds(nodes, self._features)
        self._kinds = np.stack([first, count, np.zeros_like(count)]).astype(np.int64, copy=False)
        self._amounts = np.zeros((views.LAYERS, n, dims), np.int64)
        self._amounts[views.CAPACITY] = nodes.capacity[:n, :dims]
        self._nodes = np.zeros((views.NODE_COLUMNS, n), np.int64)
        self._nodes[views.USE] = nodes.use[:n]
        self._nodes[views.WEIGHT] = nodes.weight[:n]
        self._nodes[views.KIND] = number
        self._serial = np.zeros(0, np.int64)

    def _make_room(self, s: int, dims: int) -> None:
        """Room for more shapes than there are: whoever had a row keeps what is known of it."""
        if len(self._serial) == 0 or s > len(self._serial):
            rows = max(16, 2 * s)
            kind_words = _words(self._kinds.shape[1])
            self._serial = np.zeros(rows, np.int64)
            self._suits = np.zeros((rows, kind_words), np.int64)
            self._suited = np.zeros((self._kinds.shape[1], _words(rows)), np.int64)
            self._fitting = np.zeros((rows, 1 + dims), np.int64)
            self._columns = np.zeros((views.SHAPE_ROWS, rows), np.int64)
            self.anew = True

    def _cluster(self, nodes: NodeTable, n: int, dims: int) -> views.Cluster:
        self._kinds[views.KIND_DONE] = 0
        self._amounts[views.FREE] = nodes.free[:n, :dims]
        order = nodes.preference()
        columns = self._nodes
        columns[views.ORDER, : len(order)] = order
        columns[views.HOLD_START] = views.FAR
        columns[[views.BLOCKED, views.MARK, views.STAMP]] = 0
        per_dim = np.zeros((views.DIM_COLUMNS, dims), np.int64)
        per_dim[views.PARENT] = nodes.dims.parent
        words = (self._members, nodes.features)
        fabric = np.zeros((TREE_ROWS + WORK_ROWS, 2), np.int64)
        return views.Cluster(self._amounts, columns, *words, per_dim, self._kinds, fabric)

    def _requests(self, shapes: ShapeTable, s: int, dims: int, barred: Ints) -> views.Requests:
        """The shapes' columns, and scratch per shape."""
        columns = self._columns
        columns[: views.SHAPE_COLUMNS, :s] = shapes.columns[: views.SHAPE_COLUMNS, :s]
        columns[[views.CURSOR, views.NO_HEAD, views.CURSOR_BEYOND, views.BEYOND_FROM]] = 0
        columns[[views.WAITING, views.NEAR, views.WIDE]] = 0
        columns[views.MEMBERS, :s] = shapes.members[:s]
        columns[views.APART, :s] = shapes.apart[:s]
        for row in shapes.bundles:
            wide = np.minimum(shapes.high[shapes.components(row)], shapes.nodes.rows)
            columns[views.WIDE, row] = wide.sum()
        columns[views.FAIL_FROM] = views.FAR
        columns[[views.EARLIEST, views.SETTLED]] = -1
        needs = np.empty((3, s, dims), np.int64)
        needs[views.PER_NODE] = shapes.node_need[:s, :dims]
        needs[views.PER_TASK] = shapes.task_need[:s, :dims]
        needs[views.PER_FIRST] = needs[views.PER_NODE] + needs[views.PER_TASK]
        span = place_span(shapes.nodes.partitions)
        place = places(shapes.parts, shapes.choices, span)
        if shapes.bundles:  # what is counted of them is counted of their first components
            place = place.copy()
            rows = list(shapes.bundles)
            place[rows] = place[[shapes.components(row)[0] for row in rows]]
        self._mark_simple(shapes, place, s, dims)
        listed = _listed(columns, shapes.listed, barred) if barred.size else shapes.listed
        rest = (shapes.parts, place, shapes.clauses, listed)
        kept = (self._suits, self._suited, *np.empty((2, s), np.int64), self._fitting)
        return views.Requests(columns, needs, *rest, *kept)

    def _mark_simple(self, shapes: ShapeTable, place: Ints, s: int, dims: int) -> None:
        """Which shapes ask for one task on one node of one place, and take it as they say."""
        named = shapes.nrequired[:s] + shapes.nexcluded[:s] + shapes.members[:s]
        alone = (shapes.ntasks[:s] == 0) & (shapes.low[:s] == 1) & (shapes.high[:s] == 1)
        alone &= (named == 0) & (place[:s, 1:] < 0).all(axis=1)
        parent = np.array(shapes.nodes.dims.parent)
        plain = alone & (shapes.exclusive[:s] == 0)
        for total in range(2, dims):
            types = shapes.node_need[:s, :dims][:, parent == total]
            if types.shape[1]:
                plain &= types.sum(axis=1) == shapes.node_need[:s, total]
        self._columns[views.SIMPLE, :s] = alone
        self._columns[views.PLAIN, :s] = plain


def _listed(columns: Ints, listed: Ints, barred: Ints) -> Ints:
    """Lists of named nodes, longer by those barred: their shapes' columns point to new ones."""
    lists, end = [listed], len(listed)
    for shape in np.unique(barred[0]).tolist():
        start, required, excluded = columns[views.LIST_START : views.NEXCLUDED + 1, shape].tolist()
        more = barred[1, barred[0] == shape]
        lists += [listed[start : start + required + excluded], more]
        columns[views.LIST_START, shape] = end
        columns[views.NEXCLUDED, shape] = excluded + len(more)
        columns[views.SIMPLE, shape] = 0
        end += required + excluded + len(more)
    return np.concatenate(lists)


def _words(bits: int) -> int:
    return (bits >> views.SUIT_SHIFT) + 1
