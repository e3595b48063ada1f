"""Register code for processors: 64-bit numbers, small elements in memory, IEEE arithmetic. Against the NumPy backend."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import asgfn
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import primitive
from backends.kernels import scalar
from backends.kernels.elements import Elements
from backends.kernels.elements_indexing import window_start
from backends.kernels.ir import F64, I8, I64, U8, U16, U64, Let
from backends.kernels.monoids import Monoid
from backends.kernels.schedules.sorting import _high_word, _low_word
from backends.kernels.types import Types
from tests.kernel_numpy import DTYPES, Evaluation
from tests.operations import OPERATIONS

TYPES = Types(narrow=True, wide=True, exact=True)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DOUBLE, SINGLE, HALF, BOOL = (np.dtype(name) for name in ("float64", "float32", "float16", "bool"))
FLOATS = (DOUBLE, SINGLE, HALF, BFLOAT16)
INTEGERS = tuple(np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64))
ALL = (*FLOATS, *INTEGERS, BOOL)
named: dict[str, Any] = {"ids": lambda x: x if isinstance(x, str) else getattr(x, "name", None)}

UNARY = (
    "neg", "abs", "sign", "floor", "ceil", "square", "is_finite", "exp", "exp2", "expm1", "log", "log1p", "logistic",
    "sqrt", "rsqrt", "cbrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh",
    "atanh", "erf", "erfc", "lgamma", "not", "population_count", "clz",
)  # fmt: skip
BINARY = (
    "add", "sub", "mul", "div", "rem", "max", "min", "pow", "atan2", "nextafter", "eq", "ne", "lt", "le", "gt", "ge",
    "and", "or", "xor", "shift_left", "shift_right_logical", "shift_right_arithmetic",
)  # fmt: skip
# what is computed in 32 bits only, so that the host computes it of 64-bit floats
SINGLE_ONLY = ("digamma", "erf_inv", "bessel_i0e", "bessel_i1e")

SPECIAL = (
    np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.0, -3.0, 7.0, 100.0, -100.0, 1e-30,
    -1e-30, 1e-300, 1e300, -1e300, 255.0, 256.5, 65504.0, 65520.0, 2.0**31, 2.0**32, -(2.0**31), 2.0**63, 2.0**64,
    -(2.0**63), 2.0**53 + 2, 1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-9, 1 + 2.0**-8, 5e-8, 2e-8,
)  # fmt: skip


def numbers(dtype: np.dtype, n: int = 60) -> np.ndarray:
    """Hard numbers of a dtype, and random ones."""
    rng = np.random.default_rng(3)
    if dtype == BOOL:
        return np.array([False, True])
    if dtype.kind in "iu":
        low, high = (int(x) for x in (np.iinfo(dtype).min, np.iinfo(dtype).max))
        edge = [0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, high, high - 1, low, low + 1, high // 2 + 1]
        if dtype.kind == "i":
            edge += [-1, -2, -7, -64]
        return np.concatenate([np.array(edge, dtype), rng.integers(low, high, n, dtype, endpoint=True)])
    wide = [*SPECIAL, *rng.uniform(-5, 5, n), *(10.0 ** rng.uniform(-30, 30, n // 2)), *rng.uniform(-90, 90, n // 2)]
    with np.errstate(over="ignore"):
        return np.array(wide).astype(dtype)


def outputs(name: str, types: Sequence[ArrayType], params: dict) -> tuple[ArrayType, ...]:
    made = primitive(name).type_rule(*types, **params)
    return made if isinstance(made, tuple) else (made,)


def evaluated(name: str, arguments: Sequence[np.ndarray], **params: Any) -> np.ndarray:
    """The result of register code, as a dtype's number is in memory."""
    types = [ArrayType(a.shape, a.dtype) for a in arguments]
    outs = outputs(name, types, params)
    assert scalar.supports(name, types, outs, params)
    e = Evaluation()
    b = e.builder
    operands = [
        TYPES.from_memory(b, e.input(a.view(np.uint16) if a.dtype == BFLOAT16 else a, TYPES.storage(a.dtype)), a.dtype)
        for a in arguments
    ]
    made = scalar.apply(b, TYPES, name, operands, types, outs, params)
    assert not isinstance(made, list) and made.dtype == TYPES.register(outs[0].dtype)
    stored = TYPES.to_memory(b, made, outs[0].dtype)
    assert stored.dtype == TYPES.storage(outs[0].dtype)
    (found,) = e.results([stored])
    return found.view(outs[0].dtype)


