"""The store keeps what it acknowledged, and refuses what it cannot vouch for."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crane.errors import ErrorCode
from crane.jobspec import NO_BLOB, BlobRef, JobSpec, Submission
from cranectld.core import events as ev
from cranectld.core.state import State
from cranectld.store.api import Pack, PackBuilder, StoreError
from cranectld.store.blobs import BlobCache, PackView, encode_pack
from cranectld.store.reclaim import Reclaim, write_reclaim
from cranectld.store.snapshot import save_snapshot
from cranectld.store.sqlite import SqliteStore, open_store

SPEC = JobSpec(work_dir="/home/u", partitions=("batch",))


def submitted(seq: int, count: int = 2, pack: int = 0) -> ev.Logged:
    jobs = tuple(
        Submission(SPEC, f"job{seq}.{i}", BlobRef(pack, i) if pack else NO_BLOB)
        for i in range(count)
    )
    return ev.Logged(
        seq, 1000 + seq, ev.JobsSubmitted(seq * 10, 1, 1, "u", jobs, tuple(range(count)))
    )


def batch(first: int, count: int = 1) -> list[ev.Logged]:
    return [submitted(seq) for seq in range(first, first + count)]


def filled(path: Path, batches: int = 20) -> list[ev.Logged]:
    """A closed store; the events in it."""
    store = open_store(str(path))
    out: list[ev.Logged] = []
    for i in range(batches):
        events = batch(len(out) + 1, 1 + i % 3)
        pack = None
        if i % 5 == 2:
            pack = Pack(store.next_pack_id(), (b"#!/bin/sh\n" + b"x" * 5000, os.urandom(3000)))
        store.append(events, pack)
        out += events
    store.close()
    return out


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = open_store(str(tmp_path / "state"))
    yield opened
    opened.close()


def test_what_was_appended_is_read_from_any_sequence_number(store: SqliteStore) -> None:
    events = batch(1, 3) + batch(4, 2) + batch(6, 1)
    store.append(events[:3])
    store.append(events[3:5])
    store.append(events[5:])
    for start in range(1, 8):
        assert list(store.read(start)) == events[start - 1 :]
    assert store.last_seq == 6


def test_a_store_reads_the_same_after_it_was_opened_again(tmp_path: Path) -> None:
    events = filled(tmp_path / "s")
    store = open_store(str(tmp_path / "s"))
    assert list(store.read(1)) == events
    assert store.last_seq == events[-1].seq
    store.close()


def test_files_are_private(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "a" / "b"))
    store.append(batch(1))
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a" / "b").iterdir()}
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}, modes
    store.close()


def test_blobs_come_back_from_their_pack(store: SqliteStore) -> None:
    builder = PackBuilder(store.next_pack_id())
    script, environment = builder.add(b"#!/bin/sh\ntrue\n"), builder.add(b"A=1\0" * 900)
    assert builder.add(b"#!/bin/sh\ntrue\n") == script
    assert builder.add(b"") == NO_BLOB
    store.append(batch(1), builder.build())
    found = store.get_blobs([environment, script, NO_BLOB])
    assert found == [b"A=1\0" * 900, b"#!/bin/sh\ntrue\n", b""]


def test_pack_ids_are_never_given_twice(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    first = store.next_pack_id()
    store.append(batch(1), Pack(first, (b"x",)))
    store.close()
    store = open_store(str(tmp_path))
    assert store.next_pack_id() > first
    store.close()


def test_a_missing_blob_is_an_error_that_names_its_pack(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="pack 99"):
        store.get_blobs([BlobRef(99, 0)])


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
@settings(deadline=None, max_examples=40)
def test_a_pack_holds_its_blobs(blobs: list[bytes]) -> None:
    view = PackView(encode_pack(blobs))
    assert [view.get(i) for i in range(len(blobs))] == blobs
    with pytest.raises(IndexError):
        view.get(len(blobs))


def test_the_blob_cache_keeps_to_its_bound_and_serves_threads() -> None:
    loads: list[int] = []

    def load(pack_id: int) -> bytes:
        loads.append(pack_id)
        return encode_pack([os.urandom(1000) for _ in range(10)])

    cache = BlobCache(load, limit=25_000)
    refs = [BlobRef(pack, index) for pack in (1, 2) for index in range(10)]
    threads = [threading.Thread(target=cache.get, args=(refs,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1, 2]
    cache.get([BlobRef(3, 0), BlobRef(1, 0)])
    assert loads == [1, 2, 3, 1]


def test_a_second_controller_is_refused_and_told_the_pid(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    code = (
        "import sys\nfrom cranectld.store.sqlite import open_store\n"
        "try:\n open_store(sys.argv[1])\nexcept Exception as e: print(e.code, e)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("STORE_BUSY")
    assert f"pid {os.getpid()}" in answer.stdout
    store.close()
    open_store(str(tmp_path)).close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreError) as caught:
        open_store(str(tmp_path))
    assert caught.value.code is ErrorCode.STORE_NEWER


@pytest.mark.parametrize(
    "content", [b"no database at all" * 300, b"SQLite format 3\0" + b"\x77" * 4080]
)
def test_a_file_that_is_no_log_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log.db").write_bytes(content)
    with pytest.raises(StoreError) as caught:
        open_store(str(tmp_path))
    assert caught.value.code is ErrorCode.STORE_CORRUPT
    assert (tmp_path / "log.db").read_bytes() == content


def test_someone_elses_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("CREATE TABLE log (x)")
    connection.close()
    with pytest.raises(StoreError, match="not the log of a controller"):
        open_store(str(tmp_path))


def test_a_gap_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("DELETE FROM log WHERE first_seq <= 9 AND last_seq >= 9")
    connection.close()
    store = open_store(str(tmp_path))
    with pytest.raises(StoreError, match="is missing") as caught:
        list(store.read(1))
    assert caught.value.code is ErrorCode.STORE_CORRUPT
    store.close()


def test_a_log_without_its_beginning_and_without_snapshot_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("DELETE FROM log WHERE last_seq < 9")
    connection.close()
    with pytest.raises(StoreError, match="no snapshot covers"):
        open_store(str(tmp_path))


def test_a_log_that_lost_its_end_is_refused_where_a_snapshot_knows_better(tmp_path: Path) -> None:
    events = filled(tmp_path)
    save_snapshot(str(tmp_path), State(seq=events[-1].seq))
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("DELETE FROM log WHERE last_seq = (SELECT max(last_seq) FROM log)")
    connection.close()
    with pytest.raises(StoreError, match="it ends with event"):
        open_store(str(tmp_path))


class Events(list[ev.Logged]):
    """Events with a short repr: hypothesis prints the arguments of a failing example."""

    def __repr__(self) -> str:
        return f"<{len(self)} events>"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ev.Logged]]:
    path = tmp_path_factory.mktemp("pristine")
    return path, Events(filled(path))


@given(seed=st.integers(0, 2**32))
@example(seed=0x0F42F5)  # the name of a column in the schema
@settings(deadline=None, max_examples=40)
def test_no_flipped_byte_is_read_as_if_nothing_were(
    pristine: tuple[Path, list[ev.Logged]], tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    source, events = pristine
    path = tmp_path_factory.mktemp("flipped")
    shutil.copy(source / "log.db", path / "log.db")
    rng = random.Random(seed)
    content = bytearray((path / "log.db").read_bytes())
    place = rng.randrange(len(content))
    content[place] ^= rng.randrange(1, 256)
    (path / "log.db").write_bytes(content)
    try:
        store = open_store(str(path))
    except StoreError as error:
        assert error.code in {ErrorCode.STORE_CORRUPT, ErrorCode.STORE_NEWER}  # noqa: PT017
        assert error.hint  # noqa: PT017
    else:
        try:
            assert list(store.read(1)) == events, f"byte {place} of {len(content)}"
        except StoreError as error:
            assert error.code is ErrorCode.STORE_CORRUPT  # noqa: PT017
        store.close()
    shutil.rmtree(path)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_a_damaged_write_ahead_log_gives_a_beginning_or_an_error(
    pristine_wal: tuple[Path, list[ev.Logged]], tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    source, events = pristine_wal
    path = tmp_path_factory.mktemp("wal")
    shutil.copy(source / "log.db", path / "log.db")
    rng = random.Random(seed)
    content = bytearray((source / "log.db-wal").read_bytes())
    content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    (path / "log.db-wal").write_bytes(content)
    try:
        store = open_store(str(path))
    except StoreError as error:
        assert error.code is ErrorCode.STORE_CORRUPT  # noqa: PT017
    else:
        found = list(store.read(1))
        assert found == events[: len(found)]
        store.close()
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def pristine_wal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ev.Logged]]:
    """Files of a store that was killed: everything is in the write-ahead log."""
    live, path = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("killed")
    store = open_store(str(live))
    events = batch(1, 12)
    for logged in events:
        store.append([logged])
    for name in ("log.db", "log.db-wal"):
        shutil.copy(live / name, path / name)
    store.close()
    return path, events


APPENDER = """
import os, sys
from cranectld.core import events as ev
from cranectld.store.api import Pack
from cranectld.store.sqlite import open_store
import cranectld.store.sqlite as module
module.CHECKPOINT_BYTES = 64 << 10
store = open_store(sys.argv[1])
seq = store.last_seq
while True:
    count = 1 + seq % 3
    batch = [ev.Logged(seq + i + 1, seq, ev.EpochStarted(seq + i + 1)) for i in range(count)]
    pack = Pack(store.next_pack_id(), (b"x" * 500, os.urandom(2000))) if seq % 4 == 0 else None
    store.append(batch, pack)
    seq += count
    os.write(1, b"%d\\n" % seq)
