"""What differs on a terminal: colours, and columns that use its width. A pipe gets plain text."""

from __future__ import annotations

import os
import sys

from cli.output.formats import Field

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cli.output.formats import Piece

_RESET = "\x1b[0m"
_COLOURS = {
    "R": "\x1b[32m", "PD": "\x1b[33m", "CG": "\x1b[36m", "CD": "\x1b[2m", "F": "\x1b[31m",
    "TO": "\x1b[31m", "NF": "\x1b[31m", "OOM": "\x1b[31m", "CA": "\x1b[35m",
    "idle": "\x1b[32m", "mix": "\x1b[33m", "alloc": "\x1b[33m", "down": "\x1b[31m",
    "fail": "\x1b[31m", "drain": "\x1b[35m", "drng": "\x1b[35m", "unk": "\x1b[2m",
}  # fmt: skip


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return os.isatty(1) and sys.stdout.isatty()


def coloured(line: str, key: str) -> str:
    """A line in the colour of a state; plain where colours are not wanted (no-color.org)."""
    colour = _COLOURS.get(key)
    if colour is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return line
    return f"{colour}{line}{_RESET}"


def stretched(
    pieces: Sequence[Piece], rows: Iterable[Callable[[str], str]], letters: str
) -> tuple[Piece, ...]:
    """A layout whose columns `letters` grow to their contents, as far as the terminal has room."""
    wide = os.get_terminal_size(1).columns
    texts = list(rows)
    natural = {
        piece.letter: max((len(row(piece.letter)) for row in texts), default=0)
        for piece in pieces
        if isinstance(piece, Field)
    }
    used = sum(
        len(piece) if isinstance(piece, str) else (piece.size or natural[piece.letter])
        for piece in pieces
    )
    room = max(0, wide - used)
    made: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Field) and piece.letter in letters and piece.size:
            more = min(room, max(0, natural[piece.letter] - piece.size))
            room -= more
            made.append(Field(piece.letter, piece.size + more, piece.right))
        else:
            made.append(piece)
    return tuple(made)
