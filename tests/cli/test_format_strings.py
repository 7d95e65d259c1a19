"""Format strings in Slurm's grammar, against an obvious reading of squeue(1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.output import formats
from cli.output.history import columns, lines
from crane.errors import CraneError, ErrorCode

LETTERS = "ijuT"
VALUES = {"i": "12", "j": "a-long-name", "u": "ada", "T": "RUNNING"}
TITLES = {"i": "JOBID", "j": "NAME", "u": "USER", "T": "STATE"}

_LITERAL = st.text(st.characters(blacklist_characters="%"), min_size=1, max_size=5)
_COLUMN = st.tuples(
    st.sampled_from(["", ".", "-"]), st.one_of(st.just(""), st.integers(1, 30).map(str)),
    st.sampled_from(LETTERS),
)  # fmt: skip
_PIECES = st.lists(st.one_of(_LITERAL, _COLUMN, st.just("%%")), max_size=8)


@settings(deadline=None, max_examples=200)
@given(pieces=_PIECES)
def test_a_line_is_its_pieces_laid_out(pieces):
    text = "".join(p if isinstance(p, str) else f"%{p[0]}{p[1]}{p[2]}" for p in pieces)
    wanted = ""
    for piece in pieces:
        if isinstance(piece, str):
            wanted += "%" if piece == "%%" else piece
            continue
        mark, size, letter = piece
        value = VALUES[letter]
        if size:
            value = value[: int(size)]
            value = value.rjust(int(size)) if mark == "." else value.ljust(int(size))
        wanted += value

    parsed = formats.parse(text, LETTERS)

    assert list(formats.lines(parsed, [VALUES.__getitem__], None)) == [wanted]


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=30))
def test_any_text_is_a_format_or_refused_as_one(text):
    refused = None
    try:
        formats.parse(text, LETTERS)
    except CraneError as error:
        refused = error.code
    assert refused in {None, ErrorCode.BAD_FORMAT}


def test_headings_are_laid_out_like_values():
    pieces = formats.parse("%.6i|%-4u|%j", LETTERS)

    assert list(formats.lines(pieces, [VALUES.__getitem__], TITLES)) == [
        " JOBID|USER|NAME",
        "    12|ada |a-long-name",
    ]
    assert list(formats.lines(pieces, [VALUES.__getitem__], None)) == ["    12|ada |a-long-name"]


def test_a_fitted_column_is_as_wide_as_its_widest_value():
    pieces = formats.parse("%#j|%#i", LETTERS)

    assert list(formats.lines(pieces, [VALUES.__getitem__], TITLES)) == [
        "NAME       |JOBID",
        "a-long-name|12   ",
    ]


@pytest.mark.parametrize(
    ("parsable", "wanted"),
    [("p", ["JobID|State|", "1|x|"]), ("P", ["JobID|State", "1|x"]),
     ("", ["JobID     State ", "-------- ------ ", "1             x "])],
)  # fmt: skip
def test_history_layouts(parsable, wanted):
    chosen = [
        type(column)(column.title, column.width, lambda _, value=value: value)
        for column, value in zip(columns("jobid%-8,State%6"), ("1", "x"), strict=True)
    ]

    assert list(lines(chosen, [None], heading=True, parsable=parsable)) == wanted