def host(name: str, arguments: Sequence[np.ndarray], **params: Any) -> np.ndarray:
    types = [ArrayType(a.shape, a.dtype) for a in arguments]
    kernel = asgfn.get_backend("numpy").kernel(primitive(name), types, outputs(name, types, params), params)
    with np.errstate(all="ignore"):
        return np.asarray(kernel(list(arguments))[0])


def accepts(name: str, types: Sequence[ArrayType]) -> bool:
    try:
        return scalar.supports(name, types, outputs(name, types, {}), {})
    except (TypeError, ValueError, asgfn.errors.AsgError):
        return False


def assert_near(got: np.ndarray, wanted: np.ndarray, arguments: Sequence[np.ndarray], ulps: float) -> None:
    """Equal; floats within some units in the last place, where results that are not normal may be 0."""
    assert got.dtype == wanted.dtype
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, wanted)
        return
    limits = ml_dtypes.finfo(got.dtype)
    g, w = got.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(w), float(limits.smallest_normal))
        unit = 2.0 ** np.floor(np.log2(np.where(np.isfinite(size), size, 1))) * float(limits.eps)
        ok = (g == w) | (np.isnan(g) & np.isnan(w)) | (np.abs(g - w) <= ulps * unit)
        ok |= (np.abs(w) < float(limits.smallest_normal)) & (g == 0)
        # one more rounding may overflow
        top = float(limits.max)
        ok |= (np.isinf(g) != np.isinf(w)) & (np.minimum(np.abs(g), np.abs(w)) >= top * (1 - 2 * float(limits.eps)))
        ok &= (np.signbit(g) == np.signbit(w)) | np.isnan(w)
    bad = np.flatnonzero(~ok)
    assert not bad.size, [([a[i] for a in arguments], got[i], wanted[i]) for i in bad[:5]]


def _ulps(name: str, dtype: np.dtype) -> float:
    if name in ("add", "sub", "mul", "div", "sqrt", "rem", "nextafter", "neg", "abs", "sign", "max", "min", "square"):
        return 0.0
    if dtype == DOUBLE and name in ("erfc", "lgamma"):  # the references differ by that much
        return {"erfc": 512.0, "lgamma": 2048.0}[name]
    # NumPy's own functions are not exact either, and its steps in 16 bits are rounded
    return {SINGLE: 4.0, DOUBLE: 4.0}.get(dtype, 1.0)


# ---------------------------------------------------------------------------------------------- all primitives
@pytest.mark.parametrize("dtype", ALL, **named)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, dtype: np.dtype) -> None:
    x = numbers(dtype)
    if not accepts(name, [ArrayType(x.shape, dtype)]):
        pytest.skip(f"{name} is not of {dtype}")
    got, wanted = evaluated(name, [x]), host(name, [x])
    ulps = _ulps(name, dtype)
    if dtype in (HALF, BFLOAT16):  # NumPy computes some of them, such as rsqrt, in several 16-bit steps
        wide = host(name, [x.astype(np.float64)])
        with np.errstate(all="ignore"):
            wanted = wide.astype(dtype) if wide.dtype == np.float64 else wide
    if name == "lgamma":  # +0 or -0 where the gamma function is 1
        got, wanted = got + dtype.type(0), wanted + dtype.type(0)
    assert_near(got, wanted, [x], ulps)


