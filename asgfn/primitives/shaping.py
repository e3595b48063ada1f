"""Operations that rearrange, repeat, sum away or reinterpret elements: the linear skeleton of every program."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    NUMBER,
    Primitive,
    Zero,
    check_dtype,
    instantiate_zeros,
    is_linear,
    linear_jvp,
    move_batch_axis,
    primitive,
    tangent_type,
)
from asgfn.tracing import Array, as_array, bind, concrete
from asgfn.tracing.concretize import explain_shape


def canonical_axis(axis: Any, ndim: int, name: str = "") -> int:
    """An axis number in [0, ndim).

    Raises:
        AxisError: naming the operation, the axis and the rank.
    """
    a = operator.index(axis)
    if not -ndim <= a < ndim:
        raise AxisError(
            f"{name + ': ' if name else ''}axis {a} is out of bounds for an array of {ndim} dimension{'s' * (ndim != 1)}"
        )
    return a % ndim


def canonical_axes(axes: Any, ndim: int, name: str = "") -> tuple[int, ...]:
    """Several axis numbers (or one) as a tuple without repeats."""
    listed = (axes,) if not isinstance(axes, (tuple, list)) else axes
    found = tuple(canonical_axis(a, ndim, name) for a in listed)
    if len(set(found)) != len(found):
        raise AxisError(f"{name + ': ' if name else ''}axes {tuple(listed)} name an axis twice")
    return found


def canonical_shape(shape: Any, name: str = "shape") -> tuple[int, ...]:
    """A shape as a tuple of ints; one int stands for one dimension."""
    if isinstance(shape, (int, np.integer)):
        shape = (shape,)
    try:
        return tuple([operator.index(d) for d in shape])
    except TypeError as error:
        raise explain_shape(shape, name, error) from None


# ---------------------------------------------------------------------------------------------- broadcast_in_dim
def _broadcast_type(x: ArrayType, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]) -> ArrayType:
    dims = broadcast_dimensions
    if len(dims) != x.ndim:
        raise ShapeError(
            f"broadcast_in_dim: operand {x} has {x.ndim} dimensions but broadcast_dimensions={dims} names {len(dims)}"
        )
    if any(not 0 <= d < len(shape) for d in dims) or any(a >= b for a, b in itertools.pairwise(dims)):
        raise ShapeError(
            f"broadcast_in_dim: broadcast_dimensions={dims} must be distinct and index the result's shape {shape}"
        )
    for size, d in zip(x.shape, dims, strict=True):
        if size not in (1, shape[d]):
            raise ShapeError(
                f"broadcast_in_dim: cannot broadcast {x} to shape {shape} along dimensions {dims}: size {size} is neither 1 nor {shape[d]}"
            )
    return ArrayType(shape, x.dtype, x.weak_type)


def _broadcast_transpose(ct: Any, x: Any, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]) -> list:
    kept = set(broadcast_dimensions)
    unit = [d for size, d in zip(x.aval.shape, broadcast_dimensions, strict=True) if size == 1 and shape[d] != 1]
    axes = tuple(sorted([d for d in range(len(shape)) if d not in kept] + unit))
    return [reshape(reduce_sum(ct, axes), x.aval.shape)]


def _broadcast_batch(
    args: Sequence[Any], dims: Sequence[int], *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> tuple:
    (x,) = args
    x = move_batch_axis(x, dims[0], 0)
    out = bind(
        broadcast_in_dim_p,
        x,
        shape=(x.shape[0], *shape),
        broadcast_dimensions=(0, *(d + 1 for d in broadcast_dimensions)),
    )
    return out, 0


broadcast_in_dim_p = Primitive(
    "broadcast_in_dim",
    category="shape",
    type_rule=_broadcast_type,
    jvp=linear_jvp("broadcast_in_dim"),
    transpose=_broadcast_transpose,
    batch=_broadcast_batch,
    what="Repeats an array along new axes and axes of length 1; nothing is copied until needed.",
    formula="y[i] = x[i at broadcast_dimensions, 0 where x has length 1]",
    why="Lets arrays of different shapes meet in one element-wise operation.",
)


def broadcast_in_dim(operand: Any, shape: Sequence[int], broadcast_dimensions: Sequence[int], **_: Any) -> Array:
    """Repeats `operand` to `shape`; its axis i becomes axis `broadcast_dimensions[i]` of the result (StableHLO broadcast_in_dim).

    Raises:
        ShapeError: a length is neither 1 nor the result's, or a dimension is named twice or missing.
    """
    operand = as_array(operand, "broadcast_in_dim")
    shape = canonical_shape(shape)
    dims = tuple(map(operator.index, broadcast_dimensions))
    order = sorted(range(len(dims)), key=dims.__getitem__)
    if len(dims) == operand.ndim and order != list(range(len(dims))):  # the primitive keeps the order of axes
        operand, dims = transpose(operand, order), tuple(sorted(dims))
    if operand.shape == shape and dims == tuple(range(len(shape))):
        return operand
    return bind(broadcast_in_dim_p, operand, shape=shape, broadcast_dimensions=dims)


def broadcast(operand: Any, sizes: Sequence[int], **_: Any) -> Array:
    """Adds leading axes of these sizes along which `operand` repeats."""
    operand = as_array(operand, "broadcast")
    sizes = canonical_shape(sizes)
    return broadcast_in_dim(operand, (*sizes, *operand.shape), tuple(range(len(sizes), len(sizes) + operand.ndim)))


def broadcast_to_rank(x: Any, rank: int) -> Array:
    """x with leading axes of length 1 up to this rank."""
    x = as_array(x)
    return expand_dims(x, range(rank - x.ndim)) if x.ndim < rank else x


# ---------------------------------------------------------------------------------------------- reshape
def _reshape_type(x: ArrayType, *, new_sizes: tuple[int, ...]) -> ArrayType:
    if any(d < 0 for d in new_sizes):
        raise ShapeError(
            f"reshape: cannot reshape {x} to {new_sizes}: sizes must be non-negative (asgfn.numpy.reshape takes one -1)"
        )
    if math.prod(new_sizes) != x.size:
        raise ShapeError(
            f"reshape: cannot reshape {x} ({x.size} elements) to {new_sizes} ({math.prod(new_sizes)} elements): the number of elements must stay the same"
        )
    return ArrayType(new_sizes, x.dtype, x.weak_type)


def _reshape_batch(args: Sequence[Any], dims: Sequence[int], *, new_sizes: tuple[int, ...]) -> tuple:
    x = move_batch_axis(args[0], dims[0], 0)
    return bind(reshape_p, x, new_sizes=(x.shape[0], *new_sizes)), 0


reshape_p = Primitive(
    "reshape",
    category="shape",
    type_rule=_reshape_type,
    jvp=linear_jvp("reshape"),
    transpose=lambda ct, x, *, new_sizes: [reshape(ct, x.aval.shape)],
    batch=_reshape_batch,
    what="Gives the same elements, in row-major order, another shape.",
    formula="y.ravel() = x.ravel()",
    why="Flattens images for a linear layer, splits features into attention heads, ...",
)


def reshape(operand: Any, new_sizes: Sequence[int], dimensions: Sequence[int] | None = None, **_: Any) -> Array:
    """The elements of `operand`, row-major, in shape `new_sizes` (StableHLO reshape); `dimensions` permutes its axes first.

    Raises:
        ShapeError: the number of elements would change.
    """
    operand = as_array(operand, "reshape")
    new_sizes = canonical_shape(new_sizes)
    if dimensions is not None:
        operand = transpose(operand, dimensions)
    if operand.shape == new_sizes:
        return operand
    return bind(reshape_p, operand, new_sizes=new_sizes)


def collapse(operand: Any, start_dimension: int, stop_dimension: int | None = None) -> Array:
    """Merges the axes from `start_dimension` up to (not including) `stop_dimension` into one."""
    operand = as_array(operand, "collapse")
    lo, hi, _ = slice(start_dimension, stop_dimension).indices(operand.ndim)
    if hi < lo:
        raise AxisError(
            f"collapse: start {start_dimension} comes after stop {stop_dimension} for an array of {operand.ndim} dimensions"
        )
    shape = operand.shape
    return reshape(operand, (*shape[:lo], math.prod(shape[lo:hi]), *shape[hi:]))


# ---------------------------------------------------------------------------------------------- squeeze, expand_dims
def _squeeze_type(x: ArrayType, *, dimensions: tuple[int, ...]) -> ArrayType:
    for d in dimensions:
        if x.shape[d] != 1:
            raise ShapeError(f"squeeze: cannot remove axis {d} of {x}: its length is {x.shape[d]}, not 1")
    return ArrayType(tuple(s for i, s in enumerate(x.shape) if i not in dimensions), x.dtype, x.weak_type)


def _squeeze_batch(args: Sequence[Any], dims: Sequence[int], *, dimensions: tuple[int, ...]) -> tuple:
    x = move_batch_axis(args[0], dims[0], 0)
    return bind(squeeze_p, x, dimensions=tuple(d + 1 for d in dimensions)), 0


squeeze_p = Primitive(
    "squeeze",
    category="shape",
    type_rule=_squeeze_type,
    jvp=linear_jvp("squeeze"),
    transpose=lambda ct, x, *, dimensions: [reshape(ct, x.aval.shape)],
    batch=_squeeze_batch,
    what="Removes axes of length 1.",
    formula="y[i, j] = x[i, 0, j]",
    why="Tidies up after slicing one element or reducing with keepdims.",
)


def squeeze(array: Any, dimensions: Sequence[int]) -> Array:
    """Removes the named axes, each of length 1. Raises ShapeError for a longer one, AxisError for a bad axis."""
    array = as_array(array, "squeeze")
    axes = tuple(sorted(canonical_axes(dimensions, array.ndim, "squeeze")))
    return bind(squeeze_p, array, dimensions=axes) if axes else array


def expand_dims(array: Any, dimensions: Sequence[int]) -> Array:
    """Adds axes of length 1; `dimensions` are positions in the result."""
    array = as_array(array, "expand_dims")
    listed = tuple(dimensions) if isinstance(dimensions, (Sequence, range)) else (dimensions,)
    rank = array.ndim + len(listed)
    new = set(canonical_axes(listed, rank, "expand_dims"))
    if not new:
        return array
    old = tuple(i for i in range(rank) if i not in new)
    shape = tuple(1 if i in new else array.shape[old.index(i)] for i in range(rank))
    return broadcast_in_dim(array, shape, old)


# ---------------------------------------------------------------------------------------------- transpose
def _transpose_type(x: ArrayType, *, permutation: tuple[int, ...]) -> ArrayType:
    if sorted(permutation) != list(range(x.ndim)):
        raise AxisError(f"transpose: permutation {permutation} is not a permutation of the {x.ndim} axes of {x}")
    return ArrayType(tuple(x.shape[p] for p in permutation), x.dtype, x.weak_type)


def _transpose_transpose(ct: Any, x: Any, *, permutation: tuple[int, ...]) -> list:
    inverse = tuple(int(i) for i in np.argsort(permutation))
    return [bind(transpose_p, ct, permutation=inverse)]


def _transpose_batch(args: Sequence[Any], dims: Sequence[int], *, permutation: tuple[int, ...]) -> tuple:
    (x,), (d,) = args, dims
    shifted = tuple(p + (p >= d) for p in permutation)
    return bind(transpose_p, x, permutation=(d, *shifted)), 0


transpose_p = Primitive(
    "transpose",
    category="shape",
    type_rule=_transpose_type,
    jvp=linear_jvp("transpose"),
    transpose=_transpose_transpose,
    batch=_transpose_batch,
    what="Reorders the axes.",
    formula="y[i[p0], i[p1], ...] = x[i0, i1, ...]",
    why="Puts the axis that the next operation works on where that operation expects it.",
)


def transpose(operand: Any, permutation: Sequence[int]) -> Array:
    """Axis i of the result is axis `permutation[i]` of `operand`."""
    operand = as_array(operand, "transpose")
    order = tuple(map(operator.index, permutation))
    if order == tuple(range(operand.ndim)):
        return operand
    return bind(transpose_p, operand, permutation=order)


# ---------------------------------------------------------------------------------------------- reduce_sum
def reduced_shape(x: ArrayType, axes: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The shape without these axes, which must be distinct and in range."""
    if len(set(axes)) != len(axes) or any(not 0 <= a < x.ndim for a in axes):
        raise AxisError(f"{name}: axes {axes} are not distinct axes of {x}")
    return tuple(s for i, s in enumerate(x.shape) if i not in axes)


