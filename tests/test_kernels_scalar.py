"""Element-wise primitives as register code: on a software GPU and in the interpreter, against the NumPy backend."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import asgfn
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import all_primitives, primitive
from asgfn.transforms import region_roles
from backends.kernels import scalar
from backends.kernels.ir import Builder, Let, Value
from backends.kernels.target import Target
from backends.kernels.types import Types
from tests.kernel_interpreter import run_body

pytest.importorskip("wgpu")
os.environ.setdefault("VK_ICD_FILENAMES", "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")

from tests.kernel_runner import device, run_graph

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SINGLE, HALF = np.dtype(np.float32), np.dtype(np.float16)
FLOATS = (SINGLE, HALF, BFLOAT16)
INTEGERS = tuple(map(np.dtype, ("int32", "int16", "int8", "uint32", "uint16", "uint8")))
BOOL = np.dtype(np.bool_)
MANTISSA = {SINGLE: 23, HALF: 10, BFLOAT16: 7}
SMALLEST = {SINGLE: 2.0**-126, HALF: 2.0**-14, BFLOAT16: 2.0**-126}
ids = pytest.mark.parametrize

SPECIAL = (
    np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.0, -2.0, 2.5, -2.5, 3.0, -3.0, 1 - 2**-8, 1 + 2**-7, 1e-4, -1e-4,
    1.5e-38, -1.5e-38, 1e-20, -1e-20, 1e20, -1e20, 3.38e38, -3.38e38, 88.5, -87.0, 89.0, -104.0, 127.5, -126.0, 9.0, 4097.0, 65504.0, 32769.5,
)  # fmt: skip

# error in units in the last place of a 32-bit result that is normal; others are within 4
ULPS = {
    "tanh": 6, "erf": 6, "erfc": 6, "bessel_i0e": 7, "bessel_i1e": 7, "lgamma": 8, "digamma": 8, "add": 0.5, "sub": 0.5, "mul": 0.5,
    "rem": 0.0, "div": 2.5,
}  # fmt: skip
# near their zeros on the negative axis these lose digits: the error is then that of a number of this size
SCALE = {"lgamma": 4.0, "digamma": 4.0}


@functools.cache
def numbers(dtype: np.dtype, n: int = 900) -> np.ndarray:
    """Hard numbers of a dtype, and random ones of all magnitudes."""
    rng = np.random.default_rng(5)
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        edge = [
            0,
            1,
            2,
            3,
            5,
            7,
            31,
            32,
            33,
            bounds.max,
            bounds.max - 1,
            bounds.min,
            bounds.min + 1,
            bounds.max // 2 + 1,
            100,
        ]
        edge += [-1, -2, -7, -33] if dtype.kind == "i" else []
        return np.concatenate([np.array(edge), rng.integers(bounds.min, bounds.max, 60, endpoint=True)]).astype(dtype)
    if dtype.kind == "b":
        return np.array([False, True, True, False])
    top = 38.3 if dtype != HALF else 4.8
    wide = 10.0 ** rng.uniform(-top + 0.7, top, n) * rng.choice([-1, 1], n)
    near = np.concatenate([rng.uniform(-k, k, n) for k in (1, 4, 30, 120)])
    with np.errstate(over="ignore"):
        x = np.concatenate([SPECIAL, near, wide]).astype(dtype)
    tiny = (np.abs(x.astype(np.float64)) < SMALLEST[dtype]) & (x != 0)  # devices may take them for 0
    return x[~tiny]


def few(dtype: np.dtype) -> np.ndarray:
    """Special numbers of a dtype, and a few random ones: for all pairs."""
    if dtype.kind in "iub":
        return numbers(dtype)
    rng = np.random.default_rng(6)
    top = 37 if dtype != HALF else 4
    with np.errstate(over="ignore"):
        x = np.concatenate([SPECIAL, rng.uniform(-5, 5, 12), 10.0 ** rng.uniform(-top, top, 12)]).astype(dtype)
    return x[(np.abs(x.astype(np.float64)) >= SMALLEST[dtype]) | (x == 0) | np.isnan(x)]


def pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(a, b)
    return x.ravel(), y.ravel()


_WITH_PARAMETERS = ("round", "integer_pow", "reduce_precision", "convert_element_type", "bitcast_convert_type")


def names_of(arity: int, dtype: np.dtype, exclude: Sequence[str] = ()) -> list[str]:
    """Element-wise primitives that take operands of a dtype (and no parameters), and have register code."""
    found = []
    for name, p in all_primitives().items():
        role = region_roles._BY_NAME.get(name) or region_roles._BY_CATEGORY.get(p.category)
        if role != region_roles.ELEMENTWISE or name not in scalar.RULES or name in (*exclude, *_WITH_PARAMETERS):
            continue
        try:
            p.type_rule(*[ArrayType((3,), dtype)] * arity)
        except (TypeError, ValueError, asgfn.errors.AsgError):
            continue
        found.append(name)
    return found


def run(calls: Sequence[Callable], arguments: Sequence[np.ndarray], types: Types | None = None) -> list[np.ndarray]:
    """The results of functions of the arguments, by kernels alone."""
    asg = asgfn.trace(lambda *xs: [f(*xs) for f in calls])(*arguments)
    got = run_graph(asg, arguments, Target(types=types or Types()), fused=False)
    assert run_graph.host == []  # type: ignore[attr-defined]
    return got


def host(call: Callable, arguments: Sequence[np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(asgfn.get_backend("numpy").compile(asgfn.trace(call)(*arguments))(arguments)[0])


def exact_result(name: str, arguments: Sequence[np.ndarray], **params: Any) -> np.ndarray:
    """The NumPy backend's result in 64 bits."""
    wide = [a.astype(np.float64) for a in arguments]
    types = [ArrayType(a.shape, a.dtype) for a in wide]
    with np.errstate(all="ignore"):
        return backend_kernel(name, types, params)(wide)[0]


