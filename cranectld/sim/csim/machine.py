"""The machine that a trace is replayed on: a pool of processors, or nodes of equal CPUs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.trace import Trace

PROCESSORS_MAX = 1 << 24
_SHAPE = re.compile(r"([0-9]{1,8})[xX×]([0-9]{1,8})")


@dataclass(frozen=True, slots=True)
class Machine:
    """`nodes` of `cpus` each; no nodes: one pool of `processors` without names."""

    processors: int
    nodes: int = 0
    cpus: int = 0

    def __str__(self) -> str:
        if not self.nodes:
            return f"one pool of {self.processors:,} processors"
        cpus = "1 CPU" if self.cpus == 1 else f"{self.cpus:,} CPUs"
        return f"{self.nodes:,} nodes of {cpus} each"


def machine(trace: Trace, pool: int | None, nodes: str | None) -> Machine:
    """What `--pool` or `--nodes` say, else the size in the trace's header. Raises CsimError."""
    if nodes is not None:
        match = _SHAPE.fullmatch(nodes)
        if match is None or not int(match[1]) or not int(match[2]):
            raise CsimError(f"--nodes {nodes!r} is not NODESxCPUS; give for example --nodes 100x1")
        return _checked(Machine(int(match[1]) * int(match[2]), int(match[1]), int(match[2])))
    if pool is not None:
        return _checked(Machine(pool))
    if not trace.max_procs:
        raise CsimError(
            f"{trace.path}: its header names no MaxProcs; give the machine: --pool PROCESSORS"
        )
    return _checked(Machine(trace.max_procs))


def _checked(found: Machine) -> Machine:
    if not 1 <= found.processors <= PROCESSORS_MAX:
        raise CsimError(f"a machine has 1 to {PROCESSORS_MAX:,} processors, not {found.processors}")
    return found
