"""From a trace to a workload: which jobs are replayed, and with which size, estimate and runtime.

Only what a simulation cannot do without is decided here, and all of it is counted and told: every
job has processors within the pool, a runtime and an estimate that the runtime does not exceed (a
scheduler ends a job at its limit).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.trace import Trace
from sched_core.columns import Ints

FILTERS = ("strong", "none")
"""`strong` is that of predictsim (Gaussier et al., SC'15). `none` keeps what can be replayed."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs to replay in the order of the trace; seconds and processors."""

    job_id: Ints
    submit: Ints
    procs: Ints
    estimate: Ints
    run: Ints
    notes: tuple[str, ...]
    """What was left out or changed, each with its count."""
    user: Ints | None = None
    """Who submitted each job, a number; None: not known, all are taken to be one's."""
    cpu: Ints | None = None
    """Thousandths of a CPU each job held; None: whole processors."""
    started: Ints | None = None
    """When each job did start (s), -1: not known; None: of none."""

    def __len__(self) -> int:
        return len(self.job_id)

    def only(self, keep: Mask) -> Workload:
        """Some of the jobs, in the same order."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        kept: dict[str, Any] = {
            name: column[keep] if isinstance(column, np.ndarray) else column
            for name, column in columns.items()
        }
        return Workload(**kept)


def workload(trace: Trace, pool: int, filtering: str) -> Workload:
    """Apply a filter for a pool of processors; raises CsimError if nothing is left.

    strong: jobs are left out whose allocated or requested processors exceed the pool (or the
    machine of the header), that have neither, or lack a runtime or a requested time. none: a job
    without requested time takes its runtime as estimate. Both: the requested processors count, else
    the allocated ones; a runtime beyond the requested time is cut to it.
    """
    size = np.where(trace.requested > 0, trace.requested, trace.allocated)
    largest, low = size, "jobs larger than the pool left out"
    most = pool
    if filtering == "strong":
        largest = np.maximum(trace.requested, trace.allocated)
        most = min(pool, trace.max_procs or pool)
        low = "jobs larger than the pool or the trace's own machine left out"
    keep = np.ones(len(size), bool)
    notes: list[str] = []
    _drop(keep, notes, largest > most, low)
    _drop(keep, notes, size <= 0, "jobs without processors left out")
    _drop(keep, notes, trace.run <= 0, "jobs without runtime left out")
    unlimited = trace.limit <= 0
    if filtering == "strong":
        _drop(keep, notes, unlimited, "jobs without requested time left out")
    _drop(keep, notes, trace.submit < 0, "jobs submitted before the trace begins left out")
    _note(notes, keep & unlimited, "jobs without requested time: their runtime is the estimate")
    estimate = np.where(unlimited, trace.run, trace.limit)
    _note(notes, keep & (trace.run > estimate), "jobs end at their requested time, not later")
    if not keep.any():
        raise CsimError(
            f"{trace.path}: none of its {len(size)} jobs can be replayed ({'; '.join(notes)}); "
            "give a larger --pool or --filter none"
        )
    return Workload(
        job_id=trace.job_id[keep],
        submit=trace.submit[keep],
        procs=size[keep],
        estimate=estimate[keep],
        run=np.minimum(trace.run, estimate)[keep],
        notes=tuple(notes),
        user=trace.user[keep],
        started=np.where(trace.wait >= 0, trace.submit + trace.wait, -1)[keep],
    )


def _drop(keep: Mask, notes: list[str], which: Mask, text: str) -> None:
    _note(notes, keep & which, text)
    keep &= ~which


def _note(notes: list[str], which: Mask, text: str) -> None:
    count = int(np.count_nonzero(which))
    if count:
        notes.append(f"{count:,} {text}")
