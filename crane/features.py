"""Node feature expressions: `a&b|c`, `(intel|amd)&ib`, `[rack1|rack2]` (sbatch(1), --constraint).

`&` binds more strongly than `|`. What is outside of brackets is asked of every node by itself; of
the alternatives in brackets all nodes of the job have the same one; of features counted in brackets,
`[rack1*2&rack2*4]`, so many nodes have each, no node counting twice. Brackets are joined to the
rest by `&`: `ib&[rack1|rack2]`.
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, shown
from crane.record import dataclass

MAX_TEXT = 4_096
MAX_ALTERNATIVES = 256
MAX_CHOICES = 64
"""Alternatives in brackets: each is a place that is searched by itself."""
MAX_COUNTED = 8
"""Features counted in brackets."""
MAX_COUNT = 1 << 20
MAX_DEPTH = 32

Alternatives = tuple[tuple[str, ...], ...]
"""Disjunction of conjunctions: any of the tuples, all of the names in it. `()`: no condition."""

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:=/+")


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an expression asks of the nodes of a job."""

    every: Alternatives = ()
    """Of every node by itself."""
    same: Alternatives = ()
    """All nodes have the same one of these; at least two, or none."""
    counts: tuple[tuple[str, int], ...] = ()
    """At least so many nodes have each feature, no node counting twice; never beside `same`."""

    def counted(self) -> int:
        """Nodes that the counts add up to."""
        return sum(count for _, count in self.counts)

    def choices(self) -> tuple[Alternatives, ...]:
        """What may be asked of every node instead: the nodes of a job meet one of these together."""
        if not self.same:
            return (self.every,)
        return tuple(_both(self.every or ((),), (names,)) for names in self.same)

    def met_by(self, nodes: list[tuple[str, ...]]) -> bool:
        """Whether nodes with these features can make up a job."""
        if not any(all(has(node, choice) for node in nodes) for choice in self.choices()):
            return False
        for chosen in range(1, 1 << len(self.counts)):  # Hall: enough nodes for every few of them
            some = [self.counts[i] for i in range(len(self.counts)) if chosen >> i & 1]
            able = sum(any(name in node for name, _ in some) for node in nodes)
            if able < sum(count for _, count in some):
                return False
        return True


def has(features: tuple[str, ...], wanted: Alternatives) -> bool:
    """Whether one node's features meet any of the alternatives; none is no condition."""
    return not wanted or any(all(name in features for name in names) for names in wanted)


def valid_name(name: str) -> bool:
    """Whether `name` can be a feature: letters, digits and `_-.:=/+`."""
    return bool(name) and len(name) <= 255 and _NAME.issuperset(name)


def parse(expression: str) -> Constraint:
    """Normal form of an expression: sorted, without repetitions and absorbed alternatives.

    Raises BAD_FEATURES, also for counts outside of brackets.
    """
    if not expression.strip():
        return Constraint()
    return _Parser(expression).parse()


def normalise(expression: str) -> str:
    """The expression in its normal form; equal constraints give equal texts."""
    return format_features(parse(expression))


def format_features(constraint: Constraint) -> str:
    """`a&b|c`, `[r1|r2]`, `(a&b|c)&[r1|r2]`, `a&[r1*2&r2*4]`."""
    every = "|".join("&".join(names) for names in constraint.every)
    same = "|".join("&".join(names) for names in constraint.same)
    same = same or "&".join(f"{name}*{count}" for name, count in constraint.counts)
    if not same:
        return every
    same = f"[{same}]"
    if not every:
        return same
    return f"({every})&{same}" if len(constraint.every) > 1 else f"{every}&{same}"


def _normal(found: list[frozenset[str]]) -> Alternatives:
    kept = [a for a in found if not any(b < a for b in found)]
    return tuple(sorted(tuple(sorted(names)) for names in kept if names))


def _both(left: Alternatives, right: Alternatives) -> Alternatives:
    return _normal(list(dict.fromkeys(frozenset(a + b) for a in left for b in right)))


