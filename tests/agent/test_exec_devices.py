"""Devices a job does not hold cannot be opened, whichever cgroup version keeps them from it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craned.exec.cgroup import CgroupError, open_backend
from craned.exec.devices import device_numbers, device_program
from craned.exec.protocol import Exited, LaunchFailed, StepLimits

devices = st.tuples(st.sampled_from("bc"), st.integers(0, 511), st.integers(0, 255))


def interpret(program: bytes, kind: int, major: int, minor: int) -> int:
    """The few eBPF instructions of a device program, run as the kernel would."""
    code = [struct.unpack_from("<BBhi", program, at) for at in range(0, len(program), 8)]
    context = struct.pack("<III", 6 << 16 | kind, major, minor)
    registers, at = [0] * 11, 0
    while True:
        operation, pair, offset, value = code[at]
        target = pair & 15
        at += 1
        if operation == 0x61:
            registers[target] = struct.unpack_from("<I", context, offset)[0]
        elif operation == 0x57:
            registers[target] &= value
        elif operation == 0xB7:
            registers[target] = value
        elif operation == 0x55:
            at += offset if registers[target] != value else 0
        else:
            assert operation == 0x95
            return registers[0]


@settings(deadline=None, max_examples=80)
@given(st.lists(devices, max_size=6), devices)
def test_a_program_denies_exactly_its_devices(denied, asked):
    program = device_program(denied)
    for kind, major, minor in [*denied, asked]:
        allowed = interpret(program, 1 if kind == "b" else 2, major, minor)
        assert allowed == ((kind, major, minor) not in denied)


def test_numbers_are_read_from_the_files_that_are_devices(tmp_path):
    plain = tmp_path / "gpu0"
    plain.write_text("")
    files = ["/dev/null", "/dev/zero", "/dev/null", str(plain), "/dev/no-such-device"]
    assert device_numbers(files) == [("c", 1, 3), ("c", 1, 5)]


@pytest.mark.root
def test_a_denied_device_cannot_be_opened_by_the_job(root_host):
    if root_host.client.cgroup_version == "none":
        pytest.skip("no device controller in force on this host")
    script = (
        "true < /dev/full && exit 11; true < /dev/zero || exit 12;"
        " setsid sh -c 'true < /dev/full' && exit 13; exit 0"
    )
    report = root_host.run_step(root_host.order(script, devices_denied=("/dev/full",)))
    assert isinstance(report, Exited), report
    assert report.exit_code == 0
    # The next job of the same shim is not denied anything.
    report = root_host.run_step(root_host.order("true < /dev/full && exit 4"))
    assert report.exit_code == 4


@pytest.mark.root
def test_a_cpuset_is_in_force(root_host):
    if root_host.client.cgroup_version == "none" or "cpuset" not in root_host.client.backend:
        pytest.skip("no cpuset controller in force on this host")
    first = min(os.sched_getaffinity(0))
    order = root_host.order("nproc", limits=StepLimits(cpuset=str(first), mems="0"))
    assert root_host.run_step(order).exit_code == 0
    assert root_host.read(f"{order.key.job_id}.out") == "1\n"


@pytest.mark.root
def test_an_impossible_cpuset_is_a_launch_failure(root_host):
    if root_host.client.cgroup_version == "none" or "cpuset" not in root_host.client.backend:
        pytest.skip("no cpuset controller in force on this host")
    report = root_host.run_step(root_host.order("true", limits=StepLimits(cpuset="100000")))
    assert isinstance(report, LaunchFailed)
    assert report.code == "cgroup"
    assert root_host.run_step(root_host.order("exit 3")).exit_code == 3


PREPARE = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from craned.exec.cgroup_v2 import open_v2
from craned.exec.devices import deny_in_cgroup
from craned.exec.protocol import StepLimits
backend = open_v2("/sys/fs/cgroup", sys.argv[2], required=())
group = backend.slot("s1", StepLimits(), ())
try:
    check(backend, group)
finally:
    backend.destroy("s1")
    backend.remove_base()
assert not os.path.exists(backend.path)
"""
HOLD_AND_KILL = """
def check(backend, group):
    assert group.empty()
    group.enter()
    child = subprocess.Popen(["sleep", "60"])
    group.leave()
    step = backend.step("s1", "step_0", StepLimits(), ())
    step.enter()
    other = subprocess.Popen(["sleep", "60"])
    step.leave()
    assert sorted(group.processes()) == sorted((child.pid, other.pid))
    assert step.processes() == [other.pid]
    step.kill()
    assert other.wait(10) == -9
    assert step.empty()
    step.release()
    assert not group.empty()
    assert backend.destroy("s1")
    assert child.wait(10) == -9
    assert backend.leftovers() == []
"""
DENY = """
def check(backend, group):
    deny_in_cgroup(f"{backend.path}/s1", ["/dev/full"])
    group.enter()
    denied = subprocess.call(["sh", "-c", "true < /dev/full"], stderr=subprocess.DEVNULL)
    allowed = subprocess.call(["sh", "-c", "true < /dev/zero"])
    group.leave()
    assert (denied != 0, allowed) == (True, 0)
"""


@pytest.mark.root
@pytest.mark.parametrize("check", [HOLD_AND_KILL, DENY], ids=["hold and kill", "deny devices"])
def test_the_v2_tree_does_what_is_asked_of_it(check):
    """In a process of its own, which moves; without controllers, which v1 may have."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes cgroups")
    with open("/proc/self/mounts", encoding="ascii") as file:
        if " cgroup2 " not in file.read():
            pytest.skip("no cgroup v2 tree is mounted")
    done = subprocess.run(
        [sys.executable, "-c", check + PREPARE, os.getcwd(), f"crane-test-v2-{os.getpid()}"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_explicit_choice_that_cannot_be_had_is_an_error(tmp_path):
    with pytest.raises(CgroupError, match="v2 was asked for"):
        open_backend("v2", str(tmp_path), "crane-test")
    with pytest.raises(CgroupError, match="v1 was asked for"):
        open_backend("v1", str(tmp_path), "crane-test")
    fallback = open_backend("auto", str(tmp_path), "crane-test")
    assert fallback.name == "none"
    assert str(tmp_path) in fallback.describe()
