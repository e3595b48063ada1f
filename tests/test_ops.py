"""Reductions over segments against loops in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import ConcretizationError, DTypeError, ShapeError
from asgfn.ops import segment_max, segment_min, segment_prod, segment_sum
from asgfn.test_util import check_jvp, check_vjp

IDS = np.int32([2, 0, 0, 5, -1, 2, 3])  # 5 and -1 are out of range for four segments
REFERENCE = {
    segment_sum: (np.add, 0),
    segment_prod: (np.multiply, 1),
    segment_max: (np.maximum, None),
    segment_min: (np.minimum, None),
}


def identity(f, dtype):
    start = REFERENCE[f][1]
    if start is not None:
        return start
    sign = -1 if f is segment_max else 1
    if dtype.kind == "b":
        return sign > 0
    if dtype.kind == "f":
        return sign * np.inf
    return np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min


def looped(f, data, ids, n):
    out = np.full((n, *data.shape[1:]), identity(f, data.dtype), data.dtype)
    for row, s in zip(data, ids, strict=True):
        if 0 <= s < n:
            out[s] = REFERENCE[f][0](out[s], row)
    return out


@pytest.mark.parametrize("f", REFERENCE)
@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(7,), (7, 2), (7, 0), (7, 2, 3)])
def test_values(f, dtype, shape):
    if dtype == "bool" and f in (segment_sum, segment_prod):
        with pytest.raises(DTypeError, match="must be numbers"):
            f(np.zeros(shape, bool), IDS, 4)
        return
    data = np.random.default_rng(1).integers(0, 4, shape).astype(dtype)
    for bucket_size in (None, 3, 7, 100):
        got = f(data, IDS, 4, bucket_size=bucket_size)
        assert got.dtype == data.dtype
        np.testing.assert_array_equal(np.asarray(got), looped(f, data, IDS, 4))
    np.testing.assert_array_equal(np.asarray(f(data, IDS)), looped(f, data, IDS, 6))
    assert f(data, IDS, 0).shape == (0, *shape[1:])


@pytest.mark.parametrize("f", REFERENCE)
def test_derivatives(f):
    with asgfn.enable_x64():
        data = np.random.default_rng(2).uniform(0.5, 2, (7, 2))
        for bucket_size in (None, 3):
            g = lambda x, b=bucket_size: f(x, np.int32([2, 0, 0, 5, 1, 2, 3]), 4, bucket_size=b)
            check_jvp(g, (data,))
            check_vjp(g, (data,))


def test_under_transforms():
    data = np.arange(14, dtype=np.float32).reshape(2, 7)
    ids = np.stack([IDS, IDS[::-1]])
    got = asgfn.jit(asgfn.vmap(lambda x, i: segment_sum(x, i, 4)))(data, ids)
    want = np.stack([looped(segment_sum, x, i, 4) for x, i in zip(data, ids, strict=True)])
    np.testing.assert_array_equal(np.asarray(got), want)


def test_mode_and_promises():
    data = jnp.ones(7)
    assert segment_sum(data, IDS, 4, mode="clip").tolist() == [3, 0, 2, 2]
    ids = jnp.array([0, 1, 3])
    assert segment_sum(jnp.arange(3), ids, 5, indices_are_sorted=True, unique_indices=True).tolist() == [0, 1, 0, 2, 0]


def test_empty():
    assert segment_sum(jnp.ones(0), jnp.zeros(0, int), 3).tolist() == [0, 0, 0]
    assert segment_sum(jnp.ones(0), jnp.zeros(0, int)).shape == (0,)


def test_errors():
    with pytest.raises(DTypeError, match="segment_ids must be integers"):
        segment_sum(jnp.ones(3), jnp.ones(3))
    with pytest.raises(ShapeError, match=r"one entry for each row.*float32\[3\].*int32\[2\]"):
        segment_max(jnp.ones(3), jnp.arange(2))
    with pytest.raises(ConcretizationError, match="num_segments must be given"):
        asgfn.jit(lambda i: segment_sum(jnp.ones(7), i))(IDS)
    with pytest.raises(ValueError, match="must not be negative"):
        segment_sum(jnp.ones(7), IDS, -1)
    with pytest.raises(ValueError, match="bucket_size must be positive"):
        segment_sum(jnp.ones(7), IDS, 4, bucket_size=0)
