"""`crun` outside a job: a job whose script runs the same command line, its output shown as it comes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading

from cli import command
from crane.client import Client
from crane.client.newjob import from_request, own_umask
from crane.errors import CraneError
from crane.record import replace

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from crane.client.model import JobInfo
    from crane.request import Request

_LOOK = 0.1
"""Seconds between looks at the output files, which may grow on another host."""


def run_outside(made: Request, argv: Sequence[str]) -> int:
    """Submit, show the output, and return the status the job ended with.

    Standard input is not passed on. The files the output passes through stand in the working
    directory, which the nodes share, and are removed at the end.
    """
    token = os.urandom(4).hex()
    paths = [os.path.join(made.spec.work_dir, f".crun-{token}.{kind}") for kind in ("out", "err")]
    patterns = [path.replace("%", "%%") for path in paths]
    spec = replace(made.spec, stdin="", stdout=patterns[0], stderr=patterns[1], umask=own_umask())
    # In a job's PATH the look-alike `srun` comes first: this very command.
    content = f"#!/bin/sh\nexec srun {shlex.join(argv)}\n".encode("utf-8", "surrogateescape")
    name = made.name or os.path.basename(made.args[0])
    job = from_request(replace(made, spec=spec, name=name, args=()), content, os.environ, "(crun)")
    with Client() as client:
        number = client.submit_job(job)
        if not made.flag("quiet"):
            command.complain("crun", f"job {number} is queued")
        try:
            return _attend(client, number, paths).exit_status
        finally:
            for path in paths:
                if os.path.exists(path):
                    os.unlink(path)


def _attend(client: Client, number: int, paths: Sequence[str]) -> JobInfo:
    """Show output until the job has ended; an interrupt or termination cancels it."""
    ended: list[JobInfo] = []
    failed: list[CraneError] = []
    done = threading.Event()

    def wait() -> None:
        try:
            with Client(client.address) as other:
                ended.append(other.wait([number])[number])
        except CraneError as error:
            failed.append(error)
        done.set()

    def cancel(_: int, __: FrameType | None) -> None:
        command.complain("crun", f"cancelling job {number}")
        client.cancel([number])

    before = {which: signal.signal(which, cancel) for which in (signal.SIGINT, signal.SIGTERM)}
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    shown = [0, 0]
    try:
        while not done.wait(_LOOK):
            _show(paths, shown)
        _show(paths, shown)
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    if failed:
        raise failed[0]
    return ended[0]


def _show(paths: Sequence[str], shown: list[int]) -> None:
    """Pass on what the files have grown by."""
    for place, (path, stream) in enumerate(zip(paths, (sys.stdout, sys.stderr), strict=True)):
        try:
            with open(path, "rb") as file:
                file.seek(shown[place])
                while data := file.read(1 << 16):
                    shown[place] += len(data)
                    stream.buffer.write(data)
                    stream.buffer.flush()
        except FileNotFoundError:
            continue  # the job has not started yet
