"""Element-wise functions of `asgfn.numpy`: values against NumPy, promotion and weak types against figures of JAX."""

from __future__ import annotations

import math

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp

INF, NAN = math.inf, math.nan


def same(got, expected, tolerance=2e-6):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=tolerance, atol=tolerance)


# ----------------------------------------------------------------------------------------------------------- promotion

# (expression, dtype, weakly typed) as JAX 0.10 has them, x64 off
PROMOTIONS = [
    ("jnp.add(1, 2)", "int32", True), ("jnp.int8(1) + 1.5", "float32", True), ("jnp.uint8(1) + 300", "uint8", False),
    ("jnp.float16(1) + jnp.bfloat16(1)", "float32", False), ("jnp.int8(1) + jnp.uint8(1)", "int16", False),
    ("jnp.int32(1) + jnp.uint32(1)", "int32", False), ("jnp.bfloat16(1) * 2.5", "bfloat16", False),
    ("jnp.int32(1) + jnp.float16(1)", "float16", False), ("jnp.float32(1) + 1j", "complex64", False),
    ("jnp.arange(3) * True", "int32", False), ("jnp.add(True, True)", "bool", False), ("jnp.divide(1, 2)", "float32", True),
    ("jnp.sin(jnp.int8(1))", "float32", False), ("jnp.sqrt(jnp.bfloat16(2))", "bfloat16", False),
    ("jnp.power(True, True)", "int32", False), ("jnp.square(True)", "int32", False), ("jnp.floor(True)", "bool", False),
    ("jnp.floor(jnp.arange(2))", "int32", False), ("jnp.where(True, 1, 2.0)", "float32", True), ("jnp.abs(-1.5)", "float32", True),
    ("jnp.hypot(3, 4)", "float32", True), ("jnp.bitwise_count(jnp.int8(-3))", "uint8", False),
    ("jnp.left_shift(True, 2)", "int32", True), ("jnp.clip(jnp.arange(3), 0.5, 2.5)", "float32", True),
    ("jnp.sum(1.0)", "float32", False), ("jnp.sum(jnp.uint8(2))", "uint32", False), ("jnp.max(1.0)", "float32", False),
    ("jnp.mean(jnp.int8(1))", "float32", False), ("jnp.float32(1)", "float32", False), ("jnp.array(1.0)", "float32", True),
    ("jnp.array([1.0])", "float32", False), ("np.float64(1) * jnp.ones(2)", "float32", False),
    ("np.ones(2) + jnp.ones(2, jnp.bfloat16)", "float32", False),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "dtype", "weak"), PROMOTIONS)
def test_promotion(expression, dtype, weak):
    result = eval(expression, {"jnp": jnp, "np": np})
    assert result.dtype == jnp.dtype(dtype)
    assert result.dtype == "bool" or result.weak_type == weak


def test_promotion_with_x64():
    with asgfn.enable_x64():
        assert jnp.sin(jnp.int32(1)).dtype == "float32"
        assert jnp.sin(jnp.int64(1)).dtype == "float64"
        assert (jnp.ones(2, jnp.float32) * 2.5).dtype == "float32"
        assert jnp.ones(2).dtype == "float64"


def test_python_integers_must_fit():
    with pytest.raises(OverflowError, match="too large"):
        jnp.int32(1) + 2**40
    with pytest.raises(OverflowError, match="out of bounds"):
        jnp.array(300, dtype=jnp.uint8)
    assert (jnp.uint32(5) & -1).item() == 5


# -------------------------------------------------------------------------------------------------------------- values

UNARY = (
    "exp exp2 expm1 log log1p log2 log10 sqrt cbrt sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arctanh "
    "negative square absolute fabs sign floor ceil trunc rint deg2rad rad2deg sinc i0 isfinite isnan isinf isposinf "
    "isneginf signbit spacing reciprocal logical_not angle nan_to_num"
)


@pytest.mark.parametrize("name", UNARY.split())
def test_unary(name):
    x = np.array([0.3, 0.5, 0.75, -0.25, 0.9], np.float32)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    got = getattr(jnp, name)(jnp.asarray(x))
    assert got.dtype == expected.dtype
    same(got, expected)


BINARY = (
    "add subtract multiply divide power floor_divide remainder fmod maximum minimum fmax fmin hypot arctan2 logaddexp "
    "logaddexp2 copysign heaviside nextafter equal not_equal less less_equal greater greater_equal logical_and "
    "logical_or logical_xor float_power"
)


@pytest.mark.parametrize("name", BINARY.split())
def test_binary(name):
    x = np.array([[0.5, -1.5, 2.0], [3.0, 0.0, 7.5]], np.float32)
    y = np.array([2.0, 0.5, -3.0], np.float32)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x, y)
    same(getattr(jnp, name)(jnp.asarray(x), jnp.asarray(y)), expected)


