"""`crane down` removes the cgroups of agents that were killed, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cli import devgroups
from cli.crane import main

IDENTITY = "0f" * 16
OTHER = "ee" * 16


def node(home, name: str, identity: str) -> None:
    spool = home / name / "spool"
    spool.mkdir(parents=True)
    (spool / "id").write_text(identity + "\n")


@pytest.mark.parametrize(
    "tree", ["", "memory", "user.slice/my.scope"], ids=["v2", "v1", "delegated"]
)
def test_only_groups_of_the_clusters_own_agents_are_removed(tmp_path, tree):
    home, root = tmp_path / "home", tmp_path / "cgroup"
    node(home, "n1", IDENTITY)
    mine = root / tree / f"crane_n1_{IDENTITY[:8]}"
    theirs = root / tree / f"crane_n1_{OTHER[:8]}"
    theirs.mkdir(parents=True)
    (mine / "s12" / "step_0").mkdir(parents=True)

    own = "/user.slice/my.scope/crane.host"
    assert devgroups.remove(str(home), str(root), own) == []

    assert theirs.is_dir()
    assert not mine.exists()


def test_a_home_without_nodes_has_no_groups(tmp_path):
    (tmp_path / "log").mkdir()
    assert devgroups.remove(str(tmp_path), str(tmp_path)) == []
    assert devgroups.remove(str(tmp_path / "none"), str(tmp_path / "none")) == []


@pytest.mark.root
def test_down_ends_what_a_killed_agent_left_in_its_group(tmp_path, capsys):
    trees = [root for root in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if os.path.isdir(root)]
    group = f"{trees[0]}/crane_n1_{IDENTITY[:8]}"
    try:
        os.makedirs(f"{group}/s1")
    except OSError:
        pytest.skip("no cgroup tree is writable here")
    home = tmp_path / "home"
    node(home, "n1", IDENTITY)
    orphan = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        with open(f"{group}/s1/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(orphan.pid))

        assert main(["down", "--home", str(home)]) == 0

        assert orphan.wait(10) == -9
        assert not os.path.exists(group)
    finally:
        orphan.kill()
        orphan.wait()
    assert "No cluster runs" in capsys.readouterr().out
