"""Format strings in Slurm's grammar: `%.18i %-8j|%T`, `%%`, and text that passes through.

`%[#][.|-][size]letter`: with a size the value is padded and cut to it, at the right with `.`, else
at the left; without one it is as wide as it is. `#` makes a column as wide as its widest value. A
letter that does not exist is an error, never a `?` (squeue(1), --format).
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, shown
from crane.record import dataclass

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

MAX_SIZE = 4_096
MAX_FORMAT = 16_384


@dataclass(frozen=True, slots=True)
class Field:
    """One column: what it shows, and how wide."""

    letter: str
    size: int = 0
    """0: as wide as the value."""
    right: bool = False
    fit: bool = False
    """As wide as the widest value of the table."""

    @property
    def template(self) -> str:
        """The column for the operator `%`, which pads and cuts the value."""
        if not self.size:
            return "%s"
        return f"%{self.size}.{self.size}s" if self.right else f"%-{self.size}.{self.size}s"


Piece = Field | str
"""A column, or text to pass through."""


def parse(text: str, letters: Collection[str]) -> tuple[Piece, ...]:
    """Pieces of a format string. Raises BAD_FORMAT."""
    if len(text) > MAX_FORMAT:
        raise _bad(text, f"longer than {MAX_FORMAT} characters")
    pieces: list[Piece] = []
    literal: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char != "%":
            literal.append(char)
        elif text[at : at + 1] == "%":
            literal.append("%")
            at += 1
        else:
            field, at = _field(text, at, letters)
            if literal:
                pieces.append("".join(literal))
                literal = []
            pieces.append(field)
    if literal:
        pieces.append("".join(literal))
    return tuple(pieces)


def _field(text: str, at: int, letters: Collection[str]) -> tuple[Field, int]:
    start = at
    fit = text[at : at + 1] == "#"
    at += fit
    mark = text[at : at + 1]
    at += mark in {".", "-"} and bool(mark)
    digits = at
    while text[at : at + 1].isdigit() and text[at : at + 1].isascii():
        at += 1
    size = text[digits:at]
    letter = text[at : at + 1]
    if not letter:
        raise _bad(text, f"{shown('%' + text[start:])} names no column")
    if letter not in letters:
        known = "".join(sorted(letters, key=lambda known: (known.lower(), known)))
        raise _bad(text, f"there is no column {shown('%' + letter)}", f"the letters are {known}")
    if int(size or 0) > MAX_SIZE:
        raise _bad(text, f"a column wider than {MAX_SIZE}")
    return Field(letter, int(size or 0), mark == ".", fit), at + 1


def _bad(text: str, why: str, hint: str = "") -> CraneError:
    return CraneError(ErrorCode.BAD_FORMAT, f"invalid format {shown(text)}: {why}", hint)


def fields(pieces: Iterable[Piece]) -> list[Field]:
    """The columns of a format."""
    return [piece for piece in pieces if isinstance(piece, Field)]


def fitted(pieces: Sequence[Piece], rows: Sequence[Mapping[str, str]]) -> tuple[Piece, ...]:
    """The format with its `#` columns made as wide as their widest value; `rows` by letter."""
    done: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Field) and piece.fit:
            widest = max((len(row[piece.letter]) for row in rows), default=0)
            done.append(Field(piece.letter, max(widest, piece.size), piece.right))
        else:
            done.append(piece)
    return tuple(done)


def lines(
    pieces: Sequence[Piece],
    rows: Iterable[Callable[[str], str]],
    titles: Mapping[str, str] | None,
) -> Iterator[str]:
    """All lines of a table, with a heading unless `titles` is None."""
    if any(isinstance(piece, Field) and piece.fit for piece in pieces):
        used = {field.letter for field in fields(pieces)}
        rows = list(rows)
        texts = [{letter: row(letter) for letter in used} for row in rows]
        pieces = fitted(pieces, texts if titles is None else [dict(titles), *texts])
    # A template of the literals and one function: a long table is nothing but calls of it.
    template = "".join(
        piece.replace("%", "%%") if isinstance(piece, str) else piece.template for piece in pieces
    )
    letters = [field.letter for field in fields(pieces)]
    if titles is not None:
        yield template % tuple([titles[letter] for letter in letters])
    for row in rows:
        yield template % tuple([row(letter) for letter in letters])
