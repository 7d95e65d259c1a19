"""Node names in brackets: `n[01-03,7],m2` stands for n01, n02, n03, n7 and m2.

The grammar is Slurm's (scontrol(1), "hostlist"): a comma-separated list of names, each with any
number of bracket groups of numbers and ranges; a leading zero sets the width. Brackets do not nest.
Order and repetitions are kept, so that `expand(compress(names)) == names`.
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, shown

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable

EXPAND_LIMIT = 65_536
"""Most names one list may stand for: a short text must not fill a daemon's memory."""

MAX_TEXT = 1 << 20
MAX_NAME = 253
MAX_LABEL = 63
MAX_DIGITS = 15


def _bad(text: str, why: str, hint: str = "") -> CraneError:
    return CraneError(ErrorCode.BAD_HOSTLIST, f"invalid node list {shown(text)}: {why}", hint)


def valid_name(name: str) -> bool:
    """Whether `name` can be a node's: RFC 1123 labels joined by dots, `_` allowed, ASCII only."""
    if not name or len(name) > MAX_NAME or not name.isascii():
        return False
    for label in name.split("."):
        if not label or len(label) > MAX_LABEL or label[0] == "-" or label[-1] == "-":
            return False
        if not label.replace("-", "").replace("_", "").isalnum() and label.strip("-_"):
            return False
    return True


def expand(text: str, limit: int = EXPAND_LIMIT) -> list[str]:
    """Every name a hostlist stands for, in order; an empty text is an empty list.

    Raises BAD_HOSTLIST for malformed text and for more than `limit` names.
    """
    if len(text) > MAX_TEXT:
        raise _bad(text, f"longer than {MAX_TEXT} characters")
    names: list[str] = []
    if not text:
        return names
    for item in _split(text):
        expanded = _expand_item(item, text, limit - len(names))
        for name in expanded:
            if not valid_name(name):
                raise _bad(text, f"{shown(name)} is not a node name")
        names.extend(expanded)
    return names


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets; refuse nested and stray brackets."""
    items: list[str] = []
    start, inside = 0, False
    for position, char in enumerate(text):
        if char == "[":
            if inside:
                raise _bad(text, "brackets inside brackets")
            inside = True
        elif char == "]":
            if not inside:
                raise _bad(text, "a ']' without its '['")
            inside = False
        elif char == "," and not inside:
            items.append(text[start:position])
            start = position + 1
    if inside:
        raise _bad(text, "a '[' without its ']'")
    items.append(text[start:])
    if not all(items):
        raise _bad(text, "an empty name between commas")
    return items


def _expand_item(item: str, text: str, room: int) -> list[str]:
    """All names of one list item, bracket groups multiplied from left to right."""
    names = [""]
    rest = item
    while True:
        literal, bracket, rest = rest.partition("[")
        names = [name + literal for name in names]
        if not bracket:
            break
        group, _, rest = rest.partition("]")
        numbers = _numbers(group, text, room // len(names))
        names = [name + number for name in names for number in numbers]
    if len(names) > room:
        raise _too_many(text)
    return names


def _too_many(text: str) -> CraneError:
    return _bad(text, "stands for too many names", "split the list")


def _numbers(group: str, text: str, room: int) -> list[str]:
    """The digit strings of one bracket group, at most `room` of them."""
    numbers: list[str] = []
    for part in group.split(","):
        low, dash, high = part.partition("-")
        if not _digits(low) or (dash and not _digits(high)):
            raise _bad(text, f"{shown(part)} is not a number or a range", "write n[1-3,7]")
        if not dash:
            if len(numbers) >= room:
                raise _too_many(text)
            numbers.append(low)
            continue
        width = len(low) if low[0] == "0" and len(low) > 1 else 0
        if high[0] == "0" and len(high) > 1 and len(high) != width:
            raise _bad(text, f"the two ends of {shown(part)} have different widths")
        first, last = int(low), int(high)
        if last < first:
            raise _bad(text, f"the range {shown(part)} runs backwards", f"write {high}-{low}")
        if last - first + 1 + len(numbers) > room:
            raise _too_many(text)
        numbers.extend(str(number).zfill(width) for number in range(first, last + 1))
    return numbers


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS


def compress(names: Iterable[str]) -> str:
    """The shortest hostlist that keeps the order: neighbours with a common prefix are joined.

    Sort by `sort_key` first where the order does not matter.
    """
    items: list[str] = []
    prefix = ""
    digits: list[str] = []

    def flush() -> None:
        if digits:
            ranges = _ranges(digits)
            single = len(ranges) == 1 and "-" not in ranges[0]
            items.append(prefix + (ranges[0] if single else f"[{','.join(ranges)}]"))
            digits.clear()

    for name in names:
        stem = name.rstrip("0123456789")
        number = name[len(stem) :]
        if not number or len(number) > MAX_DIGITS:
            flush()
            items.append(name)
            continue
        if stem != prefix:
            flush()
            prefix = stem
        digits.append(number)
    flush()
    return ",".join(items)


def _ranges(digits: list[str]) -> list[str]:
    """Join neighbouring digit strings that a range would give back exactly."""
    ranges: list[str] = []
    first = last = digits[0]
    for number in [*digits[1:], ""]:
        width = len(first) if first[0] == "0" and len(first) > 1 else 0
        if number and number == str(int(last) + 1).zfill(width):
            last = number
            continue
        ranges.append(first if first == last else f"{first}-{last}")
        first = last = number
    return ranges


def sort_key(name: str) -> tuple[str, int, str]:
    """Key that sorts names as people read them: n2 before n10."""
    stem = name.rstrip("0123456789")
    number = name[len(stem) :][-MAX_DIGITS:]
    return stem, int(number) if number else -1, name
