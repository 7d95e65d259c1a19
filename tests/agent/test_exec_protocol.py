"""Orders and reports survive encoding; frames and journals survive being cut anywhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craned.exec import wire
from craned.exec.protocol import (
    Cause,
    Exited,
    Key,
    Kill,
    LaunchFailed,
    LaunchOrder,
    ProtocolError,
    Started,
    StepLimits,
    decode_exited,
    decode_failed,
    decode_kill,
    decode_order,
    decode_signal,
    decode_started,
    decode_time_limit,
    encode_signal,
    encode_time_limit,
    key_of,
)
from craned.exec.spool import Claim, Spool, append
from craned.exec.stdio import environment_of, expand_rank, task_entries

quick = settings(deadline=None, max_examples=60)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**63 - 1)
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
texts = st.lists(text, max_size=4).map(tuple)
keys = st.builds(Key, u64, st.integers(-1, 2**31 - 1), u32)
seconds = st.integers(0, 10**9).map(lambda ms: ms / 1000)
orders = st.builds(
    LaunchOrder, key=keys, uid=u32, gid=u32, cwd=text, groups=st.lists(u32, max_size=4).map(tuple),
    argv=texts, script=st.binary(max_size=50), env=st.binary(max_size=50), stdin=text,
    stdout=text, stderr=text, append=st.booleans(), umask=st.integers(0, 0o777),
    limits=st.builds(StepLimits, u64, text, text, u64, u64),
    time_limit=seconds | st.just(-1.0), kill_grace=st.integers(0, 10**6).map(lambda ms: ms / 1000),
    warn_signal=st.integers(0, 64), warn_before=u32, warn_leaders_only=st.booleans(),
    devices_denied=texts, ranks=st.lists(u32, max_size=4).map(tuple), task_env=texts,
    node_id=u32, connect=text, ticket=text,
)  # fmt: skip


@quick
@given(orders)
def test_orders_come_back_as_they_were(order):
    decoded = decode_order(order.encode())
    assert abs(decoded.time_limit - order.time_limit) < 0.002
    assert abs(decoded.kill_grace - order.kill_grace) < 0.002
    for name in LaunchOrder.__slots__:
        if name not in ("time_limit", "kill_grace"):
            assert getattr(decoded, name) == getattr(order, name)


@quick
@given(orders, st.data())
def test_a_mangled_order_is_refused_or_decodes_to_something(order, data):
    encoded = bytearray(order.encode())
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(ProtocolError):
        decode_order(bytes(encoded[:cut]))
    encoded[cut] ^= data.draw(st.integers(1, 255))
    try:
        decode_order(bytes(encoded))
    except ProtocolError:
        return


def test_a_nul_in_a_path_is_refused():
    with pytest.raises(ProtocolError, match="NUL"):
        LaunchOrder(Key(1, -1, 1), 0, 0, "/a\0b").encode()


@quick
@given(keys, u32, u64, st.integers(0, 255), st.sampled_from(Cause), text)
def test_reports_come_back_as_they_were(key, pid, number, code, cause, message):
    started = Started(key, pid, number)
    assert decode_started(started.encode()) == started
    exited = Exited(key, code, code % 65, cause, number, number, number, number, pid, message)
    assert decode_exited(exited.encode()) == exited
    failed = LaunchFailed(key, "stdout", message)
    assert decode_failed(failed.encode()) == failed
    kill = Kill(key, code % 65, 1.5, cause)
    assert decode_kill(kill.encode()) == kill
    assert decode_signal(encode_signal(key, 9, leaders_only=True)) == (key, 9, True)
    assert decode_time_limit(encode_time_limit(key, -1)) == (key, -1.0)
    assert {key_of(r.encode()) for r in (started, exited, failed, kill)} == {key}


@quick
@given(
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=30)), max_size=8),
    st.lists(st.integers(0, 300), max_size=8),
)
def test_frames_do_not_depend_on_how_the_stream_is_cut(frames, cuts):
    stream = b"".join(wire.frame(kind, payload) for kind, payload in frames)
    buffer, found, at = wire.FrameBuffer(), [], 0
    for cut in [*sorted(cuts), len(stream)]:
        found += buffer.feed(stream[at:cut])
        at = max(at, cut)
    assert found == frames


@pytest.mark.parametrize("length", [0, wire.MAX_FRAME + 1, 2**32 - 1])
def test_a_frame_of_impossible_length_is_refused(length):
    with pytest.raises(wire.FrameError):
        wire.FrameBuffer().feed(length.to_bytes(4, "little") + b"\1")


def test_a_step_can_be_claimed_once(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    first, second = spool.open_journal(101), spool.open_journal(102)
    claim = Claim(Key(1, -1, 1), 101, 5, 77, "s101")
    assert spool.claim(first, claim)
    assert not spool.claim(second, Claim(Key(1, -1, 1), 102, 5, 78, "s102"))
    assert spool.claim(second, Claim(Key(1, -1, 2), 102, 5, 79, "s102"))
    record = spool.read(claim.key)
    assert record is not None
    assert (record.claim, record.end_kind) == (claim, 0)
    assert [r.claim.key.attempt for r in spool.read_all()] == [1, 2]
    spool.forget(claim.key)
    assert spool.read(claim.key) is None


def test_a_journal_outlives_the_names_of_its_shim(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    journal = spool.open_journal(101)
    ends = {}
    for job in range(1, 4):
        key = Key(job, -1, 1)
        assert spool.claim(journal, Claim(key, 101, 5, job, "s101"))
        ends[key] = Exited(key, job, 0, Cause.EXIT, 1, 2, 3, 4, 5, "so").encode()
        append(journal, wire.EXITED, ends[key])
    spool.remove_shim(101)
    assert {r.claim.key: r.end for r in spool.read_all()} == ends


@quick
@given(st.data())
def test_a_torn_journal_keeps_what_was_written_before(tmp_path_factory, data):
    spool = Spool(str(tmp_path_factory.mktemp("torn")))
    journal = spool.open_journal(7)
    key = Key(3, 0, 1)
    assert spool.claim(journal, Claim(key, 7, 0, 1, "job_3/step_0"))
    append(journal, wire.STARTED, Started(key, 9, 2).encode())
    path = f"{spool.path}/shims/7.log"
    with open(path, "rb") as file:
        before = file.read()
    append(journal, wire.EXITED, Exited(key, 0, 0, Cause.EXIT, 1, 2, 3, 4).encode())
    with open(path, "rb") as file:
        whole = file.read()
    cut = data.draw(st.integers(0, len(whole)))
    with open(path, "r+b") as file:
        file.truncate(cut)
    record = spool.read(key)
    assert record is not None, "the claim stands whatever is lost of its content"
    assert bool(record.started) == (cut >= len(before))
    assert bool(record.end) == (cut == len(whole))
    spool.close()


def test_a_spool_is_closed_to_other_users_but_for_their_scripts(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    modes = {
        name: (tmp_path / "spool" / name).stat().st_mode & 0o777
        for name in (".", "records", "shims", "scripts")
    }
    assert modes == {".": 0o711, "records": 0o700, "shims": 0o700, "scripts": 0o711}
    spool.close()


def test_environment_entries_are_taken_apart():
    assert environment_of(b"A=1\0B=x=y\0C=\0=bad\0nonsense\0A=2") == {
        b"A": b"2",
        b"B": b"x=y",
        b"C": b"",
    }
    assert task_entries(("R={rank}", "L={local}/{rank}"), 5, 1) == {b"R": b"5", b"L": b"1/5"}
    assert expand_rank("/o.%t", 12) == "/o.12"


def test_the_launcher_imports_next_to_nothing():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import craned.exec.launcher;"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", program, os.getcwd()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    banned = {"asyncio", "grpc", "google", "numpy", "numba", "logging", "subprocess", "threading"}
    assert not banned & set(done.stdout.split())
