"""What one job asks for, as a value: two jobs with equal requests have the same *shape*."""

from __future__ import annotations

from dataclasses import dataclass

from sched_core.names import GresAmount

NTASKS_MAX = 1 << 20
"""Tasks one job may ask for: bounds the work arrays of a pass."""
CLAUSES_MAX = 256
"""Alternatives of a feature expression in disjunctive normal form."""
AMOUNT_MAX = 1 << 40
"""Bound of one amount: products with NTASKS_MAX stay inside int64."""


@dataclass(frozen=True, slots=True)
class Request:
    """Resources of one gang: all its nodes start together or none does.

    Without `ntasks` every node gets the per-node amounts plus `ntasks_per_node` (or 1) times the
    per-task amounts, on `min_nodes` to `max_nodes` nodes, as many as can be had. With `ntasks`, so
    many tasks are packed on as few nodes as the order of preference allows, at least one on each
    node and at most `ntasks_per_node`. Node numbers never exceed the number of tasks.

    Raises ValueError for amounts or counts outside their range.
    """

    partitions: tuple[str, ...]
    """In order of preference; all nodes of one start are in one of them."""
    cpu_per_task: int = 0
    """Thousandths."""
    memory_per_task: int = 0
    """MiB."""
    gres_per_task: tuple[GresAmount, ...] = ()
    cpu_per_node: int = 0
    memory_per_node: int = 0
    gres_per_node: tuple[GresAmount, ...] = ()
    ntasks: int = 0
    """0: one gang member per node."""
    ntasks_per_node: int = 0
    min_nodes: int = 0
    """0: 1, or as few as the tasks need."""
    max_nodes: int = 0
    """0: `min_nodes` if that is given, else as many as the tasks need."""
    exclusive: bool = False
    """Only whole free nodes, all of whose resources are taken."""
    features: tuple[tuple[str, ...], ...] = ()
    """Disjunctive normal form: any of the clauses, each a conjunction. Empty: no condition."""
    alternatives: tuple[tuple[str, ...], ...] = ()
    """All nodes of a gang have all features of the same one of these. Empty: no condition."""
    required: tuple[str, ...] = ()
    """Nodes that must be part of the allocation."""
    excluded: tuple[str, ...] = ()
    licences: tuple[tuple[str, int], ...] = ()
    """Cluster-wide counted resources of the gang as a whole: distinct names, counts of at least 1."""
    switches: int = 0
    """Most leaf switches of the allocation; 0: any number. Where nodes are required, they decide."""
    switch_wait: int = 0
    """Seconds, from when it may start, for which that bound holds; then any will do."""

    def __post_init__(self) -> None:
        counts = (self.ntasks, self.ntasks_per_node, self.min_nodes, self.max_nodes, self.switches)
        if any(not 0 <= count <= NTASKS_MAX for count in counts):
            raise ValueError(f"node, task and switch counts must be 0..{NTASKS_MAX}, not {counts}")
        amounts = [self.cpu_per_task, self.memory_per_task, self.cpu_per_node, self.memory_per_node]
        amounts += [count for _, _, count in (*self.gres_per_task, *self.gres_per_node)]
        if any(not 0 <= amount <= AMOUNT_MAX for amount in amounts):
            raise ValueError(f"amounts must be 0..{AMOUNT_MAX}, not {amounts}")
        if self.switch_wait < 0:
            raise ValueError(f"a wait for switches cannot be negative, as {self.switch_wait} is")
        if self.cpu_per_task + self.cpu_per_node <= 0:
            raise ValueError("a request needs CPU: give cpu_per_task or cpu_per_node")
        if not self.partitions:
            raise ValueError("a request names at least one partition")
        if max(len(self.features), len(self.alternatives)) > CLAUSES_MAX:
            raise ValueError(f"more than {CLAUSES_MAX} alternatives of features")
        if any(not name or not 0 < count <= AMOUNT_MAX for name, count in self.licences) or (
            len({name for name, _ in self.licences}) < len(self.licences)
        ):
            raise ValueError(
                f"licences must be distinct names with counts 1..{AMOUNT_MAX}, not {self.licences}"
            )

    @property
    def tasks_each(self) -> int:
        """Tasks on each node when `ntasks` is not given."""
        return self.ntasks_per_node or 1

    @property
    def nodes_low(self) -> int:
        """Fewest nodes the gang may have."""
        low = max(self.min_nodes, 1)
        if self.ntasks:
            low = min(low, self.ntasks)
        return max(low, len(self.required))

    @property
    def nodes_high(self) -> int:
        """Most nodes the gang may have; below `nodes_low` only if no allocation can satisfy it."""
        if self.ntasks:
            high = self.max_nodes or self.min_nodes or self.ntasks
            return min(high, self.ntasks)
        return self.max_nodes or self.nodes_low


COMPONENTS_MAX = 128


@dataclass(frozen=True, slots=True)
class Bundle:
    """A heterogeneous job: components that start at one instant, all of them or none.

    They are placed one after the other, the first one first, each in the first of its own
    partitions where it fits. Raises ValueError for fewer than two.
    """

    components: tuple[Request, ...]
    apart: bool = False
    """No node serves two of them; then none may name nodes that it requires."""

    def __post_init__(self) -> None:
        if self.apart and any(part.required for part in self.components):
            raise ValueError("components that share no node cannot name nodes they require")
        if not 2 <= len(self.components) <= COMPONENTS_MAX:
            raise ValueError(
                f"a heterogeneous job has 2..{COMPONENTS_MAX} components, "
                f"not {len(self.components)}"
            )

    @property
    def partitions(self) -> tuple[str, ...]:
        """All partitions it may be in, those of the first component first."""
        return tuple(dict.fromkeys(p for part in self.components for p in part.partitions))
