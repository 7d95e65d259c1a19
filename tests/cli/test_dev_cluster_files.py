"""Files of a development cluster: what `crane up` writes is right, and no stranger is ever ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cli import devcluster, devfiles
from cli.crane import main
from cli.devfiles import Plan, Process
from crane.config.load import load
from crane.errors import CraneError, ErrorCode
from crane.jobspec import Gres


def test_the_configuration_is_right_and_says_what_was_asked(tmp_path_factory):
    # not named after the test: sockets have room for a short path only
    home = str(tmp_path_factory.mktemp("d") / 'a "quoted" home')
    plan = Plan(home, 3, 4000, 2048, (Gres("gpu", "a100", 2),), {3: (Gres("npu", "", 4),)}, "fifo")
    devfiles.make_home(plan)

    config = load(devfiles.write_config(plan, 12345))

    assert [node.name for node in config.cluster.nodes] == ["n1", "n2", "n3"]
    assert {(node.cpus, node.memory, node.address) for node in config.cluster.nodes} == {
        (4000, 2048, "127.0.0.1")
    }
    groups = [(g.name, g.type, len(g.slots)) for node in config.cluster.nodes for g in node.devices]
    assert groups == [("gpu", "a100", 2), ("gpu", "a100", 2), ("npu", "", 4)]
    assert all(
        os.path.isfile(f)
        for n in config.cluster.nodes
        for g in n.devices
        for s in g.slots
        for f in s.files
    )
    assert config.controller.listen == config.agent.controller == "127.0.0.1:12345"
    assert config.controller.socket == devfiles.socket_path(home)
    assert config.cluster.scheduler.policy == "fifo"
    assert os.stat(home).st_mode & 0o077 == 0


def test_a_home_too_deep_for_a_socket_is_refused(tmp_path):
    with pytest.raises(CraneError) as caught:
        devfiles.make_home(Plan(str(tmp_path / ("x" * 100)), 1))
    assert caught.value.code is ErrorCode.SOCKET_UNUSABLE


def test_a_recycled_number_is_not_the_process(tmp_path):
    home = str(tmp_path)
    own = devfiles.start_time(os.getpid())
    devfiles.save(
        home, [Process("cranectld", os.getpid(), own), Process("n1", os.getpid(), own - 1)]
    )

    assert devfiles.processes(home) == [Process("cranectld", os.getpid(), own)]
    assert not devfiles.alive(Process("gone", 2**22 + 1, 5))


def test_down_ends_what_it_started_and_nothing_else(tmp_path, capsys):
    sleeper = [sys.executable, "-c", "import sys, signal; signal.pause()"]
    ours, other = (subprocess.Popen(sleeper) for _ in range(2))
    started = devfiles.start_time(ours.pid)
    devfiles.save(
        str(tmp_path),
        [
            Process("n1", ours.pid, started),
            Process("n2", other.pid, devfiles.start_time(other.pid) + 1),
        ],
    )
    (tmp_path / "crane.toml").write_text("")

    assert main(["down", "--home", str(tmp_path)]) == 0

    assert ours.wait(10) < 0
    assert other.poll() is None
    other.kill()
    other.wait()
    assert not (tmp_path / "processes").exists()
    out, err = capsys.readouterr()
    assert out == "The cluster is down.\n"
    assert "could not be cancelled" in err


def test_purge_removes_only_a_cluster(tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir()
    (home / "precious").write_text("not ours")
    assert main(["down", "--purge", "--home", str(home)]) == 0
    assert (home / "precious").exists()

    (home / "crane.toml").write_text("")
    assert main(["down", "--purge", "--home", str(home)]) == 0
    assert not home.exists()
    assert "No cluster runs" in capsys.readouterr().out


def test_status_and_up_know_a_running_cluster(tmp_path, capsys):
    assert main(["status", "--home", str(tmp_path)]) == 1
    devfiles.save(
        str(tmp_path), [Process("cranectld", os.getpid(), devfiles.start_time(os.getpid()))]
    )

    assert main(["up", "--home", str(tmp_path)]) == 6
    assert "runs in" in capsys.readouterr().err


def test_a_daemon_that_ends_at_once_is_told_with_its_last_words(tmp_path, monkeypatch, capsys):
    def start(home, name, arguments):
        with open(devfiles.path(home, "log", f"{name}.log"), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", "import sys; sys.exit('the disk is on fire')"], stderr=log
            )
        found = Process(name, process.pid, devfiles.start_time(process.pid))
        process.wait(20)
        return found

    monkeypatch.setattr(devcluster, "_start", start)

    assert main(["up", "--home", str(tmp_path)]) == 6

    assert "cranectld has ended: the disk is on fire" in capsys.readouterr().err
