"""Snapshots: exact, made when it is time, passed over where they are damaged or of another version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.errors import ErrorCode
from crane.jobspec import ArraySpec, Dependency, DependencyKind, DependencyTerm
from cranectld.core.apply import apply
from cranectld.projector.service import Policy, Projector
from cranectld.store.api import StoreError
from cranectld.store.codec.state import decode_state, encode_state
from cranectld.store.snapshot import list_snapshots, load_newest, read_snapshot, save_snapshot
from cranectld.store.sqlite import SqliteStore


@given(seed=st.integers(0, 10**6), length=st.integers(0, 150))
@settings(deadline=None, max_examples=25)
def test_a_state_survives_its_snapshot_exactly(kit: Any, seed: int, length: int) -> None:
    story = kit.Story(None, seed)
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
    more = kit.Story(None, seed + 1)
    more.seq, more.now, more.next_id = story.seq, story.now, story.next_id
    more.go_on(40)
    for batch in more.batches:
        for logged in batch:
            apply(state, logged)
            apply(loaded, logged)
    assert loaded == state


def test_snapshots_are_made_by_weight_and_the_last_two_kept(
    kit: Any, store: SqliteStore, tmp_path: Path
) -> None:
    story = kit.Story(store)
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
    kit: Any, store: SqliteStore, tmp_path: Path
) -> None:
    now = [0.0]
    story = kit.Story(store)
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
def test_a_damaged_snapshot_is_passed_over(
    kit: Any, store: SqliteStore, tmp_path: Path, where: str
) -> None:
    story = kit.Story(store)
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
    kit: Any, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = kit.Story(store)
    story.begin()
    with monkeypatch.context() as patched:
        patched.setattr("cranectld.store.codec.state._SCHEMA", 17)
        save_snapshot(str(tmp_path), story.state())
    assert store.load_snapshot() is None, "the whole log is there: it is folded"
    assert load_newest(str(tmp_path), log_begins=5) == (story.seq, story.state())
