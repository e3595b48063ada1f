"""sort and top_k: order of special values, stability, several keys, derivatives, batching, errors."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import asgfn
from asgfn import lax
from asgfn.errors import AxisError, DTypeError, ShapeError
from tests.derivatives import check_derivatives, check_vmap

rng = np.random.default_rng(0)
x345 = rng.normal(size=(3, 4, 5))
SPECIAL = np.array([0.0, -0.0, np.nan, -np.inf, np.inf, -1, 0, -0.0, 1])


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_sort(axis):
    with asgfn.enable_x64():
        np.testing.assert_array_equal(lax.sort(x345, axis), np.sort(x345, axis))
    check_derivatives(lambda a: lax.sort(a, axis), x345)
    check_vmap(lambda a: lax.sort(a, axis), np.stack([x345, -x345], 1).astype(np.float32), in_axes=(1,))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ml_dtypes.bfloat16])
def test_sort_special_values(dtype):
    with asgfn.enable_x64():
        x = SPECIAL.astype(dtype)
        out = np.asarray(lax.sort(x)).astype(float)
        np.testing.assert_array_equal(out, [-np.inf, -1, 0, 0, 0, 0, 1, np.inf, np.nan])
        np.testing.assert_array_equal(np.signbit(out[2:6]), [0, 1, 0, 1])  # -0.0 equals 0.0 and stays in place
        _, order = lax.sort_key_val(x, np.arange(9))
        np.testing.assert_array_equal(order, [3, 5, 0, 1, 6, 7, 8, 4, 2])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint64"])
def test_sort_integers(dtype):
    x = rng.integers(0, 300, 50).astype(dtype)
    with asgfn.enable_x64():
        out, order = lax.sort((x, np.arange(50)))
    np.testing.assert_array_equal(out, np.sort(x))
    np.testing.assert_array_equal(order, np.argsort(x, kind="stable"))


def test_sort_several_operands():
    first, second = rng.integers(0, 3, (2, 30)), rng.integers(0, 3, (2, 30))
    with asgfn.enable_x64():
        a, b, c = lax.sort((first, second, np.broadcast_to(np.arange(30), (2, 30))), num_keys=2)
        order = np.lexsort([second, first], axis=-1)
        for out, source in ((a, first), (b, second)):
            np.testing.assert_array_equal(out, np.take_along_axis(source, order, -1))
        np.testing.assert_array_equal(c, order)
        z = np.array([1 + 2j, 1j, 1 - 1j, 0])
        np.testing.assert_array_equal(lax.sort(z), [0, 1j, 1 - 1j, 1 + 2j])
    check_derivatives(lambda a, b: lax.sort((a, b), 0), x345, -(x345**2))
    check_vmap(lambda a, b: lax.sort((a, b), 0), x345.astype(np.float32), x345[0].astype(np.float32), in_axes=(0, None))


@pytest.mark.parametrize("axis, k", [(0, 2), (1, 4), (2, 1), (-1, 0)])
def test_top_k(axis, k):
    with asgfn.enable_x64():
        values, index = lax.top_k(x345, k, axis=axis)
        descending = np.flip(np.sort(x345, axis), axis)
        np.testing.assert_array_equal(values, np.take(descending, range(k), axis))
        np.testing.assert_array_equal(np.take_along_axis(x345, np.asarray(index), axis), values)
    assert index.dtype == np.int32
    check_derivatives(lambda a: lax.top_k(a, k, axis=axis)[0], x345)
    check_vmap(lambda a: lax.top_k(a, k, axis=axis), np.stack([x345, -x345], 1).astype(np.float32), in_axes=(1,))


@pytest.mark.parametrize("length, k", [(30, 20), (200, 5)])  # sorts everything, sorts what is above a threshold
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float16", "float32", "bool"])
def test_top_k_takes_the_first_of_equals(length, k, dtype):
    x = rng.integers(0, 9, (4, length)).astype(dtype)
    values, index = lax.top_k(x, k)
    order = np.argsort(-x.astype(int), axis=-1, kind="stable")[:, :k]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, -1))


def test_top_k_special_values():
    with asgfn.enable_x64():
        _, index = lax.top_k(np.append(SPECIAL, -np.nan), 10)
    np.testing.assert_array_equal(index, [2, 4, 8, 0, 6, 1, 7, 5, 3, 9])


def test_sorting_errors():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(AxisError, match="axis 2"):
        lax.sort(x, 2)
    with pytest.raises(ShapeError, match="one shape"):
        lax.sort((x, x.T))
    with pytest.raises(ShapeError, match="num_keys=3"):
        lax.sort((x, x), num_keys=3)
    with pytest.raises(ShapeError, match="empty"):
        lax.sort(())
    with pytest.raises(ShapeError, match="k=4"):
        lax.top_k(x, 4)
    with pytest.raises(DTypeError, match="complex64"):
        lax.top_k(x.astype(np.complex64), 1)
