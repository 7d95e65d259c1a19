"""Telling what became of changes: nothing where all went well, one line per failure."""

from __future__ import annotations

from cli import command
from crane.errors import EXIT_OK, EXIT_REFUSED

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crane.client.model import Change


def report(name: str, changes: Iterable[Change]) -> int:
    """Complain about what was refused; the exit status (nonzero if anything was)."""
    status = EXIT_OK
    for change in changes:
        if change.error is None:
            continue
        message = change.error.message
        about = "" if change.subject in message else f"{change.subject}: "
        command.complain(name, f"error: {about}{message}")
        if change.error.hint:
            command.complain(name, f"hint: {change.error.hint}")
        status = max(status, change.error.exit_status, EXIT_REFUSED)
    return status
