"""Running jobs end one after another: the pass after each, which is to equal one made from scratch."""

from __future__ import annotations

import sys
from copy import copy
from dataclasses import fields
from pathlib import Path
from statistics import median

import numpy as np

from bench.core import finish, initial, passes, timed
from bench.report import Report
from bench.workload import GPU_TYPES, Arrays, load
from sched_core.columns import Ints
from sched_core.memory import Memory
from sched_core.names import Dimensions
from sched_core.plan import Plan
from sched_core.tables import CPU, MEMORY

PASSES = 20
"""That started something: others are not counted."""
_IDS = ("start_job", "head_job", "job")
"""Of a plan: job ids, all else is the same whatever jobs are called."""


def incremental(report: Report, jobs: int, workload: Path | None, path: Path | None) -> None:
    """The next in the queue takes what each job leaves. Plans are compared when all are made, for
    what is compared with would drive the tables out of the processor's caches."""
    state = initial("full", jobs, workload)
    tables, now = load(state), int(state["now_s"])
    memory = Memory()
    made, _, _ = passes(tables, now, memory, repeats=0)
    finish(report, state, made, path)
    durations = tables.jobs.duration[tables.jobs.order()].copy()
    first = len(tables.jobs)
    steps: list[tuple[int, Plan]] = []
    times: list[float] = []
    for job_id in (np.random.default_rng(1).permutation(len(tables.running)) + first).tolist():
        now += 1
        tables.running.remove(job_id)
        made, took = timed(tables, now, memory)
        for k, started in enumerate(made.start_job.tolist()):
            part = slice(int(made.start_ptr[k]), int(made.start_ptr[k + 1]))
            tables.jobs.remove(started)
            end = now + int(durations[started])
            tables.running.add(started, end, made.node[part], made.amount[part])
        times += [took] if made.starts else []
        steps.append((job_id, _copy(made)))
        if len(times) == PASSES:
            break
    report.metric("pass_ms", median(times) * 1e3, "ms", passes=len(times))
    report.metric("worst_pass_ms", max(times) * 1e3, "ms")
    course = Course(state, durations)
    for number, (job_id, made) in enumerate(steps):
        now = int(state["now_s"]) + 1 + number
        course.end(job_id)
        other = course.differing(made, now)
        if other:
            sys.exit(f"{report.scenario}: pass {number} not as from scratch: {', '.join(other)}")
        course.take(made, now)
    report.metric("equal_to_scratch", len(steps), "passes")


def _copy(made: Plan) -> Plan:
    """A plan that refers to no array of the pass, so that the next can use them again."""
    columns = {field.name: getattr(made, field.name) for field in fields(made)}
    return Plan(**{name: copy(column) for name, column in columns.items()})


class Course:
    """A state as it goes on, as arrays that can be loaded at any time."""

    def __init__(self, state: Arrays, durations: Ints) -> None:
        self._state = dict(state)
        self._durations = durations
        self._ids = np.arange(len(state["job_nodes"]))
        """Of the jobs that wait."""
        self._running = np.arange(len(state["run_node"])) + len(self._ids)
        """Job of each running row."""

    def end(self, job_id: int) -> None:
        """A running job ends."""
        self._keep("run", self._running != job_id)
        self._running = self._running[self._running != job_id]

    def take(self, made: Plan, now: int) -> None:
        """What a plan starts runs."""
        sizes = np.diff(made.start_ptr)
        self._started(made, np.repeat(now + self._durations[made.start_job], sizes))
        self._running = np.concatenate([self._running, np.repeat(made.start_job, sizes)])
        waiting = np.isin(self._ids, made.start_job, invert=True)
        self._keep("job", waiting)
        self._ids = self._ids[waiting]

    def differing(self, made: Plan, now: int) -> list[str]:
        """Names of what is another in a plan made from tables that have just been loaded."""
        scratch, _ = timed(load(self._state | {"now_s": np.array(now)}), now, Memory())
        out = []
        for field in fields(made):
            mine, its = getattr(made, field.name), getattr(scratch, field.name)
            if field.name in _IDS:
                its = self._ids[its]
            if not np.array_equal(mine, its):
                out.append(field.name)
        return out

    def _keep(self, kind: str, which: np.typing.NDArray[np.bool_]) -> None:
        for name, column in self._state.items():
            if name.startswith(f"{kind}_"):
                self._state[name] = column[which]

    def _started(self, made: Plan, ends: Ints) -> None:
        """Running rows of what has started."""
        dims = Dimensions()
        total, _ = dims.gres("gpu", GPU_TYPES[0])
        new = {
            "node": made.node,
            "cpu_milli": made.amount[:, CPU],
            "mem_mib": made.amount[:, MEMORY],
            "gpus": made.amount[:, total],
            "end_s": ends,
        }
        for name, column in new.items():
            self._state[f"run_{name}"] = np.concatenate([self._state[f"run_{name}"], column])
