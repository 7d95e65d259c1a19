"""cgroup v2: limits as a job sees them, what is counted for whom, and delegated trees.

Needs root and the v2 controllers memory and pids; a host on cgroup v1 skips all of it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from craned.exec.cgroup import CgroupError, repeat_until
from craned.exec.cgroup_delegation import HOST_LEAF, find_own, read, write
from craned.exec.cgroup_v2 import V2Backend, V2Group
from craned.exec.protocol import Cause, Exited, Key, LaunchFailed, StepLimits

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TREE = "/sys/fs/cgroup"
USER = 54_321
_number = itertools.count()

pytestmark = pytest.mark.root


@pytest.fixture
def v2_host(limited_host):
    """A launcher whose jobs are in v2 groups."""
    if limited_host.client.cgroup_version != "v2":
        pytest.skip("the memory controller of this host is cgroup v1's")
    return limited_host


@pytest.fixture
def group() -> Iterator[str]:
    """A group with the v2 controllers in it, for a tree of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes cgroups")
    try:
        mount, _ = find_own(TREE)
        for controller in ("cpu", "memory", "pids", "cpuset"):
            write(f"{mount}/cgroup.subtree_control", f"+{controller}")
    except (CgroupError, OSError) as error:
        pytest.skip(f"no v2 controllers at the top of the tree: {error}")
    path = f"{mount}/crane-test-tree-{os.getpid()}-{next(_number)}"
    os.mkdir(path)
    yield path
    everything = V2Group(V2Backend(mount, mount, ()), os.path.basename(path), "")
    assert repeat_until(everything.empty, everything.kill)
    for directory, _, _ in os.walk(path, topdown=False):
        os.rmdir(directory)


@pytest.fixture
def backend(group: str) -> V2Backend:
    """A base in that group, for jobs that are only made and looked at."""
    made = V2Backend(f"{group}/base", group, ("".join(find_own(TREE)),))
    os.makedirs(made.home)
    made.turn_controllers_on(("memory", "pids"))
    return made


# --- jobs of a launcher -----------------------------------------------------------------------


def test_a_job_reads_its_limits_in_its_own_group(v2_host):
    show = (
        "d=/sys/fs/cgroup$(awk -F: '$1 == 0 {print $3}' /proc/self/cgroup); "
        "cat $d/cpu.max $d/memory.max $d/../cpu.max $d/../memory.max $d/../pids.max; "
        "cat $d/../memory.swap.max 2>/dev/null || echo 0"
    )
    limits = StepLimits(cpu=1500, memory=100, pids=50)
    seen = ["150000 100000", str(100 << 20)] * 2 + ["50", "0"]
    batch = v2_host.order(show, limits=limits)
    assert v2_host.run_step(batch).exit_code == 0
    assert v2_host.read(f"{batch.key.job_id}.out").splitlines() == seen
    step = v2_host.order(
        key=Key(9_300, 0, 1), argv=("sh", "-c", show), limits=limits, stdout=v2_host.path("step")
    )
    assert v2_host.run_step(step).exit_code == 0
    assert v2_host.read("step").splitlines() == seen


def test_what_a_step_used_is_not_counted_for_the_batch_script(v2_host):
    limits = StepLimits(memory=64)
    batch = v2_host.order("echo up; while [ ! -e stop ]; do sleep 0.1; done", limits=limits)
    v2_host.launch(batch)
    v2_host.wait_file(f"{batch.key.job_id}.out")
    work = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; "
    hog = "head -c 120000000 /dev/zero | tail -c 110000000 > /dev/null; exit 1"
    step = v2_host.order(
        key=Key(batch.key.job_id, 0, 1), argv=("sh", "-c", work + hog), limits=limits
    )
    used = v2_host.run_step(step)
    assert used.cause is Cause.OUT_OF_MEMORY
    with open(v2_host.path("stop"), "w", encoding="utf-8"):
        pass
    report = v2_host.ended(batch)
    assert (report.cause, report.exit_code) == (Cause.EXIT, 0)
    assert report.cpu_us < used.cpu_us


def test_a_job_that_is_throttled_gets_its_share(v2_host):
    # Bound by the quota and not by the host: it is a tenth of a CPU.
    order = v2_host.order(
        "exec sh -c 'while :; do :; done'", limits=StepLimits(cpu=100), time_limit=1.0,
        kill_grace=0.0,
    )  # fmt: skip
    report = v2_host.run_step(order)
    assert report.cause is Cause.TIMEOUT
    lasted = (report.end_ns - report.start_ns) / 1e3
    assert report.cpu_us < 0.3 * lasted


