"""Traces: what is read, what is left out and said, and what a damaged file is told."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.machine import Machine, machine
from cranectld.sim.csim.trace import Trace, read_swf
from cranectld.sim.csim.workload import workload

HEADER = "; Version: 2.2\n; MaxNodes: 4\n;   MaxProcs: 16 (4 cards)\n; Note: nothing\n\n"


def line(
    job: int, submit: float, run: float, allocated: int, requested: int, limit: int | str
) -> str:
    return f"{job} {submit} 7 {run} {allocated} -1 -1 {requested} {limit} -1 1 3 1 -1 -1 -1 -1 -1\n"


def write(path: Path, *lines: str) -> Trace:
    path.write_text("".join(lines))
    return read_swf(str(path))


def test_plain_and_gzip_say_the_same(tmp_path: Path) -> None:
    text = HEADER + line(11, 5, 30, 4, 4, 60) + line(9, 3.7, 29.2, -1, 2, -1)
    plain = write(tmp_path / "log.swf", text)
    (tmp_path / "packed").write_bytes(gzip.compress(text.encode()))
    packed = read_swf(str(tmp_path / "packed"))
    assert plain.job_id.tolist() == packed.job_id.tolist() == [11, 9]
    assert plain.submit.tolist() == packed.submit.tolist() == [5, 3]
    assert plain.run.tolist() == packed.run.tolist() == [30, 30]
    assert plain.limit.tolist() == packed.limit.tolist() == [60, -1]
    assert plain.max_procs == packed.max_procs == 16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no job in it"),
        (HEADER, "no job in it"),
        (HEADER + line(1, 0, 1, 1, 1, 1) + "2 3 4\n", "line 7 has 3 columns"),
        (line(1, 0, 1, 1, 1, "1h"), "line 1: limit '1h' is not a number"),
        (line(1, 0, 1, 1, 1, "nan"), "line 1: limit 'nan' is not a number"),
        (line(1, 0, 1, 1, 1, "inf"), "line 1: limit 'inf' is not a number"),
        (line(1, 0, 1, 1, 1, 1 << 60), "line 1: limit '1152921504606846976' is out of range"),
        ("\x00\x01 binary", "line 1 has 2 columns"),
    ],
)
def test_what_is_no_trace_is_told_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CsimError) as told:
        write(tmp_path / "log.swf", text)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + line(1, 0, 1, 1, 1, 1) * 99).encode())
    (tmp_path / "cut.swf.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CsimError, match=r"cut\.swf\.gz: damaged gzip"):
        read_swf(str(tmp_path / "cut.swf.gz"))
    with pytest.raises(CsimError, match=r"none\.swf: No such file"):
        read_swf(str(tmp_path / "none.swf"))
    with pytest.raises(CsimError, match="Is a directory"):
        read_swf(str(tmp_path))


def test_the_strong_filter_is_that_of_the_published_job_sets(tmp_path: Path) -> None:
    trace = write(
        tmp_path / "log.swf",
        HEADER,
        line(1, 0, 10, 4, 8, 20),  # the requested size counts
        line(2, 0, 10, 3, -1, 20),  # only one is known
        line(3, 0, 10, 17, 8, 20),  # allocated more than the machine has
        line(4, 0, 10, -1, -1, 20),
        line(5, 0, 0, 4, 4, 20),
        line(6, 0, 10, 4, 4, -1),
        line(7, 0, 30, 4, 4, 20),  # overran its limit
        line(8, -5, 10, 4, 4, 20),
    )
    found = workload(trace, 16, "strong")
    assert found.job_id.tolist() == [1, 2, 7]
    assert found.procs.tolist() == [8, 3, 4]
    assert found.run.tolist() == [10, 10, 20]
    assert found.estimate.tolist() == [20, 20, 20]
    assert [note.split(" ", 1)[0] for note in found.notes] == ["1"] * 6


def test_without_filter_what_can_be_replayed_is_kept(tmp_path: Path) -> None:
    trace = write(
        tmp_path / "log.swf",
        HEADER,
        line(3, 0, 10, 17, 8, 20),
        line(6, 0, 10, 4, 4, -1),
        line(7, 0, -1, 4, 4, 20),
        line(8, 0, 10, 4, 9, 20),
    )
    found = workload(trace, 8, "none")
    assert found.job_id.tolist() == [3, 6]
    assert found.estimate.tolist() == [20, 10]
    assert "1 jobs larger than the pool left out" in found.notes
    assert "1 jobs without runtime left out" in found.notes
    assert "1 jobs without requested time: their runtime is the estimate" in found.notes
    with pytest.raises(CsimError, match="none of its 4 jobs can be replayed"):
        workload(trace, 1, "none")


def test_the_machine_is_given_or_the_header_s(tmp_path: Path) -> None:
    trace = write(tmp_path / "log.swf", HEADER, line(1, 0, 1, 1, 1, 1))
    assert machine(trace, None, None) == Machine(16)
    assert machine(trace, 5, None) == Machine(5)
    assert machine(trace, None, "3x4") == Machine(12, ((3, 4),))
    bare = write(tmp_path / "bare.swf", line(1, 0, 1, 1, 1, 1))
    with pytest.raises(CsimError, match="--pool PROCESSORS"):
        machine(bare, None, None)
    for nodes in ("3", "0x4", "3x0", "x", "3x4x5", "-3x4", "99999999x99999999"):
        with pytest.raises(CsimError, match=r"give for example|16,777,216"):
            machine(trace, None, nodes)
    with pytest.raises(CsimError, match="not 0"):
        machine(trace, 0, None)


def test_numbers_survive_as_integers(tmp_path: Path) -> None:
    trace = write(tmp_path / "log.swf", line(1, 1 << 40, 3, 1, 1, 5))
    assert trace.submit.dtype == np.int64
    assert trace.submit.tolist() == [1 << 40]