def backend_kernel(name: str, types: Sequence[ArrayType], params: dict) -> Callable:
    p = primitive(name)
    out = p.type_rule(*types, **params)
    return asgfn.get_backend("numpy").kernel(p, types, out if isinstance(out, tuple) else (out,), params)


def assert_close(name: str, got: np.ndarray, exact: np.ndarray, arguments: Sequence[np.ndarray], ulps: float) -> None:
    """Whether floats are within some units in the last place of exact results, signs of zeros included.

    Results that are not normal numbers may be 0, or the smallest one.
    """
    dtype = got.dtype
    with np.errstate(all="ignore"):
        rounded = exact.astype(dtype)
        g = got.astype(np.float64)
        size = np.maximum(np.abs(rounded.astype(np.float64)), SCALE.get(name, 0.0))
        unit = 2.0 ** (np.floor(np.log2(np.where(size > 0, size, 1))) - MANTISSA[dtype])
        tiny = (np.abs(exact) <= SMALLEST[dtype] * 1.001) & (np.abs(g) <= SMALLEST[dtype] * 1.001)
        ok = np.abs(g - exact) <= ulps * unit
        ok |= (rounded == got) | (np.isnan(exact) & np.isnan(g))
        ok &= np.isnan(exact) == np.isnan(g)
        # a rounding more or less may overflow or not
        edge = np.isinf(g) != np.isinf(rounded)
        top = float(ml_dtypes.finfo(dtype).max)
        ok |= (
            edge
            & (np.sign(g) == np.sign(exact))
            & (np.abs(np.where(np.isinf(g), exact, g)) >= top * (1 - ulps * 2.0 ** -MANTISSA[dtype]))
        )
        ok |= tiny & (np.signbit(g) == np.signbit(exact))
        ok &= (np.signbit(g) == np.signbit(exact)) | np.isnan(exact) | (name in _ZERO_OF_EITHER_SIGN) | (name in SCALE)
    bad = np.flatnonzero(~ok)
    shown = [([a[i].item() for a in arguments], got[i].item(), exact[i].item()) for i in bad[:4]]
    assert not len(bad), f"{name} of {dtype}: {len(bad)} wrong, such as (operands, got, wanted): {shown}"


