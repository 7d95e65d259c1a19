"""What every command does the same way: help, version, errors, exit status, a reader that leaves."""

from __future__ import annotations

import os
import sys

from crane.errors import EXIT_OK, EXIT_SYSTEM, CraneError

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERRUPTED = 130


def run(
    name: str,
    main: Callable[[list[str]], int],
    help_text: str | Callable[[], str],
    argv: Sequence[str] | None,
) -> int:
    """Run a command's `main` and return its exit status.

    `argv` None: this is the process itself, with its own arguments and its own end.
    """
    if argv is not None:
        return _guarded(name, main, help_text, list(argv))
    import signal

    # `cqueue | head`: end like any filter when the reader leaves, without a word.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    status = _guarded(name, main, help_text, sys.argv[1:])
    _leave(status)
    return status


def _guarded(
    name: str,
    main: Callable[[list[str]], int],
    help_text: str | Callable[[], str],
    arguments: list[str],
) -> int:
    first = arguments[:1]
    if first == ["--help"]:
        sys.stdout.write(help_text if isinstance(help_text, str) else help_text())
        return EXIT_OK
    if first in (["--version"], ["-V"]):
        from crane import __version__

        sys.stdout.write(f"{name} {__version__}\n")
        return EXIT_OK
    try:
        return main(arguments)
    except CraneError as error:
        sys.stdout.flush()
        fail(name, error)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        complain(name, f"error: {error.strerror or error}")
        return EXIT_SYSTEM


def fail(name: str, error: CraneError) -> None:
    """One error on standard error, and what to do about it."""
    complain(name, f"error: {error.message}")
    if error.hint:
        complain(name, f"hint: {error.hint}")


def complain(name: str, text: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"{name}: {text}\n")


def _leave(status: int) -> None:
    """End the process at once: taking the interpreter apart costs several milliseconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
