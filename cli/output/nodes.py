"""Columns of `cinfo -o` (sinfo(1), --format): partitions, and nodes grouped by what is shown."""

from __future__ import annotations

from cli.output.times import when
from crane import hostlist
from crane.gres import format_gres
from crane.jobspec import UNLIMITED
from crane.memspec import format_cpus
from crane.record import dataclass
from crane.timespec import format_duration

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crane.client.model import NodeInfo, PartitionInfo

DEFAULT = "%#P %.5a %.10l %.6D %.6t %N"
LONG = "%#P %.5a %.10l %.10s %.4r %.8h %.6D %.11T %N"
NODES = "%#N %.6D %#P %6t"
NODES_LONG = "%#N %.6D %#P %.11T %.4c %.8m %.6w %#f %20E"
SUMMARY = "%#P %.5a %.10l %.16F %N"
REASONS = "%20E %9u %19H %N"

SHORT = {
    "idle": "idle", "mixed": "mix", "alloc": "alloc", "drain": "drain", "drng": "drng",
    "down": "down", "fail": "fail", "unknown": "unk",
}  # fmt: skip
_WHOLE = {
    "mixed": "mixed", "alloc": "allocated", "drain": "drained", "drng": "draining",
}  # fmt: skip
_OTHER = ("drain", "down", "fail", "unknown")


@dataclass(frozen=True, slots=True)
class Group:
    """One line: a partition and some of its nodes, alike in every column that tells them apart."""

    partition: PartitionInfo | None
    nodes: tuple[NodeInfo, ...]

    @property
    def first(self) -> NodeInfo | None:
        """A node whose values stand for all; None for a partition without nodes."""
        return self.nodes[0] if self.nodes else None


def long_state(node: NodeInfo) -> str:
    """`allocated`, `draining`; `*` behind it for a node that does not answer."""
    word = _WHOLE.get(node.shown_state, node.shown_state)
    return word + _silent(node)


def short_state(node: NodeInfo) -> str:
    """`alloc`, `drng`."""
    return SHORT.get(node.shown_state, node.shown_state) + _silent(node)


def _silent(node: NodeInfo) -> str:
    return "" if node.connected or node.shown_state in {"down", "unknown"} else "*"


def _hosts(names: Iterable[str]) -> str:
    return hostlist.compress(sorted(names, key=hostlist.sort_key))


def _cpu_states(nodes: Sequence[NodeInfo]) -> str:
    """CPUs allocated/idle/other/total; idle CPUs of nodes that take no job are `other`."""
    total = sum(node.cpus for node in nodes)
    held = sum(node.cpus_alloc for node in nodes)
    other = sum(n.cpus - n.cpus_alloc for n in nodes if n.shown_state in {*_OTHER, "drng"})
    parts = (held, total - held - other, other, total)
    return "/".join(format_cpus(part) for part in parts)


def _node_states(nodes: Sequence[NodeInfo], *, other: bool = True) -> str:
    """Nodes allocated/idle/other/total, or allocated/idle."""
    held = sum(1 for n in nodes if n.shown_state in {"alloc", "mixed", "drng"})
    idle = sum(1 for n in nodes if n.shown_state == "idle")
    if not other:
        return f"{held}/{idle}"
    return f"{held}/{idle}/{len(nodes) - held - idle}/{len(nodes)}"


def _limit(seconds: int) -> str:
    return "infinite" if seconds == UNLIMITED else format_duration(seconds)


def _of_partition(show: Callable[[PartitionInfo], str]) -> Callable[[Group], str]:
    return lambda group: show(group.partition) if group.partition is not None else "n/a"


def _of_node(show: Callable[[NodeInfo], str]) -> Callable[[Group], str]:
    return lambda group: show(group.first) if group.first is not None else "n/a"