def _sum_type(x: ArrayType, *, axes: tuple[int, ...]) -> ArrayType:
    check_dtype("reduce_sum", x.dtype, NUMBER)
    return ArrayType(reduced_shape(x, axes, "reduce_sum"), x.dtype, x.weak_type)


def _sum_transpose(ct: Any, x: Any, *, axes: tuple[int, ...]) -> list:
    shape = x.aval.shape
    return [broadcast_in_dim(ct, shape, tuple(i for i in range(len(shape)) if i not in axes))]


def reduction_batch(name: str) -> Any:
    """The batching rule of a reduction with a parameter `axes`: the batch axis keeps its place."""

    def rule(args: Sequence[Any], dims: Sequence[int], *, axes: tuple[int, ...], **params: Any) -> tuple:
        (x,), (d,) = args, dims
        shifted = tuple(a + (a >= d) for a in axes)
        out = bind(primitive(name), x, axes=shifted, **params)
        return out, d - sum(a < d for a in shifted)

    return rule


reduce_sum_p = Primitive(
    "reduce_sum",
    category="reduction",
    type_rule=_sum_type,
    jvp=linear_jvp("reduce_sum"),
    transpose=_sum_transpose,
    batch=reduction_batch("reduce_sum"),
    what="Adds up all elements along some axes.",
    formula="y[i] = sum over j of x[i, j]",
    why="Turns errors of single examples into one loss; sums gradients over a batch.",
)


