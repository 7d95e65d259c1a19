"""Replays on nodes: what they have in common with the pool, and where they cannot."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from cranectld.sim.csim.__main__ import main
from cranectld.sim.csim.machine import machine_of_nodes
from cranectld.sim.csim.replay import Scenario, replay
from cranectld.sim.csim.workload import Workload
from sched_core.oracle_pool import PoolJob, pool_schedule
from sched_core.oracle_pool_conservative import conservative_schedule

pytestmark = pytest.mark.usefixtures("compiled_kernels")
QUEUES = ("fcfs", "easy", "easy-sjbf")
PLANS = ("conservative", "conservative-replan")


def some_jobs(seed: int, count: int, processors: int) -> list[PoolJob]:
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        estimate = rng.randint(1, 30)
        size = rng.choice([1, 1, 2, rng.randint(1, processors)])
        out.append(PoolJob(rng.randint(0, 8 * count), size, estimate, rng.randint(1, estimate)))
    return out


def on_nodes(jobs: list[PoolJob], nodes: str, scenario: Scenario) -> list[int]:
    columns = np.array([(j.submit, j.processors, j.estimate, j.runtime) for j in jobs], np.int64)
    work = Workload(np.arange(len(jobs)), *columns.T, ())
    found: list[int] = replay(work, machine_of_nodes(nodes), scenario).start.tolist()
    return found


@pytest.mark.parametrize("policy", QUEUES)
@pytest.mark.parametrize("nodes", ["6x1", "1x6", "2x1,1x4"])
def test_queues_on_nodes_are_those_of_the_pool(policy: str, nodes: str) -> None:
    for seed in range(4):
        jobs = some_jobs(seed, 40, 6)
        assert on_nodes(jobs, nodes, Scenario(policy)) == pool_schedule(jobs, 6, policy)


@pytest.mark.parametrize("policy", PLANS)
def test_plans_on_one_node_are_those_of_the_pool(policy: str) -> None:
    for seed in range(4):
        jobs = some_jobs(seed, 40, 6)
        expected = conservative_schedule(jobs, 6, replan=policy == PLANS[1])
        assert on_nodes(jobs, "1x6", Scenario(policy)) == expected


def test_a_promise_on_a_node_holds_that_node() -> None:
    """Where a plan on nodes is another than on processors without names.

    A runs on one node until 7, B on the other until 6. C is promised B's at 6, D A's at 7. A ends at
    5. Of two processors one is free from 5 on, whatever D is planned for, so on the pool C moves to
    5. On nodes the free one is promised to D from 7 on, too soon for C; D itself moves to 5.
    """
    jobs = [PoolJob(0, 1, 7, 5), PoolJob(0, 1, 6, 6), PoolJob(1, 1, 5, 5), PoolJob(1, 1, 4, 4)]
    assert conservative_schedule(jobs, 2, replan=False) == [0, 0, 5, 6]
    assert on_nodes(jobs, "1x2", Scenario("conservative")) == [0, 0, 5, 6]
    assert on_nodes(jobs, "2x1", Scenario("conservative")) == [0, 0, 6, 5]


@pytest.mark.parametrize("order", ["sjf", "ljf", "saf", "f1"])
def test_orders_clairvoyance_and_depth_reach_the_pass(order: str) -> None:
    jobs = some_jobs(7, 40, 6)
    known = [PoolJob(j.submit, j.processors, j.runtime, j.runtime) for j in jobs]
    scenario = Scenario("easy", order, 3, clairvoyant=True)
    assert on_nodes(jobs, "6x1", scenario) == pool_schedule(known, 6, "easy", order, 3)


def test_a_schedule_without_promises_beyond_the_window() -> None:
    """Two CPUs: what would start beyond the window holds no place, so a small job goes first."""
    jobs = [PoolJob(0, 1, 100, 100), PoolJob(1, 2, 10, 10), PoolJob(2, 1, 500, 500)]
    assert on_nodes(jobs, "1x2", Scenario("conservative")) == [0, 100, 110]
    assert on_nodes(jobs, "1x2", Scenario("conservative", window=50)) == [0, 502, 2]


def test_promises_at_multiples_of_the_resolution() -> None:
    """A start is promised for a multiple of 60 s, and is made as soon as its nodes are free."""
    jobs = [PoolJob(0, 2, 50, 50), PoolJob(1, 2, 10, 10), PoolJob(2, 1, 5, 5)]
    exact = on_nodes(jobs, "1x2", Scenario("conservative"))
    coarse = on_nodes(jobs, "1x2", Scenario("conservative", resolution=60))
    assert (exact, coarse) == ([0, 50, 60], [0, 50, 60])


def test_nodes_of_several_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "log.swf"
    rest = "-1 -1 {0} {1} -1 1 1 1 1 -1 -1 -1 -1 -1\n"
    lines = [f"{i} {i} -1 9 {size} {rest.format(size, 9)}" for i, size in enumerate((1, 8, 4))]
    trace.write_text("".join(lines))
    assert main(["replay", str(trace), "--nodes", "2x2,1x4"]) == 0
    assert "3 jobs on 2 nodes of 2 CPUs each and 1 node of 4 CPUs" in capsys.readouterr().out
    assert main(["replay", str(trace), "--nodes", "2000000x1"]) == 2
    assert "at most 1,048,576 nodes" in capsys.readouterr().err


ROOT = Path(__file__).resolve().parents[2]
KTH = str(ROOT / "bench/data/KTH-SP2-1996-2.swf.gz")


def small_trace(path: Path) -> str:
    lines = [
        f"{i} {j.submit} -1 {j.runtime} {j.processors} -1 -1 {j.processors} {j.estimate} "
        "-1 1 1 1 1 -1 -1 -1 -1\n"
        for i, j in enumerate(some_jobs(9, 30, 6))
    ]
    path.write_text("".join(lines))
    return str(path)


def test_the_same_command_writes_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = small_trace(tmp_path / "log.swf")
    seen = []
    for turn in ("a", "b"):
        (tmp_path / turn).mkdir()
        jobs, plot = tmp_path / turn / "starts.csv", tmp_path / turn / "plot.html"
        words = ["--policy", "conservative", "--nodes", "2x1,1x4", "--plot", str(plot)]
        assert main(["replay", trace, *words, "--jobs", str(jobs)]) == 0
        seen.append((capsys.readouterr().out, jobs.read_bytes(), plot.read_bytes()))
    assert seen[0] == seen[1]


def test_files_are_written_both_or_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = small_trace(tmp_path / "log.swf")
    words = ["--pool", "6", "--jobs", str(tmp_path / "starts.csv")]
    assert main(["replay", trace, *words, "--plot", str(tmp_path / "gone" / "plot.html")]) == 6
    assert "plot.html: cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["log.swf"]