def test_cpus_that_cannot_be_used_are_a_launch_failure(v2_host):
    if "cpuset" not in v2_host.client.backend:
        pytest.skip("no cpuset controller in force on this host")
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        last = file.read().strip().rpartition("-")[2]
    for key in (Key(9_400, -1, 1), Key(9_401, 0, 1)):
        order = v2_host.order(
            key=key, argv=("true",), script=b"#!/bin/sh\n" if key.step == -1 else b"",
            limits=StepLimits(cpuset=f"0,{int(last) + 1}"),
        )  # fmt: skip
        report = v2_host.run_step(order)
        assert isinstance(report, LaunchFailed)
        assert report.code == "cgroup"
    assert isinstance(v2_host.run_step(v2_host.order("true")), Exited)


# --- groups -----------------------------------------------------------------------------------


def run_in(directory: str) -> None:
    """Have processes that take 30 MB in a group, and wait for their end."""
    enter = 'echo 0 > "$1/cgroup.procs"; head -c 32000000 /dev/zero | tail -c 30000000 >/dev/null'
    subprocess.run(["sh", "-c", enter, "sh", directory], check=True)


def test_what_the_last_job_of_a_shim_left_does_not_bind_the_next(backend):
    group = backend.slot("s1", StepLimits(cpu=500, memory=64, pids=10), ())
    run_in(f"{backend.path}/s1/batch")
    assert group.usage().peak_bytes == -1 or group.usage().peak_bytes > 20 << 20
    # Nobody has removed it.
    group = backend.slot("s1", StepLimits(memory=100), ())
    for directory in (f"{backend.path}/s1", f"{backend.path}/s1/batch"):
        assert read(f"{directory}/cpu.max").split()[0] == "max"
        assert read(f"{directory}/memory.max") == f"{100 << 20}\n"
        assert read(f"{directory}/pids.max") == "max\n"
    assert group.usage().peak_bytes < 8 << 20
    assert backend.destroy("s1")


def test_a_step_that_is_quicker_than_its_jobs_script_keeps_its_group(backend):
    step = backend.step("s1", "step_0", StepLimits(memory=64), ())
    batch = backend.slot("s1", StepLimits(memory=64), ())
    for path in ("s1/step_0", "s1/batch"):
        run_in(f"{backend.path}/{path}")
        assert read(f"{backend.path}/{path}/memory.max") == f"{64 << 20}\n"
    step.release()
    batch.release()
    assert backend.leftovers() == []


def test_a_group_that_cannot_be_limited_is_not_left_without_limits(backend):
    with pytest.raises(CgroupError):
        backend.step("job_1", "step_0", StepLimits(memory=64, cpuset="100000"), ())
    with pytest.raises(CgroupError):
        backend.slot("s1", StepLimits(memory=64, cpuset="100000"), ())
    assert backend.leftovers() == []


def test_cpus_kept_from_the_agent_are_refused_rather_than_replaced(backend):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    write(f"{backend.path}/cpuset.cpus", "0")
    with pytest.raises(CgroupError, match="only 0 can be used"):
        backend.slot("s1", StepLimits(cpuset="0-1"), ())
    backend.slot("s1", StepLimits(cpuset="0"), ())
    assert read(f"{backend.path}/s1/batch/cpuset.cpus.effective") == "0\n"
    # Two steps of a job on another host may be on different CPUs of it.
    write(f"{backend.path}/cpuset.cpus", "0-1")
    for number in (0, 1):
        backend.step("job_1", f"step_{number}", StepLimits(cpuset=str(number)), ())
        path = f"{backend.path}/job_1/step_{number}"
        assert read(f"{path}/cpuset.cpus.effective") == f"{number}\n"


