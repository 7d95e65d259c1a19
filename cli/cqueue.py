"""`cqueue`: what waits and runs."""

from __future__ import annotations

import os
import sys

from cli import arguments, command, named
from cli.arguments import Option
from cli.output import formats, jobs
from crane.client.selection import EVERYTHING, Selection
from crane.errors import CraneError, ErrorCode, shown
from crane.states import JobState

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.arguments import Given
    from cli.output.formats import Piece
    from crane.client.model import JobInfo

HELP = """\
usage: cqueue [options]

Show waiting and running jobs, all users' (one's own: --me).

  -u, --user=LIST        jobs of these users
      --me               jobs of mine
  -p, --partition=LIST   in these partitions
  -t, --states=LIST      in these states: pending, R, all, ... (default: not ended)
  -j, --jobs=IDS         these: 12, 12_3, 12_[1-5]
  -n, --name=LIST        with these names
  -w, --nodelist=LIST    on these nodes: n[1-4]
  -A, --account=LIST     of these accounts
  -q, --qos=LIST         of these qualities of service
  -R, --reservation=LIST in these reservations
  -L, --licenses=LIST    that ask for any of these licences
      --wckey=LIST       with these labels for reports
  -S, --sort=LETTERS     order: -p,i (letters as in -o; - turns around); default P,t,-p
  -r, --array            a line for each waiting array task
      --start            when waiting jobs are expected to start
  -o, --format=FORMAT    columns: "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
  -l, --long             more columns
  -h, --noheader         no heading
  -i, --iterate=SEC      again and again
      --json             JSON, with stable keys
      --help, --version

Letters: i id, j name, u user, t T state, M time, l limit, L left, D nodes, C CPUs, m memory,
b gres, N nodes, r reason, R nodes or reason, P partition, a account, q QoS, S start, I between
which instants it is expected to start, e end, V submitted, p Q priority, k comment, Z directory, A F K array ids, o command, E dependency, ...
The format may also be set by CQUEUE_FORMAT or SQUEUE_FORMAT.

Examples:
  cqueue --me                      my jobs
  cqueue -t pd --start             when will what waits start?
  cqueue -h -o '%i %t' -j 12,13    for scripts
"""

OPTIONS = (
    *arguments.COMMON[1:],
    Option("help"),
    Option("user", "u", arguments.users, many=True),
    Option("me"),
    Option("partition", "p", arguments.names, many=True),
    Option("states", "t", arguments.states, many=True),
    Option("state", "", arguments.states, many=True),
    Option("jobs", "j", arguments.ids, many=True),
    Option("job", "", arguments.ids, many=True),
    Option("name", "n", arguments.names, many=True),
    Option("nodelist", "w", arguments.hosts, many=True),
    Option("account", "A", arguments.names, many=True),
    Option("qos", "q", arguments.names, many=True),
    Option("reservation", "R", arguments.names, many=True),
    Option("licenses", "L", arguments.names, many=True),
    Option("wckey", "", arguments.names, many=True),
    Option("sort", "S", arguments.plain),
    Option("array", "r"),
    Option("start"),
    Option("format", "o", arguments.plain),
    Option("long", "l"),
    Option("noheader", "h"),
    Option("iterate", "i", arguments.seconds),
    Option("json"),
    Option("all", "a"),
    Option("noconvert", inert=True),
    Option("only-job-state", inert=True),
    Option("array-unique", inert=True),
    Option("clusters", "M", arguments.plain, inert=True),
)
_ACTIVE = tuple(state for state in JobState if not state.ended)
_DEFAULT_SORT = "P,t,-p"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("cqueue", _main, HELP, argv)


