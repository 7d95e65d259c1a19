"""What can go wrong, by stable name: one error class, its codes, and the exit status of each.

An error says what happened, why, and what to do about it (`hint`). Codes are part of the interface:
scripts match on them (`--json`), the wire contract carries them, and a name is never reused.
"""

from __future__ import annotations

from enum import StrEnum

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_OK = 0
EXIT_FAILED = 1
"""The job, or the operation asked for, failed."""
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_REFUSED = 4
"""The controller understood the request and refused it."""
EXIT_FORMAT = 5
"""The output format asked for is not valid."""
EXIT_SYSTEM = 6
"""The host failed us: a file, a disk, a corrupt store, a defect of ours."""


class ErrorCode(StrEnum):
    """Stable names of every kind of error."""

    # What the user wrote.
    USAGE = "USAGE"
    UNKNOWN_OPTION = "UNKNOWN_OPTION"
    BAD_VALUE = "BAD_VALUE"
    BAD_TIME = "BAD_TIME"
    BAD_MEMORY = "BAD_MEMORY"
    BAD_CPUS = "BAD_CPUS"
    BAD_HOSTLIST = "BAD_HOSTLIST"
    BAD_ARRAY = "BAD_ARRAY"
    BAD_DEPENDENCY = "BAD_DEPENDENCY"
    BAD_GRES = "BAD_GRES"
    BAD_FEATURES = "BAD_FEATURES"
    BAD_PATTERN = "BAD_PATTERN"
    BAD_SELECTOR = "BAD_SELECTOR"
    BAD_SIGNAL = "BAD_SIGNAL"
    BAD_EXPORT = "BAD_EXPORT"
    CONFLICT = "CONFLICT"
    BAD_FORMAT = "BAD_FORMAT"
    SCRIPT_MISSING = "SCRIPT_MISSING"
    SCRIPT_UNREADABLE = "SCRIPT_UNREADABLE"
    SCRIPT_EMPTY = "SCRIPT_EMPTY"
    SCRIPT_NO_SHEBANG = "SCRIPT_NO_SHEBANG"
    SCRIPT_TOO_LARGE = "SCRIPT_TOO_LARGE"
    SCRIPT_BINARY = "SCRIPT_BINARY"
    SCRIPT_LINE_ENDS = "SCRIPT_LINE_ENDS"
    OUTPUT_UNWRITABLE = "OUTPUT_UNWRITABLE"
    # What the controller refuses.
    UNKNOWN_PARTITION = "UNKNOWN_PARTITION"
    UNKNOWN_NODE = "UNKNOWN_NODE"
    UNKNOWN_JOB = "UNKNOWN_JOB"
    UNKNOWN_USER = "UNKNOWN_USER"
    UNKNOWN_FEATURE = "UNKNOWN_FEATURE"
    UNKNOWN_GRES = "UNKNOWN_GRES"
    NOT_PERMITTED = "NOT_PERMITTED"
    NOT_AUTHENTICATED = "NOT_AUTHENTICATED"
    UNSATISFIABLE = "UNSATISFIABLE"
    WRONG_STATE = "WRONG_STATE"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    STALE = "STALE"
    BAD_REQUEST = "BAD_REQUEST"
    BAD_CONFIG = "BAD_CONFIG"
    UNKNOWN_STEP = "UNKNOWN_STEP"
    # The way to the controller.
    CONTROLLER_UNREACHABLE = "CONTROLLER_UNREACHABLE"
    CONTROLLER_STARTING = "CONTROLLER_STARTING"
    TIMED_OUT = "TIMED_OUT"
    PROTOCOL = "PROTOCOL"
    UNAVAILABLE = "UNAVAILABLE"
    # The host, its files, and ourselves.
    STORE_BUSY = "STORE_BUSY"
    STORE_CORRUPT = "STORE_CORRUPT"
    STORE_NEWER = "STORE_NEWER"
    CONFIG_MISSING = "CONFIG_MISSING"
    CONFIG_UNREADABLE = "CONFIG_UNREADABLE"
    CONFIG_SYNTAX = "CONFIG_SYNTAX"
    CONFIG_UNKNOWN_KEY = "CONFIG_UNKNOWN_KEY"
    CONFIG_VALUE = "CONFIG_VALUE"
    CONFIG_DUPLICATE = "CONFIG_DUPLICATE"
    CONFIG_REFERENCE = "CONFIG_REFERENCE"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    KEY_UNUSABLE = "KEY_UNUSABLE"
    SOCKET_UNUSABLE = "SOCKET_UNUSABLE"
    SOCKET_IN_USE = "SOCKET_IN_USE"
    SYSTEM = "SYSTEM"
    INTERNAL = "INTERNAL"


