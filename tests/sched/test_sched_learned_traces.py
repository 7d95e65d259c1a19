"""`learned` on real logs: better than EASY and EASY-SJBF in slowdown and p95, no promise broken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cranectld.sim.csim.__main__ import main

DATA = Path(__file__).resolve().parents[2] / "bench/data"
KTH, SDSC = str(DATA / "KTH-SP2-1996-2.swf.gz"), str(DATA / "SDSC-SP2-sc15filtered.swf.gz")
JIT = "NUMBA_DISABLE_JIT" not in os.environ


@pytest.mark.skipif(not JIT, reason="a whole log takes minutes when kernels are interpreted")
@pytest.mark.parametrize(
    ("trace", "pool", "slowdown", "published"),
    [(KTH, 100, 39.3979, 45.80), (SDSC, 128, 43.1365, 65.02)],
)
def test_learned_beats_the_textbook(
    trace: str, pool: int, slowdown: float, published: float, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["easy", "easy-sjbf", "learned", "learned-always"]
    arguments = ["--compare", ",".join(names), "--pool", str(pool), "--json"]
    assert main(["replay", trace, *arguments]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    easy, sjbf, learned, always = (result["waits"] for result in results)
    for better in (learned, always):
        for known in (easy, sjbf):
            assert better["bounded_slowdown"] < known["bounded_slowdown"]
            assert better["p95"] < known["p95"]
    assert round(learned["bounded_slowdown"], 4) == slowdown < published
    assert [result["promises"] is None for result in results] == [True, True, False, False]
    assert 1000 < results[2]["promises"] < results[3]["promises"]
    assert [result["broken"] for result in results] == [0, 0, 0, 0]


def test_promises_are_printed_and_users_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """User 2's jobs have ended early before, so the second of two alike goes first."""
    jobs = [(0, 850, 1, 1), (0, 10, 1, 2), (1000, 100, 6, 3), (1001, 850, 6, 1), (1002, 10, 6, 2)]
    lines = [
        f"{i} {submit} -1 {run} {size} -1 -1 {size} 900 -1 1 {user} 1 -1 -1 -1 -1 -1\n"
        for i, (submit, run, size, user) in enumerate(jobs, 1)
    ]
    trace, starts = tmp_path / "log.swf", tmp_path / "starts.csv"
    trace.write_text("".join(lines))
    common = ["replay", str(trace), "--pool", "6"]
    assert main([*common, "--policy", "learned", "--jobs", str(starts)]) == 0
    assert "promises     0 jobs promised a start, 0 broken\n" in capsys.readouterr().out
    rows = [line.split(",") for line in starts.read_text().splitlines()[1:]]
    assert [int(row[2]) for row in rows] == [0, 0, 1000, 1110, 1100]
    assert main([*common, "--compare", "easy,learned-always"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "learned-always: 2 jobs promised a start, 0 broken"


@pytest.mark.parametrize("extra", [["--order", "saf"], ["--depth", "9"], ["--nodes", "100x1"]])
def test_what_learned_does_not_take_is_refused(
    extra: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", KTH, "--policy", "learned", *extra]) == 2
    assert "learned" in capsys.readouterr().err
