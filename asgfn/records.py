"""Records: classes that hold fields, as `dataclasses.dataclass` makes them, for a fraction of the time.

A frozen dataclass takes a millisecond to define, since six methods are written, compiled and run for it; a program that has
a hundred of them starts a tenth of a second later. Here the methods are the same for all classes, but for the constructor
that a class gets once it has some instances: to write and compile one takes as long as to fill a hundred of them.

What is frozen is so for type checkers: nothing looks at assignments while the program runs. Classes that people write or
derive from are dataclasses.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Generic, TypeVar, dataclass_transform, overload

_T = TypeVar("_T")
_NOTHING: Any = object()
# by which others know a record, and in which order its fields are
_FIELDS = "__record_fields__"
# instances of a class that are made without a constructor of its own
_FEW = 16


class lazy(Generic[_T]):  # a decorator, as `property` is
    """An attribute that is computed when it is first asked for; `functools.cached_property` takes a lock, and longer.

    Whoever asks for it at the same time computes it, too: that must not matter.
    """

    def __init__(self, compute: Callable[[Any], _T]):
        self._compute, self._name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, owner: None, kind: Any = None) -> lazy[_T]: ...
    @overload
    def __get__(self, owner: object, kind: Any = None) -> _T: ...
    def __get__(self, owner: Any, kind: Any = None) -> Any:
        if owner is None:
            return self
        found = owner.__dict__[self._name] = self._compute(owner)
        return found


class _Field:
    """What is particular about a field; see `field`."""

    __slots__ = ("compare", "default", "default_factory", "name", "repr")

    def __init__(self, default: Any, default_factory: Any, compare: bool, repr: bool):
        self.name, self.default, self.default_factory = "", default, default_factory
        self.compare, self.repr = compare, repr


def field(*, default: Any = _NOTHING, default_factory: Any = _NOTHING, compare: bool = True, repr: bool = True) -> Any:
    """A field of a record that is not like the others.

    Arguments:
        default: its value where none is given.
        default_factory: what makes that value, for each instance.
        compare: whether equality and the hash depend on it.
        repr: whether it is shown.
    """
    return _Field(default, default_factory, compare, repr)


@overload
def record(cls: type[_T], /) -> type[_T]: ...
@overload
def record(*, frozen: bool = True, eq: bool = True, repr: bool = True) -> Callable[[type[_T]], type[_T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: Any = None, /, *, frozen: bool = True, eq: bool = True, repr: bool = True) -> Any:
    """Makes a class whose annotations are the fields of its instances, in this order; those of its bases come first.

    Arguments:
        frozen: whether nobody assigns to the fields; then instances have a hash, if they have equality.
        eq: whether instances of the class are equal if their fields are.
        repr: whether instances show their fields.
    """

    def made(cls: type[_T]) -> type[_T]:
        return _record(cls, frozen, eq, repr)

    return made if cls is None else made(cls)


def fields(cls: Any) -> tuple[str, ...]:
    """The names of the fields of a record, or of its class."""
    return tuple(f.name for f in getattr(cls, _FIELDS))


def replace(instance: _T, **changes: Any) -> _T:
    """A record with other values of some fields."""
    kept = {name: getattr(instance, name) for name in fields(instance) if name not in changes}
    return type(instance)(**kept, **changes)


def _record(cls: Any, frozen: bool, eq: bool, repr: bool) -> Any:
    found: dict[str, _Field] = {}
    for base in reversed(cls.__mro__[1:]):
        found |= {f.name: f for f in vars(base).get(_FIELDS, ())}
    for name in vars(cls).get("__annotations__", ()):
        own = vars(cls).get(name, _NOTHING)
        if not isinstance(own, _Field):
            own = _Field(own, _NOTHING, True, True)
        elif own.default is _NOTHING:
            delattr(cls, name)  # or it would be found where an instance lacks the field
        else:
            setattr(cls, name, own.default)
        own.name = name
        found[name] = own
    every = tuple(found.values())
    setattr(cls, _FIELDS, every)

    made = 0

    def fill(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal made
        made += 1
        if made > _FEW or not _filled(self, every, args, kwargs):
            cls.__init__ = _constructor(cls, every)
            cls.__init__(self, *args, **kwargs)

    methods: dict[str, Any] = {"__init__": fill, "__match_args__": tuple(found)}
    if repr:
        methods["__repr__"] = _shown
    if eq:
        equal, hashed = _comparison(cls, [f.name for f in every if f.compare])
        methods |= {"__eq__": equal, "__hash__": hashed if frozen else None}
    for name, method in methods.items():
        if vars(cls).get(name) is None:  # Python enters `__hash__ = None` beside an `__eq__`
            setattr(cls, name, method)
    return cls


def _filled(instance: Any, every: tuple[_Field, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Enters the fields of an instance; whether these were the arguments for them."""
    if len(args) > len(every) or not kwargs.keys().isdisjoint([f.name for f in every[: len(args)]]):
        return False
    entered = len(args)
    for f, value in zip(every, args, strict=False):
        setattr(instance, f.name, value)
    for f in every[len(args) :]:
        value = kwargs.get(f.name, f.default)
        if f.name in kwargs:
            entered += 1
        elif f.default_factory is not _NOTHING:
            value = f.default_factory()
        if value is _NOTHING:
            return False
        setattr(instance, f.name, value)
    return entered == len(args) + len(kwargs)


def _constructor(cls: type, every: tuple[_Field, ...]) -> Any:
    """`__init__` of a class of records."""
    names: dict[str, Any] = {"nothing": _NOTHING}
    parameters, lines = ["self"], []
    for k, f in enumerate(every):
        value = f.name
        if f.default_factory is not _NOTHING:
            names[f"default{k}"] = f.default_factory
            parameters.append(f"{f.name}=nothing")
            value = f"default{k}() if {f.name} is nothing else {f.name}"
        elif f.default is not _NOTHING:
            names[f"default{k}"] = f.default
            parameters.append(f"{f.name}=default{k}")
        else:
            parameters.append(f.name)
        lines.append(f"\n self.{f.name} = {value}")
    exec(f"def __init__({', '.join(parameters)}):{''.join(lines) or ' pass'}", names)
    made = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _comparison(cls: type, names: list[str]) -> tuple[Any, Any]:
    """`__eq__` and `__hash__` of a class of records."""
    values = attrgetter(*names) if names else lambda _: ()

    def __eq__(self: Any, other: Any) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash((cls, values(self)))

    return __eq__, __hash__


def _shown(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in getattr(self, _FIELDS) if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"
