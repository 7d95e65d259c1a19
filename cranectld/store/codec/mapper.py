"""Maps plain dataclasses to messages of the same field names, by their type hints.

For what is rare: configuration, registration, single values. A mapper is made once per pair of
dataclass and message, and making it checks that both have the same fields, so that a field added to
one and forgotten in the other is found when the codec is imported.

The mapping: numbers, texts, bytes and flags as they are; `IntEnum` as its number; a dataclass or
`NamedTuple` as a message; `X | None` by presence; `tuple[X, ...]`, `list`, `deque` and `dict[X, None]`
(an ordered set) as a repeated field; a fixed tuple as a message with its parts in order; `dict[K, V]`
as repeated entries of K's parts, then V. A message field declared `optional` whose dataclass field
cannot be None was added after the first format: absent, it reads as the dataclass's default.
"""

from __future__ import annotations

import dataclasses
import types
from collections import deque
from collections.abc import Callable, Collection, Mapping
from enum import IntEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import Descriptor, FieldDescriptor

Fill = Callable[[Any, Any], None]
"""Fills a message from a value."""
Parse = Callable[[Any], Any]
"""Makes a value from a message, or from a scalar field."""
Write = Callable[[Any, Any], None]
"""Writes one attribute's value into a message."""
Read = Callable[[Any], Any]
"""Reads one attribute's value from a message."""

_SCALARS = (int, str, bool, float, bytes)


class Mapper:
    """Fills messages from values of one class and back; both directions are exact inverses."""

    def __init__(
        self,
        cls: type,
        descriptor: Descriptor,
        custom: Mapping[str, tuple[Write, Read]] | None = None,
        skip: Collection[str] = (),
        extra: Collection[str] = (),
    ) -> None:
        """Raises TypeError if class and message do not have the same fields.

        `custom`: fields with a codec of their own; `skip`: attributes, and `extra`: message fields
        that the caller sees to. Attributes that are derived (`init=False`) or no part of the value
        (`compare=False`) are not stored.
        """
        self.cls = cls
        hints = get_type_hints(cls, localns={"array": list})  # array[int] is no type before 3.12
        names = [name for name in _field_names(cls) if name not in skip]
        odd = set(names) ^ set(descriptor.fields_by_name).difference(extra)
        if odd:
            raise TypeError(f"{cls.__name__} and {descriptor.full_name} differ in {sorted(odd)}")
        defaults = _defaults(cls)
        self._fields: list[tuple[str, bool, Write, Read]] = []
        for name in names:
            field = descriptor.fields_by_name[name]
            write, read = (custom or {}).get(name) or _field(hints[name], field)
            if field.has_presence and field.message_type is None and not _optional(hints[name]):
                read = _defaulted(name, read, defaults[name])
            self._fields.append((name, field.has_presence, write, read))

    def fill(self, message: Any, value: Any) -> None:
        """Write `value` into an empty `message`."""
        for name, presence, write, _ in self._fields:
            item = getattr(value, name)
            if item or (presence and item is not None):
                write(message, item)

    def parse(self, message: Any) -> Any:
        """The value a message holds. Raises ValueError for a number no enumeration knows."""
        return self.cls(**{name: read(message) for name, _, _, read in self._fields})


def _field_names(cls: type) -> list[str]:
    if dataclasses.is_dataclass(cls):
        return [f.name for f in dataclasses.fields(cls) if f.init and f.compare]
    return list(getattr(cls, "_fields"))  # noqa: B009 - a NamedTuple


def _defaults(cls: type) -> dict[str, Any]:
    if not dataclasses.is_dataclass(cls):
        return {}
    return {f.name: f.default for f in dataclasses.fields(cls)}


def _defaulted(name: str, read: Read, default: Any) -> Read:
    assert default is not dataclasses.MISSING, f"{name} was added later and has no default"
    return lambda message: read(message) if message.HasField(name) else default


def _optional(hint: Any) -> bool:
    return get_origin(hint) in {Union, types.UnionType} and type(None) in get_args(hint)


def _is_record(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) or hasattr(hint, "_fields")


def _field(hint: Any, field: FieldDescriptor) -> tuple[Write, Read]:
    """How one attribute is written and read."""
    name = field.name
    if _optional(hint):
        (inner,) = (arg for arg in get_args(hint) if arg is not type(None))
        return _optional_field(inner, field)
    origin = get_origin(hint)
    if origin is dict and get_args(hint)[1] is not None:  # dict[X, None] is an ordered set
        return _entries(hint, field)
    if _repeated(hint):
        return _repeated_field(hint, field)
    if _is_record(hint) or origin is tuple:
        assert field.message_type is not None
        fill, parse = _message(hint, field.message_type)
        return (
            lambda message, value: fill(getattr(message, name), value),
            lambda message: parse(getattr(message, name)),
        )
    convert = _scalar(hint)
    if convert is None:
        return (
            lambda message, value: setattr(message, name, value),
            lambda message: getattr(message, name),
        )
    return (
        lambda message, value: setattr(message, name, value),
        lambda message: convert(getattr(message, name)),
    )


