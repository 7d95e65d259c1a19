"""The machine that a trace is replayed on: a pool of processors, or nodes of CPUs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.trace import Trace

PROCESSORS_MAX = 1 << 24
NODES_MAX = 1 << 20
_SHAPE = re.compile(r"([0-9]{1,8})[xX×]([0-9]{1,8})")


@dataclass(frozen=True, slots=True)
class Machine:
    """`groups` of nodes; none: one pool of `processors` without names."""

    processors: int
    groups: tuple[tuple[int, int], ...] = ()
    """(nodes, CPUs of each)"""

    def __str__(self) -> str:
        if not self.groups:
            return f"one pool of {self.processors:,} processors"
        *first, last = (_nodes(count, cpus) for count, cpus in self.groups)
        return f"{', '.join(first)} and {last}" if first else last


def _nodes(count: int, cpus: int) -> str:
    size = "1 CPU" if cpus == 1 else f"{cpus:,} CPUs"
    return f"1 node of {size}" if count == 1 else f"{count:,} nodes of {size} each"


def machine(trace: Trace, pool: int | None, nodes: str | None) -> Machine:
    """What `--pool` or `--nodes` say, else the size in the trace's header. Raises CsimError."""
    if nodes is not None:
        return machine_of_nodes(nodes)
    if pool is not None:
        return _checked(Machine(pool))
    if not trace.max_procs:
        raise CsimError(
            f"{trace.path}: its header names no MaxProcs; give the machine: --pool PROCESSORS"
        )
    return _checked(Machine(trace.max_procs))


def machine_of_nodes(text: str) -> Machine:
    """`NxC`, or several of these with commas: N nodes of C CPUs each. Raises CsimError."""
    groups = []
    for part in text.split(","):
        match = _SHAPE.fullmatch(part)
        if match is None or not int(match[1]) or not int(match[2]):
            raise CsimError(
                f"--nodes {text!r} is not NODESxCPUS; give for example --nodes 100x1 or "
                "--nodes 64x16,8x64"
            )
        groups.append((int(match[1]), int(match[2])))
    found = _checked(Machine(sum(count * cpus for count, cpus in groups), tuple(groups)))
    if sum(count for count, _ in groups) > NODES_MAX:
        raise CsimError(f"--nodes {text!r}: a machine has at most {NODES_MAX:,} nodes")
    return found


def _checked(found: Machine) -> Machine:
    if not 1 <= found.processors <= PROCESSORS_MAX:
        raise CsimError(f"a machine has 1 to {PROCESSORS_MAX:,} processors, not {found.processors}")
    return found
