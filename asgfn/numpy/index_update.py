"""Updating by index: `x.at[index].set(values)` and its relatives, which return a new array.

As in reading, what is known while tracing is a window that is read, combined and written back; so is a scalar position
that is not known. Only index arrays are a `scatter`, and a mask with one value for all its elements is a `select`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypedDict, Unpack

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import broadcast_operand, convert, to_array, to_inexact
from asgfn.numpy.index_plan import IndexPlan, as_tuple, is_boolean_array, plan_index
from asgfn.numpy.index_read import getitem
from asgfn.primitives.gather import GatherScatterMode
from asgfn.primitives.scatter import ScatterDimensionNumbers
from asgfn.tracing import Array, Tracer, as_array


def _power(x: Any, y: Any) -> Array:
    from asgfn.numpy.arithmetic import power

    return power(x, y)


_ELEMENTWISE: dict[str, Callable[[Any, Any], Array]] = {
    "set": lambda current, values: values,
    "add": lax.add,
    "subtract": lax.sub,
    "multiply": lax.mul,
    "divide": lax.div,
    "power": _power,
    "min": lax.min,
    "max": lax.max,
}
_SCATTER: dict[str, Callable[..., Array]] = {
    "set": lax.scatter,
    "add": lax.scatter_add,
    "subtract": lax.scatter_sub,
    "multiply": lax.scatter_mul,
    "min": lax.scatter_min,
    "max": lax.scatter_max,
}


class UpdateOptions(TypedDict, total=False):
    """Keyword arguments of every method of `x.at[index]`; `IndexUpdateHelper` explains them."""

    indices_are_sorted: bool
    unique_indices: bool
    mode: str | GatherScatterMode | None
    out_sharding: Any
    wrap_negative_indices: bool


def _update(
    x: Array,
    index: Any,
    operation: str,
    values: Any,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
    out_sharding: Any = None,
    wrap_negative_indices: bool = True,
) -> Array:
    """x with `x[index]` combined with `values`; for the operation "apply", `values` is a function."""
    name = f"x.at[...].{operation}"
    x = to_array(name, x)
    work_dtype = x.dtype
    if operation == "apply":
        combine = partial(_apply, values)
    else:
        x, values, work_dtype = _common_dtype(name, x, operation, values)
        combine = partial(_combine, operation, values, work_dtype)

    mask = _whole_mask(index, x)
    if mask is not None and (isinstance(mask, Tracer) if operation == "apply" else values.ndim == 0):
        mask = lax.broadcast_in_dim(mask, x.shape, range(mask.ndim))
        if operation in ("divide", "power"):  # 1 elsewhere: what is not selected must not make NaN in the gradient
            combine = partial(_combine, operation, lax.select(mask, values, _constant(1, values)), work_dtype)
        return lax.select(mask, _filled(combine(x), x.shape), x)

    parsed = GatherScatterMode.from_any(mode)
    promised = parsed == GatherScatterMode.PROMISE_IN_BOUNDS  # a promise that is broken leaves the update out
    plan = plan_index(index, x.shape, "drop" if promised else mode, wrap_negative_indices)
    if operation != "apply":
        values = _fit_values(name, values, plan)
        combine = partial(_combine, operation, values, work_dtype)
    if plan.missing or 0 in plan.shape:
        return x
    view = plan.view(x)
    if not plan.positions:
        new = combine(view)
        if plan.scalars and parsed == GatherScatterMode.FILL_OR_DROP:  # what is dropped writes back what was there
            new = lax.select(plan.scalars_inside(x), _filled(new, view.shape), view)
    else:
        options = {
            "indices_are_sorted": indices_are_sorted or plan.distinct,
            "unique_indices": unique_indices or plan.distinct,
            "mode": parsed,
        }
        if operation == "apply":
            new = _scattered(lax.scatter_apply, view, values, plan, update_shape=_update_shape(view, plan), **options)
        else:
            new = _update_at_arrays(view, operation, values, work_dtype, plan, options)
    return plan.put_view(x, _filled(new, view.shape))


def _whole_mask(index: Any, x: Array) -> Array | None:
    """The index as a mask of the leading axes of x, if it is one and nothing else."""
    entries = as_tuple(index)
    if len(entries) == 1 and is_boolean_array(entries[0]) and entries[0].shape == x.shape[: entries[0].ndim]:
        return as_array(entries[0])
    return None


# ------------------------------------------------------------------------------------------------- dtypes and shapes


def _common_dtype(name: str, x: Array, operation: str, values: Any) -> tuple[Array, Array, np.dtype]:
    """x, the values, and the dtype in which they are combined; the result then gets the dtype of x."""
    if operation == "divide":
        x = convert(x, to_inexact(x.dtype))
    if isinstance(values, int) and dtypes.is_integer(x.dtype):
        bounds = np.iinfo(x.dtype)
        if bounds.min <= values <= bounds.max:
            values = np.asarray(values, x.dtype)
    values = to_array(name, values)
    work_dtype = dtypes.result_type(x, values)
    if work_dtype != x.dtype:
        warnings.warn(
            f"{name}: values of dtype {values.dtype} are converted to the array's dtype {x.dtype}, which may lose "
            f"information; convert them with .astype({x.dtype}) if that is intended, or the array beforehand if not",
            FutureWarning,
            stacklevel=4,
        )
    if operation == "set":
        work_dtype = x.dtype
    return x, convert(values, work_dtype), work_dtype


def _fit_values(name: str, values: Array, plan: IndexPlan) -> Array:
    """The values broadcast to the indexed shape, without the new axes. Scalars stay scalars."""
    if values.ndim == 0:
        return values
    fits = values.ndim <= len(plan.shape) and all(
        size in (1, target) for size, target in zip(values.shape[::-1], plan.shape[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{name}: values of shape {values.shape} do not broadcast to the shape {plan.shape} that the index selects"
        )
    return lax.squeeze(broadcast_operand(values, plan.shape), plan.new_axes)


def _constant(value: int, like: Any) -> np.ndarray:
    return np.asarray(value, like.dtype)


def _filled(x: Any, shape: tuple[int, ...]) -> Array:
    return x if x.shape == shape else lax.broadcast_in_dim(x, shape, ())


# ----------------------------------------------------------------------------------------------------- the new values


def _combine(operation: str, values: Array, work_dtype: np.dtype, current: Array) -> Array:
    new = _ELEMENTWISE[operation](convert(current, work_dtype), values)
    return convert(new, current.dtype)


def _apply(func: Callable[[Any], Any], current: Array) -> Array:
    return convert(to_array("x.at[...].apply", func(current)), current.dtype)


def _update_shape(view: Array, plan: IndexPlan) -> tuple[int, ...]:
    return tuple(size for axis, size in enumerate(plan.shape) if axis not in plan.new_axes)


def _scattered(scatter: Callable[..., Array], view: Array, updates: Any, plan: IndexPlan, **options: Any) -> Array:
    numbers = ScatterDimensionNumbers(*plan.gather_numbers(view.ndim))
    return scatter(view, plan.index_vectors(), updates, numbers, **options)


def _update_at_arrays(
    view: Array, operation: str, values: Array, work_dtype: np.dtype, plan: IndexPlan, options: dict[str, Any]
) -> Array:
    values = _filled(values, _update_shape(view, plan))
    target = convert(view, work_dtype)
    if operation in ("divide", "power"):  # several values for one element multiply before they act
        ones = lax.full(view.shape, 1, work_dtype)
        product = _scattered(lax.scatter_mul, ones, values, plan, **options)
        new = _ELEMENTWISE[operation](target, product)
    else:
        new = _scattered(_SCATTER[operation], target, values, plan, **options)
    return convert(new, view.dtype)


# -------------------------------------------------------------------------------------------------------- x.at[index]


class IndexUpdateHelper:
    """`x.at`: indexing it says where an update goes.

    ==============================  =========================================
    ``x.at[idx].set(y)``            ``x[idx] = y``
    ``x.at[idx].add(y)``            ``x[idx] += y``
    ``x.at[idx].subtract(y)``       ``x[idx] -= y``
    ``x.at[idx].multiply(y)``       ``x[idx] *= y``
    ``x.at[idx].divide(y)``         ``x[idx] /= y``
    ``x.at[idx].power(y)``          ``x[idx] **= y``
    ``x.at[idx].min(y)``            ``x[idx] = minimum(x[idx], y)``
    ``x.at[idx].max(y)``            ``x[idx] = maximum(x[idx], y)``
    ``x.at[idx].apply(f)``          ``f.at(x, idx)``
    ``x.at[idx].get()``             ``x[idx]``
    ==============================  =========================================

    None of these changes x; all but `get` return a new array of its shape. Under `jit` the update happens in place when
    x is not needed again. An element that is indexed several times is updated several times, in any order (`set`: one
    of the values wins).

    All methods take:
        indices_are_sorted, unique_indices: promises about index arrays that can make the update faster.
        mode: what happens out of bounds. None: a Python integer raises; others are left out by updates and clamped by
            `get`. "drop" or "fill": updates leave them out, `get` gives `fill_value`. "clip": clamps.
            "promise_in_bounds": the caller knows that there are none.
        wrap_negative_indices: whether negative indices count from the end (default True).
        out_sharding: accepted and ignored.
    """

    __slots__ = ("array",)

    def __init__(self, array: Array):
        self.array = array

    def __getitem__(self, index: Any) -> IndexUpdateRef:
        return IndexUpdateRef(self.array, index)

    def __repr__(self) -> str:
        return f"IndexUpdateHelper({self.array!r})"


class IndexUpdateRef:
    """`x.at[index]`: see `IndexUpdateHelper`."""

    __slots__ = ("array", "index")

    def __init__(self, array: Array, index: Any):
        self.array = array
        self.index = index

    def __repr__(self) -> str:
        return f"IndexUpdateRef({self.array!r}, {self.index!r})"

    def get(
        self,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: str | GatherScatterMode | None = None,
        fill_value: Any = None,
        out_sharding: Any = None,
        wrap_negative_indices: bool = True,
    ) -> Array:
        """``x[index]``, with a say about indices that are out of bounds.

        `fill_value` is what mode "fill" gives: by default NaN, the least signed integer, the greatest unsigned one, or
        True.
        """
        return getitem(
            self.array,
            self.index,
            mode=mode,
            fill_value=fill_value,
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
            wrap_negative_indices=wrap_negative_indices,
        )

    def set(self, values: Any, **options: Unpack[UpdateOptions]) -> Array:
        """``x[index] = values``"""
        return _update(self.array, self.index, "set", values, **options)

    def add(self, values: Any, **options: Unpack[UpdateOptions]) -> Array:
        """``x[index] += values``; repeated indices add up."""
        return _update(self.array, self.index, "add", values, **options)

    def subtract(self, values: Any, **options: Unpack[UpdateOptions]) -> Array:
        """``x[index] -= values``"""
        return _update(self.array, self.index, "subtract", values, **options)

    def multiply(self, values: Any, **options: Unpack[UpdateOptions]) -> Array:
        """``x[index] *= values``"""
        return _update(self.array, self.index, "multiply", values, **options)

    mul = multiply

    def divide(self, values: Any, **options: Unpack[UpdateOptions]) -> Array:
        """``x[index] /= values``; an integer array becomes a floating one."""
        return _update(self.array, self.index, "divide", values, **options)

    def power(self, values: Any, **options: Unpack[UpdateOptions]) -> Array:
        """``x[index] **= values``"""
        return _update(self.array, self.index, "power", values, **options)

    def min(self, values: Any, **options: Unpack[UpdateOptions]) -> Array:
        """``x[index] = minimum(x[index], values)``"""
        return _update(self.array, self.index, "min", values, **options)

    def max(self, values: Any, **options: Unpack[UpdateOptions]) -> Array:
        """``x[index] = maximum(x[index], values)``"""
        return _update(self.array, self.index, "max", values, **options)

    def apply(self, func: Callable[[Any], Any], **options: Unpack[UpdateOptions]) -> Array:
        """``x[index] = func(x[index])``, once for each time that an element is indexed; `func` is element-wise."""
        return _update(self.array, self.index, "apply", func, **options)
