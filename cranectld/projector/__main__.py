"""`python -m cranectld.projector --state-dir DIR`: the projector process.

Follows the log until the pipe on `--pipe-fd` is closed (the controller is gone) or SIGTERM comes;
then folds the rest, makes a snapshot and ends. Without a pipe it follows until it is told to end;
with `--once` it catches up and ends.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence

from crane.errors import EXIT_OK, CraneError, ErrorCode
from cranectld.projector.service import Policy, Projector
from cranectld.store.api import StoreError
from cranectld.store.lock import Lock

_COALESCE = 0.2
"""Seconds between two looks at a busy log: rows that change twice are written once."""
_IDLE = 1.0
"""Longest time between two looks when nothing wakes it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or that of the error (crane.errors)."""
    options = _parser().parse_args(argv)
    with contextlib.suppress(OSError):
        os.nice(options.nice)
    gc.set_threshold(50_000, 20, 100)  # a state is many objects that live long, and no cycles
    try:
        lock = _lock(options.state_dir, options.wait_lock)
        try:
            projector = Projector(
                options.state_dir,
                Policy(options.snapshot_weight, options.snapshot_interval, not options.prune_log),
            )
            try:
                if not options.once:
                    _follow(projector, options.pipe_fd)
                projector.catch_up()
                projector.snapshot()
            finally:
                projector.close()
        finally:
            lock.release()
    except CraneError as error:
        sys.stderr.write(f"projector: {error.code}: {error}\n")
        return error.exit_status
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    usual = Policy()
    parser = argparse.ArgumentParser(prog="cranectld.projector", description=__doc__)
    parser.add_argument("--state-dir", required=True, help="the controller's state directory")
    parser.add_argument("--pipe-fd", type=int, default=-1, help="wakes by bytes, ends by its end")
    parser.add_argument("--once", action="store_true", help="catch up, snapshot, end")
    parser.add_argument("--snapshot-weight", type=int, default=usual.snapshot_weight)
    parser.add_argument("--snapshot-interval", type=float, default=usual.snapshot_interval)
    parser.add_argument(
        "--prune-log", action="store_true", help="release the log before the older snapshot kept"
    )
    parser.add_argument(
        "--wait-lock", type=float, default=60.0, help="seconds to wait for one that is ending"
    )
    parser.add_argument("--nice", type=int, default=10, help="added to the niceness")
    return parser


def _lock(state_dir: str, patience: float) -> Lock:
    """The projector's lock; one of an earlier controller may still be finishing."""
    deadline = time.monotonic() + patience
    path = os.path.join(state_dir, "projector.lock")
    while True:
        try:
            return Lock(path, "projector")
        except StoreError as error:
            if error.code is not ErrorCode.STORE_BUSY or time.monotonic() >= deadline:
                raise
        except OSError as error:
            raise StoreError(
                ErrorCode.SYSTEM,
                f"the state directory {state_dir} cannot be used: {error}",
                "check that it exists and that this user may write to it",
            ) from error
        select.select([], [], [], 0.05)


def _follow(projector: Projector, pipe: int) -> None:
    """Until the pipe ends or a signal asks for it."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        asked.append(number)
        with contextlib.suppress(BlockingIOError):
            os.write(wake_write, b"\0")

    before: list[tuple[int, Callable[..., object] | int | None]] = [
        (number, signal.signal(number, ask)) for number in (signal.SIGTERM, signal.SIGINT)
    ]
    sources = [wake_read] if pipe < 0 else [wake_read, pipe]
    pause = _COALESCE
    try:
        while not asked:
            busy = projector.catch_up() > 0
            projector.maintain()
            pause = _COALESCE if busy else min(pause * 2, _IDLE)
            if busy:  # let changes gather, whatever arrives on the pipe
                select.select([wake_read], [], [], _COALESCE)
            ready, _, _ = select.select(sources, [], [], pause)
            if pipe in ready and not os.read(pipe, 4096):
                return
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        os.close(wake_read)
        os.close(wake_write)


if __name__ == "__main__":
    sys.exit(main())
