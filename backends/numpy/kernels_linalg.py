"""Kernels of linear algebra: LAPACK through NumPy where it offers the routine, `matrix_algorithms` where not.

LAPACK's failures are exceptions in NumPy; here they become NaN in the results of the matrix concerned. Half-precision
floats are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from asgfn.graph.types import ArrayType
from backends.numpy import matrix_algorithms as algorithms
from backends.numpy.registry import kernel


def _computing_dtype(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def _flat(x: np.ndarray, rank: int) -> np.ndarray:
    """`x` in a dtype that LAPACK takes, with all axes before the last `rank` merged into one."""
    x = x.astype(_computing_dtype(x.dtype), copy=False) if x.dtype.kind in "fcV" else x
    size = int(np.prod(x.shape[: x.ndim - rank], dtype=np.int64))
    return x.reshape(size, *x.shape[x.ndim - rank :])


def _register(
    name: str, ranks: Sequence[int], compute: Callable[..., Callable[..., Any]], several: bool = False
) -> None:
    """Registers a kernel from `compute(**params) -> function of [b, ...] operands`, one rank for each operand."""

    @kernel(name)
    def factory(in_types: Any, out_types: Any, **params: Any) -> Callable[..., Any]:
        function = compute(**params)

        def run(*operands: np.ndarray) -> Any:
            results = function(*(_flat(x, rank) for x, rank in zip(operands, ranks, strict=True)))
            if not several:
                return _like(results, out_types[0])
            return tuple(_like(y, t) for y, t in zip(results, out_types, strict=True))

        return run


def _like(x: np.ndarray, wanted: ArrayType) -> np.ndarray:
    return x.astype(wanted.dtype, copy=False).reshape(wanted.shape)


def _each_matrix(function: Callable[[np.ndarray], Any], x: np.ndarray) -> tuple[np.ndarray, ...]:
    """function(x) for a stack x [b, m, n]; matrices on which it fails, or which are not finite, give NaN."""

    def apply(part: np.ndarray) -> tuple[np.ndarray, ...]:
        results = function(part)
        return tuple(results) if isinstance(results, tuple) else (results,)

    good = np.isfinite(x).all(axis=(1, 2))
    # LAPACK may loop or raise on NaN: such matrices are computed as zeros and overwritten.
    clean = x if good.all() else np.where(good[:, None, None], x, 0)
    try:
        results = apply(clean)
    except np.linalg.LinAlgError:
        results = _one_by_one(apply, clean)
    if not good.all():
        for y in results:
            y[~good] = np.nan
    return results


def _one_by_one(apply: Callable[[np.ndarray], tuple[np.ndarray, ...]], x: np.ndarray) -> tuple[np.ndarray, ...]:
    """The rare case that some matrix of a stack fails: the others are not lost."""
    rows, columns = x.shape[1:]
    # The identity never fails and shows what shapes and dtypes to expect.
    template = apply(np.eye(rows, columns, dtype=x.dtype)[None])
    results = tuple(np.full((len(x), *y.shape[1:]), np.nan, y.dtype) for y in template)
    for k in range(len(x)):
        try:
            single = apply(x[k : k + 1])
        except np.linalg.LinAlgError:
            continue
        for y, value in zip(results, single, strict=True):
            y[k] = value[0]
    return results


# ---------------------------------------------------------------------------------------------- solving
def _triangular_solve(
    left_side: bool, lower: bool, transpose_a: bool, conjugate_a: bool, unit_diagonal: bool
) -> Callable[..., np.ndarray]:
    # x op(a) = b is op(a)^T x^T = b^T.
    flip = transpose_a == left_side

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if conjugate_a:
            a = a.conj()
        if flip:
            a = np.swapaxes(a, 1, 2)
        is_lower = lower != flip
        if left_side:
            return algorithms.substitute(a, b, is_lower, unit_diagonal)
        return np.swapaxes(algorithms.substitute(a, np.swapaxes(b, 1, 2), is_lower, unit_diagonal), 1, 2)

    return run


def _linear_solve(transpose_a: bool) -> Callable[..., np.ndarray]:
    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if transpose_a:
            a = np.swapaxes(a, 1, 2)
        try:
            return np.linalg.solve(a, b)
        except np.linalg.LinAlgError:
            # A singular matrix somewhere: our own elimination leaves infinities and NaN in its solution alone.
            lu, _, order = algorithms.lu_factor(a)
            permuted = np.take_along_axis(b, order[:, :, None], axis=1)
            return algorithms.substitute(lu, algorithms.substitute(lu, permuted, True, True), False, False)

    return run


# ---------------------------------------------------------------------------------------------- decompositions
def _cholesky() -> Callable[..., Any]:
    # Only the lower triangle is read: what is above must not count as a failure.
    return lambda x: _each_matrix(np.linalg.cholesky, np.tril(x))[0]


def _qr(full_matrices: bool, pivoting: bool) -> Callable[..., Any]:
    if pivoting:
        return lambda x: _pivoted_qr(x, full_matrices)
    mode: Literal["complete", "reduced"] = "complete" if full_matrices else "reduced"
    return lambda x: tuple(np.linalg.qr(x, mode=mode))


def _pivoted_qr(x: np.ndarray, full_matrices: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    packed, taus, order = algorithms.pivoted_qr(x)
    rows, rank = x.shape[1], taus.shape[1]
    columns = rows if full_matrices else rank
    reflections = np.zeros((len(x), rows, columns), x.dtype)
    reflections[:, :, :rank] = packed[:, :, :rank]
    return algorithms.householder_product(reflections, taus), np.triu(packed)[:, :columns], order


def _geqrf(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    packed, taus = np.linalg.qr(x, mode="raw")
    return np.swapaxes(packed, 1, 2), taus


def _eigh(lower: bool) -> Callable[..., Any]:
    triangle = np.tril if lower else np.triu
    side: Literal["L", "U"] = "L" if lower else "U"

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w, v = _each_matrix(lambda part: tuple(np.linalg.eigh(part, side)), triangle(x))
        return v, w

    return run


def _eig(left: bool, right: bool, any_scale: bool) -> Callable[..., Any]:
    def solve(x: np.ndarray) -> tuple[np.ndarray, ...]:
        if not (left or right):
            return (np.linalg.eigvals(x).astype(_complex(x.dtype)),)
        w, v = (y.astype(_complex(x.dtype)) for y in np.linalg.eig(x))
        return (w, *((_left_vectors(v),) if left else ()), *((v,) if right else ()))

    return lambda x: _each_matrix(solve, x)


def _left_vectors(v: np.ndarray) -> np.ndarray:
    """The columns of V^-H, normalised."""
    (inverse,) = _each_matrix(np.linalg.inv, v)
    left = np.swapaxes(inverse.conj(), 1, 2)
    return left / np.linalg.norm(left, axis=1, keepdims=True)


def _complex(dtype: np.dtype) -> np.dtype:
    return np.result_type(dtype, np.complex64)


def _svd(full_matrices: bool, compute_uv: bool) -> Callable[..., Any]:
    def solve(x: np.ndarray) -> tuple[np.ndarray, ...]:
        if not compute_uv:
            return (np.linalg.svd(x, compute_uv=False),)
        u, s, vh = np.linalg.svd(x, full_matrices=full_matrices)
        return s, u, vh

    return lambda x: _each_matrix(solve, x)


_register("triangular_solve", (2, 2), _triangular_solve)
_register("linear_solve", (2, 2), _linear_solve)
_register("det", (2,), lambda: np.linalg.det)
_register("tridiagonal_solve", (1, 1, 1, 2), lambda: algorithms.tridiagonal_solve)
_register("cholesky", (2,), _cholesky)
_register("lu", (2,), lambda: algorithms.lu_factor, several=True)
_register(
    "lu_pivots_to_permutation",
    (1,),
    lambda permutation_size: lambda pivots: algorithms.pivots_to_permutation(pivots, permutation_size),
)
_register("qr", (2,), _qr, several=True)
_register("geqrf", (2,), lambda: _geqrf, several=True)
_register("householder_product", (2, 1), lambda: algorithms.householder_product)
_register("eigh", (2,), _eigh, several=True)
_register("eig", (2,), _eig, several=True)
_register("svd", (2,), _svd, several=True)