PARTITION_COLUMNS: dict[str, tuple[str, Callable[[Group], str]]] = {
    "P": ("PARTITION", _of_partition(lambda p: p.name + ("*" if p.default else ""))),
    "R": ("PARTITION", _of_partition(lambda p: p.name)),
    "a": ("AVAIL", _of_partition(lambda p: "up" if p.up else "down")),
    "l": ("TIMELIMIT", _of_partition(lambda p: _limit(p.max_time))),
    "L": ("DEFAULTTIME", _of_partition(lambda p: _limit(p.default_time))),
    "s": ("JOB_SIZE", _of_partition(lambda p: f"1-{p.max_nodes or 'infinite'}")),
    "r": ("ROOT", _of_partition(lambda _: "no")),
    "h": ("OVERSUBSCRIBE", _of_partition(lambda _: "NO")),
    "g": ("GROUPS", _of_partition(lambda _: "all")),
    "p": ("PRIO_TIER", _of_partition(lambda p: str(p.priority))),
}
GROUP_COLUMNS: dict[str, tuple[str, Callable[[Group], str]]] = {
    "A": ("NODES(A/I)", lambda group: _node_states(group.nodes, other=False)),
    "C": ("CPUS(A/I/O/T)", lambda group: _cpu_states(group.nodes)),
    "D": ("NODES", lambda group: str(len(group.nodes))),
    "F": ("NODES(A/I/O/T)", lambda group: _node_states(group.nodes)),
    "N": ("NODELIST", lambda group: _hosts(node.name for node in group.nodes)),
    "n": ("HOSTNAMES", lambda group: _hosts(node.name for node in group.nodes)),
    "o": ("NODE_ADDR", lambda group: ",".join(node.address for node in group.nodes)),
}
NODE_COLUMNS: dict[str, tuple[str, Callable[[Group], str]]] = {
    "t": ("STATE", _of_node(short_state)),
    "T": ("STATE", _of_node(long_state)),
    "c": ("CPUS", _of_node(lambda n: format_cpus(n.cpus))),
    "m": ("MEMORY", _of_node(lambda n: str(n.memory))),
    "e": ("FREE_MEM", _of_node(lambda n: str(n.memory - n.memory_alloc))),
    "G": ("GRES", _of_node(lambda n: format_gres(n.gres) or "(null)")),
    "f": ("AVAIL_FEATURES", _of_node(lambda n: ",".join(n.features) or "(null)")),
    "b": ("ACTIVE_FEATURES", _of_node(lambda n: ",".join(n.features) or "(null)")),
    "w": ("WEIGHT", _of_node(lambda n: str(n.weight))),
    "v": ("VERSION", _of_node(lambda n: n.version or "unknown")),
    "E": ("REASON", _of_node(lambda n: n.reason or "none")),
    "u": ("USER", _of_node(lambda n: n.reason_by or "Unknown")),
    "H": ("TIMESTAMP", _of_node(lambda n: when(n.reason_time, "Unknown"))),
    "O": ("CPU_LOAD", _of_node(lambda _: "N/A")),
}
COLUMNS = PARTITION_COLUMNS | GROUP_COLUMNS | NODE_COLUMNS
TITLES = {letter: title for letter, (title, _) in COLUMNS.items()}


def cells(group: Group) -> Callable[[str], str]:
    """Text of each letter for one line."""
    return lambda letter: COLUMNS[letter][1](group)


def grouped(
    partitions: Iterable[PartitionInfo | None],
    members: Callable[[PartitionInfo | None], list[NodeInfo]],
    letters: Sequence[str],
    *,
    each: bool,
    empty: bool,
) -> list[Group]:
    """Lines: per partition the nodes that look alike in the columns shown.

    `each`: a line for every node. `empty`: a line also for a partition without nodes.
    """
    keys = [letter for letter in letters if letter in NODE_COLUMNS]
    lines: list[Group] = []
    for partition in partitions:
        found: dict[tuple[str, ...], list[NodeInfo]] = {}
        for node in members(partition):
            alone = Group(partition, (node,))
            key = (node.name,) if each else tuple(NODE_COLUMNS[k][1](alone) for k in keys)
            found.setdefault(key, []).append(node)
        if not found and empty:
            lines.append(Group(partition, ()))
        lines += [Group(partition, tuple(nodes)) for nodes in found.values()]
    return lines
