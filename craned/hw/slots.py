"""Declared device groups as slots: their files checked, and what a job holding some of them sees."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crane.config.model import DeviceGroup


class SlotError(Exception):
    """A declaration or a choice of slots makes no sense; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One device of a node."""

    group: str
    type: str
    index: int
    """Place within its group and type, from 0: what `{indices}` shows."""
    files: tuple[str, ...]
    numa: int
    fault: str = ""
    """Why it cannot be used; empty: it can."""


def check_file(path: str) -> str:
    """Why a device file cannot serve a slot; empty: it can. Plain files stand in for devices."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"{path}: {error.strerror}"
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISREG(mode):
        return ""
    return f"{path}: neither a device nor a plain file"


def build_slots(groups: Iterable[DeviceGroup]) -> tuple[Slot, ...]:
    """Every slot the configuration declares, with the fault of those whose files are not there."""
    found: list[Slot] = []
    for group in groups:
        shared = "; ".join(filter(None, map(check_file, group.manager_files)))
        for index, declared in enumerate(group.slots):
            own = "; ".join(filter(None, map(check_file, declared.files)))
            fault = "; ".join(filter(None, (own, shared)))
            found.append(Slot(group.name, group.type, index, declared.files, declared.numa, fault))
    return tuple(found)


def managed_files(groups: Iterable[DeviceGroup]) -> tuple[str, ...]:
    """All device files of a node that only holders of slots may open, sorted."""
    found: set[str] = set()
    for group in groups:
        found.update(group.manager_files)
        for slot in group.slots:
            found.update(slot.files)
    return tuple(sorted(found))


def held_files(
    groups: Sequence[DeviceGroup], held: Mapping[tuple[str, str], Sequence[int]]
) -> tuple[str, ...]:
    """Files a job may open that holds these slots: (name, type) -> indices. Raises SlotError."""
    found: set[str] = set()
    for group in groups:
        indices = held.get((group.name, group.type), ())
        if indices:
            found.update(group.manager_files)
        for index in indices:
            _check_index(group, index)
            found.update(group.slots[index].files)
    return tuple(sorted(found))


def denied_files(
    groups: Sequence[DeviceGroup], held: Mapping[tuple[str, str], Sequence[int]]
) -> tuple[str, ...]:
    """Managed files the job may not open: for `LaunchOrder.devices_denied`."""
    allowed = set(held_files(groups, held))
    return tuple(path for path in managed_files(groups) if path not in allowed)


def slot_variables(
    groups: Sequence[DeviceGroup], held: Mapping[tuple[str, str], Sequence[int]]
) -> dict[str, str]:
    """Variables of the groups, rendered for the slots a job holds.

    A job that holds none of a group gets the variable with an empty list: unset, most runtimes
    would show it every device. Several groups of one name share their variables. Raises SlotError.
    """
    indices: dict[tuple[str, str], list[str]] = {}
    files: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        mine = sorted(held.get((group.name, group.type), ()))
        for index in mine:
            _check_index(group, index)
        for name, template in group.environment:
            indices.setdefault((name, template), []).extend(map(str, mine))
            files.setdefault((name, template), []).extend(
                path for index in mine for path in group.slots[index].files
            )
    return {
        name: render(template, values, files[name, template])
        for (name, template), values in indices.items()
    }


def render(template: str, indices: Sequence[str], files: Sequence[str]) -> str:
    """`{indices}` and `{files}` in a template as comma-separated lists."""
    return template.replace("{indices}", ",".join(indices)).replace("{files}", ",".join(files))


def check_template(template: str) -> None:
    """Raises SlotError if the template has a placeholder nobody fills."""
    rest = template.replace("{indices}", "").replace("{files}", "")
    if "{" in rest or "}" in rest:
        raise SlotError(
            f"the template {template!r} has an unknown placeholder; use {{indices}} or {{files}}"
        )


def _check_index(group: DeviceGroup, index: int) -> None:
    if not 0 <= index < len(group.slots):
        raise SlotError(
            f"{group.name}:{group.type} has {len(group.slots)} slots; there is no slot {index}"
        )
