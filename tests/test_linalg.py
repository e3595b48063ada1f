"""Linear algebra: values against NumPy and SciPy, derivatives against finite differences, batching, failures, errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import DTypeError, ShapeError, TransformError
from asgfn.numpy import linalg as jla
from asgfn.primitives import linalg
from tests.derivatives import check_derivatives, check_vmap

rng = np.random.default_rng(0)


def matrix(*shape: int, complex_: bool = False) -> np.ndarray:
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape)).astype(np.complex64) if complex_ else x.astype(np.float32)


def adjoint(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(np.conj(x), -1, -2)


def positive(*shape: int, complex_: bool = False) -> np.ndarray:
    x = matrix(*shape, complex_=complex_)
    return x @ adjoint(x) + shape[-1] * np.eye(shape[-1], dtype=np.float32)


def close(actual, expected, tol: float = 2e-4) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tol, atol=tol)


# ------------------------------------------------------------------------------------------ triangular systems
@pytest.mark.parametrize("left_side", [False, True])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("conjugate_a", [False, True])
@pytest.mark.parametrize("unit_diagonal", [False, True])
def test_triangular_solve(left_side, lower, transpose_a, conjugate_a, unit_diagonal):
    a = matrix(2, 5, 5, complex_=True) / 3 + 2 * np.eye(5)
    b = matrix(2, 5, 3, complex_=True) if left_side else matrix(2, 3, 5, complex_=True)
    x = np.asarray(
        linalg.triangular_solve(
            a.astype(np.complex64),
            b,
            left_side=left_side,
            lower=lower,
            transpose_a=transpose_a,
            conjugate_a=conjugate_a,
            unit_diagonal=unit_diagonal,
        )
    )
    op = np.tril(a) if lower else np.triu(a)
    if unit_diagonal:
        op = op - np.einsum("bii,ij->bij", op, np.eye(5)) + np.eye(5)
    op = np.swapaxes(op, 1, 2) if transpose_a else op
    op = op.conj() if conjugate_a else op
    close(op @ x if left_side else x @ op, b)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 100])
def test_triangular_solve_by_blocks(size):
    a = np.tril(matrix(size, size)) / max(size, 1) + np.eye(size, dtype=np.float32)
    b = matrix(size, 2)
    close(linalg.triangular_solve(a, b, left_side=True, lower=True), np.linalg.solve(a, b) if size else b)
    close(linalg.triangular_solve(a.T, b, left_side=True), np.linalg.solve(a.T, b) if size else b)


def test_triangular_solve_takes_vectors():
    a, b = np.tril(positive(3, 3)), matrix(3)
    close(linalg.triangular_solve(a, b, left_side=True, lower=True), np.linalg.solve(a, b))


def test_tridiagonal_solve():
    dl, d, du = (rng.normal(size=(2, 5)).astype(np.float32) for _ in range(3))
    d = d + 6
    b = matrix(2, 5, 3)
    full = np.stack([np.diag(d[k]) + np.diag(dl[k, 1:], -1) + np.diag(du[k, :-1], 1) for k in range(2)])
    close(linalg.tridiagonal_solve(dl, d, du, b), np.linalg.solve(full, b))


# ------------------------------------------------------------------------------------------ decompositions
@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (1, 1), (0, 0), (0, 2, 2)])
def test_cholesky(shape, complex_):
    a = positive(*shape, complex_=complex_)
    close(jla.cholesky(a), np.linalg.cholesky(a))
    close(jla.cholesky(a, upper=True), adjoint(np.linalg.cholesky(a)))


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 3, 4), (70, 40), (40, 70), (0, 3), (3, 0)])
def test_lu(shape, complex_):
    a = matrix(*shape, complex_=complex_)
    packed, pivots, permutation = map(np.asarray, linalg.lu(a))
    rank = min(shape[-2:])
    lower = np.tril(packed[..., :rank], -1) + np.eye(shape[-2], rank)
    upper = np.triu(packed[..., :rank, :])
    close(lower @ upper, np.take_along_axis(a, permutation[..., None], axis=-2), 1e-3)
    assert np.abs(lower).max(initial=0) <= (1.5 if complex_ else 1) + 1e-6  # partial pivoting
    close(linalg.lu_pivots_to_permutation(pivots, shape[-2]), permutation, 0)


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3)])
@pytest.mark.parametrize("full", [False, True])
def test_qr(shape, complex_, full):
    a = matrix(*shape, complex_=complex_)
    q, r = jla.qr(a, mode="complete" if full else "reduced")
    expected = np.linalg.qr(a, mode="complete" if full else "reduced")
    close(q, expected.Q)
    close(r, expected.R)
    q, r, order = map(np.asarray, linalg.qr(a, pivoting=True, full_matrices=full))
    close(q @ r, np.take_along_axis(a, order[..., None, :], axis=-1))
    close(adjoint(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], q.shape[-1], q.shape[-1])))
    sizes = np.abs(np.einsum("...ii->...i", r[..., : min(shape[-2:]), : min(shape[-2:])]))
    assert (np.diff(sizes, axis=-1) <= 1e-5).all()


def test_qr_modes():
    a = matrix(4, 3)
    close(jla.qr(a, mode="r"), np.linalg.qr(a, mode="r"))
    packed, taus = np.linalg.qr(a.astype(np.float64), mode="raw")
    raw = jla.qr(a, mode="raw")
    close(raw.Q, packed)
    close(raw.R, taus)
    close(linalg.householder_product(packed.T.astype(np.float32), taus.astype(np.float32)), np.linalg.qr(a).Q)
    with pytest.raises(ValueError, match="mode must be"):
        jla.qr(a, mode="full")


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3)])
def test_svd(shape, complex_):
    a = matrix(*shape, complex_=complex_)
    for full in (False, True):
        u, s, vh = map(np.asarray, jla.svd(a, full_matrices=full))
        rank = min(shape[-2:])
        close((u[..., :rank] * s[..., None, :]) @ vh[..., :rank, :], a)
        close(s, np.linalg.svd(a, compute_uv=False))
        assert u.shape[-1] == (shape[-2] if full else rank)
    close(jla.svdvals(a), s)
    u, s, vh = linalg.svd(a, full_matrices=False, subset_by_index=(0, 2))
    assert (u.shape[-1], s.shape[-1], vh.shape[-2]) == (2, 2, 2)


def test_svd_of_hermitian():
    a = matrix(4, 4, complex_=True)
    a = a + adjoint(a)
    u, s, vh = map(np.asarray, jla.svd(a, hermitian=True))
    close((u * s) @ vh, a)
    close(s, np.linalg.svd(a, compute_uv=False))
    close(jla.svd(a, hermitian=True, compute_uv=False), s)


@pytest.mark.parametrize("complex_", [False, True])
def test_eigh(complex_):
    a = matrix(2, 4, 4, complex_=complex_)
    a = a + adjoint(a)
    w, v = map(np.asarray, jla.eigh(a))
    close(w, np.linalg.eigvalsh(a))
    close(a @ v, v * w[..., None, :])
    close(jla.eigvalsh(a), w)
    for side, triangle in (("L", np.tril), ("U", np.triu)):
        garbage = triangle(a) + 7 * (1 - triangle(np.ones((4, 4), np.float32)))
        close(jla.eigvalsh(garbage.astype(a.dtype), side, symmetrize_input=False), w)
    v, w = linalg.eigh(a, subset_by_index=(1, 3))
    assert w.shape == (2, 2) and v.shape == (2, 4, 2)


@pytest.mark.parametrize("complex_", [False, True])
def test_eig(complex_):
    a = matrix(2, 4, 4, complex_=complex_)
    w, left, right = map(np.asarray, linalg.eig(a))
    assert w.dtype == left.dtype == right.dtype == np.complex64
    close(a @ right, right * w[..., None, :], 1e-3)
    close(adjoint(left) @ a, w[..., :, None] * adjoint(left), 1e-3)
    close(np.sort_complex(np.asarray(jla.eigvals(a))), np.sort_complex(np.linalg.eigvals(a)), 1e-3)
    close(jla.eig(a).eigenvalues, w)


# ------------------------------------------------------------------------------------------ solving
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 6])
@pytest.mark.parametrize("complex_", [False, True])
def test_solve_inv_det(n, complex_):
    a = matrix(2, n, n, complex_=complex_) + 3 * np.eye(n, dtype=np.float32)
    b = matrix(2, n, 3, complex_=complex_)
    close(jla.solve(a, b), np.linalg.solve(a, b), 1e-3)
    close(jla.solve(a[0], b[0, :, 0]), np.linalg.solve(a[0], b[0, :, 0]), 1e-3)
    close(jla.solve(a[0], b), np.linalg.solve(a[0], b), 1e-3)
    close(jla.inv(a), np.linalg.inv(a), 1e-3)
    np.testing.assert_allclose(jla.det(a), np.linalg.det(a), rtol=1e-4)
    expected = np.linalg.slogdet(a)
    for method in (None, "lu", "qr"):
        sign, log_size = jla.slogdet(a, method=method)
        close(sign, expected.sign)
        close(log_size, expected.logabsdet)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 3, 3)])
def test_pinv_rank_cond(shape):
    a = matrix(*shape)
    close(jla.pinv(a), np.linalg.pinv(a), 1e-3)
    close(jla.matrix_rank(a), np.linalg.matrix_rank(a), 0)
    np.testing.assert_allclose(jla.cond(a), np.linalg.cond(a), rtol=1e-3)
    deficient = np.ones(shape, np.float32)
    close(jla.pinv(deficient), np.linalg.pinv(deficient))
    close(jla.matrix_rank(deficient), np.linalg.matrix_rank(deficient), 0)
    assert jla.matrix_rank(np.zeros(3, np.float32)) == 0


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4)])
@pytest.mark.parametrize("columns", [(), (2,)])
def test_lstsq(shape, columns):
    a, b = matrix(*shape), matrix(shape[0], *columns)
    x, residuals, rank, s = jla.lstsq(a, b, numpy_resid=True)
    expected = np.linalg.lstsq(a, b, rcond=None)
    close(x, expected[0], 1e-3)
    close(residuals, expected[1], 1e-3)
    assert int(rank) == expected[2]
    close(s, expected[3])


def test_tensor_equations():
    a = matrix(4, 6, 8, 3)
    close(jla.tensorinv(a), np.linalg.tensorinv(a), 1e-2)
    a, b = matrix(2, 3, 6), matrix(2, 3)
    close(jla.tensorsolve(a, b), np.linalg.tensorsolve(a, b), 1e-3)


# ------------------------------------------------------------------------------------------ norms and products
@pytest.mark.parametrize("order", [None, 0, 1, 2, 3, 0.5, np.inf, -np.inf, -1])
def test_vector_norms(order):
    x = matrix(3, 4, complex_=True)
    close(jla.norm(x[0], order), np.linalg.norm(x[0], order))
    close(jla.norm(x, order, axis=1, keepdims=True), np.linalg.norm(x, order, axis=1, keepdims=True))
    if order is not None:
        close(jla.vector_norm(x, ord=order), np.linalg.vector_norm(x, ord=order), 1e-3)


@pytest.mark.parametrize("order", ["fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf])
def test_matrix_norms(order):
    x = matrix(3, 4, 2)
    close(jla.norm(x[0], order), np.linalg.norm(x[0], order))
    close(jla.norm(x, order, axis=(2, 0), keepdims=True), np.linalg.norm(x, order, axis=(2, 0), keepdims=True))
    close(jla.matrix_norm(x, ord=order), np.linalg.matrix_norm(x, ord=order))


def test_norm_of_everything():
    x = matrix(2, 3, 4)
    close(jla.norm(x), np.linalg.norm(x))
    close(jla.norm(np.arange(4)), np.linalg.norm(np.arange(4)))
    with pytest.raises(ShapeError, match="must be a vector or a matrix"):
        jla.norm(x, 1)
    with pytest.raises(ValueError, match="not a matrix norm"):
        jla.norm(x[0], 3)


@pytest.mark.parametrize("n", [-2, -1, 0, 1, 2, 5])
def test_matrix_power(n):
    a = matrix(2, 3, 3) + 2 * np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(jla.matrix_power(a, n), np.linalg.matrix_power(a, n), rtol=1e-3, atol=1e-4)


def test_multi_dot():
    arrays = [matrix(4), matrix(4, 7), matrix(7, 2), matrix(2, 5), matrix(5)]
    close(jla.multi_dot(arrays), np.linalg.multi_dot(arrays), 1e-3)
    close(jla.multi_dot(arrays[1:4]), np.linalg.multi_dot(arrays[1:4]), 1e-3)


def test_array_api_forms():
    x, y = matrix(2, 3), matrix(2, 3)
    close(jla.cross(x, y), np.cross(x, y))
    close(jla.outer(x[0], y[1]), np.outer(x[0], y[1]))
    close(jla.trace(matrix(2, 3, 3) * 0 + np.eye(3, dtype=np.float32)), np.full(2, 3.0))
    close(jla.diagonal(x, offset=1), np.diagonal(x, 1, -2, -1))
    close(jla.vecdot(x, y), (x * y).sum(-1))
    close(jla.matrix_transpose(x), x.T)
    with pytest.raises(ShapeError, match="must be vectors"):
        jla.outer(x, y)


# ------------------------------------------------------------------------------------------ derivatives, batching
_SPD = positive(3, 3).astype(np.float64)
_SQUARE = (matrix(3, 3) + 2 * np.eye(3)).astype(np.float64)
_TALL, _WIDE = matrix(4, 3).astype(np.float64), matrix(3, 4).astype(np.float64)
_LOWER = np.tril(_SQUARE) + np.eye(3)
_DIAGONALS = [rng.normal(size=3), rng.normal(size=3) + 5, rng.normal(size=3)]

DERIVATIVES = {
    "cholesky": (linalg.cholesky, _SPD),
    "cholesky of a triangle": (lambda x: linalg.cholesky(x, symmetrize_input=False), _SPD),
    "triangular_solve": (lambda a, b: linalg.triangular_solve(a, b, left_side=True, lower=True), _LOWER, _TALL[:3]),
    "triangular_solve right": (lambda a, b: linalg.triangular_solve(a, b, lower=True, transpose_a=True), _LOWER, _TALL),
    "triangular_solve unit": (
        lambda a, b: linalg.triangular_solve(a, b, lower=True, unit_diagonal=True),
        _LOWER,
        _TALL,
    ),
    "tridiagonal_solve": (linalg.tridiagonal_solve, *_DIAGONALS, _WIDE),
    "linear_solve": (linalg.linear_solve, _SQUARE, _WIDE),
    "linear_solve transposed": (lambda a, b: linalg.linear_solve(a, b, transpose_a=True), _SQUARE, _WIDE),
    "lu": (lambda x: linalg.lu(x)[0], _SQUARE),
    "lu tall": (lambda x: linalg.lu(x)[0], _TALL),
    "lu wide": (lambda x: linalg.lu(x)[0], _WIDE),
    "qr": (lambda x: linalg.qr(x, full_matrices=False), _TALL),
    "qr wide": (linalg.qr, _WIDE),
    "qr pivoting": (lambda x: linalg.qr(x, pivoting=True)[:2], _WIDE),
    "eigh": (lambda x: linalg.eigh(x), _SPD),
    "eigh upper": (lambda x: linalg.eigh(x, lower=False, symmetrize_input=False), _SPD),
    "eigvals": (lambda x: jnp.abs(jla.eigvals(x)), _SQUARE),
    "svd": (lambda x: linalg.svd(x, full_matrices=False), _TALL),
    "svd wide": (lambda x: linalg.svd(x, full_matrices=False), _WIDE),
    "svdvals": (jla.svdvals, _WIDE),
    "det": (linalg.det, _SQUARE),
    "det 4": (jla.det, positive(4, 4).astype(np.float64) / 4),
    "slogdet": (lambda x: jla.slogdet(x).logabsdet, _SQUARE),
    "slogdet qr": (lambda x: jla.slogdet(x, method="qr").logabsdet, _SQUARE),
    "inv": (jla.inv, _SQUARE),
    "solve": (jla.solve, _SQUARE, _WIDE),
    "pinv tall": (jla.pinv, _TALL),
    "pinv wide": (jla.pinv, _WIDE),
    "lstsq": (lambda a, b: jla.lstsq(a, b)[0], _TALL, rng.normal(size=4)),
    "norm": (jla.norm, _TALL),
    "norm 3": (lambda x: jla.norm(x, 3, axis=0), _TALL),
    "nuclear norm": (lambda x: jla.norm(x, "nuc"), _TALL),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives(name):
    f, *args = DERIVATIVES[name]
    check_derivatives(f, *args, tol=2e-4)


def test_complex_derivatives_follow_the_convention_of_jax():
    """For a holomorphic f the gradient of Re f is conj(f'): d tr(A B)/dA = B^T, d log det A / dA = A^-T."""
    with asgfn.enable_x64():
        a = matrix(3, 3, complex_=True).astype(np.complex128) + 2 * np.eye(3)
        gradient = asgfn.grad(lambda x: jnp.trace(jla.inv(x)).real)(a)
        close(gradient, -np.linalg.matrix_power(np.linalg.inv(a), 2).T, 1e-8)
        gradient = asgfn.grad(lambda x: jla.det(x), holomorphic=True)(a)
        close(gradient, np.linalg.det(a) * np.linalg.inv(a).T, 1e-8)


@pytest.mark.parametrize(
    "name", ["cholesky", "triangular_solve", "linear_solve", "lu", "qr", "eigh", "svdvals", "det", "tridiagonal_solve"]
)
def test_vmap(name):
    f, *args = DERIVATIVES[name]
    stacked = [np.stack([a, a + 0.1 * np.eye(*a.shape) if a.ndim == 2 else a], axis=1).astype(np.float32) for a in args]
    check_vmap(f, *stacked, in_axes=(1,) * len(args))


@pytest.mark.parametrize("solve", [linalg.linear_solve, lambda a, b: linalg.triangular_solve(a, b, left_side=True)])
def test_one_matrix_with_many_right_sides_is_factored_once(solve):
    a, b = (np.triu(matrix(3, 3)) + 2 * np.eye(3)).astype(np.float32), matrix(3, 5, 2)
    check_vmap(solve, a, b, in_axes=(None, 1))
    check_vmap(lambda a, b: linalg.triangular_solve(a, b), a, matrix(2, 5, 3), in_axes=(None, 1))
    graph = asgfn.trace(asgfn.vmap(solve, in_axes=(None, 1)))(a, b)
    assert all(node.out_types[0].ndim <= 3 for node in graph.nodes if "solve" in node.primitive.name)
    assert any(node.out_types[0].shape == (3, 10) for node in graph.nodes)


def test_pinv_is_differentiable_where_singular_values_coincide():
    gradient = asgfn.grad(lambda x: (jla.pinv(x) * np.arange(9, dtype=np.float32).reshape(3, 3)).sum())
    close(gradient(np.eye(3, dtype=np.float32)), -np.arange(9).reshape(3, 3))


def test_det_is_differentiable_where_singular():
    a = matrix(4, 4)
    a[3] = a[0] + a[1]
    u, s, vh = np.linalg.svd(a.astype(np.float64))
    adjugate = np.linalg.det(u) * np.linalg.det(vh) * np.prod(s[:3]) * np.outer(vh[3], u[:, 3])
    close(asgfn.grad(jla.det)(a), adjugate.T, 1e-3)
    close(asgfn.grad(jla.det)(np.zeros((2, 2), np.float32)), np.zeros((2, 2)))


# ------------------------------------------------------------------------------------------ failures and errors
def test_failures_are_nan_and_stay_in_their_matrix():
    good, bad, faulty = np.eye(3), -np.eye(3), np.full((3, 3), np.nan)
    stack = np.stack([good, bad, faulty]).astype(np.float32)
    assert np.isnan(np.asarray(jla.cholesky(stack))).all(axis=(1, 2)).tolist() == [False, True, True]
    assert np.isnan(np.asarray(jla.eigvalsh(stack))).any(axis=1).tolist() == [False, False, True]
    assert np.isnan(np.asarray(jla.svdvals(stack))).any(axis=1).tolist() == [False, False, True]
    assert np.isnan(np.asarray(jla.eigvals(stack))).any(axis=1).tolist() == [False, False, True]
    singular = np.stack([np.eye(2), np.ones((2, 2))]).astype(np.float32)
    inverse = np.asarray(jla.inv(singular))
    close(inverse[0], np.eye(2))
    assert not np.isfinite(inverse[1]).any()
    assert jla.slogdet(np.zeros((2, 2), np.float32)).logabsdet == -np.inf
    assert np.isinf(jla.cond(np.ones((2, 2), np.float32), 1))


def test_half_precision_is_computed_in_single():
    a = positive(3, 3).astype(np.float16)
    assert jla.cholesky(a).dtype == np.float16
    assert linalg.cholesky(jnp.asarray(a, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: linalg.cholesky(matrix(3, 2)), ShapeError, r"must be square, got float32\[3,2\]"),
        (lambda: linalg.cholesky(np.ones((2, 2), np.int32)), DTypeError, "floating point or complex"),
        (lambda: linalg.lu(matrix(3)), ShapeError, "matrix or a stack"),
        (lambda: linalg.triangular_solve(matrix(3, 3), matrix(2, 4), left_side=True), ShapeError, "as many rows"),
        (lambda: linalg.triangular_solve(matrix(2, 3, 3), matrix(3, 3, 4), left_side=True), ShapeError, "batch"),
        (lambda: jla.solve(matrix(3, 3), matrix(4)), ShapeError, "b must be"),
        (lambda: jla.inv(matrix(2, 3)), ShapeError, "must be square"),
        (lambda: jla.lstsq(matrix(3, 2), matrix(4)), ShapeError, r"a must be \[m, n\]"),
        (lambda: asgfn.grad(lambda x: jla.eig(x)[1].real.sum())(matrix(3, 3)), TransformError, "eigenvectors"),
        (lambda: asgfn.grad(lambda x: jla.svd(x)[0].sum())(matrix(3, 2)), TransformError, "full_matrices=False"),
        (lambda: asgfn.grad(lambda x: linalg.qr(x)[0].sum())(matrix(3, 2)), TransformError, "mode='reduced'"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_results_have_names():
    a = positive(2, 2)
    assert jla.eigh(a)._fields == ("eigenvalues", "eigenvectors")
    assert jla.svd(a)._fields == ("U", "S", "Vh")
    assert jla.qr(a)._fields == ("Q", "R")
    assert jla.slogdet(a)._fields == ("sign", "logabsdet")
    close(asgfn.jit(jla.slogdet)(a).logabsdet, np.linalg.slogdet(a).logabsdet)


def test_against_scipy_lu():
    a = matrix(5, 5)
    packed, pivots = scipy.linalg.lu_factor(a)
    ours = linalg.lu(a)
    close(ours[0], packed, 1e-4)
    close(ours[1], pivots, 0)
