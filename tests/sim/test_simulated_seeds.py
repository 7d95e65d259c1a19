"""Hundreds of seeded histories with faults: every checker holds after every step.

A failure names its seed; `make sim SEED=...` tells its story.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cranectld.sim.truth import SimulationError
from cranectld.sim.world import Options, World

CHUNK = 10


def run_seed(seed: int, options: Options) -> None:
    try:
        result = World(seed, options).run()
    except AssertionError as error:
        jobs = error.jobs if isinstance(error, SimulationError) else ()
        world = World(seed, replace(options, recording=True))
        with pytest.raises(type(error)):
            world.run()
        pytest.fail(f"seed {seed}: {error}\n{world.story.told(jobs, 60)}")
    assert result.executions > 0 or result.jobs < 10


@pytest.mark.parametrize("first", range(1, 301, CHUNK))
def test_seed_with_faults_and_the_naive_planner(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run_seed(seed, Options())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(1001, 1021, CHUNK // 2))
@pytest.mark.usefixtures("compiled_kernels")
def test_seed_with_faults_and_the_real_planner(first: int) -> None:
    for seed in range(first, first + CHUNK // 2):
        run_seed(seed, Options(planner="real"))


@pytest.mark.parametrize("seed", [2001, 2002])
def test_seed_of_a_larger_and_longer_world(seed: int) -> None:
    run_seed(seed, Options(nodes=8, jobs=100, period=300))


def test_without_faults_every_job_ends_within_its_time() -> None:
    for seed in range(3001, 3011):
        world = World(seed, Options(faults=False))
        world.users._meddle = 0.0  # an operator who sets a node down fails its jobs
        result = world.run()
        assert not result.faults
        assert not world.network.breaks
        assert all(end.state.name != "NODE_FAIL" for end in world.checks.ends.values())


def test_every_kind_of_fault_strikes_in_some_seed() -> None:
    counts: dict[str, int] = {}
    for seed in range(4001, 4021):
        for name, count in World(seed, Options()).run().faults.items():
            counts[name.split(" at ")[0]] = counts.get(name.split(" at ")[0], 0) + count
    wanted = {
        "controller", "agent", "launcher", "launcher crash", "shim", "shim killed", "reboot",
        "host lost", "partition", "stream broken", "power cut", "clock set", "terms changed",
    }  # fmt: skip
    assert wanted <= set(counts), counts