@pytest.mark.parametrize("dtype", ALL, **named)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, dtype: np.dtype) -> None:
    x, y = (a.ravel() for a in np.meshgrid(numbers(dtype, 20), numbers(dtype, 20)))
    if not accepts(name, [ArrayType(x.shape, dtype)] * 2):
        pytest.skip(f"{name} is not of {dtype}")
    got, wanted = evaluated(name, [x, y]), host(name, [x, y])
    # of zeros of both signs either is the larger, and NumPy's 16-bit nextafter leaves a zero as it is
    if name in ("max", "min", "nextafter") and dtype in FLOATS:
        got, wanted = got + dtype.type(0), wanted + dtype.type(0)
    if dtype in (HALF, BFLOAT16) and name in ("rem", "pow", "atan2"):
        with np.errstate(all="ignore"):
            wanted = host(name, [x.astype(np.float64), y.astype(np.float64)]).astype(dtype)
    assert_near(got, wanted, [x, y], _ulps(name, dtype))


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("way", (0, 1))
def test_round(dtype: np.dtype, way: int) -> None:
    x = numbers(dtype)
    assert_near(evaluated("round", [x], rounding_method=way), host("round", [x], rounding_method=way), [x], 0)


@pytest.mark.parametrize("dtype", (*FLOATS, *INTEGERS), **named)
@pytest.mark.parametrize("power", (-2, 0, 1, 3, 6))
def test_integer_powers(dtype: np.dtype, power: int) -> None:
    if power < 0 and dtype in INTEGERS:
        pytest.skip("the host's")
    x = numbers(dtype)
    assert_near(evaluated("integer_pow", [x], y=power), host("integer_pow", [x], y=power), [x], 0)


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("bits", ((8, 7), (5, 10), (4, 3), (11, 20)))
def test_reduce_precision(dtype: np.dtype, bits: tuple[int, int]) -> None:
    x, params = numbers(dtype), {"exponent_bits": bits[0], "mantissa_bits": bits[1]}
    assert_near(evaluated("reduce_precision", [x], **params), host("reduce_precision", [x], **params), [x], 0)


@pytest.mark.parametrize("dtype", ALL, **named)
def test_choices(dtype: np.dtype) -> None:
    x, y, z = (numbers(dtype)[k:][: numbers(dtype).size - 2] for k in range(3))
    if dtype == BOOL:
        x = y = z = numbers(dtype)
    which = np.arange(x.size) % 2 == 0
    assert_near(evaluated("select_n", [which, x, y]), host("select_n", [which, x, y]), [x, y], 0)
    number = (np.arange(x.size) % 3).astype(np.int32)
    assert_near(evaluated("select_n", [number, x, y, z]), host("select_n", [number, x, y, z]), [x, y], 0)
    if dtype != BOOL:
        got, wanted = evaluated("clamp", [x, y, z]), host("clamp", [x, y, z])
        assert_near(got + dtype.type(0), wanted + dtype.type(0), [x, y, z], 0)


# ---------------------------------------------------------------------------------------------- conversions
@pytest.mark.parametrize(("source", "target"), list(itertools.product(ALL, ALL)), **named)
def test_conversions(source: np.dtype, target: np.dtype) -> None:
    x = numbers(source)
    params = {"new_dtype": target, "weak_type": False}
    assert_near(evaluated("convert_element_type", [x], **params), host("convert_element_type", [x], **params), [x], 0)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(ALL, ALL)), **named)
def test_bits(source: np.dtype, target: np.dtype) -> None:
    if source.itemsize != target.itemsize or (BOOL in (source, target) and source != target):
        pytest.skip("of another size")
    x, params = numbers(source), {"new_dtype": target}
    got, wanted = evaluated("bitcast_convert_type", [x], **params), host("bitcast_convert_type", [x], **params)
    np.testing.assert_array_equal(got.view(f"u{got.itemsize}"), wanted.view(f"u{got.itemsize}"))


