"""Functions of vectors or scalars applied over the axes of arrays: `vectorize`, `apply_along_axis`, ..."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from asgfn import lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy.arguments import ArrayLike, broadcast_shapes, normalize_axes, normalize_axis, to_array
from asgfn.numpy.ufunc import ufunc
from asgfn.tracing import Array
from asgfn.transforms.vmap import vmap


def _vmap(function: Callable, in_axes: Any = 0, out_axes: int = 0) -> Callable:
    return vmap(function, in_axes=in_axes, out_axes=out_axes)


def apply_along_axis(func1d: Callable[..., Any], axis: int, arr: ArrayLike, *args: Any, **kwargs: Any) -> Any:
    """`func1d(vector, *args, **kwargs)` for every vector along `axis`; the result's axes stand in place of it."""
    arr = to_array("apply_along_axis", arr)
    axis = normalize_axis("apply_along_axis", axis, arr.shape)

    def function(vector: Array) -> Any:
        return func1d(vector, *args, **kwargs)

    # map the last axes first, so that each mapped axis lands where it was
    for _ in range(axis + 1, arr.ndim):
        function = _vmap(function, -1, -1)
    for _ in range(axis):
        function = _vmap(function)
    return function(arr)


def apply_over_axes(func: Callable[[Any, int], Array], a: ArrayLike, axes: int | Sequence[int]) -> Array:
    """`func(a, axis)` for one axis after the other; an axis that the function drops is put back with length 1."""
    a = to_array("apply_over_axes", a)
    for axis in normalize_axes("apply_over_axes", axes, a.shape):
        result = func(a, axis)
        if result.ndim == a.ndim - 1:
            result = lax.expand_dims(result, (axis,))
        elif result.ndim != a.ndim:
            raise ShapeError(
                f"apply_over_axes: the function turned shape {a.shape} into {result.shape}; it may drop axis {axis} only"
            )
        a = result
    return a


# ---------------------------------------------------------------------------------------------------------- vectorize

_NAME = r"\w+"
_SHAPE = rf"\((?:{_NAME}(?:,{_NAME})*)?,?\)"
_SIGNATURE = re.compile(rf"^(?:{_SHAPE}(?:,{_SHAPE})*)?->{_SHAPE}(?:,{_SHAPE})*$")


def _parse_signature(signature: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    text = re.sub(r"\s+", "", signature)
    if not _SIGNATURE.match(text):
        raise DTypeError(f"vectorize: {signature!r} is no signature; an example is '(n,m),(m)->(n)'")
    sides = (re.findall(_SHAPE, side) for side in text.split("->"))
    inputs, outputs = ([tuple(name for name in part[1:-1].split(",") if name) for part in side] for side in sides)
    return inputs, outputs


def vectorize(
    pyfunc: Callable[..., Any], *, excluded: Collection[int | str] = frozenset(), signature: str | None = None
) -> Callable[..., Any]:
    """A function of scalars (or of the core shapes of `signature`) made to broadcast like a ufunc.

    Arguments:
        excluded: positions and names of arguments that are passed on as they are.
        signature: core shapes, such as "(n),(n)->()"; by default all arguments and results are scalars.
    """
    for item in excluded:
        if not isinstance(item, (int, str)):
            raise DTypeError(f"vectorize: excluded holds positions and names, got {item!r}")
    cores = _parse_signature(signature) if signature is not None else None

    @functools.wraps(pyfunc)
    def vectorized(*args: Any, **kwargs: Any) -> Any:
        fixed = {i: arg for i, arg in enumerate(args) if i in excluded or arg is None}
        named = {key: value for key, value in kwargs.items() if key in excluded}
        keys = [key for key in kwargs if key not in excluded]
        positions = [i for i in range(len(args)) if i not in fixed]
        arrays = [to_array("vectorize", args[i]) for i in positions] + [to_array("vectorize", kwargs[k]) for k in keys]
        inputs: list[tuple[str, ...]] = cores[0] if cores is not None else [()] * len(arrays)
        if len(inputs) != len(arrays):
            raise ShapeError(
                f"vectorize: signature {signature!r} has {len(inputs)} inputs, but {len(arrays)} were given"
            )

        def core(*values: Any) -> Any:
            full = dict(fixed) | dict(zip(positions, values, strict=False))
            mapped = dict(zip(keys, values[len(positions) :], strict=True))
            sizes = _core_sizes(inputs, values)
            result = pyfunc(*(full[i] for i in range(len(args))), **named, **mapped)
            if cores is not None:
                _check_results(result, cores[1], sizes, str(signature))
            return result

        return _broadcast_map(core, arrays, [len(names) for names in inputs])(*arrays)

    return vectorized


def _core_sizes(inputs: list[tuple[str, ...]], values: Sequence[Any]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for names, value in zip(inputs, values, strict=True):
        for name, size in zip(names, np.shape(value), strict=True):
            expected = int(name) if name.isdigit() else sizes.setdefault(name, size)
            if expected != size:
                raise ShapeError(f"vectorize: core dimension {name!r} has sizes {expected} and {size}")
    return sizes


def _check_results(result: Any, outputs: list[tuple[str, ...]], sizes: dict[str, int], signature: str) -> None:
    results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(outputs):
        raise ShapeError(
            f"vectorize: the function returned {len(results)} results, its signature {signature!r} says {len(outputs)}"
        )
    for names, value in zip(outputs, results, strict=True):
        shape = np.shape(value)
        if len(shape) != len(names) or any(sizes.setdefault(n, s) != s for n, s in zip(names, shape, strict=True)):
            raise ShapeError(
                f"vectorize: a result of shape {shape} does not have the core shape {names} of {signature!r}"
            )


def _broadcast_map(core: Callable, arrays: Sequence[Array], core_ranks: Sequence[int]) -> Callable:
    """`core` mapped over the leading axes of the arrays, which broadcast against each other."""
    loops = []
    for array, rank in zip(arrays, core_ranks, strict=True):
        if array.ndim < rank:
            raise ShapeError(
                f"vectorize: an argument of shape {array.shape} has fewer axes than its core shape ({rank})"
            )
        loops.append(array.shape[: array.ndim - rank])
    shape = broadcast_shapes(*loops)
    mapped = core
    axes_per_level = []
    for level in range(len(shape)):  # outermost first
        offsets = [len(loop) - len(shape) + level for loop in loops]
        # an axis of length 1 that broadcasts is dropped instead of mapped
        axes_per_level.append(
            tuple(0 if at >= 0 and loop[at] == shape[level] else None for at, loop in zip(offsets, loops, strict=True))
        )
    for axes in reversed(axes_per_level):
        mapped = _vmap(mapped, axes) if any(axis == 0 for axis in axes) else mapped

    def function(*values: Array) -> Any:
        squeezed = []
        for value, loop in zip(values, loops, strict=True):
            first = len(shape) - len(loop)
            dropped = tuple(i for i, size in enumerate(loop) if size != shape[first + i])
            squeezed.append(lax.squeeze(value, dropped) if dropped else value)
        return mapped(*squeezed)

    return function


def frompyfunc(func: Callable[..., Any], /, nin: int, nout: int, *, identity: Any = None) -> Any:
    """A ufunc from a function of scalars; with `reduce`, `accumulate`, ... when it has two arguments and one result."""
    mapped = vectorize(func)
    if nin != 2 or nout != 1:
        return mapped

    def binary(x1: ArrayLike, x2: ArrayLike, /) -> Array:
        return mapped(x1, x2)

    binary.__name__ = getattr(func, "__name__", "frompyfunc")
    return ufunc(binary, identity)