def _optional_field(inner: Any, field: FieldDescriptor) -> tuple[Write, Read]:
    name = field.name
    if field.message_type is None:
        assert field.has_presence, f"{field.full_name} must be `optional`"
        convert = _scalar(inner) or (lambda value: value)
        return (
            lambda message, value: setattr(message, name, value),
            lambda message: convert(getattr(message, name)) if message.HasField(name) else None,
        )
    fill, parse = _message(inner, field.message_type)

    def write(message: Any, value: Any) -> None:
        target = getattr(message, name)
        target.SetInParent()  # present even when every part is zero
        fill(target, value)

    return write, lambda message: parse(getattr(message, name)) if message.HasField(name) else None


def _repeated(hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        return len(args) == 2 and args[1] is Ellipsis
    return origin in {list, deque, dict}


def _repeated_field(hint: Any, field: FieldDescriptor) -> tuple[Write, Read]:
    name, origin, element = field.name, get_origin(hint), get_args(hint)[0]
    make: Callable[[Any], Any] = dict.fromkeys if origin is dict else origin
    if field.message_type is None:
        convert = _scalar(element)
        if convert is None:
            read: Read = lambda message: make(getattr(message, name))  # noqa: E731
        else:
            read = lambda message: make(map(convert, getattr(message, name)))  # noqa: E731
        return lambda message, value: getattr(message, name).extend(value), read
    fill, parse = _message(element, field.message_type)

    def write(message: Any, value: Any) -> None:
        add = getattr(message, name).add
        for item in value:
            fill(add(), item)

    return write, lambda message: make(map(parse, getattr(message, name)))


def _entries(hint: Any, field: FieldDescriptor) -> tuple[Write, Read]:
    """`dict[K, V]`: entry messages with the parts of K first (one, or those of a tuple), then V's."""
    assert field.message_type is not None
    key_hint, value_hint = get_args(hint)
    parts = list(field.message_type.fields)
    record = hasattr(key_hint, "_fields")  # a NamedTuple
    split = record or get_origin(key_hint) is tuple
    keys = list(get_type_hints(key_hint).values()) if record else [key_hint]
    keys = list(get_args(key_hint)) if split and not record else keys
    make_key: Callable[..., Any] = key_hint if record else (lambda *parts: tuple(parts))
    spread = get_origin(value_hint) is tuple and not _repeated(value_hint)
    values = list(get_args(value_hint)) if spread else [value_hint]
    assert len(parts) == len(keys) + len(values), field.full_name
    codecs = [_field(h, p) for h, p in zip([*keys, *values], parts, strict=True)]
    width, name = len(keys), field.name

    def write(message: Any, value: Any) -> None:
        add = getattr(message, name).add
        for key, item in value.items():
            entry = add()
            flat = [*(key if split else (key,)), *(item if spread else (item,))]
            for (put, _), part in zip(codecs, flat, strict=True):
                put(entry, part)

    def read(message: Any) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        for entry in getattr(message, name):
            flat = [get(entry) for _, get in codecs]
            key = make_key(*flat[:width]) if split else flat[0]
            out[key] = tuple(flat[width:]) if spread else flat[width]
        return out

    return write, read


def _message(hint: Any, descriptor: Descriptor) -> tuple[Fill, Parse]:
    """Record or fixed tuple as a message."""
    if _is_record(hint):
        mapper = mapper_of(hint, descriptor)
        return mapper.fill, mapper.parse
    args = get_args(hint)
    parts = list(descriptor.fields)
    assert get_origin(hint) is tuple, f"no mapping for {hint}"
    assert len(args) == len(parts), f"{hint} and {descriptor.full_name} differ"
    codecs = [_field(h, p) for h, p in zip(args, parts, strict=True)]

    def fill(message: Any, value: Any) -> None:
        for (write, _), part in zip(codecs, value, strict=True):
            write(message, part)

    return fill, lambda message: tuple([read(message) for _, read in codecs])


def _scalar(hint: Any) -> Callable[[Any], Any] | None:
    """How a scalar read from a message becomes the value; None: it is the value."""
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return hint
    assert hint in _SCALARS, f"no mapping for {hint}"
    return None


_mappers: dict[tuple[type, str], Mapper] = {}


def mapper_of(cls: type, descriptor: Descriptor) -> Mapper:
    """The mapper of this pair, made once."""
    key = (cls, descriptor.full_name)
    if key not in _mappers:
        _mappers[key] = Mapper(cls, descriptor)
    return _mappers[key]