def test_rounding_of_doubles_to_halves_happens_once() -> None:
    """Numbers next to the middle between two 16-bit floats, nearer than a 32-bit float can tell."""
    rng = np.random.default_rng(0)
    low = rng.uniform(-7e4, 7e4, 3000).astype(np.float16)
    low = np.concatenate([low, rng.uniform(-1e-4, 1e-4, 3000).astype(np.float16)])
    low = low[np.isfinite(low)]
    middle = (low.astype(np.float64) + np.nextafter(low, np.float16(np.inf)).astype(np.float64)) / 2
    x = np.concatenate([middle * (1 + k * 2.0**-50) for k in (-2, -1, 0, 1, 2)])
    params = {"new_dtype": HALF, "weak_type": False}
    with np.errstate(over="ignore"):
        wanted = x.astype(np.float16)
    np.testing.assert_array_equal(evaluated("convert_element_type", [x], **params), wanted)


@pytest.mark.parametrize("dtype", ALL, **named)
def test_elements_are_those_of_numpy(dtype: np.dtype) -> None:
    """Memory holds arrays as they are, and constants are what they are in arrays."""
    assert TYPES.numpy_storage(dtype) == dtype
    assert np.dtype(DTYPES[TYPES.storage(dtype)]).itemsize == dtype.itemsize
    x = numbers(dtype)
    bits = f"u{dtype.itemsize}"
    e = Evaluation()
    b = e.builder
    memory = e.input(x.view(DTYPES[TYPES.storage(dtype)]), TYPES.storage(dtype))
    constants = [TYPES.to_memory(b, TYPES.constant(b, v, dtype), dtype) for v in x[:20].tolist()]
    copy, *made = e.results([TYPES.to_memory(b, TYPES.from_memory(b, memory, dtype), dtype), *constants])
    missing = x != x if dtype in FLOATS else np.zeros(x.size, bool)
    np.testing.assert_array_equal(copy.view(bits)[~missing], x.view(bits)[~missing])
    for k, array in enumerate(made):
        if not missing[k]:
            assert array.view(bits)[0] == x.view(bits)[k]


def test_small_elements_are_named() -> None:
    wanted = {"bool": U8, "int8": I8, "uint16": U16, "bfloat16": U16, "float64": F64, "int64": I64, "uint64": U64}
    assert {name: TYPES.storage(np.dtype(name)) for name in wanted} == wanted
    assert TYPES.register(BOOL) == "bool" and TYPES.register(np.dtype(np.int8)) == "i32"
    assert not Types(narrow=True).holds(DOUBLE) and not TYPES.holds(np.dtype(np.complex64))


# ---------------------------------------------------------------------------------------------- accuracy
@pytest.mark.parametrize("name", SINGLE_ONLY)
def test_what_is_computed_in_32_bits_only(name: str) -> None:
    assert not accepts(name, [ArrayType((3,), DOUBLE)])
    x = numbers(SINGLE)
    exact = host(name, [x.astype(np.float64)])
    zeros = np.abs(exact) < (3e-3 if name == "digamma" else 0)  # where digits cancel
    far = (name == "digamma") & (x < -20)
    keep = ~(zeros | far)
    with np.errstate(over="ignore"):
        assert_near(evaluated(name, [x])[keep], exact.astype(np.float32)[keep], [x[keep]], 8.0)


def every_magnitude(step: int = 20011) -> np.ndarray:
    """32-bit floats of all exponents and both signs, special ones, and NaN of several kinds."""
    rng = np.random.default_rng(1)
    bits = np.concatenate([np.arange(0, 2**32, step), [0x7FC00001, 0x7F800001, 0xFFFFFFFF, 0x80000000, 0x7F800000]])
    near = np.concatenate([rng.uniform(-k, k, 20000) for k in (1, 4, 12, 100, 30000)]).astype(np.float32)
    edges = np.array(
        [1, -1, 1 - 2**-24, -1 + 2**-24, 88.72283, 88.72284, -87.33654, 128, -126, 89.415985, 1e-40], np.float32
    )
    return np.concatenate([bits.astype(np.uint32).view(np.float32), near, edges])


