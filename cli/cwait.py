"""`cwait`: wait for jobs to end."""

from __future__ import annotations

import sys

from cli import arguments, command
from cli.arguments import Option
from crane.errors import CraneError, ErrorCode

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = """\
usage: cwait [options] ID...

Wait for jobs to end; the exit status is the highest of theirs (128 + signal).

      --timeout=SEC   give up after so many seconds (exit status 3); the jobs go on
      --json          how each ended, as JSON
  -q, --quiet         print nothing (default: one line for each job that did not end well)
      --help, --version

Examples:
  cwait 12 13
  cwait --timeout 600 $(csub --parsable job.sh) && echo done
"""

OPTIONS = (
    *arguments.COMMON,
    Option("timeout", "", arguments.seconds),
    Option("json"),
    Option("quiet", "q"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("cwait", _main, HELP, argv)


def _main(argv: list[str]) -> int:
    given = arguments.parse(argv, OPTIONS)
    if given.flag("help"):
        sys.stdout.write(HELP)
        return 0
    selectors = [found for word in given.words for found in arguments.ids(word)]
    if not selectors:
        raise CraneError(ErrorCode.USAGE, "no job given", "cwait 12")
    if any(found.tasks or found.step is not None for found in selectors):
        raise CraneError(
            ErrorCode.BAD_SELECTOR, "only whole jobs can be waited for", "name the job: 12"
        )
    from crane.client import Client

    with Client() as client:
        ended = client.wait([found.job_id for found in selectors], given.get("timeout"))
    if given.flag("json"):
        from cli.output import jsonform

        jsonform.write("cwait", jobs=[jsonform.job(ended[job]) for job in sorted(ended)])
    elif not given.flag("quiet"):
        for number in sorted(ended):
            job = ended[number]
            if job.exit_status:
                command.complain(
                    "cwait", f"job {job.shown_id} ended {job.state.name} ({job.exit_status})"
                )
    return max(job.exit_status for job in ended.values())
