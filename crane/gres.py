"""Generic resources as users write them: `gpu:a100:2,npu:4` (sbatch(1), --gres)."""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, shown
from crane.jobspec import Gres

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_COUNT = 1_000_000
MAX_ITEMS = 64
MAX_WORD = 64

_HINT = "write name:count or name:type:count, as in gpu:a100:2,npu:4"


def _bad(text: str, why: str) -> CraneError:
    return CraneError(ErrorCode.BAD_GRES, f"invalid generic resource {shown(text)}: {why}", _HINT)


def parse(text: str) -> tuple[Gres, ...]:
    """Resources of a `--gres` text, sorted by name and type; `none` and an empty text are none.

    The count is 1 if not given; a count of 0 asks for nothing. One name may be asked for by type or
    without, not both, and each type once. Raises BAD_GRES.
    """
    if not text or text.lower() == "none":
        return ()
    return _collect(text, (_item(item, text) for item in _split(text)))


def parse_gpus(text: str, name: str = "gpu") -> tuple[Gres, ...]:
    """Resources of `--gpus-per-node` and its like: `2`, `a100:2`, `a100:1,h100:1`."""
    return _collect(text, (_item(f"{name}:{item}", text) for item in _split(text)))


def _split(text: str) -> list[str]:
    items = text.split(",")
    if len(items) > MAX_ITEMS:
        raise _bad(text, f"more than {MAX_ITEMS} items")
    return items


def _item(item: str, text: str) -> Gres:
    words = item.removeprefix("gres/").removeprefix("gres:").replace("=", ":").split(":")
    count = 1
    if len(words) > 1 and _is_count(words[-1]):
        count = int(words.pop())
    elif len(words) == 3:
        raise _bad(text, f"{shown(words[2])} is not a count")
    if len(words) > 2 or not all(valid_word(word) for word in words):
        raise _bad(text, f"{shown(item)} is not a name, a type and a count")
    if count > MAX_COUNT:
        raise _bad(text, f"more than {MAX_COUNT} of {shown(words[0])}")
    return Gres(words[0], words[1] if len(words) == 2 else "", count)


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 12


def valid_word(word: str) -> bool:
    """Whether `word` can be a resource's name or type: a letter or digit, then also `_`, `-`, `.`."""
    plain = word.replace("_", "a").replace("-", "a").replace(".", "a")
    return word[:1].isalnum() and len(word) <= MAX_WORD and plain.isascii() and plain.isalnum()


def _collect(text: str, items: Iterable[Gres]) -> tuple[Gres, ...]:
    seen: dict[tuple[str, str], Gres] = {}
    for item in items:
        if (item.name, item.type) in seen:
            raise _bad(text, f"{shown(format_gres((item,)))} is given twice")
        seen[item.name, item.type] = item
    for name, kind in seen:
        if kind and (name, "") in seen:
            raise _bad(text, f"{shown(name)} is asked for both with and without a type")
    return tuple(seen[key] for key in sorted(seen) if seen[key].count)


def format_gres(items: Iterable[Gres]) -> str:
    """`gpu:a100:2,npu:4`; an empty text for none."""
    return ",".join(
        f"{item.name}:{item.type}:{item.count}" if item.type else f"{item.name}:{item.count}"
        for item in items
    )
