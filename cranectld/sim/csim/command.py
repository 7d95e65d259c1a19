"""What `replay` and `whatif` have in common: options, the source they name, and a measured replay."""

from __future__ import annotations

import argparse

from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.history import is_log
from cranectld.sim.csim.measures import measures
from cranectld.sim.csim.progress import progress_bar
from cranectld.sim.csim.replay import LEARNED, Scenario, replay
from cranectld.sim.csim.report import Result
from cranectld.sim.csim.source import Source, log_source, trace_source
from cranectld.sim.csim.workload import FILTERS
from sched_core.orders import ORDERS

POLICIES = ("fcfs", "easy", "easy-sjbf", "conservative", "conservative-replan", *LEARNED)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Declare the trace or log, and the machine it is replayed on."""
    parser.add_argument(
        "trace",
        metavar="TRACE|LOG",
        help="a file in the Standard Workload Format, or a controller's state directory or log.db",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--pool", metavar="P", type=int, help="processors; default: the header's MaxProcs"
    )
    size.add_argument(
        "--nodes", metavar="NxC,...", help="N nodes of C CPUs each, planned as on a cluster"
    )
    parser.add_argument("--filter", choices=FILTERS, default="strong", help="default: strong")


def add_scenario(parser: argparse.ArgumentParser) -> None:
    """Declare what goes with a policy."""
    parser.add_argument(
        "--clairvoyant", action="store_true", help="estimates are the runtimes, not the users'"
    )
    parser.add_argument(
        "--order", choices=ORDERS, default="fcfs", help="of the queue; default: fcfs"
    )
    parser.add_argument(
        "--depth", type=int, help="jobs a pass looks at; default (of a trace) 0: all"
    )
    parser.add_argument(
        "--window", metavar="S", type=int, help="of promises; conservative, on nodes"
    )
    parser.add_argument(
        "--resolution", metavar="S", type=int, help="of promises; conservative, on nodes"
    )


def source_of(options: argparse.Namespace) -> Source:
    """Read what the options name. Raises CsimError."""
    if not is_log(options.trace):
        return trace_source(options.trace, options.pool, options.nodes, options.filter)
    if options.pool is not None or options.nodes is not None:
        raise CsimError(
            f"{options.trace} is a log, which says what nodes there were: no --pool, no --nodes; "
            "to change them: csim whatif --set nodes.LIST.cpus=N"
        )
    return log_source(options.trace)


def scenario_of(options: argparse.Namespace, source: Source, policy: str | None) -> Scenario:
    """What the options say, and for the rest what was in force. Raises CsimError."""
    base = source.scenario
    depth, window, resolution = (
        getattr(base, name) if given is None else given
        for name, given in (
            ("depth", options.depth),
            ("window", options.window),
            ("resolution", options.resolution),
        )
    )
    return checked(
        Scenario(
            policy or base.policy, options.order, depth, options.clairvoyant, window, resolution
        )
    )


def checked(scenario: Scenario) -> Scenario:
    """The scenario, if its bounds can be. Raises CsimError."""
    if scenario.depth < 0:
        raise CsimError(f"depth {scenario.depth} is below 0; 0 means all jobs")
    if scenario.window < 0:
        raise CsimError(f"window {scenario.window} is below 0; 0 means any time from now")
    if scenario.resolution < 1:
        raise CsimError(f"resolution {scenario.resolution} is not a second or more")
    return scenario


def measured(source: Source, scenario: Scenario) -> Result:
    """Replay and sum up, with a bar at a terminal. Raises CsimError."""
    with progress_bar(scenario) as shown:
        outcome = replay(source.jobs, source.machine, scenario, shown, source.site)
    begun = outcome.start >= 0
    if not begun.any():
        where = source.machine if source.machine.processors else "a machine with nothing in service"
        raise CsimError(f"{source.path}: no job could start on {where}")
    jobs, start = source.jobs.only(begun), outcome.start[begun]
    found = measures(jobs, start, source.machine.processors)
    return Result(scenario, outcome, found, len(source.jobs) - len(jobs))