def assert_same(got: np.ndarray, wanted: np.ndarray, err_msg: str = "") -> None:
    """Equal numbers of equal dtypes, NaN being equal to NaN."""
    assert got.dtype == wanted.dtype, err_msg
    if got.dtype in FLOATS:
        got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    np.testing.assert_array_equal(got, wanted, err_msg=err_msg)


_ZERO_OF_EITHER_SIGN = ("max", "min")  # of zeros of both signs, either is the larger

_TYPES = [(d, Types()) for d in FLOATS] + [(HALF, Types(half=True))]
_names = [f"{d.name}{'-native' if t.half else ''}" for d, t in _TYPES]


def _needs_half(types: Types) -> None:
    if types.half and "shader-f16" not in device().features:
        pytest.skip("the adapter has no 16-bit floats")


def tolerance(name: str, dtype: np.dtype, types: Types) -> float:
    if dtype == SINGLE:
        return ULPS.get(name, 4.0)
    # one rounding after a few units of 32 bits; native division may be off by more
    return 2.5 if types.half and name == "div" else 0.0 if name == "rem" else 0.51


# ---------------------------------------------------------------------------------------------- floats
@ids("dtype, types", _TYPES, ids=_names)
def test_functions_of_one_float(dtype: np.dtype, types: Types) -> None:
    _needs_half(types)
    x = numbers(dtype)
    names = [n for n in names_of(1, dtype) if n not in ("is_finite",)]
    assert len(names) >= 32
    got = run([functools.partial(lambda n, x: primitive(n).bind(x), n) for n in names], [x], types)
    for name, result in zip(names, got, strict=True):
        assert_close(name, result, exact_result(name, [x]), [x], tolerance(name, dtype, types))


@ids("dtype, types", _TYPES, ids=_names)
def test_functions_of_two_floats(dtype: np.dtype, types: Types) -> None:
    _needs_half(types)
    x, y = pairs(few(dtype), few(dtype))
    names = [n for n in names_of(2, dtype) if n not in (*_COMPARISONS, "nextafter", "zeta", "polygamma")]
    assert {"add", "sub", "mul", "div", "rem", "max", "min", "pow", "atan2"} <= set(names)
    got = run([functools.partial(lambda n, x, y: primitive(n).bind(x, y), n) for n in names], [x, y], types)
    for name, result in zip(names, got, strict=True):
        assert_close(name, result, exact_result(name, [x, y]), [x, y], tolerance(name, dtype, types))


_COMPARISONS = ("eq", "ne", "ge", "gt", "le", "lt")


@ids("dtype, types", _TYPES, ids=_names)
def test_comparisons_and_selection_of_floats(dtype: np.dtype, types: Types) -> None:
    _needs_half(types)
    x, y = pairs(few(dtype), few(dtype))
    z = y[::-1].copy()
    calls: dict[str, Callable] = {
        n: functools.partial(lambda n, x, y, z: primitive(n).bind(x, y), n) for n in _COMPARISONS
    }
    calls |= {n + " itself": functools.partial(lambda n, x, y, z: primitive(n).bind(x, x), n) for n in _COMPARISONS}
    calls |= {
        "is_finite": lambda x, y, z: primitive("is_finite").bind(x),
        "nextafter": lambda x, y, z: primitive("nextafter").bind(x, y),
        "clamp": lambda x, y, z: primitive("clamp").bind(x, y, z),
        "select": lambda x, y, z: primitive("select_n").bind(primitive("lt").bind(x, y), x, z),
        "even": lambda x, y, z: primitive("round").bind(x, rounding_method=1),
        "away": lambda x, y, z: primitive("round").bind(x, rounding_method=0),
        "bits": lambda x, y, z: primitive("convert_element_type").bind(x, new_dtype=BOOL, weak_type=False),
    }
    for e, m in ((5, 10), (8, 7), (8, 3), (4, 3), (2, 1), (8, 23)):
        if dtype == SINGLE or (e, m) != (8, 23):
            calls[f"reduce_precision {e} {m}"] = functools.partial(
                lambda e, m, x, y, z: primitive("reduce_precision").bind(x, exponent_bits=e, mantissa_bits=m), e, m
            )
    for (label, call), result in zip(calls.items(), run(list(calls.values()), [x, y, z], types), strict=True):
        want = host(call, [x, y, z])
        if label == "nextafter":  # the neighbours of 0 may be flushed to it
            tiny = np.abs(want.astype(np.float64)) < SMALLEST[dtype]
            want, result = np.where(tiny, dtype.type(0), want), np.where(tiny, dtype.type(0), result)
        assert_same(result, want, err_msg=f"{label} {dtype}")


