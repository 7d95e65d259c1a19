"""Whoever is killed: no step runs twice, and none ends unreported."""

from __future__ import annotations

import glob
import os
import signal
import socket

import pytest

from craned.exec.cgroup import CgroupError, open_backend
from craned.exec.protocol import Cause, Exited, Key, StepLimits

DEADLINE = 40.0


def shim_pids(host) -> list[int]:
    names = os.listdir(host.path("spool/shims"))
    return [int(name[:-5]) for name in names if name.endswith(".sock")]


def gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def kill_launcher(host) -> None:
    pid = host.launcher_pid()
    os.kill(pid, signal.SIGKILL)
    host.wait(lambda: host.launcher_pid() != pid, "another launcher")


def test_steps_outlive_their_launcher_and_are_reported_by_the_next(host):
    long = host.order("echo up; while [ ! -e stop ]; do sleep 0.02; done; exit 11")
    short = [host.order("echo up; sleep 0.3; exit 12") for _ in range(5)]
    host.launch(long, *short)
    for order in (long, *short):
        host.wait_file(f"{order.key.job_id}.out")
    kill_launcher(host)
    for order in short:
        assert host.ended(order).exit_code == 12
    with open(host.path("stop"), "w", encoding="utf-8"):
        pass
    assert host.ended(long).exit_code == 11
    assert all(len(host.finals(order.key)) == 1 for order in (long, *short))


def test_an_adopted_step_can_still_be_cancelled(host):
    order = host.order("echo up; sleep 60")
    host.launch(order)
    host.wait_file(f"{order.key.job_id}.out")
    kill_launcher(host)
    host.run_step(host.order("exit 0"))  # the next launcher serves, so it has adopted
    host.call(host.client.kill, order.key, signal.SIGTERM, 1.0, Cause.CANCELLED)
    assert host.ended(order).cause is Cause.CANCELLED


def test_a_launcher_that_lets_go_of_us_is_connected_again_while_its_step_runs(plain_host):
    host = plain_host
    order = host.order("echo up; while [ ! -e stop ]; do sleep 0.02; done; exit 11")
    host.launch(order)
    host.wait_file(f"{order.key.job_id}.out")
    launcher = host.launcher_pid()
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(DEADLINE)
        other.connect(host.path("spool/launcher.sock"))  # it serves the last who came
        other.recv(1)  # a greeting, or the end, if the client was there again before it
        late = host.order("exit 12")
        host.launch(late)
    assert host.ended(late).exit_code == 12
    with open(host.path("stop"), "w", encoding="utf-8"):
        pass
    assert host.ended(order).exit_code == 11
    assert len(host.finals(order.key)) == len(host.finals(late.key)) == 1
    assert host.launcher_pid() == launcher


def test_a_kill_given_while_there_is_no_launcher_is_carried_out(host):
    order = host.order("echo up; sleep 60")
    host.launch(order)
    host.wait_file(f"{order.key.job_id}.out")
    late = host.order("echo late >> ran; sleep 60")

    def strike() -> None:
        os.kill(host.launcher_pid(), signal.SIGKILL)
        host.client.launch_many([late])
        for key in (order.key, late.key):
            host.client.kill(key, signal.SIGTERM, 1.0, Cause.CANCELLED)

    host.call(strike)
    assert host.ended(order).cause is Cause.CANCELLED
    assert host.ended(late).cause is Cause.CANCELLED


def test_orders_survive_launchers_that_are_killed_all_the_time(plain_host):
    orders = [plain_host.order('echo "$0" >> ran') for _ in range(60)]
    for order in orders:
        object.__setattr__(order, "stdout", "null")
    for at in range(0, 60, 20):
        plain_host.launch(*orders[at : at + 20])
        kill_launcher(plain_host)
    for order in orders:
        assert plain_host.ended(order).exit_code == 0
    assert plain_host.read("ran").count("\n") == 60


def test_a_restarted_client_finds_what_runs_and_what_has_ended(host):
    ended = host.order("exit 3")
    host.launch(ended)
    host.ended(ended)
    running = host.order("echo up; while [ ! -e stop ]; do sleep 0.02; done; exit 4")
    host.launch(running)
    host.wait_file(f"{running.key.job_id}.out")
    launcher = host.launcher_pid()
    old = host.client
    host.run(old.close())
    host.reports.clear()
    snapshot = host.connect()
    host.client._process = old._process
    assert host.launcher_pid() == launcher
    assert [report.key for report in snapshot.running] == [running.key]
    assert [(r.key, r.exit_code) for r in snapshot.ended] == [(ended.key, 3)]
    with open(host.path("stop"), "w", encoding="utf-8"):
        pass
    assert host.ended(running).exit_code == 4
    old._process.returncode = None


