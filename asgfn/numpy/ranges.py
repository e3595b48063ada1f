"""Numbers at equal distances (or ratios), and grids made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import ConcretizationError, DTypeError, ShapeError
from asgfn.graph import ArrayType
from asgfn.numpy.arguments import (
    ArrayLike,
    DTypeLike,
    as_int,
    broadcast_operand,
    check_arraylike,
    constant,
    convert,
    filled,
    normalize_axis,
    promote_args,
    promote_dtypes,
    to_array,
    to_inexact,
)
from asgfn.numpy.arithmetic import power
from asgfn.numpy.device import to_device
from asgfn.numpy.elementwise import log10
from asgfn.tracing import Array, Tracer
from asgfn.tracing import concrete as concrete_array


def arange(
    start: ArrayLike,
    stop: ArrayLike | None = None,
    step: ArrayLike | None = None,
    dtype: DTypeLike = None,
    *,
    device: Any = None,
    out_sharding: None = None,
) -> Array:
    """start, start + step, ... up to but without stop. `arange(n)` counts from 0.

    Returns a vector of ceil((stop - start) / step) elements, integer when all arguments are.

    Raises:
        ConcretizationError: an argument is traced; the length of the result depends on it.
    """
    if stop is None:
        start, stop = 0, start
    arguments = {"start": start, "stop": stop, "step": 1 if step is None else step}
    for name, value in arguments.items():
        check_arraylike("arange", value)
        if np.ndim(value) != 0:
            raise ShapeError(f"arange: {name} must be a scalar, got an array of shape {np.shape(value)}")
    if dtype is None:
        dtype = dtypes.result_type(*(v for v in arguments.values()))
    dtype = dtypes.canonicalize(dtype)
    first, last, stride = (_number(f"arange: {name}", value) for name, value in arguments.items())
    if stride == 0:
        raise ShapeError("arange: step must not be 0")
    size = max(0, _ceil_div(last - first, stride))
    result: Array
    if dtype == np.bool_:
        if size > 2:
            raise DTypeError(f"arange: a boolean range has at most 2 elements, asked for {size}")
        result = concrete_array(np.arange(first, last, stride).astype(bool), ArrayType((size,), dtype))
    elif (dtypes.is_integer(dtype) and all(isinstance(v, int) for v in (first, stride))) or (first, stride) == (0, 1):
        result = lax.iota(dtype, size)
        result = result if stride == 1 else lax.mul(result, constant(stride, dtype))
        result = result if first == 0 else lax.add(result, constant(first, dtype))
    else:
        # in float64 on the host: adding up steps in float32 would drift
        values = first + stride * np.arange(size, dtype=np.complex128 if isinstance(first, complex) else np.float64)
        with np.errstate(all="ignore"):
            result = concrete_array(values.astype(dtype), ArrayType((size,), dtype))
    return to_device(result, device) if device is not None else result


def _number(what: str, value: Any) -> Any:
    """A concrete scalar as a Python number."""
    try:
        return np.asarray(value).item() if not isinstance(value, (int, float)) else value
    except ConcretizationError:
        raise ConcretizationError(
            f"{what} is traced, but the length of the result depends on it: mark it static with static_argnums, or "
            "make a range of a fixed length and scale it"
        ) from None


def _ceil_div(span: Any, step: Any) -> int:
    return -int(-span // step) if isinstance(span, int) and isinstance(step, int) else math.ceil((span / step).real)


@overload
def linspace(
    start: Any,
    stop: Any,
    num: int = ...,
    endpoint: bool = ...,
    retstep: Literal[False] = ...,
    dtype: Any = ...,
    axis: int = ...,
    *,
    device: Any = ...,
) -> Array: ...
@overload
def linspace(
    start: Any,
    stop: Any,
    num: int = ...,
    endpoint: bool = ...,
    *,
    retstep: Literal[True],
    dtype: Any = ...,
    axis: int = ...,
    device: Any = ...,
) -> tuple[Array, Array]: ...
def linspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DTypeLike = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Array | tuple[Array, Array]:
    """`num` numbers at equal distances from start to stop, both included (stop is not if `endpoint` is False).

    Arguments:
        start, stop: scalars, or arrays that broadcast: then each pair gives one range along `axis` of the result.
        retstep: also return the distance.
    """
    check_arraylike("linspace", start, stop)
    num = _count("linspace", num)
    dtype = None if dtype is None else dtypes.canonicalize(dtype)
    result_dtype = to_inexact(dtypes.result_type(start, stop)) if dtype is None else dtype
    working = to_inexact(dtypes.result_type(start, stop, result_dtype))
    divisor = num - 1 if endpoint else num
    result = _integer_linspace(start, stop, num, divisor, axis, result_dtype)
    start, stop = convert(start, working), convert(stop, working)
    if result is None and not isinstance(start, Tracer) and not isinstance(stop, Tracer):
        result = _constant_linspace(start, stop, num, endpoint, axis, result_dtype)
    elif result is None:
        first, last = promote_args("linspace", start, stop)
        result = _traced_linspace(first, last, num, divisor, endpoint, axis, result_dtype)
    if device is not None:
        result = to_device(result, device)
    if not retstep:
        return result
    step = lax.div(
        lax.sub(*promote_args("linspace", stop, start)), constant(float(divisor) if divisor else math.nan, working)
    )
    return result, step


def _count(name: str, num: Any) -> int:
    count = as_int(name, "num", num)
    if count < 0:
        raise ShapeError(f"{name}: num must not be negative, got {count}")
    return count


def _integer_linspace(start: Any, stop: Any, num: int, divisor: int, axis: int, dtype: np.dtype) -> Array | None:
    """Integers between known integers, which floats would round; None where this does not apply."""
    known = not isinstance(start, Tracer) and not isinstance(stop, Tracer)
    if not known or not dtypes.is_integer(dtype) or not dtypes.is_integer(dtypes.result_type(start, stop)):
        return None
    first, last = np.asarray(start).astype(object), np.asarray(stop).astype(object)
    ends = [*first.flat, *last.flat]
    limits = np.iinfo(dtype)
    if not ends or min(ends) < limits.min or max(ends) > limits.max:
        return None
    if max(map(abs, ends)) * 2 * max(num, 1) < 2**63:
        first, last = first.astype(np.int64), last.astype(np.int64)
    counts = np.arange(num).astype(first.dtype).reshape((num,) + (1,) * max(first.ndim, last.ndim))
    values = np.asarray(first + counts * (last - first) // max(divisor, 1)).astype(dtype)
    values = np.moveaxis(values, 0, normalize_axis("linspace", axis, values.shape[1:], values.ndim))
    return concrete_array(values, ArrayType(values.shape, dtype))


def _constant_linspace(start: Any, stop: Any, num: int, endpoint: bool, axis: int, dtype: np.dtype) -> Array:
    wide = np.complex128 if dtypes.is_complex(start.dtype) else np.float64
    first, last = np.asarray(start).astype(wide), np.asarray(stop).astype(wide)
    with np.errstate(all="ignore"):
        values = np.linspace(first, last, num, endpoint, axis=axis)
        values = (np.floor(values) if dtypes.is_integer(dtype) else values).astype(dtype)
    return concrete_array(values, ArrayType(values.shape, dtype))


def _traced_linspace(
    start: Any, stop: Any, num: int, divisor: int, endpoint: bool, axis: int, dtype: np.dtype
) -> Array:
    shape = start.shape or stop.shape
    axis = normalize_axis("linspace", axis, shape, len(shape) + 1)
    full = (*shape[:axis], num, *shape[axis:])
    others = tuple(i for i in range(len(full)) if i != axis)
    real = dtypes.real_dtype(start.dtype)
    fraction = lax.div(lax.broadcasted_iota(real, full, axis), constant(float(max(divisor, 1)), real))
    fraction = convert(fraction, start.dtype)
    # a weighted mean of the ends: both are hit exactly
    start, stop = (x if not x.ndim else lax.broadcast_in_dim(x, full, others) for x in (start, stop))
    rest = lax.sub(constant(1.0, fraction.dtype), fraction)
    values = lax.add(lax.mul(start, rest), lax.mul(stop, fraction))
    if dtypes.is_integer(dtype):
        values = lax.floor(values)
    return convert(values, dtype)


def logspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    base: ArrayLike = 10.0,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Array:
    """`num` numbers at equal ratios from base**start to base**stop."""
    dtype = None if dtype is None else dtypes.canonicalize(dtype)
    working = to_inexact(
        dtypes.result_type(start, stop, base) if dtype is None else dtypes.result_type(start, stop, dtype)
    )
    exponents = linspace(start, stop, num, endpoint, dtype=working, axis=axis)
    return convert(power(convert(base, working), exponents), working if dtype is None else dtype)


def geomspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Array:
    """`num` numbers at equal ratios from start to stop, which have the same sign; both ends are exact."""
    check_arraylike("geomspace", start, stop)
    dtype = None if dtype is None else dtypes.canonicalize(dtype)
    working = to_inexact(dtypes.result_type(start, stop) if dtype is None else dtypes.result_type(start, stop, dtype))
    start, stop = promote_args("geomspace", convert(start, working), convert(stop, working))
    shape = start.shape or stop.shape
    axis = normalize_axis("geomspace", axis, shape, len(shape) + 1)
    sign = lax.sign(start)
    exponents = linspace(log10(lax.div(start, sign)), log10(lax.div(stop, sign)), num, endpoint, axis=axis)
    signs = sign if not sign.ndim else lax.expand_dims(sign, (axis,))
    values = lax.mul(*promote_args("geomspace", signs, power(constant(10.0, working), exponents)))
    if num > 0:
        place = lax.broadcasted_iota(np.int32, values.shape, axis)
        first, last = (
            x if not x.ndim else broadcast_operand(lax.expand_dims(x, (axis,)), values.shape) for x in (start, stop)
        )
        values = lax.select(lax.eq(place, np.int32(0)), first, values)
        if endpoint and num > 1:
            values = lax.select(lax.eq(place, np.int32(num - 1)), last, values)
    return convert(values, working if dtype is None else dtype)


# ------------------------------------------------------------------------------------------------------------- grids


def meshgrid(*xi: ArrayLike, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list[Array]:
    """Coordinate grids from coordinate vectors: one array for each, all of the shape of the grid.

    Arguments:
        sparse: leave the grids at length 1 along the axes on which they do not depend.
        indexing: "ij" gives shape (len(x0), len(x1), ...), "xy" swaps the first two axes.
    """
    if indexing not in ("xy", "ij"):
        raise DTypeError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    vectors = [to_array("meshgrid", x) for x in xi]
    for position, vector in enumerate(vectors):
        if vector.ndim > 1:
            raise ShapeError(f"meshgrid takes vectors, but argument {position} has shape {vector.shape}")
    order = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        order[:2] = 1, 0
    shape = [1] * len(vectors)
    for vector, axis in zip(vectors, order, strict=True):
        shape[axis] = vector.size
    grids = []
    for vector, axis in zip(vectors, order, strict=True):
        target = [1] * len(vectors)
        target[axis] = vector.size
        if sparse:
            grids.append(lax.reshape(vector, target))
        else:
            vector = vector if vector.ndim else lax.reshape(vector, (1,))
            grids.append(lax.broadcast_in_dim(vector, shape, (axis,)))
    return grids


def indices(dimensions: Sequence[int], dtype: DTypeLike = None, sparse: bool = False) -> Array | tuple[Array, ...]:
    """The index grids of a shape, stacked: `indices((2, 3))[1][i, j]` is j. A tuple of thin grids if `sparse`."""
    shape = tuple(int(d) for d in dimensions)
    dtype = dtypes.default_int() if dtype is None else dtypes.canonicalize(dtype)
    if sparse:
        thin = [tuple(size if i == axis else 1 for i, size in enumerate(shape)) for axis in range(len(shape))]
        return tuple(lax.broadcasted_iota(dtype, thin[axis], axis) for axis in range(len(shape)))
    if not shape:
        return filled((0,), 0, dtype)
    return lax.concatenate([lax.broadcasted_iota(dtype, (1, *shape), axis + 1) for axis in range(len(shape))], 0)


class _Grid:
    """`grid[0:3, 0:1:5j]`: coordinate grids from slices; an imaginary step counts points, both ends included."""

    def __init__(self, name: str, sparse: bool) -> None:
        self._name = name
        self._sparse = sparse

    def __repr__(self) -> str:
        return f"<{self._name}>"

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return _slice_values(key)
        vectors = promote_dtypes(*(_slice_values(part) for part in key))
        grids = meshgrid(*vectors, indexing="ij", sparse=self._sparse)
        if self._sparse:
            return grids
        return lax.concatenate([lax.expand_dims(grid, (0,)) for grid in grids], 0)


def _slice_values(key: slice) -> Array:
    start = 0 if key.start is None else key.start
    step = 1 if key.step is None else key.step
    if isinstance(step, complex):
        return linspace(start, key.stop, int(abs(step)))
    return arange(start, key.stop, step)


mgrid = _Grid("mgrid", sparse=False)
ogrid = _Grid("ogrid", sparse=True)
