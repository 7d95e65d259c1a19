"""The messages of crane.v1 for the commands people type: small, and loaded in a millisecond.

Importing google.protobuf takes 40 ms, most of a command's life, to say a few hundred bytes. Here
are the same messages with the same names, from the same table of fields (generated from proto/),
in the same encoding (protobuf.dev/programming-guides/encoding); a property test compares the two.
What carries very many of them (`Client.submit_many`, long answers) uses google.protobuf.

Messages are made by keyword and then read: `JobInfo(name="x", steps=[StepInfo()])`. A field that
was not set reads as its default; a repeated one as an empty tuple.
"""

from __future__ import annotations

import struct

from crane.v1.fields_pb2 import MESSAGES

TYPE_CHECKING = False  # importing `typing` would cost every command milliseconds

if TYPE_CHECKING:
    from typing import Any

_DOUBLE = struct.Struct("<d")
_DEFAULTS: dict[str, object] = {"u": 0, "s": 0, "b": False, "d": 0.0, "t": "", "y": b""}
_VARINTS = "usb"
_TEXT, _BYTES, _FIXED, _NUMBER, _VARINT = range(5)
"""How a field is read: with a length in front, of eight bytes, or as a number of any length. Texts
and plain numbers are stored at once, of the rest `_put` makes something."""
_MAX_DEPTH = 32
_classes: dict[str, type[Message]] = {}


class DecodeError(Exception):
    """What came is no message of this kind."""


class Message:
    """One message; subclasses are made from the table of fields when they are first named."""

    _rows: dict[int, tuple[str, str, str]]
    """Number: name, kind, label."""
    _tags: dict[int, tuple[str, int, str, str]]
    """Number and wire type, as they stand before a field: name, how it is read, kind, label."""
    _kinds: dict[str, tuple[str, str]]
    """Name: kind, label."""

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            assert name in self._kinds, (type(self).__name__, name)
            if value is not None:
                self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        """Default of a field that was not set (scalar defaults are class attributes)."""
        kind, label = type(self)._kinds.get(name, ("", ""))  # noqa: SLF001 - our own class
        if label == "?" and kind in MESSAGES:
            return message(kind)()
        raise AttributeError(name)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._kinds)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.__dict__})"

    def HasField(self, name: str) -> bool:  # noqa: N802 - google.protobuf's name
        """Whether a field with explicit presence was set."""
        assert self._kinds[name][1] == "?", name
        return name in self.__dict__

    def SerializeToString(self) -> bytes:  # noqa: N802
        """The encoded message."""
        out: list[bytes] = []
        for number, (name, kind, label) in self._rows.items():
            value = self.__dict__.get(name)
            if value is None or (label != "?" and not value):
                continue
            if label == "%":
                entry = message(kind)
                value = [entry(key=key, value=item) for key, item in value.items()]
            if label == "*" and kind in _VARINTS:
                packed = b"".join(_scalar(kind, item) for item in value)
                out += (_varint(number << 3 | 2), _varint(len(packed)), packed)
                continue
            for item in value if label in "*%" else (value,):
                _append(out, number, kind, item)
        return b"".join(out)

    @classmethod
    def FromString(cls, data: bytes) -> Any:  # noqa: N802
        """The message in `data`; unknown fields are skipped. Raises DecodeError.

        Equal parts of its parts (the descriptions and nodes of many jobs) are one object.
        """
        try:
            return cls._read(data, 0, {})
        except (IndexError, struct.error, UnicodeDecodeError) as error:
            raise DecodeError(f"{cls.__name__}: {error}") from None

    @classmethod
    def _read(cls, data: bytes, depth: int, known: dict[Any, Any]) -> Message:
        """The message in `data`. Long answers spend their time here: what is frequent comes first."""
        made = cls.__new__(cls)
        found, tags = made.__dict__, cls._tags
        at, end = 0, len(data)
        while at < end:
            tag = data[at]
            at += 1
            if tag > 0x7F:
                tag += (data[at] - 1) << 7  # of two bytes, as nearly all are
                at += 1
                if data[at - 1] > 0x7F:
                    tag, at = _read_varint(data, at - 2)
            row = tags.get(tag)
            if row is None:  # a field we do not know, or not in this form
                at = _skip(data, at, tag & 7)
                continue
            name, how, kind, label = row
            raw: Any
            if how <= _BYTES:
                size = data[at]
                at += 1
                if size > 0x7F:
                    size, at = _read_varint(data, at - 1)
                raw = data[at : at + size]
                at += size
                if how == _TEXT:
                    found[name] = raw.decode()
                    continue
            elif how == _FIXED:
                raw = data[at : at + 8]
                at += 8
            else:
                raw = data[at]
                at += 1
                if raw > 0x7F:
                    nine = data[at - 1 : at + 8]  # an instant, as a rule that of other jobs too
                    raw = known.get(nine)
                    if raw is not None:
                        at += 8
                    else:
                        raw, stop = _read_varint(data, at - 1)
                        if stop == at + 8:
                            known[nine] = raw
                        at = stop
                if how == _NUMBER:
                    found[name] = raw
                    continue
            _put(found, name, kind, label, raw, depth, known)
        if at > end:
            raise DecodeError(f"{cls.__name__}: the message ends too early")
        return made


