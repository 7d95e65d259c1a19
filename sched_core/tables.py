"""The tables a pass reads, kept by their owner as a fold of deltas.

`Tables` bundles the six that belong together; after any history of operations they equal tables
built anew from the resulting state (`equals`), whatever rows and bits their content landed in.
"""

from __future__ import annotations

from sched_core.jobs import DURATION_MAX, JobTable
from sched_core.licences import LicenceTable
from sched_core.limits import LimitTable
from sched_core.names import CPU, MEMORY, Dimensions, GresAmount, Names
from sched_core.nodes import NodeTable, NodeUse
from sched_core.request import Bundle, Request
from sched_core.running import RunningTable
from sched_core.shapes import ShapeTable

__all__ = [
    "CPU",
    "DURATION_MAX",
    "MEMORY",
    "Bundle",
    "Dimensions",
    "GresAmount",
    "JobTable",
    "LicenceTable",
    "LimitTable",
    "Names",
    "NodeTable",
    "NodeUse",
    "Request",
    "RunningTable",
    "ShapeTable",
    "Tables",
]


class Tables:
    """Nodes, shapes, pending records, limits, licences and running jobs over one set of dimensions."""

    def __init__(self) -> None:
        self.dims = Dimensions()
        self.nodes = NodeTable(self.dims)
        self.shapes = ShapeTable(self.nodes)
        self.licences = self.shapes.licences
        self.jobs = JobTable(self.shapes)
        self.limits = self.jobs.limits
        self.reservations = self.jobs.reservations
        self.running = RunningTable(self.nodes, self.licences)

    def equals(self, other: Tables) -> bool:
        """Whether both bundles have the same logical content."""
        return (
            self.nodes.equals(other.nodes)
            and self.shapes.equals(other.shapes)
            and self.jobs.equals(other.jobs)
            and self.limits.equals(other.limits)
            and self.licences.equals(other.licences)
            and self.reservations.equals(other.reservations)
            and self.running.equals(other.running)
        )
