"""What a layer is: an immutable record of a configuration and two pure functions.

    layer = linear(64, 10)
    params, state = layer.init(asgfn.random.key(0))
    y = layer(params, x)                                        # a layer without state
    y, state = layer(params, state, x, key=key, train=True)     # any layer

Parameters and state are nested dicts of arrays. Everything else that a layer takes (a mask, a second sequence) goes by
keyword: its `options`. State holds what a layer remembers from one call to the next: running statistics while training,
keys and values while decoding (`init_cache`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import ShapeError

NO_CHILDREN: Mapping[str, Any] = MappingProxyType({})


def _keep_state(state: Any, batch: int, max_length: int, dtype: Any) -> Any:
    return state


@dataclass(frozen=True, eq=False, repr=False)
class Layer:
    """A layer.

    Attributes:
        name: what it is called in graphs and tables; the kind of layer, unless a constructor says otherwise.
        config: the arguments that made it, as plain data (numbers, strings, bools, None, tuples, nested configurations).
        init_fn: ``key -> (params, state)``.
        apply_fn: ``(params, state, x, key, train, **options) -> (y, state)``.
        stateful: whether it has state that a call needs (running statistics). Caches do not count.
        options: the names of its further inputs, given by keyword.
        children: the layers that it is made of, by the names under which their parameters stand.
        cache_fn: ``(state, batch, max_length, dtype) -> state``, the state with empty caches for decoding.
        kind: the constructor's name, for those made by a `constructor`; else "".
        text_fn: how it prints, given by the constructor.
    """

    name: str
    config: Mapping[str, Any]
    init_fn: Callable[[Any], tuple[Any, Any]]
    apply_fn: Callable[..., tuple[Any, Any]]
    stateful: bool = False
    options: frozenset[str] = frozenset()
    children: Mapping[str, Layer] = field(default_factory=lambda: NO_CHILDREN)
    cache_fn: Callable[[Any, int, int, Any], Any] = _keep_state
    kind: str = ""
    text_fn: Callable[[Layer], str] | None = None

    def init(self, key: Any) -> tuple[Any, Any]:
        """Parameters and state, drawn with a random key."""
        return self.init_fn(key)

    def init_cache(self, batch: int, max_length: int, state: Any = None, dtype: Any = None) -> Any:
        """The state with which sequences are fed piece by piece, starting from nothing.

        Arguments:
            batch: number of sequences.
            max_length: the largest number of positions that will be fed in all.
            state: the model's state, for one that has any.
            dtype: of what is kept; default float.
        """
        dtype = jnp.zeros(0).dtype if dtype is None else dtype
        return self.cache_fn({} if state is None else state, batch, max_length, dtype)

    def __call__(self, params: Any, *args: Any, key: Any = None, train: bool = False, **options: Any) -> Any:
        """``layer(params, state, x)`` gives ``(y, state)``; ``layer(params, x)``, for a layer without state, gives y.

        Arguments:
            key: a random key, for layers that need one while training.
            train: whether this is training (dropout, batch statistics).
            options: further inputs that the layer, or a layer in it, takes; None is the same as leaving one out.

        Raises:
            TypeError: a wrong number of positional arguments, or an option that no layer in it takes.
        """
        unknown = options.keys() - self.options
        if unknown:
            known = f"it takes {', '.join(sorted(self.options))}" if self.options else "it takes no options"
            raise TypeError(f"{self.name}: unknown option {', '.join(sorted(unknown))}; {known}, besides key and train")
        if len(args) == 1 and not self.stateful:
            return apply_layer(self, self.name, params, {}, args[0], key, train, options)[0]
        if len(args) != 2:
            wanted = "layer(params, state, x)" + ("" if self.stateful else " or layer(params, x)")
            raise TypeError(f"{self.name}: call it as {wanted}; got {len(args) + 1} positional arguments")
        state, x = args
        return apply_layer(self, self.name, params, state, x, key, train, options)

    def __eq__(self, other: object) -> bool:
        """Layers made by the same constructor with the same arguments are equal: any two of them are one static argument."""
        if self is other or not isinstance(other, Layer) or not self.kind:
            return self is other
        return self.kind == other.kind and self.config == other.config

    def __hash__(self) -> int:
        return hash((self.kind, _hashable(self.config))) if self.kind else id(self)

    def __repr__(self) -> str:
        return self.text_fn(self) if self.text_fn is not None else f"<layer {self.name}>"


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return frozenset((k, _hashable(v)) for k, v in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(_hashable(v) for v in value)
    return value


class Observer(Protocol):
    """Sees every layer that is applied while it watches; see `observing`."""

    def before(self, layer: Layer, name: str) -> None: ...
    def after(self, layer: Layer, x: Any, y: Any) -> None: ...


_observers: list[Observer] = []


def apply_layer(
    layer: Layer, name: str, params: Any, state: Any, x: Any, key: Any, train: bool, options: Mapping[str, Any]
) -> tuple[Any, Any]:
    """The one place where a layer is applied, whether by a user or by the layer around it, where it has this name."""
    given = {k: v for k, v in options.items() if v is not None and k in layer.options}
    for observer in _observers:
        observer.before(layer, name)
    with asgfn.named_scope(scope_name(layer, name)):
        y, state = layer.apply_fn(params, state, x, key, train, **given)
    for observer in _observers:
        observer.after(layer, x, y)
    return y, state


def scope_name(layer: Layer, name: str) -> str:
    """What a layer's operations are called in graphs: "0.linear", or just "attention" if that says it all."""
    return name if name == layer.name else f"{name}.{layer.name}"


