"""Convolution, correlation, interpolation and phase unwrapping of vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    check_arraylike,
    constant,
    convert,
    filled,
    normalize_axis,
    promote_dtypes_inexact,
    to_array,
)
from asgfn.numpy.arithmetic import remainder
from asgfn.numpy.cumulative import cumsum, diff
from asgfn.numpy.sorting import searchsorted
from asgfn.numpy.ufuncs import conjugate
from asgfn.tracing import Array


def convolve(
    a: ArrayLike, v: ArrayLike, mode: str = "full", *, precision: Any = None, preferred_element_type: Any = None
) -> Array:
    """The convolution of two vectors: sum over k of a[k] v[n - k].

    Arguments:
        mode: "full" (length m + n - 1), "same" (of the longer one) or "valid" (complete overlap only).
    """
    return _sliding_product("convolve", a, v, mode, True, precision, preferred_element_type)


def correlate(
    a: ArrayLike, v: ArrayLike, mode: str = "valid", *, precision: Any = None, preferred_element_type: Any = None
) -> Array:
    """The cross-correlation of two vectors: sum over k of a[n + k] conj(v[k]). Modes as `convolve`."""
    return _sliding_product("correlate", a, v, mode, False, precision, preferred_element_type)


def _sliding_product(
    name: str, a: ArrayLike, v: ArrayLike, mode: str, convolving: bool, precision: Any, preferred_element_type: Any
) -> Array:
    check_arraylike(name, a, v)
    x, y = promote_dtypes_inexact(to_array(name, a), to_array(name, v))
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"{name} takes two vectors, got shapes {x.shape} and {y.shape}")
    if x.shape[0] == 0 or y.shape[0] == 0:
        raise ShapeError(f"{name}: vectors must not be empty, got shapes {x.shape} and {y.shape}")
    out_reversed = False
    if convolving:
        if x.shape[0] < y.shape[0]:
            x, y = y, x
        y = lax.rev(y, (0,))
    else:
        y = conjugate(y)
        if x.shape[0] < y.shape[0]:
            # the vectors trade places, which reverses the result
            x, y, out_reversed = y, x, True
    size = y.shape[0]
    paddings = {"valid": (0, 0), "same": (size // 2, size - size // 2 - 1), "full": (size - 1, size - 1)}
    if mode not in paddings:
        raise DTypeError(f"{name}: mode must be 'full', 'same' or 'valid', got {mode!r}")
    result = lax.conv_general_dilated(
        lax.reshape(x, (1, 1, x.shape[0])),
        lax.reshape(y, (1, 1, size)),
        (1,),
        [paddings[mode]],
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    result = lax.reshape(result, (result.shape[2],))
    return lax.rev(result, (0,)) if out_reversed else result


# ------------------------------------------------------------------------------------------------------ interpolation


def interp(
    x: ArrayLike,
    xp: ArrayLike,
    fp: ArrayLike,
    left: ArrayLike | str | None = None,
    right: ArrayLike | str | None = None,
    period: ArrayLike | None = None,
) -> Array:
    """Piecewise linear interpolation at `x` of the values `fp` at the increasing coordinates `xp`.

    Arguments:
        left, right: values outside of xp (fp's ends by default), or "extrapolate".
        period: period of the coordinates; then left and right do not matter.
    """
    for side, value in (("left", left), ("right", right)):
        if isinstance(value, str) and value != "extrapolate":
            raise DTypeError(f"interp: {side} is a value or 'extrapolate', got {value!r}")
    x, xp = promote_dtypes_inexact(to_array("interp", x), to_array("interp", xp))
    (fp,) = promote_dtypes_inexact(to_array("interp", fp))
    if xp.ndim != 1 or xp.shape != fp.shape:
        raise ShapeError(f"interp: xp and fp must be vectors of one length, got shapes {xp.shape} and {fp.shape}")
    if xp.shape[0] == 0:
        raise ShapeError("interp: xp must not be empty")
    if dtypes.is_complex(x.dtype):
        raise DTypeError("interp: x and xp must be real")
    dtype = dtypes.result_type(x, fp)
    if period is not None:
        x, xp, fp = _one_period(x, xp, fp, period)
        left = right = None
    size = xp.shape[0]
    index = np.dtype(np.int32)
    if size == 1:
        slope_part, at = constant(0, dtype, weak=False), filled(x.shape, 0, index)
    else:
        upper = lax.clamp(constant(1, index), convert(searchsorted(xp, x, "right"), index), constant(size - 1, index))
        at = lax.sub(upper, constant(1, index))
        x0, x1 = xp.at[at].get(mode="clip"), xp.at[upper].get(mode="clip")
        rise = lax.sub(fp.at[upper].get(mode="clip"), fp.at[at].get(mode="clip"))
        width = lax.sub(x1, x0)
        # equal coordinates: no slope, and no division by 0 in the derivative
        flat = lax.eq(width, constant(0, width.dtype))
        fraction = lax.div(lax.sub(x, x0), lax.select(flat, constant(1, width.dtype), width))
        fraction = lax.select(flat, constant(0, fraction.dtype), fraction)
        slope_part = lax.mul(convert(fraction, dtype), convert(rise, dtype))
    result = lax.add(convert(fp.at[at].get(mode="clip"), dtype), slope_part)
    if period is None:
        if not isinstance(left, str):
            value = _entry(fp, 0) if left is None else left
            result = lax.select(lax.lt(x, _entry(xp, 0)), convert(value, dtype), result)
        if not isinstance(right, str):
            value = _entry(fp, size - 1) if right is None else right
            result = lax.select(lax.gt(x, _entry(xp, size - 1)), convert(value, dtype), result)
    return result


def _entry(v: Array, place: int) -> Array:
    return lax.squeeze(lax.slice_in_dim(v, place, place + 1), (0,))


def _one_period(x: Array, xp: Array, fp: Array, period: ArrayLike) -> tuple[Array, Array, Array]:
    """Everything in one period, with a neighbour of the next period at both ends."""
    if not isinstance(period, Array) and np.ndim(period) == 0 and float(period) == 0:
        raise ShapeError("interp: period must not be 0")
    period = lax.abs(convert(period, x.dtype))
    x, xp = remainder(x, period), remainder(xp, period)
    xp, fp = lax.sort((xp, fp), dimension=0, num_keys=1)
    size = xp.shape[0]

    def last(v: Array) -> Array:
        return lax.slice_in_dim(v, size - 1, size)

    def first(v: Array) -> Array:
        return lax.slice_in_dim(v, 0, 1)

    xp = lax.concatenate([lax.sub(last(xp), period), xp, lax.add(first(xp), period)], 0)
    return x, xp, lax.concatenate([last(fp), fp, first(fp)], 0)


def unwrap(p: ArrayLike, discont: ArrayLike | None = None, axis: int = -1, period: ArrayLike = 2 * math.pi) -> Array:
    """Phases along `axis` with jumps of more than half a period (or `discont`) removed by adding periods."""
    p = to_array("unwrap", p)
    if dtypes.is_complex(p.dtype):
        raise DTypeError("unwrap is not defined for complex numbers; unwrap their angle")
    if dtypes.is_integer(p.dtype) and isinstance(period, int):
        dtype = p.dtype
        low = constant(-(period // 2), dtype)
    else:
        p, period = promote_dtypes_inexact(p, period)
        dtype = p.dtype
        low = lax.div(convert(period, dtype), constant(-2.0, dtype))
    if p.ndim == 0 or p.size == 0:
        return p
    axis = normalize_axis("unwrap", axis, p.shape)
    period = convert(period, dtype)
    jumps = diff(p, axis=axis)
    wrapped = lax.add(remainder(lax.sub(jumps, low), period), low)
    # a jump of exactly half a period upwards stays upwards
    up = lax.bitwise_and(lax.eq(wrapped, low), lax.gt(jumps, constant(0, dtype)))
    wrapped = lax.select(up, lax.neg(low) if not dtypes.is_integer(dtype) else lax.add(low, period), wrapped)
    correction = lax.sub(wrapped, jumps)
    threshold = lax.neg(low) if discont is None else convert(discont, dtype)
    small = lax.lt(lax.abs(jumps), threshold)
    correction = cumsum(lax.select(small, constant(0, dtype), correction), axis)
    padding = [(int(i == axis), 0, 0) for i in range(p.ndim)]
    return lax.add(p, lax.pad(correction, constant(0, dtype), padding))
