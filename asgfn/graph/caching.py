"""Remembering what was derived from a graph.

Graphs that differ only in names, scopes and source lines are equal, but what is derived from them carries these on, into
errors and pictures. So results are remembered by the graph *and* by where it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, update_wrapper
from typing import Any, Protocol, cast

from asgfn.graph.asg import Asg


class _Key:
    __slots__ = ("_hash", "args", "origins")

    def __init__(self, args: tuple):
        self.args = args
        self.origins = tuple([a.origin for a in args if isinstance(a, Asg)])
        self._hash = hash((args, self.origins))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.origins == other.origins and self.args == other.args


_clear: list[Callable[[], None]] = []


def clear_graph_caches() -> None:
    """Forgets everything that was derived from graphs, programs included."""
    for clear in _clear:
        clear()


class Cached(Protocol):
    """A function that remembers its results, until `cache_clear()`."""

    cache_clear: Callable[[], None]

    def __call__(self, *args: Any) -> Any: ...


def cached_by_graph(maxsize: int) -> Callable[[Callable], Cached]:
    """`functools.lru_cache` for functions of graphs (and other hashable, positional arguments)."""

    def decorate(f: Callable) -> Cached:
        remembered = lru_cache(maxsize)(lambda key: f(*key.args))

        def cached(*args: Any) -> Any:
            return remembered(_Key(args))

        update_wrapper(cached, f)
        _clear.append(remembered.cache_clear)
        cached.cache_clear = remembered.cache_clear  # type: ignore[attr-defined]  # a function has what it is given
        return cast(Cached, cached)

    return decorate