@ids("dtype, types", _TYPES, ids=_names)
def test_whole_powers(dtype: np.dtype, types: Types) -> None:
    _needs_half(types)
    x = numbers(dtype)
    powers = (0, 1, 3, 5, -1, -2, 7)
    calls = [functools.partial(lambda n, x: primitive("integer_pow").bind(x, y=n), n) for n in powers]
    for n, result in zip(powers, run(calls, [x], types), strict=True):
        want = host(lambda x: primitive("integer_pow").bind(x, y=n), [x]).astype(np.float64)
        assert_close("integer_pow", result, want, [x], 2.0)


def test_powers_with_whole_exponents() -> None:
    x, y = pairs(few(SINGLE), np.array([-3, -1, 0, 1, 2, 5, 100], np.int32))
    (got,) = run([lambda x, y: primitive("pow").bind(x, y)], [x, y])
    assert_close("pow", got, exact_result("pow", [x, y]), [x, y], 4.0)


def test_zeta_and_polygamma() -> None:
    rng = np.random.default_rng(4)
    n = 1500
    samples: dict[str, list[tuple]] = {
        "zeta": [(rng.uniform(1.05, 8, n), 10 ** rng.uniform(-3, 3, n)), (rng.uniform(8, 60, n), rng.uniform(0.1, 2, n)), (rng.integers(2, 9, n), -rng.uniform(0, 30, n))],
        "polygamma": [(rng.integers(0, 4, n), 10 ** rng.uniform(-3, 12, n)), (rng.integers(4, 30, n), rng.uniform(1, 20, n)), (rng.integers(1, 4, n), -rng.uniform(0, 9, n))],
    }  # fmt: skip
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, 3.0, -2.0, 0.5, -1.5, 1e20])
    special = pairs(values, values)
    for name, cases in samples.items():
        for k, case in enumerate([*cases, special]):
            operands = [x.astype(np.float32) for x in case]
            (got,) = run([lambda x, y: primitive(name).bind(x, y)], operands)
            want = exact_result(name, operands)
            if k == 3:  # whatever an order of 1e20 gives
                known = operands[0] < 1e19
                got, want = got[known], want[known]
            if k == 2:  # terms of both signs, which may cancel
                known = np.abs(want) > 1
                got, want = got[known], want[known]
            with np.errstate(over="ignore"):
                np.testing.assert_allclose(
                    got,
                    want.astype(np.float32),
                    rtol=4e-6 if name == "zeta" else 1e-5,
                    atol=2.0**-126,
                    err_msg=f"{name} {k}",
                )


def test_constant_operands() -> None:
    x = few(SINGLE)
    p = primitive
    calls = [
        lambda x: p("pow").bind(x, np.float32(2.5)), lambda x: p("pow").bind(np.float32(0.0), x),
        lambda x: p("max").bind(x, np.float32(np.nan)), lambda x: p("max").bind(x, np.float32(0)),
        lambda x: p("min").bind(np.float32(np.inf), x), lambda x: p("div").bind(x, np.float32(0)),
        lambda x: p("atan2").bind(np.float32(-0.0), x), lambda x: p("rem").bind(x, np.float32(0.75)),
        lambda x: p("clamp").bind(np.float32(-1), x, np.float32(2)),
    ]  # fmt: skip
    for call, result in zip(calls, run(calls, [x]), strict=True):
        assert_close("constant", result, host(call, [x]).astype(np.float64), [x], 4.0)


