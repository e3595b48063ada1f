"""What the functions here check and bring into form before they compute.

`name` is always the function that the user called; every message begins with it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from asgfn import dtypes
from asgfn.errors import ConcretizationError, DTypeError, ShapeError
from asgfn.numpy.arguments import to_array
from asgfn.tracing import Array

Ints = tuple[int, ...]


# ---------------------------------------------------------------------------------------------- arrays
def float_array(name: str, what: str, x: Any) -> Array:
    """`x` as an array of floating-point numbers.

    Raises:
        DTypeError: it holds integers, booleans or complex numbers.
    """
    x = to_array(name, x)
    if not dtypes.is_floating(x.dtype):
        raise DTypeError(f"{name}: {what} must be floating point, got {x.aval}; convert it with {what}.astype(...)")
    return x


def integer_array(name: str, what: str, x: Any) -> Array:
    """`x` as an array of integers.

    Raises:
        DTypeError: it holds anything else.
    """
    x = to_array(name, x)
    if not dtypes.is_integer(x.dtype):
        raise DTypeError(f"{name}: {what} must hold integers, got {x.aval}")
    return x


def same_dtype(name: str, **arrays: Array | None) -> None:
    """Raises `DTypeError` unless the arrays, by argument name, have one dtype; None is skipped."""
    given = {what: x for what, x in arrays.items() if x is not None}
    if len({x.dtype for x in given.values()}) > 1:
        listed = ", ".join(f"{what} {x.aval}" for what, x in given.items())
        raise DTypeError(f"{name}: operands must have one dtype, got {listed}; convert one with .astype(...)")


def with_batch(name: str, x: Array, spatial: int) -> tuple[Array, bool]:
    """[C, *space] or [N, C, *space] as the latter, and whether the batch axis was added.

    Raises:
        ShapeError: `x` has another rank.
    """
    if x.ndim not in (spatial + 1, spatial + 2):
        space = ", ".join("DHW"[-spatial:] if spatial > 1 else "L")
        raise ShapeError(
            f"{name}: x must be [N, C, {space}] or, without a batch, [C, {space}]; got {x.aval}. "
            "A missing axis is added with x[None]"
        )
    return (x[None], True) if x.ndim == spatial + 1 else (x, False)


# ---------------------------------------------------------------------------------------------- static numbers
def static_int(name: str, what: str, value: Any, least: int | None = None) -> int:
    """A Python integer that is known while tracing.

    Raises:
        ConcretizationError, TypeError, ValueError: it is traced, no integer, or below `least`.
    """
    try:
        found = operator.index(value)
    except ConcretizationError:
        raise ConcretizationError(f"{name}: {what} is traced, but it decides shapes: mark it static") from None
    except TypeError:
        raise TypeError(f"{name}: {what} must be an int, got {value!r}") from None
    if least is not None and found < least:
        raise ValueError(f"{name}: {what} must be at least {least}, got {value!r}")
    return found


def per_axis(name: str, what: str, value: Any, spatial: int, least: int | None = None) -> Ints:
    """An int, or a sequence of one or `spatial` ints, as one int for each spatial axis.

    Raises:
        ConcretizationError, TypeError, ValueError: entries that are traced, no integers or below `least`, or another
            number of them.
    """
    entries = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    ints = tuple(static_int(name, what, v, least) for v in entries)
    if len(ints) == 1:
        return ints * spatial
    if len(ints) != spatial:
        raise ValueError(f"{name}: {what} must be an int or {spatial} of them, one a spatial axis; got {value!r}")
    return ints


def one_of(name: str, what: str, value: Any, choices: Sequence[str]) -> None:
    """Raises ValueError unless `value` is among the choices."""
    if value not in choices:
        raise ValueError(f"{name}: {what} must be one of {', '.join(map(repr, choices))}; got {value!r}")