def reduce_sum(operand: Any, axes: Sequence[int], **_: Any) -> Array:
    """Sum over `axes`, which disappear."""
    operand = as_array(operand, "reduce_sum")
    axes = tuple(sorted(canonical_axes(tuple(axes) if not isinstance(axes, int) else axes, operand.ndim, "reduce_sum")))
    return bind(reduce_sum_p, operand, axes=axes) if axes else operand


def unbroadcast(ct: Any, aval: ArrayType) -> Any:
    """A cotangent summed to the shape of a scalar operand that was broadcast in an element-wise operation."""
    if ct.shape == aval.shape:
        return ct
    return reduce_sum(ct, tuple(range(ct.ndim)))


# ---------------------------------------------------------------------------------------------- conversions
def _convert_type(x: ArrayType, *, new_dtype: np.dtype, weak_type: bool) -> ArrayType:
    if x.dtype == dtypes.float0:
        raise DTypeError(
            "convert_element_type: a float0 array (the tangent of an integer) holds nothing and cannot be converted"
        )
    return ArrayType(x.shape, new_dtype, weak_type)


def _convert_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, new_dtype: np.dtype, weak_type: bool) -> tuple:
    out = bind(convert_p, primals[0], new_dtype=new_dtype, weak_type=weak_type)
    t = tangents[0]
    if dtypes.is_inexact(new_dtype) and dtypes.is_inexact(primals[0].dtype):
        return out, bind(convert_p, t, new_dtype=new_dtype, weak_type=False)
    return out, Zero(tangent_type(out.aval))


