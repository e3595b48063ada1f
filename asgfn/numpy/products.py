"""Products of vectors, matrices and tensors, all lowered to `lax.dot_general` or to a broadcast multiplication.

Operands of different dtypes are promoted first. `precision` goes to `lax.dot_general`; `preferred_element_type` is the
dtype in which sums are accumulated and returned (default: the promoted dtype).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from asgfn import dtypes, lax
from asgfn.errors import AxisError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    DTypeLike,
    broadcast_shapes,
    check_arraylike,
    normalize_axis,
    promote_args,
    promote_dtypes,
    refuse_out,
)
from asgfn.tracing import Array

Dimensions = tuple[Sequence[int], Sequence[int]]


def dot_general(
    x1: Array,
    x2: Array,
    contract: Dimensions,
    batch: Dimensions = ((), ()),
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Array:
    """`lax.dot_general` of two arrays of one dtype, with a canonical `preferred_element_type`."""
    if preferred_element_type is not None:
        preferred_element_type = dtypes.canonicalize(preferred_element_type)
    dimensions = (tuple(map(tuple, contract)), tuple(map(tuple, batch)))
    return lax.dot_general(x1, x2, dimensions, precision=precision, preferred_element_type=preferred_element_type)


def _promoted(name: str, *args: ArrayLike) -> list[Array]:
    """The arguments as arrays of one dtype, shapes untouched."""
    check_arraylike(name, *args)
    return promote_dtypes(*args)


def _multiply(x1: Array, x2: Array, preferred_element_type: DTypeLike) -> Array:
    """Element-wise product, in the preferred dtype if there is one."""
    if preferred_element_type is not None:
        preferred_element_type = dtypes.canonicalize(preferred_element_type)
        x1, x2 = (lax.convert_element_type(x, preferred_element_type) for x in (x1, x2))
    return lax.bitwise_and(x1, x2) if dtypes.is_bool(x1.dtype) else lax.mul(x1, x2)


def _mismatch(name: str, x1: Array, x2: Array, what: str) -> ShapeError:
    return ShapeError(f"{name} of {x1.aval} and {x2.aval}: {what}")


# ---------------------------------------------------------------------------------------------- matmul and friends
def matmul(
    a: ArrayLike, b: ArrayLike, *, precision: Any = None, preferred_element_type: DTypeLike = None, **_: Any
) -> Array:
    """Matrix product, `a @ b`.

    Shapes: (..., n, k) @ (..., k, m) -> (..., n, m), leading axes broadcast; a one-dimensional `a` counts as a row,
    a one-dimensional `b` as a column, and that axis is removed from the result.

    Raises:
        ShapeError: an operand is a scalar, or shapes do not fit.
    """
    a, b = _promoted("matmul", a, b)
    if not a.ndim or not b.ndim:
        raise _mismatch("matmul", a, b, "operands must have at least one axis; multiply by scalars with *")
    inner_b = max(b.ndim - 2, 0)
    if a.shape[-1] != b.shape[inner_b]:
        raise _mismatch(
            "matmul", a, b, f"the last axis of the first has size {a.shape[-1]}, "
            f"but axis {inner_b} of the second, which it is summed with, has size {b.shape[inner_b]}"
        )  # fmt: skip
    try:
        leading = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ShapeError as error:
        raise _mismatch("matmul", a, b, f"the leading axes do not broadcast ({error.args[0]})") from None
    # A leading axis of size 1 is no batch axis: dropped here, it is a free axis of the other operand alone.
    a, a_axes = _drop_broadcast_axes(a, leading)
    b, b_axes = _drop_broadcast_axes(b, leading)
    shared = [axis for axis in a_axes if axis in b_axes]
    batch = [a_axes.index(axis) for axis in shared], [b_axes.index(axis) for axis in shared]
    contract = [a.ndim - 1], [max(b.ndim - 2, len(b_axes))]
    out = dot_general(a, b, contract, batch, precision=precision, preferred_element_type=preferred_element_type)
    # dot_general gives shared axes, then a's own leading axes and row, then b's own leading axes and column.
    row = ["row"] if a.ndim > len(a_axes) + 1 else []
    column = ["column"] if b.ndim > len(b_axes) + 1 else []
    order: list[Any] = [*shared, *(x for x in a_axes if x not in shared), *row]
    order += [*(x for x in b_axes if x not in shared), *column]
    present = [axis for axis in range(len(leading)) if axis in order]
    wanted = [*present, *row, *column]
    if order != wanted:
        out = lax.transpose(out, [order.index(axis) for axis in wanted])
    missing = [axis for axis in range(len(leading)) if axis not in order]
    return lax.expand_dims(out, missing) if missing else out


def _drop_broadcast_axes(x: Array, leading: tuple[int, ...]) -> tuple[Array, list[int]]:
    """`x` without its leading axes of size 1, and the positions in `leading` of those that remain."""
    own = max(x.ndim - 2, 0)
    offset = len(leading) - own
    dropped = [axis for axis in range(own) if x.shape[axis] == 1]
    kept = [axis + offset for axis in range(own) if x.shape[axis] != 1]
    return (lax.squeeze(x, dropped) if dropped else x), kept


def matvec(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """Products of matrices and vectors: (..., n, k), (..., k) -> (..., n), leading axes broadcast."""
    x1, x2 = _promoted("matvec", x1, x2)
    if x1.ndim < 2 or not x2.ndim:
        raise _mismatch("matvec", x1, x2, "the first needs at least two axes and the second one")
    out = matmul(x1, lax.expand_dims(x2, [x2.ndim]))
    return lax.squeeze(out, [out.ndim - 1])


def vecmat(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """Products of conjugated vectors and matrices: (..., k), (..., k, m) -> (..., m), leading axes broadcast."""
    x1, x2 = _promoted("vecmat", x1, x2)
    if not x1.ndim or x2.ndim < 2:
        raise _mismatch("vecmat", x1, x2, "the first needs at least one axis and the second two")
    out = matmul(lax.expand_dims(_conjugate(x1), [x1.ndim - 1]), x2)
    return lax.squeeze(out, [out.ndim - 2])


def dot(
    a: ArrayLike, b: ArrayLike, *, precision: Any = None, preferred_element_type: DTypeLike = None, **_: Any
) -> Array:
    """The sum over the last axis of `a` and the last but one (or only) axis of `b`; the product if one is a scalar.

    Shapes: (..., k), (k,) -> (...); (..., k), (..., k, m) -> (..., ..., m), all leading axes combined.
    """
    a, b = _promoted("dot", a, b)
    if not a.ndim or not b.ndim:
        return _multiply(a, b, preferred_element_type)
    inner_b = max(b.ndim - 2, 0)
    if a.shape[-1] != b.shape[inner_b]:
        raise _mismatch(
            "dot", a, b, f"the last axis of the first and axis {inner_b} of the second must have one size"
        )  # fmt: skip
    contract = [a.ndim - 1], [inner_b]
    return dot_general(a, b, contract, precision=precision, preferred_element_type=preferred_element_type)


def vdot(a: ArrayLike, b: ArrayLike, *, precision: Any = None, preferred_element_type: DTypeLike = None) -> Array:
    """The sum of conj(a) * b over all elements, as a scalar; shapes may differ if the sizes agree."""
    a, b = _promoted("vdot", a, b)
    if a.size != b.size:
        raise _mismatch("vdot", a, b, f"operands must have as many elements, got {a.size} and {b.size}")
    a, b = lax.reshape(_conjugate(a), (a.size,)), lax.reshape(b, (b.size,))
    return dot_general(a, b, ([0], [0]), precision=precision, preferred_element_type=preferred_element_type)


def vecdot(
    x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1, precision: Any = None, preferred_element_type: DTypeLike = None
) -> Array:
    """The sum of conj(x1) * x2 along one axis; the other axes broadcast."""
    x1, x2 = _promoted("vecdot", x1, x2)
    moved = []
    for x in (x1, x2):
        position = normalize_axis("vecdot", axis, x.shape)
        moved.append(lax.transpose(x, [*(k for k in range(x.ndim) if k != position), position]))
    x1, x2 = moved
    if x1.shape[-1] != x2.shape[-1]:
        raise _mismatch("vecdot", x1, x2, "the axis summed over must have one size in both")
    row, column = lax.expand_dims(_conjugate(x1), [x1.ndim - 1]), lax.expand_dims(x2, [x2.ndim])
    out = matmul(row, column, precision=precision, preferred_element_type=preferred_element_type)
    return lax.squeeze(out, [out.ndim - 2, out.ndim - 1])


def inner(a: ArrayLike, b: ArrayLike, *, precision: Any = None, preferred_element_type: DTypeLike = None) -> Array:
    """The sum over the last axes of both: (..., k), (..., k) -> (..., ...); the product if one is a scalar."""
    a, b = _promoted("inner", a, b)
    if not a.ndim or not b.ndim:
        return _multiply(a, b, preferred_element_type)
    if a.shape[-1] != b.shape[-1]:
        raise _mismatch("inner", a, b, "the last axes must have one size")
    contract = [a.ndim - 1], [b.ndim - 1]
    return dot_general(a, b, contract, precision=precision, preferred_element_type=preferred_element_type)


def outer(a: ArrayLike, b: ArrayLike, out: None = None) -> Array:
    """All products of elements of the flattened operands: shape (a.size, b.size)."""
    refuse_out("outer", out)
    a, b = _promoted("outer", a, b)
    column = lax.broadcast_in_dim(lax.reshape(a, (a.size,)), (a.size, b.size), (0,))
    row = lax.broadcast_in_dim(lax.reshape(b, (b.size,)), (a.size, b.size), (1,))
    return _multiply(column, row, None)


def _conjugate(x: Array) -> Array:
    return lax.conj(x) if dtypes.is_complex(x.dtype) else x


# ---------------------------------------------------------------------------------------------- tensors
def tensordot(
    a: ArrayLike,
    b: ArrayLike,
    axes: int | Sequence[int] | Sequence[Sequence[int]] = 2,
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
    **_: Any,
) -> Array:
    """Sums over pairs of axes: the axes of `a` that remain, then those of `b`.

    Arguments:
        axes: a number n (the last n axes of `a` with the first n of `b`), or two axes, or two sequences of axes.
    """
    a, b = _promoted("tensordot", a, b)
    a_axes, b_axes = _tensordot_axes(a, b, axes)
    for k, (i, j) in enumerate(zip(a_axes, b_axes, strict=True)):
        if a.shape[i] != b.shape[j]:
            raise _mismatch(
                "tensordot", a, b, f"pair {k}: axis {i} of the first and axis {j} of the second differ in size"
            )
    return dot_general(a, b, (a_axes, b_axes), precision=precision, preferred_element_type=preferred_element_type)


def _tensordot_axes(a: Array, b: Array, axes: Any) -> tuple[list[int], list[int]]:
    try:
        count = operator.index(axes)
    except TypeError:
        pass
    else:
        if not 0 <= count <= min(a.ndim, b.ndim):
            raise _mismatch("tensordot", a, b, f"axes={count} is more axes than an operand has")
        return list(range(a.ndim - count, a.ndim)), list(range(count))
    if len(axes) != 2:
        raise _mismatch("tensordot", a, b, f"axes must be an int or two sequences of axes, got {axes!r}")
    lists = []
    for x, chosen in zip((a, b), axes, strict=True):
        chosen = chosen if hasattr(chosen, "__len__") else (chosen,)
        lists.append([normalize_axis("tensordot", axis, x.shape) for axis in chosen])
        if len(set(lists[-1])) != len(lists[-1]):
            raise AxisError(f"tensordot: axes {tuple(chosen)} name the same axis twice for {x.aval}")
    if len(lists[0]) != len(lists[1]):
        raise _mismatch("tensordot", a, b, f"axes must name as many axes of both, got {axes!r}")
    return lists[0], lists[1]


def kron(a: ArrayLike, b: ArrayLike) -> Array:
    """The Kronecker product: each element of `a` times the whole of `b`; shapes multiply, axis by axis."""
    a, b = _promoted("kron", a, b)
    rank = max(a.ndim, b.ndim)
    a, b = (lax.reshape(x, (1,) * (rank - x.ndim) + x.shape) for x in (a, b))
    interleaved = [n for pair in zip(a.shape, b.shape, strict=True) for n in pair]
    spread_a = lax.broadcast_in_dim(a, interleaved, range(0, 2 * rank, 2))
    spread_b = lax.broadcast_in_dim(b, interleaved, range(1, 2 * rank, 2))
    product = _multiply(spread_a, spread_b, None)
    return lax.reshape(product, tuple(n * m for n, m in zip(a.shape, b.shape, strict=True)))


def cross(
    a: ArrayLike, b: ArrayLike, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Array:
    """The cross product of vectors of two or three components.

    Arguments:
        axisa, axisb, axisc: the axis of the components in `a`, `b` and the result; `axis` sets all three.

    Two vectors of two components give the (scalar) third component of their product. Other axes broadcast.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = _promoted("cross", a, b)
    a, b = (_components_last(x, position) for x, position in ((a, axisa), (b, axisb)))
    if a.shape[-1] not in (2, 3) or b.shape[-1] not in (2, 3):
        raise _mismatch("cross", a, b, "vectors must have two or three components along the chosen axis")
    a_parts, b_parts = _components(a), _components(b)
    (a0, a1, a2), (b0, b1, b2) = (parts + [None] * (3 - len(parts)) for parts in (a_parts, b_parts))
    third = _difference(a0, b1, a1, b0)
    if a2 is None and b2 is None:
        return third
    first, second = _difference(a1, b2, a2, b1), _difference(a2, b0, a0, b2)
    stacked = lax.concatenate([lax.expand_dims(x, [x.ndim]) for x in (first, second, third)], third.ndim)
    axisc = normalize_axis("cross", axisc, stacked.shape)
    order = list(range(stacked.ndim - 1))
    order.insert(axisc, stacked.ndim - 1)
    return lax.transpose(stacked, order)


def _components_last(x: Array, axis: int) -> Array:
    axis = normalize_axis("cross", axis, x.shape)
    return lax.transpose(x, [*(k for k in range(x.ndim) if k != axis), axis])


def _components(x: Array) -> list[Array | None]:
    return [lax.index_in_dim(x, k, x.ndim - 1, keepdims=False) for k in range(x.shape[-1])]


def _difference(a: Array | None, b: Array | None, c: Array | None, d: Array | None) -> Array:
    """a b - c d, where a missing (third) component is zero."""
    products = [
        lax.mul(*promote_args("cross", x, y)) if x is not None and y is not None else None for x, y in ((a, b), (c, d))
    ]
    left, right = products
    if left is None:
        return lax.neg(right)
    return left if right is None else lax.sub(left, right)
