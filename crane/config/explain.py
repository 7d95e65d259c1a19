"""The configuration in force as TOML, each key with its meaning and where its value comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from crane import hostlist
from crane.config.model import Config, DeviceGroup, NodeConfig, PartitionConfig
from crane.config.schema import NODE, PARTITION, SECTIONS, Key, default_of
from crane.gres import format_gres
from crane.jobspec import UNLIMITED
from crane.memspec import format_cpus, format_mem

if TYPE_CHECKING:
    from crane.config.load import Loaded


def explain(loaded: Loaded) -> str:
    """The whole configuration in the file's own form; reading it back gives the same `Config`."""
    lines = [f"# Configuration in force, from {loaded.source or 'defaults'}."]
    config = loaded.config
    for section, keys in SECTIONS.items():
        lines += ["", f"[{section}]"]
        owner = _owner(config, section)
        for key in keys:
            given = f"{section}.{key.name}" in loaded.given
            origin = f"from {loaded.source or 'the file'}" if given else "default"
            lines.append(f"# {key.doc} ({origin})")
            lines.append(f"{key.name} = {_toml(key, getattr(owner, key.name))}")
    for group in _node_groups(config):
        lines += ["", "[[nodes]]", *_node(group)]
    for partition in config.cluster.partitions:
        lines += ["", "[[partitions]]", *_partition(partition, config)]
    return "\n".join(lines) + "\n"


def _owner(config: Config, section: str) -> object:
    if section in {"controller", "agent"}:
        return getattr(config, section)
    return config.cluster if section == "cluster" else getattr(config.cluster, section)


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's, but for surrogate pairs."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml(key: Key, value: Any) -> str:
    """A value in the form the file takes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if key.kind == "cpus":
        return format_cpus(value)
    if key.kind == "memory":
        return _text(format_mem(value))
    if value == UNLIMITED and key.kind == "duration":
        return _text("UNLIMITED")
    if key.kind == "gres":
        return _text(format_gres(value))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(Key("", "", ""), item) for item in value) + "]"
    return repr(value)


def _node_groups(config: Config) -> list[list[NodeConfig]]:
    """Neighbouring nodes that differ only in name, so that 10,000 nodes stay a few tables."""

    def alike(node: NodeConfig) -> NodeConfig:
        return node if node.address else replace(node, name="")

    return [list(group) for _, group in groupby(config.cluster.nodes, alike)]


def _node(group: list[NodeConfig]) -> list[str]:
    """Lines of one `[[nodes]]` table: what differs from the defaults."""
    node = group[0]
    lines = [f"name = {_text(hostlist.compress(item.name for item in group))}"]
    own = {(device.name, device.type) for device in node.devices}
    plain = tuple(item for item in node.gres if (item.name, item.type) not in own)
    for key in NODE:
        if key.name in {"name", "devices"}:
            continue
        value: Any = plain if key.name == "gres" else getattr(node, key.name)
        if value != default_of("nodes", key.name):
            lines.append(f"{key.name} = {_toml(key, value)}")
    for device in node.devices:
        lines += _device(device)
    return lines


def _device(group: DeviceGroup) -> list[str]:
    lines = ["[[nodes.devices]]", f"name = {_text(group.name)}"]
    if group.type:
        lines.append(f"type = {_text(group.type)}")
    if any(slot.files for slot in group.slots):
        files = _toml(Key("", "", ""), tuple(slot.files for slot in group.slots))
        lines.append(f"files = {files}")
    else:
        lines.append(f"count = {len(group.slots)}")
    if any(slot.numa >= 0 for slot in group.slots):
        lines.append(f"numa = {[slot.numa for slot in group.slots]}")
    if group.manager_files:
        lines.append(f"manager_files = {_toml(Key('', '', ''), group.manager_files)}")
    if group.environment:
        pairs = ", ".join(f"{name} = {_text(text)}" for name, text in group.environment)
        lines.append(f"environment = {{ {pairs} }}")
    return lines


def _partition(partition: PartitionConfig, config: Config) -> list[str]:
    lines = [f"name = {_text(partition.name)}"]
    every = tuple(node.name for node in config.cluster.nodes)
    for key in PARTITION:
        value = getattr(partition, key.name)
        if key.name == "name" or value == default_of("partitions", key.name):
            continue
        if key.name == "nodes":
            text = "ALL" if value == every else hostlist.compress(value)
            lines.append(f"nodes = {_text(text)}")
        else:
            lines.append(f"{key.name} = {_toml(key, value)}")
    return lines