convert_p: Primitive = Primitive(
    "convert_element_type",
    category="convert",
    type_rule=_convert_type,
    jvp=_convert_jvp,
    transpose=lambda ct, x, *, new_dtype, weak_type: [
        bind(convert_p, ct, new_dtype=x.aval.dtype, weak_type=x.aval.weak_type)
    ],
    batch=lambda args, dims, **params: (bind(convert_p, args[0], **params), dims[0]),
    what="Converts every element to another dtype.",
    formula="y = dtype(x)",
    why="Moves between precisions (mixed precision) and between integers, booleans and floats.",
)


def convert_element_type(operand: Any, new_dtype: Any, weak_type: bool = False) -> Array:
    """`operand` with its elements converted as StableHLO `convert` does: float to integer truncates towards zero,
    complex to real drops the imaginary part, anything to bool asks whether it is non-zero."""
    operand = as_array(operand, "convert_element_type")
    if isinstance(new_dtype, type) and new_dtype in (int, float, complex):  # Python's types are weak dtypes
        weak_type = True
    dtype = dtypes.canonicalize(new_dtype)
    weak_type = bool(weak_type) and dtype != np.bool_
    if operand.dtype == dtype and operand.weak_type == weak_type:
        return operand
    if type(operand).__name__ == "ConcreteArray" and operand.dtype == dtype:  # only the weak flag changes
        return concrete(operand.value, operand.aval.update(weak_type=weak_type))
    return bind(convert_p, operand, new_dtype=dtype, weak_type=weak_type)


