"""Name scopes: what a part of a program is called in text, pictures and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from asgfn.tracing import state
from asgfn.transforms.function import function_name


@contextmanager
def named_scope(name: str) -> Iterator[None]:
    """Operations in the block belong to a scope of this name, inside the current one. Also usable as a decorator."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"named_scope takes a non-empty string, got {name!r}")
    before = state.scope
    state.scope = f"{before}/{name}" if before else name
    try:
        yield
    finally:
        state.scope = before


def named_call(fun: Callable, *, name: str | None = None) -> Callable:
    """A function whose operations belong to a scope with its name."""

    @wraps(fun, updated=())
    def named(*args: Any, **kwargs: Any) -> Any:
        with named_scope(name or function_name(fun)):
            return fun(*args, **kwargs)

    return named
