"""Device files in the kernel's terms, and keeping a job from the ones it does not hold.

cgroup v1: the devices controller (cgroup-v1/devices.rst), written by cgroup_v1. cgroup v2: a
BPF_PROG_TYPE_CGROUP_DEVICE program (bpf(2), linux/bpf.h) attached to the job's cgroup, assembled
here; children of the cgroup cannot escape it. What is denied is exactly the node's managed device
files that the job holds no slot for: all else on the host stays as its owner and mode allow.
"""

from __future__ import annotations

import ctypes
import os
import platform
import stat
import struct
from collections.abc import Iterable

_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361,
            "loongarch64": 280}  # fmt: skip
_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE, _ALLOW_MULTI = 15, 6, 2
_BLOCK, _CHAR = 1, 2


def device_numbers(files: Iterable[str]) -> list[tuple[str, int, int]]:
    """`(b or c, major, minor)` of each device file, sorted, each once.

    Files that are no devices (plain files stand in for devices in development clusters) and files
    that are gone are left out: there is nothing in the kernel to deny.
    """
    found = set()
    for path in files:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
            found.add((kind, os.major(status.st_rdev), os.minor(status.st_rdev)))
    return sorted(found)


def device_program(denied: Iterable[tuple[str, int, int]]) -> bytes:
    """EBPF instructions: return 0 for a denied device, 1 for any other.

    Context (struct bpf_cgroup_dev_ctx): u32 access_type (low 16 bits: device type), major, minor.
    """
    load, jump_if_not, move, leave = 0x61, 0x55, 0xB7, 0x95

    def op(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
        return struct.pack("<BBhi", code, dst | src << 4, offset, value)

    program = [
        op(load, 2, 1, 0),  # r2 = access_type
        op(0x57, 2, value=0xFFFF),  # r2 &= 0xffff
        op(load, 3, 1, 4),  # r3 = major
        op(load, 4, 1, 8),  # r4 = minor
    ]
    for kind, major, minor in denied:
        program += [
            op(jump_if_not, 2, offset=4, value=_BLOCK if kind == "b" else _CHAR),
            op(jump_if_not, 3, offset=3, value=major),
            op(jump_if_not, 4, offset=2, value=minor),
            op(move, 0, value=0),
            op(leave),
        ]
    return b"".join((*program, op(move, 0, value=1), op(leave)))


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(f"bpf(2) has no known number on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(number, command, buffer, len(attributes))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf(2): {os.strerror(error)}")
    return result


def deny_in_cgroup(directory: str, files: Iterable[str]) -> None:
    """Attach a program to a v2 cgroup that denies these device files. Raises OSError."""
    denied = device_numbers(files)
    if not denied:
        return
    code = device_program(denied)
    program = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    load = struct.pack(
        "<IIQQIIQII16sI", _TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(program),
        ctypes.addressof(licence), 0, 0, 0, 0, 0, b"crane_devices", 0,
    )  # fmt: skip
    loaded = _bpf(_PROG_LOAD, load)
    try:
        cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _bpf(_PROG_ATTACH, struct.pack("<IIII", cgroup, loaded, _ATTACH_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(cgroup)
    finally:
        os.close(loaded)
