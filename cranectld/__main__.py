"""The controller: `cranectld --config FILE`.

Exit status: 0 stopped in order, 2 wrong usage or a mistake in the configuration, 6 the host failed
it (no such file, store busy, damaged or of a later version, socket taken, log not writable).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from crane import __version__
from crane.config.load import find_config, load
from crane.config.model import Config
from crane.errors import EXIT_OK, CraneError, ErrorCode
from cranectld.shell import log as logs

if TYPE_CHECKING:
    from cranectld.shell.clock import Clock
    from cranectld.shell.loop import Loop
    from cranectld.shell.planning import Planning


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cranectld", description="The controller of a cluster: queue, policy, dispatch."
    )
    parser.add_argument(
        "--config", metavar="FILE", help="default: $CRANE_CONFIG, $CRANE_HOME, /etc"
    )
    parser.add_argument("--state-dir", metavar="DIR", help="instead of controller.state_dir")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info")
    parser.add_argument("--version", action="version", version=f"cranectld {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the controller; the exit status."""
    arguments = _parser().parse_args(argv)
    logs.setup(arguments.log_level)
    try:
        path = find_config(arguments.config, os.environ)
        if path is None:
            raise CraneError(
                ErrorCode.CONFIG_MISSING,
                "there is no configuration file",
                "give one with --config; `crane up` makes a cluster that needs none",
            )
        config = load(path)
        if arguments.check:
            sys.stdout.write(f"{path}: {len(config.cluster.nodes)} nodes, ")
            sys.stdout.write(f"{len(config.cluster.partitions)} partitions: no mistakes found\n")
            return EXIT_OK
        if arguments.state_dir:
            controller = replace(config.controller, state_dir=arguments.state_dir)
            config = replace(config, controller=controller)
        return _serve(path, config)
    except CraneError as error:
        sys.stderr.write(f"cranectld: {error}\n")
        return error.exit_status


def _serve(path: str, config: Config) -> int:
    # Imported late: --help, --version and --check need neither gRPC nor numpy.
    from cranectld.shell.daemon import Options, serve  # noqa: PLC0415
    from cranectld.shell.planner import Planner  # noqa: PLC0415
    from sched_core.cachedir import default_root  # noqa: PLC0415

    def make_planner(loop: Loop, clock: Clock) -> Planning:
        return Planner(loop, clock, str(default_root()))

    return serve(Options(path, config, make_planner))


if __name__ == "__main__":
    sys.exit(main())
