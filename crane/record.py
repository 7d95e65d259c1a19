"""`dataclass`, with the same meaning and at a fraction of its cost when a command starts.

The standard module imports `inspect`, `ast` and `re` and compiles half a dozen functions for every
class: with the vocabulary's forty classes that is more than the rest of a command together. Here a
class costs next to nothing until it is used: its first instances are made by a general function,
and an `__init__` is compiled for those classes of which many instances are made. To a type checker
these *are* the standard decorator and functions, and `dataclasses.fields`, `replace`, `asdict` and
`is_dataclass` work on the classes.
"""

from __future__ import annotations

__all__ = ["dataclass", "field", "replace"]

TYPE_CHECKING = False  # as type checkers know it; importing `typing` costs a millisecond or two

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:
    from _operator import attrgetter

    _MISSING = object()
    _GENERAL_INSTANCES = 16
    """Instances made by the general `__init__` before one is compiled (0.2 ms)."""

    class _Field:
        """Default of a field, given by `field(...)`."""

        __slots__ = ("default", "factory", "repr")

        def __init__(self, default, factory, repr_=True):
            self.default = default
            self.factory = factory
            self.repr = repr_

    def field(*, default=_MISSING, default_factory=_MISSING, repr=True):  # noqa: A002
        """A field's default, or the function that makes it (dataclasses.field)."""
        return _Field(default, default_factory, repr)

    def dataclass(cls=None, /, *, frozen=False, slots=False):
        """Class decorator (dataclasses.dataclass)."""
        if cls is None:
            return lambda decorated: _process(decorated, frozen=frozen, slots=slots)
        return _process(cls, frozen=frozen, slots=slots)

    def replace(record, /, **changes):
        """A copy with some fields changed (dataclasses.replace)."""
        cls = record.__class__
        return cls(**{name: getattr(record, name) for name in cls.__match_args__} | changes)

    class _LazyStandard:
        """Class attribute that asks the standard module for what it would have put there."""

        __slots__ = ("attribute",)

        def __init__(self, attribute):
            self.attribute = attribute

        def __get__(self, instance, owner):
            import dataclasses  # noqa: PLC0415 - its cost is what this module avoids

            rows = []
            for name, default in owner.__record_fields__.items():
                options = {}
                if default.default is not _MISSING:
                    options["default"] = default.default
                if default.factory is not _MISSING:
                    options["default_factory"] = default.factory
                rows.append((name, owner.__record_types__[name], dataclasses.field(**options)))
            twin = dataclasses.make_dataclass(owner.__name__, rows, frozen=owner.__record_frozen__)
            owner.__dataclass_fields__ = twin.__dataclass_fields__
            owner.__dataclass_params__ = twin.__dataclass_params__
            return getattr(owner, self.attribute)

    def _process(cls, *, frozen, slots):
        fields, types = {}, {}
        for base in cls.__mro__[-1:0:-1]:
            fields |= base.__dict__.get("__record_fields__", {})
            types |= base.__dict__.get("__record_types__", {})
        namespace = dict(cls.__dict__)
        inherited = set(fields)
        for name, kind in namespace.get("__annotations__", {}).items():
            if str(kind).startswith("ClassVar"):
                continue
            value = namespace.get(name, _MISSING)
            fields[name] = value if isinstance(value, _Field) else _Field(value, _MISSING)
            types[name] = kind
        if slots:
            for name in fields:
                namespace.pop(name, None)
            namespace.pop("__dict__", None)
            namespace.pop("__weakref__", None)
            namespace["__slots__"] = tuple(name for name in fields if name not in inherited)
            qualname = cls.__qualname__
            cls = type(cls)(cls.__name__, cls.__bases__, namespace)
            cls.__qualname__ = qualname
        else:
            for name, default in fields.items():
                if default.default is not _MISSING:
                    setattr(cls, name, default.default)
                elif isinstance(namespace.get(name), _Field):
                    delattr(cls, name)
        cls.__record_fields__, cls.__record_types__ = fields, types
        cls.__record_frozen__ = frozen
        cls.__match_args__ = tuple(fields)
        cls.__dataclass_fields__ = _LazyStandard("__dataclass_fields__")
        cls.__dataclass_params__ = _LazyStandard("__dataclass_params__")
        _add_methods(cls, tuple(fields), frozen=frozen, slots=slots)
        return cls

    def _add_methods(cls, names, *, frozen, slots):
        values = attrgetter(*names) if len(names) > 1 else _few(names)
        own = cls.__dict__

        def __eq__(self, other):  # noqa: N807 - these become the class's own methods
            if other.__class__ is not self.__class__:
                return NotImplemented
            return values(self) == values(other)

        def __hash__(self):  # noqa: N807
            return hash(values(self))

        def __repr__(self):  # noqa: N807
            fields = self.__record_fields__
            shown = ", ".join(f"{n}={getattr(self, n)!r}" for n in names if fields[n].repr)
            return f"{self.__class__.__qualname__}({shown})"

        if "__eq__" not in own:
            cls.__eq__ = __eq__
        if own.get("__hash__") is None:
            cls.__hash__ = __hash__ if frozen else None
        if "__repr__" not in own:
            cls.__repr__ = __repr__
        if "__init__" not in own:
            cls.__init__ = _general_init(cls)
        if frozen:
            _freeze(cls, frozenset(names))
        if slots:
            cls.__getstate__ = lambda self: [getattr(self, name) for name in names]
            cls.__setstate__ = lambda self, state: _set_all(self, names, state)

    def _few(names):
        """What `attrgetter` gives for many names, for one or none."""
        return (lambda self: (getattr(self, names[0]),)) if names else (lambda _: ())

    def _set_all(self, names, state):
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    def _freeze(cls, names):
        def refuse(self, name, verb):
            if type(self) is cls or name in names:
                from dataclasses import FrozenInstanceError  # noqa: PLC0415

                raise FrozenInstanceError(f"cannot {verb} field {name!r}")

        def __setattr__(self, name, value):  # noqa: N807
            refuse(self, name, "assign to")
            super(cls, self).__setattr__(name, value)

        def __delattr__(self, name):  # noqa: N807
            refuse(self, name, "delete")
            super(cls, self).__delattr__(name)

        cls.__setattr__, cls.__delattr__ = __setattr__, __delattr__

    def _general_init(cls):
        """An `__init__` that works from the table of fields, and later puts a compiled one in."""
        fields = cls.__record_fields__
        names = tuple(fields)
        left = _GENERAL_INSTANCES
        put = object.__setattr__
        finish = getattr(cls, "__post_init__", None)

        def __init__(self, *args, **given):  # noqa: N807
            nonlocal left
            left -= 1
            plain = len(args) <= len(names) and not any(n in given for n in names[: len(args)])
            if left == 0 or not plain or not all(n in fields for n in given):
                cls.__init__ = compiled = _compiled_init(cls)
                compiled(self, *args, **given)
                return
            for name, value in zip(names, args, strict=False):
                put(self, name, value)
            for name in names[len(args) :]:
                if name in given:
                    put(self, name, given[name])
                    continue
                default = fields[name]
                if default.factory is not _MISSING:
                    put(self, name, default.factory())
                elif default.default is not _MISSING:
                    put(self, name, default.default)
                else:
                    _compiled_init(cls)(self, *args, **given)  # raises what a call would
            if finish is not None:
                finish(self)

        return __init__

    def _thawed(cls):
        """A class of the same layout whose objects can be assigned to; None: it has no slots."""
        if "__slots__" not in cls.__dict__ or "__dict__" in dir(cls):
            return None
        own = {"__slots__": cls.__slots__, "__setattr__": object.__setattr__}
        return type(cls)(cls.__name__, cls.__bases__, own)

    def _compiled_init(cls):
        """The `__init__` one would have written by hand.

        A frozen record with slots is filled in as an object of a twin class that is not frozen:
        plain assignments take a sixth of the time of `object.__setattr__`.
        """
        scope = {"_put": object.__setattr__, "_missing": _MISSING, "_own": cls}
        head, body, slow = ["self"], [], []
        twin = _thawed(cls) if cls.__record_frozen__ else None
        for name, default in cls.__record_fields__.items():
            value = name
            if default.factory is not _MISSING:
                scope[f"_make_{name}"] = default.factory
                head.append(f"{name}=_missing")
                value = f"_make_{name}() if {name} is _missing else {name}"
            elif default.default is not _MISSING:
                scope[f"_default_{name}"] = default.default
                head.append(f"{name}=_default_{name}")
            else:
                head.append(name)
            body.append(f" self.{name} = {value}")
            slow.append(f" _put(self, {name!r}, {value})")
        if twin is not None:
            scope["_twin"] = twin
            quick = [" _put(self, '__class__', _twin)", *body, " self.__class__ = _own"]
            body = [" if self.__class__ is _own:", *(f" {line}" for line in quick), " else:"]
            body += [f" {line}" for line in slow or [" pass"]]
        elif cls.__record_frozen__:
            body = slow
        if hasattr(cls, "__post_init__"):
            body.append(" self.__post_init__()")
        source = f"def __init__({', '.join(head)}):\n" + ("\n".join(body) or " pass")
        exec(source, scope)  # noqa: S102 - as the standard module does, of names of our own
        scope["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
        return scope["__init__"]
