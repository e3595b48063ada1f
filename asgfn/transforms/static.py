"""Static arguments: those that a traced function gets as they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any


def as_tuple(x: Any) -> tuple:
    """One thing, or several, as a tuple."""
    if x is None:
        return ()
    if isinstance(x, (str, int)):
        return (x,)
    return tuple(x)


def signature_of(f: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(f)
    except (TypeError, ValueError):
        return None


class StaticArguments:
    """Which arguments of a function are static, worked out once.

    Raises:
        ValueError: a number or name that the function does not have.
    """

    def __init__(
        self,
        f: Callable,
        static_argnums: int | Sequence[int] | None = None,
        static_argnames: str | Sequence[str] | None = None,
    ):
        self.f = f
        nums = as_tuple(static_argnums)
        names = as_tuple(static_argnames)
        signature = signature_of(f) if (nums or names) else None
        self.positional: list[str] = []
        variadic = keywords = True
        if signature is not None:
            parameters = list(signature.parameters.values())
            self.positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
            variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
            keywords = any(p.kind is p.VAR_KEYWORD for p in parameters)
            name = getattr(f, "__name__", repr(f))
            for n in nums:
                if not variadic and not -len(self.positional) <= n < len(self.positional):
                    raise ValueError(
                        f"static_argnums={nums}: {name} has only {len(self.positional)} positional arguments"
                    )
            for n in names:
                if not keywords and n not in signature.parameters:
                    raise ValueError(
                        f"static_argnames={names}: {name} has no argument named {n!r}; it has {list(signature.parameters)}"
                    )
        count = len(self.positional)
        found_nums = {n + count if n < 0 and count else n for n in nums}
        # an argument named in one way may be passed in the other
        found_names = set(names) | {self.positional[n] for n in found_nums if 0 <= n < count}
        found_nums |= {i for i, n in enumerate(self.positional) if n in found_names}
        self.nums = tuple(sorted(found_nums))
        self.names = tuple(sorted(found_names))

    def __bool__(self) -> bool:
        return bool(self.nums or self.names)

    def split(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[tuple, dict, tuple, tuple]:
        """Dynamic positional and named arguments, and static ones as hashable pairs."""
        nums = {n % len(args) if n < 0 and args else n for n in self.nums}
        dynamic = tuple(a for i, a in enumerate(args) if i not in nums)
        static = tuple((i, args[i]) for i in sorted(nums) if i < len(args))
        named = {k: v for k, v in kwargs.items() if k not in self.names}
        static_named = tuple(sorted((k, v) for k, v in kwargs.items() if k in self.names)) if self.names else ()
        return dynamic, named, static, static_named

    def fill(self, static: tuple, static_named: tuple) -> Callable:
        """The function of the dynamic arguments alone."""
        if not static and not static_named:
            return self.f
        f = self.f

        def filled(*dynamic: Any, **named: Any) -> Any:
            args = list(dynamic)
            for i, value in static:
                args.insert(i, value)
            return f(*args, **named, **dict(static_named))

        filled.__name__ = getattr(f, "__name__", type(f).__name__)
        taken = {i for i, _ in static}
        filled.argument_names = tuple(n for i, n in enumerate(self.positional) if i not in taken)  # type: ignore[attr-defined]
        return filled

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Callable, tuple, dict]:
        """The function of the dynamic arguments, and these."""
        if not self:
            return self.f, tuple(args), kwargs
        dynamic, named, static, static_named = self.split(args, kwargs)
        return self.fill(static, static_named), dynamic, named
