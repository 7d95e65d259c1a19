"""`csub`: submit a job."""

from __future__ import annotations

import os
import sys
import time

from cli import command
from crane import options, request, script
from crane.client.newjob import from_request, own_umask
from crane.errors import CraneError, ErrorCode

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crane.client import Client
    from crane.client.newjob import NewJob
    from crane.request import Request

USAGE = "csub [options] SCRIPT [arguments...]   (or --wrap COMMAND, or the script on stdin)"
EXAMPLES = """
Lines of the script that begin with #CRANE or #SBATCH, before its first command, give options too.
Command line over variables over such lines.

Examples:
  csub -n 4 --mem 8G -t 1:00:00 job.sh data.csv
  csub --array 0-99%10 --wrap 'python work.py $CRANE_ARRAY_TASK_ID'
  csub -d afterok:12 --gres gpu:a100:2 train.sh
  id=$(csub --parsable job.sh); cwait $id

Exit status: 0 accepted (--wait: as the job ended), 2 usage, 3 no controller, 4 refused, 6 system.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("csub", _main, _help, argv)


def _help() -> str:
    return options.help_text(options.CSUB, USAGE) + EXAMPLES


def _main(argv: list[str]) -> int:
    given = options.parse_argv(argv, options.CSUB)
    if given.options.get("help"):
        sys.stdout.write(_help())
        return 0
    if given.options.get("version"):
        from crane import __version__

        sys.stdout.write(f"csub {__version__}\n")
        return 0
    made, job = _job(given)
    if not made.flag("quiet"):
        for notice in made.notices:
            command.complain("csub", notice)
    from cli.submitted import check_places

    check_places(job.spec)
    from crane.client import Client

    with Client() as client:
        if made.flag("dry_run"):
            return _dry_run(client, made, job)
        number = client.submit_job(job)
        _tell(made, number)
        return _wait(client, number) if made.flag("wait") else 0


def _job(given: options.Parsed) -> tuple[Request, NewJob]:
    """The request and the job of a command line. Raises CraneError; nothing has been sent."""
    directives = None
    name = "wrap"
    if given.options.get("wrap") is not None:
        content, label = script.wrap(str(given.options["wrap"])), "(wrap)"
    else:
        path = given.positionals[0] if given.positionals else "/dev/stdin"
        if not given.positionals and os.isatty(0):
            raise CraneError(
                ErrorCode.SCRIPT_MISSING, "no script given", "name a file, or use --wrap COMMAND"
            )
        content = script.read_file(path)
        from_stdin = path == "/dev/stdin"
        where = "standard input" if from_stdin else path
        label = "(stdin)" if from_stdin else os.path.abspath(path)
        name = "stdin" if from_stdin else os.path.basename(path)
        directives = script.options_of(script.parse(content, where), where)
    made = request.build(
        given,
        os.environ,
        directives,
        work_dir=os.getcwd(),
        now_ns=time.time_ns(),
        submit_host=os.uname().nodename,
        umask=own_umask(),
        script_name=name,
    )
    return made, from_request(made, content, os.environ, label)


def _tell(made: Request, number: int) -> None:
    if made.flag("json"):
        from cli.output import jsonform

        jsonform.write("csub", job_id=number)
    elif made.flag("parsable"):
        sys.stdout.write(f"{number}\n")
    elif not made.flag("quiet"):
        sys.stdout.write(f"Submitted batch job {number}\n")
    sys.stdout.flush()


def _dry_run(client: Client, made: Request, job: NewJob) -> int:
    """Say whether the job would be accepted, and as what; on standard error, as --test-only does.

    When it would start is not said: that depends on every job ahead of it, and only a job in the
    queue is planned for (cqueue --start, cwhy).
    """
    client.submit_job(job, dry_run=True)
    places = client.partitions(job.spec.partitions)
    if not job.spec.partitions:
        places = tuple(place for place in places if place.default)
    names = job.spec.partitions or tuple(place.name for place in places)
    first = next((place for place in places if place.name in names[:1]), None)
    seconds = job.spec.time_limit
    if not seconds and first is not None:
        seconds = first.default_time or first.max_time
    if made.flag("json"):
        from cli.output import jsonform

        jsonform.write(
            "csub", job_id=None, accepted=True, partitions=list(names), time_limit=seconds
        )
    else:
        from cli.submitted import outline

        command.complain("csub", f"the job would be accepted: {outline(job.spec, names, seconds)}")
    return 0


def _wait(client: Client, number: int) -> int:
    ended = client.wait([number])[number]
    if ended.exit_status:
        command.complain(
            "csub", f"job {number} ended {ended.state.name} ({_how(ended.exit_status)})"
        )
    return ended.exit_status


def _how(status: int) -> str:
    from crane.signals import format_signal

    return f"signal {format_signal(status - 128)}" if status > 128 else f"exit code {status}"