# operations written, and units in the last place
COSTS = {
    "exp": (17, 1), "exp2": (16, 1), "expm1": (24, 1.6), "log": (29, 1), "log1p": (30, 1.6), "logistic": (28, 2),
    "tanh": (25, 1.7), "sinh": (29, 2), "cosh": (19, 1.6), "asinh": (43, 2), "acosh": (41, 2.1), "atanh": (37, 2),
    "sqrt": (1, 0.51), "rsqrt": (2, 1.5), "cbrt": (35, 2), "erf": (35, 1), "erfc": (41, 0.6), "sin": (20, 0.51),
    "cos": (20, 0.51), "tan": (23, 0.51), "asin": (22, 2), "acos": (25, 1.5), "atan": (19, 1.8),
}  # fmt: skip


def _error(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """In units in the last place, where the result is a normal number; special values must be equal."""
    with np.errstate(all="ignore"):
        wanted = exact.astype(np.float32)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        np.testing.assert_array_equal(np.isinf(got), np.isinf(wanted))
        signs = np.isnan(wanted) | (np.signbit(got) == np.signbit(wanted))
        assert signs.all()
        normal = np.isfinite(wanted) & (np.abs(exact) >= 2.0**-126)
        unit = np.spacing(np.abs(wanted)).astype(np.float64)
        return np.where(normal, np.abs(got - exact) / np.where(normal, unit, 1), 0)


@pytest.mark.parametrize("name", COSTS)
def test_accuracy_in_32_bits(name: str) -> None:
    x = every_magnitude()
    types = [ArrayType(x.shape, SINGLE)]
    e = Evaluation()
    made = scalar.apply(e.builder, TYPES, name, [e.input(x, "f32")], types, types, {})
    assert not isinstance(made, list)
    most, ulps = COSTS[name]
    assert e.operations <= most
    error = _error(e.results([made])[0], host(name, [x.astype(np.float64)]))
    worst = error.argmax()
    assert error[worst] <= ulps, (x[worst], error[worst])


def test_accuracy_of_powers_and_angles() -> None:
    x = every_magnitude()
    rng = np.random.default_rng(2)
    y = rng.permutation(x)
    base = np.abs(rng.uniform(-100, 100, 50000)).astype(np.float32)
    power = (85 / np.log(base) * rng.uniform(-1, 1, base.size)).astype(np.float32)
    some = numbers(SINGLE, 20)
    a, b = (
        np.concatenate([*pair])
        for pair in ((x, base, np.repeat(some, some.size)), (y, power, np.tile(some, some.size)))
    )
    for name, ulps in (("pow", 0.6), ("atan2", 2.0)):
        error = _error(evaluated(name, [a, b]), host(name, [a.astype(np.float64), b.astype(np.float64)]))
        assert error.max() <= ulps, (name, a[error.argmax()], b[error.argmax()], error.max())


# ---------------------------------------------------------------------------------------------- the table
@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.primitive in scalar.RULES], ids=lambda op: op.id)
def test_table(op: Any) -> None:
    """What the table of operations holds, as register code."""
    done = 0
    with asgfn.enable_x64():
        for dtype, sample in itertools.product(op.dtypes, op.samples):
            if dtype.startswith("complex") or any(np.asarray(a).dtype.kind == "c" for a in sample):
                continue
            kind = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
            arguments = [np.asarray(a) for a in sample]
            arguments = [a.astype(kind) if a.dtype.kind == "f" else a for a in arguments]
            asg = asgfn.trace(op.f)(*arguments)
            node = asg.nodes[-1]
            types = [ArrayType(a.shape, a.dtype) for a in arguments]
            if len(asg.nodes) > 1 or not scalar.supports(op.primitive, types, node.out_types, node.params):
                continue
            flat = [a.ravel() for a in np.broadcast_arrays(*arguments)]
            if flat[0].size:
                ulps = 8.0 if op.primitive in (*SINGLE_ONLY, "zeta", "polygamma") else _ulps(op.primitive, kind)
                assert_near(
                    evaluated(op.primitive, flat, **node.params), host(op.primitive, flat, **node.params), flat, ulps
                )
                done += 1
    if not done:
        pytest.skip("the host computes it")


