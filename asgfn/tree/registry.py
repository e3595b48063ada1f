"""Registration: which Python types are pytree nodes, and how each is taken apart and put together again.

Lists, tuples, dicts (in the order of their sorted keys), `OrderedDict`, `defaultdict`, `deque`, named tuples and
`None` (a node without children) are nodes from the start; an object of any type not registered is a leaf. All
registrations live in the optree namespace "asgfn", so they never meet those of another library.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeVar

import optree

from asgfn.tree.keys import GetAttrKey

NAMESPACE = "asgfn"

T = TypeVar("T", bound=type)


def register_pytree_node(
    nodetype: type,
    flatten_func: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten_func: Callable[[Any, tuple[Any, ...]], Any],
    flatten_with_keys_func: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Any]] | None = None,
) -> None:
    """Makes every instance of exactly this type a pytree node.

    Arguments:
        nodetype: the class.
        flatten_func: takes an instance, returns `(children, aux_data)`. `aux_data` becomes part of the tree's
            structure: it must be hashable and comparable by `==`, and is static under `jit`.
        unflatten_func: takes `(aux_data, children)`, returns an instance. Children may be any objects (tracers,
            axis numbers, sentinels), so it should not check or convert them.
        flatten_with_keys_func: as `flatten_func`, but each child comes as `(key, child)`; the keys appear in
            key paths and error messages. When given, it is used in place of `flatten_func`.

    Raises:
        ValueError: the type is registered already.
    """
    flatten = flatten_func if flatten_with_keys_func is None else _named_children(flatten_with_keys_func)
    _register(nodetype, flatten, unflatten_func)


def _register(nodetype: type, flatten: Callable[[Any], tuple], unflatten: Callable[[Any, Any], Any]) -> None:
    optree.register_pytree_node(
        nodetype, flatten, unflatten, path_entry_type=optree.FlattenedEntry, namespace=NAMESPACE
    )


def _named_children(flatten_with_keys: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Any]]) -> Callable:
    def flatten(node: Any) -> tuple[tuple[Any, ...], Any, tuple[Any, ...]]:
        pairs, aux_data = flatten_with_keys(node)
        keys, children = zip(*pairs, strict=True) if (pairs := tuple(pairs)) else ((), ())
        return children, aux_data, keys

    return flatten


def register_pytree_node_class(cls: T) -> T:
    """Class decorator: registers a class by its own methods.

    The class defines `tree_flatten(self) -> (children, aux_data)` and the class method
    `tree_unflatten(cls, aux_data, children)`; see `register_pytree_node`.
    """
    register_pytree_node(cls, operator.methodcaller("tree_flatten"), cls.tree_unflatten)  # type: ignore[attr-defined]
    return cls


def register_pytree_with_keys(
    nodetype: type,
    flatten_with_keys: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Any]],
    unflatten_func: Callable[[Any, tuple[Any, ...]], Any],
    flatten_func: Callable[[Any], tuple[Iterable[Any], Any]] | None = None,
) -> None:
    """As `register_pytree_node`, with named children.

    Arguments:
        nodetype: the class.
        flatten_with_keys: takes an instance, returns `(((key, child), ...), aux_data)`; a key is a `DictKey`,
            `SequenceKey`, `GetAttrKey`, `FlattenedIndexKey` or any hashable object whose `str()` names the step.
        unflatten_func: takes `(aux_data, children)`, returns an instance.
        flatten_func: accepted for compatibility; `flatten_with_keys` alone defines the node.
    """
    del flatten_func
    _register(nodetype, _named_children(flatten_with_keys), unflatten_func)


def register_pytree_with_keys_class(cls: T) -> T:
    """Class decorator: as `register_pytree_node_class` for a class with a `tree_flatten_with_keys` method."""
    unflatten = cls.tree_unflatten  # type: ignore[attr-defined]
    register_pytree_with_keys(cls, operator.methodcaller("tree_flatten_with_keys"), unflatten)
    return cls


def register_dataclass(
    nodetype: T,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> T:
    """Registers a dataclass (or a class built like one) as a pytree node. Usable as a decorator.

    Arguments:
        nodetype: a class whose constructor takes every data and meta field by keyword.
        data_fields: the fields that are children: arrays, numbers, pytrees.
        meta_fields: the fields that are static: hashable, compared by `==`, part of the tree's structure.
        drop_fields: fields of the dataclass to leave out; they get their default when a node is rebuilt.

    Without `data_fields` and `meta_fields` the fields of the dataclass decide: a field made by
    `asgfn.tree.static()`, or with `metadata={"static": True}`, is a meta field, every other one a data field.

    Raises:
        TypeError: only one of `data_fields` and `meta_fields` is given, or neither and this is no dataclass.
        ValueError: the two do not name every field that the dataclass's constructor takes exactly once.
    """
    if (data_fields is None) != (meta_fields is None):
        raise TypeError("register_dataclass: give both data_fields and meta_fields, or neither.")
    if data_fields is None or meta_fields is None:
        if not dataclasses.is_dataclass(nodetype):
            raise TypeError(
                f"register_dataclass: {nodetype.__name__} is not a dataclass, so its fields cannot be inferred; "
                "decorate it with @dataclasses.dataclass first, or give data_fields and meta_fields."
            )
        fields = [f for f in dataclasses.fields(nodetype) if f.init and f.name not in drop_fields]
        data_fields = [f.name for f in fields if not f.metadata.get("static", False)]
        meta_fields = [f.name for f in fields if f.metadata.get("static", False)]
    data_fields, meta_fields = tuple(data_fields), tuple(meta_fields)
    _check_fields(nodetype, data_fields, meta_fields, drop_fields)

    get_data, get_meta = _attributes_getter(data_fields), _attributes_getter(meta_fields)
    keys = tuple(map(GetAttrKey, data_fields))

    def flatten(node: Any) -> tuple[tuple, tuple, tuple]:
        return get_data(node), get_meta(node), keys

    def unflatten(meta: tuple, data: tuple) -> Any:
        return nodetype(**dict(zip(data_fields, data, strict=True)), **dict(zip(meta_fields, meta, strict=True)))

    _register(nodetype, flatten, unflatten)
    return nodetype


def _check_fields(nodetype: type, data: tuple[str, ...], meta: tuple[str, ...], dropped: Sequence[str]) -> None:
    named = (*data, *meta)
    repeated = sorted({name for name in named if named.count(name) > 1})
    if repeated:
        raise ValueError(f"register_dataclass: {nodetype.__name__} names {repeated} more than once.")
    if not dataclasses.is_dataclass(nodetype):
        return
    expected = {f.name for f in dataclasses.fields(nodetype) if f.init} - set(dropped)
    if set(named) != expected:
        missing, unknown = sorted(expected - set(named)), sorted(set(named) - expected)
        raise ValueError(
            f"register_dataclass: data_fields and meta_fields must name every constructor field of "
            f"{nodetype.__name__} that is not in drop_fields. Missing: {missing}. Unknown or dropped: {unknown}."
        )


def _attributes_getter(names: tuple[str, ...]) -> Callable[[Any], tuple]:
    if len(names) > 1:
        return operator.attrgetter(*names)
    if not names:
        return lambda node: ()
    get = operator.attrgetter(names[0])
    return lambda node: (get(node),)


def register_static(cls: T) -> T:
    """Class decorator: instances are nodes without leaves, static under `jit`. The class must be hashable."""
    _register(cls, lambda node: ((), node), lambda node, children: node)
    return cls


def static(**kwargs: Any) -> Any:
    """A static dataclass field: `dataclasses.field(**kwargs)` marked as metadata for `register_dataclass`."""
    metadata = {**(kwargs.pop("metadata", None) or {}), "static": True}
    return dataclasses.field(**kwargs, metadata=metadata)


class Partial(functools.partial):
    """`functools.partial` as a pytree node: the arguments are children, the function is static.

    So a function with some arrays bound can be passed to and returned from transformed functions. Positional and
    keyword arguments must be pytrees of arrays. Binding arguments to a `Partial` again gives one `Partial`; a plain
    `functools.partial` given as `func` is one opaque function, whose own arguments stay static.
    """

    def __new__(cls, func: Callable[..., Any], /, *args: Any, **keywords: Any) -> Self:
        if isinstance(func, functools.partial) and not isinstance(func, Partial):
            func = _Opaque(func)
        return super().__new__(cls, func, *args, **keywords)


class _Opaque:
    """A callable that `functools.partial` does not look into; equal to another around the same function."""

    __slots__ = ("__wrapped__",)

    def __init__(self, func: Callable[..., Any]) -> None:
        self.__wrapped__ = func

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.__wrapped__(*args, **keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opaque) and self.__wrapped__ == other.__wrapped__

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


_register(
    Partial,
    lambda node: ((node.args, node.keywords), node.func, (GetAttrKey("args"), GetAttrKey("keywords"))),
    lambda func, children: Partial(func, *children[0], **children[1]),
)
