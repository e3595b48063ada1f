"""Sorting, searching, sets, histograms, polynomials and signals of `asgfn.numpy`, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp

RNG = np.random.default_rng(3)
X = RNG.integers(0, 9, (4, 6)).astype(np.float32)


def same(got, expected, tolerance=2e-5):
    if isinstance(expected, tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            same(one, other, tolerance)
        return
    assert np.shape(got) == np.shape(expected)
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_sorting(axis):
    same(jnp.sort(X, axis), np.sort(X, axis))
    same(jnp.argsort(X, axis), np.argsort(X, axis, kind="stable"))
    order = jnp.argsort(X, axis, descending=True)
    flat = np.asarray(X).ravel() if axis is None else X
    same(np.take_along_axis(flat, np.asarray(order), axis or 0), np.flip(np.sort(X, axis), axis or 0))
    kth = 2
    parts = np.asarray(jnp.partition(X, kth, axis))
    same(np.take(parts, kth, axis or 0), np.take(np.sort(X, axis), kth, axis or 0))


def test_order_beside_the_partition():
    x = jnp.array([3, 1, 2, 5, 4, 1])
    assert jnp.partition(x, 2).tolist() == [1, 1, 2, 5, 4, 3]
    assert jnp.partition(x, -1).tolist() == [1, 1, 2, 3, 4, 5]
    assert jnp.argpartition(x, 2).tolist() == [1, 5, 2, 0, 3, 4]
    assert jnp.argpartition(x, (0, 2)).tolist() == [1, 5, 2, 0, 4, 3]


def test_descending_ties_keep_their_order():
    assert jnp.argsort(jnp.array([1, 2, 1, 2]), descending=True).tolist() == [1, 3, 0, 2]


def test_nan_sorts_last():
    assert np.isnan(jnp.sort(jnp.array([np.nan, 1.0, 2.0]))[-1].item())


def test_lexsort():
    keys = (X[0], X[1], X[2])
    same(jnp.lexsort(keys), np.lexsort(keys))


@pytest.mark.parametrize("method", ["default", "scan", "scan_unrolled", "sort", "compare_all"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("size", [1, 7, 40])
def test_searchsorted(method, side, size):
    a = np.sort(RNG.integers(0, 20, size)).astype(np.float32)
    v = np.append(RNG.integers(-2, 23, 11), np.nan).astype(np.float32).reshape(3, 4)
    same(jnp.searchsorted(a, v, side, method=method), np.searchsorted(a, v, side))
    same(asgfn.jit(lambda a, v: jnp.searchsorted(a, v, side, method=method))(a, v), np.searchsorted(a, v, side))


def test_searchsorted_with_nan_and_sorter():
    a = np.array([1.0, 2.0, np.nan, np.nan], np.float32)
    v = np.array([np.nan, 2.0, 5.0], np.float32)
    for side in ("left", "right"):
        same(jnp.searchsorted(a, v, side), np.searchsorted(a, v, side))
    assert jnp.searchsorted(jnp.array([3, 1, 2]), 2, sorter=jnp.array([1, 2, 0])).item() == 1
    assert jnp.searchsorted(jnp.array([]), jnp.array([1.0])).tolist() == [0]


@pytest.mark.parametrize("right", [False, True])
def test_digitize(right):
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
    for bins in (np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0])):
        same(jnp.digitize(x, bins, right), np.digitize(x, bins, right))


def test_nonzero():
    mask = X > 5
    same(jnp.nonzero(mask), np.nonzero(mask))
    count = int(mask.sum())
    for size in (0, 2, count, count + 3):
        got = asgfn.jit(lambda m, size=size: jnp.nonzero(m, size=size, fill_value=(7, 8)))(mask)
        for axis, (index, fill) in enumerate(zip(got, (7, 8), strict=True)):
            expected = np.append(np.nonzero(mask)[axis], [fill] * 5)[:size] if size <= count else None
            if expected is None:
                expected = np.concatenate([np.nonzero(mask)[axis], [fill] * (size - count)])
            same(index, expected)
    same(jnp.flatnonzero(mask), np.flatnonzero(mask))
    same(jnp.argwhere(mask), np.argwhere(mask))
    with pytest.raises(TypeError, match="size="):
        asgfn.jit(jnp.nonzero)(mask)


def test_extract_and_compress():
    same(jnp.extract(X > 5, X), np.extract(X > 5, X))
    same(jnp.compress(np.array([True, False, True]), X, axis=0), np.compress([True, False, True], X, axis=0))
    got = asgfn.jit(lambda x: jnp.compress(jnp.array([True, False, True, False]), x, axis=0, size=3, fill_value=-1))(X)
    same(got, np.concatenate([X[[0, 2]], np.full((1, 6), -1)]))
    assert asgfn.grad(lambda x: jnp.extract(x > 5, x).sum())(jnp.array([1.0, 6.0, 7.0])).tolist() == [0, 1, 1]


# ---------------------------------------------------------------------------------------------------------------- sets


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(axis):
    x = np.array([[3, 1, 3], [2, 2, 2], [3, 1, 3]])
    got = jnp.unique(x, True, True, True, axis)
    expected = np.unique(x, True, True, True, axis)
    for one, other in zip(got, expected, strict=True):
        same(np.asarray(one).reshape(np.shape(other)), other)


def test_unique_with_size():
    x = jnp.array([3, 1, 3, 2])

    def sized(size, **options):
        return asgfn.jit(lambda v: jnp.unique(v, True, True, True, size=size, **options))(x)

    assert [v.tolist() for v in sized(5)] == [[1, 2, 3, 1, 1], [1, 3, 0, 1, 1], [2, 0, 2, 1], [1, 1, 2, 0, 0]]
    assert [v.tolist() for v in sized(2)] == [[1, 2], [1, 3], [2, 0, 2, 1], [1, 1]]
    assert sized(4, fill_value=-7)[0].tolist() == [1, 2, 3, -7]
    assert jnp.unique(jnp.array([1.0, np.nan, np.nan])).shape == (2,)
    assert jnp.unique(jnp.array([1.0, np.nan, np.nan]), equal_nan=False).shape == (3,)
    assert jnp.unique(jnp.array([])).shape == (0,)


def test_gradients_reach_unique_elements():
    assert asgfn.grad(lambda x: jnp.unique(x)[0] * 2)(jnp.array([3.0, 1.0])).tolist() == [0, 2]


@pytest.mark.parametrize("method", ["auto", "compare_all", "binary_search", "sort"])
def test_isin(method):
    test = np.array([2.0, 5.0, 5.0, 7.0])
    for invert in (False, True):
        same(jnp.isin(X, test, invert=invert, method=method), np.isin(X, test, invert=invert))


SETS = [
    (np.array([3, 1, 2, 3]), np.array([2, 3, 7])),
    (np.array([1, 1]), np.array([1])),
    (np.array([5]), np.array([2, 2, 9])),
]


@pytest.mark.parametrize(("a", "b"), SETS)
def test_set_operations(a, b):
    for name in ("union1d", "intersect1d", "setdiff1d", "setxor1d"):
        expected = getattr(np, name)(a, b)
        same(getattr(jnp, name)(a, b), expected)
        size = len(a) + len(b)
        sized = asgfn.jit(lambda a, b, name=name, size=size: getattr(jnp, name)(a, b, size=size, fill_value=-1))(a, b)
        same(sized, np.append(expected, [-1] * (size - len(expected))))
    same(jnp.intersect1d(a, b, return_indices=True), np.intersect1d(a, b, return_indices=True))


# ---------------------------------------------------------------------------------------------------------- histograms


def test_bincount():
    x, weights = np.array([0, 1, 1, 3]), np.array([0.5, 1.0, 2.0, 4.0], np.float32)
    same(jnp.bincount(x), np.bincount(x))
    same(jnp.bincount(x, weights, 6), np.bincount(x, weights, 6))
    assert asgfn.jit(lambda x: jnp.bincount(x, length=2))(x).tolist() == [1, 2]
    with pytest.raises(TypeError, match="length="):
        asgfn.jit(jnp.bincount)(x)


@pytest.mark.parametrize("density", [False, True])
def test_histograms(density):
    a = RNG.normal(size=50).astype(np.float32)
    weights = RNG.random(50).astype(np.float32)
    for bins in (5, np.array([-2.0, -1.0, 0.5, 3.0])):
        same(jnp.histogram(a, bins, density=density), np.histogram(a, bins, density=density))
    same(jnp.histogram(a, 4, (-1, 1), weights), np.histogram(a, 4, (-1, 1), weights=weights))
    b = RNG.normal(size=50).astype(np.float32)
    same(jnp.histogram2d(a, b, [3, 4], density=density), np.histogram2d(a, b, [3, 4], density=density))
    got, expected = (lib.histogramdd(np.stack([a, b], 1), 3, density=density) for lib in (jnp, np))
    same(got[0], expected[0])
    same(jnp.histogram_bin_edges(a, "sturges"), np.histogram_bin_edges(a, "sturges"))
    same(jnp.histogram_bin_edges(np.ones(3), 2), [0.5, 1.0, 1.5])


# ------------------------------------------------------------------------------------------------ signals, polynomials


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolution(mode):
    a, v = RNG.normal(size=7).astype(np.float32), RNG.normal(size=4).astype(np.float32)
    z = (a[:5] + 1j * a[2:]).astype(np.complex64)
    for left, right in ((a, v), (v, a), (z, v), (v[:3], z)):
        same(jnp.convolve(left, right, mode), np.convolve(left, right, mode))
        if mode != "same" or len(left) >= len(right):
            same(jnp.correlate(left, right, mode), np.correlate(left, right, mode))


def test_interp():
    xp, fp = np.array([0.0, 1.0, 3.0]), np.array([1.0, 3.0, 2.0])
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.5, 3.0, 5.0])
    same(jnp.interp(x, xp, fp), np.interp(x, xp, fp))
    same(jnp.interp(x, xp, fp, 7, 8), np.interp(x, xp, fp, 7, 8))
    same(jnp.interp(x, xp, fp, period=4), np.interp(x, xp, fp, period=4))
    same(jnp.interp(x, xp, fp + 1j * fp), np.interp(x, xp, fp + 1j * fp))
    same(jnp.interp(5.0, xp, fp, right="extrapolate"), 1.0)
    assert asgfn.grad(lambda x: jnp.interp(x, jnp.asarray(xp), jnp.asarray(fp)))(0.5).item() == 2.0


def test_unwrap():
    phase = np.array([0.0, 3.0, 6.5, -1.0, -7.0], np.float32)
    same(jnp.unwrap(phase), np.unwrap(phase))
    same(jnp.unwrap(phase, discont=4.0), np.unwrap(phase, discont=4.0))
    degrees = np.array([0, 90, 179, -170, 10])
    same(jnp.unwrap(degrees, period=360), np.unwrap(degrees, period=360))


def test_polynomials():
    p, q = np.array([1.0, -3.0, 2.0, 5.0], np.float32), np.array([2.0, 1.0], np.float32)
    x = np.linspace(-2, 2, 5).astype(np.float32)
    same(jnp.polyval(p, x), np.polyval(p, x))
    same(jnp.polyval(np.ones(30, np.float32), x / 4), np.polyval(np.ones(30), x / 4))
    for name in ("polyadd", "polysub", "polymul"):
        same(getattr(jnp, name)(p, q), getattr(np, name)(p, q))
    stacked = np.stack([p, 2 * p], 1)
    same(jnp.polyadd(stacked, stacked[:2]), np.stack([np.polyadd(p, p[:2]), 2 * np.polyadd(p, p[:2])], 1))
    with pytest.raises(ValueError, match="first axis"):
        jnp.polysub(stacked, p)
    same(jnp.poly(3.0), [1, -3])
    quotient, rest = jnp.polydiv(p, q)
    same(jnp.polyadd(jnp.polymul(quotient, q), rest), p)
    for m in (0, 1, 2):
        same(jnp.polyder(p, m), np.polyder(p, m))
        same(jnp.polyint(p, m), np.polyint(p, m))
    same(jnp.polyint(p, 2, k=np.array([1.0, 2.0])), np.polyint(p, 2, k=[1, 2]))
    same(jnp.poly(np.array([1.0, 2.0, 3.0])), np.poly([1, 2, 3]))
    found = np.sort_complex(np.asarray(jnp.roots(np.array([0.0, 1.0, -3.0, 2.0, 0.0], np.float32))))
    same(found, [0, 1, 2], tolerance=1e-4)
    same(jnp.polyfit(x, np.polyval(p, x), 3), p, tolerance=1e-3)
