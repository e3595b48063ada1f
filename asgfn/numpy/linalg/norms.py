"""Norms of vectors and matrices, condition numbers and ranks."""

from __future__ import annotations

import numpy as np

from asgfn import dtypes
from asgfn.errors import ShapeError
from asgfn.numpy import manipulation, reductions, selection, ufuncs
from asgfn.numpy.arguments import ArrayLike, normalize_axes, promote_args_inexact
from asgfn.numpy.linalg.decompositions import eigvalsh, svdvals
from asgfn.numpy.linalg.solving import inv
from asgfn.tracing import Array

Order = int | float | str | None


def norm(x: ArrayLike, ord: Order = None, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """The norm of a vector, a matrix, or of all elements.

    Arguments:
        ord: None is the square root of the sum of squares (Euclidean or Frobenius norm). For vectors any number p, or
            inf, -inf, 0 (the count of non-zeros); for matrices "fro", "nuc", 1, -1, 2, -2, inf, -inf.
        axis: an int for vectors along that axis, two for matrices in those axes, None for all of `x` (which, with an
            `ord`, must have one or two axes).
        keepdims: keep the reduced axes with size 1.
    """
    (x,) = promote_args_inexact("linalg.norm", x)
    if axis is None and ord is None:
        return _euclidean(x, None, keepdims)
    if axis is None and x.ndim not in (1, 2):
        raise ShapeError(f"linalg.norm: with ord={ord!r} and no axis, x must be a vector or a matrix, got {x.aval}")
    axes = normalize_axes("linalg.norm", axis, x.shape)
    if len(axes) == 1:
        return _vector_norm(x, 2 if ord is None else ord, axes[0], keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, "fro" if ord is None else ord, axes, keepdims)
    raise ShapeError(f"linalg.norm: axis must name one or two axes, got {axis!r} for {x.aval}")


def vector_norm(
    x: ArrayLike, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, ord: Order = 2
) -> Array:
    """The p-norm over one axis, several, or all: (sum |x|^p)^(1/p); `ord` may be inf, -inf or 0 too."""
    (x,) = promote_args_inexact("linalg.vector_norm", x)
    axes = normalize_axes("linalg.vector_norm", axis, x.shape)
    return _vector_norm(x, 2 if ord is None else ord, axes, keepdims)


def matrix_norm(x: ArrayLike, /, *, keepdims: bool = False, ord: Order = "fro") -> Array:
    """The norm of the matrices in the last two axes; `ord` as in `norm`."""
    (x,) = promote_args_inexact("linalg.matrix_norm", x)
    if x.ndim < 2:
        raise ShapeError(f"linalg.matrix_norm: x must have at least two axes, got {x.aval}")
    return _matrix_norm(x, "fro" if ord is None else ord, (x.ndim - 2, x.ndim - 1), keepdims)


def _euclidean(x: Array, axis: int | tuple[int, ...] | None, keepdims: bool) -> Array:
    squares = (x.real * x.real + x.imag * x.imag) if dtypes.is_complex(x.dtype) else x * x
    return ufuncs.sqrt(reductions.sum(squares, axis=axis, keepdims=keepdims))


def _vector_norm(x: Array, order: int | float | str, axis: int | tuple[int, ...], keepdims: bool) -> Array:
    if isinstance(order, str):
        raise ValueError(f"linalg.norm: order {order!r} is for matrices; vectors take a number, inf or -inf")
    if order == 2:
        return _euclidean(x, axis, keepdims)
    size = ufuncs.abs(x)
    if order == np.inf:
        return reductions.max(size, axis=axis, keepdims=keepdims, initial=0)
    if order == -np.inf:
        return reductions.min(size, axis=axis, keepdims=keepdims)
    if order == 0:
        return reductions.sum(x != 0, axis=axis, keepdims=keepdims, dtype=size.dtype)
    if order == 1:
        return reductions.sum(size, axis=axis, keepdims=keepdims)
    return reductions.sum(size**order, axis=axis, keepdims=keepdims) ** (1.0 / order)


def _matrix_norm(x: Array, order: int | float | str, axes: tuple[int, ...], keepdims: bool) -> Array:
    rows, columns = axes
    if order == "fro":
        return _euclidean(x, axes, keepdims)
    if order in (1, -1, np.inf, -np.inf):
        inner, outer = (rows, columns) if abs(order) == 1 else (columns, rows)
        sums = reductions.sum(ufuncs.abs(x), axis=inner, keepdims=True)
        reduced = reductions.max(sums, axis=outer, keepdims=True, initial=0) if order > 0 else _least(sums, outer)
        return reduced if keepdims else manipulation.squeeze(reduced, axes)
    if order not in ("nuc", 2, -2):
        raise ValueError(
            f"linalg.norm: order {order!r} is not a matrix norm; use 'fro', 'nuc', 1, -1, 2, -2, inf or -inf"
        )
    s = svdvals(manipulation.moveaxis(x, axes, (-2, -1)))
    if order == "nuc":
        reduced = reductions.sum(s, axis=-1)
    else:
        reduced = reductions.max(s, axis=-1, initial=0) if order == 2 else reductions.min(s, axis=-1)
    return manipulation.expand_dims(reduced, axes) if keepdims else reduced


def _least(x: Array, axis: int) -> Array:
    return reductions.min(x, axis=axis, keepdims=True)


def cond(x: ArrayLike, p: Order = None) -> Array:
    """The condition number of [..., m, n] matrices: norm(x, p) norm(inv(x), p), or the ratio of singular values.

    Arguments:
        p: None or 2: the largest over the smallest singular value; -2: its inverse; otherwise any order of a matrix
            norm, for square matrices. Infinite for singular matrices.
    """
    (x,) = promote_args_inexact("linalg.cond", x)
    if x.ndim < 2:
        raise ShapeError(f"linalg.cond: x must have at least two axes, got {x.aval}")
    if p in (None, 2, -2):
        s = svdvals(x)
        result = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    else:
        result = matrix_norm(x, ord=p) * matrix_norm(inv(x), ord=p)
    # 0 / 0 and the norm of an inverse that is not finite mean singular, unless the input was NaN already.
    faulty = reductions.any(ufuncs.isnan(x), axis=(-2, -1))
    return selection.where(ufuncs.isnan(result) & ~faulty, np.inf, result)


def matrix_rank(
    M: ArrayLike, rtol: ArrayLike | None = None, *, hermitian: bool = False, tol: ArrayLike | None = None
) -> Array:
    """The number of singular values above a tolerance, of [..., m, n] matrices.

    Arguments:
        rtol: tolerance relative to the largest singular value; default max(m, n) times the dtype's epsilon.
        hermitian: `M` is Hermitian, which allows a faster method.
        tol: absolute tolerance (NumPy's older argument).
    """
    (x,) = promote_args_inexact("linalg.matrix_rank", M)
    if tol is not None and rtol is not None:
        raise ValueError("linalg.matrix_rank: give rtol or tol, not both")
    if x.ndim < 2:
        return reductions.any(x != 0).astype(dtypes.default_int())
    s = ufuncs.abs(eigvalsh(x)) if hermitian else svdvals(x)
    if tol is None:
        if rtol is None:
            rtol = max(x.shape[-2:]) * float(np.finfo(s.dtype).eps)
        tol = reductions.max(s, axis=-1, initial=0) * rtol
    limit = manipulation.expand_dims(manipulation.broadcast_to(tol, s.shape[:-1]), -1)
    return reductions.sum(s > limit, axis=-1)
