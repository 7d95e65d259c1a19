"""Nodes and their devices: from the values of one `[[nodes]]` table to one node per name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crane import hostlist
from crane.config.model import DeviceGroup, DeviceSlot, NodeConfig
from crane.config.schema import MAX_NODES
from crane.errors import CraneError, ErrorCode
from crane.gres import format_gres
from crane.jobspec import Gres

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _bad(message: str, hint: str = "") -> CraneError:
    return CraneError(ErrorCode.CONFIG_VALUE, message, hint)


def devices_of(tables: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[DeviceGroup, ...]:
    """Device groups of a node from their places and values; raises CONFIG_* errors."""
    groups: dict[tuple[str, str], DeviceGroup] = {}
    for place, values in tables:
        group = _group(place, values)
        if (group.name, group.type) in groups:
            raise CraneError(
                ErrorCode.CONFIG_DUPLICATE,
                f"{place}: devices {group.name}:{group.type} are defined twice",
                "put their files in one group",
            )
        groups[group.name, group.type] = group
    return tuple(groups.values())


def _group(place: str, values: Mapping[str, Any]) -> DeviceGroup:
    if not values.get("name"):
        raise _bad(f"{place}: it has no name", 'write name = "gpu"')
    files = values.get("files", ())
    slots = values.get("count", len(files))
    numa = values.get("numa", (-1,) * slots)
    if slots == 0:
        raise _bad(f"{place}: it has no slots", "give files, or count")
    if files and len(files) != slots:
        raise _bad(f"{place}: count is {slots}, and files are given for {len(files)} slots")
    if len(numa) != slots:
        raise _bad(f"{place}: numa has {len(numa)} values for {slots} slots")
    paths: tuple[tuple[str, ...], ...] = files or ((),) * slots
    for name, template in values.get("environment", ()):
        _check_template(place, name, template)
    return DeviceGroup(
        name=values["name"],
        type=values.get("type", ""),
        slots=tuple(DeviceSlot(p, n) for p, n in zip(paths, numa, strict=True)),
        environment=values.get("environment", ()),
        manager_files=values.get("manager_files", ()),
    )


def _check_template(place: str, name: str, template: str) -> None:
    """Only `{indices}` and `{files}` are filled in: another brace is a slip seen too late."""
    rest = template.replace("{indices}", "").replace("{files}", "")
    if "{" in rest or "}" in rest:
        raise _bad(
            f"{place}.environment: {name} has something other than {{indices}} and {{files}} in braces"
        )


def expand_node(
    values: Mapping[str, Any], devices: tuple[DeviceGroup, ...]
) -> tuple[NodeConfig, ...]:
    """One node per name; addresses pair up with names. Raises CONFIG_* errors."""
    names: tuple[str, ...] = values["name"]
    addresses = _addresses(values.get("address", ""), len(names))
    rest = {key: item for key, item in values.items() if key not in {"name", "address", "gres"}}
    total = _gres(values.get("gres", ()), devices)
    return tuple(
        NodeConfig(name=name, address=address, gres=total, devices=devices, **rest)
        for name, address in zip(names, addresses, strict=True)
    )


def _addresses(text: str, count: int) -> list[str]:
    if not text:
        return [""] * count
    if count == 1:  # an IPv6 address has brackets of its own
        return [text]
    addresses = hostlist.expand(text, MAX_NODES)
    if len(addresses) != count:
        raise _bad(f"{count} names have {len(addresses)} addresses", "give one each")
    return addresses


def _gres(declared: tuple[Gres, ...], devices: tuple[DeviceGroup, ...]) -> tuple[Gres, ...]:
    """What the node offers: what is declared and what its devices add up to."""
    offered = {(item.name, item.type): item for item in declared}
    for group in devices:
        found = Gres(group.name, group.type, len(group.slots))
        given = offered.setdefault((group.name, group.type), found)
        if given != found:
            raise CraneError(
                ErrorCode.CONFIG_REFERENCE,
                f"gres says {format_gres((given,))}, the devices are {format_gres((found,))}",
                "leave the devices out of gres: they count by themselves",
            )
    return tuple(offered[key] for key in sorted(offered))
