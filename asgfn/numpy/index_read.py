"""Reading by index: `x[...]`.

What is known while tracing becomes slices, reversals and squeezes, which cost next to nothing once fused. Scalars that
are not known become a `dynamic_slice`. Only index arrays become a `gather`.
"""

from __future__ import annotations

from typing import Any

from asgfn import lax
from asgfn.numpy.arguments import to_array
from asgfn.numpy.index_plan import plan_index
from asgfn.primitives.gather import GatherScatterMode, default_fill_value
from asgfn.tracing import Array


def getitem(
    x: Any,
    index: Any,
    *,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    wrap_negative_indices: bool = True,
) -> Array:
    """`x[index]` with NumPy's meaning.

    Arguments:
        x: array.
        index: an integer, slice, None, ..., an array of integers or booleans, or a tuple of these. Masks must be known
            while tracing.
        mode: what happens out of bounds. None: a Python integer raises; index arrays and traced integers are clamped.
            "clip": clamps. "fill": gives `fill_value`. "promise_in_bounds": as None.
        fill_value: for mode "fill"; by default NaN, the least signed integer, the greatest unsigned one, or True.
        indices_are_sorted, unique_indices: promises that can make the gradient faster.
        wrap_negative_indices: whether negative indices count from the end.

    Returns:
        Array of x's dtype.

    Raises:
        IndexOutOfRangeError: a constant integer outside its axis.
        IndexError, TypeError: an index that does not fit the array, or that is no index.
    """
    x = to_array("indexing", x)
    plan = plan_index(index, x.shape, mode, wrap_negative_indices)
    parsed = GatherScatterMode.PROMISE_IN_BOUNDS if mode is None else GatherScatterMode.from_any(mode)
    if plan.missing:
        return lax.full(plan.shape, _filling(x, fill_value))
    result = plan.view(x)
    if plan.scalars and parsed == GatherScatterMode.FILL_OR_DROP:
        result = lax.select(plan.scalars_inside(x), result, _filling(x, fill_value))
    if plan.positions:
        if 0 in plan.shape:  # nothing to read, perhaps from an axis that has nothing
            return lax.full(plan.shape, 0, x.dtype)
        result = lax.gather(
            result,
            plan.index_vectors(),
            plan.gather_numbers(result.ndim),
            plan.window_sizes(result.shape),
            unique_indices=unique_indices or plan.distinct,
            indices_are_sorted=indices_are_sorted or plan.distinct,
            mode=parsed,
            fill_value=fill_value,
        )
    return lax.expand_dims(result, plan.new_axes)


def _filling(x: Array, fill_value: Any) -> Array:
    return lax.full((), default_fill_value(x.dtype) if fill_value is None else fill_value, x.dtype)
