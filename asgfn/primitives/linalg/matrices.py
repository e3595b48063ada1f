"""What the decompositions share: type rules, the batching rule, and matrix algebra for their derivatives.

Every operation here works on the last two axes; axes before them are independent problems. Dtypes are floating point
or complex. A numerical failure (a matrix that is not positive definite, singular, or contains NaN) gives NaN or
infinity in its own result only, never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import batch_size, bdim_at_front, primitive
from asgfn.primitives.dot import batch_matmul
from asgfn.primitives.elementwise import add, conj, eq, ge, mul, select
from asgfn.primitives.gather import GatherDimensionNumbers, gather
from asgfn.primitives.shaping import (
    broadcast_in_dim,
    broadcasted_iota,
    expand_dims,
    full_like,
    reduce_sum,
    transpose,
    zeros_like_array,
)
from asgfn.tracing import Array


# ---------------------------------------------------------------------------------------------- types
def check_matrix(name: str, t: ArrayType, what: str = "operand") -> None:
    """Raises unless `t` is a stack of matrices of floats or complex numbers."""
    if t.ndim < 2:
        raise ShapeError(f"{name}: the {what} must be a matrix or a stack of matrices [..., m, n], got {t}")
    if not dtypes.is_inexact(t.dtype):
        raise DTypeError(
            f"{name}: the {what} must be floating point or complex, got {t}; convert it with .astype(float)"
        )


def check_square(name: str, t: ArrayType) -> None:
    check_matrix(name, t)
    if t.shape[-1] != t.shape[-2]:
        raise ShapeError(f"{name}: the matrices must be square, got {t}")


def check_same_batch(name: str, *types: ArrayType, ranks: Sequence[int]) -> None:
    """Raises unless the axes before each operand's own last `rank` axes, and the dtypes, agree."""
    leading = {t.shape[: t.ndim - rank] for t, rank in zip(types, ranks, strict=True)}
    listed = ", ".join(map(str, types))
    if len(leading) != 1:
        raise ShapeError(f"{name}: the leading (batch) axes of all operands must agree, got {listed}")
    if len({t.dtype for t in types}) != 1:
        raise DTypeError(f"{name}: operands must have one dtype, got {listed}")


def batch_at_front(name: str) -> Callable:
    """The batching rule of an operation on trailing axes: new axes go in front of all operands."""

    def rule(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple:
        prim = primitive(name)
        size = batch_size(args, dims)
        out = prim.bind(*(bdim_at_front(x, d, size) for x, d in zip(args, dims, strict=True)), **params)
        return (out, (0,) * len(out)) if prim.multiple_results else (out, 0)

    return rule


# ---------------------------------------------------------------------------------------------- algebra
def matmul(*factors: Any) -> Array:
    """Product of stacks of matrices, in full precision."""
    result = factors[0]
    for factor in factors[1:]:
        result = batch_matmul(result, factor, precision="highest")
    return result


def matrix_transpose(x: Any) -> Array:
    return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def conjugate(x: Any) -> Array:
    return conj(x) if dtypes.is_complex(x.dtype) else x


def adjoint(x: Any) -> Array:
    """The conjugate transpose."""
    return conjugate(matrix_transpose(x))


def number(value: float, like: Any) -> Array:
    """A rank-0 constant in the dtype of `like`."""
    return full_like(like, value, shape=())


def _row_and_column(x: Any) -> tuple[Array, Array]:
    return broadcasted_iota(np.int32, x.shape, x.ndim - 2), broadcasted_iota(np.int32, x.shape, x.ndim - 1)


def lower_part(x: Any, k: int = 0) -> Array:
    """`x` with zeros above its k-th diagonal."""
    row, column = _row_and_column(x)
    return select(ge(add(row, number(k, row)), column), x, zeros_like_array(x))


def upper_part(x: Any, k: int = 0) -> Array:
    """`x` with zeros below its k-th diagonal."""
    row, column = _row_and_column(x)
    return select(ge(column, add(row, number(k, row))), x, zeros_like_array(x))


def identity_like(x: Any) -> Array:
    """Ones on the diagonal, zeros elsewhere."""
    row, column = _row_and_column(x)
    return select(eq(row, column), full_like(x, 1), zeros_like_array(x))


def diagonal(x: Any) -> Array:
    """The main diagonals, [..., n]."""
    row, column = _row_and_column(x)
    return reduce_sum(select(eq(row, column), x, zeros_like_array(x)), (x.ndim - 1,))


def scale_columns(x: Any, factors: Any) -> Array:
    """x diag(factors)."""
    return mul(x, broadcast_in_dim(factors, x.shape, (*range(x.ndim - 2), x.ndim - 1)))


def scale_rows(x: Any, factors: Any) -> Array:
    """diag(factors) x."""
    return mul(x, broadcast_in_dim(factors, x.shape, tuple(range(x.ndim - 1))))


def pairwise(f: Callable, x: Any) -> Array:
    """The matrix with entries f(x_j, x_i) at row i, column j, for vectors x."""
    rank = x.ndim
    shape = (*x.shape, x.shape[-1])
    of_column = broadcast_in_dim(x, shape, (*range(rank - 1), rank))
    of_row = broadcast_in_dim(x, shape, tuple(range(rank)))
    return f(of_column, of_row)


def symmetrize(x: Any) -> Array:
    """(x + x^H) / 2."""
    return mul(add(x, adjoint(x)), number(0.5, x))


def take_rows(x: Any, rows: Any) -> Array:
    """x[..., rows, :], with one list of rows for each matrix."""
    leading = x.ndim - 2
    batch = tuple(range(leading))
    numbers = GatherDimensionNumbers(
        offset_dims=(leading + 1,),
        collapsed_slice_dims=(leading,),
        start_index_map=(leading,),
        operand_batching_dims=batch,
        start_indices_batching_dims=batch,
    )
    sizes = (*(1 for _ in batch), 1, x.shape[-1])
    return gather(x, expand_dims(rows, (rows.ndim,)), numbers, sizes, unique_indices=True)
