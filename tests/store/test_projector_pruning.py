"""What the log and the store keep, and what goes: pruned events, blobs nobody needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from crane.jobspec import BlobRef
from crane.session import (
    EndCause,
    StepKey,
    StepLayout,
    StepRequest,
)
from cranectld.core import events as ev
from cranectld.core.apply import apply
from cranectld.core.commands import Selector
from cranectld.core.packs import live_packs
from cranectld.projector.history import HistoryReader
from cranectld.projector.service import Policy, Projector
from cranectld.store.api import Pack, StoreError
from cranectld.store.snapshot import load_newest
from cranectld.store.sqlite import SqliteStore, open_store

EVERYTHING = Selector()


def test_pruning_keeps_a_log_from_which_everything_is_recovered(kit: Any, tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    story = kit.Story(store)
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
    kit.project(tmp_path)
    history = HistoryReader(str(tmp_path))
    known = {job.job_id for job in history.query(EVERYTHING, page_size=10_000).jobs}
    assert known >= set(state.jobs), "what the kept log does not tell is taken from the snapshot"
    history.close()
    store.close()


def test_blobs_go_with_the_last_job_that_needs_them(
    kit: Any, store: SqliteStore, tmp_path: Path
) -> None:
    story = kit.Story(store)
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


def test_what_a_step_runs_is_kept_while_it_runs_and_no_longer(
    kit: Any, store: SqliteStore, tmp_path: Path
) -> None:
    story = kit.Story(store)
    story.begin()
    (job_id,) = story.submit(1)
    share = story.start(job_id)
    pack = Pack(store.next_pack_id(), (b"prog\0", b"A=1"))
    argv, environment = BlobRef(pack.pack_id, 0), BlobRef(pack.pack_id, 1)
    key, layout = StepKey(job_id, 0, 1), StepLayout((share.node,), (1,))
    request = StepRequest(name="step", argv=argv, environment=environment)
    story.log(ev.StepCreated(key, request, layout), pack=pack)
    script = Pack(store.next_pack_id(), (b"script",))  # the newest pack stays in any case
    story.submit(1, pack=script)
    projector = Projector(str(tmp_path), Policy())
    # given a step that runs: its content is there for an agent that has not got it
    for _ in range(2):
        story.go_on(5)
        projector.catch_up()
        projector.snapshot()
        assert store.reclaim() == 0
    assert store.get_blobs([argv, environment]) == [b"prog\0", b"A=1"]
    # also a snapshot knows that it is needed
    _, state = load_newest(str(tmp_path))
    assert state == story.state()
    assert sorted(live_packs(state)) == [pack.pack_id, script.pack_id]
    # when it has ended, its content goes, though the job runs on
    story.log(ev.StepsEnded((ev.StepEnd(key, share.node, EndCause.EXIT),)))
    projector.catch_up()
    projector.snapshot()
    assert story.state().jobs[job_id].run is not None
    assert store.reclaim() == 1
    with pytest.raises(StoreError):
        store.get_blobs([environment])
    projector.close()