@ids("name", ["log", "div", "pow", "exp", "add", "rem", "atan2"])
def test_compilers_do_not_compute_with_constants(name: str) -> None:
    """They would refuse 1 / 0, and what overflows."""
    b, t = Builder(), ArrayType((), SINGLE)
    arity = 1 if name in ("log", "exp") else 2
    scalar.apply(b, Types(), name, [b.constant(0.0, "f32")] * arity, [t] * arity, [t], {})
    for s in b.body:
        if isinstance(s, Let) and s.value.args and s.value.op != "bitcast":
            assert not all(a.op == "constant" for a in s.value.args), s.value.op


@ids("fused", [False, True])
@ids("flush", [False, True])
def test_functions_with_other_roundings(fused: bool, flush: bool) -> None:
    """What devices may do otherwise than the adapter here: round `fma` once, take tiny numbers for 0."""
    x = numbers(SINGLE, 6000)
    for name in names_of(1, SINGLE, exclude=("is_finite",)):
        assert_close(
            name, interpreted(name, [x], fused, flush), exact_result(name, [x]), [x], tolerance(name, SINGLE, Types())
        )
    rng = np.random.default_rng(8)
    n = 8000
    a = np.concatenate(
        [
            rng.uniform(0, 10, n),
            10.0 ** rng.uniform(-37, 38, n),
            1 + rng.uniform(-0.01, 0.01, n),
            -rng.uniform(0, 10, n),
        ]
    )
    b = np.concatenate(
        [rng.uniform(-10, 10, n), rng.uniform(-3, 3, n), 10.0 ** rng.uniform(0, 5, n), rng.integers(-20, 20, n)]
    )
    operands = [a.astype(np.float32), b.astype(np.float32)]
    for name in ("pow", "atan2", "rem"):
        assert_close(name, interpreted(name, operands, fused, flush), exact_result(name, operands), operands, 4.0)


def interpreted(name: str, arguments: Sequence[np.ndarray], fused: bool, flush: bool) -> np.ndarray:
    b, t = Builder(), ArrayType((), SINGLE)
    operands = [Value("load", (), "f32", None, 0, f"x{k}") for k in range(len(arguments))]
    result = scalar.apply(b, Types(), name, operands, [t] * len(operands), [t], {})
    assert isinstance(result, Value)
    return run_body(b.body, dict(zip(operands, arguments, strict=True)), [result], fused, flush)[0]


def test_large_angles() -> None:
    rng = np.random.default_rng(9)
    x = np.concatenate([rng.uniform(-20000, 20000, 3000), 10.0 ** rng.uniform(4, 38.4, 3000)]).astype(np.float32)
    # the multiples of pi / 2 that 32-bit floats come nearest to, or that numbers below 12000 are rounded to
    x = np.concatenate(
        [x, (np.arange(1, 7000) * np.pi / 2).astype(np.float32), np.array([1.6e22, 2.0**127], np.float32)]
    )
    names = ("sin", "cos", "tan")
    got = run([functools.partial(lambda n, x: primitive(n).bind(x), n) for n in names], [x])
    for name, result in zip(names, got, strict=True):
        assert_close(name, result, exact_result(name, [x]), [x], 4.0)