def _skip(data: bytes, at: int, wire: int) -> int:
    """Where a field of this wire type ends."""
    if wire == 0:
        return _read_varint(data, at)[1]
    if wire == 2:
        size, at = _read_varint(data, at)
        return at + size
    if wire in {1, 5}:
        return at + (8 if wire == 1 else 4)
    raise DecodeError(f"wire type {wire}")


def _put(
    found: dict[str, Any],
    name: str,
    kind: str,
    label: str,
    raw: Any,
    depth: int,
    known: dict[Any, Any],
) -> None:
    """Store one decoded field: a number, or the bytes of something else."""
    value: Any
    if kind in _VARINTS:
        if isinstance(raw, bytes):
            at, values = 0, found.setdefault(name, [])
            while at < len(raw):
                value, at = _read_varint(raw, at)
                values.append(_number(kind, value))
            return
        value = _number(kind, raw)
    elif kind == "d":
        (value,) = _DOUBLE.unpack(raw)
    elif kind == "t":
        value = raw.decode()
    elif kind == "y":
        value = raw
    else:
        value = known.get((kind, raw))
        if value is None:
            if depth == _MAX_DEPTH:
                raise DecodeError("messages nested too deeply")
            value = message(kind)._read(raw, depth + 1, known)  # noqa: SLF001 - our own class
            if depth:
                known[kind, raw] = value
        if label == "%":
            found.setdefault(name, {})[value.key] = value.value
            return
    if label == "*":
        found.setdefault(name, []).append(value)
    else:
        found[name] = value


def _number(kind: str, value: int) -> int | bool:
    if kind == "s":
        return (value >> 1) ^ -(value & 1)
    return bool(value) if kind == "b" else value


def _append(out: list[bytes], number: int, kind: str, value: Any) -> None:
    if kind in _VARINTS:
        out += (_varint(number << 3), _scalar(kind, value))
    elif kind == "d":
        out += (_varint(number << 3 | 1), _DOUBLE.pack(value))
    else:
        if kind == "t":
            body = value.encode()
        elif kind == "y":
            body = value
        else:
            body = value.SerializeToString()
        out += (_varint(number << 3 | 2), _varint(len(body)), body)


def _scalar(kind: str, value: int) -> bytes:
    return _varint(value * 2 if value >= 0 else -value * 2 - 1) if kind == "s" else _varint(value)


def _varint(value: int) -> bytes:
    assert 0 <= value < 1 << 64, value
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends; IndexError if the data ends within it."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    for byte in data[at + 1 : at + 10]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + shift // 7
    if shift == 70:
        raise DecodeError("a number of more than ten bytes")
    raise IndexError("the message ends within a number")


def _forms(kind: str, label: str) -> tuple[tuple[int, int], ...]:
    """Wire types in which a field may come, and how each is read; a list's numbers may be packed."""
    if kind in _VARINTS and label == "*":
        return ((0, _VARINT), (2, _BYTES))
    if kind in _VARINTS:
        return ((0, _NUMBER if kind == "u" else _VARINT),)
    if kind == "d":
        return ((1, _FIXED),)
    return ((2, _TEXT if kind == "t" and label != "*" else _BYTES),)


def message(name: str) -> type[Any]:
    """Class of the message with this name (`JobInfo`, `JobSelector.Id`)."""
    found = _classes.get(name)
    if found is None:
        rows = MESSAGES[name]
        namespace: dict[str, Any] = {
            "_rows": {number: (field, kind, label) for number, field, kind, label in rows},
            "_kinds": {field: (kind, label) for _, field, kind, label in rows},
            "_tags": {
                number << 3 | wire: (field, how, kind, label)
                for number, field, kind, label in rows
                for wire, how in _forms(kind, label)
            },
        }
        for _, field, kind, label in rows:
            if label == "*":
                namespace[field] = ()
            elif label == "%":
                namespace[field] = {}
            elif kind in _DEFAULTS:
                namespace[field] = _DEFAULTS[kind]
        found = _classes[name] = type(name, (Message,), namespace)
        for nested in MESSAGES:
            outer, _, inner = nested.rpartition(".")
            if outer == name:
                setattr(found, inner, message(nested))
    return found


def __getattr__(name: str) -> type[Any]:
    """`light.JobInfo`."""
    if name in MESSAGES:
        return message(name)
    raise AttributeError(name)
