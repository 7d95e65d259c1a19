"""The same seed makes the same history, in any process, whether its story is recorded or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cranectld.sim.__main__ import main
from cranectld.sim.world import Options, World

ROOT = Path(__file__).resolve().parents[2]


def test_equal_seeds_have_equal_digests_and_others_have_not() -> None:
    digests = [World(seed, Options()).run() for seed in (7, 7, 8)]
    assert digests[0] == digests[1]
    assert digests[0].digest != digests[2].digest


def test_recording_the_story_changes_nothing() -> None:
    plain = World(11, Options()).run()
    told = World(11, Options(recording=True)).run()
    assert plain == told


def test_history_does_not_depend_on_the_process() -> None:
    outputs = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "cranectld.sim", "--seed", "5"], check=True, cwd=ROOT,
            capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0] == f"{outputs[0].splitlines()[0]}\n"
    assert World(5, Options()).run().digest in outputs[0]


def test_story_tells_of_the_jobs_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--story", "--jobs", "1"]) == 0
    story = capsys.readouterr().out
    assert "JobsSubmitted" in story
    assert "job_id=2," not in "".join(line for line in story.splitlines() if "JobEnd(" in line)
    assert story.splitlines()[-1].startswith("seed 3: digest ")


def test_many_seeds_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "1-3", "--no-faults"]) == 0
    assert capsys.readouterr().out.endswith("3 seeds, 0 failed\n")


@pytest.mark.parametrize("arguments", [[], ["--seed", "1", "--seeds", "1-2"]])
def test_one_of_seed_and_seeds_is_wanted(arguments: list[str]) -> None:
    assert main(arguments) == 2


@pytest.mark.parametrize("text", ["--seeds=a-b", "--jobs=1,x"])
def test_malformed_numbers_are_refused(text: str) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--seed", "1", text])
    assert refused.value.code == 2