def test_exact_values() -> None:
    """Where programs count on it, results are exact."""
    x = np.array([0.0, -0.0], np.float32)
    values = {
        "exp": 1,
        "exp2": 1,
        "cos": 1,
        "cosh": 1,
        "logistic": 0.5,
        "sin": 0,
        "tanh": 0,
        "erf": 0,
        "log1p": 0,
        "expm1": 0,
        "erfc": 1,
    }
    got = run([functools.partial(lambda n, x: primitive(n).bind(x), n) for n in values], [x])
    for (name, value), result in zip(values.items(), got, strict=True):
        assert (result == value).all(), name
    whole = np.arange(-126, 128).astype(np.float32)
    (powers,) = run([lambda x: primitive("exp2").bind(x)], [whole])
    assert_same(powers, np.ldexp(np.float32(1), whole.astype(int)))
    x = np.linspace(-12, 12, 20001, dtype=np.float32)
    for result in run(
        [lambda x: primitive("tanh").bind(x), lambda x: primitive("erf").bind(x), lambda x: primitive("sin").bind(x)],
        [x],
    ):
        assert (np.abs(result) <= 1).all()


# ---------------------------------------------------------------------------------------------- integers, booleans, bits
@ids("dtype", (*INTEGERS, BOOL), ids=str)
def test_integers(dtype: np.dtype) -> None:
    x, y = pairs(numbers(dtype), numbers(dtype))
    z = y[::-1].copy()
    calls: dict[str, Callable] = {}
    for name in names_of(1, dtype, exclude=("is_finite",)):
        calls[name] = functools.partial(lambda n, x, y, z: primitive(n).bind(x), name)
    for name in names_of(2, dtype, exclude=("pow",)):
        calls[name] = functools.partial(lambda n, x, y, z: primitive(n).bind(x, y), name)
    calls["clamp"] = lambda x, y, z: primitive("clamp").bind(
        primitive("min").bind(x, z), y, primitive("max").bind(x, z)
    )
    if dtype != BOOL:
        calls["integer_pow"] = lambda x, y, z: primitive("integer_pow").bind(x, y=5)
        calls["by 3"] = lambda x, y, z: primitive("div").bind(x, dtype.type(3))
        calls["rem 3"] = lambda x, y, z: primitive("rem").bind(x, dtype.type(3))
        calls["by 0"] = lambda x, y, z: primitive("div").bind(x, dtype.type(0))
        calls["shift by 40"] = lambda x, y, z: primitive("shift_left").bind(x, dtype.type(40))
        assert {
            "shift_left",
            "shift_right_logical",
            "shift_right_arithmetic",
            "population_count",
            "clz",
            "div",
            "rem",
            "sign",
            "abs",
        } <= set(calls)
    assert {"and", "or", "xor", "not", "eq", "lt", "max"} <= set(calls)
    for (name, call), result in zip(calls.items(), run(list(calls.values()), [x, y, z]), strict=True):
        assert_same(result, host(call, [x, y, z]), err_msg=f"{name} {dtype}")


@ids("types", [Types(), Types(half=True)], ids=["", "native"])
def test_conversions(types: Types) -> None:
    _needs_half(types)
    dtypes = (*FLOATS, *INTEGERS, BOOL)
    for source in dtypes:
        x = numbers(source, 50)
        calls = [
            functools.partial(lambda d, x: primitive("convert_element_type").bind(x, new_dtype=d, weak_type=False), d)
            for d in dtypes
            if d != source
        ]
        for call, result in zip(calls, run(calls, [x], types), strict=True):
            want = host(call, [x])
            if result.dtype in FLOATS:
                tiny = np.abs(want.astype(np.float64)) < SMALLEST[result.dtype]
                result, want = np.where(tiny, result.dtype.type(0), result), np.where(tiny, want.dtype.type(0), want)
            assert_same(result, want, err_msg=f"{source} to {result.dtype}")


def test_reinterpreted_bits() -> None:
    groups = [FLOATS[:1] + tuple(d for d in INTEGERS if d.itemsize == 4), FLOATS[1:] + tuple(d for d in INTEGERS if d.itemsize == 2),
              tuple(d for d in INTEGERS if d.itemsize == 1)]  # fmt: skip
    for group in groups:
        for source in group:
            x = numbers(source, 50)
            x = x[~np.isnan(x.astype(np.float64))] if source in FLOATS else x
            for target in group:

                def call(x: Any) -> Any:
                    return primitive("bitcast_convert_type").bind(x, new_dtype=target)

                (got,), want = run([call], [x]), host(call, [x])
                if target in FLOATS:
                    normal = np.isfinite(want.astype(np.float64)) & (
                        np.abs(want.astype(np.float64)) >= SMALLEST[target]
                    )
                    got, want = got[normal], want[normal]
                assert_same(got, want, err_msg=f"{source} as {target}")


