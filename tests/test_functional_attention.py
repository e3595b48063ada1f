"""Attention: against PyTorch, rows that see nothing, 16 bits, dropout, and transforms."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn.functional as F
from asgfn.errors import DTypeError, ShapeError
from tests.references import assert_case, normal
from tests.references.functional_attention import CASES

attend = F.scaled_dot_product_attention


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_pytorch(case):
    assert_case("functional_attention", case, F)


def qkv(*shape: int, dtype=np.float32):
    return [jnp.asarray(normal(f"{what} {shape}", *shape).astype(dtype)) for what in "qkv"]


def test_rows_that_see_nothing_are_zero_with_gradient_zero():
    q, k, v = qkv(2, 3, 4)
    boolean = np.ones((2, 3, 3), bool)
    boolean[0, 1] = False
    additive = np.where(boolean, 0, -np.inf).astype(np.float32)
    for mask in (boolean, additive):
        out = attend(q, k, v, mask)
        np.testing.assert_array_equal(out[0, 1], 0)
        gradients = asgfn.grad(lambda *args, m=mask: jnp.sum(jnp.sin(attend(*args, m))), (0, 1, 2))(q, k, v)
        assert all(np.isfinite(g).all() for g in gradients)
        np.testing.assert_array_equal(gradients[0][0, 1], 0)
    nothing = asgfn.grad(lambda k: jnp.sum(attend(q, k, v, np.zeros((3, 3), bool))))(k)
    np.testing.assert_array_equal(nothing, 0)


def test_no_keys_and_no_queries():
    q, k, v = qkv(2, 3, 4)
    np.testing.assert_array_equal(attend(q, k[:, :0], v[:, :0]), jnp.zeros((2, 3, 4)))
    assert attend(q[:, :0], k, v).shape == (2, 0, 4)
    assert attend(q[:0], k[:0], v[:0]).shape == (0, 3, 4)


def test_nan_is_not_hidden_by_an_additive_mask():
    q, k, v = qkv(2, 3, 4)
    out = attend(q.at[0, 0, 0].set(np.nan), k, v, np.zeros((3, 3), np.float32))
    assert np.isnan(out[0, 0]).all() and np.isfinite(out[1]).all()


def test_a_mask_and_causal_must_both_allow():
    q, k, v = qkv(2, 4, 3)
    mask = np.ones((4, 4), bool)
    mask[:, 1] = False
    both = mask & np.tril(np.ones((4, 4), bool))
    np.testing.assert_allclose(attend(q, k, v, mask, is_causal=True), attend(q, k, v, both), rtol=1e-6)
    additive = np.where(mask, 0, -np.inf).astype(np.float32)
    np.testing.assert_allclose(attend(q, k, v, additive, is_causal=True), attend(q, k, v, both), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_scores_of_16_bits_do_not_overflow(dtype):
    q, k, v = (x * s for x, s in zip(qkv(2, 5, 64), (60, 60, 1), strict=True))
    out = attend(q.astype(dtype), k.astype(dtype), v.astype(dtype), is_causal=True)
    assert out.dtype == dtype
    exact = attend(*(x.astype(dtype).astype(np.float32) for x in (q, k, v)), is_causal=True)
    np.testing.assert_allclose(out.astype(np.float32), exact, atol=0.03)


def test_dropout_drops_weights_and_keeps_the_mean():
    q = k = jnp.zeros((1, 200, 4))
    v = jnp.ones((1, 200, 4))
    key = asgfn.random.key(1)
    out = attend(q, k, v, dropout_p=0.5, dropout_key=key)
    # each row is the mean of 200 weights that are 0 or 2
    np.testing.assert_array_equal(out, attend(q, k, v, dropout_p=0.5, dropout_key=key))
    assert abs(float(jnp.mean(out)) - 1) < 0.03 and float(jnp.std(out)) > 0.03
    np.testing.assert_array_equal(attend(q, k, v, dropout_p=1.0, dropout_key=key), 0)
    np.testing.assert_allclose(attend(q, k, v, dropout_p=0.0), 1, rtol=1e-6)


def test_agrees_with_the_layout_of_jax():
    q, k, v = qkv(2, 6, 5, 4)
    k, v = k[:, :2], v[:, :2]
    ours = attend(q, k, v, is_causal=True, enable_gqa=True)
    swapped = [jnp.swapaxes(x, 1, 2) for x in (q, k, v)]
    theirs = asgfn.nn.dot_product_attention(*swapped, is_causal=True)
    np.testing.assert_allclose(ours, jnp.swapaxes(theirs, 1, 2), rtol=1e-5, atol=1e-6)


def test_under_transforms():
    q, k, v = qkv(3, 2, 4, 5)
    mask = normal("transforms", 3, 1, 4, 4) > -0.5
    loss = lambda q, k, v, m: jnp.sum(jnp.cos(attend(q, k, v, m, is_causal=True)))
    gradients = asgfn.grad(loss, (0, 1, 2))
    mapped = asgfn.jit(asgfn.vmap(gradients))(q, k, v, mask)
    for i in range(3):
        for found, expected in zip(mapped, gradients(q[i], k[i], v[i], mask[i]), strict=True):
            np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)


def test_mistakes_are_named():
    q, k, v = qkv(2, 3, 4)
    with pytest.raises(ShapeError, match=r"attn_mask must broadcast to \[..., L, S\] = \(2, 3, 3\), got bool\[2,3\]"):
        attend(q, k, v, np.ones((2, 3), bool))
    with pytest.raises(ShapeError, match="attn_mask must broadcast"):
        attend(q, k, v, np.ones((5, 2, 3, 3), bool))
    with pytest.raises(DTypeError, match="attn_mask must be boolean"):
        attend(q, k, v, np.ones((3, 3), np.int32))
    with pytest.raises(ShapeError, match="same number of features"):
        attend(q, k[..., :2], v)
    with pytest.raises(ShapeError, match="key and value must agree"):
        attend(q, k, v[:, :2])
    with pytest.raises(ShapeError, match=r"same leading axes.*enable_gqa"):
        attend(q, k[:1], v[:1])
    with pytest.raises(ShapeError, match="multiple of the key heads"):
        attend(q[:, None].repeat(3, 1), k[:, None].repeat(2, 1), v[:, None].repeat(2, 1), enable_gqa=True)
    with pytest.raises(DTypeError, match="one dtype"):
        attend(q.astype(np.float16), k, v)
    with pytest.raises(ValueError, match="needs a random key: pass dropout_key"):
        attend(q, k, v, dropout_p=0.1)
    with pytest.raises(ValueError, match="probability"):
        attend(q, k, v, dropout_p=1.1, dropout_key=asgfn.random.key(0))