def _main(argv: list[str]) -> int:
    given = arguments.parse(argv, OPTIONS)
    if given.words:
        raise CraneError(
            ErrorCode.USAGE, f"unexpected {shown(given.words[0])}", "jobs are named with -j"
        )
    for notice in given.notices:
        command.complain("cqueue", notice)
    pieces = formats.parse(_format(given), jobs.COLUMNS)
    order = _order(given.get("sort", _DEFAULT_SORT))
    selection = _selection(given)
    from crane.client import Client

    with Client() as client:
        while True:
            rows = list(client.jobs(selection, expand_arrays=given.flag("array")))
            if not rows:
                named.check_places(client, selection.partitions, selection.nodes)
            _show(rows, given, pieces, order, client.answered_at)
            if "iterate" not in given.values:
                sys.stdout.flush()
                hint = "cacct lists jobs that ended a while ago"
                return named.missing_jobs("cqueue", rows, selection, hint)
            _pause(given.values["iterate"])


def _pause(seconds: float) -> None:
    import time

    sys.stdout.flush()
    time.sleep(seconds)
    sys.stdout.write(f"\n{time.strftime('%a %b %d %H:%M:%S %Y')}\n")


def _format(given: Given) -> str:
    if "format" in given.values:
        text: str = given.values["format"]
        return text
    if given.flag("start"):
        return jobs.START
    if given.flag("long"):
        return jobs.LONG
    environ = os.environ
    return environ.get("CQUEUE_FORMAT") or environ.get("SQUEUE_FORMAT") or jobs.DEFAULT


def _order(text: str) -> list[tuple[str, bool]]:
    """Letters to sort by, each with whether it is turned around."""
    found = []
    for word in text.split(","):
        letter = word.strip().lstrip("+-")
        if letter not in jobs.SORT_KEYS:
            raise CraneError(
                ErrorCode.BAD_VALUE,
                f"--sort: cannot sort by {shown(word)}",
                f"the letters are {''.join(jobs.SORT_KEYS)}, each perhaps with - in front",
            )
        found.append((letter, word.strip().startswith("-")))
    return found


def _selection(given: Given) -> Selection:
    users = given.get("user", ()) + ((arguments.me(),) if given.flag("me") else ())
    ids = given.get("jobs", ()) + given.get("job", ())
    states = given.get("states", ()) + given.get("state", ())
    if given.flag("start"):
        states = (JobState.PENDING,)
    if not states and not ids:
        states = _ACTIVE
    elif set(states) == set(JobState):
        states = ()
    selection = Selection(
        ids=ids,
        users=tuple(dict.fromkeys(users)),
        names=given.get("name", ()),
        partitions=given.get("partition", ()),
        accounts=given.get("account", ()),
        qos=given.get("qos", ()),
        states=tuple(dict.fromkeys(states)),
        nodes=given.get("nodelist", ()),
        reservations=given.get("reservation", ()),
        wckeys=given.get("wckey", ()),
        licences=given.get("licenses", ()),
    )
    return EVERYTHING if selection.empty else selection


def _show(
    rows: list[JobInfo],
    given: Given,
    pieces: tuple[Piece, ...],
    order: list[tuple[str, bool]],
    now: int,
) -> None:
    for letter, backwards in reversed(order):
        rows.sort(key=jobs.SORT_KEYS[letter], reverse=backwards)  # type: ignore[arg-type]
    if given.flag("json"):
        from cli.output import jsonform

        jsonform.write("cqueue", jobs=[jsonform.job(row) for row in rows])
        return
    cells = [jobs.cells(row, now) for row in rows]
    titles = None if given.flag("noheader") else jobs.TITLES
    terminal = False
    if os.isatty(1):
        from cli.output import terminal as screen

        terminal = screen.is_terminal()
        if terminal and "format" not in given.values:
            pieces = screen.stretched(pieces, cells, "juP")
    lines = formats.lines(pieces, cells, titles)
    if not terminal:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return
    for number, line in enumerate(lines, start=0 if titles is None else -1):
        key = rows[number].state.code if number >= 0 else ""
        sys.stdout.write(screen.coloured(line, key) + "\n")
