"""`python -m cranectld.sim`: run seeds, and tell the story of one.

    python -m cranectld.sim --seeds 1-500              many seeds, one line for each that fails
    python -m cranectld.sim --seed 17 --story          what happened, from the first event to the last
    python -m cranectld.sim --seed 17 --story --jobs 12,13 --last 80
    python -m cranectld.sim --seed 17 --steps 2000     the first 2000 steps only

Exit code 0: every check held; 1: one did not (its message names the seed); 2: bad arguments.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from cranectld.sim.truth import SimulationError
from cranectld.sim.world import Options, Result, World

_DEFAULTS = Options()


def main(arguments: list[str] | None = None) -> int:
    """Run the program; gives its exit code."""
    options = _parser().parse_args(arguments)
    if (options.seed is None) == (options.seeds is None):
        sys.stderr.write("give one of --seed N and --seeds A-B\n")
        return 2
    if options.planner == "real":
        from sched_core.warmup import warmup  # noqa: PLC0415 - numba, only where it is wanted

        warmup()
    world_options = Options(
        nodes=options.nodes,
        jobs=options.submissions,
        period=options.period,
        planner=options.planner,
        faults=not options.no_faults,
    )
    if options.seeds is not None:
        return _many(options.seeds, world_options)
    return _one(options, replace(world_options, recording=options.story))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cranectld.sim", description="Simulate a cluster.")
    parser.add_argument("--seed", type=int, help="run this seed")
    parser.add_argument("--seeds", type=_range, metavar="A-B", help="run all of these")
    parser.add_argument("--story", action="store_true", help="tell what happened")
    parser.add_argument(
        "--jobs", type=_ids, default=(), metavar="ID,...", help="of these jobs only"
    )
    parser.add_argument("--last", type=int, default=0, help="tell at most so many lines")
    parser.add_argument("--steps", type=int, default=0, help="stop after so many steps")
    parser.add_argument("--nodes", type=int, default=0, help="nodes; default: 3 to 5")
    parser.add_argument("--submissions", type=int, default=_DEFAULTS.jobs)
    parser.add_argument("--period", type=float, default=_DEFAULTS.period, help="seconds of work")
    parser.add_argument("--planner", choices=("naive", "real"), default="naive")
    parser.add_argument("--no-faults", action="store_true")
    return parser


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    if not (first.isdigit() and (last or first).isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 1-500")
    return range(int(first), int(last if dash else first) + 1)


def _ids(text: str) -> tuple[int, ...]:
    if not all(part.isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of job ids such as 12,13")
    return tuple(int(part) for part in text.split(","))


def _one(options: argparse.Namespace, world_options: Options) -> int:
    world = World(options.seed, world_options)
    failure: AssertionError | None = None
    try:
        if options.steps:
            world.begin()
            while world.clock.steps < options.steps and world.clock.next_time() is not None:
                world.step()
        else:
            world.run()
    except AssertionError as error:
        failure = error
    if options.story:
        jobs = options.jobs or (failure.jobs if isinstance(failure, SimulationError) else ())
        sys.stdout.write(world.story.told(jobs, options.last) + "\n")
    sys.stdout.write(_line(world.result()))
    if failure is None:
        return 0
    sys.stderr.write(_why(options.seed, failure))
    if not isinstance(failure, SimulationError):
        raise failure
    return 1


def _many(seeds: range, world_options: Options) -> int:
    failed = 0
    told = time.monotonic()
    for done, seed in enumerate(seeds):
        if time.monotonic() - told > 5:
            told = time.monotonic()
            sys.stderr.write(f"{done} of {len(seeds)} seeds, {failed} failed\n")
        try:
            sys.stdout.write(_line(World(seed, world_options).run()))
        except AssertionError as error:
            failed += 1
            sys.stdout.write(_why(seed, error))
    sys.stdout.write(f"{len(seeds)} seeds, {failed} failed\n")
    return 1 if failed else 0


def _line(result: Result) -> str:
    faults = ", ".join(f"{name} {count}" for name, count in result.faults.items())
    return (
        f"seed {result.seed}: digest {result.digest}, {result.steps} steps, "
        f"{result.simulated:.0f} s simulated, {result.jobs} jobs, {result.executions} executions, "
        f"{result.appends} appends; faults: {faults or 'none'}\n"
    )


def _why(seed: int, error: AssertionError) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = ""
    if frame is not None and not isinstance(error, SimulationError):
        where = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})"
    text = str(error) or "an assertion failed"
    return f"seed {seed} FAILED: {text}{where}; make sim SEED={seed} tells the story\n"


if __name__ == "__main__":
    sys.exit(main())
