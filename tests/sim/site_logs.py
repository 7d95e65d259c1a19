"""Logs as a controller would have written them, for tests of csim: a few nodes, jobs, their starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crane.config.model import ClusterConfig, NodeConfig, PartitionConfig, SchedulerConfig
from crane.jobspec import BATCH_STEP, ArraySpec, Component, JobSpec, Submission
from crane.session import EndCause, Inventory, NodeShare, Registration, StepKey
from crane.states import JobState, Reason
from cranectld.core import events as ev
from cranectld.core.apply import apply
from cranectld.core.state import State
from cranectld.store.sqlite import SqliteStore, open_store
from sched_core.oracle_pool import PoolJob

NS = 1_000_000_000
T0 = 1_700_000_000


class SiteLog:
    """Appends events at instants given in seconds since the log begins."""

    def __init__(self, path: Path, cpus: dict[str, int], policy: str = "easy") -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self.store: SqliteStore = open_store(str(path))
        self.state = State()
        self.cpus = cpus
        self.next_id = 1
        self.shares: dict[int, tuple[NodeShare, ...]] = {}
        self.log(0, ev.EpochStarted(1), ev.ConfigApplied(self.config(policy)))
        self.log(0, *(self.registered(name) for name in cpus))

    def config(self, policy: str) -> ClusterConfig:
        names = tuple(self.cpus)
        return ClusterConfig(
            nodes=tuple(NodeConfig(n, cpus=c * 1000, memory=8000) for n, c in self.cpus.items()),
            partitions=(PartitionConfig("batch", names, default=True),),
            scheduler=SchedulerConfig(policy=policy),
        )

    def registered(self, name: str) -> ev.NodeRegistered:
        cpus = self.cpus[name] * 1000
        who = Registration(name, name, f"inc-{name}", "boot", "spool", Inventory(cpus, 8000))
        return ev.NodeRegistered(who, cpus, 8000, "")

    def log(self, at: float, *events: ev.Event) -> None:
        now = int((T0 + at) * NS)
        batch = [ev.Logged(self.state.seq + 1 + i, now, e) for i, e in enumerate(events)]
        self.store.append(batch)
        for logged in batch:
            apply(self.state, logged)

    def submit(
        self, at: float, cpus: int, limit: int, array: ArraySpec | None = None, hold: bool = False
    ) -> int:
        part = Component(min_nodes=1, ntasks=1, cpus_per_task=cpus * 1000)
        spec = JobSpec((part,), ("batch",), time_limit=limit, hold=hold, work_dir="/")
        job_id, self.next_id = self.next_id, self.next_id + 1
        jobs = (Submission(spec, "job", array=array),)
        self.log(at, ev.JobsSubmitted(job_id, 1000, 1000, "ann", jobs, (0,)))
        return job_id

    def start(
        self, at: float, job_id: int, where: dict[str, int], *, attempt: int = 1,
        array: int = 0, position: int = -1,
    ) -> None:  # fmt: skip
        shares = tuple(NodeShare(name, cpus * 1000, 0) for name, cpus in where.items())
        self.shares[job_id] = shares
        self.next_id = max(self.next_id, job_id + 1)
        begun = ev.TaskStart(job_id, attempt, shares, 0, "batch", array, position)
        self.log(at, ev.TasksStarted((begun,)))

    def end(self, at: float, job_id: int, *, attempt: int = 1, requeue: bool = False) -> None:
        key = StepKey(job_id, BATCH_STEP, attempt)
        steps = tuple(
            ev.StepEnd(key, share.node, EndCause.EXIT, released=True)
            for share in self.shares[job_id]
        )
        end = ev.JobEnd(job_id, attempt, JobState.COMPLETED, Reason.NONE, 0, 0, requeue=requeue)
        self.log(at, ev.StepsEnded(steps), ev.JobsEnded((end,)))

    def cancel(self, at: float, job_id: int) -> None:
        end = ev.JobEnd(job_id, 0, JobState.CANCELLED, Reason.CANCELLED, 0, 0, by_uid=1000)
        self.log(at, ev.JobsEnded((end,)))

    def schedule(self, jobs: Sequence[PoolJob], starts: Sequence[int]) -> None:
        """Jobs on the one node there is, as they came, started and ended."""
        (node,) = self.cpus
        happens = []
        for i, (job, start) in enumerate(zip(jobs, starts, strict=True)):
            happens += [(job.submit, 1, i), (start, 2, i), (start + job.runtime, 0, i)]
        ids: dict[int, int] = {}
        for at, what, i in sorted(happens):
            if what == 1:
                ids[i] = self.submit(at, jobs[i].processors, jobs[i].estimate)
            elif what == 2:
                self.start(at, ids[i], {node: jobs[i].processors})
            else:
                self.end(at, ids[i])

    def close(self) -> str:
        """The state directory, with the controller gone."""
        self.store.close()
        return str(self.path)
