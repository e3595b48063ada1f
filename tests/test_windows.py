"""reduce_window: values against loops, special values, derivatives, batching, errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import asgfn
from asgfn import lax
from asgfn.errors import DTypeError, ShapeError
from tests.derivatives import check_derivatives, check_vmap

rng = np.random.default_rng(0)


def slow_windows(x, init, combine, lengths, strides, padding, spread, gaps):
    """Pads with the init value, then combines each window's elements one by one."""
    padded = np.full([(n - 1) * d + 1 + lo + hi for n, d, (lo, hi) in zip(x.shape, spread, padding)], init, x.dtype)
    for i in np.ndindex(*x.shape):
        at = tuple(a * d + lo for a, d, (lo, _) in zip(i, spread, padding))
        if all(0 <= a < n for a, n in zip(at, padded.shape)):
            padded[at] = x[i]
    spans = [(k - 1) * g + 1 for k, g in zip(lengths, gaps)]
    out = np.zeros([max((n - k) // s + 1, 0) for n, k, s in zip(padded.shape, spans, strides)], x.dtype)
    for p in np.ndindex(*out.shape):
        total = np.asarray(init, x.dtype)
        for k in itertools.product(*map(range, lengths)):
            total = combine(total, padded[tuple(i * s + j * g for i, s, j, g in zip(p, strides, k, gaps))])
        out[p] = total
    return out


# shape, window_dimensions, window_strides, padding, base_dilation, window_dilation
WINDOWS = [
    ((6,), (3,), (1,), ((0, 0),), (1,), (1,)),
    ((7, 6), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    ((5, 6), (3, 2), (2, 1), ((1, 1), (0, 2)), (1, 1), (1, 1)),
    ((5, 6), (2, 3), (1, 3), ((1, 0), (2, 1)), (1, 1), (2, 1)),
    ((4, 3), (2, 3), (1, 2), ((1, 2), (1, 1)), (2, 3), (1, 2)),
    ((6, 5), (3, 1), (1, 1), ((-1, 1), (-1, -1)), (1, 1), (1, 1)),
    ((1, 4, 4, 2), (1, 4, 4, 1), (1, 1, 1, 1), ((0, 0),) * 4, (1,) * 4, (1,) * 4),
    ((40,), (17,), (2,), ((3, 2),), (1,), (1,)),
    ((60,), (16,), (1,), ((0, 9),), (1,), (2,)),
    ((3, 2), (4, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1)),
]
MONOIDS = {"add": (0.0, np.add), "max": (-np.inf, np.maximum), "min": (np.inf, np.minimum), "mul": (1.0, np.multiply)}


@pytest.mark.parametrize("name", MONOIDS)
@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_reduce_window(case, name):
    init, ufunc = MONOIDS[name]
    x = rng.normal(size=case[0])
    f = lambda a: lax.reduce_window(a, init, getattr(lax, name), *case[1:])
    expected = slow_windows(x, init, ufunc, *case[1:])
    with asgfn.enable_x64():
        np.testing.assert_allclose(f(x), expected, atol=1e-12)
    if name != "mul":
        if np.isfinite(expected).all():  # no window is made of padding alone
            check_derivatives(f, x)
        check_vmap(f, np.stack([x, -x, 2 * x], -1).astype(np.float32), in_axes=(-1,))
        gradient = asgfn.grad(lambda a, b: lax.reduce_sum(lax.mul(f(a), b), tuple(range(a.ndim))))
        weights = rng.normal(size=f(x).shape).astype(np.float32)
        check_vmap(gradient, np.stack([x, -x, 2 * x], 1).astype(np.float32), weights, in_axes=(1, None))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float16", "bool"])
def test_reduce_window_dtypes(dtype):
    x = rng.integers(0, 100, (5, 6)).astype(dtype)
    case = ((2, 3), (1, 2), ((1, 0), (1, 1)), (1, 1), (1, 1))
    inits = {
        "max": np.iinfo(dtype).min if dtype[-1] in "28" and dtype[0] in "iu" else -np.inf if dtype != "bool" else False
    }
    if dtype != "bool":
        inits["add"] = 0
    for name, init in inits.items():
        out = lax.reduce_window(x, np.asarray(init, dtype), getattr(lax, name), *case)
        assert out.dtype == dtype
        np.testing.assert_array_equal(out, slow_windows(x, init, MONOIDS[name][1], *case))
    if dtype == "bool":
        out = lax.reduce_window(x, False, lax.bitwise_or, *case)
        np.testing.assert_array_equal(out, slow_windows(x, False, np.logical_or, *case))


@pytest.mark.parametrize("padding", ["SAME", "VALID", "SAME_LOWER"])
def test_pooling(padding):
    """As layers use it: NHWC images, windows of 3 with steps of 2."""
    x = rng.normal(size=(2, 7, 6, 3)).astype(np.float32)
    pool = lambda init, function: lax.reduce_window(x, init, function, (1, 3, 3, 1), (1, 2, 2, 1), padding)
    high = pool(-np.inf, lax.max)
    mean = np.asarray(pool(0.0, lax.add)) / np.asarray(
        lax.reduce_window(np.ones_like(x), 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), padding)
    )
    sizes = [3, 2] if padding == "VALID" else [4, 3]
    starts = [{"SAME": [-1, 0], "SAME_LOWER": [-1, -1], "VALID": [0, 0]}[padding][i] for i in range(2)]
    for i, j in np.ndindex(*sizes):
        top, left = starts[0] + 2 * i, starts[1] + 2 * j
        window = x[:, max(top, 0) : top + 3, max(left, 0) : left + 3]
        np.testing.assert_allclose(np.asarray(high)[:, i, j], window.max((1, 2)))
        np.testing.assert_allclose(mean[:, i, j], window.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_gradient_of_a_tie_goes_to_the_first():
    f = lambda a: lax.reduce_sum(lax.reduce_window(a, -np.inf, lax.max, (2, 2), (2, 2)), (0, 1))
    x = np.float32([[1, 1, 0, 2], [1, 1, 2, 2]])
    np.testing.assert_array_equal(asgfn.grad(f)(x), [[1, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(asgfn.grad(lambda a: -f(-a))(x), [[1, 0, 1, 0], [0, 0, 0, 0]])


def test_nan_wins_in_its_windows():
    x = np.float32([0, np.nan, 1, 2, -np.inf, -np.inf])
    f = lambda a: lax.reduce_window(a, -np.inf, lax.max, (2,), (1,), "SAME")
    np.testing.assert_array_equal(f(x), [np.nan, np.nan, 2, 2, -np.inf, -np.inf])
    gradient = asgfn.vjp(f, x)[1](np.float32([1, 10, 100, 1000, 10000, 100000]))[0]
    np.testing.assert_array_equal(gradient, [0, 11, 0, 1100, 10000, 100000])


def test_recognised_and_other_functions():
    x = rng.normal(size=(5, 4)).astype(np.float32)
    names = lambda f: [n.primitive.name for n in asgfn.trace(f)(x).nodes]
    window = ((2, 2), (1, 1))
    assert names(lambda a: lax.reduce_window(a, 0.0, lax.add, *window)) == ["reduce_window_sum"]
    assert names(lambda a: lax.reduce_window(a, 0.0, lambda p, q: q + p, *window)) == ["reduce_window_sum"]
    assert names(lambda a: lax.reduce_window(a, 1.5, lax.max, *window)) == ["reduce_window_max", "max"]
    case = ((2, 2), (1, 1), ((1, 0), (0, 1)), (1, 1), (1, 1))
    for name, init in (("add", 1.5), ("max", 0.25)):  # padding is made of the init value
        out = lax.reduce_window(x, init, getattr(lax, name), *case)
        np.testing.assert_allclose(out, slow_windows(x, init, MONOIDS[name][1], *case), rtol=1e-4, atol=1e-6)
    check_derivatives(lambda a: lax.reduce_window(a, 0.0, lambda p, q: p + q + p * q, *case), x)


def test_reduce_window_of_several_arrays():
    def larger(p, q):
        (a, i), (b, j) = p, q
        keep = lax.ge(a, b)
        return lax.select(keep, a, b), lax.select(keep, i, j)

    x = rng.normal(size=9).astype(np.float32)
    value, where = lax.reduce_window((x, np.arange(9, dtype=np.int32)), (-np.inf, np.int32(-1)), larger, (3,), (2,))
    expected = [x[i : i + 3].argmax() + i for i in range(0, 7, 2)]
    np.testing.assert_array_equal(where, expected)
    np.testing.assert_array_equal(value, x[expected])


def test_window_errors():
    x = np.ones((4, 4), np.float32)
    with pytest.raises(ShapeError, match="window_dimensions"):
        lax.reduce_window(x, 0.0, lax.add, (2,))
    with pytest.raises(ShapeError, match="at least 1"):
        lax.reduce_window(x, 0.0, lax.add, (2, 2), (1, 0))
    with pytest.raises(ShapeError, match="padding"):
        lax.reduce_window(x, 0.0, lax.add, (2, 2), (1, 1), ((0, 0),))
    with pytest.raises(ShapeError, match="removes more"):
        lax.reduce_window(x, 0.0, lax.add, (1, 1), (1, 1), ((-3, -3), (0, 0)))
    with pytest.raises(DTypeError, match="init value"):
        lax.reduce_window(x, np.int32(0), lax.add, (2, 2))
    with pytest.raises(ShapeError, match="scalars"):
        lax.reduce_window(x, np.zeros(2, np.float32), lax.add, (2, 2))
