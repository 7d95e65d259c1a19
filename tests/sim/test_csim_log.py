"""`csim replay` and `csim whatif` of a controller's own log."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from crane.jobspec import ArraySpec
from cranectld.core import events as ev
from cranectld.sim.csim.__main__ import main
from cranectld.sim.csim.history import read_history
from cranectld.sim.csim.source import log_source
from cranectld.sim.world import Options, World
from cranectld.store.codec import decode_batch
from cranectld.store.snapshot import save_snapshot
from cranectld.store.sqlite import open_store
from sched_core.oracle_pool import PoolJob, pool_schedule

pytestmark = pytest.mark.usefixtures("compiled_kernels")
NS = 1_000_000_000
T0 = 1_700_000_000
HERE = Path(__file__).parent


def _builder() -> Any:
    spec = importlib.util.spec_from_file_location("site_logs", HERE / "site_logs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SiteLog = _builder().SiteLog
CPUS = 6


def some_jobs(seed: int, count: int = 30) -> list[PoolJob]:
    rng = random.Random(seed)
    jobs = []
    for _ in range(count):
        estimate = rng.randint(10, 60)
        size, at = rng.randint(1, CPUS), rng.randint(1, 12 * count)
        jobs.append(PoolJob(at, size, estimate, rng.randint(1, estimate)))
    return sorted(jobs, key=lambda job: job.submit)


def recorded(path: Path, jobs: list[PoolJob], policy: str = "easy") -> str:
    log = SiteLog(path, {"n1": CPUS}, {"fcfs": "fifo"}.get(policy, policy))
    log.schedule(jobs, pool_schedule(jobs, CPUS, policy))
    where: str = log.close()
    return where


def starts(path: Path) -> dict[int, int]:
    with path.open() as file:
        return {int(row["job_id"]): int(row["start"]) - T0 for row in csv.DictReader(file)}


@pytest.mark.parametrize("policy", ["fcfs", "easy"])
def test_a_history_replayed_under_its_own_policy_is_itself(tmp_path: Path, policy: str) -> None:
    jobs = some_jobs(1)
    where = recorded(tmp_path / "state", jobs, policy)
    assert main(["replay", where, "--jobs", str(tmp_path / "out.csv")]) == 0
    expected = pool_schedule(jobs, CPUS, policy)
    assert list(starts(tmp_path / "out.csv").values()) == expected


def test_another_policy_and_the_log_by_its_file(tmp_path: Path) -> None:
    jobs = some_jobs(2)
    where = recorded(tmp_path / "state", jobs)
    command = ["replay", f"{where}/log.db", "--policy", "fcfs", "--jobs", str(tmp_path / "o.csv")]
    assert main(command) == 0
    assert list(starts(tmp_path / "o.csv").values()) == pool_schedule(jobs, CPUS, "fcfs")


def test_what_never_ran_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = SiteLog(tmp_path / "state", {"n1": 4})
    for at in (1, 2, 3, 4):
        log.submit(at, 4, 100)
    log.start(5, 1, {"n1": 4})
    log.cancel(6, 2)
    log.end(11, 1, requeue=True)
    log.start(12, 1, {"n1": 4}, attempt=2)
    log.end(20, 1, attempt=2)
    log.start(20, 3, {"n1": 4})
    log.log(30, ev.EpochStarted(2))
    assert main(["replay", log.close()]) == 0
    told = capsys.readouterr().out
    assert "3 jobs on 1 node of 4 CPUs" in told
    for note in (
        "1 jobs ended without having started",
        "1 jobs wait when the log ends",
        "1 jobs run when the log ends",
        "1 jobs were run again",
    ):
        assert note in told
    assert "policy       easy, depth 10000\n" in told


def test_holds_and_arrays_keep_what_they_kept(tmp_path: Path) -> None:
    log = SiteLog(tmp_path / "state", {"n1": 4})
    held = log.submit(1, 1, 100, hold=True)
    array = log.submit(2, 1, 100, ArraySpec(((0, 3, 1),), 2))
    log.start(2, 10, {"n1": 1}, array=array, position=0)
    log.start(2, 11, {"n1": 1}, array=array, position=1)
    log.end(12, 10)
    log.start(12, 12, {"n1": 1}, array=array, position=2)
    log.end(22, 11)
    log.start(22, 13, {"n1": 1}, array=array, position=3)
    log.log(30, ev.JobsReleased((ev.Target(held),)))
    log.start(30, held, {"n1": 1})
    for job_id in (12, 13, held):
        log.end(40, job_id)
    out = tmp_path / "out.csv"
    assert main(["replay", log.close(), "--jobs", str(out)]) == 0
    assert starts(out) == {held: 30, 10: 2, 11: 2, 12: 12, 13: 22}


def test_nodes_out_of_service_take_no_jobs(tmp_path: Path) -> None:
    log = SiteLog(tmp_path / "state", {"n1": 2, "n2": 4})
    log.log(1, ev.NodeChanged("n2", "drain", "fan", "op"))
    small, large = log.submit(2, 2, 50), log.submit(2, 4, 50)
    log.start(2, small, {"n1": 2})
    log.log(9, ev.NodeChanged("n2", "resume", "", "op"))
    log.start(9, large, {"n2": 4})
    log.end(20, small)
    log.end(20, large)
    out = tmp_path / "out.csv"
    where = log.close()
    assert main(["replay", where, "--jobs", str(out)]) == 0
    assert starts(out) == {small: 2, large: 9}
    assert str(log_source(where).machine) == "1 node of 2 CPUs and 1 node of 4 CPUs"


def test_a_log_that_was_cut_goes_on_from_a_snapshot(tmp_path: Path) -> None:
    log = SiteLog(tmp_path / "state", {"n1": 4})
    log.submit(1, 4, 30)
    log.start(1, 1, {"n1": 4})
    log.submit(2, 4, 30)
    save_snapshot(log.close(), log.state)
    first = log.state.seq + 1
    log.store = open_store(str(log.path))
    log.end(20, 1)
    log.start(20, 2, {"n1": 4})
    log.end(29, 2)
    whole = read_history(log.close())
    assert [a.job_id for a in whole.attempts] == [1, 2]
    cut(log.path, first)
    history = read_history(str(log.path))
    assert [(a.job_id, a.submit // NS - T0) for a in history.attempts] == [(2, 2)]
    assert [(row.job_id, when // NS - T0) for row, when in history.running] == [(1, 20)]
    out = tmp_path / "out.csv"
    assert main(["replay", str(log.path), "--jobs", str(out)]) == 0
    assert starts(out) == {2: 20}
    shutil.rmtree(log.path / "snapshots")
    assert main(["replay", str(log.path)]) == 2


def cut(path: Path, first: int) -> None:
    """Delete what is before an event, as a controller does that does not keep its log."""
    import sqlite3

    connection = sqlite3.connect(path / "log.db")
    with connection:
        connection.execute("DELETE FROM log WHERE last_seq < ?", (first,))
    connection.close()


def test_a_log_is_read_beside_its_controller_and_not_changed(tmp_path: Path) -> None:
    log = SiteLog(tmp_path / "state", {"n1": 4})
    job = log.submit(1, 4, 30)
    log.start(1, job, {"n1": 4})
    names = {p.name: p.read_bytes() for p in log.path.iterdir() if p.name != "log.db-shm"}
    assert [a.job_id for a in read_history(str(log.path)).attempts] == [job]
    after = {p.name: p.read_bytes() for p in log.path.iterdir() if p.name != "log.db-shm"}
    assert after == names
    log.end(9, job)
    log.close()


@pytest.mark.parametrize("seed", range(1, 13))
def test_logs_of_a_controller_with_faults(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arrays, holds, dependencies, lost nodes, restarts: all that the simulation thinks of."""
    world = World(seed, Options())
    world.run()
    store = open_store(str(tmp_path))
    for row in world.log.rows:
        store.append(decode_batch(row))
    store.close()
    history = read_history(str(tmp_path))
    assert history.attempts
    for attempt in history.attempts:
        assert attempt.submit <= attempt.eligible <= attempt.start
        assert attempt.end == 0 or attempt.end >= attempt.start
    words = ["whatif", str(tmp_path), "--policy", "easy", "--set", "policy=conservative"]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["measures"]["waits"]["jobs"] for row in rows] == [len(history.attempts)] * 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--pool", "4"], "is a log, which says what nodes there were"),
        (["--policy", "learned"], "learned is not offered on nodes"),
        (["--window", "-1"], "below 0"),
    ],
)
def test_what_a_log_does_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    where = recorded(tmp_path / "state", some_jobs(3, 4))
    assert main(["replay", where, *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_logs_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["replay", str(empty)]) == 2
    idle = SiteLog(tmp_path / "idle", {"n1": 4}).close()
    assert main(["replay", idle]) == 2
    shutil.copy(f"{idle}/log.db", tmp_path / "copy.db")
    assert main(["replay", str(tmp_path / "copy.db")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "log.db" in errors[0]
    assert "no job in this log has started" in errors[1]
    assert "a log is named log.db" in errors[2]


def test_what_if_compares_three_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = some_jobs(4)
    where = recorded(tmp_path / "state", jobs)
    assert main(["whatif", where, "--set", "policy=fcfs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    was, replayed, changed = found["rows"]
    assert was["measures"] == replayed["measures"]
    waits = [s - j.submit for j, s in zip(jobs, pool_schedule(jobs, CPUS, "fcfs"), strict=True)]
    assert changed["measures"]["waits"]["mean"] == pytest.approx(sum(waits) / len(waits))
    assert changed["scenario"]["policy"] == "fcfs"
    assert main(["whatif", where, "--set", "nodes.n1.cpus=12", "--set", "depth=0"]) == 0
    text = capsys.readouterr().out
    assert "changed    easy; nodes.n1.cpus=12 depth=0\n" in text
    assert [line.split()[0] for line in text.splitlines()[-3:]] == ["all", "replayed", "changed"]


def test_nodes_can_be_added_and_taken_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = SiteLog(tmp_path / "state", {"n1": 4})
    for at in (1, 2):
        log.submit(at, 4, 30)
    log.start(2, 1, {"n1": 4})
    log.end(9, 1)
    log.start(9, 2, {"n1": 4})
    log.end(19, 2)
    where = log.close()
    for words, waits, cpus in (
        (["nodes.n[2-3].like=n1"], 0.0, 12),
        (["nodes.n2.like=n1", "nodes.n2.state=down"], 3.0, 4),
        (["nodes.n2.like=n1", "nodes.n2.cpus=2.5"], 3.0, 7),
        (["nodes.n1.memory=1G", "nodes.n1.weight=3", "nodes.n1.features=a,b"], 3.0, 4),
        (["nodes.n1.gres=gpu:a100:2", "clairvoyant=yes"], 3.0, 4),
    ):
        settings = [word for text in words for word in ("--set", text)]
        assert main(["whatif", where, *settings, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert [row["measures"]["waits"]["mean"] for row in rows] == [4.0, 3.0, waits]
        assert [row["machine"]["processors"] for row in rows] == [4, 4, cpus]
    assert main(["whatif", where, "--set", "nodes.n1.partitions=other"]) == 2
    assert "no job could start on 1 node of 4 CPUs" in capsys.readouterr().err
    assert main(["whatif", where, "--set", "nodes.n1.state=down"]) == 2
    assert "no job could start on a machine with nothing in service" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["deph=3"], "there is no key 'deph'; keys: policy, order, depth"),
        (["nodes.n1.cpu=3"], "nodes.LIST.{cpus,memory,gres"),
        (["depth"], "is not KEY=VALUE"),
        (["policy=lottery"], "there is no 'lottery'; there are fcfs, easy"),
        (["depth=-1"], "is not a whole number"),
        (["nodes.n[1-9].cpus=4"], "there is no node n2, only n1"),
        (["nodes.n[1-.cpus=4"], "--set nodes.n[1-.cpus=4"),
        (["nodes.n1.cpus=many"], "invalid number of CPUs"),
        (["nodes.n1.state=off"], "there are up, down"),
        (["nodes.n1.like=n1"], "is there already"),
        (["pool=4"], "the log says what nodes there were"),
        (["resolution=0"], "not a second or more"),
    ],
)
def test_wrong_settings_are_told_with_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    where = recorded(tmp_path / "state", some_jobs(5, 4))
    assert main(["whatif", where, "--set", *words]) == 2
    output = capsys.readouterr()
    assert told in output.err
    assert output.err.count("\n") == 1
    assert not output.out
