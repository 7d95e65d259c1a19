"""Histories as a controller would have logged them, and the read model made of them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from crane.config.model import ClusterConfig, DeviceGroup, DeviceSlot, NodeConfig, PartitionConfig
from crane.jobspec import BATCH_STEP, BlobRef, Gres, JobSpec, Submission
from crane.session import (
    EndCause,
    Inventory,
    NodeShare,
    Registration,
    StepKey,
)
from crane.states import JobState, Reason
from cranectld.core import events as ev
from cranectld.core.apply import apply
from cranectld.core.state import State
from cranectld.projector.service import Policy, Projector
from cranectld.store.api import Pack
from cranectld.store.sqlite import SqliteStore, open_store

NS = 1_000_000_000
T0 = 1_700_000_000 * NS
GPUS = DeviceGroup("gpu", "a100", (DeviceSlot(("/dev/x0",)), DeviceSlot(("/dev/x1",))))


class Story:
    """Writes a history into a store, batch by batch: what a controller would have logged."""

    def __init__(self, store: SqliteStore | None, seed: int = 1) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.seq = store.last_seq if store is not None else 0
        self.now = T0 + self.seq * NS
        self.next_id = 1
        self.batches: list[list[ev.Logged]] = []
        self.waiting: list[int] = []
        self.running: list[tuple[int, NodeShare]] = []
        self.ended: list[int] = []

    def log(self, *events: ev.Event, pack: Pack | None = None, seconds: int = 1) -> None:
        self.now += seconds * NS
        batch = [ev.Logged(self.seq + i + 1, self.now, event) for i, event in enumerate(events)]
        self.seq += len(batch)
        self.batches.append(batch)
        if self.store is not None:
            self.store.append(batch, pack)

    def begin(self) -> None:
        names = ("n1", "n2", "n3")
        config = ClusterConfig(
            nodes=tuple(
                NodeConfig(
                    n, cpus=4000, memory=8000, gres=(Gres("gpu", "a100", 2),), devices=(GPUS,)
                )
                for n in names
            ),
            partitions=(PartitionConfig("batch", names, default=True),),
        )
        self.log(ev.EpochStarted(1), ev.ConfigApplied(config))
        self.log(*(
            ev.NodeRegistered(
                Registration(n, n, f"inc-{n}", "boot", "spool", Inventory(4000, 8000)),
                4000, 8000, "",
            )
            for n in names
        ))  # fmt: skip

    def submit(self, count: int, pack: Pack | None = None, **changes: object) -> list[int]:
        spec = JobSpec(
            partitions=("batch",), account="proj", work_dir=f"/home/u{count % 2}", comment="c"
        )
        ids = list(range(self.next_id, self.next_id + count))
        where = {"script": BlobRef(pack.pack_id, 0)} if pack else {}
        jobs = tuple(
            Submission(spec, f"name{i % 3}", command="x.sh", **where, **changes)  # type: ignore[arg-type]
            for i in ids
        )
        self.log(ev.JobsSubmitted(ids[0], 1000, 1000, "ann", jobs, tuple(ids)), pack=pack)
        self.next_id += count
        return ids

    def start(self, job_id: int, attempt: int = 1, array: int = 0, position: int = -1) -> NodeShare:
        share = NodeShare(self.rng.choice(("n1", "n2", "n3")), 10, 20)
        self.log(ev.TasksStarted((
            ev.TaskStart(job_id, attempt, (share,), self.now + 3600 * NS, "batch", array, position),
        )))  # fmt: skip
        return share

    def end(self, job_id: int, share: NodeShare, attempt: int = 1, code: int = 0,
            *, requeue: bool = False) -> None:  # fmt: skip
        key = StepKey(job_id, BATCH_STEP, attempt)
        state = JobState.FAILED if code else JobState.COMPLETED
        reason = Reason.NON_ZERO_EXIT_CODE if code else Reason.NONE
        self.log(
            ev.StepsEnded((
                ev.StepEnd(key, share.node, EndCause.EXIT, code, 0, "", self.now, self.now + NS,
                           1500, 4096, True),
            )),
            ev.JobsEnded((ev.JobEnd(job_id, attempt, state, reason, code, 0, requeue=requeue),)),
            seconds=10,
        )  # fmt: skip

    def go_on(self, steps: int) -> None:
        """Random but legal events."""
        for _ in range(steps):
            choice = self.rng.random()
            if choice < 0.3 or not (self.waiting or self.running):
                self.waiting += self.submit(self.rng.randrange(1, 5))
            elif choice < 0.6 and self.waiting:
                job_id = self.waiting.pop(self.rng.randrange(len(self.waiting)))
                self.running.append((job_id, self.start(job_id)))
            elif choice < 0.9 and self.running:
                job_id, share = self.running.pop(self.rng.randrange(len(self.running)))
                self.end(job_id, share, code=self.rng.randrange(2))
                self.ended.append(job_id)
            elif choice < 0.95 and self.ended:
                self.log(ev.JobsForgotten((self.ended.pop(0),)))
            elif self.waiting:
                self.log(ev.JobsHeld((ev.Target(self.waiting[0]),), by_operator=True))

    def state(self) -> State:
        state = State()
        for batch in self.batches:
            for logged in batch:
                apply(state, logged)
        return state


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = open_store(str(tmp_path))
    yield opened
    opened.close()


def project(path: Path, policy: Policy | None = None) -> None:
    projector = Projector(str(path), policy or Policy())
    projector.catch_up()
    projector.close()


def dump(path: Path) -> list[str]:
    """Everything in the read model, ids of specs resolved."""
    connection = sqlite3.connect(f"file:{path}/history.db?mode=ro", uri=True)
    try:
        lines = [
            repr(row)
            for table in ("progress", "attempt", "step")
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
        ]
        jobs = connection.execute(
            "SELECT job.*, body FROM job JOIN spec ON spec_id = id ORDER BY 1"
        )
        names = [d[0] for d in jobs.description]
        place = names.index("spec_id")
        return lines + [repr((*row[:place], *row[place + 1 :])) for row in jobs]
    finally:
        connection.close()


@pytest.fixture(scope="session")
def kit() -> type:
    """What the projector's tests share."""

    class Kit:
        Story, NS, T0 = Story, NS, T0
        project = staticmethod(project)
        dump = staticmethod(dump)

    return Kit
