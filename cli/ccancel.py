"""`ccancel`: cancel jobs, or send them a signal."""

from __future__ import annotations

import sys

from cli import arguments, command, named
from cli.arguments import Option
from cli.output.changes import report
from crane import signals
from crane.client.selection import Selection
from crane.errors import CraneError, ErrorCode
from crane.states import JobState

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.arguments import Given
    from crane.client import Client

HELP = """\
usage: ccancel [options] [ID...]

Cancel jobs, array tasks or steps: SIGTERM, and SIGKILL for what is left after a grace time.

  ID                     12, 12_3, 12_[1-5,8], 12.0 (a step), several with commas or blanks
  -u, --user=LIST        jobs of these users
      --me               jobs of mine
  -n, --name=LIST        with these names
  -p, --partition=LIST   in these partitions
  -t, --state=LIST       in these states: pending, running, suspended
  -A, --account=LIST     of these accounts
  -q, --qos=LIST         of these qualities of service
  -w, --nodelist=LIST    on these nodes
  -R, --reservation=LIST in these reservations
      --wckey=LIST       with these labels for reports
  -s, --signal=NAME      send this signal and no more: USR1, SIGTERM, 9
  -b, --batch            signal the batch script alone, not what it started
  -f, --full             accepted: all processes are signalled anyway
  -y, --yes              do not ask (asked only on a terminal, when filters choose the jobs)
      --help, --version

Several kinds of filters must all hold. Nothing is printed when all went well.

Examples:
  ccancel 12 13_[4-9]
  ccancel --me -t pending
  ccancel --signal USR2 12
"""

OPTIONS = (
    *arguments.COMMON,
    Option("user", "u", arguments.users, many=True),
    Option("me"),
    Option("name", "n", arguments.names, many=True),
    Option("jobname", "", arguments.names, many=True),
    Option("partition", "p", arguments.names, many=True),
    Option("state", "t", arguments.states, many=True),
    Option("account", "A", arguments.names, many=True),
    Option("qos", "q", arguments.names, many=True),
    Option("nodelist", "w", arguments.hosts, many=True),
    Option("reservation", "R", arguments.names, many=True),
    Option("wckey", "", arguments.names, many=True),
    Option("signal", "s", signals.parse_signal),
    Option("batch", "b"),
    Option("full", "f"),
    Option("yes", "y"),
    Option("quiet", "Q"),
    Option("verbose", "v"),
    Option("clusters", "M", arguments.plain, inert=True),
)
_ALIVE = tuple(state for state in JobState if not state.ended)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("ccancel", _main, HELP, argv)


def _main(argv: list[str]) -> int:
    given = arguments.parse(argv, OPTIONS)
    if given.flag("help"):
        sys.stdout.write(HELP)
        return 0
    for notice in given.notices:
        command.complain("ccancel", notice)
    selection = _selection(given)
    if selection.empty:
        raise CraneError(
            ErrorCode.USAGE,
            "no job given",
            "name jobs, or choose them: ccancel --me, ccancel -n NAME",
        )
    from crane.client import Client

    with Client() as client:
        if selection.filtered and not given.flag("yes") and not _agreed(client, selection):
            return 1
        changes = client.cancel(
            selection, signal=given.get("signal", 0), batch_only=given.flag("batch")
        )
        if not changes:
            named.check_places(client, selection.partitions, selection.nodes)
    if given.flag("quiet"):
        changes = tuple(
            change
            for change in changes
            if change.error is None or change.error.code is not ErrorCode.UNKNOWN_JOB
        )
    return report("ccancel", changes)


def _selection(given: Given) -> Selection:
    ids = tuple(found for word in given.words for found in arguments.ids(word))
    users = given.get("user", ()) + ((arguments.me(),) if given.flag("me") else ())
    wanted = given.get("state", ())
    filters = Selection(
        ids=ids,
        users=tuple(dict.fromkeys(users)),
        names=given.get("name", ()) + given.get("jobname", ()),
        partitions=given.get("partition", ()),
        accounts=given.get("account", ()),
        qos=given.get("qos", ()),
        states=wanted,
        nodes=given.get("nodelist", ()),
        reservations=given.get("reservation", ()),
        wckeys=given.get("wckey", ()),
    )
    if filters.filtered and not wanted:
        # Filters choose among what lives: ended jobs that match are no failure.
        from crane.record import replace

        return replace(filters, states=_ALIVE)
    return filters


def _agreed(client: Client, selection: Selection) -> bool:
    """Ask before filters cancel several jobs, if there is somebody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    found = list(client.jobs(selection))
    if len(found) <= 1:
        return True
    names = ", ".join(job.shown_id for job in found[:5]) + (", ..." if len(found) > 5 else "")
    sys.stderr.write(f"ccancel: {len(found)} jobs match: {names}. Cancel them all? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