def test_random_words() -> None:
    rng = np.random.default_rng(2)
    words = [rng.integers(0, 2**32, 500, dtype=np.uint32) for _ in range(4)]

    def call(*words: Any) -> Any:
        return primitive("threefry2x32").bind(*words)

    for operands in (words, [words[0][:1].reshape(()), words[1][0], *words[2:]]):
        operands = [np.asarray(w) for w in operands]
        asg = asgfn.trace(call)(*operands)
        got = run_graph(asg, operands, fused=False)
        assert run_graph.host == []  # type: ignore[attr-defined]
        for g, w in zip(got, asgfn.get_backend("numpy").compile(asg)(operands), strict=True):
            assert_same(g, w)


def test_selection_by_number() -> None:
    which = np.array([-3, 0, 1, 2, 3, 2**31 - 1], np.int32)
    cases = [np.arange(6, dtype=np.float32) * k for k in (1, 10, 100)]
    call = lambda w, *xs: primitive("select_n").bind(w, *xs)
    (got,) = run([call], [which, *cases])
    assert_same(got, host(call, [which, *cases]))
    (alone,) = run([call], [which, cases[1]])
    assert_same(alone, cases[1])


# ---------------------------------------------------------------------------------------------- reductions
@ids("dtype", (*FLOATS, *INTEGERS, BOOL), ids=str)
def test_combinations_of_reductions(dtype: np.dtype) -> None:
    rng = np.random.default_rng(3)
    x = rng.choice(numbers(dtype, 20), (40, 5))
    x[0], x[1] = x[0, 0], np.sort(x[1])
    names = ["reduce_max", "reduce_min", "argmax", "argmin"]
    names += ["reduce_and", "reduce_or", "reduce_xor"] if dtype not in FLOATS else []
    names += ["reduce_sum", "reduce_prod"] if dtype in INTEGERS else []

    def call(name: str, x: Any) -> Any:
        params: dict[str, Any] = {"axes": (1,)}
        if name.startswith("arg"):
            params["index_dtype"] = np.dtype(np.int32)
        return primitive(name).bind(x, **params)

    calls = [functools.partial(call, n) for n in names]
    for name, f, result in zip(names, calls, run(calls, [x]), strict=True):
        assert_same(result, host(f, [x]), err_msg=f"{name} {dtype}")


def test_what_has_no_register_code() -> None:
    single, double = ArrayType((3,), SINGLE), ArrayType((3,), np.dtype(np.complex64))
    assert not scalar.supports("add", [double, double], [double], {})
    assert not scalar.supports("igamma", [single, single], [single], {})
    assert not scalar.supports(
        "integer_pow", [ArrayType((3,), np.dtype(np.int32))], [ArrayType((3,), np.dtype(np.int32))], {"y": -1}
    )
    words = [ArrayType((1, 3), np.dtype(np.uint32)), ArrayType((2, 3), np.dtype(np.uint32))]
    assert not scalar.supports("threefry2x32", [words[0], words[0], words[1], words[1]], [words[1]] * 2, {})
    assert scalar.supports("threefry2x32", [words[1]] * 4, [words[1]] * 2, {})


@ids("dtype", FLOATS, ids=str)
def test_difference_of_a_number_and_itself(dtype: np.dtype) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -300.0]).astype(dtype)
    calls = [lambda x: x - x, lambda x: x[None].sum(0) - x.reshape(-1)]
    for f, result in zip(calls, run(calls, [x]), strict=True):
        assert_same(result, host(f, [x]))
