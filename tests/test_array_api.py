"""`asgfn.numpy` against the Python array API standard 2024.12, as implemented by `array_api_strict`, with x64 on."""

from __future__ import annotations

import inspect
import math
import operator
import types

import array_api_strict as strict
import numpy as np
import pytest

import asgfn
import asgfn.numpy as xp

strict.set_array_api_strict_flags(api_version="2024.12")

BOOL = ("bool",)
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGER = SIGNED + UNSIGNED
REAL_FLOAT = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
FLOAT = REAL_FLOAT + COMPLEX
REAL = INTEGER + REAL_FLOAT
NUMERIC = REAL + COMPLEX
ALL = BOOL + NUMERIC


@pytest.fixture(autouse=True)
def _x64():
    with asgfn.enable_x64(), np.errstate(all="ignore"):
        yield


def sample(dtype: str, shape: tuple[int, ...] = (3, 4), seed: int = 0) -> np.ndarray:
    """Values that no function overflows on; zeros, repeats, negative numbers where there are any."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    low = 0 if dtype in UNSIGNED else -5
    values = rng.integers(low, 6, shape)
    if dtype in REAL_FLOAT:
        values = values + rng.choice([0.0, 0.25, 0.5], shape)
    if dtype in COMPLEX:
        values = values + 0.5j * rng.integers(-3, 4, shape)
    return values.astype(dtype)


def ours(x):
    """NumPy arrays anywhere in an argument as our arrays."""
    if isinstance(x, np.ndarray):
        return xp.asarray(x)
    return type(x)(ours(v) for v in x) if isinstance(x, (list, tuple)) else x


def theirs(x):
    if isinstance(x, np.ndarray):
        return strict.asarray(x)
    return type(x)(theirs(v) for v in x) if isinstance(x, (list, tuple)) else x


def assert_same(got, expected) -> None:
    if isinstance(expected, (tuple, list)):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
        return
    if not isinstance(expected, type(strict.ones(1))):
        assert got == expected
        return
    reference = np.asarray(expected)
    assert got.shape == reference.shape
    assert got.dtype == reference.dtype
    tolerance = 3e-6 if reference.dtype in (np.float32, np.complex64) else 1e-13
    np.testing.assert_allclose(np.asarray(got), reference, rtol=tolerance, atol=tolerance)


def compare(name: str, *args, namespace: str | None = None, **kwargs) -> None:
    """Calls the function of this name in both namespaces with equal arguments."""
    mine, reference = (getattr(ns, namespace) if namespace else ns for ns in (xp, strict))
    convert = {key: (ours(value), theirs(value)) for key, value in kwargs.items()}
    got = getattr(mine, name)(*ours(list(args)), **{key: pair[0] for key, pair in convert.items()})
    expected = getattr(reference, name)(*theirs(list(args)), **{key: pair[1] for key, pair in convert.items()})
    assert_same(got, expected)


# ------------------------------------------------------------------------------------------------ names and signatures

# Where the default differs from the standard's on purpose: JAX's None means the same, or copies do not matter.
OTHER_DEFAULTS = {
    ("arange", "step"), ("argmax", "keepdims"), ("argmin", "keepdims"), ("astype", "copy"), ("astype", "device"),
    ("from_dlpack", "device"), ("from_dlpack", "copy"), ("std", "correction"), ("var", "correction"),
}  # fmt: skip
HELPERS = {"get_array_api_strict_flags", "reset_array_api_strict_flags", "set_array_api_strict_flags"}


def standard_functions(namespace) -> list[str]:
    return [
        name
        for name in sorted(dir(namespace))
        if not name.startswith("_")
        and name not in HELPERS
        and inspect.isfunction(getattr(namespace, name))
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*standard_functions(strict), "__array_namespace_info__"])
def test_signature(name):
    expected = inspect.signature(getattr(strict, name)).parameters
    actual = inspect.signature(getattr(xp, name)).parameters
    listed = list(actual.values())
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in listed)
    for position, (key, wanted) in enumerate(expected.items()):
        if wanted.kind in (wanted.POSITIONAL_ONLY, wanted.VAR_POSITIONAL):
            by_position = (wanted.POSITIONAL_ONLY, wanted.POSITIONAL_OR_KEYWORD)
            assert takes_any or listed[position].kind in by_position, key
            continue
        assert key in actual and actual[key].kind is not wanted.POSITIONAL_ONLY, key
        if wanted.kind is wanted.POSITIONAL_OR_KEYWORD:
            assert listed[position].name == key
        if wanted.default is not wanted.empty and (name, key) not in OTHER_DEFAULTS:
            assert actual[key].default == wanted.default, key


def test_constants_and_version():
    assert xp.__array_api_version__ == "2024.12"
    assert (xp.e, xp.pi, xp.inf) == (math.e, math.pi, math.inf)
    assert math.isnan(xp.nan)
    assert xp.newaxis is None


# ---------------------------------------------------------------------------------------------- element-wise functions

UNARY = [
    (NUMERIC, ("abs", "negative", "positive", "sign", "square", "round", "isfinite", "isinf", "isnan", "conj", "real")),
    (REAL, ("ceil", "floor", "trunc")),
    (FLOAT, (
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "expm1", "log", "log10", "log1p", "log2",
        "sin", "sinh", "sqrt", "tan", "tanh", "reciprocal",
    )),
    (BOOL, ("logical_not",)),
    (BOOL + INTEGER, ("bitwise_invert",)),
    (COMPLEX, ("imag",)),
    (REAL_FLOAT, ("signbit",)),
]  # fmt: skip
UNARY_CASES = [(name, dtype) for kinds, names in UNARY for name in names for dtype in kinds]


@pytest.mark.parametrize(("name", "dtype"), UNARY_CASES)
def test_unary(name, dtype):
    x = sample(dtype)
    if name in ("log", "log10", "log2", "sqrt", "acosh") and dtype in REAL_FLOAT:
        x = np.abs(x) + 1
    if name in ("log1p", "asin", "acos", "atanh") and dtype in REAL_FLOAT:
        x = x / 8
    if name in ("reciprocal", "log", "log10", "log2") and dtype in COMPLEX:
        x = x + 7
    compare(name, x)


BINARY = [
    (NUMERIC, ("add", "subtract", "multiply")),
    (FLOAT, ("divide", "pow")),
    (INTEGER, ("pow", "bitwise_left_shift", "bitwise_right_shift")),
    (REAL, ("floor_divide", "remainder", "maximum", "minimum", "less", "less_equal", "greater", "greater_equal")),
    (REAL_FLOAT, ("atan2", "copysign", "hypot", "logaddexp", "nextafter")),
    (BOOL, ("logical_and", "logical_or", "logical_xor")),
    (BOOL + INTEGER, ("bitwise_and", "bitwise_or", "bitwise_xor")),
    (ALL, ("equal", "not_equal")),
]
BINARY_CASES = [(name, dtype) for kinds, names in BINARY for name in names for dtype in kinds]


@pytest.mark.parametrize(("name", "dtype"), BINARY_CASES)
def test_binary(name, dtype):
    x1, x2 = sample(dtype, seed=1), sample(dtype, shape=(4,), seed=2)
    if name in ("floor_divide", "remainder", "divide", "pow") or "shift" in name:
        x2 = np.abs(x2).astype(dtype) + np.ones((), dtype)
    if "shift" in name:
        x1 = np.abs(x1)
    compare(name, x1, x2)
    compare(name, x1[1], x2[:1])


KINDS = (SIGNED, UNSIGNED, REAL_FLOAT, COMPLEX)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["add", "multiply", "equal"])
def test_binary_with_mixed_widths(name, kind):
    for first in kind:
        for second in kind:
            compare(name, sample(first, seed=1), sample(second, seed=2))


def test_binary_with_mixed_signs():
    for unsigned in UNSIGNED[:3]:
        for signed in SIGNED:
            compare("add", sample(unsigned, seed=1), sample(signed, seed=2))


SCALARS = {"bool": True, "int": 3, "float": 2.5, "complex": 1 + 2j}


@pytest.mark.parametrize("dtype", ALL)
def test_python_scalars_do_not_change_the_dtype(dtype):
    x = sample(dtype)
    allowed = ["bool"] if dtype == "bool" else ["int"]
    allowed += ["float"] if dtype in FLOAT else []
    allowed += ["complex"] if dtype in COMPLEX else []
    names = ["equal"] if dtype == "bool" else ["add", "multiply", "subtract", "equal"]
    for kind in allowed:
        for name in names:
            compare(name, x, SCALARS[kind])
            compare(name, SCALARS[kind], x)


INF, NAN = math.inf, math.nan
SPECIAL_CASES = [
    ("acos", (2.0,), NAN), ("acos", (1.0,), 0.0), ("acosh", (0.5,), NAN), ("acosh", (INF,), INF),
    ("asin", (-0.0,), -0.0), ("asin", (2.0,), NAN), ("asinh", (-INF,), -INF), ("asinh", (-0.0,), -0.0),
    ("atan", (INF,), math.pi / 2), ("atan", (-0.0,), -0.0), ("atanh", (1.0,), INF), ("atanh", (-1.0,), -INF),
    ("atanh", (2.0,), NAN), ("atan2", (0.0, -0.0), math.pi), ("atan2", (-0.0, 0.0), -0.0),
    ("atan2", (-0.0, -1.0), -math.pi), ("atan2", (INF, -INF), 3 * math.pi / 4), ("atan2", (1.0, -INF), math.pi),
    ("ceil", (-0.5,), -0.0), ("ceil", (INF,), INF), ("cos", (INF,), NAN), ("cosh", (-INF,), INF),
    ("divide", (0.0, 0.0), NAN), ("divide", (1.0, -0.0), -INF), ("divide", (INF, INF), NAN), ("divide", (-1.0, INF), -0.0),
    ("exp", (-INF,), 0.0), ("expm1", (-0.0,), -0.0), ("expm1", (-INF,), -1.0), ("floor", (-0.0,), -0.0),
    ("floor_divide", (INF, 2.0), INF), ("floor_divide", (-INF, 2.0), -INF), ("floor_divide", (INF, INF), NAN),
    ("floor_divide", (1.0, INF), 0.0), ("floor_divide", (0.0, -3.0), -0.0), ("floor_divide", (1.0, 0.0), INF),
    ("floor_divide", (-1.0, 0.0), -INF), ("floor_divide", (0.0, 0.0), NAN), ("floor_divide", (-1.0, INF), -1.0),
    ("hypot", (INF, NAN), INF), ("hypot", (NAN, -INF), INF), ("hypot", (0.0, -3.0), 3.0), ("hypot", (NAN, 1.0), NAN),
    ("log", (0.0,), -INF), ("log", (-1.0,), NAN), ("log", (1.0,), 0.0), ("log1p", (-1.0,), -INF), ("log1p", (-0.0,), -0.0),
    ("log2", (0.0,), -INF), ("log10", (INF,), INF), ("logaddexp", (INF, -INF), INF), ("logaddexp", (-INF, -INF), -INF),
    ("logaddexp", (NAN, 1.0), NAN), ("maximum", (NAN, 1.0), NAN), ("minimum", (1.0, NAN), NAN),
    ("multiply", (INF, 0.0), NAN), ("multiply", (-INF, -1.0), INF),
    ("pow", (NAN, 0.0), 1.0), ("pow", (1.0, NAN), 1.0), ("pow", (2.0, INF), INF), ("pow", (0.5, INF), 0.0),
    ("pow", (-1.0, INF), 1.0), ("pow", (0.0, -1.0), INF), ("pow", (-0.0, -3.0), -INF), ("pow", (-0.0, 3.0), -0.0),
    ("pow", (-INF, 3.0), -INF), ("pow", (-INF, -3.0), -0.0), ("pow", (-8.0, 0.5), NAN),
    ("reciprocal", (-0.0,), -INF), ("reciprocal", (INF,), 0.0),
    ("remainder", (1.0, 0.0), NAN), ("remainder", (INF, 2.0), NAN), ("remainder", (-0.0, 2.0), 0.0),
    ("remainder", (-1.0, INF), INF), ("remainder", (1.0, INF), 1.0), ("remainder", (1.0, -INF), -INF),
    ("remainder", (-7.0, 3.0), 2.0), ("round", (0.5,), 0.0), ("round", (1.5,), 2.0), ("round", (-0.5,), -0.0),
    ("round", (2.5,), 2.0), ("sign", (-0.0,), 0.0), ("sign", (NAN,), NAN), ("signbit", (-0.0,), True),
    ("signbit", (0.0,), False), ("sin", (INF,), NAN), ("sin", (-0.0,), -0.0), ("sinh", (-INF,), -INF),
    ("sqrt", (-1.0,), NAN), ("sqrt", (-0.0,), -0.0), ("tan", (INF,), NAN), ("tanh", (-INF,), -1.0), ("trunc", (-0.5,), -0.0),
    ("trunc", (-INF,), -INF), ("nextafter", (0.0, -0.0), -0.0), ("nextafter", (1.0, 1.0), 1.0),
    ("copysign", (3.0, -0.0), -3.0), ("subtract", (INF, INF), NAN), ("add", (-0.0, -0.0), -0.0), ("add", (-0.0, 0.0), 0.0),
    ("isfinite", (INF,), False), ("isnan", (NAN,), True), ("isinf", (-INF,), True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "expected"), SPECIAL_CASES)
def test_special_cases(name, args, expected):
    for dtype in REAL_FLOAT:
        result = getattr(xp, name)(*(xp.asarray([arg], dtype=dtype) for arg in args))
        value = result[0].item()
        if isinstance(expected, float) and math.isnan(expected):
            assert math.isnan(value)
            continue
        assert value == pytest.approx(expected, rel=1e-6)
        if expected == 0.0 and name != "sign":
            assert math.copysign(1, value) == math.copysign(1, expected)


def test_sign_of_complex_numbers():
    compare("sign", np.array([3 + 4j, 0, -2j]))


def test_clip():
    x = sample("float64")
    for low, high in ((None, None), (-1.0, None), (None, 1.0), (-1.0, 1.0)):
        compare("clip", x, low, high)
    compare("clip", x, min=np.full(4, -1.0), max=np.full((3, 1), 2.0))
    compare("clip", sample("int16"), -1, 2)


# ------------------------------------------------------------------------------------------------------------ creation


@pytest.mark.parametrize("dtype", ALL)
def test_creation_with_dtypes(dtype):
    mine, reference = getattr(xp, dtype), getattr(strict, dtype)
    for name in ("zeros", "ones", "empty"):
        assert getattr(xp, name)((2, 3), dtype=mine).dtype == dtype
    assert_same(xp.eye(3, 4, k=1, dtype=mine), strict.eye(3, 4, k=1, dtype=reference))
    x = sample(dtype)
    compare("zeros_like", x)
    compare("ones_like", x)
    compare("full_like", x, x.reshape(-1)[0].item())
    compare("asarray", x)
    if dtype in REAL:
        assert_same(xp.arange(1, 9, 3, dtype=mine), strict.arange(1, 9, 3, dtype=reference))
    if dtype in REAL_FLOAT:
        assert_same(xp.linspace(0, 2, 5, dtype=mine), strict.linspace(0, 2, 5, dtype=reference))
        assert_same(xp.linspace(0, 2, 5, endpoint=False), strict.linspace(0, 2, 5, endpoint=False))


def test_default_dtypes():
    for args in ((3,), (1, 4), (0, 1, 0.25), (3.0,), (5, 0, -2)):
        assert_same(xp.arange(*args), strict.arange(*args))
    for value in (True, 3, 2.5, 1j):
        assert_same(xp.full((2,), value), strict.full((2,), value))
        assert_same(xp.asarray(value), strict.asarray(value))
        assert_same(xp.asarray([value]), strict.asarray([value]))
    assert xp.zeros(2).dtype == xp.float64
    assert_same(xp.linspace(1, 2, 4), strict.linspace(1, 2, 4))


def test_asarray_copy():
    x = xp.ones(3)
    assert xp.asarray(x) is x
    assert xp.asarray(x, copy=False) is x
    assert xp.asarray(x, copy=True) is not x
    with pytest.raises(ValueError, match="copy"):
        xp.asarray([1.0, 2.0], copy=False)
    with pytest.raises(ValueError, match="copy"):
        xp.asarray(x, dtype=xp.int32, copy=False)


def test_triangles_and_grids():
    compare("tril", sample("float64"), k=-1)
    compare("triu", sample("float64", (2, 3, 4)), k=1)
    compare("meshgrid", np.arange(3.0), np.arange(4.0), indexing="ij")
    compare("meshgrid", np.arange(3), np.arange(4))


# -------------------------------------------------------------------------------------------------------- manipulation

X = np.arange(24.0).reshape(2, 3, 4)
MANIPULATIONS = [
    ("broadcast_to", (np.arange(3), (2, 3)), {}), ("broadcast_arrays", (np.arange(3), np.ones((2, 1))), {}),
    ("concat", ([np.arange(3), np.arange(2)],), {}), ("concat", ([np.ones((2, 1)), np.ones((2, 2))],), {"axis": 1}),
    ("concat", ([np.ones((2, 1)), np.ones((2, 2))],), {"axis": None}),
    ("concat", ([np.ones(2, np.float32), np.ones(2)],), {}),
    ("expand_dims", (X,), {"axis": 1}), ("expand_dims", (X,), {"axis": -1}), ("flip", (X,), {}),
    ("flip", (X,), {"axis": (0, 2)}), ("moveaxis", (X, 0, -1), {}), ("moveaxis", (X, (0, 1), (2, 0)), {}),
    ("permute_dims", (X, (2, 0, 1)), {}), ("repeat", (np.arange(3), 2), {}), ("repeat", (X, np.array([1, 0, 2])), {"axis": 1}),
    ("reshape", (X, (6, -1)), {}), ("roll", (X, 1), {}), ("roll", (X, (1, -2)), {"axis": (0, 2)}),
    ("squeeze", (np.ones((1, 3, 1)), 0), {}), ("squeeze", (np.ones((1, 3, 1)), (0, 2)), {}), ("stack", ([X, X],), {"axis": -1}),
    ("tile", (np.arange(3), (2, 2)), {}), ("unstack", (X,), {"axis": 1}), ("matrix_transpose", (X,), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "kwargs"), MANIPULATIONS)
def test_manipulation(name, args, kwargs):
    compare(name, *args, **kwargs)


@pytest.mark.parametrize("axis", [4, -5])
def test_bad_axes_raise(axis):
    for call in (
        lambda: xp.expand_dims(xp.asarray(X), axis=axis),
        lambda: xp.sum(xp.asarray(X), axis=axis),
        lambda: xp.concat([xp.asarray(X)], axis=axis),
        lambda: xp.sort(xp.asarray(X), axis=axis),
    ):
        with pytest.raises((IndexError, ValueError)):
            call()
    with pytest.raises(ValueError, match="squeeze"):
        xp.squeeze(xp.asarray(X), axis=0)


# ---------------------------------------------------------------------------------- statistics, searching, sorting, sets


@pytest.mark.parametrize("dtype", NUMERIC)
@pytest.mark.parametrize("name", ["sum", "prod"])
def test_sums_widen_integers(name, dtype):
    x = sample(dtype, (2, 3))
    compare(name, x)
    compare(name, x, axis=1, keepdims=True)
    compare(name, x, axis=(0, 1))
    compare("cumulative_" + name, x, axis=0)
    compare("cumulative_" + name, x, axis=1, include_initial=True)
    assert getattr(xp, name)(xp.asarray(x), dtype=xp.complex128).dtype == xp.complex128


@pytest.mark.parametrize("dtype", REAL)
def test_extrema(dtype):
    x = sample(dtype)
    for name in ("max", "min", "argmax", "argmin"):
        compare(name, x)
        compare(name, x, axis=0)
        compare(name, x, axis=-1, keepdims=True)


@pytest.mark.parametrize("dtype", FLOAT)
def test_moments(dtype):
    x = sample(dtype)
    compare("mean", x, axis=0)
    compare("mean", x, keepdims=True)
    if dtype in REAL_FLOAT:
        for correction in (0.0, 1.0):
            compare("var", x, axis=1, correction=correction)
            compare("std", x, correction=correction, keepdims=True)


@pytest.mark.parametrize("dtype", ALL)
def test_truth(dtype):
    x = sample(dtype)
    for name in ("all", "any"):
        compare(name, x)
        compare(name, x, axis=1, keepdims=True)
    compare("count_nonzero", x, axis=0)
    compare("nonzero", x)
    compare("where", x.astype(bool), x, np.zeros((), dtype))


def test_empty_reductions():
    empty = np.zeros((0, 3))
    compare("sum", empty, axis=0)
    compare("prod", empty, axis=0)
    compare("all", empty, axis=0)
    compare("any", empty)
    with pytest.raises(ValueError, match="initial"):
        xp.max(xp.asarray(empty))


def test_nonzero_of_a_scalar_raises():
    with pytest.raises(ValueError, match="rank 0"):
        xp.nonzero(xp.asarray(1))


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("descending", [False, True])
def test_sorting(dtype, descending):
    x = sample(dtype)
    compare("sort", x, descending=descending)
    compare("sort", x, axis=0, descending=descending)
    compare("argsort", x, descending=descending, stable=True)
    compare("argsort", x, axis=0, descending=descending)


def test_searchsorted():
    a, v = np.sort(sample("float64", (30,))), sample("float64", (2, 5), seed=3)
    for side in ("left", "right"):
        compare("searchsorted", a, v, side=side)
    order = np.array([2, 0, 1])
    compare("searchsorted", np.array([2.0, 3.0, 1.0]), v, sorter=order)


@pytest.mark.parametrize("dtype", ALL)
def test_sets(dtype):
    x = sample(dtype)
    for name in ("unique_all", "unique_counts", "unique_inverse", "unique_values"):
        got, expected = getattr(xp, name)(xp.asarray(x)), getattr(strict, name)(strict.asarray(x))
        if name == "unique_values":
            assert_same(got, expected)
            continue
        assert got._fields == expected._fields
        assert_same(tuple(got), tuple(expected))


def test_every_nan_is_unique():
    found = xp.unique_counts(xp.asarray([NAN, 1.0, NAN]))
    assert found.values.shape == (3,)
    assert found.counts.tolist() == [1, 1, 1]


def test_indexing_functions():
    x = sample("float64")
    compare("take", x, np.array([2, 0]), axis=0)
    compare("take", x, np.array([2, 0]), axis=-1)
    compare("take_along_axis", x, np.argsort(x, axis=1), axis=1)
    compare("diff", x, axis=0)
    compare("diff", x, n=2, prepend=np.zeros((3, 1)))


def test_products():
    a, b = sample("float64", (2, 3, 4)), sample("float64", (4, 5), seed=1)
    compare("matmul", a, b)
    compare("tensordot", a, b, axes=1)
    compare("tensordot", a, sample("float64", (3, 4, 2)), axes=((1, 2), (0, 1)))
    compare("vecdot", a, sample("float64", (3, 4), seed=5))


# ------------------------------------------------------------------------------------------------- dtypes, inspection


def test_isdtype():
    for dtype in ALL:
        for kind in (
            "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric",
        ):  # fmt: skip
            expected = strict.isdtype(getattr(strict, dtype), kind)
            assert xp.isdtype(getattr(xp, dtype), kind) == expected
        assert xp.isdtype(getattr(xp, dtype), getattr(xp, dtype))
        assert xp.isdtype(getattr(xp, dtype), ("bool", getattr(xp, dtype)))
    with pytest.raises(ValueError, match="kind"):
        xp.isdtype(xp.float32, "floats")


def test_result_type_and_can_cast():
    for kind in KINDS:
        for a in kind:
            for b in kind:
                expected = strict.result_type(getattr(strict, a), getattr(strict, b))
                assert xp.result_type(getattr(xp, a), getattr(xp, b)) == expected._np_dtype
                cast = strict.can_cast(getattr(strict, a), getattr(strict, b))
                assert xp.can_cast(getattr(xp, a), getattr(xp, b)) == cast
    assert xp.result_type(xp.ones(2, dtype=xp.float32), 1.0) == xp.float32
    assert xp.result_type(xp.int8, 1) == xp.int8
    assert xp.can_cast(xp.ones(2, dtype=xp.float32), xp.float64)


def test_finfo_and_iinfo():
    for dtype in FLOAT:
        got, expected = xp.finfo(getattr(xp, dtype)), strict.finfo(getattr(strict, dtype))
        for name in ("eps", "max", "min", "smallest_normal"):
            assert type(getattr(got, name)) is float
            assert getattr(got, name) == float(getattr(expected, name))
        assert type(got.bits) is int and got.bits == expected.bits
        assert got.dtype == expected.dtype._np_dtype
    for dtype in INTEGER:
        got, expected = xp.iinfo(getattr(xp, dtype)), strict.iinfo(getattr(strict, dtype))
        assert (got.bits, got.max, got.min) == (expected.bits, expected.max, expected.min)
        assert got.dtype == dtype
    assert xp.finfo(xp.ones(2, dtype=xp.float32)).bits == 32


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("target", ALL)
def test_astype(source, target):
    x = np.abs(sample(source))
    result = xp.astype(xp.asarray(x), getattr(xp, target))
    assert result.dtype == target
    reference = x.real if np.iscomplexobj(x) and target not in (*COMPLEX, "bool") else x
    np.testing.assert_allclose(np.asarray(result), reference.astype(target), rtol=1e-6)


def test_namespace_info():
    info = xp.__array_namespace_info__()
    assert set(info.capabilities()) == {"boolean indexing", "data-dependent shapes", "max dimensions"}
    assert info.default_device() in info.devices()
    assert set(info.default_dtypes()) == {"real floating", "complex floating", "integral", "indexing"}
    assert info.default_dtypes()["integral"] == xp.int64
    assert set(info.dtypes()) == set(ALL)
    assert set(info.dtypes(kind="signed integer")) == set(SIGNED)
    assert set(info.dtypes(kind=("bool", "real floating"))) == {"bool", *REAL_FLOAT}
    with asgfn.enable_x64(False):
        assert "float64" not in info.dtypes()
        assert info.default_dtypes()["real floating"] == xp.float32
    with pytest.raises(ValueError, match="kind"):
        info.dtypes(kind="floats")


# -------------------------------------------------------------------------------------------------------- array object

OPERATORS = {
    operator.add: NUMERIC, operator.sub: NUMERIC, operator.mul: NUMERIC, operator.truediv: FLOAT, operator.floordiv: REAL,
    operator.mod: REAL, operator.pow: NUMERIC, operator.and_: BOOL + INTEGER, operator.or_: BOOL + INTEGER,
    operator.xor: BOOL + INTEGER, operator.lshift: INTEGER, operator.rshift: INTEGER, operator.eq: ALL, operator.ne: ALL,
    operator.lt: REAL, operator.le: REAL, operator.gt: REAL, operator.ge: REAL,
}  # fmt: skip
OPERATOR_CASES = [(op, dtype) for op, kinds in OPERATORS.items() for dtype in kinds]


@pytest.mark.parametrize(("op", "dtype"), OPERATOR_CASES)
def test_operators(op, dtype):
    x, y = sample(dtype, seed=1), sample(dtype, seed=2)
    if op in (operator.truediv, operator.floordiv, operator.mod, operator.pow, operator.lshift, operator.rshift):
        y = np.abs(y).astype(dtype) + np.ones((), dtype)
    assert_same(op(xp.asarray(x), xp.asarray(y)), op(strict.asarray(x), strict.asarray(y)))
    scalar = True if dtype == "bool" else 2
    assert_same(op(xp.asarray(x), scalar), op(strict.asarray(x), scalar))
    if op not in (operator.lshift, operator.rshift, operator.pow, operator.floordiv, operator.mod, operator.truediv):
        assert_same(op(scalar, xp.asarray(x)), op(scalar, strict.asarray(x)))
    else:
        assert_same(op(scalar, xp.asarray(y)), op(scalar, strict.asarray(y)))


def test_unary_operators():
    for op, kinds in {
        operator.neg: NUMERIC,
        operator.pos: NUMERIC,
        operator.abs: NUMERIC,
        operator.invert: INTEGER,
    }.items():
        for dtype in kinds:
            x = sample(dtype)
            assert_same(op(xp.asarray(x)), op(strict.asarray(x)))


def test_in_place_operators_rebind():
    x = before = xp.arange(3)
    x += 1
    assert x.tolist() == [1, 2, 3] and before.tolist() == [0, 1, 2]


def test_matmul_operator():
    a, b = sample("float64", (2, 3)), sample("float64", (3, 4))
    assert_same(xp.asarray(a) @ xp.asarray(b), strict.asarray(a) @ strict.asarray(b))


def test_attributes():
    x = xp.asarray(X)
    assert (x.shape, x.ndim, x.size, x.dtype) == (X.shape, 3, 24, np.dtype("float64"))
    np.testing.assert_array_equal(np.asarray(x.mT), np.swapaxes(X, 1, 2))
    np.testing.assert_array_equal(np.asarray(x[0].T), X[0].T)
    with pytest.raises(ValueError, match="matrix_transpose"):
        _ = xp.ones(3).mT
    assert x.to_device(x.device) is x
    assert x.__array_namespace__() is xp
    assert x.__array_namespace__(api_version="2022.12") is xp
    with pytest.raises(ValueError, match="1999"):
        x.__array_namespace__(api_version="1999.01")


def test_conversions_to_python():
    assert bool(xp.asarray(True)) is True
    assert int(xp.asarray(3.7)) == 3
    assert float(xp.asarray(2)) == 2.0
    assert complex(xp.asarray(1 + 2j)) == 1 + 2j
    assert complex(xp.asarray(3)) == 3
    assert [10, 20, 30][xp.asarray(1)] == 20
    for bad in (xp.asarray(1.0), xp.asarray(True), xp.ones(1, dtype=xp.int32)):
        with pytest.raises(TypeError):
            operator.index(bad)
    with pytest.raises(TypeError):
        float(xp.asarray(1j))
    with pytest.raises((TypeError, ValueError)):
        bool(xp.ones(2))
    with pytest.raises((TypeError, ValueError)):
        int(xp.ones(2))


def test_dlpack():
    x = xp.asarray(sample("float32"))
    np.testing.assert_array_equal(np.from_dlpack(x), np.asarray(x))
    assert isinstance(x.__dlpack_device__(), tuple)
    assert_same(xp.from_dlpack(np.arange(4)), strict.asarray(np.arange(4)))
    with pytest.raises(ValueError, match="copy"):
        xp.from_dlpack(np.arange(4), copy=False)


def test_namespace_is_a_module():
    assert isinstance(xp, types.ModuleType)


def test_signs_of_zeros_in_floor_division():
    a = np.array([0.0, -0.0, 0.0, -0.0, 4.0, -4.0])
    b = np.array([3.0, 3.0, -3.0, -3.0, 2.0, 2.0])
    with asgfn.enable_x64():
        for ours, theirs in ((xp.floor_divide, np.floor_divide), (xp.remainder, np.remainder)):
            got, want = np.asarray(ours(a, b)), theirs(a, b)
            np.testing.assert_array_equal(got, want)
            nonzero = (want != 0) | (ours is xp.floor_divide)
            np.testing.assert_array_equal(np.signbit(got)[nonzero], np.signbit(want)[nonzero])


def test_diagonals_far_outside():
    far = 2**40
    np.testing.assert_array_equal(xp.eye(3, k=far), np.zeros((3, 3)))
    np.testing.assert_array_equal(xp.tril(xp.ones((2, 2)), k=far), np.ones((2, 2)))
    np.testing.assert_array_equal(xp.triu(xp.ones((2, 2)), k=far), np.zeros((2, 2)))


def test_integer_linspace_is_exact():
    got = xp.linspace(16777213, 16777217, 5, dtype=xp.uint32)
    np.testing.assert_array_equal(got, np.arange(16777213, 16777218, dtype=np.uint32))


def test_complex_expm1_at_infinity():
    inf, nan = np.inf, np.nan
    z = np.array(
        [complex(inf, 0), complex(-inf, inf), complex(inf, nan), complex(-inf, 1), complex(0, 0)], np.complex64
    )
    with np.errstate(all="ignore"):
        got = np.asarray(xp.expm1(z))
    np.testing.assert_array_equal(got.real, [inf, -1, inf, -1, 0])
    np.testing.assert_array_equal(got.imag[[0, 1, 2, 4]], [0, 0, nan, 0])