def test_steps_that_come_and_go_at_once_are_always_in_a_limited_job(backend):
    wrong: list[str] = []

    def come_and_go(name: str) -> None:
        for _ in range(150):
            step = backend.step("job_1", name, StepLimits(memory=64), ())
            found = read(f"{backend.path}/job_1/memory.max")
            if found != f"{64 << 20}\n":
                wrong.append(found)
            step.release()

    threads = [threading.Thread(target=come_and_go, args=(f"step_{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert backend.leftovers() == []


def test_a_base_is_removed_when_its_last_shim_has_left(backend):
    leaving = subprocess.Popen(["sleep", "0.2"])
    write(f"{backend.home}/cgroup.procs", str(leaving.pid))
    backend.remove_base()
    assert not os.path.exists(backend.path)
    assert leaving.wait() == 0


# --- trees that were delegated ----------------------------------------------------------------

AGENT = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import shutil, signal
from craned.exec.cgroup_delegation import find_own, move_home, read
from craned.exec.cgroup_v2 import open_v2
from craned.exec.protocol import StepLimits
uid = int(sys.argv[2])
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
TREE = "/sys/fs/cgroup"
mount, start = find_own(TREE)
top, leaf = (mount + path for path in sys.argv[3:5])
others = sys.argv[5:]

def where(pid):
    return mount + read(f"/proc/{pid}/cgroup").rstrip().rpartition("::")[2]

def sleeper():
    return subprocess.Popen(["sleep", "300"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

bystander = sleeper()
backend = open_v2(TREE, "crane_n1")
assert backend.path == f"{top}/crane_n1", backend.path
assert {"memory", "pids"} <= set(backend.controllers), backend.controllers
assert where(bystander.pid) == leaf, where(bystander.pid)
assert where("self") == backend.home
# Beside it other agents of the host; and the first one again, its launcher having been killed.
for name in (*others, "crane_n1"):
    assert move_home([where(bystander.pid)])
    other = open_v2(TREE, name)
    assert other.path == f"{top}/{name}", other.path
limits = StepLimits(cpu=500, memory=64, pids=20)
group = backend.slot("s1", limits, ())
step = backend.step("job_2", "step_0", limits, ())
for path in ("s1/batch", "job_2/step_0"):
    assert read(f"{backend.path}/{path}/memory.max") == f"{64 << 20}\\n"
group.enter()
child = sleeper()
group.leave()
assert group.processes() == [child.pid]
group.kill()
assert child.wait(20) == -signal.SIGKILL
for ended in (group, step):
    ended.release()
assert backend.leftovers() == []
backend.remove_base()
for name in others:
    open_v2(TREE, name).remove_base()
left = [entry.name for entry in os.scandir(top) if entry.is_dir()]
assert left == [os.path.basename(leaf)], left
bystander.kill()
bystander.wait()
"""


CONTAIN = f"""
mount -t tmpfs tmpfs {TREE} && mount -t cgroup2 cgroup2 {TREE} && exec "$@"
"""


def run_agent(
    group: str, uid: int, top: str, leaf: str, *others: str, contained: bool = False
) -> None:
    """The life of an agent's groups, from a process in `group`; paths as that process sees them."""
    command = [sys.executable, "-c", AGENT, ROOT, str(uid), top, leaf, *others]
    if contained:
        command = ["unshare", "--mount", "--cgroup", "sh", "-c", CONTAIN, "sh", *command]
    enter = 'echo 0 > "$1/cgroup.procs" && shift && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", enter, "sh", group, *command],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def delegate(path: str, uid: int) -> None:
    """What systemd does for a unit with `Delegate=yes` and `User=`."""
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        with contextlib.suppress(FileNotFoundError):
            os.chown(f"{path}/{name}", uid, uid)


def test_an_agent_in_the_root_of_a_container(group):
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1), of util-linux")
    run_agent(group, 0, "", f"/{HOST_LEAF}", "crane_n2", contained=True)


def test_an_agent_in_a_delegated_unit(group):
    delegate(group, USER)
    own = f"/{os.path.basename(group)}"
    run_agent(group, USER, own, f"{own}/{HOST_LEAF}", "crane_n2")


def test_an_agent_in_the_subgroup_of_a_delegated_unit(group):
    # systemd.resource-control(5), DelegateSubgroup=: nothing is in the unit's own group.
    os.mkdir(f"{group}/main")
    for path in (group, f"{group}/main"):
        delegate(path, USER)
    own = f"/{os.path.basename(group)}"
    run_agent(f"{group}/main", USER, own, f"{own}/main")


def test_nothing_is_left_behind_where_nothing_may_be_made(group):
    # The user owns his own group, but its parent has turned no controller on for it.
    inner = f"{group}/inner"
    os.mkdir(inner)
    delegate(inner, USER)
    with pytest.raises(AssertionError, match="controllers memory, pids are not available"):
        run_agent(inner, USER, "", "")
    assert not [entry for entry in os.scandir(inner) if entry.is_dir()]