"""


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    rng = random.Random(5)
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(rng.randrange(1, 150))]
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.readlines()
        child.stdout.close()
        child.wait()
        acknowledged = max(int(line) for line in lines if line.endswith(b"\n"))
        store = open_store(str(tmp_path))
        assert store.last_seq >= acknowledged
        events = list(store.read(1))
        assert [e.seq for e in events] == list(range(1, store.last_seq + 1))
        assert all(e.event == ev.EpochStarted(e.seq) for e in events)
        store.close()


FILLER = """
import os, resource, sys
from cranectld.core import events as ev
from cranectld.store.api import Pack, StoreError
from cranectld.store.sqlite import open_store
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
seq = 0
try:
    while True:
        seq += 1
        store.append([ev.Logged(seq, seq, ev.EpochStarted(seq))], Pack(seq, (os.urandom(5000),)))
except StoreError as error:
    print(seq - 1, error.code, error)
try:
    store.append([ev.Logged(seq, seq, ev.EpochStarted(seq))])
except StoreError as error:
    print("again:", error)
"""


def test_a_full_disk_stops_the_store_and_loses_nothing(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    answer = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path)], capture_output=True, text=True, check=True
    )
    first, second = answer.stdout.splitlines()
    kept = int(first.split()[0])
    assert kept > 10
    assert first.split()[1] == "SYSTEM"
    assert "disk is full" in first
    assert "earlier write failed" in second
    store = open_store(str(tmp_path))
    assert store.last_seq == kept
    assert [e.seq for e in store.read(1)] == list(range(1, kept + 1))
    store.append([ev.Logged(kept + 1, 0, ev.EpochStarted(kept + 1))])
    store.close()


def test_reclaiming_keeps_what_the_snapshots_need(tmp_path: Path) -> None:
    events = filled(tmp_path)
    store = open_store(str(tmp_path))
    write_reclaim(str(tmp_path), Reclaim(log_through=30, packs=(1, 2, 4)))
    assert store.reclaim() == 2, "no snapshots: packs only, and never the last"
    save_snapshot(str(tmp_path), State(seq=20))
    assert store.reclaim() == 0, "one snapshot may be damaged"
    save_snapshot(str(tmp_path), State(seq=30))
    while store.reclaim(rows=3):
        pass
    rest = list(store.read(21))
    assert rest == events[20:]
    with pytest.raises(StoreError, match="is missing"):
        list(store.read(1))
    store.close()
    store = open_store(str(tmp_path))
    found = store.load_snapshot()
    assert found is not None
    assert found[0] == 30
    store.close()


def test_packs_still_needed_and_old_notes_are_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    store = open_store(str(tmp_path))
    write_reclaim(str(tmp_path), Reclaim(packs=(1, 2, 3)))
    assert store.reclaim(keep={1, 2}) == 1
    os.utime(tmp_path / "reclaim.json", (0, 0))
    assert store.reclaim() == 0, "jobs submitted since may refer to what the note names"
    assert store.get_blobs([BlobRef(1, 0), BlobRef(2, 0)])[0].startswith(b"#!/bin/sh")
    store.close()


def test_figures_count_what_was_done(store: SqliteStore) -> None:
    for seq in range(1, 6):
        store.append(batch(seq))
    figures = store.figures()
    assert (figures.appends, figures.events, figures.fsyncs) == (5, 5, 5)
    assert 0 < figures.append_p50 <= figures.append_p99 <= figures.append_max
