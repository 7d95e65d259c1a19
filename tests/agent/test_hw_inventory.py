"""What the agent finds on its host, and what it makes of declared devices."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane.config.model import DeviceGroup, DeviceSlot
from craned.contact import host_id
from craned.hw.cpus import format_cpu_list, parse_cpu_list, read_cpus
from craned.hw.inventory import take_inventory
from craned.hw.memory import parse_meminfo, read_memory
from craned.hw.slots import (
    SlotError,
    build_slots,
    check_template,
    denied_files,
    held_files,
    managed_files,
    slot_variables,
)


@settings(deadline=None, max_examples=80)
@given(st.sets(st.integers(0, 300), max_size=40))
def test_cpu_lists_come_back_as_they_were(cpus):
    assert parse_cpu_list(format_cpu_list(tuple(cpus))) == tuple(sorted(cpus))


def test_cpu_lists_are_read_as_the_kernel_writes_them():
    assert parse_cpu_list("0-3,8,10-11\n") == (0, 1, 2, 3, 8, 10, 11)
    assert format_cpu_list((8, 0, 1, 2)) == "0-2,8"
    with pytest.raises(ValueError, match="invalid literal"):
        parse_cpu_list("0-x")


def test_this_hosts_cpus_are_found():
    cpus = read_cpus()
    assert set(cpus.online) == os.sched_getaffinity(0)
    assert 1 <= cpus.sockets <= cpus.cores <= len(cpus.online)
    assert 0 < cpus.thousandths <= len(cpus.online) * 1000
    inside = [cpu for _, members in cpus.numa for cpu in members]
    assert sorted(inside) == sorted(cpus.online)


def test_topology_is_read_from_sysfs(tmp_path):
    online = sorted(os.sched_getaffinity(0))
    for cpu in online:
        topology = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0\n")
        (topology / "core_id").write_text("0\n")
    node = tmp_path / "devices/system/node/node1"
    node.mkdir(parents=True)
    (node / "cpulist").write_text(f"{format_cpu_list(tuple(online))}\n")
    (node / "meminfo").write_text("Node 1 MemTotal:  2097152 kB\nNode 1 MemFree: 1 kB\n")
    cpus = read_cpus(str(tmp_path))
    assert (cpus.sockets, cpus.cores, cpus.threads_per_core) == (1, 1, len(online))
    assert cpus.numa == ((1, tuple(online)),)
    assert read_memory(str(tmp_path)).numa == ((1, 2048),)


def test_this_hosts_memory_is_found():
    memory = read_memory()
    assert 0 < memory.usable <= memory.total
    assert memory.total > 64
    assert sum(amount for _, amount in memory.numa) > 0


def test_meminfo_lines_that_are_no_amounts_are_left_out():
    assert parse_meminfo("MemTotal:  100 kB\nHugePages_Total:  3\nnonsense\n") == {"MemTotal": 100}


@pytest.fixture
def groups(tmp_path):
    for name in ("g0", "g1", "ctl", "n0"):
        (tmp_path / name).write_text("")
    path = str(tmp_path)
    visible = (("CUDA_VISIBLE_DEVICES", "{indices}"), ("GPU_FILES", "<{files}>"))
    return (
        DeviceGroup(
            "gpu", "a100", (DeviceSlot((f"{path}/g0",), 0), DeviceSlot((f"{path}/g1",), 1)),
            visible, (f"{path}/ctl",),
        ),
        DeviceGroup("npu", "910b3", (DeviceSlot((f"{path}/n0",)), DeviceSlot((f"{path}/gone",))),
                    (("ASCEND_RT_VISIBLE_DEVICES", "{indices}"),)),
    )  # fmt: skip


def test_slots_whose_files_are_missing_carry_the_fault(groups, tmp_path):
    slots = build_slots(groups)
    assert [(s.group, s.index, bool(s.fault)) for s in slots] == [
        ("gpu", 0, False), ("gpu", 1, False), ("npu", 0, False), ("npu", 1, True),
    ]  # fmt: skip
    assert str(tmp_path / "gone") in slots[3].fault
    (tmp_path / "ctl").unlink()
    assert all("ctl" in s.fault for s in build_slots(groups)[:2])
    (tmp_path / "ctl").mkdir()
    assert "neither" in build_slots(groups)[0].fault


def test_a_job_sees_the_devices_it_holds_and_an_empty_list_for_others(groups, tmp_path):
    held = {("gpu", "a100"): (1,)}
    assert slot_variables(groups, held) == {
        "CUDA_VISIBLE_DEVICES": "1",
        "GPU_FILES": f"<{tmp_path}/g1>",
        "ASCEND_RT_VISIBLE_DEVICES": "",
    }
    assert slot_variables(groups, {("gpu", "a100"): (1, 0)})["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_job_may_open_its_slots_and_their_managers_and_no_other_managed_file(groups, tmp_path):
    held = {("gpu", "a100"): (0,)}
    names = [os.path.basename(path) for path in held_files(groups, held)]
    assert names == ["ctl", "g0"]
    assert {os.path.basename(p) for p in denied_files(groups, held)} == {"g1", "n0", "gone"}
    assert set(denied_files(groups, {})) == set(managed_files(groups))


def test_a_slot_that_is_not_declared_is_an_error(groups):
    with pytest.raises(SlotError, match="2 slots"):
        held_files(groups, {("gpu", "a100"): (2,)})
    with pytest.raises(SlotError, match="2 slots"):
        slot_variables(groups, {("gpu", "a100"): (-1,)})


def test_a_template_with_an_unknown_placeholder_is_an_error():
    check_template("{indices}:{files}")
    with pytest.raises(SlotError, match="unknown placeholder"):
        check_template("{index}")


def test_the_inventory_says_what_is_short(groups):
    inventory = take_inventory(groups, "v1: cpu, memory")
    assert inventory.cgroups == "v1: cpu, memory"
    assert len(inventory.boot_id) == 36
    assert "npu:910b3 slot 1" in inventory.shortfall(0, 0)
    short = inventory.shortfall(10**9, 10**9)
    assert "CPUs configured" in short
    assert "MiB of memory configured" in short
    assert take_inventory((), "none").shortfall(1, 1) == ""


def test_a_host_is_the_same_by_what_can_be_read_of_it(tmp_path):
    machine, firmware = tmp_path / "machine-id", tmp_path / "product_uuid"
    files = (str(machine), str(firmware))
    assert host_id(files) == "", "nothing can be read"
    machine.write_text("uninitialized\n")
    assert host_id(files) == "", "every host of that image says so"
    machine.write_text("3d12\n")
    image = host_id(files)
    assert (len(image), "3d12" in image) == (32, False)
    firmware.write_text("AB-1\n")
    host = host_id(files)
    firmware.write_text("ab-1")
    assert host_id(files) == host != image
    firmware.write_text("ab-2")
    assert host_id(files) != host