class observing:
    """``with observing(observer):`` shows it every layer that is applied in the block."""

    def __init__(self, observer: Observer):
        self.observer = observer

    def __enter__(self) -> None:
        _observers.append(self.observer)

    def __exit__(self, *_: object) -> None:
        _observers.remove(self.observer)


def simple(
    name: str, apply: Callable[..., Any], init: Callable[[Any], Any] | None = None, options: tuple[str, ...] = ()
) -> Layer:
    """A layer without state.

    Arguments:
        apply: ``(params, x, **options) -> y``. With "key" or "train" among the options, it also gets those.
        init: ``key -> params``; None for a layer without parameters.
        options: the keyword inputs.
    """
    wants_key, wants_train = "key" in options, "train" in options

    def apply_fn(params: Any, state: Any, x: Any, key: Any, train: bool, **given: Any) -> tuple[Any, Any]:
        if wants_key:
            given["key"] = key
        if wants_train:
            given["train"] = train
        return apply(params, x, **given), state

    def init_fn(key: Any) -> tuple[Any, Any]:
        return ({} if init is None else init(key)), {}

    return Layer(name, {}, init_fn, apply_fn, options=frozenset(options) - {"key", "train"})


class Call:
    """What the `apply` of a `composite` gets: ``call("name", x, **options)`` applies a child.

    It finds the child's parameters and state, keeps its new state, gives it a random key of its own, and hands on those
    of the options that it takes. A child may be called more than once: it then shares its parameters.

    Attributes:
        params: the parameters of the whole layer.
        train: whether this is training.
    """

    def __init__(self, children: Mapping[str, Layer], params: Any, state: Any, key: Any, train: bool):
        self.children = children
        self.params = params
        self.state = dict(state)
        self.train = train
        self._key = key
        self._calls = 0

    def next_key(self) -> Any:
        """A random key that nothing else in this call gets; None if there is none."""
        if self._key is None:
            return None
        self._calls += 1
        return asgfn.random.fold_in(self._key, self._calls - 1)

    def __call__(self, name: str, x: Any, **options: Any) -> Any:
        child = self.children[name]
        if name not in self.params:
            raise ShapeError(f"{child.name}: the parameters have no entry {name!r}; they have {sorted(self.params)}")
        y, state = apply_layer(
            child, name, self.params[name], self.state.get(name, {}), x, self.next_key(), self.train, options
        )
        if state:
            self.state[name] = state
        return y


def composite(
    name: str,
    children: Mapping[str, Layer],
    apply: Callable[..., Any],
    *,
    init: Callable[[Any], Mapping[str, Any]] | None = None,
    options: tuple[str, ...] = (),
) -> Layer:
    """A layer made of others: parameters and state are dicts with an entry a child.

    Arguments:
        children: the parts, by name; the names become part of the parameters' paths.
        apply: ``(call, x, **options) -> y``; see `Call`.
        init: ``key -> dict`` of parameters of its own, beside those of the children.
        options: keyword inputs of its own, beside those of the children (which `apply` hands on).
    """
    children = MappingProxyType(dict(children))

    def init_fn(key: Any) -> tuple[dict, dict]:
        keys = asgfn.random.split(key, len(children) + 1)
        params: dict[str, Any] = {}
        state: dict[str, Any] = {}
        for (child_name, child), child_key in zip(children.items(), keys[1:], strict=True):
            params[child_name], child_state = child.init(child_key)
            if child_state:
                state[child_name] = child_state
        return {**params, **(init(keys[0]) if init is not None else {})}, state

    def apply_fn(params: Any, state: Any, x: Any, key: Any, train: bool, **given: Any) -> tuple[Any, Any]:
        call = Call(children, params, state, key, train)
        y = apply(call, x, **given)
        return y, call.state

    def cache_fn(state: Any, batch: int, max_length: int, dtype: Any) -> dict:
        made = {n: c.cache_fn(state.get(n, {}), batch, max_length, dtype) for n, c in children.items()}
        return {n: s for n, s in made.items() if s}

    return Layer(
        name,
        {},
        init_fn,
        apply_fn,
        stateful=any(child.stateful for child in children.values()),
        options=frozenset(options).union(*(child.options for child in children.values())),
        children=children,
        cache_fn=cache_fn,
    )
