"""`csim`: what a policy would have made of a workload.

    csim replay log.swf.gz --policy easy --pool 128
    csim replay log.swf.gz --compare fcfs,easy,easy-sjbf,conservative --pool 128
    csim replay log.swf.gz --policy easy --clairvoyant --nodes 100x1 --jobs starts.csv
    csim replay /var/lib/crane/controller
    csim whatif /var/lib/crane/controller --set policy=conservative --set 'nodes.n[1-4].cpus=32'
    csim openb nodes.csv.gz pods.csv.gz --placement random,bestfit,fgd

Exit code 0: done; 2: the arguments, the trace or the log are wrong, said in one line; 6: a file
cannot be written; 130: interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from cranectld.sim.csim.chart import chart
from cranectld.sim.csim.command import (
    POLICIES,
    add_scenario,
    add_source,
    measured,
    scenario_of,
    source_of,
)
from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.files import whole_file
from cranectld.sim.csim.openb import add_parser, openb
from cranectld.sim.csim.plot import check_plot, write_plot
from cranectld.sim.csim.report import Result, as_json, as_text, write_jobs
from cranectld.sim.csim.source import Source
from cranectld.sim.csim.whatif import add_whatif, whatif


def main(arguments: list[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "openb":
            return openb(options)
        sys.stdout.write((whatif if options.command == "whatif" else _replay)(options))
        sys.stdout.flush()
    except CsimError as error:
        sys.stderr.write(f"csim: error: {error}\n")
        return error.status
    except KeyboardInterrupt:
        sys.stderr.write("csim: interrupted; nothing was written\n")
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="csim",
        description="Replay workloads through the scheduling core.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=__doc__,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("replay", help="replay a trace (SWF, plain or gzip) or a site's log")
    add_source(one)
    which = one.add_mutually_exclusive_group()
    which.add_argument(
        "--policy", choices=POLICIES, help="default: easy; of a log: what was in force"
    )
    which.add_argument("--compare", metavar="POLICY,...", type=_policies, help="a table of several")
    add_scenario(one)
    one.add_argument("--jobs", metavar="OUT.csv", help="write job_id,submit,start,end of every job")
    one.add_argument(
        "--plot", metavar="OUT.png|html", help="draw utilisation, queue and a Gantt chart"
    )
    one.add_argument("--json", action="store_true", help="figures as JSON")
    add_whatif(commands)
    add_parser(commands)
    return parser


def _policies(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in POLICIES:
            raise argparse.ArgumentTypeError(f"no policy {name!r}; there are {', '.join(POLICIES)}")
    return names


def _replay(options: argparse.Namespace) -> str:
    """Do what is asked for; gives what is to be printed."""
    policies = options.compare or (options.policy,)
    _check(options, policies)
    source = source_of(options)
    scenarios = [scenario_of(options, source, policy) for policy in policies]
    results = [measured(source, scenario) for scenario in scenarios]
    _write(options, source, results[0])
    document = as_json if options.json else as_text
    return document(options.trace, source.jobs, source.machine, results)


def _write(options: argparse.Namespace, source: Source, result: Result) -> None:
    """The files that are asked for: all of them, or none."""
    jobs, start = source.jobs, result.outcome.start
    with contextlib.ExitStack() as files:
        if options.jobs:
            write_jobs(files.enter_context(whole_file(options.jobs)), jobs, start)
        if options.plot:
            begun = start >= 0
            title = f"{os.path.basename(options.trace)}: {result.scenario}, {source.machine}"
            drawn = chart(title, jobs.only(begun), start[begun], source.machine.processors)
            partial = files.enter_context(whole_file(options.plot))
            write_plot(partial, drawn, png=options.plot.endswith(".png"))


def _check(options: argparse.Namespace, policies: tuple[str | None, ...]) -> None:
    """Refuse what could only fail after a long replay."""
    for option, path in (("--jobs", options.jobs), ("--plot", options.plot)):
        if path and len(policies) > 1:
            raise CsimError(f"{option} is for one policy; give --policy instead of --compare")
        if path and os.path.realpath(path) == os.path.realpath(options.trace):
            raise CsimError(f"{option} {path} is the trace itself; name another file")
    if options.plot:
        check_plot(options.plot)


if __name__ == "__main__":
    sys.exit(main())
