"""Node feature expressions: `a&b|c`, `(intel|amd)&ib` (sbatch(1), --constraint).

`&` binds more strongly than `|`. The result is a disjunction of conjunctions: any of the tuples, all
of the names in it. `()` is no constraint at all.
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, shown

MAX_TEXT = 4_096
MAX_ALTERNATIVES = 256
MAX_DEPTH = 32

Alternatives = tuple[tuple[str, ...], ...]

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:=/+")


def valid_name(name: str) -> bool:
    """Whether `name` can be a feature: letters, digits and `_-.:=/+`."""
    return bool(name) and len(name) <= 255 and _NAME.issuperset(name)


def parse(expression: str) -> Alternatives:
    """Normal form of an expression: sorted, without repetitions and absorbed alternatives.

    Raises BAD_FEATURES, also for the forms `[a|b]` and `a*2`, which are not supported.
    """
    if not expression.strip():
        return ()
    return _Parser(expression).parse()


def normalise(expression: str) -> str:
    """The expression in its normal form; equal constraints give equal texts."""
    return format_features(parse(expression))


def format_features(alternatives: Alternatives) -> str:
    """`a&b|c`."""
    return "|".join("&".join(names) for names in alternatives)


class _Parser:
    """Recursive descent over `or := and {'|' and}`, `and := atom {'&' atom}`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        if len(text) > MAX_TEXT:
            raise self.bad(f"longer than {MAX_TEXT} characters")
        for char, meaning in (("[", "choices per node"), ("*", "counts per feature")):
            if char in text:
                raise self.bad(
                    f"'{char}' ({meaning}) is not supported",
                    "one expression of '&', '|' and parentheses holds for every node",
                )

    def bad(self, why: str, hint: str = "write a&b, a|b or (a|b)&c") -> CraneError:
        message = f"invalid feature expression {shown(self.text)}: {why}"
        return CraneError(ErrorCode.BAD_FEATURES, message, hint)

    def parse(self) -> Alternatives:
        found = self.alternatives(0)
        if self.peek():
            raise self.bad(f"unexpected {shown(self.peek())}")
        kept = [a for a in found if not any(b < a for b in found)]
        return tuple(sorted(tuple(sorted(names)) for names in kept))

    def peek(self) -> str:
        while self.text[self.place : self.place + 1] in (" ", "\t"):
            self.place += 1
        return self.text[self.place : self.place + 1]

    def alternatives(self, depth: int) -> list[frozenset[str]]:
        found = self.conjunction(depth)
        while self.peek() == "|":
            self.place += 1
            found = self.bounded(found + self.conjunction(depth))
        return found

    def conjunction(self, depth: int) -> list[frozenset[str]]:
        found = self.atom(depth)
        while self.peek() == "&":
            self.place += 1
            right = self.atom(depth)
            found = self.bounded([a | b for a in found for b in right])
        return found

    def bounded(self, found: list[frozenset[str]]) -> list[frozenset[str]]:
        unique = list(dict.fromkeys(found))
        if len(unique) > MAX_ALTERNATIVES:
            raise self.bad(f"more than {MAX_ALTERNATIVES} alternatives")
        return unique

    def atom(self, depth: int) -> list[frozenset[str]]:
        if self.peek() == "(":
            if depth >= MAX_DEPTH:
                raise self.bad(f"more than {MAX_DEPTH} nested parentheses")
            self.place += 1
            found = self.alternatives(depth + 1)
            if self.peek() != ")":
                raise self.bad("a '(' without its ')'")
            self.place += 1
            return found
        start = self.place
        while self.text[self.place : self.place + 1] and self.text[self.place] in _NAME:
            self.place += 1
        name = self.text[start : self.place]
        if not valid_name(name):
            raise self.bad(f"a feature is missing before {shown(self.peek() or 'the end')}")
        return [frozenset((name,))]
