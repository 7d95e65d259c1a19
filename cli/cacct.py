"""`cacct`: what jobs did, also long past ones."""

from __future__ import annotations

import os
import sys
import time

from cli import arguments, command, named
from cli.arguments import Option
from cli.output import history
from crane.client.selection import EVERYTHING, Selection
from crane.errors import EXIT_OK, CraneError, ErrorCode, shown
from crane.timespec import parse_when

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cli.arguments import Given
    from cli.output.history import Row
    from crane.client import Client
    from crane.client.model import JobInfo

HELP = """\
usage: cacct [options]

Show jobs and their steps from the accounting tables: one's own since midnight, unless told else.

  -j, --jobs=IDS          these jobs, of any time: 12, 12_3, 12.batch
  -u, --user=LIST         jobs of these users;  -a, --allusers: of all
  -n, --noheader          no heading
      --name=LIST         with these names
  -r, --partition=LIST    in these partitions
  -A, --accounts=LIST     of these accounts
  -q, --qos=LIST          of these qualities of service
  -N, --nodelist=LIST     on these nodes
  -W, --wckeys=LIST       with these labels for reports
      --reservation=LIST  in these reservations
      --licenses=LIST     that asked for any of these licences
  -s, --state=LIST        in these states
  -S, --starttime=WHEN    that were there after this: now-2days, 2026-11-19, 14:00
  -E, --endtime=WHEN      and before this
  -X, --allocations       jobs only, no steps
  -o, --format=FIELDS     jobid,jobname%20,state%-12,...;  -b, --brief;  -l, --long
  -p, --parsable          fields end with |
  -P, --parsable2         fields are separated by |
      --json              JSON, with stable keys
  -e, --helpformat        list the fields
      --help, --version

Examples:
  cacct -j 12
  cacct -X -S now-2days -o jobid,state%20,elapsed,maxrss
  cacct -n -P -X -o jobidraw,state -j 12,13      for scripts
"""

