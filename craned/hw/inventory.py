"""Everything an agent finds on its host, as one value to report."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from crane.config.model import DeviceGroup
from craned.hw.cpus import Cpus, read_cpus
from craned.hw.memory import Memory, read_memory
from craned.hw.slots import Slot, build_slots


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the host has, and what is in force on it."""

    hostname: str
    system: str
    """Kernel and machine, as uname(2) tells."""
    boot_id: str
    """Differs after a restart of the host: then no process of an earlier step can be alive."""
    cpus: Cpus
    memory: Memory
    slots: tuple[Slot, ...]
    cgroups: str
    """Backend and controllers, as the launcher says it."""
    privileged: bool
    """Whether jobs of other users than the agent's own can be run."""

    def shortfall(self, cpus: int, memory: int) -> str:
        """Why the host is less than the configuration promises; empty: it is not.

        `cpus` in thousandths, `memory` in MiB; 0 promises nothing.
        """
        short = []
        if cpus > self.cpus.thousandths:
            short.append(f"{cpus / 1000:g} CPUs configured, {self.cpus.thousandths / 1000:g} found")
        if memory > self.memory.usable:
            short.append(f"{memory} MiB of memory configured, {self.memory.usable} MiB found")
        short += [
            f"{slot.group}:{slot.type} slot {slot.index}: {slot.fault}"
            for slot in self.slots
            if slot.fault
        ]
        return "; ".join(short)


def take_inventory(groups: Sequence[DeviceGroup], cgroups: str) -> Inventory:
    """Look at this host; `cgroups` is what LauncherClient.backend says."""
    uname = platform.uname()
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    return Inventory(
        hostname=uname.node,
        system=f"{uname.system} {uname.release} {uname.machine}",
        boot_id=boot_id,
        cpus=read_cpus(),
        memory=read_memory(),
        slots=build_slots(groups),
        cgroups=cgroups,
        privileged=os.geteuid() == 0,
    )