# ---------------------------------------------------------------------------------------------- what uses it
def _integers(dtype: np.dtype) -> np.ndarray:
    return np.concatenate([numbers(dtype), np.array([2**32, 2**32 + 3, 2**40 + 1, 5, 6], np.uint64).astype(dtype)])


@pytest.mark.parametrize("dtype", INTEGERS, **named)
def test_large_indices_do_not_wrap_around(dtype: np.dtype) -> None:
    x = _integers(dtype)
    with asgfn.enable_x64():
        asg = asgfn.trace(lambda i: i)(np.zeros((), dtype))
    e = Evaluation()
    elements = Elements(e.builder, asg, TYPES, [None], [])  # type: ignore[list-item]
    elements.resolve(0, (), TYPES.from_memory(e.builder, e.input(x, TYPES.storage(dtype)), dtype))
    start, inside = window_start(elements, 0, (), 5, None, True)
    assert inside is not None
    place, fits = e.results([e.builder.index(start), inside])
    np.testing.assert_array_equal(place, [min(max(int(v), 0), 5) for v in x])
    np.testing.assert_array_equal(fits, [0 <= int(v) <= 5 for v in x])


@pytest.mark.parametrize("dtype", (DOUBLE, np.dtype(np.int64), np.dtype(np.uint64)), **named)
def test_keys_of_64_bits_are_two(dtype: np.dtype) -> None:
    x = numbers(dtype)
    e = Evaluation()
    value = e.input(x, TYPES.register(dtype))
    high, low = e.results([_high_word(e.builder, value), _low_word(e.builder, value)])
    assert high.dtype == low.dtype == np.uint32
    np.testing.assert_array_equal(np.lexsort((low, high)), np.argsort(x, kind="stable"))


@pytest.mark.parametrize("dtype", (DOUBLE, SINGLE), **named)
def test_monoids(dtype: np.dtype) -> None:
    x, y = (a.ravel() for a in np.meshgrid(numbers(dtype, 20), numbers(dtype, 20)))
    combine: dict[str, Callable] = {"add": np.add, "max": np.maximum, "min": np.minimum, "logaddexp": np.logaddexp}
    for name, reference in combine.items():
        monoid, e = Monoid(TYPES, name, dtype), Evaluation()
        a, c = (e.input(v, TYPES.register(dtype)) for v in (x, y))
        got, same = e.results(
            [monoid.combine(e.builder, a, c), monoid.combine(e.builder, a, monoid.identity(e.builder))]
        )
        with np.errstate(all="ignore"):
            wanted = reference(x, y)
            assert_near(got + dtype.type(0), wanted + dtype.type(0), [x, y], 3.0 if name == "logaddexp" else 0.0)
        assert_near(same, x, [x], 0)


@pytest.mark.parametrize("name", ("argmax", "argmin"))
def test_nan_goes_first(name: str) -> None:
    x, y = np.array([1, np.nan, 1, np.nan, 2, 1]), np.array([2, 1, np.nan, np.nan, 1, 1])
    e = Evaluation()
    (got,) = e.results([scalar.goes_before(e.builder, TYPES, name, e.input(x, F64), e.input(y, F64))])
    assert got.tolist() == [name == "argmin", True, False, False, name == "argmax", False]


def test_nothing_is_asked_of_bits() -> None:
    """Comparisons and extrema are single operations."""
    for name in ("eq", "ne", "ge", "max", "min", "sub", "is_finite"):
        x = np.zeros(3, np.float32)
        types = [ArrayType(x.shape, SINGLE)] * (1 if name == "is_finite" else 2)
        e = Evaluation()
        values = [e.input(x, "f32") for _ in types]
        scalar.apply(e.builder, TYPES, name, values, types, outputs(name, types, {}), {})
        assert [s.value.op for s in e.builder.body if isinstance(s, Let)] == (
            ["abs", "lt"] if name == "is_finite" else [name]
        )
