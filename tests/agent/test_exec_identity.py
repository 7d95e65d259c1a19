"""Jobs run with their user's rights and nothing more."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import threading

import pytest

from craned.exec.identity import group_name, lookup
from craned.exec.protocol import CONNECT, Cause, Exited, Key, LaunchFailed, StepLimits

ALICE, BOB = 54_321, 54_322
"""Two ordinary users; no passwd entry is needed to run as a number."""

STATUS = "grep -E '^(Uid|Gid|Groups|Cap(Inh|Prm|Eff|Amb))' /proc/self/status"
root = pytest.mark.root


def home_of(host, user: int) -> str:
    path = host.path(f"home{user}")
    os.makedirs(path)
    os.chown(path, user, user)
    os.chmod(path, 0o700)
    return path


@root
@pytest.mark.parametrize("user", [ALICE, BOB])
def test_a_job_has_its_users_ids_and_no_capability(root_host, user):
    home = home_of(root_host, user)
    order = root_host.order(
        STATUS, uid=user, gid=user, groups=(user, 777), cwd=home, stdout=f"{home}/o"
    )
    report = root_host.run_step(order)
    assert isinstance(report, Exited), report
    assert report.exit_code == 0
    with open(f"{home}/o", encoding="ascii") as file:
        lines = dict(line.rstrip("\n").split(":\t") for line in file)
    assert lines["Uid"].split() == [str(user)] * 4
    assert lines["Gid"].split() == [str(user)] * 4
    assert sorted(lines["Groups"].split()) == sorted(["777", str(user)])
    assert {
        name: int(lines[name], 16) for name in lines if name.startswith("Cap")
    } == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapAmb"), 0)
    status = os.stat(f"{home}/o")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (user, user, 0o644)


@root
def test_a_job_can_read_the_limits_of_its_own_group(root_host):
    # Java, Go and OpenMP runtimes size their heaps and pools by these files.
    version = root_host.client.cgroup_version
    if version == "none":
        pytest.skip("no writable cgroup on this host")
    home = home_of(root_host, ALICE)
    if version == "v1":
        show = (
            "d=$(awk -F: '$2 == \"memory\" {print $3}' /proc/self/cgroup); "
            "cat /sys/fs/cgroup/memory$d/memory.limit_in_bytes"
        )
    else:
        show = (
            "d=$(awk -F: '$1 == 0 {print $3}' /proc/self/cgroup); "
            "cat /sys/fs/cgroup${d%/*}/memory.max /sys/fs/cgroup$d/memory.max"
        )
    user = {"uid": ALICE, "gid": ALICE, "groups": (ALICE,), "cwd": home}
    limits = StepLimits(memory=100)
    batch = root_host.order(show, stdout=f"{home}/batch", limits=limits, **user)
    assert root_host.run_step(batch).exit_code == 0
    with open(f"{home}/batch", encoding="ascii") as file:
        assert str(100 << 20) in file.read().split()
    step = root_host.order(key=Key(9_100, 0, 1), argv=("sh", "-c", show), limits=limits, **user)
    assert root_host.run_step(step).exit_code == 0


@root
def test_tasks_that_stop_their_shim_do_not_escape_their_time_limit(root_host):
    # While a shim starts tasks it has their user's ids: the first may signal it.
    home = home_of(root_host, ALICE)
    attack = "i=0; while [ $i -lt 200 ]; do kill -STOP $PPID; i=$((i+1)); done; exec sleep 60"
    order = root_host.order(
        key=Key(9_200, 0, 1), argv=("sh", "-c", attack), ranks=tuple(range(24)),
        uid=ALICE, gid=ALICE, groups=(ALICE,), cwd=home, time_limit=1.0,
    )  # fmt: skip
    assert root_host.run_step(order).cause is Cause.TIMEOUT


@root
def test_files_are_opened_with_the_users_rights(root_host):
    home_of(root_host, ALICE)
    for fields, code in (
        ({"stdout": root_host.path(f"home{ALICE}/o")}, "stdout"),
        ({"stdout": "/etc/crane-exec-test"}, "stdout"),
        ({"stdin": "/etc/shadow"}, "stdin"),
        ({"cwd": root_host.path(f"home{ALICE}")}, "work_dir"),
    ):
        order = root_host.order(b"#!/bin/sh\n", **({"uid": BOB, "gid": BOB, "cwd": "/"} | fields))
        report = root_host.run_step(order)
        assert isinstance(report, LaunchFailed)
        assert report.code == code
    assert not os.path.exists("/etc/crane-exec-test")


class Listener:
    """A socket of some program's, and whom it was told is at the other end."""

    def __init__(self, path: str) -> None:
        self.peers: list[tuple[int, int, int]] = []
        self.senders: list[tuple[int, int, int]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(path)
        os.chmod(path, 0o777)
        self._socket.listen(4)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        peer, _ = self._socket.accept()
        with peer:
            said = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            self.peers.append(struct.unpack("3i", said))
            while (message := peer.recvmsg(1 << 16, socket.CMSG_SPACE(12)))[0]:
                self.senders += [struct.unpack("3i", data) for _, _, data in message[1]]

    def close(self) -> None:
        self._thread.join(20)
        self._socket.close()


@root
def test_a_crun_is_connected_to_with_the_users_ids(root_host):
    home = home_of(root_host, ALICE)
    listener = Listener(root_host.path("s"))
    order = root_host.order(
        key=Key(9_300, 0, 1), argv=("echo", "x"), stdout=CONNECT, uid=ALICE, gid=BOB, cwd=home,
        groups=(BOB,), connect=f"unix:{root_host.path('s')}",
    )  # fmt: skip
    root_host.run_step(order)
    listener.close()
    assert [peer[1:] for peer in listener.peers] == [(ALICE, BOB)]
    assert {sender[1:] for sender in listener.senders} == {(ALICE, BOB)}, "of each message, too"


@root
@pytest.mark.parametrize("name", ["spool/launcher.sock", "spool/shims/{shim}"])
def test_a_user_cannot_have_the_agents_own_sockets_spoken_to(root_host, name):
    busy = root_host.order("echo up; sleep 60")
    root_host.launch(busy)
    root_host.wait_file(f"{busy.key.job_id}.out")
    shim = next(n for n in os.listdir(root_host.path("spool/shims")) if n.endswith(".sock"))
    link = root_host.client._link
    path = root_host.path(name.format(shim=shim))
    assert os.path.exists(path)
    # What looks like frames to the launcher: a ticket that drops its client, if nothing else.
    order = root_host.order(
        key=Key(9_400, 0, 1), argv=("true",), stdout=CONNECT, uid=ALICE, gid=ALICE, cwd="/",
        connect=f"unix:{path}", ticket="x" * 200,
    )  # fmt: skip
    report = root_host.run_step(order)
    assert isinstance(report, LaunchFailed)
    assert report.code == "connect"
    assert root_host.client._link is link, "the launcher has kept its client"
    assert root_host.finals(busy.key) == []


@root
def test_users_follow_each_other_in_one_shim_and_root_is_itself_again(root_host):
    for user in (ALICE, 0, BOB, 0, ALICE):
        order = root_host.order("exit $(id -u | tail -c 3)", uid=user, gid=user, cwd="/",
                                stdout="null")  # fmt: skip
        assert root_host.run_step(order).exit_code == user % 100
    scripts = [os.stat(entry.path) for entry in os.scandir(root_host.path("spool/scripts"))]
    assert all(status.st_mode & 0o777 == 0o500 for status in scripts)


@root
def test_a_user_cannot_read_anothers_script_nor_reach_the_spool(root_host):
    alice = root_host.order("sleep 60", uid=ALICE, gid=ALICE, cwd="/", stdout="null")
    root_host.launch(alice)
    scripts = root_host.path("spool/scripts")
    root_host.wait(lambda: os.listdir(scripts))
    path = f"{scripts}/{os.listdir(scripts)[0]}"
    spy = root_host.order(
        f"cat {path} && exit 1; ls {scripts} && exit 2; ls {root_host.path('spool/shims')} && exit 3;"
        f" cat {root_host.path('spool')}/records/* && exit 4; kill {alice.key.job_id} && exit 5;"
        " exit 0", uid=BOB, gid=BOB, cwd="/", stdout="null",
    )  # fmt: skip
    assert root_host.run_step(spy).exit_code == 0


def test_an_ordinary_agent_refuses_other_users(plain_host):
    if os.geteuid() == 0:
        pytest.skip("root may run jobs of other users")
    report = plain_host.run_step(plain_host.order(b"#!/bin/sh\n", uid=os.getuid() + 1))
    assert isinstance(report, LaunchFailed)
    assert report.code == "identity"


@root
def test_an_agent_of_an_ordinary_user_runs_his_jobs_and_refuses_others():
    if os.geteuid() != 0:
        pytest.skip("needs root: becomes an ordinary user")
    program = f"""
import asyncio, os, sys
sys.path.insert(0, {os.getcwd()!r})
from craned.exec.client import LauncherClient, LauncherOptions
from craned.exec.protocol import *
async def main():
    found, done = [], asyncio.Event()
    def take(reports):
        found.extend(r for r in reports if not isinstance(r, Started))
        if len(found) == 2:
            done.set()
    client, _ = await LauncherClient.start(LauncherOptions(os.environ["SPOOL"]), take)
    order = dict(gid=os.getgid(), cwd="/", script=b"#!/bin/sh\\nexit 8\\n")
    client.launch_many([LaunchOrder(Key(1, -1, 1), os.getuid(), **order),
                        LaunchOrder(Key(2, -1, 1), os.getuid() + 1, **order)])
    await asyncio.wait_for(done.wait(), 20)
    await client.close(kill=True)
    found.sort()
    print(client.backend.split()[0].strip(":"), found[0].exit_code, found[1].code)
asyncio.run(main())
""".replace("found.sort()", "found.sort(key=lambda report: report.key)")
    trial = subprocess.run(
        ["/bin/sh", "-c", f"test -x {sys.executable} && test -r {os.getcwd()}/craned/exec/wire.py"],
        user=ALICE, group=ALICE, extra_groups=[], check=False, cwd="/",
    )  # fmt: skip
    if trial.returncode:
        pytest.skip("this Python or this working tree is closed to ordinary users")
    directory = f"/tmp/crane-exec-user-{os.getpid()}"
    os.mkdir(directory)
    os.chown(directory, ALICE, ALICE)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program], env={"SPOOL": f"{directory}/spool"},
            user=ALICE, group=ALICE, extra_groups=[], capture_output=True, text=True, check=False,
            timeout=60, cwd="/",
        )  # fmt: skip
    finally:
        shutil.rmtree(directory)
    assert done.stdout.split()[1:] == ["8", "identity"], done.stderr


def test_a_uid_without_an_entry_has_an_account_all_the_same():
    account = lookup(3_999_999_999)
    assert (account.name, account.gid, account.home) == ("3999999999", 3_999_999_999, "/")
    assert account.groups == (3_999_999_999,)
    assert group_name(3_999_999_999) == "3999999999"


def test_root_is_looked_up_with_his_groups():
    account = lookup(0)
    assert account.name == "root"
    assert account.gid in account.groups
    assert group_name(0) == "root"