def test_nothing_that_ends_while_nobody_looks_is_lost(host):
    order = host.order("echo up; while [ ! -e stop ]; do sleep 0.02; done; exit 5")
    host.launch(order)
    host.wait_file(f"{order.key.job_id}.out")
    launcher, process = host.launcher_pid(), host.client._process
    host.run(host.client.close())
    os.kill(launcher, signal.SIGKILL)
    with open(host.path("stop"), "w", encoding="utf-8"):
        pass
    host.wait(lambda: not shim_pids(host), "the shim has written its record and left")
    snapshot = host.connect()
    process.returncode = None
    process.wait()
    assert [(r.key, r.exit_code) for r in snapshot.ended] == [(order.key, 5)]
    host.call(host.client.forget, [order.key])
    host.wait(lambda: not os.listdir(host.path("spool/records")))


def test_a_repeated_order_is_answered_and_not_run_again(host):
    order = host.order("echo once >> ran; exit 6")
    host.launch(order, order)
    assert host.ended(order).exit_code == 6
    host.launch(order)
    again = host.order("exit 0")
    host.run_step(again)
    assert host.read("ran") == "once\n"
    # A new attempt is another step.
    retry = host.order("echo twice >> ran", key=Key(order.key.job_id, -1, 2))
    assert host.run_step(retry).exit_code == 0
    assert host.read("ran") == "once\ntwice\n"


def test_a_repeated_order_to_another_launcher_is_not_run_again(host):
    order = host.order("echo once >> ran; while [ ! -e stop ]; do sleep 0.02; done; exit 6")
    host.launch(order)
    host.wait_file("ran")
    kill_launcher(host)
    host.launch(order)
    with open(host.path("stop"), "w", encoding="utf-8"):
        pass
    assert host.ended(order).exit_code == 6
    assert host.read("ran") == "once\n"


def test_a_killed_shim_is_reported_and_its_processes_are_gone(host):
    order = host.order("setsid sleep 65 & echo $!; echo $$; wait")
    host.launch(order)
    processes = [int(pid) for pid in host.wait_file(f"{order.key.job_id}.out", lines=2).split()]
    for pid in shim_pids(host):
        os.kill(pid, signal.SIGKILL)
    report = host.ended(order)
    assert isinstance(report, Exited)
    assert report.cause is Cause.LOST
    host.wait(lambda: all(map(gone, processes)), "its processes are gone")
    assert host.run_step(host.order("exit 0")).exit_code == 0


def test_a_killed_shim_that_was_adopted_is_reported_too(host):
    order = host.order("sleep 66 & echo $!; echo $$; wait")
    host.launch(order)
    processes = [int(pid) for pid in host.wait_file(f"{order.key.job_id}.out", lines=2).split()]
    kill_launcher(host)
    host.run_step(host.order("exit 0"))
    for pid in shim_pids(host):
        os.kill(pid, signal.SIGKILL)
    assert host.ended(order).cause is Cause.LOST
    host.wait(lambda: all(map(gone, processes)), "its processes are gone")


@pytest.mark.parametrize("point", ["fork", "exec", "exit-record"])
def test_a_death_at_a_fail_point_loses_and_repeats_nothing(tmp_path, monkeypatch, request, point):
    monkeypatch.setenv("CRANE_FAILPOINT", f"{point}:1:{tmp_path / 'died'}")
    host = request.getfixturevalue("plain_host")
    orders = [host.order("echo $1 >> ran", argv=(str(n),), stdout="null") for n in range(6)]
    host.launch(*orders)
    causes = [host.ended(order).cause for order in orders]
    assert (tmp_path / "died").exists()
    ran = host.read("ran").split()
    assert len(set(ran)) == len(ran)
    # A launcher's death costs nothing; a shim's death costs its one step, and says so.
    assert causes.count(Cause.LOST) == (0 if point == "fork" else 1)
    assert causes.count(Cause.EXIT) == 6 - causes.count(Cause.LOST)
    assert len(ran) == (5 if point == "exec" else 6)


def test_a_group_that_its_own_shim_removes_at_this_moment_is_gone(monkeypatch):
    base = f"crane-test-{os.getpid()}-vanishing"
    try:
        backend = open_backend("v1", "/sys/fs/cgroup", base)
    except CgroupError as error:
        pytest.skip(f"no cgroup v1 can be had on this host: {error}")
    backend.slot("s1", StepLimits(), ())
    there = os.open

    def vanishing(path, *words, **how):
        if path == "pids.max":
            for group in glob.glob(f"/sys/fs/cgroup/*/{base}/s1"):
                os.rmdir(group)
        return there(path, *words, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", vanishing)
        assert backend.destroy("s1")
    backend.close()
    backend.remove_base()
    assert not glob.glob(f"/sys/fs/cgroup/*/{base}")
