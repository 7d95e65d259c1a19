"""Command lines of the commands that are not `csub` or `crun`: few options, words anywhere.

(Those two share their options with scripts and the environment: crane/options.py.) An option may be
given before or after the words; values of repeatable ones add up. Abbreviations are refused.
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, did_you_mean, shown
from crane.record import dataclass, field

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `parse` None: a flag; `many`: values of repetitions are joined (tuples)."""

    long: str
    short: str = ""
    parse: Callable[[str], Any] | None = None
    many: bool = False
    optional: bool = False
    """The value may be left out; then only `--x=value` gives one."""
    inert: bool = False
    """Accepted for Slurm's sake, without effect."""


@dataclass(slots=True)
class Given:
    """What a command line gives: values by long name, and the words."""

    values: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def flag(self, name: str) -> bool:
        """Whether a flag is on."""
        return bool(self.values.get(name))

    def get(self, name: str, default: Any = None) -> Any:
        """Value of an option."""
        return self.values.get(name, default)


COMMON = (Option("help", "h"), Option("version", "V"))


def parse(argv: Sequence[str], options: Sequence[Option]) -> Given:
    """Read a command line. Raises UNKNOWN_OPTION, USAGE, and what the values' parsers raise."""
    table: dict[str, Option] = {}
    for option in options:
        table[f"--{option.long}"] = option
        if option.short:
            table[f"-{option.short}"] = option
    given = Given()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            given.words += rest
            break
        if word.startswith("--"):
            spelling, equals, text = word.partition("=")
            _take(given, _known(table, spelling), spelling, text if equals else None, rest)
        elif word.startswith("-") and len(word) > 1:
            _letters(given, table, word, rest)
        else:
            given.words.append(word)
    return given


def _letters(given: Given, table: dict[str, Option], word: str, rest: list[str]) -> None:
    """`-hn`, `-u name`, `-uname`."""
    letters = word[1:]
    while letters:
        option = _known(table, f"-{letters[0]}")
        text, letters = letters[1:], letters[1:]
        if option.parse is None:
            _take(given, option, f"-{word[1]}", None, rest)
            continue
        _take(given, option, f"-{option.short}", text.removeprefix("=") if text else None, rest)
        return


def _known(table: dict[str, Option], spelling: str) -> Option:
    option = table.get(spelling)
    if option is None:
        longs = [known[2:] for known in table if known.startswith("--")]
        hint = did_you_mean(spelling.lstrip("-"), longs, "--") or "see --help"
        raise CraneError(ErrorCode.UNKNOWN_OPTION, f"unknown option {shown(spelling)}", hint)
    return option


def _take(given: Given, option: Option, spelling: str, text: str | None, rest: list[str]) -> None:
    if option.parse is None:
        if text is not None:
            raise CraneError(ErrorCode.USAGE, f"{spelling} takes no value")
        value: Any = True
    else:
        if text is None and not option.optional:
            if not rest:
                raise CraneError(ErrorCode.USAGE, f"{spelling} needs a value")
            text = rest.pop(0)
        try:
            value = option.parse(text or "")
        except CraneError as error:
            raise error.at(spelling) from None
    if option.inert:
        given.notices.append(f"{spelling} is accepted for compatibility and has no effect")
    elif option.many:
        given.values[option.long] = given.values.get(option.long, ()) + value
    else:
        given.values[option.long] = value


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list."""
    found = tuple(word.strip() for word in text.split(","))
    if not all(found):
        raise CraneError(ErrorCode.BAD_VALUE, f"an empty name in {shown(text)}")
    return found


def plain(text: str) -> str:
    """The text itself."""
    return text


def seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise CraneError(ErrorCode.BAD_VALUE, f"{shown(text)} is not a number of seconds above 0")
    return value


def count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) <= 1_000_000):
        raise CraneError(ErrorCode.BAD_VALUE, f"{shown(text)} is not a whole number above 0")
    return int(text)


def ids(text: str) -> tuple[Any, ...]:
    """Job ids (crane.selector)."""
    from crane.selector import parse as parse_ids

    return parse_ids(text)


def users(text: str) -> tuple[str, ...]:
    """Names of users; a number is looked up. An unknown one is an error, not an empty filter."""
    import pwd

    found: list[str] = []
    for word in names(text):
        try:
            entry = pwd.getpwuid(int(word)) if word.isdigit() else pwd.getpwnam(word)
        except (KeyError, OverflowError):
            raise CraneError(
                ErrorCode.UNKNOWN_USER,
                f"there is no user {shown(word)}",
                "check the name (id NAME)",
            ) from None
        found.append(entry.pw_name)
    return tuple(found)


def me() -> str:
    """Name of the user who runs the command."""
    import pwd

    try:
        return pwd.getpwuid(_uid()).pw_name
    except KeyError:
        return str(_uid())


def _uid() -> int:
    import os

    return os.getuid()


def states(text: str) -> tuple[Any, ...]:
    """Job states: `pending`, `PD`, `all` (every state)."""
    from crane.states import JobState

    codes = {state.code: state for state in JobState} | {state.name: state for state in JobState}
    found: list[JobState] = []
    for word in names(text):
        if word.lower() == "all":
            found += list(JobState)
        elif word.upper() in codes:
            found.append(codes[word.upper()])
        else:
            raise CraneError(
                ErrorCode.BAD_VALUE,
                f"unknown job state {shown(word)}",
                did_you_mean(word, [state.name.lower() for state in JobState]) or "as in squeue(1)",
            )
    return tuple(dict.fromkeys(found))


def hosts(text: str) -> tuple[str, ...]:
    """Names of nodes, in brackets or not."""
    from crane.hostlist import expand

    return tuple(dict.fromkeys(expand(text)))
