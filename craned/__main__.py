"""`craned`: the agent of one host."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from crane import __version__
from crane.errors import EXIT_OK, CraneError
from craned.daemon import Options, run, settle
from craned.log import LEVELS, setup


def main(arguments: list[str] | None = None) -> int:
    """Run the agent in the foreground; exit statuses are those of `crane.errors`."""
    parser = argparse.ArgumentParser(
        prog="craned",
        description="Runs the jobs of one node. Jobs survive its end and its restart.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", default="", metavar="FILE", help="default: /etc/crane/crane.toml"
    )
    parser.add_argument("--node", default="", metavar="NAME", help="default: the host's name")
    parser.add_argument("--controller", default="", metavar="HOST:PORT", help="where to dial")
    parser.add_argument(
        "--state-dir", default="", metavar="DIR", help="spool, and what to remember"
    )
    parser.add_argument("--socket", default="", metavar="PATH", help="the host's own door")
    parser.add_argument("--key-file", default="", metavar="FILE", help="the cluster's key")
    parser.add_argument(
        "--oversubscribe",
        action="store_true",
        help="report what the configuration promises even if the host has less (development)",
    )
    parser.add_argument("--log-level", default="info", choices=LEVELS)
    parser.add_argument("--version", action="version", version=f"craned {__version__}")
    given = parser.parse_args(arguments)
    setup(given.log_level)
    options = Options(
        given.config,
        given.node,
        given.controller,
        given.state_dir,
        given.socket,
        given.key_file,
        given.oversubscribe,
    )
    try:
        asyncio.run(run(settle(options, dict(os.environ))))
    except CraneError as error:
        sys.stderr.write(f"craned: {error}\n")
        return error.exit_status
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