@pytest.mark.parametrize("dtype", ["int32", "int8", "uint8"])
@pytest.mark.parametrize("divisor", [3, 1, 7])
def test_integer_division(dtype, divisor):
    x = np.arange(-10 if dtype != "uint8" else 0, 11).astype(dtype)
    for y in (divisor, *([-divisor] if dtype != "uint8" else [])):
        for operand in (y, np.full_like(x, y)):
            same(jnp.asarray(x) // operand, x // operand)
            same(jnp.asarray(x) % operand, x % operand)
            quotient, rest = divmod(jnp.asarray(x), operand)
            same(quotient, x // operand)
            same(rest, x % operand)


def test_float_division_by_python_numbers_agrees_with_arrays():
    x = jnp.array([7.5, -7.5, 0.0, -0.0, INF, NAN])
    for y in (2.0, -2.0, 0.0, INF):
        same(x // y, x // jnp.full(6, y))
        same(x % y, x % jnp.full(6, y))


def test_powers():
    x = jnp.array([1.5, -2.0, 0.0])
    same(x**3, np.asarray(x) ** 3)
    same(x**2, np.asarray(x) ** 2)
    assert (x**0).tolist() == [1.0, 1.0, 1.0]
    same(jnp.power(jnp.array([2, 3, -1, 0]), jnp.array([10, 3, 64, 64])), [1024, 27, 1, 0])
    same(jnp.power(jnp.array([2, 1, -1]), jnp.array([-1, -5, -3])), [0, 1, -1])
    assert (jnp.array([2, 3], jnp.uint8) ** jnp.array([3, 9], jnp.uint8)).tolist() == [8, 3**9 % 256]
    with pytest.raises(TypeError, match="negative powers"):
        jnp.array([2]) ** -1


def test_rounding():
    same(jnp.round(jnp.array([0.5, 1.5, -2.5])), [0, 2, -2])
    same(jnp.round(jnp.array([2.567, 1234.5]), 1), [2.6, 1234.5])
    same(jnp.round(jnp.array([1251.0, 1250.0]), -2), [1300, 1200])
    assert jnp.round(jnp.array([15, 25, -15, 26]), -1).tolist() == [20, 20, -20, 30]
    assert round(jnp.array(2.6)).dtype == "float32"


def test_floating_bits():
    x = np.array([0.0, -0.0, 1.0, -3.0, 1e-40, 3e38, INF, NAN], np.float32)
    mantissa, exponent = jnp.frexp(jnp.asarray(x))
    expected_mantissa, expected_exponent = np.frexp(x)
    same(mantissa, expected_mantissa)
    same(exponent, np.where(np.isfinite(x), expected_exponent, 0))
    for power in (-150, -126, -1, 0, 3, 127, 250):
        with np.errstate(all="ignore"):
            same(jnp.ldexp(jnp.asarray(x), power), np.ldexp(x, power), tolerance=0)
    whole = jnp.modf(jnp.array([1.5, -2.25, -INF]))
    same(whole[0], [0.5, -0.25, -0.0])
    same(whole[1], [1.0, -2.0, -INF])


def test_gcd_and_lcm():
    a, b = np.array([12, -8, 0, 7]), np.array([8, 12, 0, 0])
    same(jnp.gcd(a, b), np.gcd(a, b))
    same(jnp.lcm(a, b), np.lcm(a, b))


def test_complex_functions():
    z = np.array([3 + 4j, -1.0, 1j, 0], np.complex64)
    for name in ("abs", "angle", "conj", "real", "imag", "isfinite", "sign", "exp", "sqrt", "square"):
        same(getattr(jnp, name)(jnp.asarray(z)), getattr(np, name)(z))
    assert jnp.less(jnp.array([1 + 2j, 2]), jnp.array([1 + 3j, 1])).tolist() == [True, False]


def test_clip_and_nan_to_num():
    x = jnp.array([NAN, INF, -INF, 1.0])
    limits = np.finfo(np.float32)
    same(jnp.nan_to_num(x), [0, limits.max, limits.min, 1])
    same(jnp.nan_to_num(x, nan=1, posinf=INF, neginf=-2), [1, INF, -2, 1])
    same(jnp.clip(jnp.arange(5), 1, 3), [1, 1, 2, 3, 3])
    same(jnp.clip(jnp.arange(5.0), max=jnp.array([1.0, 1, 1, 9, 9])), [0, 1, 1, 3, 4])
    same(jnp.arange(5).clip(2), [2, 2, 2, 3, 4])
    with pytest.raises(ValueError, match="complex"):
        jnp.clip(jnp.array([1j]), 0, 1)


def test_where_and_select():
    x = jnp.arange(4.0)
    same(jnp.where(x > 1, x, -1), [-1, -1, 2, 3])
    same(jnp.where(jnp.array([[True], [False]]), x, 0), [[0, 1, 2, 3], [0, 0, 0, 0]])
    same(jnp.select([x < 1, x > 2], [x + 10, x * 2], 7), [10, 7, 7, 6])
    same(jnp.piecewise(x, [x < 1, x >= 2], [-1, lambda v: v * v, 5]), [-1, 5, 4, 9])
    same(jnp.piecewise(x, jnp.array([False, True, False]), [-1, lambda v: v * v, 5]), [0, 1, 4, 9])
    same(jnp.piecewise(x, [True, False], [-1, 5]), [-1, -1, -1, -1])
    same(jnp.piecewise(x, x > 1, [-1, 5]), [5, 5, -1, -1])
    traced = asgfn.jit(lambda x: jnp.piecewise(x, [x < 1, x >= 2], [-1, lambda v: v * v, 5]))
    same(traced(x), [-1, 5, 4, 9])
    same(jnp.choose(jnp.array([0, 1, 5]), [jnp.array([1, 2, 3]), jnp.array([10, 20, 30])], mode="clip"), [1, 20, 30])
    with pytest.raises(ValueError, match="both x and y"):
        jnp.where(x > 1, x)


# --------------------------------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize(
    ("f", "at", "slope"),
    [
        (jnp.sinc, 0.0, 0.0), (lambda x: asgfn.grad(jnp.sinc)(x), 0.0, -math.pi**2 / 3), (lambda x: x % 1.0, 2.0, 1.0),
        (lambda x: jnp.logaddexp(x, 3.0), -INF, 0.0), (lambda x: jnp.logaddexp(x, x), 1.0, 1.0), (lambda x: x**2, 0.0, 0.0),
        (lambda x: jnp.maximum(x, 0.0), 0.0, 0.5), (lambda x: jnp.hypot(x, 4.0), 3.0, 0.6), (lambda x: x**0, 3.0, 0.0),
        (lambda x: jnp.where(x > 0, x, 0.0), -1.0, 0.0), (lambda x: jnp.nan_to_num(x), NAN, 0.0), (lambda x: jnp.ldexp(x, 3), 1.0, 8.0),
        (lambda x: jnp.copysign(x, -1.0), 2.0, -1.0), (lambda x: jnp.frexp(x)[0], 3.0, 0.25),
    ],
)  # fmt: skip
def test_derivatives_at_special_points(f, at, slope):
    assert asgfn.grad(f)(at).item() == pytest.approx(slope, abs=1e-4)


# -------------------------------------------------------------------------------------------------------------- ufuncs


def test_ufunc_methods():
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    a = jnp.asarray(x)
    same(jnp.add.reduce(a), np.add.reduce(x))
    same(jnp.add.reduce(a, axis=(0, 1), keepdims=True), np.add.reduce(x, axis=(0, 1), keepdims=True))
    same(jnp.multiply.accumulate(a, axis=1), np.multiply.accumulate(x, axis=1))
    same(jnp.subtract.reduce(a, axis=1), np.subtract.reduce(x, axis=1))
    same(jnp.subtract.accumulate(a), np.subtract.accumulate(x))
    same(jnp.maximum.outer(a[0], a[1]), np.maximum.outer(x[0], x[1]))
    same(jnp.add.reduceat(a[0], jnp.array([0, 2, 1])), np.add.reduceat(x[0], [0, 2, 1]))
    same(jnp.add.reduce(a, initial=10, where=a > 1), np.add.reduce(x, initial=10, where=x > 1))
    same(jnp.add.at(jnp.zeros(3), jnp.array([0, 0, 2]), jnp.array([1.0, 2, 3]), inplace=False), [3, 0, 3])
    same(jnp.subtract.at(jnp.zeros(3), jnp.array([0, 0, 2]), 1.0, inplace=False), [-2, 0, -1])
    assert jnp.logical_xor.reduce(jnp.array([True, True, True])).item() is True
    with pytest.raises(NotImplementedError, match="immutable"):
        jnp.add.at(jnp.zeros(3), 0, 1.0)
    double_add = jnp.frompyfunc(lambda p, q: p + 2 * q, 2, 1)
    same(double_add.reduce(jnp.array([1, 2, 3])), 1 + 4 + 6)


@pytest.mark.parametrize("f", [jnp.logaddexp, jnp.logaddexp2])
def test_logaddexp_is_smooth_where_its_arguments_are_equal(f):
    scale = math.log(2) if f is jnp.logaddexp2 else 1.0
    for x in (0.0, -7.5, 80.0):
        same(asgfn.grad(f, (0, 1))(x, x), [0.5, 0.5])
        quarter = 0.25 * scale
        same(asgfn.hessian(f, (0, 1))(x, x), [[quarter, -quarter], [-quarter, quarter]])
