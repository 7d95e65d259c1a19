"""The projector's read model is what the log says, exactly once, whatever kills it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.jobspec import ArraySpec
from crane.session import (
    EndCause,
    NodeShare,
    SlotShare,
    StepKey,
    StepLayout,
    StepRequest,
)
from crane.states import JobState, Reason
from cranectld.core import events as ev
from cranectld.core.commands import PastJob, SelectedId, Selector
from cranectld.projector.history import HistoryReader
from cranectld.projector.process import ProjectorProcess
from cranectld.projector.service import Policy, Projector
from cranectld.projector.tables import HISTORY_NAME, open_readonly, open_writer
from cranectld.store.api import StoreError
from cranectld.store.snapshot import list_snapshots
from cranectld.store.sqlite import SqliteStore, open_store

EVERYTHING = Selector()


def test_a_job_is_shown_with_all_it_asked_for_and_used(
    kit: Any, store: SqliteStore, tmp_path: Path
) -> None:
    story = kit.Story(store)
    story.begin()
    (job_id,) = story.submit(1, args=("a", "b"))
    share = NodeShare("n1", 2000, 512, (SlotShare("gpu", "a100", (0, 1)),), 1)
    story.log(ev.TasksStarted((ev.TaskStart(job_id, 1, (share,), 0, "batch"),)))
    story.end(job_id, share, code=3)
    kit.project(tmp_path)
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


def test_every_attempt_is_kept(kit: Any, store: SqliteStore, tmp_path: Path) -> None:
    story = kit.Story(store)
    story.begin()
    (job_id,) = story.submit(1)
    story.end(job_id, story.start(job_id), code=1, requeue=True)
    kit.project(tmp_path)
    history = HistoryReader(str(tmp_path))
    assert history.outcome(job_id) is None
    assert history.query(EVERYTHING).jobs[0].state is JobState.PENDING
    story.end(job_id, story.start(job_id, attempt=2), attempt=2)
    kit.project(tmp_path)
    (job,) = history.query(EVERYTHING, attempts=True).jobs
    assert [(a.attempt, a.state, a.requeued) for a in job.attempts] == [
        (1, JobState.FAILED, True),
        (2, JobState.COMPLETED, False),
    ]
    assert (job.restarts, job.state) == (1, JobState.COMPLETED)
    history.close()


def test_tasks_of_an_array_are_found_by_index(kit: Any, store: SqliteStore, tmp_path: Path) -> None:
    story = kit.Story(store)
    story.begin()
    array = ArraySpec(((10, 16, 2),), 2)
    (array_id,) = story.submit(1, array=array)
    story.end(50, story.start(50, array=array_id, position=1), code=4)
    story.start(51, array=array_id, position=0)
    kit.project(tmp_path)
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
    kit.project(tmp_path)
    assert history.outcome(array_id, 14).state is JobState.CANCELLED
    assert history.outcome(array_id, 15) is None, "no such index"
    assert history.outcome(array_id).state is JobState.FAILED
    history.close()


def test_steps_of_crun_are_kept(kit: Any, store: SqliteStore, tmp_path: Path) -> None:
    story = kit.Story(store)
    story.begin()
    (job_id,) = story.submit(1)
    share = story.start(job_id)
    key = StepKey(job_id, 0, 1)
    layout = StepLayout((share.node,), (2,))
    story.log(ev.StepCreated(key, StepRequest(name="train"), layout))
    story.log(ev.StepsEnded((ev.StepEnd(key, share.node, EndCause.EXIT, 7, cpu_us=5),)))
    kit.project(tmp_path)
    history = HistoryReader(str(tmp_path))
    (job,) = history.query(EVERYTHING, attempts=True).jobs
    (step,) = job.attempts[0].steps
    assert (step.step, step.name, step.exit_code, step.ntasks, step.cpu_us) == (0, "train", 7, 2, 5)
    history.close()


def test_queries_filter_and_page(kit: Any, store: SqliteStore, tmp_path: Path) -> None:
    story = kit.Story(store)
    story.begin()
    ids = story.submit(30)
    story.end(ids[0], story.start(ids[0]))
    kit.project(tmp_path)
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
    assert len(history.query(EVERYTHING, since=story.now + kit.NS).jobs) == 29
    assert history.query(EVERYTHING, until=kit.T0).jobs == ()
    history.close()


def test_there_is_no_history_before_the_projector_made_it(tmp_path: Path) -> None:
    history = HistoryReader(str(tmp_path))
    assert history.seq() == 0
    assert history.outcome(1) is None
    assert history.query(EVERYTHING).jobs == ()


def test_a_history_made_while_it_is_opened_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = sqlite3.connect(tmp_path / HISTORY_NAME)
    empty.execute("PRAGMA journal_mode=WAL")
    empty.close()
    made = []

    class Meanwhile(sqlite3.Connection):
        def execute(self, *words: Any) -> sqlite3.Cursor:
            if "user_version" in words[0] and not made:
                made.append(words)
                open_writer(str(tmp_path)).close()
            return super().execute(*words)

    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(
            sqlite3, "connect", lambda *at, **how: connect(*at, **({"factory": Meanwhile} | how))
        )
        assert open_readonly(str(tmp_path)) is None
    assert made
    found = open_readonly(str(tmp_path))
    assert found is not None
    found.close()


@given(seed=st.integers(0, 10**6), stops=st.lists(st.integers(1, 60), max_size=4))
@settings(deadline=None, max_examples=8)
def test_stopping_anywhere_changes_nothing(
    kit: Any, tmp_path_factory: pytest.TempPathFactory, seed: int, stops: list[int]
) -> None:
    path = tmp_path_factory.mktemp("state")
    store = open_store(str(path))
    story = kit.Story(store, seed)
    story.begin()
    for stop in stops:
        story.go_on(stop)
        projector = Projector(str(path), Policy())
        projector.catch_up()
        if stop % 2:
            projector.snapshot()
        projector.close()
    kit.project(path)
    found = kit.dump(path)
    for name in os.listdir(path):
        if name.startswith("history.db"):
            os.unlink(path / name)
    kit.project(path)
    assert kit.dump(path) == found
    store.close()
    shutil.rmtree(path)


def test_history_of_another_log_is_refused(kit: Any, store: SqliteStore, tmp_path: Path) -> None:
    kit.Story(store).begin()
    kit.project(tmp_path)
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
    kit: Any, store: SqliteStore, tmp_path: Path
) -> None:
    story = kit.Story(store)
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
    kit: Any, store: SqliteStore, tmp_path: Path
) -> None:
    story = kit.Story(store)
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
    kit.project(tmp_path)
    found = kit.dump(tmp_path)
    for name in os.listdir(tmp_path):
        if name.startswith("history.db"):
            os.unlink(tmp_path / name)
    for seq in list_snapshots(str(tmp_path)):
        os.unlink(tmp_path / "snapshots" / f"{seq:020d}.snap")
    kit.project(tmp_path)
    assert kit.dump(tmp_path) == found
