"""`--set KEY=VALUE`: what is to be another than it was, of the scheduler or of nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from crane import gres, hostlist, memspec
from crane.errors import CraneError
from cranectld.core.fold import NodeRow
from cranectld.sim.csim.command import POLICIES, checked
from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.machine import Machine, machine_of_nodes
from cranectld.sim.csim.replay import Scenario
from cranectld.sim.csim.site import Site, plain_site
from cranectld.sim.csim.source import Source, machine_of
from sched_core.orders import ORDERS

POLICY_KEYS = ("policy", "order", "depth", "window", "resolution", "clairvoyant")
MACHINE_KEYS = ("pool", "nodes")
"""Of a trace, which does not say what nodes there were."""
NODE_KEYS = ("cpus", "memory", "gres", "weight", "partitions", "features", "state", "like")
NODES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """One change; `nodes`: those it is of, empty for keys of the scheduler or the machine."""

    text: str
    key: str
    value: str
    nodes: tuple[str, ...] = ()


def setting(text: str) -> Setting:
    """Read `KEY=VALUE`. Raises CsimError, which names the keys there are."""
    key, equals, value = text.partition("=")
    if not equals or not value:
        raise CsimError(f"--set {text!r} is not KEY=VALUE; keys: {_known()}")
    if key in POLICY_KEYS or key in MACHINE_KEYS:
        return Setting(text, key, value)
    first, _, rest = key.partition(".")
    names, _, last = rest.rpartition(".")
    if first != "nodes" or not names or last not in NODE_KEYS:
        raise CsimError(f"--set: there is no key {key!r}; keys: {_known()}")
    try:
        return Setting(text, last, value, tuple(hostlist.expand(names, NODES_MAX)))
    except CraneError as error:
        raise CsimError(f"--set {text}: {error.message}") from error


def _known() -> str:
    return ", ".join([*POLICY_KEYS, *MACHINE_KEYS, f"nodes.LIST.{{{','.join(NODE_KEYS)}}}"])


def changed(source: Source, scenario: Scenario, settings: list[Setting]) -> tuple[Source, Scenario]:
    """The same workload with the settings changed, one after the other. Raises CsimError."""
    for given in settings:
        try:
            if given.nodes:
                source = _with_nodes(source, given)
            elif given.key in MACHINE_KEYS:
                source = _with_machine(source, given)
            else:
                scenario = checked(_with_policy(scenario, given))
        except CsimError as error:
            raise CsimError(f"--set {given.text}: {error}") from None
        except CraneError as error:
            raise CsimError(f"--set {given.text}: {error.message}") from None
    return source, scenario


def _with_policy(scenario: Scenario, given: Setting) -> Scenario:
    readers: dict[str, Callable[[str], Any]] = {
        "policy": lambda text: _one_of(text, POLICIES),
        "order": lambda text: _one_of(text, ORDERS),
        "clairvoyant": lambda text: _one_of(text, ("yes", "no")) == "yes",
    }
    return replace(scenario, **{given.key: readers.get(given.key, _number)(given.value)})


def _with_machine(source: Source, given: Setting) -> Source:
    if source.site is not None:
        raise CsimError("the log says what nodes there were; set nodes.LIST.cpus and the like")
    if given.key == "nodes":
        return replace(source, machine=machine_of_nodes(given.value))
    return replace(source, machine=Machine(max(_number(given.value), 1)))


def _with_nodes(source: Source, given: Setting) -> Source:
    site = source.site
    if site is None:
        if not source.machine.groups:
            raise CsimError("the machine is one pool without nodes; give --nodes NxC")
        site = plain_site(source.jobs, source.machine)
    known = {row.name: row for row in (*site.nodes, *(row for _, row in site.changes))}
    if given.key == "like":
        site = _joined(site, known, given)
    else:
        unknown = [name for name in given.nodes if name not in known]
        if unknown:
            raise CsimError(
                f"there is no node {unknown[0]}, only {hostlist.compress(known)}; "
                f"to add one like another: nodes.{unknown[0]}.like={next(iter(known))}"
            )
        change = _change(given)
        site = _mapped(site, lambda row: change(row) if row.name in given.nodes else row)
    return replace(source, site=site, machine=machine_of(site))


def _joined(site: Site, known: dict[str, NodeRow], given: Setting) -> Site:
    """New nodes, each in service when the one it is like is."""
    there = [name for name in given.nodes if name in known]
    if there:
        raise CsimError(f"node {there[0]} is there already")
    if given.value not in known:
        raise CsimError(f"there is no node {given.value}, only {hostlist.compress(known)}")

    def copies(row: NodeRow) -> list[NodeRow]:
        if row.name != given.value:
            return [row]
        return [row, *(row._replace(name=name) for name in given.nodes)]

    changes = [(when, copy) for when, row in site.changes for copy in copies(row)]
    nodes = [copy for row in site.nodes for copy in copies(row)]
    return replace(site, nodes=tuple(nodes), changes=tuple(changes))


def _mapped(site: Site, change: Callable[[NodeRow], NodeRow]) -> Site:
    changes = tuple((when, change(row)) for when, row in site.changes)
    return replace(site, nodes=tuple(map(change, site.nodes)), changes=changes)


def _change(given: Setting) -> Callable[[NodeRow], NodeRow]:
    """What a setting makes of a node. Raises CsimError or CraneError."""
    value = given.value
    if given.key == "cpus":
        return _sets("cpu", memspec.parse_cpus(value))
    if given.key == "memory":
        return _sets("memory", memspec.parse_mem(value))
    if given.key == "weight":
        return _sets("weight", _number(value))
    if given.key == "gres":
        found = gres.parse(value)
        return _sets("gres", tuple((item.name, item.type, item.count) for item in found))
    if given.key == "state":
        return _sets("usable", _one_of(value, ("up", "down")) == "up")
    return _sets(given.key, tuple(value.split(",")))


def _sets(name: str, value: Any) -> Callable[[NodeRow], NodeRow]:
    return lambda row: row._replace(**{name: value})


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise CsimError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _one_of(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise CsimError(f"there is no {text!r}; there are {', '.join(known)}")
    return text
