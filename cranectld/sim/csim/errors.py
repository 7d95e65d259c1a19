"""What a person is told when csim cannot go on."""

from __future__ import annotations


class CsimError(Exception):
    """One line: what is wrong, why, and what to do. The command prints it and exits with 2."""