OPTIONS = (
    *arguments.COMMON,
    Option("jobs", "j", arguments.ids, many=True),
    Option("job", "", arguments.ids, many=True),
    Option("user", "u", arguments.users, many=True),
    Option("uid", "", arguments.users, many=True),
    Option("allusers", "a"),
    Option("noheader", "n"),
    Option("name", "", arguments.names, many=True),
    Option("partition", "r", arguments.names, many=True),
    Option("accounts", "A", arguments.names, many=True),
    Option("account", "", arguments.names, many=True),
    Option("qos", "q", arguments.names, many=True),
    Option("nodelist", "N", arguments.hosts, many=True),
    Option("wckeys", "W", arguments.names, many=True),
    Option("wckey", "", arguments.names, many=True),
    Option("reservation", "", arguments.names, many=True),
    Option("licenses", "", arguments.names, many=True),
    Option("state", "s", arguments.states, many=True),
    Option("starttime", "S", arguments.plain),
    Option("endtime", "E", arguments.plain),
    Option("allocations", "X"),
    Option("format", "o", arguments.plain),
    Option("brief", "b"),
    Option("long", "l"),
    Option("parsable", "p"),
    Option("parsable2", "P"),
    Option("json"),
    Option("helpformat", "e"),
    Option("duplicates", "D", inert=True),
    Option("noconvert", inert=True),
    Option("clusters", "M", arguments.plain, inert=True),
    Option("allclusters", "L", inert=True),
    Option("units", "", arguments.plain, inert=True),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("cacct", _main, HELP, argv)


def _main(argv: list[str]) -> int:
    given = arguments.parse(argv, OPTIONS)
    if given.flag("help"):
        sys.stdout.write(HELP)
        return 0
    if given.flag("helpformat"):
        sys.stdout.writelines(f"{column.title}\n" for column in history.FIELDS.values())
        return 0
    if given.words:
        raise CraneError(
            ErrorCode.USAGE, f"unexpected {shown(given.words[0])}", "jobs are named with -j"
        )
    for notice in given.notices:
        command.complain("cacct", notice)
    columns = history.columns(_format(given))
    selection = _selection(given)
    since, until = _period(given, selection)
    steps = not given.flag("allocations")
    by_step = any(item.step is not None for item in selection.ids)
    from crane.client import Client

    with Client() as client:
        found = _found(client, selection, since, until, steps or by_step)
    # Of a period, a job that is not there may have been at another time.
    whole = not (given.get("starttime") or given.get("endtime"))
    if given.flag("json"):
        from cli.output import jsonform

        jsonform.write("cacct", jobs=[jsonform.job(job) for job in found])
        return _status(found, selection) if whole else EXIT_OK
    parsable = "P" if given.flag("parsable2") else "p" if given.flag("parsable") else ""
    lines = history.lines(
        columns,
        _rows(found, selection, steps=steps),
        heading=not given.flag("noheader"),
        parsable=parsable,
    )
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return _status(found, selection) if whole else EXIT_OK


def _status(found: Sequence[JobInfo], selection: Selection) -> int:
    sys.stdout.flush()
    return named.missing_jobs("cacct", found, selection, "cqueue lists the jobs in the queue")


def _format(given: Given) -> str:
    for option, text in (("brief", history.BRIEF), ("long", history.LONG)):
        if given.flag(option):
            return text
    environ = os.environ
    by_variable = environ.get("CACCT_FORMAT") or environ.get("SACCT_FORMAT")
    chosen: str = given.get("format") or by_variable or history.DEFAULT
    return chosen


def _selection(given: Given) -> Selection:
    users = given.get("user", ()) + given.get("uid", ())
    ids = given.get("jobs", ()) + given.get("job", ())
    if not users and not ids and not given.flag("allusers") and os.getuid() != 0:
        users = (arguments.me(),)
    made = Selection(
        ids=ids,
        users=() if given.flag("allusers") else users,
        names=given.get("name", ()),
        partitions=given.get("partition", ()),
        accounts=given.get("accounts", ()) + given.get("account", ()),
        qos=given.get("qos", ()),
        states=given.get("state", ()),
        nodes=given.get("nodelist", ()),
        reservations=given.get("reservation", ()),
        wckeys=given.get("wckeys", ()) + given.get("wckey", ()),
        licences=given.get("licenses", ()),
    )
    return EVERYTHING if made.empty else made


def _period(given: Given, selection: Selection) -> tuple[int, int]:
    """Since and until (ns; 0: no bound). Jobs named by id are of any time."""
    now = time.time_ns()
    start, end = given.get("starttime"), given.get("endtime")
    since = 0 if selection.ids else parse_when("00:00", now, past=True)
    if start:
        since = parse_when(start, now, past=True)
    until = parse_when(end, now, past=True) if end else 0
    if until and until < since:
        raise CraneError(ErrorCode.BAD_TIME, "--endtime is before --starttime", "turn them around")
    return since, until


def _found(
    client: Client,
    selection: Selection,
    since: int,
    until: int,
    steps: bool,
) -> list[JobInfo]:
    """Jobs of the tables, in order of their ids."""
    rows = client.history(selection, since=since, until=until, steps=steps)
    return sorted(
        rows, key=lambda job: (job.array_job_id or job.job_id, job.array_task, job.job_id)
    )


def _spoken_for(found: Sequence[JobInfo], selection: Selection) -> set[int]:
    """Arrays that have ended and whose tasks' own rows say all there is (as in sacct(1)).

    Tasks that were cancelled before they started have no row: the array's own stands for them. A
    filter may hide rows of tasks, so that with one they cannot be counted.
    """
    tasks: dict[int, int] = {}
    for job in found:
        if job.array_task >= 0:
            tasks[job.array_job_id] = tasks.get(job.array_job_id, 0) + 1
    filtered = bool(selection.states or selection.nodes)
    return {
        job.job_id
        for job in found
        if job.job_id == job.array_job_id and job.array_task < 0 and job.ended
        if job.job_id in tasks and (filtered or tasks[job.job_id] >= sum(job.task_states.values()))
    }


def _rows(found: Sequence[JobInfo], selection: Selection, *, steps: bool) -> Iterator[Row]:
    wanted = {(item.job_id, item.step) for item in selection.ids if item.step is not None}
    whole = {item.job_id for item in selection.ids if item.step is None}
    now = time.time_ns()
    hidden = _spoken_for(found, selection)
    for job in found:
        if job.job_id in hidden:
            continue
        only = wanted and not whole & {job.job_id, job.array_job_id}
        if not only:
            yield history.Row(job, None, now)
        for step in job.steps if steps or only else ():
            ids = {(job.job_id, step.step), (job.array_job_id, step.step)}
            if not only or ids & wanted:
                yield history.Row(job, step, now)
