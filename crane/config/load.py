"""Reading a configuration file (TOML) into a `Config`; docs/configuration.md explains every key.

Every mistake of a file is found in one go: `read_text` returns all findings, `load` raises the
first of them.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from crane.config import cross
from crane.config.convert import convert
from crane.config.model import (
    AgentConfig,
    ClusterConfig,
    Config,
    ControllerConfig,
    Limits,
    NodeConfig,
    PartitionConfig,
    PriorityConfig,
    SchedulerConfig,
    Timeouts,
)
from crane.config.nodes import devices_of, expand_node
from crane.config.schema import DEVICE, LISTS, MAX_FILE, MAX_PARTITIONS, SECTIONS, Key
from crane.errors import CraneError, ErrorCode, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM_CONFIG = "/etc/crane/crane.toml"
FILE_NAME = "crane.toml"


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: where (`nodes[2].gres`, and the line, 0 if unknown), what, and what to do."""

    place: str
    line: int
    code: ErrorCode
    message: str
    hint: str = ""

    def error(self, source: str) -> CraneError:
        """The finding as an error that names its source."""
        where = f"{source}:{self.line}" if self.line else source
        place = f" {self.place}:" if self.place else ""
        return CraneError(self.code, f"{where}:{place} {self.message}", self.hint)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it came from."""

    config: Config
    source: str = ""
    findings: tuple[Finding, ...] = ()
    given: frozenset[str] = frozenset()
    """Keys the file gives (`timeouts.node`); the others are defaults."""


def find_config(argument: str | None, environ: Mapping[str, str]) -> str | None:
    """Path of the file to use, or None if there is none and defaults hold.

    The argument, then `$CRANE_CONFIG`, then `$CRANE_HOME/crane.toml`, then `/etc/crane/crane.toml`.
    The first two must exist if given (CONFIG_MISSING): a slip must not silently mean another file.
    """
    for origin, path in (("--config", argument), ("CRANE_CONFIG", environ.get("CRANE_CONFIG"))):
        if path:
            if not os.path.exists(path):
                raise CraneError(
                    ErrorCode.CONFIG_MISSING,
                    f"there is no configuration file {shown(path, 200)}",
                    f"it was named by {origin}",
                )
            return path
    home = environ.get("CRANE_HOME")
    candidates = [os.path.join(home, FILE_NAME)] if home else []
    for path in [*candidates, SYSTEM_CONFIG]:
        if os.path.isfile(path):
            return path
    return None


def load(path: str) -> Config:
    """The configuration of a file; raises the first mistake as a CONFIG_* error."""
    return read(path).config


def read(path: str) -> Loaded:
    """The configuration of a file and which of its keys were given; raises the first mistake."""
    loaded = read_text(file_text(path), path)
    if loaded.findings:
        error = loaded.findings[0].error(path)
        more = len(loaded.findings) - 1
        if more:
            error.hint = "; ".join(
                part for part in (error.hint, f"{more} more: ccontrol config check {path}") if part
            )
        raise error
    return loaded


def file_text(path: str) -> str:
    """Text of a configuration file; raises CONFIG_MISSING or CONFIG_UNREADABLE."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise CraneError(
                ErrorCode.CONFIG_UNREADABLE, f"{path}: larger than {MAX_FILE} bytes, not read"
            )
        return content.decode()
    except FileNotFoundError:
        raise CraneError(
            ErrorCode.CONFIG_MISSING,
            f"there is no configuration file {shown(path, 200)}",
            "docs/configuration.md has examples",
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CraneError(
            ErrorCode.CONFIG_UNREADABLE, f"cannot read {shown(path, 200)}: {why}"
        ) from None


def read_text(text: str, source: str = "") -> Loaded:
    """A configuration and all findings; with findings the configuration is not to be used."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        finding = Finding("", 0, ErrorCode.CONFIG_SYNTAX, f"not valid TOML: {error}")
        return Loaded(Config(), source, (finding,))
    reader = _Reader(text)
    config = reader.config(document)
    findings = tuple(reader.findings)
    if not findings:
        findings = tuple(
            Finding(place, locate(text, place), code, message, hint)
            for place, code, message, hint in cross.check(config)
        )
    return Loaded(config, source, findings, frozenset(reader.given))


@dataclass
class _Reader:
    """Walks a document, converting what is right and noting what is not."""

    text: str
    findings: list[Finding] = field(default_factory=list)
    given: set[str] = field(default_factory=set)

    def note(self, place: str, error: CraneError) -> None:
        line = locate(self.text, place)
        self.findings.append(Finding(place, line, error.code, error.message, error.hint))

    def config(self, document: dict[str, Any]) -> Config:
        for section in document:
            if section not in SECTIONS and section not in LISTS:
                hint = did_you_mean(section, [*SECTIONS, *LISTS])
                self.note(section, _unknown(f"section {shown(section)}", hint))
        values = {name: self.section(name, document.get(name, {})) for name in SECTIONS}
        nodes = self.nodes(document.get("nodes", []))
        cluster = ClusterConfig(
            **values["cluster"],
            nodes=nodes,
            partitions=self.partitions(document.get("partitions", []), nodes),
            scheduler=SchedulerConfig(**values["scheduler"]),
            priority=PriorityConfig(**values["priority"]),
            timeouts=Timeouts(**values["timeouts"]),
            limits=Limits(**values["limits"]),
        )
        return Config(
            cluster, ControllerConfig(**values["controller"]), AgentConfig(**values["agent"])
        )

    def section(self, name: str, table: object) -> dict[str, Any]:
        if not isinstance(table, dict):
            self.note(name, _value(f"{name} is not a section", f"write [{name}]"))
            return {}
        return self.table(name, table, SECTIONS[name])

    def table(self, place: str, table: dict[str, Any], keys: tuple[Key, ...]) -> dict[str, Any]:
        """Converted values of one table; unknown keys and bad values are noted and left out."""
        known = {key.name: key for key in keys}
        found: dict[str, Any] = {}
        for name, value in table.items():
            where = f"{place}.{name}"
            if name not in known:
                self.note(where, _unknown(f"key {shown(name)}", did_you_mean(name, known)))
                continue
            self.given.add(where)
            try:
                found[name] = convert(known[name], value)
            except CraneError as error:
                self.note(where, error)
        return found

    def rows(self, name: str, rows: object) -> list[tuple[str, dict[str, Any]]]:
        """Converted tables of `[[name]]`, each with its place; those without a name are left out."""
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self.note(name, _value(f"{name} is not a list of tables", f"write [[{name}]]"))
            return []
        found = []
        for index, row in enumerate(rows):
            place = f"{name}[{index}]"
            values = self.table(place, row, LISTS[name])
            if "name" in values:
                found.append((place, values))
            elif "name" not in row:
                self.note(place, _value("it has no name", 'write name = "..."'))
        return found

    def nodes(self, rows: object) -> tuple[NodeConfig, ...]:
        nodes: dict[str, NodeConfig] = {}
        for place, values in self.rows("nodes", rows):
            groups = self.device_tables(place, values.pop("devices", []))
            try:
                expanded = expand_node(values, devices_of(groups) if groups is not None else ())
            except CraneError as error:
                self.note(place, error)
                # Known by name, so that a partition's reference is not reported as well.
                expanded = tuple(NodeConfig(name) for name in values["name"])
            for node in expanded:
                if node.name in nodes:
                    self.note(place, _duplicate(f"node {node.name}"))
                    break
                nodes[node.name] = node
        return tuple(nodes.values())

    def device_tables(
        self, place: str, rows: list[object]
    ) -> list[tuple[str, dict[str, Any]]] | None:
        """Converted `[[nodes.devices]]` tables with their places; None if any had a mistake."""
        before = len(self.findings)
        groups: list[tuple[str, dict[str, Any]]] = []
        for index, group in enumerate(rows):
            where = f"{place}.devices[{index}]"
            if isinstance(group, dict):
                groups.append((where, self.table(where, group, DEVICE)))
            else:
                self.note(where, _value("it is not a table", "write [[nodes.devices]]"))
        return groups if len(self.findings) == before else None

    def partitions(
        self, rows: object, nodes: tuple[NodeConfig, ...]
    ) -> tuple[PartitionConfig, ...]:
        names = {node.name: None for node in nodes}
        partitions: dict[str, PartitionConfig] = {}
        for place, values in self.rows("partitions", rows):
            members: dict[str, None] = {}
            for member in values.get("nodes", ()):
                if member == "ALL":
                    members |= names
                elif member in names:
                    members[member] = None
                else:
                    hint = did_you_mean(member, names)
                    error = CraneError(
                        ErrorCode.CONFIG_REFERENCE, f"there is no node {shown(member)}", hint
                    )
                    self.note(f"{place}.nodes", error)
            if values["name"] in partitions:
                self.note(place, _duplicate(f"partition {values['name']}"))
            partition = PartitionConfig(**{**values, "nodes": tuple(members)})
            partitions[partition.name] = partition
        if len(partitions) > MAX_PARTITIONS:
            self.note("partitions", _value(f"more than {MAX_PARTITIONS} partitions"))
        return _with_default(tuple(partitions.values()))


def _with_default(partitions: tuple[PartitionConfig, ...]) -> tuple[PartitionConfig, ...]:
    """If no partition is marked as the default, the first one is."""
    if not partitions or any(partition.default for partition in partitions):
        return partitions
    return (replace(partitions[0], default=True), *partitions[1:])


def _unknown(what: str, hint: str) -> CraneError:
    return CraneError(ErrorCode.CONFIG_UNKNOWN_KEY, f"unknown {what}", hint)


def _value(message: str, hint: str = "") -> CraneError:
    return CraneError(ErrorCode.CONFIG_VALUE, message, hint)


def _duplicate(what: str) -> CraneError:
    return CraneError(ErrorCode.CONFIG_DUPLICATE, f"{what} is defined twice")


def locate(text: str, place: str) -> int:
    """Line (from 1) of a place like `nodes[2].devices[0].files`, or of its table, or 0.

    tomllib tells no lines; this follows the table headers and then looks for the key, which is
    right for files written in the usual way and at worst names the header's line.
    """
    *tables, key = place.split(".")
    if key.endswith("]") or not tables:
        tables, key = [*tables, key], ""
    wanted = [part.partition("[")[0] for part in tables]
    seats = [int(part.partition("[")[2].rstrip("]") or 0) for part in tables]
    counts: dict[str, int] = {}
    header, inside = 0, False
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            name = line.partition("#")[0].strip().strip("[]").replace(" ", "")
            if line.startswith("[["):
                counts[name] = counts.get(name, -1) + 1
                counts |= {other: -1 for other in counts if other.startswith(name + ".")}
            path = name.split(".")
            seated = [counts.get(".".join(path[: i + 1]), 0) for i in range(len(path))]
            inside = path == wanted and seated == seats
            header = number if inside else header
        elif inside and key and line.partition("=")[0].strip().strip("\"'") == key:
            return number
    if not header and "." in place and not key:  # an element of a list written in one line
        return locate(text, place.rpartition("[")[0])
    return header
