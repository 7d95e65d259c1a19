"""TopologyTable: the tree of switches above the nodes.

Nodes name their leaf switch in the NodeTable; this table says which switch each switch hangs on.
"""

from __future__ import annotations

import numpy as np

from sched_core.columns import Matrix
from sched_core.gangs import HEIGHT, PARENT, TREE_ROWS
from sched_core.nodes import NodeTable


class TopologyTable:
    """Parents of switches, by the numbers that `NodeTable.switch_names` gives them.

    Several roots are joined by a top of its own, so any two nodes have a common switch. Nodes
    without a switch share one nameless leaf below the top: where no topology is configured, all
    nodes are alike.
    """

    def __init__(self, nodes: NodeTable) -> None:
        self.nodes = nodes
        self._parents: dict[int, int] = {}
        self._tree: Matrix | None = None

    def set(self, name: str, parent: str = "") -> None:
        """Add a switch or hang it on another parent (empty: on none). O(depth)."""
        assert not self.is_cycle(name, parent), f"{name} would hang on itself"
        names = self.nodes.switch_names
        self._parents[names.number(name)] = names.number(parent) if parent else -1
        self._tree = None

    def remove(self, name: str) -> None:
        """Forget what a switch hangs on; nodes and switches that name it keep it as a root."""
        del self._parents[self.nodes.switch_names.find(name)]
        self._tree = None

    def is_cycle(self, name: str, parent: str) -> bool:
        """Whether `name` would hang on itself with this parent: `set` must not be given that."""
        names = self.nodes.switch_names
        above = names.find(parent)
        while above >= 0 and names.text(above) != name:
            above = self._parents.get(above, -1)
        return parent == name or above >= 0

    def tree(self) -> Matrix:
        """[TREE_ROWS, switches + 2]: PARENT, HEIGHT; last but one the nameless leaf, last the top.

        Made anew after a change, O(switches x depth); not to be written to.
        """
        count = len(self.nodes.switch_names)
        if self._tree is None or self._tree.shape[1] != count + 2:
            top = count + 1
            tree = np.zeros((TREE_ROWS, count + 2), np.int64)
            tree[PARENT] = top
            tree[PARENT, top] = -1
            for switch, parent in self._parents.items():
                tree[PARENT, switch] = parent if parent >= 0 else top
            for switch in range(count + 1):
                height, below = 0, switch
                while below != top:
                    below, height = int(tree[PARENT, below]), height + 1
                    if tree[HEIGHT, below] >= height:
                        break
                    tree[HEIGHT, below] = height
            self._tree = tree
        return self._tree

    def content(self) -> dict[str, str]:
        """Name of each switch that was set, and of its parent (empty: none)."""
        names = self.nodes.switch_names
        return {
            names.text(switch): names.text(parent) if parent >= 0 else ""
            for switch, parent in self._parents.items()
        }

    def equals(self, other: TopologyTable) -> bool:
        """Whether both tables hang the same switches on the same parents."""
        return self.content() == other.content()
