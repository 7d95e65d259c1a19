"""Job scripts: reading and checking them, and the options written in them.

A script starts with `#!`. Options stand on lines that begin with `#CRANE` or `#SBATCH`, before the
first line that is neither blank nor a comment (sbatch(1)).
"""

from __future__ import annotations

import os
import stat

from crane.errors import CraneError, ErrorCode, shown
from crane.options import CSUB, Parsed, merge, parse_argv, table_for
from crane.record import dataclass

MAX_SCRIPT = 4 << 20
"""Bytes; the controller has its own bound (`limits.max_script`)."""

MAX_DIRECTIVES = 1_000

MARKS = ("#CRANE", "#SBATCH")


@dataclass(frozen=True, slots=True)
class Directive:
    """One line of options: its number from 1, its mark, its words."""

    line: int
    mark: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """A checked script and what is written in it."""

    content: bytes
    directives: tuple[Directive, ...] = ()
    late: tuple[int, ...] = ()
    """Lines that look like options but stand after the first command, where they do nothing."""


def read_file(path: str, limit: int = MAX_SCRIPT) -> bytes:
    """Content of a script file, a pipe or `/dev/stdin`; raises SCRIPT_* errors.

    At most `limit` + 1 bytes are read, so that a device or an endless pipe cannot fill the memory.
    """
    if not path:
        raise CraneError(ErrorCode.SCRIPT_MISSING, "no script given", "name a file, or use --wrap")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise CraneError(
            ErrorCode.SCRIPT_MISSING,
            f"there is no script {shown(path, 200)}",
            "check the path; a command line needs --wrap",
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise CraneError(
                ErrorCode.SCRIPT_UNREADABLE, f"{shown(path, 200)} is a directory, not a script"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(descriptor)


def _unreadable(path: str, error: Exception) -> CraneError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return CraneError(
        ErrorCode.SCRIPT_UNREADABLE, f"cannot read the script {shown(path, 200)}: {why}"
    )


def check(content: bytes, where: str, limit: int = MAX_SCRIPT) -> None:
    """Raise the SCRIPT_* error of what cannot be a batch script; `where` names it in messages."""
    if not content.strip():
        raise CraneError(ErrorCode.SCRIPT_EMPTY, f"{where}: the script is empty")
    if len(content) > limit:
        raise CraneError(
            ErrorCode.SCRIPT_TOO_LARGE,
            f"{where}: the script is larger than {limit} bytes",
            "keep data and programs in files and let the script start them",
        )
    if b"\0" in content:
        raise CraneError(
            ErrorCode.SCRIPT_BINARY,
            f"{where}: this is a binary file, not a script",
            "start a program with --wrap 'PROGRAM ARGUMENTS'",
        )
    if not content.startswith(b"#!"):
        raise CraneError(
            ErrorCode.SCRIPT_NO_SHEBANG,
            f"{where}: the first line does not name an interpreter",
            "begin the script with #!/bin/sh or another interpreter",
        )
    if content.split(b"\n", 1)[0].endswith(b"\r"):
        raise CraneError(
            ErrorCode.SCRIPT_LINE_ENDS,
            f"{where}: lines end as on DOS, so that the interpreter would not be found",
            "convert the file: sed -i 's/\\r$//' FILE",
        )


def parse(content: bytes, where: str, limit: int = MAX_SCRIPT) -> Script:
    """A checked script with its directives."""
    check(content, where, limit)
    directives: list[Directive] = []
    late: list[int] = []
    commands = False
    for number, raw in enumerate(content.split(b"\n"), start=1):
        if commands and not raw.startswith(b"#"):
            continue
        line = raw.decode("utf-8", "surrogateescape").rstrip("\r")
        mark = _mark(line)
        if mark and commands:
            late.append(number)
        elif mark:
            words = _words(line[len(mark) :], f"{where}:{number}")
            directives.append(Directive(number, mark, words))
        elif line.strip() and not line.lstrip().startswith("#"):
            commands = True
        if len(directives) > MAX_DIRECTIVES:
            raise CraneError(
                ErrorCode.LIMIT_EXCEEDED, f"{where}: more than {MAX_DIRECTIVES} lines of options"
            )
    return Script(content, tuple(directives), tuple(late))


def _mark(line: str) -> str:
    """The mark a line begins with, if a blank or nothing follows it."""
    for mark in MARKS:
        if line.startswith(mark) and line[len(mark) : len(mark) + 1] in {"", " ", "\t"}:
            return mark
    return ""


def _words(text: str, place: str) -> tuple[str, ...]:
    """Split a line at blanks; quotes group, a backslash escapes, a word that starts with # ends it."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    characters = iter(text)
    for char in characters:
        if char == "\\" and quote != "'":
            following = next(characters, "")
            word = [*(word or []), following]
        elif quote:
            if char == quote:
                quote = ""
            else:
                assert word is not None, "an open quote has begun a word"
                word.append(char)
        elif char in "'\"":
            quote, word = char, word or []
        elif char in " \t":
            if word is not None:
                words.append("".join(word))
            word = None
        elif char == "#" and word is None:
            break
        else:
            word = [*(word or []), char]
    if quote:
        raise CraneError(ErrorCode.USAGE, f"{place}: a quote is not closed")
    if word is not None:
        words.append("".join(word))
    return tuple(words)


def options_of(script: Script, where: str, tool: str = CSUB) -> Parsed:
    """Options of a script's lines; `#CRANE` lines count more than `#SBATCH` lines.

    Raises the error of a bad line with its place (`job.sh:3`).
    """
    table = table_for(tool)
    layers: dict[str, list[Parsed]] = {"#SBATCH": [], "#CRANE": []}
    for directive in script.directives:
        place = f"{where}:{directive.line}"
        if directive.words in {("hetjob",), ("packjob",)}:
            raise CraneError(
                ErrorCode.USAGE,
                f"{place}: heterogeneous jobs are not supported",
                "submit the components as jobs of their own",
            )
        try:
            parsed = parse_argv(directive.words, tool, table)
        except CraneError as error:
            raise error.at(place) from None
        if parsed.positionals:
            raise CraneError(
                ErrorCode.USAGE,
                f"{place}: {shown(parsed.positionals[0])} is not an option",
                "options begin with '-'; quote values that have blanks",
            )
        places = {key: f"{place}: {spelling}" for key, spelling in parsed.places.items()}
        notices = tuple(f"{place}: {notice}" for notice in parsed.notices)
        layers[directive.mark].append(Parsed(parsed.options, places, (), notices))
    merged = merge([*layers["#SBATCH"], *layers["#CRANE"]])
    late = tuple(
        f"{where}:{line}: options after the first command have no effect" for line in script.late
    )
    return Parsed(merged.options, merged.places, (), merged.notices + late)


def wrap(command: str) -> bytes:
    """The script of `--wrap COMMAND`."""
    return b"#!/bin/sh\n" + command.encode("utf-8", "surrogateescape") + b"\n"
