"""The projector's read model and snapshots are what the log says, exactly once, whatever kills it."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.config.model import ClusterConfig, DeviceGroup, DeviceSlot, NodeConfig, PartitionConfig
from crane.errors import ErrorCode
from crane.jobspec import (
    BATCH_STEP,
    ArraySpec,
    BlobRef,
    Dependency,
    DependencyKind,
    DependencyTerm,
    Gres,
    JobSpec,
    Submission,
)
from crane.session import (
    EndCause,
    Inventory,
    NodeShare,
    Registration,
    SlotShare,
    StepKey,
    StepLayout,
    StepRequest,
)
from crane.states import JobState, Reason
from cranectld.core import events as ev
from cranectld.core.apply import apply
from cranectld.core.commands import PastJob, SelectedId, Selector
from cranectld.core.state import State
from cranectld.projector.history import HistoryReader
from cranectld.projector.process import ProjectorProcess
from cranectld.projector.service import Policy, Projector
from cranectld.store.api import Pack, StoreError
from cranectld.store.codec.state import decode_state, encode_state
from cranectld.store.snapshot import list_snapshots, load_newest, read_snapshot, save_snapshot
from cranectld.store.sqlite import SqliteStore, open_store

NS = 1_000_000_000
T0 = 1_700_000_000 * NS
EVERYTHING = Selector()
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


def test_a_job_is_shown_with_all_it_asked_for_and_used(store: SqliteStore, tmp_path: Path) -> None:
    story = Story(store)
    story.begin()
    (job_id,) = story.submit(1, args=("a", "b"))
    share = NodeShare("n1", 2000, 512, (SlotShare("gpu", "a100", (0, 1)),), 1)
    story.log(ev.TasksStarted((ev.TaskStart(job_id, 1, (share,), 0, "batch"),)))
    story.end(job_id, share, code=3)
    project(tmp_path)
    history = HistoryReader(str(tmp_path))
    page = history.query(EVERYTHING, attempts=True)
    (job,) = page.jobs
    assert page.seq == store.last_seq
    assert (job.state, job.reason, job.exit_code) == (JobState.FAILED, Reason.NON_ZERO_EXIT_CODE, 3)
    assert (job.user, job.uid, job.spec.account, job.spec.comment) == ("ann", 1000, "proj", "c")
    assert job.submission.args == ("a", "b")
    assert (job.nodes, job.cpus, job.memory, job.gres) == (("n1",), 2000, 512, "gpu:a100:2")
    assert (job.cpu_us, job.memory_peak) == (1500, 4096)
    (attempt,) = job.attempts
    assert attempt.shares == (share,)
    assert (attempt.tres_cpu, attempt.tres_memory) == (2000 * 10, 512 * 10)
    assert attempt.tres_gres == "gpu:a100=20"
    assert [step.name for step in attempt.steps] == ["batch"]
    assert history.outcome(job_id) == PastJob(
        job_id, -1, JobState.FAILED, 3, job.start_time, job.end_time
    )
    history.close()


def test_every_attempt_is_kept(store: SqliteStore, tmp_path: Path) -> None:
    story = Story(store)
    story.begin()
    (job_id,) = story.submit(1)
    story.end(job_id, story.start(job_id), code=1, requeue=True)
    project(tmp_path)
    history = HistoryReader(str(tmp_path))
    assert history.outcome(job_id) is None
    assert history.query(EVERYTHING).jobs[0].state is JobState.PENDING
    story.end(job_id, story.start(job_id, attempt=2), attempt=2)
    project(tmp_path)
    (job,) = history.query(EVERYTHING, attempts=True).jobs
    assert [(a.attempt, a.state, a.requeued) for a in job.attempts] == [
        (1, JobState.FAILED, True),
        (2, JobState.COMPLETED, False),
    ]
    assert (job.restarts, job.state) == (1, JobState.COMPLETED)
    history.close()


def test_tasks_of_an_array_are_found_by_index(store: SqliteStore, tmp_path: Path) -> None:
    story = Story(store)
    story.begin()
    array = ArraySpec(((10, 16, 2),), 2)
    (array_id,) = story.submit(1, array=array)
    story.end(50, story.start(50, array=array_id, position=1), code=4)
    story.start(51, array=array_id, position=0)
    project(tmp_path)
    history = HistoryReader(str(tmp_path))
    assert history.outcome(array_id, 12) is not None
    assert history.outcome(array_id, 10) is None, "it runs"
    assert history.outcome(array_id, 14) is None, "it waits"
    ids = Selector(ids=(SelectedId(array_id, ((11, 13, 1),)),))
    (task,) = history.query(ids).jobs
    assert (task.job_id, task.array_id, task.task, task.exit_code) == (50, array_id, 12, 4)
    record = history.query(Selector(ids=(SelectedId(array_id),))).jobs[0]
    assert record.submission.array == array
    assert dict(record.task_states) == {
        JobState.PENDING: 2,
        JobState.RUNNING: 1,
        JobState.FAILED: 1,
    }
    story.log(ev.ArrayTasksCancelled(array_id, ((2, 3),), 0))
    story.end(51, NodeShare(story.state().jobs[51].run.shares[0].node, 10, 20))
    project(tmp_path)
    assert history.outcome(array_id, 14).state is JobState.CANCELLED
    assert history.outcome(array_id, 15) is None, "no such index"
    assert history.outcome(array_id).state is JobState.FAILED
    history.close()


def test_steps_of_crun_are_kept(store: SqliteStore, tmp_path: Path) -> None:
    story = Story(store)
    story.begin()
    (job_id,) = story.submit(1)
    share = story.start(job_id)
    key = StepKey(job_id, 0, 1)
    layout = StepLayout((share.node,), (2,))
    story.log(ev.StepCreated(key, StepRequest(name="train"), layout))
    story.log(ev.StepsEnded((ev.StepEnd(key, share.node, EndCause.EXIT, 7, cpu_us=5),)))
    project(tmp_path)
    history = HistoryReader(str(tmp_path))
    (job,) = history.query(EVERYTHING, attempts=True).jobs
    (step,) = job.attempts[0].steps
    assert (step.step, step.name, step.exit_code, step.ntasks, step.cpu_us) == (0, "train", 7, 2, 5)
    history.close()


def test_queries_filter_and_page(store: SqliteStore, tmp_path: Path) -> None:
    story = Story(store)
    story.begin()
    ids = story.submit(30)
    story.end(ids[0], story.start(ids[0]))
    project(tmp_path)
    history = HistoryReader(str(tmp_path))
    seen: list[int] = []
    token = ""
    while True:
        page = history.query(EVERYTHING, page_size=7, token=token)
        seen += [job.job_id for job in page.jobs]
        token = page.next_token
        if not token:
            break
    assert seen == ids

    def found(**filters: tuple[object, ...]) -> int:
        return len(history.query(Selector(**filters)).jobs)  # type: ignore[arg-type]

    assert found(users=("ann",)) == 30
    assert found(users=("bob",)) == 0
    assert found(names=("name0", "name1")) == 20
    assert found(states=(JobState.COMPLETED,)) == 1
    assert found(partitions=("batch",), accounts=("proj",)) == 30
    assert found(partitions=("atch",)) == 0
    assert found(nodes=(history.query(EVERYTHING).jobs[0].nodes)) == 1
    assert len(history.query(EVERYTHING, since=story.now + NS).jobs) == 29
    assert history.query(EVERYTHING, until=T0).jobs == ()
    history.close()


def test_there_is_no_history_before_the_projector_made_it(tmp_path: Path) -> None:
    history = HistoryReader(str(tmp_path))
    assert history.seq() == 0
    assert history.outcome(1) is None
    assert history.query(EVERYTHING).jobs == ()


@given(seed=st.integers(0, 10**6), stops=st.lists(st.integers(1, 60), max_size=4))
@settings(deadline=None, max_examples=8)
def test_stopping_anywhere_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, seed: int, stops: list[int]
) -> None:
    path = tmp_path_factory.mktemp("state")
    store = open_store(str(path))
    story = Story(store, seed)
    story.begin()
    for stop in stops:
        story.go_on(stop)
        projector = Projector(str(path), Policy())
        projector.catch_up()
        if stop % 2:
            projector.snapshot()
        projector.close()
    project(path)
    found = dump(path)
    for name in os.listdir(path):
        if name.startswith("history.db"):
            os.unlink(path / name)
    project(path)
    assert dump(path) == found
    store.close()
    shutil.rmtree(path)


@given(seed=st.integers(0, 10**6), length=st.integers(0, 150))
@settings(deadline=None, max_examples=25)
def test_a_state_survives_its_snapshot_exactly(seed: int, length: int) -> None:
    story = Story(None, seed)
    story.begin()
    array = ArraySpec(((0, 9, 1),), 3)
    depends = Dependency((DependencyTerm(DependencyKind.AFTER_OK, 1),))
    story.submit(1)
    story.submit(2, dependency=depends)
    (array_id,) = story.submit(1, array=array)
    story.next_id = 100
    story.start(90, array=array_id, position=4)
    story.submit(1, dependency=Dependency((DependencyTerm(DependencyKind.SINGLETON),)))
    story.go_on(length)
    state = story.state()
    loaded = decode_state(encode_state(state))
    assert loaded == state
    for name in ("jobs", "nodes", "partitions", "dependents", "specs", "classes", "singletons"):
        assert list(getattr(loaded, name)) == list(getattr(state, name)), f"order of {name}"
    more = Story(None, seed + 1)
    more.seq, more.now, more.next_id = story.seq, story.now, story.next_id
    more.go_on(40)
    for batch in more.batches:
        for logged in batch:
            apply(state, logged)
            apply(loaded, logged)
    assert loaded == state


def test_snapshots_are_made_by_weight_and_the_last_two_kept(
    store: SqliteStore, tmp_path: Path
) -> None:
    story = Story(store)
    story.begin()
    projector = Projector(str(tmp_path), Policy(snapshot_weight=50), clock=lambda: 0.0)
    made: list[int] = []
    for _ in range(12):
        story.go_on(20)
        projector.catch_up()
        if projector.maintain():
            made.append(projector.seq)
    assert len(made) >= 3
    assert list_snapshots(str(tmp_path)) == made[-2:]
    seq, state = load_newest(str(tmp_path))
    assert seq == made[-1]
    assert state.seq == seq
    projector.close()


def test_a_snapshot_is_made_after_a_while_if_anything_happened(
    store: SqliteStore, tmp_path: Path
) -> None:
    now = [0.0]
    story = Story(store)
    story.begin()
    policy = Policy(snapshot_interval=60)
    projector = Projector(str(tmp_path), policy, clock=lambda: now[0])
    projector.catch_up()
    assert not projector.maintain()
    now[0] = 61
    assert projector.maintain()
    now[0] = 200
    assert not projector.maintain(), "nothing happened since"
    projector.close()


@pytest.mark.parametrize("where", ["middle", "end", "cut"])
def test_a_damaged_snapshot_is_passed_over(store: SqliteStore, tmp_path: Path, where: str) -> None:
    story = Story(store)
    story.begin()
    story.go_on(40)
    old = story.state()
    save_snapshot(str(tmp_path), old)
    story.go_on(40)
    newest = Path(save_snapshot(str(tmp_path), story.state()))
    body = bytearray(newest.read_bytes())
    if where == "cut":
        del body[-9:]
    else:
        body[len(body) // 2 if where == "middle" else -1] ^= 1
    newest.write_bytes(body)
    with pytest.raises(StoreError) as caught:
        read_snapshot(str(tmp_path), story.seq)
    assert caught.value.code is ErrorCode.STORE_CORRUPT
    assert load_newest(str(tmp_path)) == (old.seq, old)


def test_another_versions_snapshot_serves_only_where_the_log_does_not(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(store)
    story.begin()
    with monkeypatch.context() as patched:
        patched.setattr("cranectld.store.codec.state._SCHEMA", 17)
        save_snapshot(str(tmp_path), story.state())
    assert store.load_snapshot() is None, "the whole log is there: it is folded"
    assert load_newest(str(tmp_path), log_begins=5) == (story.seq, story.state())


def test_pruning_keeps_a_log_from_which_everything_is_recovered(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    story = Story(store)
    story.begin()
    projector = Projector(str(tmp_path), Policy(keep_log=False))
    for _ in range(3):
        story.go_on(30)
        projector.catch_up()
        projector.snapshot()
    story.go_on(10)
    assert store.reclaim(10_000) > 10
    projector.catch_up()
    projector.close()
    store.close()
    store = open_store(str(tmp_path))
    seq, state = store.load_snapshot()
    for logged in store.read(seq + 1):
        apply(state, logged)
    assert state == story.state()
    os.unlink(tmp_path / "history.db")
    project(tmp_path)
    history = HistoryReader(str(tmp_path))
    known = {job.job_id for job in history.query(EVERYTHING, page_size=10_000).jobs}
    assert known >= set(state.jobs), "what the kept log does not tell is taken from the snapshot"
    history.close()
    store.close()


def test_blobs_go_with_the_last_job_that_needs_them(store: SqliteStore, tmp_path: Path) -> None:
    story = Story(store)
    story.begin()
    packs = [Pack(store.next_pack_id(), (b"script %d" % i,)) for i in range(3)]
    (first,) = story.submit(1, pack=packs[0])
    story.submit(1, pack=packs[1])
    story.submit(1, pack=packs[2])
    story.end(first, story.start(first))
    projector = Projector(str(tmp_path), Policy())
    projector.catch_up()
    projector.snapshot()
    assert store.reclaim() == 0, "an ended job in memory may be requeued"
    story.log(ev.JobsForgotten((first,)))
    projector.catch_up()
    projector.snapshot()
    assert store.reclaim() == 1
    assert store.get_blobs([BlobRef(2, 0)]) == [b"script 1"]
    with pytest.raises(StoreError):
        store.get_blobs([BlobRef(1, 0)])
    projector.close()


def test_history_of_another_log_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    Story(store).begin()
    project(tmp_path)
    with sqlite3.connect(tmp_path / "history.db") as connection:
        connection.execute("UPDATE progress SET seq = 999")
    connection.close()
    with pytest.raises(StoreError, match="knows event 999"):
        Projector(str(tmp_path), Policy())


def wait_for_seq(history: HistoryReader, seq: int) -> None:
    deadline = time.monotonic() + 30
    while history.seq() < seq:
        assert time.monotonic() < deadline, f"projector is at {history.seq()} of {seq}"
        select.select([], [], [], 0.01)


def test_the_process_follows_and_ends_with_the_controllers_pipe(
    store: SqliteStore, tmp_path: Path
) -> None:
    story = Story(store)
    story.begin()
    process = ProjectorProcess(str(tmp_path))
    history = HistoryReader(str(tmp_path))
    try:
        for _ in range(3):
            story.go_on(20)
            process.wake()
            wait_for_seq(history, store.last_seq)
        second = subprocess.run(
            [sys.executable, "-m", "cranectld.projector", "--state-dir", str(tmp_path),
             "--once", "--wait-lock", "0"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert second.returncode == 6
        assert f"pid {process.pid}" in second.stderr
        story.go_on(5)
    finally:
        assert process.close(timeout=30) == 0
    assert history.seq() == store.last_seq
    assert list_snapshots(str(tmp_path)) == [store.last_seq]
    history.close()


def test_kill_9_at_any_instant_loses_and_doubles_nothing(
    store: SqliteStore, tmp_path: Path
) -> None:
    story = Story(store)
    story.begin()
    history = HistoryReader(str(tmp_path))
    for round_number in range(4):
        before = history.seq()
        process = ProjectorProcess(str(tmp_path), ("--snapshot-weight", "100", "--wait-lock", "5"))
        while history.seq() <= before:
            story.go_on(20)
            process.wake()
        story.go_on(10 * round_number)
        os.kill(process.pid, signal.SIGKILL)
        assert process.close(timeout=30) == -signal.SIGKILL
    history.close()
    project(tmp_path)
    found = dump(tmp_path)
    for name in os.listdir(tmp_path):
        if name.startswith("history.db"):
            os.unlink(tmp_path / name)
    for seq in list_snapshots(str(tmp_path)):
        os.unlink(tmp_path / "snapshots" / f"{seq:020d}.snap")
    project(tmp_path)
    assert dump(tmp_path) == found
