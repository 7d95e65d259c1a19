"""`cwhy`: why a job waits, in words and numbers."""

from __future__ import annotations

import sys

from cli import arguments, command
from cli.arguments import Option
from crane.errors import CraneError, ErrorCode

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crane.client.model import Explanation

HELP = """\
usage: cwhy [--sooner] [--json] JOB

Say why a job waits: every condition it has to pass, how many nodes could take it, what is short,
how many jobs are ahead of it, and when it is expected to start.

      --sooner   also what would make it start sooner: a shorter time limit, fewer nodes or
                 another partition, each tried in a scheduling pass before it is named
      --json     JSON, with stable keys
      --help, --version

Examples:
  cwhy 12
  cwhy 12_3
  cwhy --sooner 12
"""

OPTIONS = (*arguments.COMMON, Option("json"), Option("sooner"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("cwhy", _main, HELP, argv)


def _main(argv: list[str]) -> int:
    given = arguments.parse(argv, OPTIONS)
    if given.flag("help"):
        sys.stdout.write(HELP)
        return 0
    if len(given.words) != 1:
        raise CraneError(ErrorCode.USAGE, "give one job", "cwhy 12")
    selectors = arguments.ids(given.words[0])
    tasks = selectors[0].tasks
    if len(selectors) != 1 or len(tasks) > 1 or (tasks and tasks[0][0] != tasks[0][1]):
        raise CraneError(ErrorCode.BAD_SELECTOR, "give one job or one array task", "cwhy 12_3")
    from crane.client import Client

    with Client() as client:
        found = client.explain(
            selectors[0].job_id, tasks[0][0] if tasks else -1, sooner=given.flag("sooner")
        )
    if given.flag("json"):
        from cli.output import jsonform

        jsonform.write("cwhy", job=jsonform.job(found.job), verdict=jsonform.explanation(found))
        return 0
    lines = [*_words(found), *(_sooner(found) if given.flag("sooner") else ())]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _words(found: Explanation) -> Iterator[str]:
    from cli.output.jobs import nodes
    from cli.output.times import when

    job = found.job
    head = f"job {job.shown_id} ({job.name or 'unnamed'}, {job.user}): {job.state.name}"
    if job.ended:
        yield f"{head}, {job.reason.word}"
        yield f"  ended {when(job.end_time)}, exit code {job.exit_code}:{job.signal}"
        if job.reason_text:
            yield f"  {job.reason_text}"
        return
    if job.allocation:
        yield f"{head} on {nodes(job)} since {when(job.start_time)}"
        return
    yield f"{head}, {found.reason.word}"
    if found.text:
        yield f"  {found.text}"
    for gate in found.gates:
        yield f"  [{'x' if gate.open else ' '}] {gate.name}{': ' if gate.text else ''}{gate.text}"
    if found.pass_time:
        yield (
            f"  nodes: {found.nodes_wanted} wanted, {found.nodes_fitting_now} free now,"
            f" {found.nodes_usable} usable, {found.nodes_matching} match"
        )
        if found.short_of:
            yield f"  short of: {found.short_of}"
        yield f"  jobs ahead: {found.jobs_ahead}"
    else:
        yield "  no scheduling pass has looked at it yet"
    if found.priority_terms:
        terms = ", ".join(f"{name} {value}" for name, value in found.priority_terms)
        yield f"  priority: {job.priority} = {terms}"
    yield f"  expected start: {_expected(found)}"
    if found.promised_start:
        yield f"  promised first: {when(found.promised_start)}; moved: {found.moved_cause}"


def _expected(found: Explanation) -> str:
    from cli.output.times import when

    if not found.planned_latest:
        return when(found.planned_start, "unknown")
    span = f"between {when(found.planned_earliest)} and {when(found.planned_latest)}"
    return f"about {when(found.planned_start)} ({span})"


def _sooner(found: Explanation) -> Iterator[str]:
    from cli.output.times import limit, when
    from crane.states import JobState

    if found.job.state is not JobState.PENDING:
        return
    if not found.sooner_known:
        yield "  what would make it start sooner could not be found out: the planner did not answer"
        return
    if not found.remedies:
        yield "  neither a shorter limit, nor fewer nodes, nor another partition would start it sooner"
    for remedy in found.remedies:
        change = f"--time={limit(remedy.time_limit)}"
        if remedy.nodes:
            change = f"--nodes={remedy.nodes}"
        elif remedy.partition:
            change = f"--partition={','.join((*found.job.spec.partitions, remedy.partition))}"
        yield f"  sooner with {change}: by {when(remedy.start)}"