def _bitcast_type(x: ArrayType, *, new_dtype: np.dtype) -> ArrayType:
    old, new = x.dtype.itemsize, new_dtype.itemsize
    if (
        dtypes.is_bool(x.dtype) != dtypes.is_bool(new_dtype)
        or dtypes.is_complex(x.dtype)
        or dtypes.is_complex(new_dtype)
    ):
        if x.dtype != new_dtype:
            raise DTypeError(f"bitcast_convert_type: cannot reinterpret {x.dtype.name} as {new_dtype.name}")
    if old == new:
        return ArrayType(x.shape, new_dtype)
    if old > new:
        return ArrayType((*x.shape, old // new), new_dtype)
    if not x.shape or x.shape[-1] != new // old:
        raise ShapeError(
            f"bitcast_convert_type: to reinterpret {x} as {new_dtype.name} its last axis must have length {new // old}"
        )
    return ArrayType(x.shape[:-1], new_dtype)


def _bitcast_batch(args: Sequence[Any], dims: Sequence[int], *, new_dtype: np.dtype) -> tuple:
    return bind(bitcast_p, move_batch_axis(args[0], dims[0], 0), new_dtype=new_dtype), 0


def _bitcast_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, new_dtype: np.dtype) -> tuple:
    out = bind(bitcast_p, primals[0], new_dtype=new_dtype)
    return out, Zero(tangent_type(out.aval))


bitcast_p = Primitive(
    "bitcast_convert_type",
    category="convert",
    type_rule=_bitcast_type,
    jvp=_bitcast_jvp,
    batch=_bitcast_batch,
    what="Reads the same bits as another dtype.",
    formula="bits(y) = bits(x)",
    why="Builds floats from random bits; looks inside floating-point numbers.",
)


def bitcast_convert_type(operand: Any, new_dtype: Any) -> Array:
    """The bits of `operand` read as `new_dtype`. A narrower dtype adds a last axis, a wider one removes it (StableHLO bitcast_convert)."""
    return bind(bitcast_p, as_array(operand, "bitcast_convert_type"), new_dtype=dtypes.canonicalize(new_dtype))


# ---------------------------------------------------------------------------------------------- making arrays
iota_p = Primitive(
    "iota",
    category="constant",
    type_rule=lambda *, dtype, shape, dimension: ArrayType(shape, dtype),
    what="Counts 0, 1, 2, ... along one axis.",
    formula="y[..., i, ...] = i",
    why="Positions: masks, one-hot rows, index grids.",
)


def iota(dtype: Any, size: int) -> Array:
    """[0, 1, ..., size - 1] in `dtype`."""
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype: Any, shape: Sequence[int], dimension: int, **_: Any) -> Array:
    """An array of this shape that counts from 0 along `dimension`."""
    dtype = dtypes.canonicalize(dtype)
    shape = canonical_shape(shape)
    check_dtype("iota", dtype, NUMBER)
    return bind(iota_p, dtype=dtype, shape=shape, dimension=canonical_axis(dimension, len(shape), "iota"))


