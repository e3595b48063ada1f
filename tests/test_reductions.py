"""Reductions and running reductions: values, special values, dtypes, derivatives, batching, errors."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

import asgfn
from asgfn import lax
from asgfn.errors import AxisError, DTypeError, ShapeError, StructureError
from tests.derivatives import check_derivatives, check_vmap

rng = np.random.default_rng(0)
x345 = rng.normal(size=(3, 4, 5))
AXES = [(0,), (1, 2), (0, 2), (0, 1, 2), ()]
REDUCTIONS = {
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
}


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name, axes):
    f = lambda a: getattr(lax, name)(a, axes)
    with asgfn.enable_x64():
        np.testing.assert_allclose(f(x345), REDUCTIONS[name](x345, axis=axes))
    check_derivatives(f, x345)
    check_vmap(f, np.stack([x345, -x345], 1).astype(np.float32), in_axes=(1,))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "float16", "float32", "complex64"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction_dtypes(name, dtype):
    x = (x345 * 3).astype(dtype)
    with asgfn.enable_x64():
        out = getattr(lax, name)(x, (1,))
    assert out.dtype == dtype
    wide = np.float32 if dtype == "float16" else dtype
    expected = REDUCTIONS[name](
        x.astype(wide), axis=1, **({"dtype": wide} if name in ("reduce_sum", "reduce_prod") else {})
    )
    np.testing.assert_allclose(np.asarray(out).astype(wide), expected.astype(dtype).astype(wide), rtol=1e-5)


def test_nan_wins_and_nothing_gives_the_identity():
    x = np.array([[1, np.nan], [np.inf, 3]], np.float32)
    np.testing.assert_array_equal(lax.reduce_max(x, (1,)), [np.nan, np.inf])
    np.testing.assert_array_equal(lax.reduce_min(x, (1,)), [np.nan, 3])
    for dtype, low, high in (("float32", -np.inf, np.inf), ("int8", -128, 127), ("uint8", 0, 255), ("bool", 0, 1)):
        nothing = np.zeros((0, 2), dtype)
        np.testing.assert_array_equal(lax.reduce_max(nothing, (0,)), np.full(2, low, dtype))
        np.testing.assert_array_equal(lax.reduce_min(nothing, (0,)), np.full(2, high, dtype))
    np.testing.assert_array_equal(lax.reduce_prod(np.zeros((0, 2), np.float32), (0,)), [1, 1])
    np.testing.assert_array_equal(lax.reduce_and(np.zeros((0,), np.int16), (0,)), -1)


@pytest.mark.parametrize("name", ["and", "or", "xor"])
def test_bitwise_reductions(name):
    ufunc = getattr(np, f"bitwise_{name}")
    for x in (
        rng.random((3, 4)) < 0.5,
        rng.integers(-100, 100, (3, 4), np.int8),
        rng.integers(0, 99, (3, 4), np.uint32),
    ):
        out = getattr(lax, f"reduce_{name}")(x, (0,))
        assert out.dtype == x.dtype
        np.testing.assert_array_equal(out, ufunc.reduce(x, axis=0))
    check_vmap(lambda a: getattr(lax, f"reduce_{name}")(a, (1,)), rng.integers(0, 9, (2, 3, 4)), in_axes=(2,))


def test_ties_share_the_gradient_of_max():
    gradient = asgfn.grad(lambda a: lax.reduce_max(a, (0,)))
    np.testing.assert_allclose(gradient(np.float32([1, 3, 3, 2, 3])), [0, 1 / 3, 1 / 3, 0, 1 / 3])


def test_gradient_of_prod_with_zeros():
    with asgfn.enable_x64():
        gradient = asgfn.grad(lambda a: lax.reduce_prod(a, (0,)))
        np.testing.assert_allclose(gradient(np.array([2.0, 0.0, 3.0])), [0, 6, 0])
        np.testing.assert_allclose(gradient(np.array([0.0, 0.0, 3.0])), [0, 0, 0])
        hessian = asgfn.hessian(lambda a: lax.reduce_prod(a, (0,)))(np.array([0.0, 0.0, 3.0]))
        np.testing.assert_allclose(hessian, [[0, 3, 0], [3, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_arg_reductions(name):
    ours, reference = getattr(lax, name), getattr(np, name)
    for axis, dtype in itertools.product(range(3), ("float32", "float16", "int8", "uint16", "bool")):
        x = (x345 * 3).astype(dtype)
        out = ours(x, axis, np.int32)
        assert out.dtype == np.int32
        np.testing.assert_array_equal(out, reference(x, axis=axis))
    np.testing.assert_array_equal(ours(np.float32([2, np.nan, -1, np.nan]), 0, np.uint8), 1)
    check_vmap(lambda a: ours(a, 1, np.int32), x345.astype(np.float32), in_axes=(1,))
    halves = x345.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(ours(halves, 1, np.int32), reference(halves.astype(np.float32), axis=1))


def test_reduction_errors():
    x = np.ones((2, 0, 3), np.float32)
    with pytest.raises(AxisError, match=r"reduce_max.*axis 3"):
        lax.reduce_max(x, (3,))
    with pytest.raises(AxisError, match="twice"):
        lax.reduce_min(x, (1, 1))
    with pytest.raises(DTypeError, match=r"reduce_and.*float32"):
        lax.reduce_and(x, (0,))
    with pytest.raises(DTypeError, match="bool"):
        lax.reduce_prod(x > 0, (0,))
    with pytest.raises(ShapeError, match=r"argmax.*empty"):
        lax.argmax(x, 1, np.int32)
    with pytest.raises(DTypeError, match="integer dtype"):
        lax.argmax(x, 0, np.float32)
    with pytest.raises(DTypeError, match="complex64"):
        lax.argmin(x.astype(np.complex64), 0, np.int32)


# ---------------------------------------------------------------------------------------------- cumulative
CUMULATIVE = {
    "cumsum": np.add.accumulate,
    "cumprod": np.multiply.accumulate,
    "cummax": np.maximum.accumulate,
    "cummin": np.minimum.accumulate,
    "cumlogsumexp": np.logaddexp.accumulate,
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("name", CUMULATIVE)
def test_cumulative(name, axis, reverse):
    def f(a):
        return getattr(lax, name)(a, axis, reverse)

    def flip(a):
        return np.flip(a, axis) if reverse else a

    with asgfn.enable_x64():
        np.testing.assert_allclose(f(x345), flip(CUMULATIVE[name](flip(x345), axis=axis)))
    check_derivatives(f, x345)
    check_vmap(f, np.stack([x345, -x345], 1).astype(np.float32), in_axes=(1,))


@pytest.mark.parametrize("name", CUMULATIVE)
def test_cumulative_of_every_length(name):
    for length in range(9):
        check_derivatives(lambda a: getattr(lax, name)(a, 0), rng.normal(size=length), order=1)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "cummin"])
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64"])
def test_cumulative_integers_wrap(name, dtype):
    x = rng.integers(0, 100, (4, 9)).astype(dtype)
    with asgfn.enable_x64():
        out = getattr(lax, name)(x, 1)
    assert out.dtype == dtype
    options = {"dtype": dtype} if name in ("cumsum", "cumprod") else {}
    np.testing.assert_array_equal(out, CUMULATIVE[name](x, axis=1, **options))


def test_cumulative_special_values():
    x = np.float32([1, -np.inf, np.nan, 2])
    np.testing.assert_array_equal(lax.cummax(x), [1, 1, np.nan, np.nan])
    np.testing.assert_array_equal(
        lax.cumlogsumexp(np.float32([-np.inf, -np.inf, 0, np.inf, 1])), [-np.inf, -np.inf, 0, np.inf, np.inf]
    )
    halves = np.full(3000, 1, np.float16)
    np.testing.assert_array_equal(lax.cumsum(halves)[-1:], np.float16([3000]))  # not 2048, where halves stop counting
    with asgfn.enable_x64():
        gradient = asgfn.grad(lambda a: lax.reduce_sum(lax.cumprod(a), (0,)))
        np.testing.assert_allclose(gradient(np.array([2.0, 0.0, 3.0])), [1, 8, 0])
        gradient = asgfn.grad(lambda a: lax.cumlogsumexp(a)[-1])
        np.testing.assert_allclose(gradient(np.array([-np.inf, 0.0, 800.0, 800.0])), [0, 0, 0.5, 0.5])
        z = rng.normal(size=5) + 1j * rng.normal(size=5)
        np.testing.assert_allclose(np.exp(lax.cumlogsumexp(z)), np.cumsum(np.exp(z)))


# ---------------------------------------------------------------------------------------------- any monoid
@pytest.mark.parametrize(
    "computation, init, name",
    [(lax.add, 0.0, "reduce_sum"), (lax.mul, 1.0, "reduce_prod"), (lax.max, -np.inf, "reduce_max")],
)
def test_reduce_recognises_primitives(computation, init, name):
    def f(a):
        return lax.reduce(a, init, computation, (0, 2))

    graph = asgfn.trace(f)(x345.astype(np.float32))
    assert [node.primitive.name for node in graph.nodes] == [name]
    with asgfn.enable_x64():
        np.testing.assert_allclose(f(x345), REDUCTIONS[name](x345, axis=(0, 2)))


def test_reduce_starts_from_the_init_value():
    with asgfn.enable_x64():
        np.testing.assert_allclose(lax.reduce(x345, 2.5, lax.add, (1,)), x345.sum(1) + 2.5)
        np.testing.assert_array_equal(lax.reduce(x345 > -1, True, lax.bitwise_and, (1,)), (x345 > -1).all(1))


def test_reduce_with_any_function():
    f = lambda a: lax.reduce(a, 0.0, lambda p, q: p + q + p * q, (0, 2))
    with asgfn.enable_x64():
        np.testing.assert_allclose(f(x345), np.prod(1 + x345, axis=(0, 2)) - 1)
        np.testing.assert_allclose(asgfn.jit(f)(x345), f(x345))
    check_derivatives(f, x345)
    check_vmap(f, np.stack([x345, -x345]).astype(np.float32), in_axes=(0,))
    # not commutative: elements are combined in row-major order
    last = lax.reduce(np.arange(24, dtype=np.int32).reshape(2, 3, 4), -1, lambda p, q: q, (0, 2))
    np.testing.assert_array_equal(last, [15, 19, 23])
    assert lax.reduce(np.zeros((0, 3), np.float32), 7.0, lambda p, q: q, (0,)).tolist() == [7, 7, 7]


def test_reduce_of_several_arrays():
    def larger(p, q):
        (a, i), (b, j) = p, q
        keep = lax.ge(a, b)
        return lax.select(keep, a, b), lax.select(keep, i, j)

    with asgfn.enable_x64():
        position = np.broadcast_to(np.arange(5, dtype=np.int32), x345.shape)
        value, where = lax.reduce((x345, position), (-np.inf, np.int32(0)), larger, (2,))
        np.testing.assert_array_equal(value, x345.max(2))
        np.testing.assert_array_equal(where, x345.argmax(2))


def test_reduce_errors():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(StructureError):
        lax.reduce((x, x), 0.0, lambda p, q: p, (0,))
    with pytest.raises(ShapeError, match="one shape"):
        lax.reduce((x, x.T), (0.0, 0.0), lambda p, q: p, (0,))
    with pytest.raises(ShapeError, match="scalars"):
        lax.reduce(x, np.zeros(3, np.float32), lax.add, (0,))
    with pytest.raises(DTypeError, match="int32"):
        lax.reduce(x, np.int32(0), lax.add, (0,))
    with pytest.raises(StructureError, match="structure"):
        lax.reduce(x, 0.0, lambda p, q: (p, q), (0,))


# ---------------------------------------------------------------------------------------------- reduce_precision
def test_reduce_precision():
    x = np.concatenate(
        [rng.normal(size=500) * 10.0 ** rng.integers(-9, 9, 500), [np.nan, np.inf, -np.inf, -0.0, 65519, 65520]]
    )
    x = x.astype(np.float32)
    with np.errstate(over="ignore"):
        as_half = x.astype(np.float16).astype(np.float32)
    as_half[np.abs(as_half) < 2.0**-14] *= 0  # reduce_precision knows no subnormal numbers
    np.testing.assert_array_equal(lax.reduce_precision(x, 5, 10), as_half)
    np.testing.assert_array_equal(lax.reduce_precision(x, 8, 7), x.astype(ml_dtypes.bfloat16).astype(np.float32))
    np.testing.assert_array_equal(lax.reduce_precision(x, 8, 23), x)
    np.testing.assert_array_equal(lax.reduce_precision(np.float32([1.5, 2.5, 3.5]), 8, 0), [2, 2, 4])
    with pytest.raises(DTypeError, match="floating point"):
        lax.reduce_precision(np.arange(3), 5, 10)
    with pytest.raises(ValueError, match="exponent_bits"):
        lax.reduce_precision(x, 0, 10)
