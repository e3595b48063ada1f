"""`lax` functions that are made of several primitives: pieces, approximate selection, ragged products, axis exchange."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.test_util import check_jvp, check_vjp

X = np.random.default_rng(4).normal(size=(3, 4, 5)).astype(np.float32)


def same(got, want):
    np.testing.assert_array_equal(np.asarray(got), want)


def test_stack_and_unstack():
    for axis in (0, 1, -1):
        same(lax.stack([X, X + 1], axis), np.stack([X, X + 1], axis))
        same(lax.stack(lax.unstack(X, axis), axis), X)
    with pytest.raises(ShapeError, match="of one shape"):
        lax.stack([X, X[0]])
    with pytest.raises(ShapeError, match="one or more"):
        lax.stack([])


def test_split():
    pieces = lax.split(X, [1, 0, 3], axis=1)
    assert [p.shape for p in pieces] == [(3, 1, 5), (3, 0, 5), (3, 3, 5)]
    same(lax.concatenate(pieces, 1), X)
    with pytest.raises(ShapeError, match=r"split: sizes \(1, 2\) must add up"):
        lax.split(X, [1, 2], axis=1)


def test_tile():
    same(lax.tile(X, (2, 1, 3)), np.tile(X, (2, 1, 3)))
    assert lax.tile(X, (0, 1, 1)).shape == (0, 4, 5)
    with pytest.raises(ShapeError, match="one count"):
        lax.tile(X, (2, 1))


def test_index_take():
    same(lax.index_take(X, (np.array([0, 2]), np.array([3, 1])), (0, 2)), np.stack([X[0, :, 3], X[2, :, 1]]))
    same(lax.index_take(X, (np.array([9]),), (1,)), X[:, 3][None])


def test_broadcasting():
    assert lax.broadcast_shapes((3, 1), (4,), 1) == (3, 4)
    same(lax.broadcast_like(X[0, :1], X), np.broadcast_to(X[0, :1], X.shape))
    with pytest.raises(ShapeError, match="broadcast_like"):
        lax.broadcast_like(X, X[0])
    same(lax.broadcast_in_dim(X[0], (5, 2, 4), (2, 0)), np.broadcast_to(X[0].T[:, None], (5, 2, 4)))
    check_vjp(lambda v: lax.broadcast_in_dim(v, (5, 2, 4), (2, 0)) ** 2, (X[0],), rtol=1e-2, atol=1e-2)
    with pytest.raises(ShapeError, match="distinct"):
        lax.broadcast_in_dim(X[0], (5, 4), (1, 1))


def test_approximate_selection_is_exact():
    for f, order in ((lax.approx_max_k, -1), (lax.approx_min_k, 1)):
        values, index = f(X, 2, reduction_dimension=1, recall_target=0.5)
        want = np.argsort(order * X, 1, kind="stable")[:, :2]
        same(index, want)
        same(values, np.take_along_axis(X, want, 1))
        check_jvp(lambda x, f=f: f(x, 2)[0], (X,), rtol=1e-2, atol=1e-2)
        with pytest.raises(DTypeError, match="floating point"):
            f(jnp.arange(4), 2)


@pytest.mark.parametrize("sizes", [[2, 0, 4], [6, 0, 0], [1, 1, 1], [0, 0, 0]])
def test_ragged_dot(sizes):
    with asgfn.enable_x64():
        rng = np.random.default_rng(1)
        lhs, rhs = rng.normal(size=(6, 4)), rng.normal(size=(3, 4, 2))
        want, at = np.zeros((6, 2)), 0
        for g, n in enumerate(sizes):
            want[at : at + n] = lhs[at : at + n] @ rhs[g]
            at += n
        f = lambda a, b: lax.ragged_dot(a, b, np.int32(sizes))
        np.testing.assert_allclose(np.asarray(asgfn.jit(f)(lhs, rhs)), want, rtol=1e-12)
        check_vjp(f, (lhs, rhs))
        mapped = asgfn.vmap(lambda n: lax.ragged_dot(lhs, rhs, n))(np.int32([sizes, [1, 2, 3]]))
        np.testing.assert_allclose(np.asarray(mapped[0]), want, rtol=1e-12)


def test_ragged_dot_errors():
    with pytest.raises(ShapeError, match=r"float32\[6,4\], float32\[3,5,2\]"):
        lax.ragged_dot(jnp.ones((6, 4)), jnp.ones((3, 5, 2)), jnp.ones(3, int))
    with pytest.raises(DTypeError, match="integers"):
        lax.ragged_dot(jnp.ones((6, 4)), jnp.ones((3, 4, 2)), jnp.ones(3))


def test_pswapaxes():
    x = np.arange(9).reshape(3, 3)
    same(asgfn.vmap(lambda v: lax.pswapaxes(v, "i", 0), axis_name="i")(x), x.T)


def test_primitives_by_name():
    assert lax.sin_p.name == "sin" and lax.dot_general_p is lax.dot_general_p
    with pytest.raises(AttributeError, match="nothing_p"):
        _ = lax.nothing_p
    assert lax.linalg.cholesky(jnp.eye(2)).shape == (2, 2)
