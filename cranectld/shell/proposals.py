"""A plan's starts as commands: from table numbers back to names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crane.session import NodeShare
from cranectld.core.commands import PlannedStart
from sched_core.names import CPU, MEMORY, Dimensions
from sched_core.tables import Tables

if TYPE_CHECKING:
    from sched_core.plan import Plan

SlotCount = tuple[str, str, int]
"""Device slots to take: name, type (empty: without a type), count."""


def proposals(plan: Plan, tables: Tables) -> tuple[PlannedStart, ...]:
    """The starts of a plan in the order it decided them; rows of a start in rank order."""
    names, dims = tables.nodes.names, tables.dims
    node, tasks, amount = plan.node.tolist(), plan.tasks.tolist(), plan.amount.tolist()
    bounds = plan.start_ptr.tolist()
    parts = plan.start_partition.tolist()
    out = []
    for i, job_id in enumerate(plan.start_job.tolist()):
        rows = range(bounds[i], bounds[i + 1])
        shares = tuple(
            NodeShare(
                node=names.text(node[row]),
                cpus=amount[row][CPU],
                memory=amount[row][MEMORY],
                tasks=tasks[row],
            )
            for row in rows
        )
        slots = tuple(_slots(amount[row], dims) for row in rows) if len(dims) > 2 else ()
        partition = tables.nodes.partition_names.text(parts[i])
        out.append(PlannedStart(job_id, shares, slots, partition))
    return tuple(out)


def _slots(amounts: list[int], dims: Dimensions) -> tuple[SlotCount, ...]:
    """Device slots in a row of amounts: typed ones, then those of a name without a type."""
    out: list[SlotCount] = []
    untyped = {i: amounts[i] for i in range(2, len(amounts)) if dims.parent[i] < 0}
    for i in range(2, len(amounts)):
        if dims.parent[i] >= 0 and amounts[i]:
            name, _, kind = dims.name(i).removeprefix("gres/").partition(":")
            out.append((name, kind, amounts[i]))
            untyped[dims.parent[i]] -= amounts[i]
    out += [(dims.name(i).removeprefix("gres/"), "", left) for i, left in untyped.items() if left]
    return tuple(out)
