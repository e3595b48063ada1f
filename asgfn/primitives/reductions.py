"""Reductions: axes disappear into their largest, smallest, first largest, product, ... element.

`reduce_sum` stands with the other linear rearrangements in `shaping`; running reductions are in `cumulative`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from asgfn import dtypes
from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.graph.types import ArrayType
from asgfn.primitives import monoids
from asgfn.primitives.base import (
    ANY,
    BITS,
    FLOAT,
    NUMBER,
    REAL,
    Primitive,
    Zero,
    check_dtype,
    elementwise,
    no_derivative,
    primitive,
    tangent_type,
)
from asgfn.primitives.elementwise import add, div, eq, mul, select_n
from asgfn.primitives.padding import concatenate
from asgfn.primitives.shaping import (
    broadcast_in_dim,
    canonical_axes,
    canonical_axis,
    convert_element_type,
    full_like,
    reduce_sum,
    reduced_shape,
    reduction_batch,
    reshape,
    transpose,
)
from asgfn.primitives.slicing import slice_in_dim
from asgfn.tracing import Array, as_array, bind


def _type_rule(name: str, kinds: Sequence[str]) -> Callable[..., ArrayType]:
    def rule(x: ArrayType, *, axes: tuple[int, ...]) -> ArrayType:
        check_dtype(name, x.dtype, kinds)
        return ArrayType(reduced_shape(x, axes, name), x.dtype, x.weak_type)

    return rule


def _apply(prim: Primitive, operand: Any, axes: Sequence[int]) -> Array:
    operand = as_array(operand, prim.name)
    axes = tuple(sorted(canonical_axes(axes if isinstance(axes, int) else tuple(axes), operand.ndim, prim.name)))
    return bind(prim, operand, axes=axes)


# ---------------------------------------------------------------------------------------------- max, min
def _extremum_jvp(name: str) -> Callable[..., tuple]:
    """Elements that tie share the tangent equally."""

    def rule(primals: Sequence[Any], tangents: Sequence[Any], *, axes: tuple[int, ...]) -> tuple:
        (x,), (t,) = primals, tangents
        y = bind(primitive(name), x, axes=axes)
        kept = tuple(i for i in range(x.ndim) if i not in axes)
        chosen = eq(x, broadcast_in_dim(y, x.shape, kept))
        ties = reduce_sum(convert_element_type(chosen, t.dtype), axes)
        total = reduce_sum(select_n(chosen, full_like(t, 0, shape=()), t), axes)
        return y, div(total, ties)

    return rule


reduce_max_p = Primitive(
    "reduce_max",
    category="reduction",
    type_rule=_type_rule("reduce_max", ANY),
    jvp=_extremum_jvp("reduce_max"),
    batch=reduction_batch("reduce_max"),
    what="The largest element along some axes; NaN if there is one.",
    formula="y[i] = max over j of x[i, j]",
    why="The most likely class; the shift that keeps softmax from overflowing.",
)

reduce_min_p = Primitive(
    "reduce_min",
    category="reduction",
    type_rule=_type_rule("reduce_min", ANY),
    jvp=_extremum_jvp("reduce_min"),
    batch=reduction_batch("reduce_min"),
    what="The smallest element along some axes; NaN if there is one.",
    formula="y[i] = min over j of x[i, j]",
    why="The nearest neighbour; lower bounds.",
)


def reduce_max(operand: Any, axes: Sequence[int], **_: Any) -> Array:
    """Largest element over `axes`, which disappear. NaN wins; nothing at all gives -inf (or the least integer)."""
    return _apply(reduce_max_p, operand, axes)


def reduce_min(operand: Any, axes: Sequence[int], **_: Any) -> Array:
    """Smallest element over `axes`, which disappear. NaN wins; nothing at all gives inf (or the largest integer)."""
    return _apply(reduce_min_p, operand, axes)


# ---------------------------------------------------------------------------------------------- prod
def _prod_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, axes: tuple[int, ...]) -> tuple:
    """The product rule up a binary tree: no division, so zeros are no exception, and linear in the size."""
    (x,), (t,) = primals, tangents
    y = bind(reduce_prod_p, x, axes=axes)
    count = math.prod(x.shape[a] for a in axes)
    if count == 0:
        return y, Zero(tangent_type(y.aval))
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    x, t = (reshape(transpose(v, (*axes, *kept)), (count, *y.shape)) for v in (x, t))
    while count > 1:
        half = count // 2
        x1, t1 = (slice_in_dim(v, 0, half) for v in (x, t))
        x2, t2 = (slice_in_dim(v, half, 2 * half) for v in (x, t))
        x_last, t_last = (slice_in_dim(v, 2 * half, count) for v in (x, t))
        x, t = mul(x1, x2), add(mul(t1, x2), mul(x1, t2))
        if count % 2:
            x, t = concatenate([x, x_last], 0), concatenate([t, t_last], 0)
        count -= half
    return y, reshape(t, y.shape)


reduce_prod_p = Primitive(
    "reduce_prod",
    category="reduction",
    type_rule=_type_rule("reduce_prod", NUMBER),
    jvp=_prod_jvp,
    batch=reduction_batch("reduce_prod"),
    what="Multiplies all elements along some axes.",
    formula="y[i] = product over j of x[i, j]",
    why="Sizes, joint probabilities, determinants of triangular matrices.",
)


def reduce_prod(operand: Any, axes: Sequence[int], **_: Any) -> Array:
    """Product over `axes`, which disappear; the product of nothing is 1."""
    return _apply(reduce_prod_p, operand, axes)


# ---------------------------------------------------------------------------------------------- and, or, xor
def _bitwise(name: str, what: str, formula: str, why: str) -> Primitive:
    return Primitive(
        name,
        category="reduction",
        type_rule=_type_rule(name, BITS),
        jvp=no_derivative(name),
        batch=reduction_batch(name),
        what=what,
        formula=formula,
        why=why,
    )


reduce_and_p = _bitwise("reduce_and", "Whether all hold; bit by bit for integers.", "y = x[0] & x[1] & ...", "`all`.")
reduce_or_p = _bitwise("reduce_or", "Whether any holds; bit by bit for integers.", "y = x[0] | x[1] | ...", "`any`.")
reduce_xor_p = _bitwise("reduce_xor", "Parity; bit by bit for integers.", "y = x[0] ^ x[1] ^ ...", "Checksums.")


def reduce_and(operand: Any, axes: Sequence[int], **_: Any) -> Array:
    """Logical (booleans) or bitwise (integers) and over `axes`; of nothing, True or all bits."""
    return _apply(reduce_and_p, operand, axes)


def reduce_or(operand: Any, axes: Sequence[int], **_: Any) -> Array:
    """Logical (booleans) or bitwise (integers) or over `axes`; of nothing, False or 0."""
    return _apply(reduce_or_p, operand, axes)


def reduce_xor(operand: Any, axes: Sequence[int], **_: Any) -> Array:
    """Logical (booleans) or bitwise (integers) exclusive or over `axes`; of nothing, False or 0."""
    return _apply(reduce_xor_p, operand, axes)


# ---------------------------------------------------------------------------------------------- argmax, argmin
def _arg_type_rule(name: str) -> Callable[..., ArrayType]:
    def rule(x: ArrayType, *, axes: tuple[int], index_dtype: Any) -> ArrayType:
        check_dtype(name, x.dtype, ("bool", *REAL))
        if not dtypes.is_integer(index_dtype):
            raise DTypeError(f"{name}: index_dtype must be an integer dtype, got {index_dtype}")
        if len(axes) != 1:
            raise AxisError(f"{name}: expected one axis, got axes={axes}")
        shape = reduced_shape(x, axes, name)
        if x.shape[axes[0]] == 0:
            raise ShapeError(f"{name}: axis {axes[0]} of {x} is empty: there is no position to return")
        return ArrayType(shape, index_dtype)

    return rule


def _arg(name: str, which: str) -> Primitive:
    return Primitive(
        name,
        category="reduction",
        type_rule=_arg_type_rule(name),
        jvp=no_derivative(name),
        batch=reduction_batch(name),
        what=f"The position of the first {which} element along an axis; of the first NaN if there is one.",
        formula=f"y[i] = {name} over j of x[i, j]",
        why="The predicted class; greedy decoding.",
    )


argmax_p = _arg("argmax", "largest")
argmin_p = _arg("argmin", "smallest")


def _apply_arg(prim: Primitive, operand: Any, axis: int, index_dtype: Any) -> Array:
    operand = as_array(operand, prim.name)
    axis = canonical_axis(axis, operand.ndim, prim.name)
    return bind(prim, operand, axes=(axis,), index_dtype=dtypes.canonicalize(index_dtype))


def argmax(operand: Any, axis: int, index_dtype: Any) -> Array:
    """Position of the first largest (or first NaN) element along `axis`, as an array of `index_dtype`.

    Raises:
        ShapeError: the axis is empty.
        DTypeError: `index_dtype` is no integer dtype, or the operand is complex.
    """
    return _apply_arg(argmax_p, operand, axis, index_dtype)


def argmin(operand: Any, axis: int, index_dtype: Any) -> Array:
    """Position of the first smallest (or first NaN) element along `axis`, as an array of `index_dtype`.

    Raises:
        ShapeError: the axis is empty.
        DTypeError: `index_dtype` is no integer dtype, or the operand is complex.
    """
    return _apply_arg(argmin_p, operand, axis, index_dtype)


# ---------------------------------------------------------------------------------------------- any monoid
_REDUCTIONS = {
    "add": reduce_sum,
    "mul": reduce_prod,
    "max": reduce_max,
    "min": reduce_min,
    "and": reduce_and,
    "or": reduce_or,
    "xor": reduce_xor,
}


def reduce(operands: Any, init_values: Any, computation: Callable, dimensions: Sequence[int], **_: Any) -> Any:
    """Combines elements over `dimensions` with any associative function (StableHLO reduce).

    Arguments:
        operands: an array, or a pytree of arrays of one shape that are reduced together.
        init_values: scalars of the operands' dtypes, in the same structure; each result starts from them.
        computation: ``computation(x, y)`` on scalars (pytrees of scalars) gives their combination. It must be
            associative; elements are combined in row-major order. `add`, `mul`, `max`, `min`, `and`, `or` and `xor`
            become the primitives of these names; other functions become a tree of log2(n) vectorised steps.
        dimensions: the axes that disappear.

    Raises:
        ShapeError: the operands' shapes differ, an init value is no scalar, or the computation changes shapes.
        DTypeError: an init value or the computation has another dtype than its operand.
    """
    arrays, inits, combine, restore = monoids.operands_of("reduce", operands, init_values, computation)
    shape = arrays[0].shape
    axes = canonical_axes(tuple(dimensions), len(shape), "reduce")
    if len(arrays) == 1:
        name = combine.recognized(arrays[0].dtype)
        if name in _REDUCTIONS:
            reduced = _REDUCTIONS[name](arrays[0], axes)
            return restore([monoids.with_init(name, reduced, inits[0])])
    kept = tuple(i for i in range(len(shape)) if i not in axes)
    order = (*sorted(axes), *kept)
    count = math.prod(shape[a] for a in axes)
    result_shape = tuple(shape[i] for i in kept)
    stacks = [reshape(transpose(x, order), (count, *result_shape)) for x in arrays]
    return restore(combine.tree(stacks, inits))


# ---------------------------------------------------------------------------------------------- reduce_precision
reduce_precision_p: Primitive = elementwise(
    "reduce_precision",
    1,
    kinds=FLOAT,
    jvp=[lambda g, y, x, **bits: bind(reduce_precision_p, g, **bits)],
    transpose=lambda ct, x, **bits: [bind(reduce_precision_p, ct, **bits)],
    category="convert",
    what="Rounds to what a float with fewer bits could hold, without changing the dtype.",
    formula="y = x rounded to `mantissa_bits` and the range of `exponent_bits`",
    why="Simulates low-precision hardware on any hardware.",
)


def reduce_precision(operand: Any, exponent_bits: int, mantissa_bits: int) -> Array:
    """Rounds a float array as if stored with this many bits of exponent and mantissa (StableHLO reduce_precision).

    Ties go to even; what is too large becomes infinite, what is too small becomes zero.

    Raises:
        DTypeError: the operand is not a (real) floating-point array.
        ValueError: fewer than one exponent bit or than zero mantissa bits.
    """
    exponent_bits, mantissa_bits = int(exponent_bits), int(mantissa_bits)
    if exponent_bits < 1 or mantissa_bits < 0:
        raise ValueError(
            "reduce_precision needs exponent_bits >= 1 and mantissa_bits >= 0, "
            f"got {exponent_bits=} and {mantissa_bits=}"
        )
    return bind(reduce_precision_p, operand, exponent_bits=exponent_bits, mantissa_bits=mantissa_bits)


__all__ = [
    "argmax", "argmin", "reduce", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_precision",
    "reduce_prod", "reduce_xor",
]  # fmt: skip
