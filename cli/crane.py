"""`crane`: a development cluster on this machine, without root and without configuration."""

from __future__ import annotations

import os
import sys

from cli import arguments, command
from cli.arguments import Option
from crane import gres, values
from crane.client.connect import default_home
from crane.errors import CraneError, ErrorCode, did_you_mean, shown

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.arguments import Given

HELP = """\
usage: crane up [options] | crane status | crane down

A development cluster on this machine: one controller and some agents, as processes of yours. It
needs no root and no configuration, listens on 127.0.0.1 alone, and obeys only you.

  up                     start it, and wait until every node is there
      --nodes=N          how many nodes (default 1)
      --cpus=C           CPUs of each (default: the machine's, shared by all nodes)
      --mem=SIZE         memory of each (default: the machine's, shared by all nodes)
      --gres=LIST        devices of each, plain files: gpu:a100:2,npu:4
      --node-gres=N:LIST other devices for the N-th node (from 1); may be repeated
      --policy=NAME      fifo, easy, conservative or conservative-replan (default easy)
  status                 what runs
  down                   end it: its jobs, agents and controller
      --purge            also remove its files (queue, accounting, logs)

      --home=DIR         where its files are (default: $CRANE_HOME, or ~/.crane/dev)
      --help, --version

The commands find the cluster at ~/.crane/dev by themselves, another one by $CRANE_HOME.

Examples:
  crane up --nodes 3 --cpus 4 --gres gpu:a100:2
  csub --wrap 'echo hello from $CRANE_JOB_NODELIST'
  crane down
"""

MAX_NODES = 512


def _node_gres(text: str) -> tuple[tuple[int, str], ...]:
    number, colon, listed = text.partition(":")
    if not colon or not number.isdigit():
        raise CraneError(ErrorCode.BAD_VALUE, f"invalid {shown(text)}", "write 2:gpu:a100:2")
    gres.parse(listed)
    return ((int(number[:6]), listed),)


OPTIONS = (
    *arguments.COMMON,
    Option("nodes", "N", arguments.count),
    Option("cpus", "c", values.cpus),
    Option("mem", "m", values.memory),
    Option("gres", "", values.resources),
    Option("node-gres", "", _node_gres, many=True),
    Option("policy", "", arguments.plain),
    Option("home", "", arguments.plain),
    Option("purge"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("crane", _main, HELP, argv)


def _main(argv: list[str]) -> int:
    given = arguments.parse(argv, OPTIONS)
    if given.flag("help"):
        sys.stdout.write(HELP)
        return 0
    verbs = {"up": _up, "status": _status, "down": _down}
    if len(given.words) != 1 or given.words[0] not in verbs:
        word = given.words[0] if given.words else ""
        raise CraneError(
            ErrorCode.USAGE,
            f"unknown command {shown(word)}" if word else "no command given",
            did_you_mean(word, verbs) or "write crane up, crane status or crane down",
        )
    home = os.path.abspath(os.path.expanduser(given.get("home") or default_home(os.environ)))
    return verbs[given.words[0]](given, home)


def _up(given: Given, home: str) -> int:
    from cli.devcluster import Plan, up
    from crane.config.model import POLICIES

    nodes = given.get("nodes", 1)
    if nodes > MAX_NODES:
        raise CraneError(
            ErrorCode.BAD_VALUE, f"--nodes: at most {MAX_NODES} agents fit on one machine"
        )
    policy = given.get("policy", "easy")
    if policy not in POLICIES:
        raise CraneError(
            ErrorCode.BAD_VALUE, f"unknown policy {shown(policy)}", ", ".join(POLICIES)
        )
    own = {number: gres.parse(text) for number, text in given.get("node-gres", ())}
    wrong = [number for number in own if not 1 <= number <= nodes]
    if wrong:
        raise CraneError(ErrorCode.BAD_VALUE, f"--node-gres: there is no node {wrong[0]}")
    plan = Plan(
        home=home,
        nodes=nodes,
        cpus=given.get("cpus", 0),
        memory=given.get("mem", 0),
        gres=given.get("gres", ()),
        own_gres=own,
        policy=policy,
    )
    return up(plan)


def _status(_: Given, home: str) -> int:
    from cli.devcluster import status

    return status(home)


def _down(given: Given, home: str) -> int:
    from cli.devcluster import down

    return down(home, purge=given.flag("purge"))
