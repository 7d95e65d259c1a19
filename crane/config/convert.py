"""From TOML values to the model's: one converter per kind of key.

A converter raises CraneError; the caller adds the place. TOML is typed, so a number in quotes is
refused where a number is meant, and the other way round.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crane import features, gres, hostlist, memspec, timespec
from crane.config.schema import MAX_NODES, MAX_SLOTS, Key
from crane.errors import CraneError, ErrorCode, did_you_mean, shown
from crane.jobspec import UNLIMITED, Gres

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SOCKET_PATH = 107
"""Bytes of a unix socket's path (unix(7))."""


def bad(why: str, hint: str = "") -> CraneError:
    """A CONFIG_VALUE error."""
    return CraneError(ErrorCode.CONFIG_VALUE, why, hint)


def convert(key: Key, value: object) -> Any:
    """The value of a key in the model's form and units; raises CraneError."""
    return _CONVERTERS[key.kind](key, value)


def _text(_key: Key, value: object) -> str:
    if not isinstance(value, str):
        raise bad(f"{_show(value)} is not a text", "put it in quotes")
    if len(value) > 4_096 or any(char < " " or char == "\x7f" for char in value):
        raise bad(f"{_show(value)} is too long or has control characters")
    return value


def _word(key: Key, value: object) -> str:
    text = _text(key, value)
    if not gres.valid_word(text):
        raise bad(f"{_show(value)} is not a name", "use letters, digits, '_', '-' and '.'")
    return text


def _resource(key: Key, value: object) -> str:
    return "" if value == "" else _word(key, value)


def _bool(_key: Key, value: object) -> bool:
    if not isinstance(value, bool):
        raise bad(f"{_show(value)} is not true or false", "write true or false without quotes")
    return value


def _int(key: Key, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad(f"{_show(value)} is not a whole number", "write it without quotes")
    return int(_bounded(key, value))


def _seconds(key: Key, value: object) -> float:
    return float(_bounded(key, _real(value)))


def _real(value: object) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise bad(f"{_show(value)} is not a number", "write it without quotes")
    return value


def _bounded(key: Key, value: float) -> float:
    if not key.low <= value <= key.high:
        raise bad(f"{_show(value)} is not between {key.low:g} and {key.high:g}")
    return value


def _cpus(key: Key, value: object) -> int:
    number = _bounded(key, _real(value))
    thousandths = round(number * 1000)
    if abs(thousandths - number * 1000) > 1e-6:
        raise bad(f"{_show(value)} has more than three decimals")
    return thousandths


def _memory(_key: Key, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise bad(f"{_show(value)} is not an amount of memory", 'write "64G", or MiB as a number')
    return memspec.parse_mem(str(value))


def _duration(key: Key, value: object) -> int:
    """Text in the grammar of `--time`; a bare number is seconds, as everywhere in this file."""
    if isinstance(value, str):
        seconds = timespec.parse_duration(value)
    else:
        seconds = _int(Key(key.name, "int", "", 0, timespec.MAX_SECONDS), value)
    if seconds == UNLIMITED:
        if key.name != "max_time":
            raise bad("UNLIMITED is not possible here")
        return seconds
    return int(_bounded(key, seconds))


def _choice(key: Key, value: object) -> str:
    if value not in key.choices:
        hint = did_you_mean(value, key.choices) if isinstance(value, str) else ""
        raise bad(f"{_show(value)} is not one of {', '.join(key.choices)}", hint)
    return str(value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise bad(f"{_show(value)} is not a list", 'write ["a", "b"]')
    return value


def _words(key: Key, value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_word(key, item) for item in _list(value)))


def _ints(key: Key, value: object) -> tuple[int, ...]:
    return tuple(_int(key, item) for item in _list(value))


def _features(_key: Key, value: object) -> tuple[str, ...]:
    items = _list(value)
    for item in items:
        if not isinstance(item, str) or not features.valid_name(item):
            raise bad(f"{_show(item)} is not a feature", "use letters, digits and _-.:=/+")
    return tuple(dict.fromkeys(str(item) for item in items))


def _hosts(key: Key, value: object) -> tuple[str, ...]:
    names = hostlist.expand(_text(key, value), MAX_NODES)
    if not names:
        raise bad("no node is named")
    if "ALL" in names:
        raise bad("no node may be called ALL", "in partitions ALL means every node")
    return tuple(names)


def _members(key: Key, value: object) -> tuple[str, ...]:
    """Names of a partition's nodes; `ALL` stays as it is until the nodes are known."""
    items = value if isinstance(value, list) else [value]
    names: dict[str, None] = {}
    for item in items:
        text = _text(key, item)
        names |= dict.fromkeys(["ALL"] if text == "ALL" else hostlist.expand(text, MAX_NODES))
    return tuple(names)


def _gres(key: Key, value: object) -> tuple[Gres, ...]:
    return gres.parse(_text(key, value))


def _path(key: Key, value: object) -> str:
    text = _text(key, value)
    if not text.startswith("/"):
        raise bad(f"{_show(value)} is not an absolute path", "begin it with /")
    return text


def _paths(key: Key, value: object) -> tuple[str, ...]:
    return tuple(_path(key, item) for item in _list(value))


def _socket(key: Key, value: object) -> str:
    text = _path(key, value)
    if len(text.encode()) > MAX_SOCKET_PATH:
        raise bad(f"{_show(value)} is longer than a socket's path may be ({MAX_SOCKET_PATH} bytes)")
    return text


def _slots(key: Key, value: object) -> tuple[tuple[str, ...], ...]:
    """Files slot by slot: `["/dev/a", "/dev/b"]` or `[["/dev/a", "/dev/a-ctl"], ...]`."""
    items = _list(value)
    if len(items) > MAX_SLOTS:
        raise bad(f"more than {MAX_SLOTS} slots")
    return tuple(_paths(key, item if isinstance(item, list) else [item]) for item in items)


def _table(key: Key, value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise bad(f"{_show(value)} is not a table", 'write { NAME = "value" }')
    for name in value:
        if not name.isidentifier() or not name.isascii():
            raise bad(f"{_show(name)} is not the name of a variable")
    return tuple((name, _text(key, item)) for name, item in value.items())


def _endpoint(key: Key, value: object) -> str:
    """`host:port` or `[v6]:port`; port 0 lets the system choose."""
    text = _text(key, value)
    host, colon, port = text.rpartition(":")
    well_formed = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65_536
    if not (colon and host and well_formed) or (":" in host and not host.startswith("[")):
        raise bad(f"{_show(value)} is not an address and a port", 'write "127.0.0.1:10011"')
    return text


def _show(value: object) -> str:
    return shown(value) if isinstance(value, str) else shown(repr(value)).strip("'\"")


def _devices(_key: Key, value: object) -> list[object]:
    return _list(value)


_CONVERTERS: dict[str, Callable[[Key, object], Any]] = {
    "text": _text,
    "word": _word,
    "resource": _resource,
    "bool": _bool,
    "int": _int,
    "seconds": _seconds,
    "cpus": _cpus,
    "memory": _memory,
    "duration": _duration,
    "choice": _choice,
    "words": _words,
    "ints": _ints,
    "features": _features,
    "hosts": _hosts,
    "members": _members,
    "gres": _gres,
    "path": _path,
    "paths": _paths,
    "socket": _socket,
    "slots": _slots,
    "table": _table,
    "endpoint": _endpoint,
    "devices": _devices,
}
