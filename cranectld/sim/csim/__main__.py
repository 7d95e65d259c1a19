"""`csim replay TRACE`: what a policy would have made of a workload.

    csim replay log.swf.gz --policy easy --pool 128
    csim replay log.swf.gz --compare fcfs,easy,easy-sjbf,conservative --pool 128
    csim openb nodes.csv.gz pods.csv.gz --placement random,bestfit,fgd
    csim replay log.swf.gz --policy easy --clairvoyant --nodes 100x1 --jobs starts.csv

Exit code 0: done; 2: the arguments or the trace are wrong, said in one line; 6: a file cannot be
written; 130: interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator

from cranectld.sim.csim.chart import chart
from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.machine import machine
from cranectld.sim.csim.measures import measures
from cranectld.sim.csim.openb import add_parser, openb
from cranectld.sim.csim.plot import check_plot, write_plot
from cranectld.sim.csim.replay import LEARNED, Progress, Scenario, replay
from cranectld.sim.csim.report import Result, as_json, as_text, write_jobs
from cranectld.sim.csim.trace import read_swf
from cranectld.sim.csim.workload import FILTERS, workload
from sched_core.orders import ORDERS

POLICIES = ("fcfs", "easy", "easy-sjbf", "conservative", "conservative-replan", *LEARNED)
BAR = 30


def main(arguments: list[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "openb":
            return openb(options)
        sys.stdout.write(_replay(options))
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
    one = commands.add_parser("replay", help="replay a trace (SWF, plain or gzip)")
    one.add_argument("trace", metavar="TRACE", help="a file in the Standard Workload Format")
    which = one.add_mutually_exclusive_group()
    which.add_argument("--policy", choices=POLICIES, default="easy", help="default: easy")
    which.add_argument("--compare", metavar="POLICY,...", type=_policies, help="a table of several")
    size = one.add_mutually_exclusive_group()
    size.add_argument(
        "--pool", metavar="P", type=int, help="processors; default: the header's MaxProcs"
    )
    size.add_argument(
        "--nodes", metavar="NxC,...", help="N nodes of C CPUs each, planned as on a cluster"
    )
    one.add_argument(
        "--clairvoyant", action="store_true", help="estimates are the runtimes, not the users'"
    )
    one.add_argument("--order", choices=ORDERS, default="fcfs", help="of the queue; default: fcfs")
    one.add_argument("--depth", type=int, default=0, help="jobs a pass looks at; default 0: all")
    one.add_argument(
        "--window", metavar="S", type=int, default=0, help="of promises; conservative, --nodes"
    )
    one.add_argument(
        "--resolution", metavar="S", type=int, default=1, help="of promises; conservative, --nodes"
    )
    one.add_argument("--filter", choices=FILTERS, default="strong", help="default: strong")
    one.add_argument("--jobs", metavar="OUT.csv", help="write job_id,submit,start,end of every job")
    one.add_argument(
        "--plot", metavar="OUT.png|html", help="draw utilisation, queue and a Gantt chart"
    )
    one.add_argument("--json", action="store_true", help="figures as JSON")
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
    trace = read_swf(options.trace)
    where = machine(trace, options.pool, options.nodes)
    jobs = workload(trace, where.processors, options.filter)
    results = []
    for policy in policies:
        bounds = (options.clairvoyant, options.window, options.resolution)
        scenario = Scenario(policy, options.order, options.depth, *bounds)
        with _progress(scenario) as shown:
            outcome = replay(jobs, where, scenario, shown)
        found = measures(jobs, outcome.start, where.processors)
        results.append(Result(scenario, outcome, found))
    if options.jobs:
        write_jobs(options.jobs, jobs, results[0].outcome.start)
    if options.plot:
        title = f"{os.path.basename(options.trace)}: {results[0].scenario}, {where}"
        drawn = chart(title, jobs, results[0].outcome.start, where.processors)
        write_plot(options.plot, drawn)
    return (as_json if options.json else as_text)(options.trace, jobs, where, results)


def _check(options: argparse.Namespace, policies: tuple[str, ...]) -> None:
    """Refuse what could only fail after a long replay."""
    if options.depth < 0:
        raise CsimError(f"--depth {options.depth} is below 0; 0 means all jobs")
    if options.window < 0:
        raise CsimError(f"--window {options.window} is below 0; 0 means any time from now")
    if options.resolution < 1:
        raise CsimError(f"--resolution {options.resolution} is not a second or more")
    for option, path in (("--jobs", options.jobs), ("--plot", options.plot)):
        if path and len(policies) > 1:
            raise CsimError(f"{option} is for one policy; give --policy instead of --compare")
        if path and os.path.realpath(path) == os.path.realpath(options.trace):
            raise CsimError(f"{option} {path} is the trace itself; name another file")
    if options.plot:
        check_plot(options.plot)


@contextlib.contextmanager
def _progress(scenario: Scenario) -> Iterator[Progress | None]:
    """A bar on standard error if that is a terminal; it is gone when the replay is over."""
    if not sys.stderr.isatty():
        yield None
        return
    begun = time.monotonic()

    def show(started: int, jobs: int) -> None:
        done = started * BAR // jobs
        spent = time.monotonic() - begun
        bar = "#" * done + "." * (BAR - done)
        sys.stderr.write(f"\r{scenario} [{bar}] {started:,} of {jobs:,} jobs, {spent:.0f} s\x1b[K")
        sys.stderr.flush()

    sys.stderr.write(f"\r{scenario}: loading kernels\x1b[K")
    sys.stderr.flush()
    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
