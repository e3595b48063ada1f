"""The `ufunc` object: an element-wise function of two arguments with `reduce`, `accumulate`, `at`, `outer`, `reduceat`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import lax
from asgfn.errors import AxisError, ShapeError
from asgfn.numpy.arguments import (
    broadcast_operand,
    convert,
    filled,
    normalize_axes,
    normalize_axis,
    refuse_out,
    to_array,
)
from asgfn.tracing import Array


class ufunc:
    """A binary element-wise function that can also fold along an axis.

    Arguments of the constructor:
        function: `(x1, x2) -> array`, with promotion and broadcasting.
        identity: neutral element, or None (then an empty reduction is an error).
        reducer: `(x, axes) -> array`, a reduction primitive that does the same; None folds with `lax.scan`.
        accumulator: `(x, axis) -> array`, likewise for `accumulate`.
    """

    nin = 2
    nout = 1
    nargs = 3
    __name__: str

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        identity: Any = None,
        reducer: Callable[[Any, tuple[int, ...]], Any] | None = None,
        accumulator: Callable[[Any, int], Any] | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.__signature__ = inspect.signature(function)
        self.identity = identity
        self._function = function
        self._reducer = reducer
        self._accumulator = accumulator

    def __call__(self, x1: Any, x2: Any, /, out: None = None, where: None = None) -> Array:
        if out is not None or where is not None:
            raise NotImplementedError(
                f"{self.__name__}: out= and where= are not supported; use jnp.where on the result"
            )
        return self._function(x1, x2)

    def __repr__(self) -> str:
        return f"<ufunc '{self.__name__}'>"

    def reduce(
        self,
        a: Any,
        axis: int | tuple[int, ...] | None = 0,
        dtype: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
    ) -> Array:
        """Folds `a` along `axis` (None: all axes): `reduce(add)` is a sum.

        Entries where `where` is False count as `initial`, or as the identity of the function.
        """
        name = f"{self.__name__}.reduce"
        refuse_out(name, out)
        a = self._operand(name, a, dtype)
        axes = normalize_axes(name, axis, a.shape)
        neutral = self.identity if initial is None else initial
        if where is not None:
            # where the function has no identity, `initial` can stand in for what is left out if repeating it is harmless
            fill = initial if self.identity is None and self.__name__ in _IDEMPOTENT else self.identity
            if fill is None:
                raise ShapeError(
                    f"{name}: where= needs a function with an identity, or maximum or minimum with initial="
                )
            mask = broadcast_operand(to_array(name, where), a.shape)
            a = lax.select(mask, a, convert(fill, a.dtype))
        if neutral is None and 0 in (a.shape[axis] for axis in axes):
            raise ShapeError(f"{name}: an empty axis in shape {a.shape} needs initial=, the function has no identity")
        shape = tuple(1 if i in axes else size for i, size in enumerate(a.shape))
        if self._reducer is not None:
            result = self._reducer(a, axes)
        else:
            result = a
            for position in sorted(axes, reverse=True):
                result = self._fold(result, position, neutral)
        if initial is not None:
            result = self._function(result, convert(initial, result.dtype))
        return lax.reshape(result, shape) if keepdims else result

    def _fold(self, a: Array, axis: int, neutral: Any) -> Array:
        size = a.shape[axis]
        if size == 0:
            return filled(a.shape[:axis] + a.shape[axis + 1 :], neutral, a.dtype)
        a = _to_front(a, axis)
        first = lax.squeeze(lax.slice_in_dim(a, 0, 1), (0,))
        carry, _ = lax.scan(lambda total, x: (self._carry(total, x), None), first, lax.slice_in_dim(a, 1, size))
        return carry

    def _carry(self, total: Any, x: Any) -> Any:
        return convert(self._function(total, x), total.dtype)

    def accumulate(self, a: Any, axis: int = 0, dtype: Any = None, out: None = None) -> Array:
        """All the partial results of a fold along `axis`: `accumulate(add)` is a cumulative sum."""
        name = f"{self.__name__}.accumulate"
        refuse_out(name, out)
        a = self._operand(name, a, dtype)
        if axis is None or a.ndim == 0:
            raise AxisError(f"{name}: an axis is needed, got axis={axis} for an array of shape {a.shape}")
        axis = normalize_axis(name, axis, a.shape)
        if self._accumulator is not None:
            return self._accumulator(a, axis)
        if a.shape[axis] == 0:
            return a

        def step(total: Any, x: Any) -> tuple[Any, Any]:
            total = self._carry(total, x)
            return total, total

        rows = _to_front(a, axis)
        first = lax.slice_in_dim(rows, 0, 1)
        _, rest = lax.scan(step, lax.squeeze(first, (0,)), lax.slice_in_dim(rows, 1, a.shape[axis]))
        return _from_front(lax.concatenate([first, rest], 0), axis)

    def at(self, a: Any, indices: Any, b: Any = None, *, inplace: bool = True) -> Array:
        """A copy of `a` with `a[i] = f(a[i], b[i])` applied for each index, repeats included.

        Arrays are immutable, so `inplace=False` must be said; the result is returned.
        """
        if inplace:
            raise NotImplementedError(
                f"{self.__name__}.at: arrays are immutable, pass inplace=False and use the result"
            )
        a = to_array(f"{self.__name__}.at", a)
        ref = a.at[indices]
        in_place = _SCATTERS.get(self.__name__)
        if in_place is not None:
            return getattr(ref, in_place)(b)
        if a.size == 0:
            return a
        # One flat position for every update, in the order of the indices: repeats must see each other's result.
        positions = lax.reshape(lax.iota(np.int32, a.size), a.shape)[indices]
        updates = broadcast_operand(to_array(self.__name__, convert(b, a.dtype)), positions.shape)
        positions, updates = lax.reshape(positions, (positions.size,)), lax.reshape(updates, (positions.size,))

        def step(flat: Any, pair: Any) -> tuple[Any, None]:
            position, value = pair
            return flat.at[position].set(self._carry(flat[position], value)), None

        flat, _ = lax.scan(step, lax.reshape(a, (a.size,)), (positions, updates))
        return lax.reshape(flat, a.shape)

    def outer(self, a: Any, b: Any, /) -> Array:
        """`f(a[i], b[j])` for all pairs: shape `a.shape + b.shape`."""
        a, b = to_array(f"{self.__name__}.outer", a), to_array(f"{self.__name__}.outer", b)
        return self._function(lax.reshape(a, a.shape + (1,) * b.ndim), b)

    def reduceat(self, a: Any, indices: Any, axis: int = 0, dtype: Any = None, out: None = None) -> Array:
        """Folds of the stretches `a[indices[i]:indices[i+1]]` along `axis`; the last one goes to the end.

        Where `indices[i] >= indices[i+1]` the result is `a[indices[i]]`, as in NumPy. Indices must be concrete.
        """
        name = f"{self.__name__}.reduceat"
        refuse_out(name, out)
        a = self._operand(name, a, dtype)
        axis = normalize_axis(name, axis, a.shape)
        size = a.shape[axis]
        starts = np.asarray(indices)
        stops = np.append(starts[1:], size)
        pieces = []
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            if not 0 <= start < size:
                raise AxisError(f"{name}: index {start} is out of bounds for axis {axis} of shape {a.shape}")
            piece = lax.slice_in_dim(a, start, max(stop, start + 1), axis=axis)
            pieces.append(self.reduce(piece, axis, keepdims=True))
        return lax.concatenate(pieces, axis)

    def _operand(self, name: str, a: Any, dtype: Any) -> Array:
        a = to_array(name, a)
        if dtype is not None:
            return convert(a, np.dtype(dtype))
        return convert(a, np.dtype(np.bool_)) if self.__name__.startswith("logical") else a


_IDEMPOTENT = ("maximum", "minimum")
_SCATTERS = {"add": "add", "multiply": "multiply", "minimum": "min", "maximum": "max"}


def _to_front(a: Array, axis: int) -> Array:
    return lax.transpose(a, (axis, *(i for i in range(a.ndim) if i != axis))) if axis else a


def _from_front(a: Array, axis: int) -> Array:
    order = [*range(1, axis + 1), 0, *range(axis + 1, a.ndim)]
    return lax.transpose(a, order) if axis else a
