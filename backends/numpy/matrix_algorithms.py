"""Matrix algorithms that NumPy lacks, vectorised over a leading batch axis: [b, m, n] arrays throughout.

Their loops run over the rows or columns of a matrix, never over elements or over the batch, and hand the bulk of the
work to matrix products by blocks of `_BLOCK`.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 32


def substitute(a: np.ndarray, b: np.ndarray, lower: bool, unit_diagonal: bool) -> np.ndarray:
    """Solves a x = b for triangular a [b, n, n] and right-hand sides b [b, n, m], by recursive halving."""
    size = a.shape[-1]
    if size <= _BLOCK:
        return _substitute_rows(a, b, lower, unit_diagonal)
    half = size // 2
    first, second = (slice(0, half), slice(half, size)) if lower else (slice(half, size), slice(0, half))
    x = np.empty_like(b)
    x[:, first] = substitute(a[:, first, first], b[:, first], lower, unit_diagonal)
    rest = b[:, second] - a[:, second, first] @ x[:, first]
    x[:, second] = substitute(a[:, second, second], rest, lower, unit_diagonal)
    return x


def _substitute_rows(a: np.ndarray, b: np.ndarray, lower: bool, unit_diagonal: bool) -> np.ndarray:
    size = a.shape[-1]
    x = b.copy()
    for row in range(size) if lower else reversed(range(size)):
        known = slice(0, row) if lower else slice(row + 1, size)
        x[:, row] -= (a[:, row : row + 1, known] @ x[:, known])[:, 0]
        if not unit_diagonal:
            x[:, row] /= a[:, row, row, None]
    return x


def lu_factor(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """LAPACK's getrf: packed factors, the row exchanged with in each step, and the resulting order of rows."""
    x = matrices.copy()
    batch, rows, columns = x.shape
    rank = min(rows, columns)
    pivots = np.empty((batch, rank), np.int32)
    permutation = np.tile(np.arange(rows, dtype=np.int32), (batch, 1))
    for start in range(0, rank, _BLOCK):
        stop = min(start + _BLOCK, rank)
        _factor_panel(x, pivots, permutation, start, stop)
        if stop < columns:
            x[:, start:stop, stop:] = substitute(x[:, start:stop, start:stop], x[:, start:stop, stop:], True, True)
            x[:, stop:, stop:] -= x[:, stop:, start:stop] @ x[:, start:stop, stop:]
    return x, pivots, permutation


def _factor_panel(x: np.ndarray, pivots: np.ndarray, permutation: np.ndarray, start: int, stop: int) -> None:
    everything = np.arange(x.shape[0])
    for column in range(start, stop):
        candidates = x[:, column:, column]
        # LAPACK's measure of a complex number's size.
        sizes = np.abs(candidates.real) + np.abs(candidates.imag) if np.iscomplexobj(x) else np.abs(candidates)
        pivot = column + np.argmax(sizes, axis=1)
        pivots[:, column] = pivot
        for array in (x, permutation):
            moved = array[everything, pivot].copy()
            array[everything, pivot] = array[:, column]
            array[:, column] = moved
        value = x[:, column, column]
        # A zero pivot means that the column is zero already.
        x[:, column + 1 :, column] /= np.where(value == 0, 1, value)[:, None]
        x[:, column + 1 :, column + 1 : stop] -= (
            x[:, column + 1 :, column, None] * x[:, column, None, column + 1 : stop]
        )


def pivots_to_permutation(pivots: np.ndarray, size: int) -> np.ndarray:
    """The order of `size` rows after exchanging row i with row pivots[:, i] for each i in turn."""
    batch, steps = pivots.shape
    permutation = np.tile(np.arange(size, dtype=pivots.dtype), (batch, 1))
    everything = np.arange(batch)
    for step in range(steps):
        other = pivots[:, step]
        moved = permutation[everything, other].copy()
        permutation[everything, other] = permutation[:, step]
        permutation[:, step] = moved
    return permutation


def householder_product(a: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """The first n columns of the product of the reflections I - tau v v^H packed below the diagonal of a."""
    _, rows, columns = a.shape
    q = np.broadcast_to(np.eye(rows, columns, dtype=a.dtype), a.shape).copy()
    for k in reversed(range(taus.shape[1])):
        v = a[:, k:, k].copy()
        v[:, 0] = 1
        _reflect(q[:, k:, k:], v, taus[:, k])
    return q


def _reflect(x: np.ndarray, v: np.ndarray, tau: np.ndarray) -> None:
    """x -= tau v (v^H x), in place."""
    x -= (tau[:, None] * v)[:, :, None] * (v[:, None, :].conj() @ x)


def pivoted_qr(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Householder QR with column pivoting: packed reflections and r, the factors tau, and the order of columns."""
    x = matrices.copy()
    batch, rows, columns = x.shape
    rank = min(rows, columns)
    taus = np.zeros((batch, rank), x.dtype)
    order = np.tile(np.arange(columns, dtype=np.int32), (batch, 1))
    everything = np.arange(batch)
    for k in range(rank):
        # Recomputing the norms costs as much as the step itself and cannot lose accuracy by downdating.
        chosen = k + np.argmax(np.linalg.norm(x[:, k:, k:], axis=1), axis=1)
        for array, axis_last in ((x, True), (order, False)):
            by_column = np.moveaxis(array, -1, 1) if axis_last else array
            moved = by_column[everything, chosen].copy()
            by_column[everything, chosen] = by_column[:, k]
            by_column[:, k] = moved
        v, tau, diagonal = _reflection(x[:, k:, k])
        taus[:, k] = tau
        # LAPACK applies the adjoint of the reflection to the matrix.
        _reflect(x[:, k:, k + 1 :], v, tau.conj())
        x[:, k + 1 :, k] = v[:, 1:]
        x[:, k, k] = diagonal
    return x, taus, order


def _reflection(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """v, tau and beta with (I - tau v v^H)^H x = beta e_1, v_1 = 1 and beta real (LAPACK's larfg)."""
    alpha = x[:, 0]
    norm = np.linalg.norm(x, axis=1)
    tail = np.linalg.norm(x[:, 1:], axis=1)
    trivial = (tail == 0) & (alpha.imag == 0)
    beta = np.where(alpha.real < 0, norm, -norm).astype(x.dtype)
    safe_beta = np.where(trivial, 1, beta)
    tau = np.where(trivial, 0, (safe_beta - alpha) / safe_beta)
    v = x / np.where(trivial, 1, alpha - safe_beta)[:, None]
    v[:, 1:] = np.where(trivial[:, None], 0, v[:, 1:])
    v[:, 0] = 1
    return v, tau, np.where(trivial, alpha, beta)


def tridiagonal_solve(dl: np.ndarray, d: np.ndarray, du: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Thomas's elimination: diagonals [b, n], right-hand sides [b, n, m]."""
    size = d.shape[1]
    if not size:
        return b.copy()
    upper, x = np.empty_like(d), np.empty_like(b)
    upper[:, 0] = du[:, 0] / d[:, 0]
    x[:, 0] = b[:, 0] / d[:, 0, None]
    for row in range(1, size):
        pivot = d[:, row] - dl[:, row] * upper[:, row - 1]
        upper[:, row] = du[:, row] / pivot
        x[:, row] = (b[:, row] - dl[:, row, None] * x[:, row - 1]) / pivot[:, None]
    for row in reversed(range(size - 1)):
        x[:, row] -= upper[:, row, None] * x[:, row + 1]
    return x
