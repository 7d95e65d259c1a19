"""What a person is told when csim cannot go on."""

from __future__ import annotations

WRONG_INPUT = 2
HOST_FAILED = 6


class CsimError(Exception):
    """One line: what is wrong, why, and what to do. The command prints it and exits with `status`.

    WRONG_INPUT: arguments or trace; HOST_FAILED: a file cannot be written.
    """

    def __init__(self, message: str, status: int = WRONG_INPUT) -> None:
        super().__init__(message)
        self.status = status
