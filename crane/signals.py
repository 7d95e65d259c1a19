"""Signals by name: `TERM`, `SIGUSR1`, `9`, and the warning before a limit `B:USR2@90`.

The table is ours because importing the standard `signal` module costs every command its start-up
time. Numbers are Linux's (signal(7)), the same on x86-64 and arm64.
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, did_you_mean, shown
from crane.record import dataclass

NAMES = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9,
    "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16,
    "CHLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24,
    "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "PWR": 30, "SYS": 31,
}  # fmt: skip
_NAME_OF = {number: name for name, number in NAMES.items()}

MAX_SIGNAL = 64
DEFAULT_WARNING = 60
MAX_WARNING = 65_535


@dataclass(frozen=True, slots=True)
class LimitWarning:
    """A signal sent some seconds before the time limit (sbatch(1), --signal)."""

    signal: int
    seconds: int = DEFAULT_WARNING
    shell_only: bool = False
    """Only the batch script gets it, not the steps (`B:`)."""


def parse_signal(text: str) -> int:
    """Number of `TERM`, `SIGTERM`, `term` or `15` (1..64). Raises BAD_SIGNAL."""
    name = text.upper().removeprefix("SIG")
    if name in NAMES:
        return NAMES[name]
    if text.isascii() and text.isdigit() and len(text) <= 2 and 0 < int(text) <= MAX_SIGNAL:
        return int(text)
    hint = did_you_mean(name, NAMES) or "write TERM, USR1, or a number from 1 to 64"
    raise CraneError(ErrorCode.BAD_SIGNAL, f"unknown signal {shown(text)}", hint)


def format_signal(number: int) -> str:
    """`TERM`, or the number of a signal without a name (a real-time one)."""
    return _NAME_OF.get(number, str(number))


def parse_warning(text: str) -> LimitWarning:
    """`[{B|R}:]SIGNAL[@seconds]`; 60 seconds if not said. Raises BAD_SIGNAL."""
    head, colon, rest = text.rpartition(":")
    if colon and head.upper() not in {"B", "R", "BR", "RB"}:
        raise CraneError(
            ErrorCode.BAD_SIGNAL, f"invalid signal {shown(text)}", "write B:USR1@60 or USR1@60"
        )
    name, at, seconds = rest.partition("@")
    valid = seconds.isascii() and seconds.isdigit() and len(seconds) <= 5
    if at and not (valid and int(seconds) <= MAX_WARNING):
        raise CraneError(
            ErrorCode.BAD_SIGNAL,
            f"invalid signal {shown(text)}: {shown(seconds)} is not a number of seconds",
            f"at most {MAX_WARNING}",
        )
    return LimitWarning(
        parse_signal(name), int(seconds) if at else DEFAULT_WARNING, "B" in head.upper()
    )


def format_warning(warning: LimitWarning) -> str:
    """`B:USR2@90`."""
    prefix = "B:" if warning.shell_only else ""
    return f"{prefix}{format_signal(warning.signal)}@{warning.seconds}"