def full(shape: Sequence[int], fill_value: Any, dtype: Any = None, **_: Any) -> Array:
    """An array of this shape filled with a scalar (weakly typed if `dtype` is not given and the scalar is Python's)."""
    shape = canonical_shape(shape)
    value = as_array(fill_value, "full")
    if value.ndim:
        raise ShapeError(f"full: fill_value must be a scalar, got {value.aval}")
    if dtype is not None or not value.weak_type:
        value = convert_element_type(value, value.dtype if dtype is None else dtype)
    return broadcast_in_dim(value, shape, ())


def full_like(x: Any, fill_value: Any, dtype: Any = None, shape: Any = None, **_: Any) -> Array:
    """An array like `x` (its shape and dtype, unless given) filled with a scalar."""
    aval = x.aval if isinstance(getattr(x, "aval", None), ArrayType) else as_array(x).aval
    value = convert_element_type(fill_value, aval.dtype if dtype is None else dtype, dtype is None and aval.weak_type)
    return broadcast_in_dim(value, aval.shape if shape is None else canonical_shape(shape), ())


def zeros_like_array(x: Any) -> Array:
    """Zeros of x's shape and dtype."""
    return full_like(x, 0)


# ---------------------------------------------------------------------------------------------- identities
copy_p: Primitive = Primitive(
    "copy",
    category="shape",
    type_rule=lambda x: x,
    jvp=linear_jvp("copy"),
    transpose=lambda ct, x: [ct],
    batch=lambda args, dims: (bind(copy_p, args[0]), dims[0]),
    what="The same values in memory of their own.",
    formula="y = x",
    why="Separates an array from one that is about to be donated.",
)


def _barrier_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    outs = bind(barrier_p, *primals)
    return outs, bind(barrier_p, *map(instantiate_zeros, tangents))


def _barrier_transpose(cts: Sequence[Any], *operands: Any) -> list:
    return [ct if is_linear(x) else None for ct, x in zip(cts, operands, strict=True)]


barrier_p: Primitive = Primitive(
    "optimization_barrier",
    category="call",
    type_rule=lambda *types: types,
    jvp=_barrier_jvp,
    transpose=_barrier_transpose,
    batch=lambda args, dims: (bind(barrier_p, *args), tuple(dims)),
    multiple_results=True,
    what="Passes values through unchanged, but nothing is merged or moved across it.",
    formula="y = x",
    why="Keeps recomputation (checkpoint) from being optimised away.",
)


def optimization_barrier(operand: Any) -> Any:
    """A pytree of arrays unchanged, as a barrier for common-subexpression elimination."""
    import optree

    leaves, tree = optree.tree_flatten(operand, namespace="asgfn")
    return optree.tree_unflatten(tree, bind(barrier_p, *leaves)) if leaves else operand


__all__ = [
    "bitcast_convert_type", "broadcast", "broadcast_in_dim", "broadcast_to_rank", "broadcasted_iota", "collapse",
    "convert_element_type", "expand_dims", "full", "full_like", "iota", "optimization_barrier", "reduce_sum", "reshape",
    "squeeze", "transpose", "zeros_like_array",
]  # fmt: skip