_UNREACHABLE = (
    ErrorCode.CONTROLLER_UNREACHABLE,
    ErrorCode.CONTROLLER_STARTING,
    ErrorCode.TIMED_OUT,
    ErrorCode.PROTOCOL,
    ErrorCode.UNAVAILABLE,
)
_REFUSED = (
    ErrorCode.UNKNOWN_PARTITION,
    ErrorCode.UNKNOWN_NODE,
    ErrorCode.UNKNOWN_JOB,
    ErrorCode.UNKNOWN_USER,
    ErrorCode.UNKNOWN_FEATURE,
    ErrorCode.UNKNOWN_GRES,
    ErrorCode.NOT_PERMITTED,
    ErrorCode.NOT_AUTHENTICATED,
    ErrorCode.UNSATISFIABLE,
    ErrorCode.WRONG_STATE,
    ErrorCode.LIMIT_EXCEEDED,
    ErrorCode.STALE,
    ErrorCode.BAD_REQUEST,
    ErrorCode.BAD_CONFIG,
    ErrorCode.UNKNOWN_STEP,
)
_SYSTEM = (
    ErrorCode.STORE_BUSY,
    ErrorCode.STORE_CORRUPT,
    ErrorCode.STORE_NEWER,
    ErrorCode.CONFIG_MISSING,
    ErrorCode.CONFIG_UNREADABLE,
    ErrorCode.OUTPUT_UNWRITABLE,
    ErrorCode.LAUNCH_FAILED,
    ErrorCode.KEY_UNUSABLE,
    ErrorCode.SOCKET_UNUSABLE,
    ErrorCode.SOCKET_IN_USE,
    ErrorCode.SYSTEM,
    ErrorCode.INTERNAL,
)

EXIT_STATUS: dict[ErrorCode, int] = (
    dict.fromkeys(ErrorCode, EXIT_USAGE)
    | dict.fromkeys(_UNREACHABLE, EXIT_UNREACHABLE)
    | dict.fromkeys(_REFUSED, EXIT_REFUSED)
    | dict.fromkeys(_SYSTEM, EXIT_SYSTEM)
    | {ErrorCode.BAD_FORMAT: EXIT_FORMAT}
)
"""Exit status of a command that ends with an error of this code (docs: exit codes)."""


class CraneError(Exception):
    """Something the user or the operator has to know: a code, what happened, and what to do."""

    def __init__(self, code: ErrorCode, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    @property
    def exit_status(self) -> int:
        """Exit status of a command that ends with this error."""
        return EXIT_STATUS[self.code]

    def at(self, place: str) -> CraneError:
        """The same error with the place it was found at (`--time`, `job.sh:3`) put in front."""
        return CraneError(self.code, f"{place}: {self.message}", self.hint)


def shown(text: str, limit: int = 60) -> str:
    """A piece of foreign text, quoted, escaped and cut so that a message stays one short line."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return repr(cut)


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate the user most likely meant, or None if none is close.

    Close: at most one edit (insertion, deletion, change, swap of neighbours) per three letters, or
    a candidate the word is a beginning of. Ties go to the first candidate.
    """
    if not word or len(word) > 64:
        return None
    best, best_distance = None, max(1, len(word) // 3) + 1
    lowered = word.lower()
    for candidate in candidates:
        other = candidate.lower()
        if len(word) >= 3 and other.startswith(lowered):
            distance = 1 if other != lowered else 0
        elif abs(len(other) - len(lowered)) >= best_distance:
            continue
        else:
            distance = _edits(lowered, other)
        if distance < best_distance:
            best, best_distance = candidate, distance
    return best


def did_you_mean(word: str, candidates: Iterable[str], prefix: str = "") -> str:
    """The hint of an unknown word: `did you mean --time?`, or nothing."""
    found = nearest(word, candidates)
    return f"did you mean {prefix}{found}?" if found is not None else ""


def _edits(left: str, right: str) -> int:
    """Optimal string alignment distance (Damerau-Levenshtein without repeated edits)."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row = row, [i, *([0] * len(right))]
        for j, b in enumerate(right, start=1):
            cost = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row[j] = cost
        before = previous
    return row[-1]