class _Parser:
    """Recursive descent over `or := and {'|' and}`, `and := atom {'&' atom}`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.same: list[frozenset[str]] = [frozenset()]
        self.counts: dict[str, int] = {}
        self.either = False
        """Whether the whole is a disjunction."""
        if len(text) > MAX_TEXT:
            raise self.bad(f"longer than {MAX_TEXT} characters")

    def bad(self, why: str, hint: str = "write a&b, a|b, (a|b)&c or [a|b]") -> CraneError:
        message = f"invalid feature expression {shown(self.text)}: {why}"
        return CraneError(ErrorCode.BAD_FEATURES, message, hint)

    def parse(self) -> Constraint:
        found = self.alternatives(0)
        if self.peek():
            raise self.bad(f"unexpected {shown(self.peek())}")
        same, counts = _normal(self.same), tuple(sorted(self.counts.items()))
        if same and counts:
            raise self.bad("alternatives and counts in brackets", "use one of them")
        if (same or counts) and self.either:
            raise self.bad(
                "brackets beside '|'", "put the '|' into parentheses: (a|b)&[rack1|rack2]"
            )
        every = _normal(found)
        if len(same) == 1:  # the only alternative is asked of every node
            return Constraint(_both(every or ((),), same))
        if len(same) > MAX_CHOICES:
            raise self.bad(f"more than {MAX_CHOICES} alternatives in brackets")
        return Constraint(every, same, counts)

    def peek(self) -> str:
        while self.text[self.place : self.place + 1] in (" ", "\t"):
            self.place += 1
        return self.text[self.place : self.place + 1]

    def alternatives(self, depth: int) -> list[frozenset[str]]:
        found = self.conjunction(depth)
        while self.peek() == "|":
            self.place += 1
            self.either = self.either or not depth
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
            return self.enclosed(")", depth)
        if self.peek() == "[":
            if depth:
                raise self.bad("brackets within parentheses or brackets", "write a&[rack1|rack2]")
            end = self.text.find("]", self.place)
            if "*" in self.text[self.place : end if end >= 0 else None]:
                self.place += 1
                self.count()
                return [frozenset()]
            found = self.enclosed("]", depth)
            self.same = self.bounded([a | b for a in self.same for b in found])
            return [frozenset()]
        name = self.name()
        if self.peek() == "*":
            raise self.bad("a count outside of brackets", "write [rack1*2&rack2*4]")
        return [frozenset((name,))]

    def name(self) -> str:
        start = self.place
        while self.text[self.place : self.place + 1] and self.text[self.place] in _NAME:
            self.place += 1
        name = self.text[start : self.place]
        if not valid_name(name):
            raise self.bad(f"a feature is missing before {shown(self.peek() or 'the end')}")
        return name

    def count(self) -> None:
        """`name*count {'&' name*count} ']'`; a name alone counts once."""
        hint = "write [rack1*2&rack2*4]"
        while True:
            self.peek()
            name, number = self.name(), "1"
            if self.peek() == "*":
                self.place += 1
                self.peek()
                number = self.digits()
            if not 0 < int(number or 0) <= MAX_COUNT:
                raise self.bad(f"a count of {name} must be 1 to {MAX_COUNT}", hint)
            if name in self.counts or len(self.counts) == MAX_COUNTED:
                raise self.bad(f"{name} is counted twice, or more than {MAX_COUNTED} are", hint)
            self.counts[name] = int(number)
            after = self.peek()
            self.place += 1
            if after == "]":
                return
            if after != "&":
                raise self.bad("counts in brackets are joined by '&'", hint)

    def digits(self) -> str:
        start = self.place
        while self.text[self.place : self.place + 1] in tuple("0123456789"):
            self.place += 1
        return self.text[start : self.place][:9]

    def enclosed(self, end: str, depth: int) -> list[frozenset[str]]:
        start = self.peek()
        if depth >= MAX_DEPTH:
            raise self.bad(f"more than {MAX_DEPTH} nested parentheses")
        self.place += 1
        found = self.alternatives(depth + 1)
        if self.peek() != end:
            raise self.bad(f"a '{start}' without its '{end}'")
        self.place += 1
        return found
