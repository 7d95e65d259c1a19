"""`cinfo`: partitions and nodes."""

from __future__ import annotations

import os
import sys

from cli import arguments, command, named
from cli.arguments import Option
from cli.output import formats, nodes
from cli.output.formats import Field
from crane.errors import CraneError, ErrorCode, shown

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.arguments import Given
    from cli.output.nodes import Group
    from crane.client.model import NodeInfo, PartitionInfo

HELP = """\
usage: cinfo [options]

Show partitions and the state of their nodes.

  -p, --partition=LIST   these partitions
  -n, --nodes=LIST       these nodes: n[1-4]
  -t, --states=LIST      nodes in these states: idle, mixed, alloc, drain, drng, down, fail
  -N, --Node             a line for each node
  -l, --long             more columns
  -s, --summarize        a line for each partition
  -R, --list-reasons     why nodes are down or drained, and who said so
  -d, --dead             nodes that do not answer;  -r, --responding: those that do
  -o, --format=FORMAT    columns: "%#P %.5a %.10l %.6D %.6t %N"
  -h, --noheader         no heading
      --json             JSON, with stable keys
      --help, --version

Letters: P R partition, a up?, l limit, L default limit, D nodes, t T state, N names, C CPUs and
F nodes (allocated/idle/other/total), c CPUs, m memory, e free memory, G gres, f features, w weight,
E reason, u who, H when, v version, o address, ...  The format may also be set by CINFO_FORMAT or
SINFO_FORMAT.

Examples:
  cinfo -N -l
  cinfo -h -o %C                   for scripts
"""

OPTIONS = (
    *arguments.COMMON[1:],
    Option("help"),
    Option("partition", "p", arguments.names, many=True),
    Option("nodes", "n", arguments.hosts, many=True),
    Option("states", "t", arguments.names, many=True),
    Option("Node", "N"),
    Option("long", "l"),
    Option("summarize", "s"),
    Option("list-reasons", "R"),
    Option("dead", "d"),
    Option("responding", "r"),
    Option("format", "o", arguments.plain),
    Option("noheader", "h"),
    Option("json"),
    Option("exact", "e"),
    Option("all", "a"),
    Option("noconvert", inert=True),
    Option("clusters", "M", arguments.plain, inert=True),
)
_STATES = {
    "idle": ("idle",), "mix": ("mixed",), "mixed": ("mixed",), "alloc": ("alloc",),
    "allocated": ("alloc",), "drain": ("drain", "drng"), "drained": ("drain",), "drng": ("drng",),
    "draining": ("drng",), "down": ("down",), "fail": ("fail",), "unknown": ("unknown",),
    "unk": ("unknown",),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("cinfo", _main, HELP, argv)


def _main(argv: list[str]) -> int:
    given = arguments.parse(argv, OPTIONS)
    if given.words:
        raise CraneError(
            ErrorCode.USAGE, f"unexpected {shown(given.words[0])}", "nodes are named with -n"
        )
    for notice in given.notices:
        command.complain("cinfo", notice)
    pieces = formats.parse(_format(given), nodes.COLUMNS)
    states = _states(given)
    from crane.client import Client

    with Client() as client:
        wanted = given.get("partition", ())
        partitions = client.partitions(wanted)
        hosts = given.get("nodes", ())
        found = client.nodes(hosts, wanted)
        if len(partitions) < len(set(wanted)) or len(found) < len(hosts):
            named.check_places(client, wanted, hosts)
    chosen = [node for node in found if _chosen(node, given, states)]
    if given.flag("json"):
        from cli.output import jsonform

        jsonform.write(
            "cinfo",
            partitions=[jsonform.partition(row) for row in partitions],
            nodes=[jsonform.node(row) for row in chosen],
        )
        return 0
    letters = [piece.letter for piece in pieces if isinstance(piece, Field)]
    _print(_groups(partitions, chosen, given, letters), pieces, given)
    return 0


def _format(given: Given) -> str:
    if "format" in given.values:
        text: str = given.values["format"]
        return text
    if given.flag("list-reasons"):
        return nodes.REASONS
    if given.flag("summarize"):
        return nodes.SUMMARY
    if given.flag("Node"):
        return nodes.NODES_LONG if given.flag("long") else nodes.NODES
    if given.flag("long"):
        return nodes.LONG
    environ = os.environ
    return environ.get("CINFO_FORMAT") or environ.get("SINFO_FORMAT") or nodes.DEFAULT


def _states(given: Given) -> frozenset[str]:
    found: list[str] = []
    for word in given.get("states", ()):
        if word.lower() == "all":
            return frozenset()
        if word.lower() not in _STATES:
            from crane.errors import did_you_mean

            raise CraneError(
                ErrorCode.BAD_VALUE,
                f"unknown node state {shown(word)}",
                did_you_mean(word, _STATES) or "write idle, mixed, alloc, drain, down or fail",
            )
        found += _STATES[word.lower()]
    return frozenset(found)


def _chosen(node: NodeInfo, given: Given, states: frozenset[str]) -> bool:
    if states and node.shown_state not in states:
        return False
    if given.flag("list-reasons") and not node.reason:
        return False
    if given.flag("dead") and node.connected:
        return False
    return node.connected or not given.flag("responding")


def _groups(
    partitions: Sequence[PartitionInfo],
    chosen: Sequence[NodeInfo],
    given: Given,
    letters: Sequence[str],
) -> list[Group]:
    narrowed = any(given.get(name) for name in ("nodes", "states", "dead", "responding"))
    if given.flag("list-reasons"):
        return nodes.grouped([None], lambda _: list(chosen), letters, each=False, empty=False)

    def members(partition: PartitionInfo | None) -> list[NodeInfo]:
        return [n for n in chosen if partition is None or partition.name in n.partitions]

    shows_partitions = any(letter in nodes.PARTITION_COLUMNS for letter in letters)
    rows: list[PartitionInfo | None] = list(partitions)
    if not shows_partitions:
        wanted = {partition.name for partition in partitions}
        rows = [None] if not given.get("partition") or wanted else []
    each = given.flag("Node")
    lines = nodes.grouped(rows, members, letters, each=each, empty=not (narrowed or each))
    if each:
        from crane.hostlist import sort_key

        lines.sort(key=lambda line: sort_key(line.nodes[0].name))
    return lines


def _print(lines: list[Group], pieces: tuple[formats.Piece, ...], given: Given) -> None:
    titles = None if given.flag("noheader") else nodes.TITLES
    made = formats.lines(pieces, [nodes.cells(line) for line in lines], titles)
    terminal = False
    if os.isatty(1):
        from cli.output import terminal as screen

        terminal = screen.is_terminal()
    for number, text in enumerate(made, start=0 if titles is None else -1):
        first = lines[number].first if number >= 0 else None
        if terminal and first is not None:
            text = screen.coloured(text, nodes.SHORT.get(first.shown_state, ""))  # noqa: PLW2901
        sys.stdout.write(text + "\n")
